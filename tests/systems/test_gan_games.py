"""Who moves in a game, by how much, and on which data; the techniques by hand; and what the codes' gradients reach."""

import functools
import importlib.util
import math
import pathlib

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from dgm_jax import core, losses, optim, systems, training
from dgm_jax.errors import UserError
from dgm_jax.systems import gan, semi_supervised
from dgm_jax.systems.parts import games, objectives

CONFIGS = pathlib.Path(__file__).parents[2] / 'configs'
KEY = jax.random.key(5)
DATA = np.random.default_rng(5)


def config(name, **model):
  stem, _, variant = name.partition(':')
  spec = importlib.util.spec_from_file_location(stem, CONFIGS / f'{stem}.py')
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  settings = module.get_config(variant)
  settings.data.update({'shape': (8, 8, 1) if 'points' not in settings.data.name else (2,), 'examples': 1000})
  settings.model.update(model)
  return settings


def batch(settings, seed=0):
  random = np.random.default_rng(seed)
  x = random.random((settings.batch_size, *settings.data.shape), np.float32)
  return {'x': jnp.asarray(x), 'y': jnp.asarray(random.integers(10, size=settings.batch_size))}


def started(settings):
  system = systems.build(settings)
  return system, jax.jit(system.init)(KEY, batch(settings))


def same(a, b):
  return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


class Turn:
  """A critic step's batch and the bits before and after, as the repeated move sees them."""

  def __init__(self, monkeypatch):
    self.seen = []
    original = core._descend_one

    def note(player, opt, key, state, batch):
      mine, opt, extra, out = original(player, opt, key, state, batch)
      jax.debug.callback(functools.partial(self.append, player.owns), batch['x'], state.params, mine, ordered=True)
      return mine, opt, extra, out

    monkeypatch.setattr(core, '_descend_one', note)

  def append(self, owns, x, before, after):
    self.seen.append((owns, np.asarray(x), jax.tree.map(np.asarray, before), jax.tree.map(np.asarray, after)))


@pytest.mark.parametrize('steps_per_call', [1, 2])  # without a loop, and with one
@pytest.mark.parametrize('name', ['wgan_gp_25gaussians:tiny', 'gan_points:tiny_wgan'])
def test_every_critic_step_has_data_of_its_own_and_leaves_the_generator_alone(name, steps_per_call, monkeypatch):
  settings = config(name, critic_steps=4)
  settings.steps_per_call = steps_per_call
  turn = Turn(monkeypatch)
  system, state = started(settings)
  shown = batch(settings, 1)
  after, metrics = jax.block_until_ready(jax.jit(system.step)(KEY, state, shown))
  jax.effects_barrier()
  assert [owns for owns, *_ in turn.seen] == [('critic',)] * 4 + [('generator',)]
  critics = turn.seen[:4]
  # Disjoint slices that together are the batch.
  rows = np.concatenate([x.reshape(len(x), -1) for _, x, *_ in critics])
  assert len(np.unique(rows, axis=0)) == len(rows) == len(shown['x'])
  np.testing.assert_array_equal(np.sort(rows, 0), np.sort(np.asarray(shown['x']).reshape(len(rows), -1), 0))
  for _, _, before, mine in critics:
    assert same(before['generator'], state.params['generator']), 'a critic step moved the generator'
    assert not same(before['critic'], mine['critic'])
    if 'wgan' in name and 'gp' not in name:
      # Clipped after every step but this one: the next one begins within the bound.
      assert all(np.abs(leaf).max() <= settings.model.clip for leaf in jax.tree.leaves(critics[-1][2]['critic']))
  _, _, before, mine = turn.seen[4]
  assert same(before['critic'], after.params['critic']), "the generator's step moved the critic"
  assert same(mine['generator'], after.params['generator'])
  assert not same(mine['generator'], state.params['generator'])
  assert np.isfinite(metrics['critic/loss'])


