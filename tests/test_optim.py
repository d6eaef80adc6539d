"""Optimizers from plain data: how long a run is, which rate a step has, and what one update does."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict

from dgm_jax import config as experiment
from dgm_jax import optim
from dgm_jax.errors import UserError
from dgm_jax.nn import bijections
from dgm_jax.nn import reversible as rev


def experiment_with(examples=59_600, batch_size=20, **changes):
  config = experiment.defaults()
  config.optimizer = {'model': experiment.optimizer(**changes.pop('optimizer', {}))}
  config.update({'batch_size': batch_size, 'system': 'vae.vae', **changes})
  config.data.examples = examples
  return config


def rates(config, steps):
  schedule = optim.schedule(config.optimizer.model, config)
  return [float(schedule(jnp.int32(step))) for step in steps]


STAGES = tuple(3**i for i in range(8))
FALL = tuple(1e-3 * 10 ** (-i / 7) for i in range(8))


@pytest.mark.parametrize(
  ('changes', 'steps'),
  [
    ({'steps': 7, 'epochs': 100.0}, 7),
    ({'epochs': 1.0}, 2980),
    ({'epochs': 0.5, 'batch_size': 100}, 298),
    ({'epochs': 2.0, 'examples': 1297, 'batch_size': 96}, 27),  # 27.02
    ({'stage_epochs': STAGES}, 3280 * 2980),
    ({'stage_epochs': STAGES, 'budget': 1}, 2980),
    ({'stage_epochs': STAGES, 'budget': 5}, 121 * 2980),
    ({'stage_epochs': STAGES, 'budget': 8}, 3280 * 2980),
    ({'stage_epochs': STAGES, 'epochs': 1.0}, 3280 * 2980),
  ],
)
def test_the_length_of_a_run(changes, steps):
  assert optim.total_steps(experiment_with(**changes)) == steps


def test_a_rate_that_falls_by_a_millionth_a_step_is_exact_after_a_million():
  config = experiment_with(steps=10, optimizer={'schedule': 'exponential', 'decay': 0.999995})
  np.testing.assert_allclose(rates(config, [10**6]), [1e-3 * 0.999995**1_000_000], rtol=1e-4)


def test_epochs_cannot_be_counted_before_the_data_is_there():
  with pytest.raises(UserError, match=r'config\.data\.examples is 0'):
    optim.total_steps(experiment_with(examples=0, epochs=1.0))


def test_stages_change_the_rate_after_1_4_13_40_epochs_and_at_no_other_step():
  stages = {'schedule': 'stages', 'stage_rates': FALL}
  config = experiment_with(stage_epochs=STAGES, optimizer=stages)
  ends = [1, 4, 13, 40, 121, 364, 1093, 3280]
  assert optim.stage_ends(config) == [2980 * epochs for epochs in ends]
  for i, end in enumerate(optim.stage_ends(config)):
    after = FALL[min(i + 1, 7)]  # past the end the last rate stays
    np.testing.assert_allclose(rates(config, [end - 1, end]), [FALL[i], after], rtol=1e-6)
  # The rates of the paper, 10^(-i/7) thousandths: its code rounds them to 1.0 .72 .52 .37 .27 .19 .14 .10
  np.testing.assert_allclose(np.array(FALL) * 1e3, [1, 0.72, 0.52, 0.37, 0.27, 0.19, 0.14, 0.1], atol=0.006)


def test_a_budget_stops_the_stages_and_does_not_compress_them():
  stages = {'schedule': 'stages', 'stage_rates': FALL}
  whole = experiment_with(stage_epochs=STAGES, optimizer=stages)
  part = experiment_with(stage_epochs=STAGES, budget=3, optimizer=stages)
  steps = [0, 2979, 2980, 13 * 2980 - 1]
  assert rates(whole, steps) == rates(part, steps)


@pytest.mark.parametrize(
  ('optimizer', 'expected'),
  [
    ({'schedule': 'constant'}, [0.1, 0.1, 0.1, 0.1, 0.1]),
    # after 0, 1, 5, 9 of 10 steps, and at the end
    ({'schedule': 'linear', 'end_factor': 0.2}, [0.1, 0.092, 0.06, 0.028, 0.02]),
    ({'schedule': 'cosine'}, [0.05 * (1 + np.cos(np.pi * t / 10)) for t in (0, 1, 5, 9, 10)]),
    (
      {'schedule': 'cosine', 'end_factor': 0.5},
      [0.05 + 0.025 * (1 + np.cos(np.pi * t / 10)) for t in (0, 1, 5, 9, 10)],
    ),
    ({'schedule': 'exponential', 'decay': 0.9}, [0.1 * 0.9**t for t in (0, 1, 5, 9, 10)]),
    # a warm-up of 4 steps multiplies by 1/4, 2/4, 3/4, 1
    ({'schedule': 'constant', 'warmup_steps': 4}, [0.025, 0.05, 0.1, 0.1, 0.1]),
    ({'schedule': 'linear', 'warmup_steps': 4}, [0.025, 0.045, 0.05, 0.01, 0.0]),
  ],
)
def test_schedules_at_exact_steps(optimizer, expected):
  config = experiment_with(steps=10, optimizer={'learning_rate': 0.1, **optimizer})
  np.testing.assert_allclose(rates(config, [0, 1, 5, 9, 10]), expected, rtol=1e-5, atol=1e-9)


def updates(config, grads, params=None, steps=1):
  tx = optim.make(config, 'model')
  params = params or jax.tree.map(jnp.zeros_like, grads)
  state = tx.init(params)
  for _ in range(steps):
    change, state = tx.update(grads, state, params)
    params = optax.apply_updates(params, change)
  return params


SLOPES = {'kernel': jnp.array([[3.0, 0.0]]), 'bias': jnp.array([4.0])}  # of norm 5


@pytest.mark.parametrize(('clip_norm', 'scale'), [(0.0, 1.0), (10.0, 1.0), (1.0, 0.2), (2.5, 0.5)])
def test_clipping_shortens_the_whole_gradient_to_the_norm(clip_norm, scale):
  config = experiment_with(steps=1, optimizer={'name': 'sgd', 'learning_rate': 0.1, 'clip_norm': clip_norm})
  new = updates(config, SLOPES)
  np.testing.assert_allclose(new['kernel'], [[-0.3 * scale, 0]], rtol=1e-6)
  np.testing.assert_allclose(new['bias'], [-0.4 * scale], rtol=1e-6)


def test_norms_are_those_of_the_gradient_before_clipping_and_only_if_they_are_asked_for():
  config = experiment_with(steps=1, optimizer={'clip_norm': 1.0})
  assert optim.make(config, 'model').norms is None
  config.norms = True
  found = optim.make(config, 'model').norms(SLOPES, {'kernel': jnp.ones((2, 2))})
  assert found == {'norm/gradient': 5, 'norm/parameters': 2}


def test_clipping_by_value_cuts_each_element_before_the_norm():
  optimizer = {'name': 'sgd', 'learning_rate': 0.1, 'clip_value': 1.0}
  new = updates(experiment_with(steps=1, optimizer=optimizer), SLOPES | {'bias': jnp.array([-0.5])})
  np.testing.assert_allclose(new['kernel'], [[-0.1, 0]], rtol=1e-6)
  np.testing.assert_allclose(new['bias'], [0.05], rtol=1e-6)
  both = updates(experiment_with(steps=1, optimizer=optimizer | {'clip_norm': 1.0}), SLOPES)
  np.testing.assert_allclose(both['kernel'], [[-0.1 / np.sqrt(2), 0]], rtol=1e-6)


@pytest.mark.parametrize(('bound', 'factor', 'moves'), [(6.0, 1.0, True), (5.0, 1.0, False), (6.0, np.nan, False)])
def test_an_update_is_skipped_if_the_gradient_is_too_long(bound, factor, moves):
  """The norm is 5, that of the gradient before it is cut; the optimizer's memory stays, too."""
  optimizer = {'name': 'adam', 'learning_rate': 0.1, 'clip_norm': 1.0, 'weight_decay': 0.5, 'skip_norm': bound}
  tx = optim.make(experiment_with(steps=1, optimizer=optimizer), 'model')
  params = jax.tree.map(jnp.ones_like, SLOPES)
  state = tx.init(params)
  grads = jax.tree.map(lambda leaf: factor * leaf, SLOPES)
  updates, new = jax.jit(tx.update)(grads, state, params)
  assert bool(np.abs(updates['bias']).max() > 0) == moves
  changed = [bool((a != b).any()) for a, b in zip(jax.tree.leaves(new), jax.tree.leaves(state), strict=True)]
  assert any(changed) == moves
  chex.assert_tree_all_finite((updates, new))


