"""Decoders that draw pixels given latents: what they see, what their images add up to, how they are drawn."""

import itertools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from parameters import at_random
from playing import batch_of, settings_of

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
  given = (
    None if shape is None else jax.random.normal(jax.random.key(5), (2, height, width, 3) if len(shape) > 2 else shape)
  )
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


DRAWN = [('tied', 1, 'none'), ('gated', 1, 'map'), ('gated', 3, 'vector')]
DRAWN += [(name, 1, 'vector') for name in NETWORKS if name != 'grey']  # luminance is of three channels
DRAWN += [(name, 3, 'map') for name in NETWORKS]


@pytest.mark.parametrize(('name', 'channels', 'condition'), DRAWN)
def test_drawing_with_a_memory_gives_the_pixels_of_drawing_without(name, channels, condition):
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


def without(params, *names):
  """The parameters with zeros in every layer of these names."""

  def emptied(path, leaf):
    return leaf * 0 if {part.key for part in path} & set(names) else leaf

  return jax.tree_util.tree_map_with_path(emptied, params)


@pytest.mark.parametrize('name', ['tied', 'window', 'gated'])
@pytest.mark.parametrize('condition', ['vector', 'map'])
def test_window_networks_without_weights_from_the_latents_are_unconditional(name, condition):
  subject = model_of(name, 1, condition)
  entrances = {'tied': ('condition_in',), 'window': ('condition_in', 'Dense_0')}
  gates = ('condition_down', 'condition_across', 'Dense_0')
  params = without(subject.params, *entrances.get(name, gates))
  image = jax.random.normal(KEY, (2, 4, 5, 1))
  apply = jax.jit(subject.network.apply)
  with_z, alone = (apply({'params': params}, image, given) for given in (subject.condition, None))
  np.testing.assert_allclose(with_z, alone, atol=1e-6)
  assert np.abs(apply({'params': subject.params}, image, subject.condition) - alone).max() > 1e-3


def changed(name, shape=(4, 4, 1), **model):
  """A tiny experiment of which parts of the model are others, whole."""
  settings = settings_of(name, shape)
  for key, value in model.items():
    settings.model[key] = value
  return settings


def latent_system(name, **model):
  """(system, settings, state, batch) of a tiny experiment, with parameters far from their start."""
  settings = settings_of(name, (4, 4, 1), **model)
  system, batch = systems.build(settings), batch_of(settings, 3)
  shapes = jax.eval_shape(system.init, KEY, batch)
  params = {part: jax.tree.map(jnp.asarray, at_random(tree)) for part, tree in shapes.params.items()}
  return system, settings, State(jnp.zeros((), jnp.int32), params, {}, {}), batch


def test_window_decoders_without_weights_from_pixels_are_factorised():
  """log p(x|z) is that of independent bits whose logits are the 1x1 layers of the map."""
  network = {'name': 'window_pixelcnn', 'wide': 3, 'high': 1, 'features': 4, 'blocks': 0}
  settings = changed('vlae_mnist:tiny', network=network)
  decoder, parts = decoders.build(settings, 4), decoders.pixel_network(settings)
  x = batch_of(settings, 3)['x']
  params = at_random(jax.eval_shape(decoder.init, KEY, x))
  params['pixels']['first']['scale'] = 0 * params['pixels']['first']['scale']
  state = State(jnp.zeros((), jnp.int32), {'decoder': params}, {}, {})
  z = jax.random.normal(KEY, (3, 4))
  features = np.asarray(decoders.condition_of(parts, params, z)) @ params['pixels']['condition_in']['kernel']
  h = features + params['pixels']['first']['bias']
  h = np.where(h > 0, h, np.expm1(h))
  head = params['pixels']['head']
  kernel = head['direction'] / np.linalg.norm(head['direction'], axis=0) * head['scale']
  logits = (h @ kernel + head['bias']).reshape(3, -1)
  expected = likelihoods.bernoulli().log_prob(x.reshape(3, -1), (logits,))
  np.testing.assert_allclose(jax.jit(decoder.log_prob)(KEY, state, x, z), expected, rtol=1e-6, atol=1e-5)
  free = jax.tree.map(lambda leaf: leaf, params)
  free['pixels']['first']['scale'] = jnp.ones_like(free['pixels']['first']['scale'])
  other = decoder.log_prob(KEY, state.replace(params={'decoder': free}), x, z)
  assert np.abs(other - expected).max() > 1e-2


