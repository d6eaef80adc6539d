"""One picture: read from a file, and brought to the asked channels, size and polarity."""

import io
import os
import warnings
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

from dgm_jax.errors import UserError
from dgm_jax.internal.files import open_regular

__all__ = ['DEEP', 'Look', 'bits_used', 'conform', 'read']

# Pillow knows forty formats more, among them PostScript, which it gives to a program to be run.
FORMATS = ('PNG', 'JPEG', 'BMP', 'WEBP', 'GIF')
DEEP = 16  # bits of a sample, beside the usual 8
_DEPTHS = (8, 10, 12, 14, DEEP)  # that cameras and scanners give


class Look(NamedTuple):
  """How stored pictures are changed before they are kept."""

  size: int = 0  # pixels a side; 0: as stored
  channels: int = 0  # 1 grey, 3 colour; 0: as stored
  invert: bool = False  # 255 - x
  pad: int = 0  # pixels of black around the stored picture

  @property
  def facts(self) -> tuple:
    """Returns what the cache knows a look by. Entries from before `pad` stay good."""
    return tuple(self) if self.pad else tuple(self)[:3]


def read(file: str | os.PathLike | bytes, name: str, bits: int = DEEP) -> np.ndarray:
  """Reads the picture in a file, or in its bytes. Of a moving picture it reads the first frame.

  The picture is turned upright by its EXIF orientation. Transparent places are white.

  Args:
    file: path or content.
    name: its name in errors.
    bits: number of used bits, of the 16 bits of a deep grey picture; the upper 8 of these are kept.

  Returns:
    uint8 [H, W, 1 or 3].

  Raises:
    UserError: it cannot be read.
  """

  def pixels(picture: Image.Image) -> np.ndarray:
    return _pixels(ImageOps.exif_transpose(picture) if 'exif' in picture.info else picture, bits)

  return _opened(file, name, pixels)


def bits_used(files: Sequence[os.PathLike]) -> int:
  """Returns the bits used by the samples of 16-bit pictures in files: 8, 10, 12, 14 or 16; 0 if no file is 16-bit.

  Raises:
    UserError: such a file cannot be read, or holds colours of fewer bits, which Pillow would make dark.
  """
  most, colour = -1, None
  for file in files:
    if _is_deep(file):
      largest, grey = _opened(file, str(file), _largest)
      most = max(most, largest)
      colour = colour or (None if grey else file)
  if most < 0:
    return 0
  bits = next(depth for depth in _DEPTHS if most < 2**depth)
  if colour and bits < DEEP:
    raise UserError(f'{colour} has colours of 16 bits of which {bits} are used: convert such images to 8 bits')
  return bits


def _is_deep(file: os.PathLike) -> bool:
  """Returns whether the first bytes of a file are those of a PNG of 16 bits a sample."""
  try:
    with open_regular(file) as opened:
      head = opened.read(25)
  except OSError as error:
    raise UserError(f'cannot read the image {file} ({error.strerror}): replace or remove it') from error
  return head[:8] == b'\x89PNG\r\n\x1a\n' and head[24:] == bytes([DEEP])


def _largest(picture: Image.Image) -> tuple[int, bool]:
  """Returns the largest sample of a 16-bit picture, and whether it is grey. Pillow keeps 8 bits of colours."""
  if picture.mode.startswith('I'):
    return int(np.asarray(picture).max()), True
  values = np.asarray(picture.convert('RGB'))
  return 256 * int(values.max()) + 255 * bool(values.max()), False


def _opened(file: str | os.PathLike | bytes, name: str, use: Callable):
  """Calls `use(picture)` on an opened picture."""
  try:
    with warnings.catch_warnings(), io.BytesIO(file) if isinstance(file, bytes) else open_regular(file) as opened:
      warnings.simplefilter('ignore')  # of what is odd but can be read; twice the size of a warning is an error
      with Image.open(opened, formats=FORMATS) as picture:
        return use(picture)
  except Exception as error:  # decoders of damaged files raise anything
    raise UserError(f'cannot read the image {name} ({type(error).__name__}): replace or remove it') from error


def _pixels(picture: Image.Image, bits: int) -> np.ndarray:
  if picture.mode.startswith('I'):
    return (np.asarray(picture).astype(np.int32) >> (bits - 8)).astype(np.uint8)[..., None]
  if picture.has_transparency_data:
    grey = picture.mode in ('L', 'LA')
    picture = picture.convert('RGBA')
    picture = Image.alpha_composite(Image.new('RGBA', picture.size, 'white'), picture).convert('L' if grey else 'RGB')
  if picture.mode not in ('L', 'RGB'):
    picture = picture.convert('L' if picture.mode == '1' else 'RGB')
  pixels = np.asarray(picture)
  return pixels if pixels.ndim == 3 else pixels[..., None]


def conform(pixels: np.ndarray, look: Look) -> np.ndarray:
  """Returns a picture with the requested channels, size and polarity.

  Colour becomes grey by the weights of ITU-R 601. The frame of `look.pad` pixels of 0 comes before a new size and the
  polarity. For a new size, the central square is resized. The triangle filter is as wide as the reduction, so that
  nothing is aliased.

  Args:
    pixels: uint8 [H, W, C].
    look: the requested channels, size, polarity and frame.

  Returns:
    uint8 [H', W', C'].

  Raises:
    ValueError: C is not 1 or 3 and another number of channels is requested.
  """
  pixels = _recolour(pixels, look.channels)
  if look.pad:
    pixels = np.pad(pixels, ((look.pad, look.pad), (look.pad, look.pad), (0, 0)))
  pixels = _resize(pixels, look.size)
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
  square = pixels[top : top + side, left : left + side]
  if square.shape[-1] == 3:  # at once, which has the bits of three planes
    return np.array(Image.fromarray(square.copy()).resize((size, size), Image.Resampling.BILINEAR))
  planes = np.moveaxis(square, -1, 0)
  resized = [Image.fromarray(plane.copy()).resize((size, size), Image.Resampling.BILINEAR) for plane in planes]
  return np.stack([np.asarray(plane) for plane in resized], axis=-1)
