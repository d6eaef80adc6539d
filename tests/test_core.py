"""The algebra of moves: who may move what, in which order, on which part of the batch."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dgm_jax import optim, views
from dgm_jax.core import Move, Player, State, average, averaged, chain, descend, repeat, system, turns
from dgm_jax.views import Prior

KEY = jax.random.key(0)
SGD = optax.sgd(0.5)


def state(extra=None, **params):
  return State(jnp.zeros((), jnp.int32), {k: jnp.float32(v) for k, v in params.items()}, {}, extra or {})


def ready(move, state):
  """The state with the optimizer memory that the move needs."""
  return state.replace(opt=move.init(state.params))


def pull(name, *others):
  """Half the square of the product of networks: its slope at `name` is the product of the others', squared, by it."""

  def loss(key, state, batch):
    del key, batch
    value = state.params[name]
    for other in others:
      value = value * state.params[other]
    return value**2 / 2, ({}, {})

  return loss


def test_descend_takes_one_step_of_the_optimizer_and_names_its_metrics_by_the_player():
  def loss(key, state, batch):
    del key
    w = state.params['net']
    return (w * batch['x']).mean(), ({'seen': batch['x'].sum()}, {'double': 2 * w})

  move = descend(model=Player(loss, SGD, ('net',)))
  new, metrics = move.apply(KEY, ready(move, state(net=3)), {'x': jnp.array([1.0, 3.0])})
  assert new.params['net'] == 3 - 0.5 * 2  # the slope is the mean of x
  assert new.extra == {'seen': 4}
  assert metrics == {'model/loss': 6, 'model/double': 6}
  norms = lambda grads, params: {'norm/gradient': grads['net'], 'norm/parameters': params['net']}
  move = descend(model=Player(loss, optim.Optimizer(*SGD, 1, norms), ('net',)))
  _, metrics = move.apply(KEY, ready(move, state(net=3)), {'x': jnp.array([1.0, 3.0])})
  assert (metrics['model/norm/gradient'], metrics['model/norm/parameters']) == (2, 2)


def test_a_loss_cannot_move_a_network_that_it_does_not_own():
  # The loss depends on both networks; the slope at `other`, 27, must stay unused.
  move = descend(model=Player(pull('mine', 'other'), SGD, ('mine',)))
  before = ready(move, state(mine=3, other=1, third=7))
  new, _ = move.apply(KEY, before, {})
  assert new.params == {'mine': 1.5, 'other': 1, 'third': 7}
  assert jax.tree.structure(new.opt) == jax.tree.structure({'model': SGD.init({'mine': 0.0})})


def test_the_optimizer_remembers_only_what_its_player_owns():
  move = descend(
    a=Player(pull('x'), optax.adam(0.1), ('x', 'y')),
    b=Player(pull('z'), optax.adam(0.1), ('z',)),
  )
  opt = move.init(state(x=1, y=1, z=1, frozen=1).params)
  assert set(opt) == {'a', 'b'}
  assert (set(opt['a'][0].mu), set(opt['b'][0].mu)) == ({'x', 'y'}, {'z'})


@pytest.mark.parametrize('order', [('vae', 'judge'), ('judge', 'vae')])
def test_simultaneous_players_all_take_their_gradient_at_the_old_state(order):
  # Two players of FactorVAE's kind: each loss has both networks in it. At (2, 3) the slopes are 2 * 9 and 3 * 4;
  # had one moved first, the other would see the new network.
  players = {
    'vae': Player(pull('encoder', 'discriminator'), SGD, ('encoder',)),
    'judge': Player(pull('discriminator', 'encoder'), SGD, ('discriminator',)),
  }
  move = descend(**{name: players[name] for name in order})
  new, metrics = move.apply(KEY, ready(move, state(encoder=2, discriminator=3)), {})
  assert new.params == {'encoder': 2 - 0.5 * 18, 'discriminator': 3 - 0.5 * 12}
  assert set(metrics) == {'vae/loss', 'judge/loss'}


def test_chained_players_see_the_state_that_the_last_one_left():
  move = chain(
    descend(first=Player(pull('a', 'b'), SGD, ('a',))),
    descend(second=Player(pull('b', 'a'), SGD, ('b',))),
  )
  new, _ = move.apply(KEY, ready(move, state(a=2, b=3)), {})
  # a: 2 - 0.5 * 2 * 9 = -7; b, then: 3 - 0.5 * 3 * 49 = -70.5
  assert new.params == {'a': -7, 'b': -70.5}


