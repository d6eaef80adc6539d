"""Vector quantization: nearest codes, codebooks that follow their vectors, autoencoders of several levels."""

import importlib.util
import itertools
import math
import pathlib
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dgm_jax import losses, systems
from dgm_jax.errors import UserError
from dgm_jax.models.vqvae import VQVAE, level_names, level_sizes
from dgm_jax.nn import quantize
from dgm_jax.runtime import parallel

RANDOM = np.random.default_rng(11)
CONFIGS = pathlib.Path(__file__).parents[2] / 'configs'
TINY = {'codes': 6, 'features': 3, 'hidden': 4, 'blocks': 0, 'width': 2}


def normal(*shape):
  return jnp.asarray(RANDOM.normal(size=shape), jnp.float32)


def config(name, variant):
  spec = importlib.util.spec_from_file_location(name, CONFIGS / f'{name}.py')
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  made = module.get_config(variant)
  made.data.update({'shape': (8, 8, 1), 'examples': 1297})
  return made


@pytest.mark.parametrize('held', [1, 60, 10**6])
def test_the_nearest_code_is_that_of_brute_force(held):
  z, book = normal(4, 3, 5, 7), normal(20, 7)
  distances = np.square(np.asarray(z, 'f8')[..., None, :] - np.asarray(book, 'f8')).sum(-1)
  codes = jax.jit(quantize.nearest, static_argnums=2)(z, book, held)
  np.testing.assert_array_equal(codes, distances.argmin(-1))
  np.testing.assert_array_equal(quantize.nearest(book, book, held), np.arange(20))
  np.testing.assert_array_equal(quantize.nearest(jnp.zeros((2, 7)), jnp.ones((3, 7)), held), [0, 0])  # a tie


def test_the_gradient_goes_straight_through_and_none_to_the_codes():
  z, book = normal(6, 3), normal(4, 3)

  def loss(z, book):
    vectors = quantize.straight_through(z, book[quantize.nearest(z, book)])
    return jnp.sin(vectors).sum(), vectors

  (by_z, by_book), vectors = jax.grad(loss, (0, 1), has_aux=True)(z, book)
  np.testing.assert_array_equal(vectors, np.asarray(book)[np.asarray(quantize.nearest(z, book))])
  np.testing.assert_array_equal(by_z, jnp.cos(vectors))
  np.testing.assert_array_equal(by_book, np.zeros((4, 3)))


def quantized(key, counts, sums, z):
  """All that a step does with a codebook."""
  book = losses.codebook_vectors(counts, sums)
  codes = quantize.nearest(z, book)
  vectors = quantize.straight_through(z, book[codes])
  return vectors, codes, quantize.restart(key, *losses.codebook_ema(counts, sums, z, codes, decay=0.9)[:2], z, 0.5)


def test_the_quantizer_on_eight_devices_is_that_on_one():
  arguments = jax.random.key(3), jnp.ones(32), normal(32, 4), normal(64, 4, 4, 4)
  mesh = parallel.mesh()
  assert mesh.size == 8
  shardings = (parallel.replicated(mesh),) * 3 + (parallel.rows(mesh),)
  program = jax.jit(quantized, in_shardings=shardings).lower(*arguments).compile()
  spread = program(*map(jax.device_put, arguments, shardings))
  alone = jax.jit(quantized)(*arguments)
  np.testing.assert_array_equal(spread[1], alone[1])
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), spread, alone)
  gathered = re.findall(r'= \w+\[([\d,]+)\]\S* all-gather', program.as_text())
  assert all(math.prod(map(int, shape.split(','))) < arguments[3].size for shape in gathered)  # none sees all vectors


def test_the_lookup_holds_a_sliver_of_the_distances():
  vectors, codes, features = 64 * 32 * 32, 8192, 64
  like = lambda *shape: jax.ShapeDtypeStruct(shape, 'float32')
  program = jax.jit(quantize.nearest).lower(like(vectors, features), like(codes, features)).compile()
  assert program.memory_analysis().temp_size_in_bytes <= vectors * codes * 4 / 4


