"""One picture: read from a file, and brought to the asked channels, size and polarity."""

import io
import os
import struct
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

from dgm_jax.errors import UserError

__all__ = ['Look', 'conform', 'read']


class Look(NamedTuple):
  """How stored pictures are changed before they are kept."""

  size: int = 0  # pixels a side; 0: as stored
  channels: int = 0  # 1 grey, 3 colour; 0: as stored
  invert: bool = False  # 255 - x


def read(file: str | os.PathLike | bytes, name: str) -> np.ndarray:
  """The picture in a file, or in its bytes; the first frame of a moving one.

  Upright as its camera says; transparent places are white.

  Args:
    file: path or content.
    name: what an error calls it.

  Returns:
    uint8 [H, W, 1 or 3].

  Raises:
    UserError: it cannot be read.
  """
  try:
    with Image.open(io.BytesIO(file) if isinstance(file, bytes) else file) as picture:
      return _pixels(ImageOps.exif_transpose(picture) if 'exif' in picture.info else picture)
  except (OSError, SyntaxError, ValueError, struct.error, Image.DecompressionBombError) as error:
    raise UserError(f'cannot read the image {name} ({type(error).__name__}): replace or remove it') from error


def _pixels(picture: Image.Image) -> np.ndarray:
  if picture.mode.startswith('I'):  # 16 bits, of which the upper 8 are kept
    return (np.asarray(picture).astype(np.int32) >> 8).astype(np.uint8)[..., None]
  if picture.has_transparency_data:
    grey = picture.mode in ('L', 'LA')
    picture = picture.convert('RGBA')
    picture = Image.alpha_composite(Image.new('RGBA', picture.size, 'white'), picture).convert('L' if grey else 'RGB')
  if picture.mode not in ('L', 'RGB'):
    picture = picture.convert('L' if picture.mode == '1' else 'RGB')
  pixels = np.asarray(picture)
  return pixels if pixels.ndim == 3 else pixels[..., None]


def conform(pixels: np.ndarray, look: Look) -> np.ndarray:
  """A picture with the asked channels, size and polarity.

  Colour becomes grey by the weights of ITU-R 601. For a new size, the central
  square is taken and resized with a triangle filter as wide as the reduction, so
  that nothing is aliased.

  Args:
    pixels: uint8 [H, W, C].
    look: what is asked.

  Returns:
    uint8 [H', W', C'].

  Raises:
    ValueError: C is not 1 or 3 and another is asked.
  """
  pixels = _resize(_recolour(pixels, look.channels), look.size)
  return 255 - pixels if look.invert else pixels


def _recolour(pixels: np.ndarray, channels: int) -> np.ndarray:
  if channels in (0, pixels.shape[-1]):
    return pixels
  if (pixels.shape[-1], channels) == (1, 3):
    return pixels.repeat(3, axis=-1)
  if (pixels.shape[-1], channels) == (3, 1):
    return ((pixels @ np.array([[19595], [38470], [7471]], np.uint32) + 32768) >> 16).astype(np.uint8)
  raise ValueError(f'an image of {pixels.shape[-1]} channels cannot be given {channels}')


def _resize(pixels: np.ndarray, size: int) -> np.ndarray:
  if size == 0 or pixels.shape[:2] == (size, size):
    return pixels
  side = min(pixels.shape[:2])
  top, left = ((length - side) // 2 for length in pixels.shape[:2])
  planes = np.moveaxis(pixels[top : top + side, left : left + side], -1, 0)
  resized = [Image.fromarray(plane.copy()).resize((size, size), Image.Resampling.BILINEAR) for plane in planes]
  return np.stack([np.asarray(plane) for plane in resized], axis=-1)
