"""Networks of StyleGAN: sizes as published, the ends of a fade, mixed and truncated styles."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dgm_jax.models import stylegan
from dgm_jax.nn.style import double, halve

KEY = jax.random.key(5)
TINY = {'width': 3, 'layers': 1, 'base': 8, 'most': 2, 'multiplier': 0.5}
LARGE, SMALL = (stylegan.Generator((size, size, 1), **TINY) for size in (8, 4))


def count(module, *shape):
  tree = jax.eval_shape(module.init, KEY, jax.ShapeDtypeStruct(shape, 'float32'))['params']
  return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize(
  ('size', 'generator', 'critic'),
  [(32, 22_841_356, 20_726_785), (128, 25_843_858, 22_941_313), (1024, 26_219_627, 23_087_249)],
)
def test_sizes_are_the_published_ones(size, generator, critic):
  assert count(stylegan.Generator((size, size, 3)), 4, 512) == generator
  assert count(stylegan.Critic(), 4, size, size, 3) == critic
  # Each of two channels of colour has a weight of each feature, both ways, and a bias at each size.
  features = sum(stylegan.channels(s, 8192, 512) for s in stylegan.resolutions((size, size, 1)))
  maps = len(stylegan.resolutions((size, size, 1)))
  assert count(stylegan.Generator((size, size, 1)), 4, 512) == generator - 2 * features - 2 * maps
  assert count(stylegan.Critic(), 4, size, size, 1) == critic - 2 * features


@pytest.mark.parametrize(('layers', 'parameters'), [(0, 23_079_115), (8, 25_180_363)])
def test_the_size_of_the_traditional_generator(layers, parameters):
  assert count(stylegan.Traditional((1024, 1024, 3), layers=layers), 4, 512) == parameters


@pytest.mark.parametrize('shape', [(2, 2, 1), (12, 12, 1), (8, 4, 1), (8,)])
def test_sizes_that_do_not_double(shape):
  with pytest.raises(ValueError, match=r'squares of 4, 8, 16, ... pixels'):
    stylegan.resolutions(shape)


def noisy(tree, key=KEY):
  """Parameters whose every number counts."""
  leaves, structure = jax.tree.flatten(tree)
  keys = jax.random.split(key, len(leaves))
  noisy = [x + 0.3 * jax.random.normal(k, x.shape) for k, x in zip(keys, leaves, strict=True)]
  return jax.tree.unflatten(structure, noisy)


@pytest.fixture(scope='module')
def variables():
  return noisy(jax.jit(LARGE.init)(KEY, jnp.ones((2, 3))))


@pytest.fixture(scope='module')
def synthesis():
  def images(variables, w, noise, fade):
    return LARGE.clone(fade=fade).apply(variables, w, noise, method='synthesize')

  return jax.jit(images)


STYLES, MAPS = jax.random.normal(KEY, (2, 4, 3)), stylegan.noise_maps(KEY, 2, (8, 8, 1))


def test_a_generator_fades_from_the_smaller_one_to_its_new_layers(variables, synthesis):
  at = lambda fade, changed=variables: synthesis(changed, STYLES, MAPS, jnp.float32(fade))
  params = variables['params'] | {
    'synthesis': {name: part for name, part in variables['params']['synthesis'].items() if '_8' not in name}
  }
  small = SMALL.apply(variables | {'params': params}, STYLES[:, :2], MAPS[:2], method='synthesize')
  np.testing.assert_allclose(at(0), double(small), rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(at(0.25), 0.75 * at(0) + 0.25 * at(1), rtol=1e-5, atol=1e-5)
  whole = LARGE.apply(variables, STYLES, MAPS, method='synthesize')
  np.testing.assert_allclose(at(1), whole, rtol=1e-5, atol=1e-6)
  old = variables['params']['synthesis']['to_rgb_4'] | {'bias': jnp.full(1, 9.0)}
  other = {'params': variables['params'] | {'synthesis': variables['params']['synthesis'] | {'to_rgb_4': old}}}
  np.testing.assert_allclose(at(1, variables | other), at(1), rtol=1e-5, atol=1e-5)
  assert np.abs(at(0, variables | other) - at(0)).min() > 1


def test_a_critic_fades_from_the_smaller_one_to_its_new_layers():
  network = stylegan.Critic(base=8, most=2)
  x = jax.random.normal(KEY, (4, 8, 8, 1))
  params = noisy(network.init(KEY, x)['params'])
  value = lambda fade, x, params=params: network.clone(fade=fade).apply({'params': params}, x, mutable=['batch_stats'])[
    0
  ][0]
  at = jax.jit(lambda fade: value(fade, x))
  np.testing.assert_allclose(at(jnp.float32(0)), value(1.0, halve(x)), rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(at(jnp.float32(1)), value(1.0, x), rtol=1e-5, atol=1e-6)
  without = {name: part for name, part in params.items() if name != 'from_rgb_4'} | {
    'from_rgb_4': jax.tree.map(jnp.zeros_like, params['from_rgb_4'])
  }
  np.testing.assert_array_equal(value(1.0, x, without), value(1.0, x))


def test_a_critic_applies_its_quantizer_after_the_blocks_that_it_names_and_else_is_as_it_was():
  asked = []

  def quantize(name):
    asked.append(name)
    return (lambda h: jnp.round(h)) if name == 'layers_8' else None

  x, plain = jax.random.normal(KEY, (4, 8, 8, 1)), stylegan.Critic(base=8, most=2)
  variables = plain.init(KEY, x)
  value = lambda network: network.apply(variables, x)[0]
  assert np.abs(value(plain.clone(quantize=quantize)) - value(plain)).max() > 1e-4
  assert asked == ['layers_8']


def test_truncation(variables):
  variables = variables | {'batch_stats': {'w': jnp.array([1.0, -2, 3])}}
  network = LARGE.clone(truncated=3)
  w, psi = jnp.array([[0.0, 1, 2], [5, 6, 7]]), lambda value: jnp.full(2, value)
  at = lambda value: np.asarray(network.apply(variables, w, psi(value), method='truncate'))
  np.testing.assert_array_equal(at(1.0), np.repeat(w[:, None], 4, 1))
  np.testing.assert_array_equal(at(0.0)[:, :3], np.tile([1.0, -2, 3], (2, 3, 1)))
  np.testing.assert_array_equal(at(0.0)[:, 3], w)
  np.testing.assert_allclose(at(-0.5)[1, 0], [-1, -6, 1])


def test_cuts_are_uniform_and_none_with_the_probability_that_is_left():
  cuts = np.asarray(jax.jit(lambda key: stylegan.draw_cuts(key, 9000, 4, 0.9))(KEY))
  np.testing.assert_allclose(np.bincount(cuts, minlength=5) / 9000, [0, 0.3, 0.3, 0.3, 0.1], atol=0.02)
  assert set(np.asarray(stylegan.draw_cuts(KEY, 50, 4, 0.0))) == {4}


def test_training_mixes_styles_and_notes_the_mean_of_the_first_ones(variables):
  z = jax.random.normal(KEY, (4, 3))
  w = LARGE.apply(variables, z, method='map_latents')

  def images(mixing):
    network = LARGE.clone(mixing=mixing)
    return network.apply(variables, z, rngs={'dropout': KEY}, mutable=['batch_stats'])

  (plain, statistics), (mixed, same) = jax.jit(lambda: images(0.0))(), jax.jit(lambda: images(1.0))()
  for found in (statistics, same):
    np.testing.assert_allclose(found['batch_stats']['w'], w.mean(0), rtol=1e-5)
  assert np.abs(plain - mixed).max() > 1e-3
  fixed = [LARGE.apply(variables, part) for part in (z, z[1:3])]  # outside training all have the same noise
  np.testing.assert_allclose(fixed[0][1:3], fixed[1], rtol=1e-5, atol=1e-6)


def test_noise_is_shared_by_number():
  maps = stylegan.shared_noise(KEY, jnp.array([3, 5, 3]), (8, 8, 1))
  assert [each.shape for each in maps] == [(3, 4, 4, 1)] * 2 + [(3, 8, 8, 1)] * 2
  for each in maps:
    np.testing.assert_array_equal(each[0], each[2])
    assert np.abs(each[0] - each[1]).min() > 0