def test_weight_decay_is_decoupled_follows_the_rate_and_spares_vectors():
  optimizer = {'name': 'adam', 'learning_rate': 0.1, 'weight_decay': 0.5}
  params = {'kernel': jnp.array([[2.0, -4.0]]), 'bias': jnp.array([2.0]), 'scale': jnp.float32(2)}
  flat = jax.tree.map(jnp.zeros_like, params)
  # With no gradient Adam stands still, and all that moves is the decay: -0.1 * 0.5 of the weight.
  new = updates(experiment_with(steps=1, optimizer=optimizer), flat, params)
  np.testing.assert_allclose(new['kernel'], [[1.9, -3.8]], rtol=1e-6)
  assert (new['bias'], new['scale']) == (2, 2)
  # It is not a part of the gradient: the first step of Adam is the rate itself, whatever the decay.
  steep = {'kernel': jnp.array([[7.0, -0.3]]), 'bias': jnp.array([5.0]), 'scale': jnp.float32(0)}
  new = updates(experiment_with(steps=1, optimizer=optimizer), steep, params)
  np.testing.assert_allclose(new['kernel'], [[2 - 0.1 - 0.1, -4 + 0.1 + 0.2]], rtol=1e-5)
  np.testing.assert_allclose(new['bias'], [1.9], rtol=1e-5)


