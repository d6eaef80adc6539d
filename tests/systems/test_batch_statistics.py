"""Batch statistics that are kept while training: by kind of examples, and beside averaged weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_gan_games import config as settings_of

from dgm_jax import core, systems
from dgm_jax.systems import gan
from dgm_jax.systems.parts import games

KEY = jax.random.key(11)


def images(mean, seed=0):
  """[16, 8, 8, 1] around a mean, so that kinds of images differ by it."""
  x = np.clip(np.random.default_rng(seed).normal(mean, 0.1, (16, 8, 8, 1)), 0, 1)
  return {'x': jnp.asarray(x, jnp.float32), 'y': jnp.arange(16) % 10}


@pytest.fixture(scope='module')
def infogan():
  """InfoGAN after 60 steps with players that stand still: its statistics alone have moved."""
  settings = settings_of('infogan_mnist:tiny')
  for player in settings.optimizer.values():
    player.learning_rate = 0.0
  system = systems.build(settings)
  state, step = jax.jit(system.init)(KEY, images(0.9)), jax.jit(system.step)
  for i in range(60):
    state, _ = step(jax.random.fold_in(KEY, i), state, images(0.9, i))
  return settings, system, state


def test_real_images_are_judged_by_the_statistics_of_real_images(infogan):
  settings, system, state = infogan
  game, x = games.build(settings), images(0.9, 100)['x']
  in_training, _ = games.forward(game, 'critic', state, x, KEY)
  np.testing.assert_allclose(system.views.critic(KEY, state, x), in_training[0], atol=0.03)
  # One average of both kinds, as a half of each, gives other values than training sees.
  mixed = jax.tree.map(lambda a, b: (a + b) / 2, *state.extra['critic_statistics'].values())
  both = {'critic_statistics': {'real': mixed, 'generated': mixed}}
  wrong = system.views.critic(KEY, state.replace(extra=state.extra | both), x)
  assert np.abs(wrong - in_training[0]).mean() > 2 * np.abs(system.views.critic(KEY, state, x) - in_training[0]).mean()


def test_clusters_are_read_from_real_images_as_such(infogan):
  settings, system, state = infogan
  game, x = gan._coded_game(settings), images(0.9, 100)['x']
  (_, features), _ = games.forward(game, 'critic', state, x, KEY)
  kept = state.extra['recognizer_statistics']['real']
  lone = lambda tree: tree['BatchNorm_0']
  hidden = features @ state.params['recognizer']['Dense_0']['kernel']
  np.testing.assert_allclose(lone(kept)['mean'], hidden.mean(0), atol=0.05)
  found = system.views.cluster(KEY, state, x)
  wrong = gan.recognize(game, state, x, 'generated')[0]
  assert np.abs(found - wrong).max() > 1e-3


def test_generated_images_are_measured_by_the_statistics_of_generated_ones(infogan):
  settings, system, state = infogan
  game, x = games.build(settings), images(0.9, 100)['x']
  measured = system.evaluate(KEY, state, {'x': x})
  fake = games.decode(game, state, system.views.prior.sample(KEY, state, 16))
  alone = games.inference(game, 'critic', state, fake, 'generated')[0]
  np.testing.assert_allclose(measured['fake_value'], alone, atol=1e-6)
  np.testing.assert_allclose(measured['real_value'], system.views.critic(KEY, state, x), atol=1e-6)
  in_training, _ = games.forward(game, 'critic', state, fake, KEY)
  np.testing.assert_allclose(measured['fake_value'], in_training[0], atol=0.05)


@pytest.mark.parametrize('name', ['dcgan_mnist:tiny', 'realnvp_cifar10:tiny'])
def test_averaged_weights_come_with_averaged_statistics(name):
  settings = settings_of(name, average=0.5)
  entry, network = ('generator_statistics', 'generator') if 'gan' in name else ('stats', 'flow')
  system = systems.build(settings)
  old, step = jax.jit(system.init)(KEY, images(0.4)), jax.jit(system.step)
  state = step(KEY, old, images(0.4, 1))[0]
  half = lambda a, b: jax.tree.map(lambda a, b: (a + b) / 2, a, b)
  mean = half(old.extra[entry], state.extra[entry])
  close = lambda a, b: jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), a, b)
  close(state.extra['ema_statistics'][entry], mean)
  used = core.averaged(state)
  close(used.extra[entry], mean)
  close(used.params[network], half(old.params[network], state.params[network]))
  raw = core.unaveraged(state)
  assert core.averaged(raw) is not raw and same(core.averaged(raw).extra[entry], state.extra[entry])
  draw = jax.jit(system.sample, static_argnums=2)
  expected = core.unaveraged(state).replace(params=used.params)
  expected = expected.replace(extra=expected.extra | {entry: mean})
  np.testing.assert_allclose(draw(KEY, state, 3), draw(KEY, expected, 3), atol=1e-4)
  assert not np.allclose(draw(KEY, state, 3), draw(KEY, raw, 3), atol=1e-4)


def same(a, b):
  return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


@pytest.mark.parametrize('name', ['pixelsnail:tiny', 'glow_cifar10:tiny'])
def test_an_average_without_statistics_keeps_none(name):
  settings = settings_of(name)
  state = jax.eval_shape(systems.build(settings).init, KEY, images(0.5))
  assert 'ema' in state.extra and 'ema_statistics' not in state.extra