def test_unrolled_and_looped_turns_are_the_same():
  ends = []
  for steps_per_call in (1, 2):
    settings = config('wgan_gp_25gaussians:tiny', critic_steps=4)
    settings.steps_per_call = steps_per_call
    system, state = started(settings)
    ends.append(jax.jit(system.step)(KEY, state, batch(settings))[0])
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), *ends)


def test_without_a_loop_there_is_none_but_that_of_the_random_numbers():
  def loops(steps_per_call, turns):
    settings = config('wgan_gp_25gaussians:tiny', critic_steps=turns)
    settings.steps_per_call = steps_per_call
    system, state = started(settings)
    return str(jax.make_jaxpr(system.step)(KEY, state, batch(settings))).count('scan[')

  assert (loops(2, 1), loops(1, 1)) == (0, 0)
  assert (loops(2, 4), loops(1, 4)) == (1, 1)  # by name; the second is written out when it is lowered:

  def whiles(steps_per_call, turns):
    settings = config('wgan_gp_25gaussians:tiny', critic_steps=turns)
    settings.steps_per_call = steps_per_call
    system, state = started(settings)
    return jax.jit(system.step).lower(KEY, state, batch(settings)).as_text().count('stablehlo.while')

  assert whiles(2, 4) == whiles(1, 4) + 1


@pytest.mark.parametrize('norm', ['none', 'batch'])
def test_the_critic_judges_both_kinds_as_it_would_each_alone(norm):
  settings = config('gan_points:tiny_wgan', critic={'network': 'dense', 'hidden': (4,), 'norm': norm})
  state = started(settings)[1]
  game = games.build(settings)
  real, fake = (jnp.asarray(DATA.normal(i, 1 + i, (6, *settings.data.shape)), jnp.float32) for i in range(2))
  judge = lambda x: games.forward(game, 'critic', state, x, KEY)
  ((of_real, _), seen_real), ((of_fake, _), seen_fake) = judge(real), judge(fake)
  assert seen_real.keys() == seen_fake.keys() == ({'batch_stats'} if norm == 'batch' else set())
  score = objectives._score_separately if norm == 'batch' else objectives._score_jointly
  *scores, noted = score(game, state, real, fake, KEY, KEY)
  np.testing.assert_allclose([scores[0].value, scores[1].value], [of_real, of_fake], rtol=1e-5, atol=1e-7)
  assert same(noted, games.update_statistics(game, 'critic', state, real=seen_real, generated=seen_fake))
  if norm == 'batch':
    mean = noted['critic_statistics']['real']['BatchNorm_0']['mean']
    start = state.extra['critic_statistics']['real']['BatchNorm_0']['mean']
    np.testing.assert_allclose(mean, 0.9 * start + 0.1 * seen_real['batch_stats']['BatchNorm_0']['mean'], rtol=1e-5)
    with pytest.raises(ValueError, match='generated real'):  # together they have statistics of no kind
      objectives._score_jointly(game, state, real, fake, KEY, KEY)


@pytest.mark.parametrize(('critic', 'tied'), [({}, False), ({'norm': 'batch'}, True), ({'kernels': 2}, True)])
def test_layers_that_tie_examples_are_known(critic, tied, monkeypatch):
  known = []
  for name, ties in (('_score_separately', True), ('_score_jointly', False)):
    score = getattr(objectives, name)
    monkeypatch.setattr(objectives, name, lambda *args, ties=ties, score=score: known.append(ties) or score(*args))
  settings = config('dcgan_mnist:tiny_wgan')
  settings.model.critic.update({'norm': 'none'} | critic)
  system, state = started(settings)
  jax.eval_shape(system.step, KEY, state, batch(settings))
  assert set(known) == {tied}


def test_clipping_holds_every_parameter_after_every_step():
  settings = config('gan_points:tiny_wgan', clip=0.001)
  settings.optimizer.critic.learning_rate = 0.01
  system, state = started(settings)
  step = jax.jit(system.step)
  for i in range(3):
    state, _ = step(jax.random.fold_in(KEY, i), state, batch(settings, i))
    largest = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(state.params['critic']))
    assert largest == np.float32(0.001)  # some weight is at the bound, none beyond