def test_decay_of_stacked_layers_spares_vectors_and_leaves_a_flow_its_likelihood():
  layer = rev.chain(bijections.actnorm(), bijections.invertible_dense())
  part, x = rev.repeat(2, layer), jax.random.normal(jax.random.key(1), (8, 4))
  params = jax.jit(part.init)(jax.random.key(0), x)
  optimizer = {'learning_rate': 0.1, 'weight_decay': 0.5}
  new = updates(experiment_with(steps=1, optimizer=optimizer), jax.tree.map(jnp.zeros_like, params), params)
  decayed = {'lower', 'upper'}
  for path, leaf in jax.tree_util.tree_leaves_with_path(new):
    old, name = params[path[0].key][path[1].key], path[1].key
    np.testing.assert_allclose(leaf, old * (0.95 if name in decayed else 1), rtol=1e-6, err_msg=name)

  @jax.jit
  def both(params):
    jacobian = jax.jacfwd(lambda one: part.forward(params, None, one[None])[0][0])(x[0])
    return part.forward(params, None, x[:1])[1][0], jnp.linalg.slogdet(jacobian)[1]

  # Nor do moves of less than a half, such as an average's rounding, make another permutation.
  nudged = jax.tree_util.tree_map_with_path(lambda at, p: p * 0.99 if at[-1].key in ('order', 'sign') else p, new)
  for params in (new, nudged):
    np.testing.assert_allclose(*both(params), atol=1e-5)


# Two steps at a slope of 3 and a rate of 0.1.
TWO_STEPS = [
  ({'name': 'sgd'}, -0.6),
  ({'name': 'sgd', 'momentum': 0.5}, -0.1 * (3 + 4.5)),
  ({'name': 'adam', 'eps': 1.0}, -2 * 0.1 * 3 / (3 + 1)),
  ({'name': 'adamax'}, -0.2),
  ({'name': 'adagrad'}, -0.1 * (1 + 1 / np.sqrt(2))),
  # the mean square is 9 (1 - b) and then 9 (1 - b^2), without a correction of the bias
  # both of them, and half of the first again
  ({'name': 'rmsprop', 'b2': 0.75, 'momentum': 0.5}, -0.1 * (1.5 / np.sqrt(0.25) + 1 / np.sqrt(1 - 0.75**2))),
  ({'name': 'rmsprop', 'b2': 0.75}, -0.1 * (1 / np.sqrt(0.25) + 1 / np.sqrt(1 - 0.75**2))),
]


@pytest.mark.parametrize(('optimizer', 'expected'), TWO_STEPS)
def test_two_steps_of_every_optimizer(optimizer, expected):
  config = experiment_with(steps=2, optimizer={'learning_rate': 0.1, **optimizer})
  new = updates(config, {'w': jnp.float32(3)}, steps=2)
  np.testing.assert_allclose(new['w'], expected, rtol=1e-5)


def test_no_optimizer_is_left_out_above():
  assert {optimizer['name'] for optimizer, _ in TWO_STEPS} == set(experiment.OPTIMIZERS)


