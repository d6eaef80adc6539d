"""Pictures of a generative model: samples, reconstructions, interpolations, traversals, as uint8 grids.

Every drawing takes `to_uint8`, the map from the model's data space [n, ...] to pixels uint8 [n, h, w, c], and calls
the system's own functions under jit. JAX keeps what it compiled by function, so drawing again every few hundred
steps compiles nothing.
"""

import functools
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
from dgm_jax.internal.files import make_folder, write_atomic
from dgm_jax.pictures import densities, plane, posterior, truncation
from dgm_jax.views import fits, needs

__all__ = ['BACKGROUND', 'ToUint8', 'available', 'grid', 'write_png']

ToUint8 = Callable[[Any], np.ndarray]
READABLE = 56  # pixels: the least edge of an image in a grid
BACKGROUND = 128  # grey, apart from both ends of a binary image
POINTS = 4000  # samples of a class in a histogram
ROWS = 10  # most rows of interpolations and traversals
REACH = 3.0  # of a traversal under the prior N(0, I)
TAIL, DRAWS = 0.001, 10_000  # of other priors: what lies beyond each end, and the draws that tell where the ends are


def grid(images: np.ndarray, columns: int | None = None, scale: int | None = None, padding: int = 1) -> np.ndarray:
  """Lays images out in rows, from the left and from the top, on grey.

  Args:
    images: [n, h, w, c] uint8.
    columns: images a row; the least square that holds them all if None.
    scale: each pixel, padding too, becomes scale x scale; if None, an image's edge becomes 56 long.
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
  make_folder(path.parent)
  write_atomic(path, data.getvalue())


def samples(key: Key, system: System, state: State, n: int, to_uint8: ToUint8) -> np.ndarray:
  """Draws a grid of n samples of the model, or of means, with `mean_sample`.

  If the model is conditioned on classes, there is a class to each row.
  """
  draw = system.views.mean_sample or system.views.row_sample or system.sample
  return grid(to_uint8(call(draw, state, key, state, n, static=(2,))))


@needs('sample')
def samples_like(key: Key, system: System, state: State, x: np.ndarray, to_uint8: ToUint8) -> np.ndarray:
  """Draws the same number of samples as x has rows: a grid of images, or a map of points [n, D].

  The map is of data, samples and critic. If the system has no critic, it is of the density beside samples. If it has
  neither or D > 2, it is of the first two coordinates of data and samples; points of the line have histograms.
  """
  if x.ndim > 2:
    return samples(key, system, state, len(x), to_uint8)
  views, width = system.views, x.shape[1]
  if width == 2 and views.log_prob and not views.critic:
    return density(key, system, state)
  fake = call(system.sample, state, key, state, POINTS if width == 1 else len(x), static=(2,))
  if width == 1:
    return densities.draw(fake[:, 0][None], x[:, 0])
  critic = views.critic if width == 2 else None
  value = lambda points: call(critic, state, key, state, points) if critic else np.zeros(len(points))
  return plane.draw(x[:, :2], fake[:, :2], value)


def density(key: Key, system: System, state: State, reach: float = 6.0, size: int = 240, n: int = 40_000) -> np.ndarray:
  """Draws the density of points of the plane beside a histogram of n samples, on [-reach, reach]^2.

  Greater densities are darker.

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
  log_prob = call(system.views.log_prob, state, key, state, np.stack([x.ravel(), y.ravel()], 1))
  points = call(system.sample, state, key, state, n, static=(2,))
  ends = np.linspace(-reach, reach, size // 3 + 1)
  counts = np.histogram2d(points[:, 1], points[:, 0], (ends, ends))[0][::-1].repeat(3, 0).repeat(3, 1)
  shade = lambda mass: (255 * (1 - np.minimum(1, mass / np.quantile(mass, 0.998)))).astype(np.uint8)
  return np.concatenate([shade(np.exp(log_prob).reshape(size, size)), shade(counts)], 1)[..., None]


@needs('classes')
def classes(key: Key, system: System, state: State, x: np.ndarray, to_uint8: ToUint8, columns: int = 10) -> np.ndarray:
  """Draws a grid of samples of each class, a row for each, or histograms of points of the line beside those of x."""
  if x.ndim == 2:
    points = call(system.views.classes, state, key, state, POINTS, static=(2,))
    return densities.draw(points[:, 0].reshape(-1, POINTS), x[:, 0])
  return grid(to_uint8(call(system.views.classes, state, key, state, columns, static=(2,))), columns)


@needs('reconstruct')
def reconstructions(
  key: Key, system: System, state: State, x: np.ndarray, to_uint8: ToUint8, columns: int = 16
) -> np.ndarray:
  """Draws a grid of pairs of rows, the originals x [n, ...] above their reconstructions."""
  above, below = np.asarray(to_uint8(x)), np.asarray(to_uint8(call(system.views.reconstruct, state, key, state, x)))
  columns = min(columns, len(above))
  blank = np.full_like(above, BACKGROUND, shape=(-len(above) % columns, *above.shape[1:]))
  rows = [np.concatenate([images, blank]).reshape(-1, columns, *above.shape[1:]) for images in (above, below)]
  return grid(np.stack(rows, 1).reshape(-1, *above.shape[1:]), columns)


@needs('levels')
def levels(key: Key, system: System, state: State, x: np.ndarray, to_uint8: ToUint8, columns: int = 16) -> np.ndarray:
  """Draws a grid of rows by levels of codes, and the originals x [n, ...].

  The first row has the top level's codes alone. Each next row adds the level below, or several of many levels. Levels
  that a row lacks are blank, or the means of a prior given the levels above.
  """
  rows = call(system.views.levels, state, key, state, x[:columns])  # [levels, n, ...]
  images = np.concatenate([*rows, x[:columns]])
  return grid(np.asarray(to_uint8(images)), min(columns, len(x)))


@needs('decompress')
def decompressions(
  key: Key, system: System, state: State, x: np.ndarray, to_uint8: ToUint8, draws: int = 3, columns: int = 4
) -> np.ndarray:
  """Draws a grid of originals x [n, ...], each with `draws` images decoded from samples of its code to its right.

  Reference: Chen et al. 2017, arXiv:1611.02731, figure 1.
  """
  keys = jax.random.split(key, draws)
  images = [x, *(call(system.views.decompress, state, own, state, x) for own in keys)]
  cells = np.stack([np.asarray(to_uint8(image)) for image in images], 1)
  return grid(cells.reshape(-1, *cells.shape[2:]), columns * (1 + draws))


@needs('variations')
def variations(
  key: Key, system: System, state: State, x: np.ndarray, to_uint8: ToUint8, columns: int = 8
) -> np.ndarray:
  """Draws a grid of samples, a row for each level of noise: the samples of a row differ in the noise of that level.

  The first row is that of the top level, the last that of the pixels. x is not used.

  Reference: Gulrajani et al. 2017, arXiv:1611.05013, figure 5.
  """
  del x
  rows = call(system.views.variations, state, key, state, columns, static=(2,))
  return grid(np.asarray(to_uint8(rows.reshape(-1, *rows.shape[2:]))), columns)


@needs('gibbs')
def gibbs(key: Key, system: System, state: State, x: np.ndarray, to_uint8: ToUint8, columns: int = 5) -> np.ndarray:
  """Draws a grid whose rows are images of one state of the prior's chain; sweeps lie between rows. x is not used."""
  del x
  rows = call(system.views.gibbs, state, key, state, columns, static=(2,))
  return grid(np.asarray(to_uint8(rows.reshape(-1, *rows.shape[2:]))), columns)


@needs('flow_samples')
def posteriors(
  key: Key, system: System, state: State, x: np.ndarray, to_uint8: ToUint8, columns: int = 4, n: int = 4000
) -> np.ndarray:
  """Draws columns of an image of x [B, ...], its posterior before the flow, and after it, in two latents.

  The latents are those that the flow makes depend on one another most (`posterior.most_dependent`).
  """
  before, after = call(system.views.flow_samples, state, key, state, x[:columns], n, static=(3,))
  return grid(posterior.cells(np.asarray(to_uint8(x[:columns])), before, after), len(before), scale=2)


@needs(*truncation.truncations.needs)
def truncations(
  key: Key, system: System, state: State, x: np.ndarray, to_uint8: ToUint8, columns: int = 10
) -> np.ndarray:
  """Draws a grid of samples whose latents are truncated more from row to row (`truncation.BOUNDS`). x is not used."""
  del x
  return grid(np.asarray(to_uint8(truncation.truncations(key, system, state, columns))), columns)


def linear(a: np.ndarray, b: np.ndarray, t: np.ndarray) -> np.ndarray:
  """Computes straight lines from codes a [m, Z] to b [m, Z] at t [T] in [0, 1]: [m, T, Z]."""
  t = t[None, :, None]
  return (1 - t) * a[:, None] + t * b[:, None]


def spherical(a: np.ndarray, b: np.ndarray, t: np.ndarray) -> np.ndarray:
  """Computes great-circle paths from codes a [m, Z] to b [m, Z] at t [T] in [0, 1]: [m, T, Z].

  In many dimensions a Gaussian's mass is near a sphere, which straight lines leave. Codes along one line have no great
  circle of their own and are joined by a straight line.

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


@needs('encode', 'decode')
def interpolations(
  key: Key,
  system: System,
  state: State,
  x: np.ndarray,
  to_uint8: ToUint8,
  path: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray] = linear,
  steps: int = 10,
) -> np.ndarray:
  """Draws a grid whose rows go from the decoded code of x[0] to that of x[1], from x[2] to x[3], and so on.

  Args:
    key: for encoders that are random.
    system: with the views `encode` and `decode`.
    state: the trained state.
    x: [B, ...] in the model's space; at most the first 10 of B // 2 pairs are drawn. A single image is its own pair.
    to_uint8: [n, ...] in the model's space -> uint8 [n, h, w, c].
    path: `linear`, or `spherical` for Gaussian latents.
    steps: images a row, both ends included.

  Returns:
    The grid, uint8 [H, W, c].
  """
  z = call(system.views.encode, state, key, state, x if len(x) > 1 else np.concatenate([x, x]))
  pairs = min(len(z) // 2, ROWS)
  codes = path(z[: 2 * pairs : 2], z[1 : 2 * pairs : 2], np.linspace(0, 1, steps, dtype=z.dtype))
  return _decoded(key, system, state, codes, to_uint8)


@needs('prior', 'decode')
def walks(
  key: Key,
  system: System,
  state: State,
  x: np.ndarray,
  to_uint8: ToUint8,
  path: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray] = linear,
  steps: int = 10,
) -> np.ndarray:
  """Draws a grid whose rows go from one sample of the latents to another, for systems without an encoder.

  If a generator has memorised its examples, its images jump between them. Uniform latents need straight lines, normal
  ones `spherical`.

  Args:
    key: of the draws.
    system: with the views `prior` and `decode`.
    state: the trained state.
    x: [B, ...]; only B is used: at most B // 2 rows, and at most 10.
    to_uint8: [n, ...] in the model's space -> uint8 [n, h, w, c].
    path: `linear` or `spherical`.
    steps: images a row, both ends included.

  Returns:
    The grid, uint8 [H, W, c].

  Reference: Radford et al. 2016, arXiv:1511.06434, section 6.1.
  """
  rows = max(1, min(len(x) // 2, ROWS))
  z = call(system.views.prior.sample, state, key, state, 2 * rows, static=(2,))
  return _decoded(key, system, state, path(z[::2], z[1::2], np.linspace(0, 1, steps, dtype=z.dtype)), to_uint8)


def sweeps(key: Key, system: System, state: State, x: np.ndarray, to_uint8: ToUint8, view: str) -> np.ndarray:
  """Draws a grid of the decodings of codes [rows, columns, Z] that the view of this name gives for a key."""
  del x
  return _decoded(key, system, state, call(getattr(system.views, view), state, key, state), to_uint8)


@needs('encode', 'decode', 'prior')
def traversals(key: Key, system: System, state: State, x: np.ndarray, to_uint8: ToUint8, steps: int = 7) -> np.ndarray:
  """Draws a grid whose rows move one latent of x[0]'s code over the range of the prior (`ends`).

  The rows are the latents that carry most, at most 10, the first on top. If the system has `kl_per_dim`, they are
  ordered by mean KL over x. Otherwise they are ordered by the variance of the codes over x.

  Args:
    key: for encoders that are random.
    system: with the views `encode`, `decode` and `prior`.
    state: the trained state.
    x: [B, ...] in the model's space.
    to_uint8: [n, ...] in the model's space -> uint8 [n, h, w, c].
    steps: images a row.

  Returns:
    The grid, uint8 [H, W, c].
  """
  return _decoded(key, system, state, moved(key, system, state, x, steps), to_uint8)


def moved(key: Key, system: System, state: State, x: np.ndarray, steps: int) -> np.ndarray:
  """Returns the codes [rows, steps, Z] of `traversals`."""
  z = call(system.views.encode, state, key, state, x)
  weight = z.var(0)
  if system.views.kl_per_dim:
    weight = call(system.views.kl_per_dim, state, key, state, x).mean(0)
  latents = np.argsort(-weight, kind='stable')[:ROWS]
  codes = np.tile(z[0], (len(latents), steps, 1))
  codes[np.arange(len(latents)), :, latents] = np.linspace(*ends(key, system, state, latents), steps, dtype=z.dtype).T
  return codes


def ends(key: Key, system: System, state: State, latents: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Returns where the traversals of these latents begin and end, [R] each.

  They are -3 and 3 under the prior N(0, I), and the 0.1 % and 99.9 % quantiles of draws from any other.
  """
  prior = system.views.prior
  if prior.normal:
    return np.full(len(latents), -REACH), np.full(len(latents), REACH)
  z = call(prior.sample, state, key, state, DRAWS, static=(2,))
  return tuple(np.quantile(z[:, latents], (TAIL, 1 - TAIL), 0))


def _variant(draw: Callable, *names: str, **options) -> Callable:
  """Returns a picture function with these options, which needs these views."""
  return needs(*names)(functools.partial(draw, **options))


PICTURES = {
  'samples': samples_like, 'classes': classes, 'reconstructions': reconstructions, 'levels': levels,
  'interpolations': interpolations, 'traversals': traversals, 'decompressions': decompressions,
  'variations': variations, 'posterior': posteriors, 'truncations': truncations, 'gibbs': gibbs,
  'class_sweeps': _variant(sweeps, 'class_sweeps', 'decode', view='class_sweeps'),
  'continuous_sweeps': _variant(sweeps, 'continuous_sweeps', 'decode', view='continuous_sweeps'),
  'spherical_interpolations': _variant(interpolations, 'encode', 'decode', 'prior.normal', path=spherical),
}  # fmt: skip
WALKS = {  # of systems without an encoder
  'walks': walks, 'spherical_walks': _variant(walks, 'decode', 'prior.normal', path=spherical)
}  # fmt: skip


def available(system: System) -> dict[str, Callable[[Key, State, np.ndarray, ToUint8], np.ndarray]]:
  """Returns the pictures that a system's views allow, name -> draw(key, state, x, to_uint8).

  The number of samples is the number of rows of x.
  """
  pictures = PICTURES if system.views.encode else PICTURES | WALKS
  bind = lambda draw: lambda key, state, x, to_uint8: draw(key, system, state, x, to_uint8)
  return {name: bind(draw) for name, draw in pictures.items() if fits(system, draw)}


def _decoded(key: Key, system: System, state: State, codes: np.ndarray, to_uint8: ToUint8) -> np.ndarray:
  """Draws a grid of the decodings of codes [rows, columns, Z]."""
  rows, columns, latents = codes.shape
  return grid(to_uint8(call(system.views.decode, state, key, state, codes.reshape(rows * columns, latents))), columns)


def call(function: Callable, state: State, *args, static: tuple[int, ...] = ()) -> np.ndarray:
  """Runs a function of a system under jit and returns its value as NumPy arrays, the same on every process.

  The value gets the sharding of the state's step, which is replicated.
  """
  compiled = jax.jit(function, static_argnums=static, out_shardings=state.step.sharding)
  return jax.tree.map(np.asarray, compiled(*args))