NAMES = [
  'vlae_mnist:tiny',
  'pixelvae_mnist:tiny',
  'pixelvae_mnist:tiny_upsample',
  'vlae_cifar10:tiny',
  'pixelvae_cifar10:tiny',
]


@pytest.mark.parametrize('name', NAMES)
def test_causality_given_the_latents_is_measured_and_holds(name):
  system, settings, state, batch = latent_system(name, average=0.0)
  variables = 16
  first = jnp.arange(variables, dtype=jnp.int32)
  x = jnp.tile(batch['x'], (6, 1, 1, 1))[:variables]
  found = jax.jit(system.views.causality)(KEY, state, x, first)
  np.testing.assert_array_equal(found['later'], 0)
  assert (found['earlier'][4:] > 0).all()
  assert 'causality.causality' in settings.evals


@pytest.mark.parametrize('name', NAMES)
def test_drawing_of_images_of_two_levels_varies_what_it_says(name):
  """In a row of `variations` only one level's noise differs: rows begin alike, and their images do not."""
  system, _, state, _ = latent_system(name, average=0.0)
  decoder = state.params['decoder']  # of which all that the latents enter is made stronger
  strong = {
    part: jax.tree.map(lambda leaf: 3 * leaf, tree) if part == 'map' else tree for part, tree in decoder.items()
  }
  state = state.replace(params=state.params | {'decoder': decoder | strong})
  rows = np.asarray(jax.jit(system.views.variations, static_argnums=2)(KEY, state, 32))
  assert rows.shape == (3 if 'pixelvae_cifar10' in name else 2, 32, 4, 4, 1)
  assert (rows != rows[:, :1]).any((1, 2, 3, 4)).all()


def test_drawing_varies_one_level_at_a_time():
  """Of three levels that hand their noise on, each row differs in the number of its level alone."""

  def level(key, state, above):
    own = jax.random.uniform(key, (1, 1))
    return own if above is None else jnp.concatenate([above, own], 1)

  rows = np.asarray(variation([level, level, level])(KEY, None, 4))
  assert rows.shape == (3, 4, 3)
  for number, row in enumerate(rows):
    differs = [len(np.unique(column)) > 1 for column in row.T]
    assert differs == [other == number for other in range(3)]


def test_drawing_of_two_levels_with_memories_gives_that_without(monkeypatch):
  system, _, state, _ = latent_system('pixelvae_cifar10:tiny')
  fast = jax.jit(system.sample, static_argnums=2)(KEY, state, 3)
  monkeypatch.setattr(raster, 'sample_incremental', raster.sample_naive)
  slow = jax.jit(lambda key, state: system.sample(key, state, 3))(KEY, state)
  np.testing.assert_allclose(fast, slow, atol=1e-5)
  assert len(np.unique(np.round(fast, 4))) > 3


@pytest.mark.parametrize('k', [None, 3])
def test_two_levels_code_an_image_by_the_divergences_of_both(k):
  """The log weights are log p(x|z_0) + log p(z_0|z_1) + log p(z_1) - log q(z_0|x) - log q(z_1|x)."""
  settings = settings_of('pixelvae_cifar10:tiny', (4, 4, 1))
  model, (_, _, state, batch) = two_levels.two_levels(settings), latent_system('pixelvae_cifar10:tiny')
  terms = jax.jit(lambda key: model.draw(key, state, batch['x'], k))(KEY)
  low, high = terms.latents
  assert terms.kls[1].sum(-1).min() > 0
  normal = lambda z, mean, logvar: (-0.5 * (np.log(2 * np.pi) + logvar + (z - mean) ** 2 / np.exp(logvar))).sum(-1)
  q = normal(low.z, *low.params) + normal(high.z, *high.params)
  between = two_levels.map_prior(settings)
  outputs = between.network.apply(
    {'params': state.params['prior']['pixels']}, low.z.reshape(-1, *between.shape),
    decoders.condition_of(between, state.params['prior'], high.z.reshape(-1, high.z.shape[-1])),
  )  # fmt: skip
  mean, logvar = (np.asarray(part).reshape(low.z.shape) for part in jnp.split(outputs, 2, -1))
  p = normal(low.z, mean, logvar) + normal(high.z, 0.0, 0.0)
  np.testing.assert_allclose(terms.log_weights, terms.log_px_z + p - q, rtol=1e-4, atol=1e-3)


