"""Decoders that draw pixels given latents: what they see, what their images add up to, how they are drawn."""

import itertools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from parameters import at_random
from playing import batch_of, filled, settings_of

from dgm_jax import systems
from dgm_jax.core import State
from dgm_jax.errors import UserError
from dgm_jax.models.local_pixelcnn import LocalPixelCNN, WindowPixelCNN
from dgm_jax.models.pixelcnn import GatedPixelCNN
from dgm_jax.nn import masked
from dgm_jax.pages.topics import receptive_field
from dgm_jax.systems import pixel_latents
from dgm_jax.systems.parts import decoders, likelihoods, pixels, raster, two_levels
from dgm_jax.systems.parts.noise_views import variation

KEY = jax.random.key(3)
LIKELIHOOD = SimpleNamespace(levels=4, components=2)
WINDOWS = {(4, 2): 10, (5, 3): 17, (7, 4): 31}
NETWORKS = {
  'tied': (LocalPixelCNN, {'features': 5, 'layers': 4, 'pointwise': 1}),
  'untied': (LocalPixelCNN, {'features': 5, 'layers': 4, 'pointwise': 1, 'tied': False}),
  'window': (WindowPixelCNN, {'features': 5, 'blocks': 1, 'wide': 4, 'high': 2}),
  'grey': (WindowPixelCNN, {'features': 5, 'blocks': 1, 'wide': 4, 'high': 2, 'grey': True}),
  'gated': (GatedPixelCNN, {'features': 6, 'layers': 1, 'head': 6, 'first': 3, 'gated_head': 2}),
}
CONDITIONS = {'none': None, 'vector': (2, 3), 'map': (2, 4, 5, 3)}


def model_of(name, channels, condition, height=4, width=5, kind=None):
  """A network with parameters far from their start, as samplers take it."""
  network, settings = NETWORKS[name]
  joint = network in (LocalPixelCNN, WindowPixelCNN)
  kind = kind or ('bernoulli' if channels == 1 else 'logistic_mixture' if joint else 'categorical')
  pixel = getattr(pixels, kind)(channels, *(() if kind == 'normal' else (LIKELIHOOD,)))
  module = network(pixel.num_parameters, groups=pixel.groups, **settings)
  shape = CONDITIONS[condition]
  given = None if shape is None else jax.random.normal(jax.random.key(5), (2, height, width, 3) if len(shape) > 2 else shape)
  params = jax.eval_shape(module.init, KEY, jnp.zeros((2, height, width, channels)), given)['params']
  return raster.PixelModel(module, at_random(params), pixel, given)


