"""Autoregressive networks: what each number depends on, what the images' probabilities add up to, how they are drawn.

All networks are small, with parameters far from their start, so that nothing cancels by chance.
"""

import itertools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dgm_jax.models.pixelcnn import GatedPixelCNN, PixelCNN
from dgm_jax.models.pixelcnn_pp import PixelCNNpp
from dgm_jax.models.pixelsnail import PixelSNAIL
from dgm_jax.nn import masked
from dgm_jax.nn.attention import attend, attend_in_chunks
from dgm_jax.systems import pixels, raster

SETTINGS = SimpleNamespace(levels=4, components=2)
NETWORKS = {
  'pixelcnn': (PixelCNN, {'hidden': 6, 'blocks': 1, 'head': 6, 'first': 3}),
  'gated': (GatedPixelCNN, {'features': 7, 'layers': 2, 'head': 12, 'first': 3}),
  'pp': (PixelCNNpp, {'features': 5, 'blocks': 1, 'levels': 2}),
  'snail': (PixelSNAIL, {'features': 5, 'blocks': 1, 'resnets': 1, 'keys': 3, 'values': 4, 'chunk': 7}),
}
CASES = [
  (name, channels, 'logistic_mixture' if channels == 3 and name in ('pp', 'snail') else kind)
  for name in NETWORKS
  for channels, kind in ((1, 'bernoulli'), (3, 'categorical'))
]


def make(name, channels, kind, height, width, condition=None):
  """The network, what its numbers mean, and parameters that differ from their start."""
  network, settings = NETWORKS[name]
  pixel = getattr(pixels, kind)(channels, SETTINGS)
  module = network(pixel.numbers, groups=pixel.groups, **settings)
  x = jax.random.normal(jax.random.key(3), (2, height, width, channels))
  params = jax.jit(module.init)(jax.random.key(0), x, condition)['params']
  leaves, tree = jax.tree.flatten(params)
  keys = jax.random.split(jax.random.key(1), len(leaves))
  moved = [leaf + 0.15 * jax.random.normal(key, leaf.shape) for key, leaf in zip(keys, leaves, strict=True)]
  return module, pixel, jax.tree.unflatten(tree, moved)


def drawing(name, channels, kind, height, width, condition=None):
  module, pixel, params = make(name, channels, kind, height, width, condition)
  return raster.Drawing(module, params, pixel, condition)


