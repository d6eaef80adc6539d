"""Pictures of styles: mixed images, images that differ in noise alone, truncation, and paths of styles.

Axes: B batch, L layers, W styles.
"""

import itertools
from collections.abc import Callable

import numpy as np

from dgm_jax.core import Key, State, System
from dgm_jax.pictures.gallery import BACKGROUND, ToUint8, call, grid, linear
from dgm_jax.views import fits, needs

__all__ = ['available']

PSI = (-1.0, -0.5, 0.0, 0.25, 0.5, 0.75, 1.0)
COARSE, MIDDLE = 4, 8  # the first middle layer, of 16 x 16 pixels, and the first fine one, of 64 x 64


def blocks(layers: int) -> list[tuple[int, int]]:
  """Returns the first and the last layer + 1 of coarse, middle and fine styles.

  They are those of 4 to 8, of 16 to 32, and of more pixels a side. Networks of up to 32 pixels have a part for each of
  their last two sizes, and one for the rest.
  """
  ends = [0, COARSE, MIDDLE, layers] if layers > MIDDLE else [0, layers - 4, layers - 2, layers]
  return [(start, end) for start, end in itertools.pairwise(ends) if end > start >= 0]


@needs('prior', 'map_latents', 'styles', 'synthesize')
def mixing(key: Key, system: System, state: State, x: np.ndarray, to_uint8: ToUint8, edge: int = 6) -> np.ndarray:
  """Draws a grid for coarse, middle and fine styles, from the top: rows of one source, columns of the other.

  The first column has the sources of the rows, the first row those of the columns. Inside, an image has the styles of
  its column in the layers of the grid, and those of its row elsewhere. All have the same noise. x is not used.

  Reference: Karras et al. 2019, arXiv:1812.04948, figure 3.
  """
  del x
  styles = _styles(key, system, state, 2 * edge)
  rows, columns = styles[:edge], styles[edge:]
  parts = []
  for start, end in blocks(styles.shape[1]):
    cells = np.tile(rows[:, None], (1, edge + 1, 1, 1))  # [rows, 1 + columns, L, W]
    cells[:, 1:, start:end] = columns[None, :, start:end]
    parts += [np.concatenate([columns[:1], columns])[None], cells]
  cells = np.concatenate(parts)
  images = np.array(to_uint8(_images(key, system, state, cells.reshape(-1, *styles.shape[1:]))))
  images[:: (edge + 1) * (edge + 1)] = np.uint8(BACKGROUND)  # the corners
  return grid(images, edge + 1, scale=max(1, 32 // images.shape[1]))


@needs('prior', 'map_latents', 'styles', 'synthesize')
def noise(key: Key, system: System, state: State, x: np.ndarray, to_uint8: ToUint8, draws: int = 32) -> np.ndarray:
  """Draws a row for each of four images: eight draws of noise, and the deviation of the pixels over 32 draws.

  Below are the first image's deviations with noise in all layers, in those of 16 or more pixels a side, in the others,
  and in none. Brightness is deviation, with the greatest of all white. x is not used.

  Reference: Karras et al. 2019, arXiv:1812.04948, figures 4 and 5.
  """
  del x
  styles = _styles(key, system, state, 4)
  layer = np.arange(styles.shape[1])
  on = np.float32(1) * np.stack([layer >= 0, layer >= COARSE, layer < COARSE, layer < 0])
  draw = lambda w, strength: _images(key, system, state, np.tile(w[None], (draws, 1, 1)), np.arange(draws), strength)
  shown = [draw(w, on[0]) for w in styles]
  deviations = [images.std(0) for images in shown] + [draw(styles[0], strength).std(0) for strength in on]
  bright = lambda deviation: np.round(255 * deviation / max(np.max(deviations), 1e-6)).astype(np.uint8)
  rows = [
    np.concatenate([to_uint8(images[:8]), bright(own)[None]]) for images, own in zip(shown, deviations, strict=False)
  ]
  last = np.full_like(rows[0], BACKGROUND)
  last[:4] = [bright(deviation) for deviation in deviations[4:]]
  return grid(np.concatenate([*rows, last]), 9)


@needs('prior', 'map_latents', 'styles', 'synthesize')
def truncations(key: Key, system: System, state: State, x: np.ndarray, to_uint8: ToUint8, rows: int = 6) -> np.ndarray:
  """Draws a row for each of six latents, with psi from -1 to 1: at 0 there is the mean style. x is not used.

  Reference: Karras et al. 2019, arXiv:1812.04948, figure 8.
  """
  del x
  w = np.repeat(_mapped(key, system, state, rows), len(PSI), 0)
  psi = np.tile(np.float32(PSI), rows)
  styles = call(system.views.styles, state, key, state, w, psi)
  return grid(to_uint8(_images(key, system, state, styles)), len(PSI))


@needs('prior', 'map_latents', 'synthesize')
def style_walks(
  key: Key, system: System, state: State, x: np.ndarray, to_uint8: ToUint8, rows: int = 8, steps: int = 10
) -> np.ndarray:
  """Draws rows of images whose styles lie on straight lines between those of two latents. x is not used."""
  del x
  w = _mapped(key, system, state, 2 * rows)
  path = linear(w[::2], w[1::2], np.linspace(0, 1, steps, dtype=w.dtype))
  return grid(to_uint8(_images(key, system, state, path.reshape(rows * steps, 1, -1))), steps)


PICTURES = {'mixing': mixing, 'noise': noise, 'truncations': truncations, 'style_walks': style_walks}


def available(system: System) -> dict[str, Callable[[Key, State, np.ndarray, ToUint8], np.ndarray]]:
  """Returns the pictures that a system's views allow, name -> draw(key, state, x, to_uint8)."""
  bind = lambda draw: lambda key, state, x, to_uint8: draw(key, system, state, x, to_uint8)
  return {name: bind(draw) for name, draw in PICTURES.items() if fits(system, draw)}


def _mapped(key: Key, system: System, state: State, n: int) -> np.ndarray:
  z = call(system.views.prior.sample, state, key, state, n, static=(2,))
  return call(system.views.map_latents, state, key, state, z)


def _styles(key: Key, system: System, state: State, n: int) -> np.ndarray:
  return call(system.views.styles, state, key, state, _mapped(key, system, state, n), np.ones(n, np.float32))


def _images(
  key: Key,
  system: System,
  state: State,
  styles: np.ndarray,
  number: np.ndarray | None = None,
  strength: np.ndarray | None = None,
) -> np.ndarray:
  """Returns the images of styles [B, L, W], with the same noise if no numbers are given."""
  number = np.zeros(len(styles)) if number is None else number
  strength = np.ones(()) if strength is None else strength
  return call(system.views.synthesize, state, key, state, styles, number.astype('i4'), strength.astype('f4'))