def test_dead_codes_are_put_on_vectors_of_the_batch_and_the_others_stay():
  counts, sums, z = jnp.asarray([4.0, 0.0, 0.125, 3.875]), normal(4, 2), normal(2, 3, 2)
  new_counts, new_sums = quantize.restart(jax.random.key(0), counts, sums, z, 0.1)
  np.testing.assert_array_equal(new_counts, [4, 2, 2, 3.875])  # the mean count is 2, so that 0.2 is the least
  np.testing.assert_array_equal(np.asarray(new_sums)[[0, 3]], np.asarray(sums)[[0, 3]])
  for code in np.asarray(losses.codebook_vectors(new_counts, new_sums))[[1, 2]]:
    assert np.isclose(np.asarray(z).reshape(-1, 2), code, rtol=1e-4).all(1).any()
  unmoved = quantize.restart(jax.random.key(0), counts, sums, z, 0.0)
  chex.assert_trees_all_equal(unmoved, (counts, sums))


def test_k_means_ends_on_the_means_of_what_is_nearest():
  z = jnp.concatenate([normal(50, 2) * 0.1 + 5 * jnp.asarray([[i, -i]]) for i in range(3)])
  book = quantize.k_means(jax.random.key(1), z, 5, 30)
  codes = np.asarray(quantize.nearest(z, book))
  means = np.stack([np.asarray(z)[codes == k].mean(0) for k in np.unique(codes)])
  np.testing.assert_allclose(np.asarray(book)[np.unique(codes)], means, atol=1e-5)
  assert quantize.k_means(jax.random.key(1), z[:2], 5).shape == (5, 2)


def test_levels_have_names_and_sizes():
  assert [level_names(n) for n in (1, 2, 3)] == [('top',), ('top', 'bottom'), ('top', 'middle', 'bottom')]
  assert level_names(4) == ('top', 'middle_1', 'middle_2', 'bottom')
  assert level_sizes((28, 28), (2, 4)) == [[(4, 4), (7, 7)], [(7, 7), (14, 14), (28, 28)]]


@pytest.fixture(scope='module')
def hierarchy():
  """Three levels on images with odd sizes on the way, and parameters."""
  network = VQVAE((12, 20, 2), (2, 2, 2), **TINY)
  x = jax.random.uniform(jax.random.key(0), (3, 12, 20, 2))
  return network, jax.jit(network.init)(jax.random.key(1), x)['params'], x


def test_codes_stand_for_the_reconstruction(hierarchy):
  network, params, x = hierarchy
  passed = network.apply({'params': params}, x)
  assert [code.shape for code in passed.codes] == [(3, 2, 3), (3, 3, 5), (3, 6, 10)]
  for name, z, code in zip(level_names(3), passed.z, passed.codes, strict=True):
    np.testing.assert_array_equal(code, quantize.nearest(z, params[f'codebook_{name}']))
  codes = network.apply({'params': params}, x, method='encode')
  chex.assert_trees_all_equal(codes, passed.codes)
  np.testing.assert_allclose(network.apply({'params': params}, codes, method='decode'), passed.x, atol=1e-6)


def test_several_codes_stand_side_by_side_at_a_place():
  network, x = VQVAE((8, 12, 2), (2, 2), per_place=3, **TINY), jax.random.uniform(jax.random.key(0), (2, 8, 12, 2))
  params = jax.jit(network.init)(jax.random.key(1), x)['params']

  @jax.jit
  def both(params, x):
    passed = network.apply({'params': params}, x)
    return passed, network.apply({'params': params}, passed.codes, method='decode')

  passed, decoded = both(params, x)
  assert [code.shape for code in passed.codes] == [(2, 2, 3, 3), (2, 4, 6, 3)]
  for name, z, code in zip(level_names(2), passed.z, passed.codes, strict=True):
    assert z.shape == (*code.shape, TINY['features'])
    distances = np.square(np.asarray(z)[..., None, :] - np.asarray(params[f'codebook_{name}'])).sum(-1)
    np.testing.assert_array_equal(code, distances.argmin(-1))
  np.testing.assert_allclose(decoded, passed.x, atol=1e-6)


