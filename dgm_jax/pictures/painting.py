"""Pictures of systems that paint in steps: the canvas with its windows, and what the first steps keep of an image.

Axes: B images, T steps, H height, W width, C channels.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image, ImageDraw

from dgm_jax.core import Key, State, System
from dgm_jax.pictures.gallery import READABLE, ToUint8, call, grid
from dgm_jax.views import Canvases, fits, needs

__all__ = ['available']

WRITTEN, READ = (230, 40, 40), (40, 170, 60)  # colours of the windows


def columns_of(count: int) -> list[int]:
  """Returns the numbers of steps after which a canvas is drawn: 1, 2, 4 ... and the last."""
  return sorted({2**i for i in range(count.bit_length())} | {count})


def magnified(images: np.ndarray) -> np.ndarray:
  """Returns images [B, H, W, C] in colour, their pixels squares; the shorter edge is at least 56 long."""
  scale = max(1, math.ceil(READABLE / min(images.shape[1:3])))
  return np.repeat(np.broadcast_to(images, (*images.shape[:3], 3)), scale, 1).repeat(scale, 2)


def framed(image: np.ndarray, box: np.ndarray, scale: int, colour: Sequence[int]) -> np.ndarray:
  """Draws a window's frame on a magnified image [H, W, 3].

  Args:
    image: uint8.
    box: left, top, right and bottom in pixels from 1, and the filters' deviation: the less, the wider is the line.
    scale: edge of a magnified pixel.
    colour: of the line.
  """
  width = int(np.clip(np.round(0.5 * scale / max(box[4], 1e-6)), 1, scale))
  left, top, right, bottom = np.clip(np.round((box[:4] - 0.5) * scale), -9999, 9999).astype(int)
  picture = Image.fromarray(image)
  ImageDraw.Draw(picture).rectangle((left, top, right, bottom), outline=tuple(colour), width=width)
  return np.asarray(picture)


def rows_of(images: np.ndarray, boxes: np.ndarray | None, colour: Sequence[int]) -> np.ndarray:
  """Returns rows of magnified images [T, B, H, W, C], with frames of the boxes [T, B, 5]: [B, T, H', W', 3]."""
  large = np.stack([magnified(own) for own in images])
  if boxes is not None:
    scale = large.shape[2] // images.shape[2]
    large = np.stack([
      [framed(image, box, scale, colour) for image, box in zip(*pair, strict=True)]
      for pair in zip(large, boxes, strict=True)
    ])  # fmt: skip
  return large.swapaxes(0, 1)


@needs('canvases', 'sample_canvases')
def canvases(key: Key, system: System, state: State, x: np.ndarray, to_uint8: ToUint8, rows: int = 4) -> np.ndarray:
  """Draws a grid of canvases after 1, 2, 4 ... T steps: of images x [B, ...], then of samples.

  The canvas has the window that is written, in red. If windows are read, they are on the image above, in green. The
  smaller the deviation of a window's filters, the wider is its line.

  Reference: Gregor et al. 2015, arXiv:1502.04623, figures 1, 5 and 7.
  """
  own = call(system.views.canvases, state, key, state, x[:rows])
  samples = call(system.views.sample_canvases, state, key, state, rows, static=(2,))
  painted = [_written(own, to_uint8), _written(samples, to_uint8)]
  count = painted[0].shape[1]
  if own.read is not None:
    chosen = np.asarray(columns_of(len(own.images))) - 1
    originals = np.asarray(to_uint8(x[:rows]))
    above = rows_of(np.stack([originals] * count), own.read[chosen], READ)
    painted[0] = np.stack([above, painted[0]], 1).reshape(-1, *above.shape[1:])
  cells = np.concatenate(painted)
  return grid(cells.reshape(-1, *cells.shape[2:]), count, scale=1, padding=2)


def _written(answer: Canvases, to_uint8: ToUint8) -> np.ndarray:
  """Returns the rows of canvases with the windows that are written."""
  chosen = np.asarray(columns_of(len(answer.images))) - 1
  images = answer.images[chosen]
  pixels = np.asarray(to_uint8(images.reshape(-1, *images.shape[2:]))).reshape(images.shape)
  return rows_of(pixels, None if answer.write is None else answer.write[chosen], WRITTEN)


@needs('compress')
def compression(
  key: Key, system: System, state: State, x: np.ndarray, to_uint8: ToUint8, rows: int = 4, draws: int = 3
) -> np.ndarray:
  """Draws a grid of images x [B, ...], each `draws` times with the latents of its first 0, 1, 2, 4 ... T steps.

  The latents of the other steps are those of the prior, others in each draw. The last column has the originals. Above a
  column are the bits that its steps cost, on average over the images.

  Reference: Gregor et al. 2016, arXiv:1604.08772, figure 1.
  """
  x = x[:rows]
  ask = lambda draw, steps: call(system.views.compress, state, key, state, x, np.int32(steps), np.int32(draw))
  count = ask(0, 0)[1].shape[1]
  columns, labels = [], []
  for steps in [0, *columns_of(count)]:
    answers = [ask(draw, steps) for draw in range(draws)]
    columns.append(np.stack([np.asarray(to_uint8(image)) for image, _ in answers], 1))
    labels.append(np.mean([nats.sum(1) for _, nats in answers]) / math.log(2))
  columns.append(np.stack([np.asarray(to_uint8(x))] * draws, 1))
  cells = np.stack(columns, 2)
  large = magnified(cells.reshape(-1, *cells.shape[3:]))
  head = [label(f'{bits:.0f}', large.shape[1:]) for bits in labels] + [label('', large.shape[1:])]
  return grid(np.concatenate([np.stack(head), large]), len(columns), scale=1, padding=2)


def label(text: str, shape: Sequence[int]) -> np.ndarray:
  """Returns an image of this shape [H, W, 3] with a text at its foot."""
  picture = Image.fromarray(np.full(shape, 255, np.uint8))
  ImageDraw.Draw(picture).text((2, shape[0] - 14), text, fill=(0, 0, 0))
  return np.asarray(picture)


def available(system: System) -> dict[str, Callable[[Key, State, np.ndarray, ToUint8], np.ndarray]]:
  """Returns the pictures that a system's views allow, name -> draw(key, state, x, to_uint8)."""
  bind = lambda draw: lambda key, state, x, to_uint8: draw(key, system, state, x, to_uint8)
  return {name: bind(draw) for name, draw in PICTURES.items() if fits(system, draw)}


PICTURES = {'canvases': canvases, 'compression': compression}