@pytest.mark.parametrize('window', WINDOWS)
def test_window_decoders_see_exactly_their_pixels(window):
  wide, high = window
  seen = receptive_field.field(WindowPixelCNN(1, wide=wide, high=high, features=2, blocks=1))
  assert seen.sum() == WINDOWS[window]
  middle = receptive_field.CENTER
  left = -(-(wide - 1) // 2)
  expected = np.zeros_like(seen)
  expected[middle - high : middle, middle - left : middle - left + wide] = True
  expected[middle, middle - left : middle] = True
  np.testing.assert_array_equal(seen, expected)


@pytest.mark.parametrize('tied', [True, False])
def test_window_of_six_masked_layers_is_69_of_406_pixels(tied):
  seen = receptive_field.field(LocalPixelCNN(1, features=2, tied=tied))
  assert seen.sum() == 69
  assert not seen.ravel()[receptive_field.PREVIOUS :].any()


def test_window_of_tied_layers_is_one_set_of_weights():
  counts = {}
  for tied in (True, False):
    shapes = jax.eval_shape(LocalPixelCNN(1, tied=tied).init, KEY, jnp.zeros((1, 8, 8, 1)))['params']
    counts[tied] = sum(name.startswith('masked') for name in shapes)
  assert counts == {True: 1, False: 5}


def test_window_of_grey_pixels_depends_on_their_luminance_alone():
  subject = model_of('grey', 3, 'map')
  x = jax.random.uniform(KEY, (2, 4, 5, 3))
  shift = 0.3 * jnp.array([1 / 0.299, -1 / 0.587, 0.0])
  apply = jax.jit(lambda x: subject.network.apply({'params': subject.params}, x, subject.condition))
  np.testing.assert_allclose(apply(x + shift[None, None, None]), apply(x), atol=1e-4)
  assert np.abs(apply(x + 0.3) - apply(x)).max() > 1e-2


@pytest.mark.parametrize('condition', CONDITIONS)
@pytest.mark.parametrize('channels', [1, 3])
@pytest.mark.parametrize('name', NETWORKS)
def test_drawing_with_a_memory_gives_the_pixels_of_drawing_without(name, channels, condition):
  if name == 'grey' and channels == 1:
    pytest.skip('luminance is of three channels')
  subject = model_of(name, channels, condition)
  empty, mask = jnp.zeros((2, 4, 5, channels)), jnp.zeros((2, 4, 5), bool)
  fast, slow = (
    jax.jit(lambda key, sampler=sampler: sampler(key, subject, empty, mask))(jax.random.key(6))
    for sampler in (raster.sample_incremental, raster.sample_naive)
  )
  np.testing.assert_array_equal(fast, slow)
  assert len(np.unique(fast)) >= 2


def test_drawing_a_map_of_normals_with_a_memory_gives_that_without():
  subject = model_of('gated', 3, 'map', kind='normal')
  empty, mask = jnp.zeros((2, 4, 5, 3)), jnp.zeros((2, 4, 5), bool)
  fast, slow = (
    jax.jit(lambda key, sampler=sampler: sampler(key, subject, empty, mask))(jax.random.key(6))
    for sampler in (raster.sample_incremental, raster.sample_naive)
  )
  np.testing.assert_allclose(fast, slow, rtol=1e-4, atol=1e-5)


class Twice(LocalPixelCNN):
  """The tied network, whose layers forget to name their memories."""

  def _masked(self, x, index, at):
    return self.masked[0](x, at)


def test_drawing_raises_where_a_memory_is_written_twice_at_one_place():
  subject = model_of('tied', 1, 'none')
  wrong = subject._replace(network=Twice(1, features=5, layers=4, pointwise=1))
  x, mask = jnp.zeros((2, 4, 5, 1)), jnp.zeros((2, 4, 5), bool)
  wrong.network.apply({'params': subject.params}, x)  # whole images need no memory
  with pytest.raises(ValueError, match='memory masked_0/rows of a causal layer is written twice'):
    raster.sample_incremental(KEY, wrong, x, mask)


def test_drawing_a_layer_that_is_called_once_keeps_its_memory_named_rows():
  subject = model_of('gated', 1, 'none')
  cache = raster.init_cache(subject, jnp.zeros((2, 4, 5, 1)))
  names = {path[-1].key for path, _ in jax.tree_util.tree_leaves_with_path(cache)}
  assert names == {masked.MEMORY}


@pytest.mark.parametrize('name', ['tied', 'window', 'gated'])
def test_all_images_of_three_by_three_have_probability_one_given_the_latents(name):
  subject = model_of(name, 1, 'map', 3, 3)
  images = jnp.asarray(list(itertools.product((0.0, 1.0), repeat=9)), jnp.float32).reshape(512, 3, 3, 1)

  @jax.jit
  def log_prob(condition):
    inputs = subject.pixel.inputs(images)
    spread = jnp.broadcast_to(condition[None], (512, *condition.shape))
    outputs = subject.network.apply({'params': subject.params}, inputs, spread)
    return subject.pixel.log_prob(images, outputs).sum((1, 2))

  one, other = (np.exp(np.asarray(log_prob(condition), np.float64)) for condition in subject.condition)
  assert abs(one.sum() - 1) < 1e-6
  assert abs(other.sum() - 1) < 1e-6
  assert np.abs(one - other).max() > 1e-3
