"""Pictures of a generative model: samples, reconstructions, interpolations, traversals, as uint8 grids.

Every drawing takes `to_uint8`, the map from the model's data space [n, ...] to pixels uint8 [n, h, w, c], and calls
the system's own functions under jit. JAX keeps what it compiled by function, so drawing again every few hundred
steps compiles nothing.
"""

import io
import math
import os
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from PIL import Image

from dgm_jax.core import Key, State, System
from dgm_jax.evals import plane
from dgm_jax.files import write_atomic

__all__ = ['BACKGROUND', 'ToUint8', 'available', 'grid', 'write_png']

ToUint8 = Callable[[Any], np.ndarray]
READABLE = 56  # pixels: the least edge of an image in a grid
BACKGROUND = 128  # grey, apart from both ends of a binary image
ROWS = 10  # most rows of interpolations and traversals


def grid(images: np.ndarray, columns: int | None = None, scale: int | None = None, padding: int = 1) -> np.ndarray:
  """Lays images out in rows, from the left and from the top, on grey.

  Args:
    images: [n, h, w, c] uint8.
    columns: images a row; the least square that holds them all if None.
    scale: each pixel, padding too, becomes scale x scale; as many as make an image's edge 56 long if None.
    padding: pixels of grey around every image.

  Returns:
    [(rows * (h + padding) + padding) * scale, (columns * (w + padding) + padding) * scale, c] uint8.

  Raises:
    ValueError: the images are not uint8 [n, h, w, c] with n > 0.
  """
  images = np.asarray(images)
  if images.dtype != np.uint8 or images.ndim != 4 or not len(images):
    raise ValueError(f'grid takes uint8 images [n, h, w, c] with n > 0, got {images.dtype} {list(images.shape)}')
  columns = columns or math.ceil(math.sqrt(len(images)))
  scale = scale or max(1, math.ceil(READABLE / min(images.shape[1:3])))
  n, h, w, c = images.shape
  canvas = np.full((-(-n // columns) * (h + padding) + padding, columns * (w + padding) + padding, c), BACKGROUND, 'u1')
  for i, image in enumerate(images):
    top, left = padding + i // columns * (h + padding), padding + i % columns * (w + padding)
    canvas[top : top + h, left : left + w] = image
  return canvas.repeat(scale, 0).repeat(scale, 1)


def write_png(path: str | os.PathLike, image: np.ndarray) -> None:
  """Writes uint8 [H, W, 1 or 3] as a PNG, in one piece; makes the folder if missing."""
  path, image, data = pathlib.Path(path), np.asarray(image), io.BytesIO()
  Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(data, 'png')
  path.parent.mkdir(parents=True, exist_ok=True)
  write_atomic(path, data.getvalue())


def samples(key: Key, system: System, state: State, n: int, to_uint8: ToUint8) -> np.ndarray:
  """Grid of n draws from the model, with a class to each row where it is told classes; of means, with `mean_sample`."""
  draw = system.views.get('mean_sample') or system.views.get('row_sample') or system.sample
  return grid(to_uint8(_call(draw, state, key, state, n, static=(2,))))


def game(key: Key, system: System, state: State, x: np.ndarray, to_uint8: ToUint8) -> np.ndarray:
  """Samples of a game: a grid of images, or for points x [n, D] with D = 1, 2 a map of data, samples and critic."""
  if x.ndim > 2:
    return samples(key, system, state, len(x), to_uint8)
  fake = _call(system.sample, state, key, state, len(x), static=(2,))
  return plane.draw(x, fake, lambda points: _call(system.views['critic'], state, state, points))


def density(key: Key, system: System, state: State, reach: float = 6.0, size: int = 240, n: int = 40_000) -> np.ndarray:
  """The density of points of the plane beside a histogram of n draws, on [-reach, reach]^2; the darker the more.

  Args:
    key: of the draws.
    system: with the view `log_prob`, and points [n, 2] for data.
    state: the trained state.
    reach: of the square.
    size: pixels a side.
    n: how many are drawn.

  Returns:
    uint8 [size, 2 size, 1].
  """
  line = (np.arange(size, dtype='f4') + 0.5) / size * 2 * reach - reach
  x, y = np.meshgrid(line, line[::-1])
  log_prob = _call(system.views['log_prob'], state, key, state, np.stack([x.ravel(), y.ravel()], 1))
  points = _call(system.sample, state, key, state, n, static=(2,))
  ends = np.linspace(-reach, reach, size // 3 + 1)
  counts = np.histogram2d(points[:, 1], points[:, 0], (ends, ends))[0][::-1].repeat(3, 0).repeat(3, 1)
  shade = lambda mass: (255 * (1 - np.minimum(1, mass / np.quantile(mass, 0.998)))).astype(np.uint8)
  return np.concatenate([shade(np.exp(log_prob).reshape(size, size)), shade(counts)], 1)[..., None]


def classes(key: Key, system: System, state: State, x: np.ndarray, to_uint8: ToUint8, columns: int = 10) -> np.ndarray:
  """Grid of draws of each class, a row for each; of x nothing counts."""
  del x
  return grid(to_uint8(_call(system.views['classes'], state, key, state, columns, static=(2,))), columns)


def reconstructions(
  key: Key, system: System, state: State, x: np.ndarray, to_uint8: ToUint8, columns: int = 16
) -> np.ndarray:
  """Grid of pairs of rows, the originals x [n, ...] above their reconstructions."""
  above, below = np.asarray(to_uint8(x)), np.asarray(to_uint8(_call(system.views['reconstruct'], state, key, state, x)))
  columns = min(columns, len(above))
  blank = np.full_like(above, BACKGROUND, shape=(-len(above) % columns, *above.shape[1:]))
  rows = [np.concatenate([images, blank]).reshape(-1, columns, *above.shape[1:]) for images in (above, below)]
  return grid(np.stack(rows, 1).reshape(-1, *above.shape[1:]), columns)


def levels(key: Key, system: System, state: State, x: np.ndarray, to_uint8: ToUint8, columns: int = 16) -> np.ndarray:
  """Grid of rows: the top level's codes alone, with each level below added in turn, and the originals x [n, ...]."""
  del key
  rows = _call(system.views['levels'], state, state, x[:columns])  # [levels, n, ...]
  images = np.concatenate([*rows, x[:columns]])
  return grid(np.asarray(to_uint8(images)), min(columns, len(x)))


def linear(a: np.ndarray, b: np.ndarray, t: np.ndarray) -> np.ndarray:
  """Straight lines from codes a [m, Z] to b [m, Z] at t [T] in [0, 1]: [m, T, Z]."""
  t = t[None, :, None]
  return (1 - t) * a[:, None] + t * b[:, None]


def spherical(a: np.ndarray, b: np.ndarray, t: np.ndarray) -> np.ndarray:
  """Great-circle paths from codes a [m, Z] to b [m, Z] at t [T] in [0, 1]: [m, T, Z].

  In many dimensions a Gaussian's mass is near a sphere, which straight lines leave. Codes along one
  line have no great circle of their own and are joined by a straight line.

  Reference: White 2016, "Sampling generative networks", section 2.1.
  """
  lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
  cosine = (a * b).sum(1) / np.maximum(lengths, np.finfo(np.float32).tiny)
  angle = np.arccos(np.clip(cosine, -1, 1))[:, None, None]
  defined = np.sin(angle) > 1e-3
  sine = np.where(defined, np.sin(angle), 1)
  u = t[None, :, None]
  arc = (np.sin((1 - u) * angle) * a[:, None] + np.sin(u * angle) * b[:, None]) / sine
  return np.where(defined, arc, linear(a, b, t))


def interpolations(
  key: Key,
  system: System,
  state: State,
  x: np.ndarray,
  to_uint8: ToUint8,
  path: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray] = linear,
  steps: int = 10,
) -> np.ndarray:
  """Grid whose rows go from the decoded code of x[0] to that of x[1], from x[2] to x[3], and so on.

  Args:
    key: for encoders that are random.
    system: with the views `encode` and `decode`.
    state: the trained state.
    x: [B, ...] in the model's space; B // 2 pairs, of which the first 10 are drawn.
    to_uint8: [n, ...] in the model's space -> uint8 [n, h, w, c].
    path: `linear`, or `spherical` for Gaussian latents.
    steps: images a row, both ends included.

  Returns:
    The grid, uint8 [H, W, c].
  """
  z = _call(system.views['encode'], state, key, state, x)
  pairs = min(len(z) // 2, ROWS)
  codes = path(z[: 2 * pairs : 2], z[1 : 2 * pairs : 2], np.linspace(0, 1, steps, dtype=z.dtype))
  return _decoded(system, state, codes, to_uint8)


def walks(
  key: Key,
  system: System,
  state: State,
  x: np.ndarray,
  to_uint8: ToUint8,
  path: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray] = linear,
  steps: int = 10,
) -> np.ndarray:
  """Grid whose rows go from one draw of the latents to another, for systems without an encoder.

  A generator that has learned its examples by heart jumps between them. Uniform latents want straight lines, normal
  ones `spherical`.

  Args:
    key: of the draws.
    system: with the views `latents` (key, n) and `decode`.
    state: the trained state.
    x: [B, ...], of which only the number counts: at most B // 2 rows, and at most 10.
    to_uint8: [n, ...] in the model's space -> uint8 [n, h, w, c].
    path: `linear` or `spherical`.
    steps: images a row, both ends included.

  Returns:
    The grid, uint8 [H, W, c].

  Reference: Radford et al. 2016, arXiv:1511.06434, section 6.1.
  """
  rows = max(1, min(len(x) // 2, ROWS))
  z = np.asarray(system.views['latents'](key, 2 * rows))
  return _decoded(system, state, path(z[::2], z[1::2], np.linspace(0, 1, steps, dtype=z.dtype)), to_uint8)


def sweeps(key: Key, system: System, state: State, x: np.ndarray, to_uint8: ToUint8, view: str) -> np.ndarray:
  """Grid of the decodings of codes [rows, columns, Z] that the view of this name gives for a key."""
  del x
  return _decoded(system, state, np.asarray(system.views[view](key)), to_uint8)


def traversals(key: Key, system: System, state: State, x: np.ndarray, to_uint8: ToUint8, steps: int = 7) -> np.ndarray:
  """Grid whose rows move one latent of x[0]'s code from -3 to 3, with a prior of unit standard deviation in mind.

  The rows are the latents that carry most, at most 10, the first on top: by mean KL over x where the system has
  `kl_per_dim`, by the variance of the codes over x otherwise.

  Args:
    key: for encoders that are random.
    system: with the views `encode` and `decode`.
    state: the trained state.
    x: [B, ...] in the model's space.
    to_uint8: [n, ...] in the model's space -> uint8 [n, h, w, c].
    steps: images a row.

  Returns:
    The grid, uint8 [H, W, c].
  """
  z = _call(system.views['encode'], state, key, state, x)
  weight = z.var(0)
  if 'kl_per_dim' in system.views:
    weight = _call(system.views['kl_per_dim'], state, key, state, x).mean(0)
  latents = np.argsort(-weight, kind='stable')[:ROWS]
  codes = np.tile(z[0], (len(latents), steps, 1))
  codes[np.arange(len(latents)), :, latents] = np.linspace(-3, 3, steps, dtype=z.dtype)[None]
  return _decoded(system, state, codes, to_uint8)


def available(system: System) -> dict[str, Callable[[Key, State, np.ndarray, ToUint8], np.ndarray]]:
  """The pictures that a system's views allow, name -> draw(key, state, x, to_uint8); as many samples as x has rows.

  A KL per dimension is taken for the sign of a Gaussian latent, so that spherical paths make sense.
  """

  def bind(draw: Callable, **options) -> Callable:
    return lambda key, state, x, to_uint8: draw(key, system, state, x, to_uint8, **options)

  def drawn(key, state, x, to_uint8):
    return density(key, system, state) if x.ndim == 2 else samples(key, system, state, len(x), to_uint8)

  pictures = {'samples': drawn} if system.sample else {}
  if 'critic' in system.views:
    pictures['samples'] = bind(game)
  if 'classes' in system.views:
    pictures['classes'] = bind(classes)
  if 'reconstruct' in system.views:
    pictures['reconstructions'] = bind(reconstructions)
  if 'levels' in system.views:
    pictures['levels'] = bind(levels)
  if {'latents', 'decode'} <= set(system.views):
    for name, path in (('walks', linear), ('spherical_walks', spherical)):
      pictures[name] = bind(walks, path=path)
  for view in ('class_sweeps', 'continuous_sweeps'):
    if view in system.views:
      pictures[view] = bind(sweeps, view=view)
  if {'encode', 'decode'} <= set(system.views):
    pictures |= {'interpolations': bind(interpolations), 'traversals': bind(traversals)}
  if {'encode', 'decode', 'kl_per_dim'} <= set(system.views):
    pictures['spherical_interpolations'] = bind(interpolations, path=spherical)
  return pictures


def _decoded(system: System, state: State, codes: np.ndarray, to_uint8: ToUint8) -> np.ndarray:
  """Grid of the decodings of codes [rows, columns, Z]."""
  rows, columns, latents = codes.shape
  return grid(to_uint8(_call(system.views['decode'], state, state, codes.reshape(rows * columns, latents))), columns)


def _call(function: Callable, state: State, *args, static: tuple[int, ...] = ()) -> np.ndarray:
  """The function's value on the host, the same on every process: the step's sharding is the replicated one."""
  compiled = jax.jit(function, static_argnums=static, out_shardings=state.step.sharding)
  return np.asarray(compiled(*args))
