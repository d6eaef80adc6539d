"""What each latent answers to: originals, reconstructions, traversals by divergence, and maps over the position.

Axes: Z latents, T steps of a traversal, P values of a position.
"""

from collections.abc import Callable

import numpy as np
from ml_collections import ConfigDict

from dgm_jax import data
from dgm_jax.core import Key, State, System
from dgm_jax.data.factors import Simulator
from dgm_jax.evals import disentanglement
from dgm_jax.pictures import gallery
from dgm_jax.runs.subject import Subject
from dgm_jax.runtime import parallel
from dgm_jax.views import fits, needs

__all__ = ['available']

PLACES = (('x', 'y'), ('label_x_position', 'label_y_position'))
DRAWS = 8  # images of each place that a map is the mean of
STEPS = 8


def available(system: System, config: ConfigDict) -> dict[str, Callable]:
  """Returns the picture 'latents', draw(key, state, x, to_uint8), if the system and the data allow it."""
  if config.data.name not in ('sprites', 'sprites_color', 'dsprites') or not fits(system, latents):
    return {}

  def draw(key: Key, state: State, x: np.ndarray, to_uint8: gallery.ToUint8) -> np.ndarray:
    subject = Subject(config, system, state, data.Split('', 0, {}), parallel.mesh())
    codes_of = disentanglement.coder(
      disentanglement.encoder(subject, 'encode'), simulator := data.simulator(config.data)
    )
    return latents(key, system, state, x, to_uint8, maps(codes_of, simulator))

  return {'latents': draw}


def maps(codes_of: disentanglement.CodesOf, simulator: Simulator, seed: int = 0) -> np.ndarray:
  """Computes the mean code of a few images at every position, [Z, P down, P across]."""
  across, down = next(tuple(map(simulator.names.index, names)) for names in PLACES if names[0] in simulator.names)
  columns, rows = simulator.sizes[across], simulator.sizes[down]
  factors = disentanglement.draw(np.random.default_rng(seed), simulator.sizes, DRAWS)
  every = np.tile(factors[:, None, None], (1, rows, columns, 1))
  every[..., across] = np.arange(columns)
  every[..., down] = np.arange(rows)[:, None]
  z = codes_of(every.reshape(-1, len(simulator.sizes)))
  return np.moveaxis(z.reshape(DRAWS, rows, columns, -1).mean(0), -1, 0)


@needs('encode', 'decode', 'prior', 'reconstruct', 'kl_per_dim')
def latents(
  key: Key, system: System, state: State, x: np.ndarray, to_uint8: gallery.ToUint8, heat: np.ndarray
) -> np.ndarray:
  """Draws rows of images: originals, reconstructions, one traversal a latent, those of most divergence on top.

  Traversals go from one of `gallery.ends` to the other. The images of a row differ from the code of the first image in
  one latent. Beside each traversal is the map of its latent over the position. It is red if the mean code is positive
  and blue if it is negative, on one scale for all.

  Args:
    key: for encoders that are random.
    system: with the views `encode`, `decode`, `prior`, `reconstruct` and `kl_per_dim`.
    state: the trained state.
    x: [B, H, W, C] in the model's space, B >= 8.
    to_uint8: from the model's space to pixels.
    heat: [Z, P, P], `maps`.

  Returns:
    uint8 [height, width, 3].

  Reference: Burgess et al. 2018, arXiv:1804.03599, figures 2 and 7.
  """
  call = lambda view, x: gallery.call(getattr(system.views, view), state, key, state, x)
  order = np.argsort(-call('kl_per_dim', x).mean(0), kind='stable')
  z, shown = call('encode', x)[0], x[:STEPS]
  moved = np.tile(z, (len(order), STEPS, 1))
  moved[np.arange(len(order)), :, order] = np.linspace(*gallery.ends(key, system, state, order), STEPS, dtype=z.dtype).T
  decoded = call('decode', moved.reshape(-1, len(z)))
  images = np.concatenate([_rgb(to_uint8(part)) for part in (shown, call('reconstruct', shown), decoded)])
  cells = images.reshape(len(order) + 2, STEPS, *images.shape[1:])
  blank = np.full_like(cells[:2, 0], gallery.BACKGROUND)
  coloured = _heat(heat[order] / max(float(np.abs(heat).max()), 1e-6), images.shape[1:3])
  beside = np.concatenate([blank, coloured])[:, None]
  return gallery.grid(np.concatenate([cells, beside], 1).reshape(-1, *images.shape[1:]), STEPS + 1, scale=1)


def _rgb(images: np.ndarray) -> np.ndarray:
  images = np.asarray(images)
  return np.repeat(images, 3, -1) if images.shape[-1] == 1 else images


def _heat(values: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
  """Renders maps [n, P, P] in [-1, 1], blue to white to red, as images uint8 [n, *size, 3]."""
  rows, columns = (np.arange(n) * p // n for n, p in zip(size, values.shape[1:], strict=True))
  shown = values[:, rows][:, :, columns]
  fade = 1 - np.abs(shown)
  channels = np.where(shown > 0, 1, fade), fade, np.where(shown < 0, 1, fade)
  return np.round(255 * np.stack(channels, -1)).astype(np.uint8)
