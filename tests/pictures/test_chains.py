"""Pictures of diffusion models: which images stand where."""

import jax
import numpy as np
import pytest
from playing import begun, settings_of

from dgm_jax.data import preprocess
from dgm_jax.pictures import chains, gallery

KEY = jax.random.key(0)


@pytest.fixture(scope='module')
def toy():
  settings = settings_of('deep_diffusion_toy:tiny')
  return settings, *begun(settings)


def cells_of(image, columns):
  """The images of a grid with an edge of 4 pixels, 14 times as large, and a padding of 1."""
  rows = (image.shape[0] // 14 - 1) // 5
  small = image[::14, ::14]
  return np.stack([
    [small[5 * r + 1 : 5 * r + 5, 5 * c + 1 : 5 * c + 5] for c in range(columns)] for r in range(rows)
  ])  # fmt: skip


def test_forward_chains_stand_above_reverse_ones(toy):
  settings, system, state, batch = toy
  to_uint8 = preprocess.pixels(settings.data)
  image = chains.available(system)['chains'](KEY, state, np.asarray(batch['x']), to_uint8)
  both = np.asarray(jax.jit(system.views.chains)(KEY, state, batch['x']))  # [2, 5, 4, ...]
  cells = cells_of(image, 5)
  assert cells.shape == (8, 5, 4, 4, 1)
  np.testing.assert_allclose(cells[1, 3], np.int32(to_uint8(both[0, 3, 1])), atol=1)
  np.testing.assert_allclose(cells[6, 0], np.int32(to_uint8(both[1, 0, 2])), atol=1)


def test_completions_stand_between_what_is_known_and_the_image(toy):
  settings, system, state, batch = toy
  to_uint8 = preprocess.pixels(settings.data)
  cells = cells_of(chains.available(system)['completions'](KEY, state, np.asarray(batch['x']), to_uint8), 6)
  pixels = np.asarray(to_uint8(batch['x']))
  np.testing.assert_array_equal(cells[:, 5], pixels)
  np.testing.assert_array_equal(cells[0, 0, :2], pixels[0, :2])
  np.testing.assert_array_equal(cells[1, 0, :, :2], pixels[1, :, :2])
  assert (cells[0, 0, 2:] == 128).all() and (cells[1, 0, :, 2:] == 128).all()
  for draw in range(1, 5):
    np.testing.assert_array_equal(cells[0, draw, :2], pixels[0, :2])
    np.testing.assert_array_equal(cells[3, draw, :, :2], pixels[3, :, :2])
  assert (cells[0, 1] != cells[0, 2]).any()


def test_images_without_noise_stand_below_noisy_ones(toy):
  settings, system, state, batch = toy
  to_uint8 = preprocess.pixels(settings.data)
  cells = cells_of(chains.available(system)['denoised'](KEY, state, np.asarray(batch['x']), to_uint8), 4)
  assert cells.shape[:2] == (6, 4)
  for row in (0, 3):
    np.testing.assert_array_equal(cells[row], to_uint8(batch['x']))
  apart = lambda row: np.abs(np.int32(cells[row]) - np.int32(cells[0])).mean()
  assert apart(1) > apart(4) > 0 and (cells[2] != cells[1]).any()


@pytest.mark.parametrize(('width', 'shape'), [(2, (2 * 257 + 1, 5 * 257 + 1, 3)), (3, None)])
def test_chains_of_points_are_clouds_or_rows(width, shape, monkeypatch):
  random = np.random.default_rng(0)
  x = random.normal(size=(20, width)).astype('f4')
  both = random.normal(size=(2, 5, 20, width)).astype('f4')
  monkeypatch.setattr(chains, 'call', lambda *args: both)

  class System:
    class views:
      chains = None

  image = chains.chains(KEY, System, None, x, None)
  if shape:
    assert image.shape == shape
  else:  # six of the twenty as rows of an image, each pixel magnified
    expected = gallery.grid(np.uint8(np.clip(np.round(255 * both[:, :, :6]), 0, 255)).reshape(10, 6, 3, 1), 5)
    np.testing.assert_array_equal(image, expected)
