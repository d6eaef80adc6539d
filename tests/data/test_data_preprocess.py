"""Pixels to model space: exact ends, exact probabilities, noise that only key or index can change."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from dgm_jax import data
from dgm_jax.data import preprocess
from dgm_jax.errors import UserError
from dgm_jax.internal import noise

EVERY_LEVEL = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)


def _batch(rows, seed=0):
  x = np.random.default_rng(seed).integers(0, 256, (rows, 5, 3, 1)).astype(np.uint8)
  return {'x': jnp.asarray(x), 'index': jnp.arange(rows, dtype=jnp.int32)}


def _apply(name, batch, seed=0):
  return np.asarray(jax.jit(preprocess.find(name))(jax.random.key(seed), batch)['x'])


@pytest.mark.parametrize(
  ('key', 'counter', 'words'),
  [
    ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
    ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
    ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
  ],
)
def test_threefry_known_answers(key, counter, words):
  """The vectors that the authors of the cipher publish with it."""
  one = lambda pair: tuple(jnp.array([word], jnp.uint32) for word in pair)
  assert tuple(int(word[0]) for word in noise.threefry(one(key), one(counter))) == words


def test_words_are_uniform_and_uncorrelated():
  """Mean, variance and correlations with the next column and row, each within 4 standard errors of n words."""
  words = np.asarray(noise.words16(jax.random.key(3), jnp.arange(400), 402), np.float64)
  assert words.shape == (400, 402)
  assert words.min() >= 0
  assert words.max() < 65536
  u, n = words / 65536 - 0.5 + 2**-17, words.size
  assert abs(u.mean()) < 4 * np.sqrt(1 / 12 / n)
  assert abs((u**2).mean() - 1 / 12) < 4 * np.sqrt(1 / 180 / n)
  for a, b in [(u[:, 1:], u[:, :-1]), (u[1:], u[:-1]), (u[:, 2:], u[:, :-2])]:
    assert abs((a * b).mean()) < 4 / 12 / np.sqrt(a.size)


@pytest.mark.parametrize('kind', ['threefry2x32', 'rbg'])
def test_words_take_any_key(kind):
  words = noise.words16(jax.random.key(0, impl=kind), jnp.arange(3), 5)
  other = noise.words16(jax.random.key(1, impl=kind), jnp.arange(3), 5)
  assert (words != other).mean() > 0.9


def test_scale_reaches_both_ends_exactly():
  batch = {'x': jnp.asarray(EVERY_LEVEL)}
  x = _apply('scale', batch).ravel()
  assert (x[0], x[255], x.dtype) == (0, 1, np.float32)
  np.testing.assert_allclose(x, np.arange(256) / 255, rtol=1e-6)
  s = _apply('scale_symmetric', batch).ravel()
  assert (s[0], s[255]) == (-1, 1)
  np.testing.assert_allclose(s, (np.arange(256) - 127.5) / 127.5, rtol=1e-6)


def test_threshold_is_at_half():
  np.testing.assert_array_equal(_apply('threshold', {'x': jnp.asarray(EVERY_LEVEL)}).ravel(), np.arange(256) > 127.5)


def test_identity_keeps_floats():
  x = np.array([[-3.5, 1e20]], np.float32)
  np.testing.assert_array_equal(_apply('identity', {'x': jnp.asarray(x)}), x)


def test_binarization_has_the_promised_probability(monkeypatch):
  """Over all 65536 words: within 2^-17 of v / 255, and 0 and 1 at the ends."""
  every_word = jnp.arange(65536, dtype=jnp.uint32)[:, None]
  monkeypatch.setattr(preprocess, 'words16', lambda key, rows, n: jnp.broadcast_to(every_word, (65536, n)))
  x = jnp.broadcast_to(jnp.arange(256, dtype=jnp.uint8)[None, :, None, None], (65536, 256, 1, 1))
  drawn = preprocess.dynamic_binarize(jax.random.key(0), {'x': x})['x']
  probability = np.asarray(drawn, np.float64).mean(0).ravel()
  assert (probability[0], probability[255]) == (0, 1)
  assert np.abs(probability - np.arange(256) / 255).max() <= 2**-17


@pytest.mark.parametrize('name', ['dynamic_binarize', 'static_binarize'])
def test_binarization_frequencies(name):
  """Each level over 4096 images within 4 standard errors; levels 0 and 255 without exception."""
  n = 4096
  batch = {'x': jnp.asarray(np.repeat(EVERY_LEVEL, n, 0)), 'index': jnp.arange(n)}
  x = _apply(name, batch)
  assert set(np.unique(x)) == {0, 1}
  mean, p = x.mean(0).ravel(), np.arange(256) / 255
  assert (mean[0], mean[255]) == (0, 1)
  assert (np.abs(mean - p) <= 4 * np.sqrt(p * (1 - p) / n) + 2**-17).all()


@pytest.mark.parametrize('name', ['dequantize', 'static_dequantize'])
def test_dequantization_is_uniform_in_its_cell(name):
  """x in [0, 1), its pixel recovered, and 16 bins of the cell each within 4.5 standard errors."""
  n = 1024
  batch = {'x': jnp.asarray(np.repeat(EVERY_LEVEL, n, 0)), 'index': jnp.arange(n)}
  x = _apply(name, batch).astype(np.float64)
  assert x.min() >= 0
  assert x.max() < 1
  np.testing.assert_array_equal(np.floor(256 * x), np.repeat(EVERY_LEVEL, n, 0))
  np.testing.assert_array_equal(preprocess.to_uint8(name, x.astype(np.float32)), batch['x'])
  counts, expected = np.histogram(256 * x % 1, 16, (0, 1))[0], x.size / 16
  np.testing.assert_allclose(counts, expected, atol=4.5 * np.sqrt(expected * 15 / 16))


def test_symmetric_dequantization_is_the_other_one_from_minus_one_to_one():
  batch = _batch(8)
  np.testing.assert_array_equal(_apply('dequantize_symmetric', batch), 2 * _apply('dequantize', batch) - 1)


def test_last_dequantized_value_stays_below_one(monkeypatch):
  monkeypatch.setattr(preprocess, 'words16', lambda key, rows, n: jnp.full((1, n), 65535, jnp.uint32))
  x = preprocess.dequantize(jax.random.key(0), {'x': jnp.full((1, 1, 1, 1), 255, jnp.uint8)})['x']
  assert float(x[0, 0, 0, 0]) == 1 - 2**-24


@pytest.mark.parametrize('name', ['dynamic_binarize', 'dequantize', 'dequantize_symmetric'])
def test_fresh_noise_follows_the_key(name):
  batch = _batch(8)
  np.testing.assert_array_equal(_apply(name, batch, 1), _apply(name, batch, 1))
  assert (_apply(name, batch, 1) != _apply(name, batch, 2)).any()
  same = {'x': jnp.full((2, 5, 3, 1), 128, jnp.uint8), 'index': jnp.zeros(2, jnp.int32)}
  assert (_apply(name, same)[0] != _apply(name, same)[1]).any()


@pytest.mark.parametrize('name', ['static_binarize', 'static_dequantize'])
def test_static_noise_follows_the_example_alone(name):
  batch = _batch(12)
  whole = _apply(name, batch)
  np.testing.assert_array_equal(_apply(name, batch, 99), whole)
  chosen = np.array([7, 2, 2, 11, 0])
  some = {key: value[chosen] for key, value in batch.items()}
  np.testing.assert_array_equal(_apply(name, some), whole[chosen])
  moved = batch | {'index': batch['index'] + 100}
  assert (_apply(name, moved) != whole).any()


def test_static_noise_golden():
  """Test figures depend on these bits for ever."""
  x = jnp.full((2, 4, 3, 1), 128, jnp.uint8)
  drawn = _apply('static_binarize', {'x': x, 'index': jnp.array([0, 59999])})
  assert [''.join(str(int(bit)) for bit in row.ravel()) for row in drawn] == ['100000100001', '111100000100']


@pytest.mark.parametrize('name', ['dynamic_binarize', 'static_binarize', 'dequantize', 'static_dequantize'])
def test_sharding_changes_nothing_and_costs_no_communication(name):
  batch = _batch(16)
  mesh = jax.make_mesh((8,), ('data',), axis_types=(AxisType.Auto,))
  sharded = jax.device_put(batch, NamedSharding(mesh, PartitionSpec('data')))
  key = jax.device_put(jax.random.key(4), NamedSharding(mesh, PartitionSpec()))
  compiled = jax.jit(preprocess.find(name)).lower(key, sharded).compile()
  x = compiled(key, sharded)['x']
  assert x.sharding.spec == PartitionSpec('data')
  np.testing.assert_array_equal(x, _apply(name, batch, 4))
  assert not [kind for kind in ('all-', 'collective-', 'reduce-scatter') if kind in compiled.as_text()]


def test_evaluation_has_no_fresh_noise():
  counterpart = {'dynamic_binarize': 'static_binarize', 'dequantize': 'static_dequantize'}
  counterpart['dequantize_symmetric'] = 'scale_symmetric'
  for name in preprocess.NAMES:
    assert preprocess.for_evaluation(name) == counterpart.get(name, name)
    batch = _batch(3)
    fixed = preprocess.for_evaluation(name)
    np.testing.assert_array_equal(_apply(fixed, batch, 0), _apply(fixed, batch, 1))


@pytest.mark.parametrize(
  'name', ['scale', 'scale_symmetric', 'dequantize', 'static_dequantize', 'dequantize_symmetric']
)
def test_to_uint8_inverts(name):
  batch = {'x': jnp.asarray(EVERY_LEVEL), 'index': jnp.zeros(1, jnp.int32)}
  back = preprocess.to_uint8(name, preprocess.find(name)(jax.random.key(0), batch)['x'])
  assert back.dtype == jnp.uint8
  np.testing.assert_array_equal(back, EVERY_LEVEL)


@pytest.mark.parametrize('name', preprocess.GRID)
def test_noise_and_grid_have_the_step_of_the_data(name):
  """The built-in digits have 17 levels: noise fills a 17th of the range, and a grid has 16 steps."""
  split = data.load(types.SimpleNamespace(name='digits', size=0, channels=0, invert=False, preprocess=name), 'test')
  grey = np.round(split.arrays['x'].astype(float) * 16 / 255)  # 0 to 16
  assert split.levels == 17 and len(np.unique(split.arrays['x'])) == 17
  batch = {'x': jnp.asarray(split.arrays['x']), 'index': jnp.arange(split.size)}
  x = np.asarray(preprocess.find(name, split.levels)(jax.random.key(0), batch)['x'], np.float64)
  if name == 'scale_symmetric':
    np.testing.assert_allclose(x, grey / 8 - 1, atol=1e-6)
  else:
    level = 17 * ((x + 1) / 2 if 'symmetric' in name else x)
    np.testing.assert_array_equal(np.floor(level), grey)
    assert 0.45 < (level - grey).mean() < 0.55 and (level - grey).std() == pytest.approx(12**-0.5, rel=0.02)
  np.testing.assert_array_equal(preprocess.to_uint8(name, jnp.asarray(x, jnp.float32), 17), split.arrays['x'])


def test_levels_are_those_of_the_data_where_they_are_kept():
  asked = {'name': 'digits', 'size': 0, 'channels': 3, 'invert': True, 'preprocess': 'dequantize'}
  levels = lambda **changes: data.load(types.SimpleNamespace(**asked | changes), 'test').levels
  assert (levels(), levels(size=4)) == (17, 256)  # resized, they are all between
  np.testing.assert_array_equal(
    preprocess.find('dequantize')(jax.random.key(0), _batch(3))['x'],
    preprocess.dequantize(jax.random.key(0), _batch(3))['x'],
  )


def test_to_uint8_clips_and_keeps_grey():
  np.testing.assert_array_equal(preprocess.to_uint8('dynamic_binarize', jnp.array([-1.0, 0.4, 2.0])), [0, 102, 255])
  np.testing.assert_array_equal(preprocess.to_uint8('scale_symmetric', jnp.array([-9.0, 9.0])), [0, 255])
  np.testing.assert_array_equal(preprocess.to_uint8('dequantize', jnp.array([-0.1, 1.0])), [0, 255])


@pytest.mark.parametrize('name', [name for name in preprocess.NAMES if name != 'identity'])
def test_floats_are_refused(name):
  batch = {'x': jnp.zeros((2, 3, 3, 1)), 'index': jnp.arange(2)}
  with pytest.raises(ValueError, match="takes uint8 pixels, got float32: use 'identity' for floats"):
    preprocess.find(name)(jax.random.key(0), batch)


@pytest.mark.parametrize(
  ('name', 'hint'), [('dynamic_binarise', "did you mean 'dynamic_binarize'"), ('jax', 'there are')]
)
def test_unknown_name(name, hint):
  with pytest.raises(UserError, match=f'no preprocessing named {name!r}.*{hint}'):
    preprocess.find(name)


def test_odd_number_of_pixels_and_color():
  x = jnp.full((3, 3, 3, 3), 255, jnp.uint8)
  np.testing.assert_array_equal(_apply('dynamic_binarize', {'x': x}), np.ones((3, 3, 3, 3)))