def test_a_clipped_linear_critic_reaches_the_bound():
  """On points 0 and D, w x + b in [-c, c]: the best value is c D; 5e-5 a step takes c / 5e-5 = 200 steps."""
  settings = config('gan_points:wgan_25gaussians')
  settings.model.critic.constraints = {'clip': settings.model.clip}
  tx, game = optim.make(settings, 'critic'), games.build(settings)

  def loss(key, state, batch):
    value = state.params['critic']['w'] * batch['x']
    return losses.wasserstein_critic(value, jnp.zeros_like(value)).mean(), ({}, {})

  move = core.chain(core.descend(critic=core.Player(loss, tx, ('critic',))), *games.projections(game, 'critic'))
  params = {'critic': {'w': jnp.asarray(0.0)}}
  state = core.State(jnp.zeros((), jnp.int32), params, move.init(params), {})
  one = lambda state, _: (move.apply(KEY, state, {'x': jnp.full(4, 3.0)})[0], state.params['critic']['w'])
  state, path = jax.lax.scan(one, state, length=300)
  assert float(state.params['critic']['w']) == np.float32(0.01)
  assert np.abs(path).max() <= np.float32(0.01)
  # As in PyTorch: a small number outside the root would matter at a slope of 3, one within would not be the same.
  rate = lambda t: 5e-5 * 3 / (math.sqrt(9 * (1 - 0.99**t)) + 1e-8)
  np.testing.assert_allclose(path[1:4], np.cumsum([rate(t) for t in (1, 2, 3)]), rtol=1e-5)


def test_a_trained_penalised_critic_overshoots_by_the_closed_form():
  """A network on points 0 and 1 with the weight 1: gap 1.5, where the distance is 1."""
  settings = config('wgan_gp_25gaussians', critic_steps=1, penalty=1.0)
  settings.data.shape = (1,)
  settings.model.critic.hidden = settings.model.generator.hidden = (32,)
  settings.optimizer.critic.learning_rate, settings.optimizer.generator.learning_rate = 2e-3, 1e-30
  system = systems.build(settings)
  ones = {'x': jnp.ones((64, 1))}
  state = system.init(KEY, ones)
  state = state.replace(params=state.params | {'generator': jax.tree.map(jnp.zeros_like, state.params['generator'])})
  run = jax.jit(lambda state: jax.lax.scan(lambda s, k: system.step(k, s, ones), state, jax.random.split(KEY, 1500)))
  _, metrics = run(state)
  np.testing.assert_allclose(metrics['critic/distance'][-200:].mean(), 1.5, rtol=0.01)


@functools.cache
def everything():
  """All techniques of improved_gan at once."""
  settings = config(
    'gan_points:tiny', historical=0.5, real_label=0.9, objective='feature_matching', references=6, average=0.9
  )
  settings.system = 'gan.improved_gan'
  settings.model.generator.norm, settings.model.critic.kernels = 'virtual', 3
  return settings


def test_techniques_compose():
  system, state = started(everything())
  assert set(state.extra) == {'reference', 'history', 'ema'}
  step = jax.jit(system.step)
  new, metrics = step(KEY, state, batch(everything()))
  assert all(np.isfinite(value) for value in metrics.values())
  np.testing.assert_array_equal(new.extra['reference'], state.extra['reference'])  # chosen once
  means = jax.tree.map(lambda a, b: (a + b) / 2, state.params, new.params)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-7), new.extra['history'], means)
  third, _ = step(KEY, new, batch(everything()))
  means = jax.tree.map(lambda a, b, c: (a + b + c) / 3, state.params, new.params, third.params)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-7), third.extra['history'], means)
  x = system.sample(KEY, new, 5)
  z = system.views.prior.sample(KEY, new, 5)
  np.testing.assert_allclose(system.views.decode(KEY, new, z[:2]), x[:2], atol=1e-6)


