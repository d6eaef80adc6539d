"""BigGAN's networks by their programs' sizes, their heads and their bounds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from parameters import at_random

from dgm_jax.models import biggan
from dgm_jax.models.heads import Heads
from dgm_jax.nn.norm import directions, spectral

KEY = jax.random.key(2)
WIDE = (256,) * 4
LABELS = jax.ShapeDtypeStruct((1,), 'int32')


def of_width(width, *factors):
  return tuple(width * factor for factor in factors)


def generator(size, channels, **more):
  return biggan.Generator((size, size, 3), channels, **more), jax.ShapeDtypeStruct(
    (1, 120 if 'shared' in more else 128), 'f4'
  )


def critic(size, channels, halvings, **more):
  return biggan.Critic(channels, halvings, **more), jax.ShapeDtypeStruct((1, size, size, 3), 'f4')


UP, DOWN = (16, 16, 8, 4, 2, 1), (1, 2, 4, 8, 16, 16)
SHARED = {'shared': 128, 'hierarchical': True, 'classes': 1000}
PROJECTION = {'head': 'projection', 'classes': 1000}


@pytest.mark.parametrize(('initializer', 'deviation'), [('glorot', 0.0), ('normal', 0.02)])
def test_gains_and_shifts_of_labels_start_as_in_their_programs(initializer, deviation):
  """SN-GAN's begin at 1 and 0, BigGAN's at normal numbers around them."""
  network = biggan.Generator((4, 4, 1), (64, 2), classes=100, initializer=initializer)
  init = jax.jit(lambda key: network.init(key, jnp.zeros((1, 2)), jnp.zeros(1, 'int32'))['params']['block_0'])
  tables = init(KEY)['ConditionalBatchNorm_0']
  for name in ('gain', 'shift'):
    np.testing.assert_allclose(tables[name]['embedding'].std(), deviation, rtol=0.05)


@pytest.mark.parametrize(
  ('network', 'parameters'),
  [
    (generator(32, WIDE, classes=10), 4_304_387),
    (critic(32, WIDE, 2, head='projection', classes=10), 4_207_361),
    (generator(32, WIDE, classes=100), 4_580_867),
    (critic(32, WIDE, 2, head='projection', classes=100), 4_230_401),
    (critic(32, WIDE, 2, head='twin', classes=100), 4_256_201),
    (generator(32, WIDE), 4_276_739),
    (critic(32, (128,) * 4, 2), 1_053_825),
    (critic(32, (128,) * 4, 2, head='projection', classes=10), 1_053_825 + 1280),
    (generator(64, of_width(64, *UP[:-1]), attention=(32,), **SHARED), 31_969_540),
    (critic(64, of_width(64, *DOWN[:-1]), 4, attention=(32,), **PROJECTION), 20_571_842),
    (generator(128, of_width(96, *UP), attention=(64,), **SHARED), 70_433_988),
    (critic(128, of_width(96, *DOWN), 5, attention=(64,), **PROJECTION), 87_982_370),
    (generator(128, of_width(64, *UP), attention=(64,), **SHARED), 31_978_628),
    (critic(128, of_width(64, *DOWN), 5, attention=(64,), **PROJECTION), 39_448_258),
  ],
)
def test_networks_are_as_large_as_their_programs(network, parameters):
  module, x = network
  shapes = jax.eval_shape(module.init, KEY, x, LABELS)['params']
  assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == parameters


FEATURES = jnp.asarray([[0.5, -1, 2]])
V = np.array([[1, 0, 0.5], [-0.3, 0.2, 0.1], [0, 1, -1]])  # a row a class
PSI = {'value': {'kernel': jnp.asarray([[0.2], [0.4], [-0.1]]), 'bias': jnp.asarray([0.05])}}


@pytest.mark.parametrize(
  ('rows', 'values'),
  [(V, [1.05, -0.6, -3.45]), (V / 1.5064025728, [0.5457497598, -0.549574976, -2.4414995195])],
)
def test_a_projection_is_its_formula(rows, values):
  """Miyato & Koyama 2018, equation 3."""
  params = PSI | {'projection': {'kernel': jnp.asarray(rows.T, jnp.float32)}}
  said = [Heads('projection', 3).apply({'params': params}, FEATURES, jnp.asarray([y])) for y in range(3)]
  np.testing.assert_allclose([one.value[0] for one in said], values, rtol=2e-6)
  assert said[0].logits is None


def test_a_projection_of_zeros_forgets_the_label():
  params = PSI | {'projection': {'kernel': jnp.zeros((3, 3))}}
  for y in range(3):
    value = Heads('projection', 3).apply({'params': params}, FEATURES, jnp.asarray([y])).value
    np.testing.assert_allclose(value, Heads().apply({'params': PSI}, FEATURES, None).value, rtol=1e-6)


def test_bounded_layers_make_a_map_that_never_stretches():
  """|f(a) - f(b)| <= |a - b| for dense layers with rectifiers, whose largest singular values are one."""
  random = np.random.default_rng(4)
  params = {str(i): {'kernel': jnp.asarray(random.normal(size=(8, 8)), jnp.float32)} for i in range(3)}
  bounded, _ = spectral(params, directions(KEY, params), 1.0, 300)

  def through(x):
    for tree in bounded.values():
      x = jax.nn.leaky_relu(x @ tree['kernel'], 0.1)
    return x

  a, b = (jnp.asarray(random.normal(size=(500, 8)), jnp.float32) for _ in range(2))
  apart = lambda a, b: np.linalg.norm(np.asarray(a - b), axis=1)
  assert (apart(through(a), through(b)) <= apart(a, b) * (1 + 1e-5)).all()


def test_chunks_of_latents_go_to_their_blocks():
  """The first chunk begins the map, each of the others moves its own block's normalisations alone."""
  network = biggan.Generator((8, 8, 1), (4, 4, 4), classes=3, shared=2, hierarchical=True)
  z = jnp.asarray(np.random.default_rng(1).normal(size=(2, 6)), jnp.float32)
  labels = jnp.asarray([0, 2])
  variables = jax.eval_shape(network.init, KEY, z, labels)
  params = at_random(variables['params'])
  names = {path[0].key for path, _ in jax.tree_util.tree_leaves_with_path(params)}
  assert names == {'shared', 'Dense_0', 'block_0', 'block_1', 'BatchNorm_0', 'Conv_0'}
  assert params['Dense_0']['kernel'].shape == (2, 4 * 4)
  assert params['block_1']['ConditionalBatchNorm_0']['gain']['kernel'].shape == (2 + 2, 4)
  draw = jax.jit(lambda z, y: network.apply({'params': params}, z, y, mutable=['batch_stats'])[0])
  one = draw(z, labels)
  assert one.shape == (2, 8, 8, 1)
  for chunk in range(3):
    assert np.abs(draw(z.at[:, 2 * chunk].add(1.0), labels) - one).max() > 1e-4
  assert np.abs(draw(z, labels[::-1]) - one).max() > 1e-4


def test_codes_go_before_attention():
  quantize = lambda name: (lambda h: 0 * h) if name == 'block_0' else None
  network = biggan.Critic((4, 4), 1, attention=(4,), quantize=quantize)
  x = jnp.asarray(np.random.default_rng(1).normal(size=(2, 8, 8, 1)), jnp.float32)
  params = at_random(jax.eval_shape(network.init, KEY, x)['params'])
  value = network.apply({'params': params}, x).value
  np.testing.assert_allclose(value[0], value[1], rtol=1e-6)  # attention to zeros is zero