@pytest.mark.parametrize('level', range(3))
def test_a_level_is_quantized_given_those_above_it_and_no_others(hierarchy, level):
  network, params, x = hierarchy
  moved = params | {f'codebook_{level_names(3)[level]}': 30 * normal(6, 3)}
  before, after = (network.apply({'params': p}, x).z for p in (params, moved))
  changed = [bool((a != b).any()) for a, b in zip(before, after, strict=True)]
  assert changed == [i > level for i in range(3)]


def test_without_a_level_the_image_is_another_one(hierarchy):
  network, params, x = hierarchy
  codes = network.apply({'params': params}, x, method='encode')
  decode = lambda *kept: network.apply({'params': params}, list(kept), method='decode')
  images = [decode(*codes), decode(*codes[:2], None), decode(codes[0], None, None), decode(None, None, codes[2])]
  assert all(float(jnp.abs(a - b).max()) > 1e-4 for a, b in itertools.combinations(images, 2))


@pytest.fixture(scope='module')
def forgetful():
  """Two levels whose statistics are those of the last batch: the step, a state, the batch, and the network."""
  settings = config('vqvae2_mnist', 'tiny')
  settings.model.decay = 0.0
  system = systems.build(settings)
  batch = {'x': jax.random.uniform(jax.random.key(2), (16, 8, 8, 1))}
  state = jax.jit(system.init)(jax.random.key(3), batch)
  return jax.jit(system.step), state, batch, VQVAE((8, 8, 1), **settings.model.vqvae.to_dict())


def test_without_memory_a_step_puts_the_codes_on_the_means_of_their_vectors(forgetful):
  step, state, batch, network = forgetful
  after, metrics = step(jax.random.key(4), state, batch)
  passed = network.apply({'params': state.params['vqvae']}, batch['x'])
  last, _ = step(jax.random.key(5), after, batch)  # a step begins by placing the codes
  for name, z, codes in zip(level_names(2), passed.z, passed.codes, strict=True):
    flat, codes = np.asarray(z).reshape(-1, 4), np.asarray(codes).ravel()
    used = np.unique(codes)
    means = np.stack([flat[codes == k].mean(0) for k in used])
    book = np.asarray(last.params['vqvae'][f'codebook_{name}'])[used]
    np.testing.assert_allclose(book, means, rtol=1e-3, atol=1e-6)
    assert metrics[f'model/usage_{name}'] == len(used) / 8
    np.testing.assert_allclose(metrics[f'model/perplexity_{name}'], losses.perplexity(codes, 8), rtol=1e-5)


def test_a_collapse_is_seen_in_the_metrics_and_mended(forgetful):
  step, state, batch, _ = forgetful
  far = jnp.full((8, 4), 1e3).at[0].set(0)
  books = {name: {'counts': jnp.ones(8), 'sums': far} for name in level_names(2)}
  after, metrics = step(jax.random.key(4), state.replace(extra={'codebooks': books}), batch)
  for name in level_names(2):
    assert metrics[f'model/usage_{name}'] == 1 / 8
    assert metrics[f'model/perplexity_{name}'] == 1
    new = after.extra['codebooks'][name]
    assert (new['counts'] > 0.03 * new['counts'].mean()).all()
    assert jnp.abs(losses.codebook_vectors(**new)).max() < 10


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'model.vqvae.strides': (3,)}, 'powers of two'),
    ({'model.codebook': 'gradients'}, "did you mean 'gradient'"),
    ({'model.restart': 0.1}, 'running means'),
    ({'data.preprocess': 'dequantize'}, "'scale'"),
  ],
)
def test_a_setting_that_makes_no_sense_is_named(changes, message):
  settings = config('vqvae_mnist', 'tiny')
  settings.update_from_flattened_dict(changes)
  with pytest.raises(UserError, match=message):
    systems.build(settings)