def test_a_held_loss_adds_the_pull_of_the_past():
  params = {'critic': {'w': jnp.array([1.0, 2.0])}}
  history = {'history': {'critic': {'w': jnp.array([0.0, 4.0])}}}
  state = core.State(jnp.zeros((), jnp.int32), params, {}, history)
  (term,) = objectives.historical(ml_collections.ConfigDict({'historical': 0.5}), 'critic')
  played = objectives.GameBatch(state, *[None] * (len(objectives.GameBatch._fields) - 1))
  assert float(objectives._with_terms(jnp.asarray(3.0), {}, {}, [term], KEY, played)[0]) == 3 + 0.5 * (1 + 4)


def test_smoothed_labels_have_the_optimum_of_the_sheet():
  # p = q: the best logit is log(a / (2 - a)), -0.2007 at a = 0.9.
  slope = jax.grad(lambda v: losses.minimax_discriminator(v[None], v[None], real_label=0.9).mean())
  np.testing.assert_allclose(slope(jnp.float32(-0.2006707)), 0, atol=1e-6)


def test_players_at_once_see_the_same_generated_examples(monkeypatch):
  seen = []
  original = games.generate

  def noting(*args):
    fake, statistics = original(*args)
    jax.debug.callback(lambda x: seen.append(np.asarray(x)), fake)
    return fake, statistics

  monkeypatch.setattr(objectives, 'generate', noting)
  settings = config('gan_points:tiny')
  system, state = started(settings)
  jax.block_until_ready(system.step(KEY, state, batch(settings)))
  jax.effects_barrier()
  np.testing.assert_array_equal(*seen)


def test_statistics_are_kept_by_their_own_networks_steps(monkeypatch):
  """One batch more for the generator, and one of each kind for the critic."""
  made, original = [], games.generate

  def noting(*args):
    fake, seen = original(*args)
    jax.debug.callback(lambda *parts: made.append(parts), fake, seen, ordered=True)
    return fake, seen

  monkeypatch.setattr(objectives, 'generate', noting)
  settings = config('dcgan_mnist:tiny')
  system, state = started(settings)
  start = [np.asarray(leaf) for leaf in jax.tree.leaves(state.extra['generator_statistics'])]
  assert all((leaf > 0).any() for leaf in start)  # variances, of several latents
  new, _ = jax.jit(system.step)(KEY, state, batch(settings))
  jax.effects_barrier()
  (fake, _), (_, of_generator) = made
  game = games.build(settings)
  judge = jax.jit(lambda x: games.forward(game, 'critic', state, x, KEY)[1]['batch_stats'])
  expected = {
    'generator': of_generator['batch_stats'],
    'critic': {'real': judge(batch(settings)['x']), 'generated': judge(fake)},
  }
  for name, seen in expected.items():
    mean = jax.tree.map(lambda mean, one: 0.9 * mean + 0.1 * one, state.extra[f'{name}_statistics'], seen)
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), new.extra[f'{name}_statistics'], mean
    )
  draw = jax.jit(system.sample, static_argnums=2)
  z = system.views.prior.sample(KEY, new, 7)
  np.testing.assert_allclose(system.views.decode(KEY, new, z)[:3], system.views.decode(KEY, new, z[:3]), atol=1e-6)
  np.testing.assert_allclose(draw(KEY, new, 7), system.views.decode(KEY, new, z), atol=1e-6)