BAD = {
  'empty': ({'network': {'name': 'window_pixelcnn', 'wide': 1, 'high': 0}}, 'window of 1x0 pixels is empty'),
  'wide': ({'network': {'name': 'window_pixelcnn', 'wide': 9, 'high': 2}}, '9x2 pixels, more than the image of 4x4'),
  'decoder': ({'decoder': 'pixel'}, "did you mean 'pixels'"),
  'network': ({'network': {'name': 'window_pixelcn'}}, "did you mean 'window_pixelcnn'"),
  'map': ({'map': {'name': 'denser'}}, "did you mean 'dense'"),
  'encoder': ({'encoder': {'name': 'dens'}}, "did you mean 'dense'"),
  'no map': ({'decoder': 'factorised', 'map': {'name': 'none'}}, 'gives no parameters'),
  'levels': ({'latents': (4, 4)}, 'must be of one level'),
}


@pytest.mark.parametrize('name', BAD)
def test_bad_settings_are_one_line(name):
  changes, message = BAD[name]
  with pytest.raises(UserError, match=message) as error:
    systems.build(changed('vlae_mnist:tiny', **changes))
  assert '\n' not in str(error.value)


@pytest.mark.parametrize(
  ('name', 'advice'), [('vlae_mnist:tiny', 'logistic_mixture'), ('pixelvae_mnist:tiny', 'categorical')]
)
def test_bad_colour_images_with_bernoulli_pixels_are_refused(name, advice):
  with pytest.raises(UserError, match=f"takes binary images of one channel.*use '{advice}'"):
    systems.build(settings_of(name, (4, 4, 3)))


def test_an_image_posterior_is_refused_by_the_size_of_its_map():
  with pytest.raises(UserError, match='must be height, width and channels of the 32 latents'):
    systems.build(changed('vlae_cifar10:tiny', prior_network={'size': (8, 8, 4)}))
  assert pixel_latents.ENCODERS.keys() >= {'dense', 'pairs', 'maps', 'resnet'}


def test_a_factorised_decoder_of_weight_normalised_maps_starts_with_finite_outputs():
  """From latents that are all 0 a data-dependent start divides by their spread."""
  from configs import vlae_mnist

  config = vlae_mnist.get_config('factorised')
  config.model.map.update({'channels': (4, 4, 4), 'hidden': 8})
  with config.unlocked():
    config.data.shape = (28, 28, 1)
  decoder = decoders.factorised(config, 64)
  state = State(jnp.int32(0), {'decoder': decoder.init(jax.random.key(0), jnp.zeros((1, 28, 28, 1)))}, {}, {})
  mean = np.asarray(decoder.mean(jax.random.key(1), state, jax.random.normal(jax.random.key(2), (64, 64))))
  assert np.isfinite(mean).all()
  assert 0.01 < mean.std() < 0.3


NOT_FITTING = {
  'channels': ('pixelvae_mnist:tiny', {'encoder': {'channels': ()}}, '^config.model.encoder: '),
  'latents': (
    'vlae_cifar10:tiny',
    {'prior': 'normal', 'latents': (33,)},
    '^config.model.encoder: 33 latents are no map',
  ),
  'scales': ('vlae_cifar10:tiny', {'encoder': {'blocks': ()}}, '^config.model.encoder: widths .* and blocks'),
  'halvings': (
    'vlae_cifar10:tiny',
    {'map': {'widths': (4, 4, 4, 4), 'blocks': (1, 1, 1, 1)}},
    '^config.model.map: images',
  ),
  'width': ('pixelvae_cifar10:tiny', {'encoder': {'top_width': 0}}, '^config.model.encoder: '),
  'features': (
    'vlae_mnist:tiny',
    {'network': {'features': 0}},
    'config.model.network.features must be at least 1, got 0',
  ),
  'components': ('pixelvae_cifar10:tiny', {'components': 0}, 'config.model.components must be at least 1, got 0'),
}


@pytest.mark.parametrize('name', NOT_FITTING)
def test_networks_that_do_not_fit_are_one_line_that_names_the_key(name):
  stem, changes, message = NOT_FITTING[name]
  with pytest.raises(UserError, match=message) as error:
    settings = settings_of(stem, (4, 4, 1), **changes)
    jax.eval_shape(systems.build(settings).init, KEY, batch_of(settings, 2))
  assert '\n' not in str(error.value)
