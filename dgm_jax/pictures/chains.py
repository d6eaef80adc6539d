"""Pictures of diffusion models: the forward chain above the reverse one, images completed and without noise.

Axes: B images, H height, W width, C channels, T times.
"""

import math
from collections.abc import Callable, Sequence

import jax.numpy as jnp
import numpy as np

from dgm_jax.core import Key, State, System
from dgm_jax.pictures import plane
from dgm_jax.pictures.gallery import ToUint8, call, grid
from dgm_jax.views import fits, needs

__all__ = ['available']

POINTS = 2000  # of the plane, most


@needs('chains')
def chains(key: Key, system: System, state: State, x: np.ndarray, to_uint8: ToUint8, rows: int = 4) -> np.ndarray:
  """Draws x [B, ...] with ever more noise, from step 0 to T, and below it a sample at the same steps.

  The samples are to be read from right to left. Points of the plane are clouds, and other points rows of an image.

  Reference: Sohl-Dickstein et al. 2015, arXiv:1503.03585, figures 1 and 2.
  """
  if x.ndim > 2:
    both = call(system.views.chains, state, key, state, x[:rows])
    cells = np.asarray(to_uint8(both.swapaxes(1, 2).reshape(-1, *x.shape[1:])))
    return grid(cells, both.shape[1])
  both = call(system.views.chains, state, key, state, x[:POINTS])
  if x.shape[1] == 2:
    reach = 1.5 * float(np.abs(x).max())
    nothing = lambda points: np.zeros(len(points), np.float32)
    cells = [plane.draw(x[:0], points, nothing, reach) for row in both for points in row]
    return grid(np.stack(cells), both.shape[1])
  bits = np.clip(np.round(255 * both[:, :, : 2 * x.shape[1]]), 0, 255).astype(np.uint8)
  return grid(bits.reshape(-1, *bits.shape[2:], 1), both.shape[1])


@needs('complete')
def completions(
  key: Key, system: System, state: State, x: np.ndarray, to_uint8: ToUint8, rows: int = 8, draws: int = 4
) -> np.ndarray:
  """Draws rows of the known half of an image of x [B, H, W, C], completions of it, and the image.

  The upper half of an image is known in every other row, and the left half in the others.

  Reference: Sohl-Dickstein et al. 2015, arXiv:1503.03585, figure 5; van den Oord et al. 2016,
    arXiv:1601.06759, figure 9.
  """
  x = x[:rows]
  _, height, width, _ = x.shape
  mask = np.zeros(x.shape[:3], bool)
  mask[::2, : math.ceil(height / 2)] = True
  mask[1::2, :, : math.ceil(width / 2)] = True
  many = lambda array: np.repeat(array, draws, 0)
  completed = call(system.views.complete, state, key, state, many(x), jnp.asarray(many(mask)))
  pixels = np.asarray(to_uint8(x))
  half = np.where(mask[..., None], pixels, np.uint8(128))
  completed = np.asarray(to_uint8(completed)).reshape(len(x), draws, *pixels.shape[1:])
  cells = np.concatenate([half[:, None], completed, pixels[:, None]], 1)
  return grid(cells.reshape(-1, *pixels.shape[1:]), draws + 2)


@needs('denoise')
def denoised(key: Key, system: System, state: State, x: np.ndarray, to_uint8: ToUint8, columns: int = 8) -> np.ndarray:
  """Draws rows of images x [B, H, W, C], of them with as much noise as signal, and of samples given the noisy ones.

  The noise is less by half in a second group of rows.

  Reference: Sohl-Dickstein et al. 2015, arXiv:1503.03585, figure 3.
  """
  x, rows = x[:columns], []
  for share in (1.0, 0.5):
    deviation = np.float32(share * x.std())
    noisy = x + deviation * np.random.default_rng(0).standard_normal(x.shape, np.float32)
    rows += [x, noisy, call(system.views.denoise, state, key, state, noisy, deviation)]
  return grid(np.asarray(to_uint8(np.concatenate(rows))), len(x))


def available(
  system: System, names: Sequence[str] = ('chains', 'completions', 'denoised')
) -> dict[str, Callable[[Key, State, np.ndarray, ToUint8], np.ndarray]]:
  """Returns those of the pictures that a system's views allow, name -> draw(key, state, x, to_uint8)."""
  bind = lambda draw: lambda key, state, x, to_uint8: draw(key, system, state, x, to_uint8)
  return {name: bind(PICTURES[name]) for name in names if fits(system, PICTURES[name])}


PICTURES = {'chains': chains, 'completions': completions, 'denoised': denoised}