def test_each_network_of_infogan_moves_in_its_own_turn_and_the_value_head_is_not_informed():
  settings = config('infogan_mnist:tiny')
  system, state = started(settings)
  game = gan._coded_game(settings)
  z = system.views.prior.sample(KEY, state, 400)
  assert z.shape == (400, 4 + 10 + 2)
  np.testing.assert_array_equal(z[:, 4:14].sum(1), np.ones(400))
  assert np.abs(z[:, :4]).max() <= 1 and np.abs(z[:, 14:]).max() <= 1
  assert np.bincount(np.asarray(z[:, 4:14].argmax(1)), minlength=10).min() > 15

  def information(params):
    there = state.replace(params=params)
    found = gan.recognize(game, there, system.views.decode(KEY, there, z), 'real')
    return sum(bound.mean() for bound in gan._information(settings.model, z, found))

  slope = jax.grad(information)(state.params)
  largest = lambda tree: max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(tree))
  assert largest(slope['critic']['Verdict_0']) == 0
  trunk = {name: tree for name, tree in slope['critic'].items() if name != 'Verdict_0'}
  assert min(map(largest, (slope['generator'], slope['recognizer'], trunk))) > 0


def test_infogan_keeps_the_average_that_it_is_asked_for_and_draws_from_it():
  settings = config('infogan_mnist:tiny', average=0.75)
  system, state = started(settings)
  new, _ = jax.jit(system.step)(KEY, state, batch(settings))
  mean = jax.tree.map(lambda old, one: 0.75 * old + 0.25 * one, state.params['generator'], new.params['generator'])
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-7), new.extra['ema']['generator'], mean)
  statistics = jax.tree.map(
    lambda old, one: 0.75 * old + 0.25 * one,
    state.extra['generator_statistics'], new.extra['generator_statistics'],
  )  # fmt: skip
  drawn = core.unaveraged(new.replace(params=new.params | {'generator': mean}))
  drawn = drawn.replace(extra=drawn.extra | {'generator_statistics': statistics})
  draw = jax.jit(system.sample, static_argnums=2)
  np.testing.assert_allclose(draw(KEY, new, 5), draw(KEY, drawn, 5), atol=1e-6)


def test_bounds_of_information():
  settings = config('infogan_mnist:tiny')
  z = jnp.concatenate([jnp.zeros((3, 4)), jax.nn.one_hot(jnp.arange(3), 10), jnp.zeros((3, 2))], 1)
  perfect = 100 * jax.nn.one_hot(jnp.arange(3), 10), jnp.zeros((3, 2))
  categorical, gaussian = gan._information(settings.model, z, perfect)
  np.testing.assert_allclose(categorical, np.full(3, math.log(10)), rtol=1e-6)
  # Deviation one, two codes of density 1/2: -ln(2 pi) / 2 + ln 2 each.
  np.testing.assert_allclose(gaussian, np.full(3, 2 * (-0.918939 + math.log(2))), rtol=1e-5)
  blind = jnp.zeros((3, 10)), jnp.zeros((3, 2))
  np.testing.assert_allclose(gan._information(settings.model, z, blind)[0], np.zeros(3), atol=1e-6)


def test_labelled_examples_are_the_first_of_each_class():
  y = jnp.array([2, 0, 1, 1, 0, 2, 2, 1, 0])
  chosen = semi_supervised.labelled({'x': jnp.arange(9.0)[:, None], 'y': y}, 6, 3)
  np.testing.assert_array_equal(chosen['x'][:, 0], [1, 4, 2, 3, 0, 5])
  np.testing.assert_array_equal(chosen['y'], [0, 0, 1, 1, 2, 2])


def test_a_run_does_not_begin_without_a_label_of_every_class(tmp_path):
  settings = config('improved_gan_mnist:tiny')
  settings.init_examples = 12
  run = training.prepare(settings, tmp_path, devices=1)
  with pytest.raises(UserError, match=r'extra/labelled/x is not finite .* of 12 examples: raise config\.init_examples'):
    training.load_or_init(run)


