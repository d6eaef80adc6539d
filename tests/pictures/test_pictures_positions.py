"""The picture of latents: what is in which row, in which order, and what the maps over the position show."""

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from dgm_jax import data
from dgm_jax.core import State, System
from dgm_jax.data.factors import Simulator
from dgm_jax.pictures import gallery, positions
from dgm_jax.views import Prior, Views

KEY = jax.random.key(0)
STATE = State(jnp.zeros((), jnp.int32), {}, {}, {})
KL = jnp.asarray([0.5, 3.0, 1.0])
X = np.random.default_rng(0).random((8, 16, 16, 1)).astype(np.float32)


def to_uint8(x):
  return np.asarray(jnp.clip(jnp.round(255 * x), 0, 255)).astype(np.uint8)


def system():
  """Codes are means of the image's rows 0 to 2; the decoder paints code d, over 10 and around a half, on row d."""

  def decode(key, state, z):
    del key, state
    rows = jnp.zeros((z.shape[0], 16, 16, 1))
    return rows.at[:, :3].set((0.5 + z / 10)[:, :, None, None])

  views = Views(
    encode=lambda key, state, x: x[:, :3].mean((2, 3)), decode=decode, prior=Prior(None, normal=True),
    reconstruct=lambda key, state, x: 1 - x, kl_per_dim=lambda key, state, x: jnp.tile(KL, (x.shape[0], 1)),
  )  # fmt: skip
  return System(None, None, None, None, views)


def cells(image):
  """[rows, columns, 16, 16, 3] of a picture of cells of 16 pixels, a pixel apart."""
  rows, columns = (length // 17 for length in image.shape[:2])
  return np.stack(
    [[image[1 + 17 * i : 17 + 17 * i, 1 + 17 * j : 17 + 17 * j] for j in range(columns)] for i in range(rows)]
  )


def test_rows_are_originals_reconstructions_and_traversals_by_divergence():
  heat = np.zeros((3, 4, 4))
  heat[1], heat[2, :, :2] = np.linspace(-2, 2, 4)[None], -1
  shown = cells(positions.latents(KEY, system(), STATE, X, to_uint8, heat))
  assert shown.shape == (5, 9, 16, 16, 3)
  np.testing.assert_array_equal(shown[0, :8, ..., 0], to_uint8(X)[..., 0])
  np.testing.assert_array_equal(shown[1, :8, ..., 0], to_uint8(1 - X)[..., 0])
  assert (shown[:2, 8] == gallery.BACKGROUND).all()
  for row, latent in enumerate((1, 2, 0)):
    moved = shown[2 + row, :8, :3, 0, 0].astype(float) / 255
    expected = np.tile(0.5 + X[0, :3].mean((1, 2)) / 10, (8, 1))
    expected[:, latent] = 0.5 + np.linspace(-3, 3, 8) / 10
    np.testing.assert_allclose(moved, expected, atol=1 / 255)
  # The scale of all maps is that of the greatest: blue, light blue, light red, red from left to right.
  np.testing.assert_array_equal(shown[2, 8, 0, ::5], [[0, 0, 255], [170, 170, 255], [255, 170, 170], [255, 0, 0]])
  np.testing.assert_array_equal(shown[3, 8, 0, ::15], [[128, 128, 255], [255, 255, 255]])
  assert (shown[4, 8] == 255).all()


def test_maps_are_means_over_the_other_factors_at_every_place():
  simulator = Simulator(('kind', 'x', 'y'), (7, 5, 3), None, True)
  codes_of = lambda factors: np.stack([factors[:, 1], 10 * factors[:, 2], factors[:, 0]], 1).astype(float)
  found = positions.maps(codes_of, simulator)
  assert found.shape == (3, 3, 5)
  np.testing.assert_allclose(found[0], np.tile(np.arange(5), (3, 1)))
  np.testing.assert_allclose(found[1], np.tile(10 * np.arange(3)[:, None], (1, 5)))
  assert found[2].std() < 1e-12


def test_it_is_drawn_for_sprites_and_for_nothing_else():
  config = ConfigDict(
    {
      'data': {'name': 'sprites', 'preprocess': 'scale', 'levels': 256, 'size': 16, 'channels': 0, 'invert': False},
      'seed': 0,
    }
  )
  drawn = positions.available(system(), config)['latents'](KEY, STATE, X, to_uint8)
  assert drawn.shape == (5 * 17 + 1, 9 * 17 + 1, 3)
  assert data.simulator(config.data).names[3:] == ('x', 'y')
  assert not positions.available(System(None, None, None, None), config)
  config.data.name = 'digits'
  assert not positions.available(system(), config)
