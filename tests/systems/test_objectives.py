"""What can be put together in a game: bounds on weights, what lies beside them, and what is refused."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from playing import KEY, begun, played, settings_of

from dgm_jax import config as experiment
from dgm_jax import core, systems
from dgm_jax.errors import UserError
from dgm_jax.nn.norm import directions, spectral
from dgm_jax.systems.parts import games

RANDOM = np.random.default_rng(3)
PARAMS = {
  'Conv_0': {'kernel': jnp.asarray(RANDOM.normal(size=(3, 3, 2, 5)), jnp.float32), 'bias': jnp.ones(5)},
  'Dense_0': {'kernel': jnp.asarray(RANDOM.normal(size=(7, 4)), jnp.float32), 'bias': jnp.ones(4)},
}


def largest(kernel):
  return np.linalg.svd(np.asarray(kernel, np.float64).reshape(-1, kernel.shape[-1]), compute_uv=False)[0]


def test_the_largest_singular_value_is_the_bound():
  found = directions(KEY, PARAMS)
  assert {name: list(tree) for name, tree in found.items()} == {'Conv_0': ['kernel'], 'Dense_0': ['kernel']}
  for _ in range(200):
    _, found = spectral(PARAMS, found, 1.0)
  scaled, again = spectral(PARAMS, found, 2.5)
  for name, tree in PARAMS.items():
    np.testing.assert_allclose(largest(scaled[name]['kernel']), 2.5, rtol=1e-5)
    np.testing.assert_allclose(scaled[name]['kernel'] * largest(tree['kernel']), 2.5 * tree['kernel'], rtol=1e-4)
    np.testing.assert_array_equal(scaled[name]['bias'], tree['bias'])
    np.testing.assert_allclose(again[name]['kernel'], found[name]['kernel'], atol=1e-5)


def test_a_kernel_of_zeros_stays_one():
  zeros = jax.tree.map(jnp.zeros_like, PARAMS)
  scaled, found = spectral(zeros, directions(KEY, PARAMS), 1.0)
  chex.assert_trees_all_equal(scaled, zeros)
  chex.assert_tree_all_finite(found)


def test_one_turn_of_the_power_method_is_the_papers():
  """Algorithm 1: v = W^T u / |.|, u = W v / |.|, sigma = u^T W v, W here being its transpose."""
  kernel = np.asarray(PARAMS['Dense_0']['kernel'], np.float64)
  u = np.asarray(directions(KEY, PARAMS)['Dense_0']['kernel'], np.float64)
  np.testing.assert_allclose(np.linalg.norm(u), 1, rtol=1e-6)
  v = kernel @ u / np.linalg.norm(kernel @ u)
  new = kernel.T @ v / np.linalg.norm(kernel.T @ v)
  scaled, found = spectral(PARAMS, directions(KEY, PARAMS), 1.0)
  np.testing.assert_allclose(found['Dense_0']['kernel'], new, rtol=1e-5)
  np.testing.assert_allclose(scaled['Dense_0']['kernel'], kernel / (v @ kernel @ new), rtol=1e-5)


def test_the_gradient_passes_the_singular_value_and_not_its_vectors():
  """Equation 12: what is along the first singular vectors is taken out of the gradient."""
  at = directions(KEY, PARAMS)
  for _ in range(200):
    _, at = spectral(PARAMS, at, 1.0)
  weights = np.asarray(RANDOM.normal(size=(7, 4)))
  _gradient_is_of_equation_12(at, weights)
  _gradient_is_of_equation_12(directions(KEY, PARAMS), weights)  # where a gradient through the directions would differ


def _gradient_is_of_equation_12(at, weights):
  loss = lambda params: (spectral(params, at, 1.0)[0]['Dense_0']['kernel'] * weights).sum()
  found = jax.grad(loss)(PARAMS)['Dense_0']['kernel']
  kernel = np.asarray(PARAMS['Dense_0']['kernel'], np.float64)
  left = kernel @ np.asarray(at['Dense_0']['kernel'], np.float64)
  left /= np.linalg.norm(left)
  right = left @ kernel / np.linalg.norm(left @ kernel)
  value = left @ kernel @ right
  expected = (weights - (weights * kernel).sum() / value * np.outer(left, right)) / value
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.fixture(scope='module')
def hinge():
  settings = settings_of('dcgan_mnist:tiny_hinge')
  system, _, batch = begun(settings, 16)
  state = jax.jit(system.init)(KEY, batch)
  return settings, system, state, batch, jax.jit(system.step)


def test_the_critic_is_applied_with_bounded_weights_everywhere(hinge):
  settings, system, state, batch, _ = hinge
  game, at = games.build(settings), state.extra['critic_spectral']
  scaled, new = spectral(state.params['critic'], at, 1.0)
  plain = game.networks['critic'].apply({'params': scaled}, batch['x'])[0]
  (value, _), seen = games.forward(game, 'critic', state, batch['x'], KEY)
  np.testing.assert_allclose(value, plain, rtol=1e-5)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), seen['spectral'], new)
  outside, _ = spectral(state.params['critic'], at, 1.0, games.POWER_STEPS)
  settled = game.networks['critic'].apply({'params': outside}, batch['x'])[0]
  np.testing.assert_allclose(system.views.critic(KEY, state, batch['x']), settled, rtol=1e-5)
  assert not np.allclose(game.networks['critic'].apply({'params': state.params['critic']}, batch['x'])[0], plain)


def test_directions_move_once_a_move_of_the_critic_and_are_replaced(hinge, monkeypatch):
  """Two turns of two moves of the critic and one of the generator, weights held: four turns of the power method."""
  settings, _, state, batch, _ = hinge
  for player in settings.optimizer.values():
    player.learning_rate = 0.0
  new, _ = jax.jit(systems.build(settings).step)(KEY, state, batch)
  at = state.extra['critic_spectral']
  for _ in range(4):
    _, at = spectral(state.params['critic'], at, 1.0)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), new.extra['critic_spectral'], at)


def test_the_generator_is_held_within_its_bounds_and_averaged_each_turn(hinge):
  *_, state, batch, step = hinge
  new, metrics = step(KEY, state, batch)
  largest = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(new.params['generator']))
  assert largest == 0.5  # gains begin at one
  assert max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(new.params['critic'])) != 0.5
  gains = lambda tree: [leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree) if path[-1].key == 'scale']
  # Two turns at a decay of 0.9: 0.81 of the start, and the rest of gains that were clipped.
  for old, now in zip(gains(state.params['generator']), gains(new.extra['ema']['generator']), strict=True):
    np.testing.assert_allclose(now, 0.81 * old + 0.19 * 0.5, atol=1e-4)
  assert {'discriminator/penalty', 'discriminator/real_accuracy'} <= set(metrics)
  assert np.isfinite([float(value) for value in metrics.values()]).all()


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'objective': 'hinj'}, "config.model.objective must be one of .*did you mean 'hinge'"),
    ({'objective': 'hinge', 'real_label': 0.9}, r'real_label=0.9 is for minimax, .* not for hinge: set it to 1'),
    ({'lazy': 0}, 'config.model.lazy must be a whole number, at least 1, got 0'),
    ({'lazy': 2, 'historical': 0.1}, 'config.model.historical counts steps, not turns: set config.model.lazy=2 to 1'),
    ({'critic.regularisers': {'r2': 1.0}}, r"a key of config.model.critic.regularisers must be one of .*, got 'r2'"),
    ({'critic.regularisers': {'r1': 1.0}, 'critic.norm': 'batch'}, 'r1 on each one.s slope forbids'),
    ({'critic.regularisers': {'r1': 1.0}, 'critic.kernels': 3}, 'norm=none and kernels=3, which tie'),
    ({'critic.regularisers': {'r1': -1.0}}, 'config.model.critic.regularisers.r1 must not be negative, got -1.0'),
    ({'critic.constraints': {'spectrum': 1.0}}, r'a key of config.model.critic.constraints must be one of'),
    ({'generator.constraints': {'clip': 0.0}}, 'config.model.generator.constraints.clip must be positive, got 0.0'),
  ],
)
def test_what_does_not_fit_is_one_line(change, message):
  settings = settings_of('dcgan_mnist:tiny_without_dense')
  settings.model.critic.norm = 'none'
  for name, value in change.items():
    *parents, key = name.split('.')
    inner = settings.model
    for parent in parents:
      inner = inner[parent]
    inner[key] = value
  with pytest.raises(UserError, match=message) as refusal:
    systems.build(settings)
  assert '\n' not in str(refusal.value)


@pytest.mark.parametrize(
  ('name', 'change', 'message'),
  [
    ('dcgan_mnist:tiny_wgan_gp', {'model.objective': 'hinge'}, "'hinge' does not fit config.system=gan.wgan_gp"),
    ('dcgan_mnist:tiny_wgan_gp', {'model.penalty': -1.0}, 'config.model.penalty must not be negative, got -1.0'),
    ('dcgan_mnist:tiny_wgan_gp', {'model.critic.regularisers': {'gradient_penalty': 9.0}}, 'set config.model.penalty'),
    ('dcgan_mnist:tiny_hinge', {'batch_size': 18}, r'must be a multiple of 4, .* try --config.batch_size=16'),
    ('dcgan_mnist:tiny_hinge', {'accumulate': 8}, r'config.batch_size=\d+ must be a multiple of 32'),
    ('dcgan_mnist:tiny_hinge', {'model.generator.regularisers': {'r1': 1.0}}, 'a key of config.model.generator'),
  ],
)
def test_what_would_be_ignored_is_refused(name, change, message):
  settings = settings_of(name)
  for key, value in change.items():
    *parents, last = key.split('.')
    inner = settings
    for parent in parents:
      inner = inner[parent]
    with settings.unlocked():
      inner[last] = value
  with pytest.raises(UserError, match=message):
    systems.build(settings)


def test_a_system_leaves_its_experiment_as_it_was_and_keeps_other_bounds():
  settings = settings_of('dcgan_mnist:tiny_wgan_gp')
  settings.model.critic.constraints = {'spectral': 2.5}
  settings.model.critic.regularisers = {'orthogonal': 0.1}
  before = experiment.to_json(settings)
  system, state, batch = begun(settings, 8)
  assert experiment.to_json(settings) == before
  assert 'critic_spectral' in state.extra
  scaled, _ = spectral(state.params['critic'], state.extra['critic_spectral'], 2.5, games.POWER_STEPS)
  plain = games.build(settings).networks['critic'].apply({'params': scaled}, batch['x'])[0]
  np.testing.assert_allclose(system.views.critic(KEY, state, batch['x']), plain, rtol=1e-5)
  metrics, _ = played(settings, 8)
  weights = [leaf.reshape(-1, leaf.shape[-1]) for leaf in jax.tree.leaves(state.params['critic']) if leaf.ndim > 1]
  products = [np.asarray(leaf.T @ leaf, np.float64) for leaf in weights]
  assert metrics['critic/penalty'] > 0.1 * sum(((p - np.diag(np.diag(p))) ** 2).sum() for p in products)


def test_a_third_network_s_critic_is_bounded_too():
  settings = settings_of('infogan_mnist:tiny')
  settings.model.critic.norm, settings.model.critic.constraints = 'none', {'spectral': 1.0}
  _, state, batch = begun(settings, 8)
  new, _ = jax.jit(systems.build(settings).step)(KEY, state, batch)
  apart = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), state.extra, new.extra)['critic_spectral']
  assert min(jax.tree.leaves(apart)) > 0


@pytest.mark.parametrize('moves', [1, 2])
def test_a_lazy_step_has_one_rate(moves):
  """Rates fall by the step: those of all turns of a step are one."""
  settings = settings_of('dcgan_mnist:tiny_hinge', lazy=2, critic_steps=moves)
  for player in settings.optimizer.values():
    player.update({'name': 'sgd', 'learning_rate': 1.0, 'schedule': 'linear', 'end_factor': 0.0})
  settings.steps = 2
  settings.model.critic.regularisers, settings.model.generator.constraints = {}, {}
  _, state, batch = begun(settings, 16)
  system = systems.build(settings)
  state = jax.jit(system.init)(KEY, batch)
  step = jax.jit(system.step)
  counts = lambda state: {int(leaf) for leaf in jax.tree.leaves(state.opt) if leaf.dtype == jnp.int32}
  first, _ = step(KEY, state, batch)
  assert counts(first) == {2, 2 * moves}
  second, _ = step(KEY, first, batch)
  last, _ = step(KEY, second, batch)  # the rate is nothing from step 2 on
  chex.assert_trees_all_equal(second.params, last.params)
  moved = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), first.params, second.params)
  assert max(jax.tree.leaves(moved)) > 0


@pytest.mark.parametrize(
  'name',
  [
    'gan_points:tiny', 'gan_points:tiny_wgan', 'dcgan_mnist:tiny', 'dcgan_mnist:tiny_wgan_gp',
    'gan_mnist:tiny_improved',
  ],
)  # fmt: skip
def test_every_game_averages_its_generator(name):
  settings = settings_of(name, average=0.5)
  _, _, batch = begun(settings, 16)
  system = systems.build(settings)
  state = jax.jit(system.init)(KEY, batch)
  new, _ = jax.jit(system.step)(KEY, state, batch)
  mean = jax.tree.map(lambda a, b: (a + b) / 2, state.params['generator'], new.params['generator'])
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), new.extra['ema']['generator'], mean)
  moved = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), state.extra['ema'], new.extra['ema'])
  assert max(jax.tree.leaves(moved)) > 0


@pytest.mark.parametrize('name', ['critic_steps', 'lazy'])
def test_players_at_once_have_no_turns(name):
  with pytest.raises(UserError, match=f'config.model.{name} is for players in turn: take system=gan.dcgan'):
    systems.build(settings_of('gan_points:tiny', (2,), **{name: 2}))


def test_a_game_at_once_remembers_and_bounds_its_weights_too():
  settings = settings_of('gan_points:tiny', historical=0.5)
  settings.model.critic.constraints = settings.model.generator.constraints = {'clip': 0.25}
  system, _, batch = begun(settings, 8)
  state = jax.jit(system.init)(KEY, batch)
  new, _ = jax.jit(system.step)(KEY, state, batch)
  assert max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(new.params)) == 0.25
  assert min(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(new.params)) <= 0.25
  mean = jax.tree.map(lambda a, b: (a + b) / 2, state.params, new.params)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), new.extra['history'], mean)
  assert isinstance(state, core.State)