def test_adam_on_means_with_a_smaller_eps_is_adam_on_sums():
  # The published IWAE adds a batch's 20 gradients up and has eps = 1e-4; configs/iwae_mnist.py takes their mean and
  # eps = 1e-4 / 20. Small slopes, so that eps matters: it is a third of the sums.
  sums = np.random.default_rng(0).normal(size=(6, 5)) * 3e-4
  config = experiment_with(steps=6, optimizer={'learning_rate': 1e-3, 'eps': 1e-4 / 20})
  ours, theirs = optim.make(config, 'model'), optax.adam(1e-3, eps=1e-4)
  plain = optim.make(experiment_with(steps=6, optimizer={'learning_rate': 1e-3, 'eps': 1e-4}), 'model')
  a = b = c = {'w': jnp.zeros(5)}
  states = [tx.init(a) for tx in (ours, theirs, plain)]
  for row in sums:
    mean, total = {'w': jnp.float32(row / 20)}, {'w': jnp.float32(row)}
    change, states[0] = ours.update(mean, states[0], a)
    a = optax.apply_updates(a, change)
    change, states[1] = theirs.update(total, states[1], b)
    b = optax.apply_updates(b, change)
    change, states[2] = plain.update(mean, states[2], c)
    c = optax.apply_updates(c, change)
  np.testing.assert_allclose(a['w'], b['w'], rtol=1e-5)
  assert np.abs(c['w'] - b['w']).max() > 1e-4  # the same eps for the mean is another optimizer


def test_the_player_must_have_an_optimizer():
  with pytest.raises(UserError, match=r"config.optimizer has no 'critic', which config.system=vae.vae trains; it has"):
    optim.make(experiment_with(steps=1), 'critic')


def test_optimizer_settings_are_checked_by_name():
  with pytest.raises(UserError, match="optimizer has no 'learning_rat'; did you mean 'learning_rate'"):
    experiment.optimizer(learning_rat=1)


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'learning_rate': 0.0}, 'config.optimizer.model.learning_rate must be positive, got 0.0'),
    ({'clip_value': -1.0}, 'config.optimizer.model.clip_value must not be negative, got -1.0'),
    ({'skip_norm': -1.0}, 'config.optimizer.model.skip_norm must not be negative, got -1.0'),
    ({'name': 'rmsprop', 'momentum': 1.0}, r'config.optimizer.model.momentum must be in \[0, 1\), got 1.0'),
    ({'clip_norm': -1.0}, 'config.optimizer.model.clip_norm must not be negative'),
    ({'schedule': 'cosin'}, "config.optimizer.model.schedule must be one of .*did you mean 'cosine'"),
    ({'decay': 1.5}, r'config.optimizer.model.decay must be in \(0, 1\], got 1.5'),
    ({'name': 'adamw'}, 'config.optimizer.model.name must be one of'),
    ({'schedule': 'stages', 'stage_rates': (1.0, 2.0)}, 'stage_rates has 2 rates for 0 config.stage_epochs'),
  ],
)
def test_values_out_of_range_are_refused(change, message):
  config = experiment_with(steps=100)
  config.optimizer.model = ConfigDict(dict(config.optimizer.model) | change)
  with pytest.raises(UserError, match=message):
    experiment.check(config)


def test_the_length_of_a_run_is_checked():
  experiment.check(experiment_with(epochs=1.0))
  for changes, message in (
    ({}, 'the run has no length'),
    ({'stage_epochs': (1, 3), 'budget': 3}, r'budget=3 asks for more stages than config.stage_epochs has \(2\)'),
    ({'epochs': -1.0}, 'config.epochs must not be negative'),
  ):
    with pytest.raises(UserError, match=message):
      experiment.check(experiment_with(**changes))


def test_a_player_of_several_moves_a_step_has_the_rate_of_the_step_in_all_of_them():
  config = experiment_with(steps=4, optimizer={'name': 'sgd', 'learning_rate': 1.0, 'schedule': 'linear'})
  tx, params = optim.make(config, 'model', moves=3), jnp.float32(0)
  state, moved = tx.init(params), []
  for _ in range(12):
    update, state = tx.update(jnp.float32(-1), state, params)
    moved.append(float(update))
  np.testing.assert_allclose(moved, np.repeat([1, 0.75, 0.5, 0.25], 3))