@pytest.mark.parametrize('count', [6, 15, 4])
def test_a_step_shows_all_labels_as_evenly_as_it_can(count):
  labelled = {'x': jnp.arange(6.0)[:, None], 'y': jnp.arange(6) % 3}
  seen = []

  def judge(state, x, rngs):
    seen.append(x)
    return jnp.zeros((len(x), 3)), x

  @jax.jit
  def shown(key):
    state = core.State(jnp.zeros((), jnp.int32), {}, {}, {'labelled': labelled})
    loss = semi_supervised._classifier(judge, lambda state, key, n: (jnp.zeros((n, 1)), {}))
    loss(key, state, {'x': jnp.zeros((count, 1))})
    return seen[0][:, 0].astype(jnp.int32)

  times = np.bincount(shown(KEY), minlength=6)
  assert times.max() - times.min() <= (count % 6 > 0)
  assert (np.asarray(shown(jax.random.key(1))) != np.asarray(shown(KEY))).any()


def test_classes_and_the_one_more_that_is_held_at_zero():
  # softmax of (l, 0) = e^l / (Z + 1) and 1 / (Z + 1): the two losses by either formula.
  logits = jnp.asarray(DATA.normal(size=(50, 10)) * 3, jnp.float32)
  odds = jax.nn.logsumexp(logits, 1)
  full = jax.nn.log_softmax(jnp.concatenate([logits, jnp.zeros((50, 1))], 1))
  real, fake = jax.nn.logsumexp(full[:, :10], 1), full[:, 10]
  np.testing.assert_allclose(losses.minimax_discriminator(odds, odds), -real - fake, rtol=1e-5)
  np.testing.assert_allclose(losses.nonsaturating_generator(odds), -real, rtol=1e-5, atol=1e-6)


def test_the_two_players_of_feature_matching_see_different_images(monkeypatch):
  turn = Turn(monkeypatch)
  settings = config('improved_gan_mnist:tiny')
  system, state = started(settings)
  shown = batch(settings, 3)
  new, _ = jax.block_until_ready(jax.jit(system.step)(KEY, state, shown))
  jax.effects_barrier()
  (first, x, *_), (second, other, *_) = turn.seen
  assert (first, second) == (('critic',), ('generator',))
  np.testing.assert_array_equal(np.concatenate([x, other]), np.concatenate([shown['x'][::2], shown['x'][1::2]]))
  np.testing.assert_array_equal(*(s.extra['critic_constants']['WeightNormDense_0']['length'] for s in (state, new)))


def test_adam_may_have_its_small_number_beneath_the_root():
  settings = config('improved_gan_mnist:tiny')
  tx = optim.make(settings, 'generator')
  params = {'w': jnp.array([1.0, 1.0])}
  grads = {'w': jnp.array([1e-5, 1.0])}
  updates, _ = tx.update(grads, tx.init(params), params)
  expected = [-3e-3 * g / math.sqrt(g * g + 1e-8) for g in (1e-5, 1.0)]
  np.testing.assert_allclose(updates['w'], expected, rtol=1e-5)


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'prior': 'normla'}, "config.model.prior must be one of .*did you mean 'normal'"),
    ({'generator': {'network': 'dnse'}}, "config.model.generator.network must be one of .*did you mean 'dense'"),
    ({'critic': {'network': 'dense', 'hiden': (4,)}}, r"a key of config.model.critic \(.*did you mean 'hidden'"),
    ({'critic': {'network': 'dense'}}, 'config.model.critic does not make a network DenseCritic: .*hidden'),
    ({'critic': {'network': 'dense', 'hidden': (4,), 'norm': 'batch'}}, 'gradient_penalty on each'),
    ({'critic_steps': 0}, 'critic_steps must be a whole number, at least 1'),
  ],
)
def test_mistakes_are_named(change, message):
  settings = config('wgan_gp_25gaussians:tiny')
  for name, value in change.items():
    del settings.model[name]
    settings.model[name] = value
  with pytest.raises(UserError, match=message):
    systems.build(settings)


def test_virtual_batch_normalisation_is_for_generators():
  settings = config('gan_points:tiny')
  settings.model.critic.norm = 'virtual'
  with pytest.raises(UserError, match='is for generators'):
    systems.build(settings)