def test_one_network_may_be_owned_twice_in_turn():
  move = chain(
    descend(reconstruct=Player(pull('encoder'), SGD, ('encoder',))),
    descend(fool=Player(pull('encoder'), SGD, ('encoder',))),
  )
  new, metrics = move.apply(KEY, ready(move, state(encoder=8)), {})
  assert new.params == {'encoder': 2}
  assert (metrics['reconstruct/loss'], metrics['fool/loss']) == (32, 8)


def test_two_simultaneous_owners_of_a_network_are_refused():
  with pytest.raises(ValueError, match=r"must own different networks, got \['encoder', 'decoder', 'encoder'\]"):
    descend(
      vae=Player(pull('encoder'), SGD, ('encoder', 'decoder')),
      fool=Player(pull('encoder'), SGD, ('encoder',)),
    )


def test_two_players_of_one_name_in_a_chain_are_refused():
  move = chain(
    descend(critic=Player(pull('a'), SGD, ('a',))),
    repeat(2, descend(critic=Player(pull('b'), SGD, ('b',)))),
  )
  with pytest.raises(ValueError, match=r"must have different names, got \['critic', 'critic'\]"):
    move.init(state(a=1, b=1).params)


def note_key(name):
  """A loss that leaves a word drawn by its key in `extra`."""

  def loss(key, state, batch):
    del batch
    return state.params[name] ** 2, ({name: jax.random.bits(key)}, {})

  return Player(loss, SGD, (name,))


def test_simultaneous_players_share_one_key_and_chained_ones_do_not():
  at_once = descend(a=note_key('a'), b=note_key('b'))
  in_turn = chain(descend(a=note_key('a')), descend(b=note_key('b')))
  shared = at_once.apply(KEY, ready(at_once, state(a=1, b=1)), {})[0].extra
  apart = in_turn.apply(KEY, ready(in_turn, state(a=1, b=1)), {})[0].extra
  assert shared['a'] == shared['b'] == jax.random.bits(KEY)
  words = {int(shared['a']), int(apart['a']), int(apart['b'])}
  assert len(words) == 3
  assert words >= {int(jax.random.bits(jax.random.fold_in(KEY, i))) for i in (0, 1)}


def collect(key, state, batch):
  """A move that writes down what it was shown, and its key."""
  seen, at = state.extra['seen'], state.extra['at']
  word = jax.random.bits(key)
  extra = {'seen': seen.at[at].set(batch['x']), 'keys': state.extra['keys'].at[at].set(word), 'at': at + 1}
  return state.replace(extra=extra), {'mean': batch['x'].mean()}


def test_repeat_deals_the_batch_out_in_disjoint_strided_slices_with_a_key_each():
  move = repeat(3, Move(lambda params: {}, collect))
  blank = {'seen': jnp.zeros((3, 4)), 'keys': jnp.zeros(3, jnp.uint32), 'at': jnp.int32(0)}
  new, metrics = move.apply(KEY, state(blank), {'x': jnp.arange(12.0), 'y': jnp.arange(24.0).reshape(12, 2)})
  np.testing.assert_array_equal(new.extra['seen'], np.arange(12).reshape(4, 3).T)
  assert len(set(map(int, new.extra['keys']))) == 3
  assert metrics == {'mean': 5.5}  # the mean of the three means


def test_repeat_keeps_a_batch_that_is_spread_over_devices_where_it_is():
  from dgm_jax.runtime import parallel

  mesh = parallel.mesh(4)
  blank = {'seen': jnp.zeros((3, 4)), 'keys': jnp.zeros(3, jnp.uint32), 'at': jnp.int32(0)}

  def total(key, state, batch):
    return state, {'total': batch['x'].sum()}

  apply = jax.jit(repeat(3, Move(lambda params: {}, total)).apply, out_shardings=parallel.replicated(mesh))
  batch = {'x': parallel.put(np.arange(12.0, dtype='f4'), parallel.rows(mesh))}
  start = jax.device_put(state(blank), parallel.replicated(mesh))
  program = apply.lower(KEY, start, batch).compile().as_text()
  assert 'all-reduce' in program  # of the sums
  assert not any(word in program for word in ('all-gather', 'all-to-all', 'collective-permute'))


def test_repeat_moves_on_from_one_slice_to_the_next():
  def loss(key, state, batch):
    del key
    return ((state.params['net'] - batch['x']) ** 2).mean() / 2, ({}, {})

  move = repeat(2, descend(model=Player(loss, SGD, ('net',))))
  new, metrics = jax.jit(move.apply)(KEY, ready(move, state(net=0)), {'x': jnp.array([2.0, 8.0, 4.0, 0.0])})
  # Slices (2, 4) and (8, 0), means 3 and 4: 0 -> 1.5 -> 1.5 + 0.5 * 2.5 = 2.75; losses 20 / 4 and 44.5 / 4.
  assert new.params == {'net': 2.75}
  assert metrics['model/loss'] == (5 + 11.125) / 2