def dependence(name, channels, kind, height, width):
  """|d number / d input| summed over a variable's numbers, [variables, variables], a variable being a channel or,
  where channels are joint, a pixel."""
  module, pixel, params = make(name, channels, kind, height, width)
  images = jax.random.normal(jax.random.key(4), (6, height, width, channels))  # some rectifiers are off at any of them
  change = jnp.zeros(images.shape[1:])
  numbers = lambda change: module.apply({'params': params}, images + change[None])
  jacobian = np.abs(np.asarray(jax.jit(jax.jacfwd(numbers))(change))).sum(0)
  place, units = height * width, pixel.groups
  table = jacobian.reshape(place, units, -1, place, units, channels // units)
  return table.sum((2, 5)).reshape(place * units, place * units)


@pytest.mark.parametrize(('name', 'channels', 'kind'), CASES)
def test_a_number_depends_on_what_comes_before_it_and_on_nothing_else(name, channels, kind):
  table = dependence(name, channels, kind, 4, 4)
  before = np.tril(np.ones(table.shape, bool), -1)
  assert (table[~before] == 0).all()
  if name != 'pixelcnn':  # which has a blind spot
    assert (table[before] > 0).all()


@pytest.mark.parametrize(('name', 'channels', 'kind'), CASES)
@pytest.mark.parametrize('conditional', [False, True])
def test_drawing_with_a_memory_gives_the_pixels_of_drawing_without(name, channels, kind, conditional):
  condition = jax.random.normal(jax.random.key(5), (2, 4, 4, 3) if channels == 1 else (2, 3)) if conditional else None
  subject = drawing(name, channels, kind, 4, 4, condition)
  given = jnp.zeros((2, 4, 4, channels))
  known = jnp.zeros((2, 4, 4), bool)
  fast, slow = (
    jax.jit(lambda key, sampler=sampler: sampler(key, subject, given, known))(jax.random.key(6))
    for sampler in (raster.incremental, raster.naive)
  )
  np.testing.assert_array_equal(fast, slow)
  assert len(np.unique(fast)) >= 2


def test_known_pixels_stay_and_the_others_follow_from_them():
  subject = drawing('gated', 1, 'bernoulli', 4, 4)
  given = jax.random.bernoulli(jax.random.key(7), 0.5, (2, 4, 4, 1)).astype(jnp.float32)
  known = jnp.zeros((2, 4, 4), bool).at[:, :, ::2].set(True)
  draw = jax.jit(lambda key, sampler: sampler(key, subject, given, known), static_argnums=1)
  fast, slow = (draw(jax.random.key(8), sampler) for sampler in (raster.incremental, raster.naive))
  np.testing.assert_array_equal(fast, slow)
  np.testing.assert_array_equal(fast[:, :, ::2], given[:, :, ::2])


@pytest.mark.parametrize('name', ['pixelcnn', 'gated', 'snail'])
def test_all_images_of_three_by_three_have_probability_one_and_are_drawn_as_often_as_they_should(name):
  subject = drawing(name, 1, 'bernoulli', 3, 3)
  images = jnp.asarray(list(itertools.product((0.0, 1.0), repeat=9)), jnp.float32).reshape(512, 3, 3, 1)

  @jax.jit
  def log_prob(x):
    numbers = subject.network.apply({'params': subject.params}, subject.pixel.inputs(x))
    return subject.pixel.log_prob(x, numbers).sum((1, 2))

  probability = np.exp(np.asarray(log_prob(images), np.float64))
  assert abs(probability.sum() - 1) < 1e-6
  n = 4096
  nothing = jnp.zeros((n, 3, 3, 1))
  drawn = jax.jit(lambda key: raster.incremental(key, subject, nothing, jnp.zeros((n, 3, 3), bool)))(jax.random.key(9))
  counts = np.bincount(np.asarray(drawn).reshape(n, 9).astype(int) @ 2 ** np.arange(8, -1, -1), minlength=512)
  expected = n * probability
  often = expected >= 5
  observed = np.append(counts[often], counts[~often].sum())
  predicted = np.append(expected[often], expected[~often].sum())
  chi2, freedom = ((observed - predicted) ** 2 / predicted).sum(), len(observed) - 1
  assert chi2 < freedom + 4 * np.sqrt(2 * freedom)  # four standard deviations of chi^2


def seen(network, center=14, size=28):
  """How many pixels the middle of an image depends on, by propagating which positions each tap reaches."""
  image = jnp.zeros((1, size, size, 1))
  params = jax.tree.map(lambda p: jnp.full(p.shape, 0.1), jax.jit(network.init)(jax.random.key(0), image)['params'])
  number = lambda image: network.apply({'params': params}, image)[0, center, center].sum()
  return int((jax.jit(jax.grad(number))(image + 0.5)[0] != 0).sum())


@pytest.mark.parametrize(('blocks', 'count'), [(0, 24), (1, 39), (3, 78), (7, 192)])
def test_pixelcnn_sees_what_its_kernels_leave_of_406_pixels(blocks, count):
  assert seen(PixelCNN(1, hidden=1, blocks=blocks, head=1)) == count


def test_the_gated_network_sees_all_406_previous_pixels():
  assert seen(GatedPixelCNN(1, features=1, layers=7, head=1, size=5)) == 14 * 28 + 14


def test_the_first_position_attends_to_nothing_and_the_order_of_the_others_does_not_matter():
  query, key, value = (jax.random.normal(jax.random.key(i), (2, 6, n)) for i, n in enumerate((3, 3, 4)))
  out = attend(query, key, value)
  np.testing.assert_array_equal(out[:, 0], 0)
  np.testing.assert_allclose(out[:, 1], value[:, 0], rtol=1e-5)
  mixed = jnp.array([3, 1, 0, 2, 4, 5])
  np.testing.assert_allclose(attend(query, key[:, mixed], value[:, mixed])[:, 4:], out[:, 4:], rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(attend_in_chunks(query, key, value, 4), out, rtol=1e-5, atol=1e-6)


def test_attention_over_64x64_is_held_within_two_gibibytes():
  shape = lambda n: jax.ShapeDtypeStruct((4, 64 * 64, n), 'float32')
  loss = lambda q, k, v: jnp.square(attend_in_chunks(q, k, v, 512)).sum()
  program = jax.jit(jax.grad(loss, argnums=(0, 1, 2))).lower(shape(16), shape(16), shape(128)).compile()
  assert program.memory_analysis().temp_size_in_bytes < 2**31 / 4


def test_a_condition_without_weights_changes_nothing():
  condition = jnp.ones((2, 3))
  module, pixel, params = make('gated', 1, 'bernoulli', 4, 4, condition)
  for layer in params.values():
    for name in [name for name in layer if name.startswith('condition')]:
      layer[name]['kernel'] = jnp.zeros_like(layer[name]['kernel'])
  x = pixel.inputs(jax.random.bernoulli(jax.random.key(2), 0.5, (2, 4, 4, 1)).astype(jnp.float32))
  apply = jax.jit(module.apply)
  np.testing.assert_array_equal(apply({'params': params}, x, condition), apply({'params': params}, x, None))


def test_a_started_weight_normalised_layer_has_the_deviation_it_was_given():
  from dgm_jax.nn.weightnorm import NormConv

  x = 3 + 2 * jax.random.normal(jax.random.key(0), (8, 6, 6, 3))
  layer = NormConv(5, masked.rectangle(1, 0, 1, 0), deviation=0.5)
  y, _ = jax.jit(layer.init_with_output)(jax.random.key(1), x)
  np.testing.assert_allclose(y.mean((0, 1, 2)), 0, atol=1e-5)
  np.testing.assert_allclose(y.std((0, 1, 2)), 0.5, rtol=1e-4)


def test_the_kernels_hold_less_than_two_thirds_of_the_full_ones():
  assert masked.causal(7, False).count == 24
  assert masked.causal(3, True).count == 5
  assert masked.rectangle(2, 0, 2, 2).count == 15