def test_repeat_refuses_a_batch_that_it_cannot_divide():
  move = repeat(5, Move(lambda params: {}, collect))
  with pytest.raises(ValueError, match=r'repeat\(5\) needs a batch that 5 divides, got 12'):
    move.apply(KEY, state(), {'x': jnp.arange(12.0)})


def test_turns_make_the_first_move_once_and_each_on_its_own_slice():
  def first(key, state, batch):
    state, metrics = collect(key, state, batch)
    return state, metrics | {'rare': batch['x'].max()}

  move = turns(3, Move(lambda params: {'a': 1}, first), Move(lambda params: {}, collect))
  blank = {'seen': jnp.zeros((3, 4)), 'keys': jnp.zeros(3, jnp.uint32), 'at': jnp.int32(0)}
  new, metrics = move.apply(KEY, state(blank), {'x': jnp.arange(12.0)})
  np.testing.assert_array_equal(new.extra['seen'], np.arange(12).reshape(4, 3).T)
  assert len(set(map(int, new.extra['keys']))) == 3
  assert metrics == {'mean': 5.5, 'rare': 9.0}  # the mean of one turn, not of three
  assert move.init({}) == {'a': 1}


def test_turns_are_written_out():
  def loss(key, state, batch):
    del key
    return ((state.params['net'] - batch['x']) ** 2).mean() / 2, ({}, {})

  one = descend(model=Player(loss, SGD, ('net',)))
  move = turns(3, one, one)
  program = str(jax.make_jaxpr(move.apply)(KEY, ready(move, state(net=0)), {'x': jnp.arange(6.0)}))
  assert not any(word in program for word in ('cond[', 'while[', 'scan['))
  assert turns(1, one, None) is one
  with pytest.raises(ValueError, match=r'turns\(5\) needs a batch that 5 divides, got 6'):
    turns(5, one, one).apply(KEY, ready(move, state(net=0)), {'x': jnp.arange(6.0)})


def test_average_is_the_exponential_moving_average():
  move = average('net', 0.75)
  now = state({'ema': {'net': jnp.float32(8), 'other': jnp.float32(5)}, 'kept': 1}, net=0)
  for _ in range(3):
    now, metrics = move.apply(KEY, now, {})
  assert metrics == {}
  assert now.extra == {'ema': {'net': 8 * 0.75**3, 'other': 5}, 'kept': 1}
  assert now.params == {'net': 0}


def test_a_move_needs_no_optimizer():
  # Expectation maximization for two unit-variance components of equal weight, in closed form.
  def em(key, state, batch):
    del key
    x = batch['x'][:, None]
    weights = jax.nn.softmax(-((x - state.params['means'][None]) ** 2) / 2, 1)
    means = (weights * x).sum(0) / weights.sum(0)
    return state.replace(params={'means': means}), {}

  x = jnp.array([-11.0, -9.0, 9.0, 13.0])
  made = system(lambda key, batch: ({'means': jnp.array([-1.0, 2.0])}, {}), Move(lambda p: {}, em), None, None)
  now = made.init(KEY, {'x': x})
  assert now.opt == {}
  now, _ = made.step(KEY, now, {'x': x})
  np.testing.assert_allclose(now.params['means'], [-10, 11], rtol=1e-6)
  assert now.step == 1


def test_system_counts_steps_and_keeps_what_no_player_owns():
  move = chain(repeat(2, descend(critic=Player(pull('critic', 'frozen'), SGD, ('critic',)))), average('critic', 0.5))

  def networks(key, batch):
    del key, batch
    params = {'critic': jnp.float32(4), 'frozen': jnp.float32(1)}
    return params, {'ema': {'critic': params['critic']}}

  made = system(networks, move, lambda key, state, batch: None, lambda key, state, n: None)
  now = made.init(KEY, {'x': jnp.zeros(2)})
  assert (now.step, now.step.dtype, set(now.opt)) == (0, jnp.int32, {'critic'})
  now, metrics = made.step(KEY, now, {'x': jnp.zeros(2)})
  # 4 -> 2 -> 1, then the average of 4 and 1
  assert (now.step, now.params, now.extra['ema']) == (1, {'critic': 1, 'frozen': 1}, {'critic': 2.5})
  assert metrics['critic/loss'] == (8 + 2) / 2


def test_a_kept_average_is_evaluated_and_sampled_and_trained_on_never():
  """The network goes 4 -> 2, its average to 3; the other network has none."""
  seen = []

  def loss(key, state, batch):
    seen.append(('step', state.params['critic'], state.params['other']))
    return pull('critic')(key, state, batch)

  def look(name):
    return lambda *args: seen.append((name, *(arg.params['critic'] for arg in args if isinstance(arg, State))))

  move = chain(descend(critic=Player(loss, SGD, ('critic',))), average('critic', 0.5))
  networks = lambda key, batch: ({'critic': 4.0, 'other': 7.0}, {'ema': {'critic': jnp.float32(4)}})
  made = system(
    networks, move, look('evaluate'), look('sample'), decode=look('decode'), prior=Prior(look('prior'), normal=True)
  )
  raw = made.step(KEY, made.step(KEY, made.init(KEY, {}), {})[0], {})[0]  # 4 -> 2 -> 1, averages 3 and 2
  assert [float(values[1].primal if hasattr(values[1], 'primal') else values[1]) for values in seen] == [4, 2]
  del seen[:]
  made.evaluate(KEY, raw, {})
  made.sample(KEY, raw, 3)
  made.views.decode(KEY, raw, jnp.zeros(2))
  made.views.prior.sample(KEY, raw, 3)
  assert seen == [('evaluate', 2), ('sample', 2), ('decode', 2), ('prior', 2)]
  assert made.views.prior.normal and made.views.prior.log_prob is None and made.views.encode is None
  assert averaged(raw).params == {'critic': 2, 'other': 7} and raw.params['critic'] == 1
  without = raw.replace(extra={})
  assert averaged(without).params == without.params


def regress(key, state, batch):
  """Half the mean square of w x - y, with a statistic, a count and a metric."""
  del key
  error = batch['x'] @ state.params['net']['w'] - batch['y']
  extra = {'mean': batch['x'].mean(0), 'count': state.extra['count'] + 1}
  return (error**2).mean() / 2, (extra, {'error': jnp.abs(error).mean()})


@pytest.mark.parametrize('slices', [2, 8])
def test_accumulated_gradients_of_a_mean_are_those_of_the_whole_batch_to_the_last_bit(slices):
  """Small whole numbers and divisions by powers of two leave nothing to round."""
  random = np.random.default_rng(0)
  whole = lambda *shape: jnp.asarray(random.integers(-8, 9, shape), jnp.float32)
  batch, w = {'x': whole(16, 4), 'y': whole(16)}, whole(4)
  before = State(jnp.int32(0), {'net': {'w': w}}, {}, {'mean': jnp.zeros(4), 'count': jnp.int32(5)})
  results = []
  for accumulate in (1, slices):
    tx = optim.Optimizer(*optax.sgd(0.25), accumulate)
    move = descend(model=Player(regress, tx, ('net',)))
    results.append(jax.jit(move.apply)(KEY, ready(move, before), batch))
  chex.assert_trees_all_equal(*results)
  error = np.asarray(batch['x'] @ w - batch['y'])
  expected = np.asarray(w) - 0.25 * (np.asarray(batch['x']) * error[:, None]).mean(0)
  np.testing.assert_array_equal(results[1][0].params['net']['w'], expected)
  assert results[1][0].extra['count'] == 6
  with pytest.raises(ValueError, match=r'config\.accumulate=3 needs a batch that 3 divides, got 16'):
    move = descend(model=Player(regress, optim.Optimizer(*optax.sgd(0.25), 3), ('net',)))
    move.apply(KEY, ready(move, before), batch)


def test_accumulated_slices_have_keys_of_their_own():
  noise = lambda key, state, batch: (state.params['net'] * jax.random.normal(key), ({}, {}))
  values = []
  for accumulate in (1, 4):
    move = descend(model=Player(noise, optim.Optimizer(*optax.sgd(1.0), accumulate), ('net',)))
    values.append(float(move.apply(KEY, ready(move, state(net=0)), {'x': jnp.zeros(4)})[0].params['net']))
  expected = -np.mean([jax.random.normal(key) for key in jax.random.split(KEY, 4)])
  assert values[1] == pytest.approx(expected, rel=1e-6) and values[0] != pytest.approx(values[1])


def test_a_mistyped_view_is_refused():
  with pytest.raises(TypeError, match='encdoe'):
    system(None, chain(), None, None, encdoe=lambda key, state, x: x)
  with pytest.raises(TypeError, match='encdoe'):
    views.needs('encdoe')
