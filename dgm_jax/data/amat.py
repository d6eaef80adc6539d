"""MNIST binarized once for good, as Larochelle publishes it: three files of text, 784 digits of 0 or 1 a line."""

import pathlib
from collections.abc import Iterator

import numpy as np

from dgm_jax.data.cache import Example, cached, stamp
from dgm_jax.data.images import Look, conform
from dgm_jax.data.names import PARTS, located, part_of
from dgm_jax.data.split import Arrays, Dataset
from dgm_jax.errors import UserError
from dgm_jax.internal.files import read_bytes

__all__ = ['source']

SIDE = 28
ZERO, ONE, NEWLINE = b'01\n'
SPACES = tuple(b' \t\r\n')


def source(where: str, look: Look) -> Dataset:
  """Finds the parts of a folder: binarized_mnist_train.amat, ..._valid.amat and ..._test.amat.

  Images are uint8 [28, 28, 1] of 0 and 255. `static_binarize`, `dynamic_binarize` and `threshold` make exactly 0 and 1
  of them.

  Reference:
    Larochelle and Murray, The Neural Autoregressive Distribution Estimator, AISTATS 2011, section 6.

  Raises:
    UserError: the folder or a part is missing, or a file is no binarized MNIST.
  """
  folder = located(where)
  if not folder.is_dir():
    raise UserError(f'no folder {folder}: give --config.data.name=amat:PATH the folder of the three .amat files')
  files = {part: _file(folder, part) for part in PARTS}
  return Dataset({part: lambda part=part: _read(files[part], part, look) for part in PARTS})


def _file(folder: pathlib.Path, part: str) -> pathlib.Path:
  """Returns the one file of a part."""
  paths = sorted(path for path in folder.glob('*.amat') if part_of(path.stem.rpartition('_')[2]) == part)
  if len(paths) != 1:
    there = ', '.join(path.name for path in sorted(folder.glob('*.amat'))) or 'no .amat file'
    raise UserError(f'{folder} holds {there}: it must hold one binarized_mnist_{part}.amat')
  return paths[0]


def _read(path: pathlib.Path, part: str, look: Look) -> Arrays:
  def examples() -> tuple[int, Iterator[Example]]:
    images = _images(path)
    return len(images), ((f'line {i + 1}', conform(image, look), None) for i, image in enumerate(images))

  return cached(f'amat:{part}', {'file': stamp(path), 'look': look.facts}, examples)


def _images(path: pathlib.Path) -> np.ndarray:
  """Parses a file: one line of 784 separate digits, 0 or 1, for each image. Returns uint8 [N, 28, 28, 1], 0 or 255."""
  try:
    text = np.frombuffer(read_bytes(path), np.uint8)
  except OSError as error:
    raise UserError(f'cannot read {path} ({error.strerror}): fetch it anew') from error
  digits = (text == ZERO) | (text == ONE)
  if np.any(digits[1:] & digits[:-1]) or not np.all(digits | np.isin(text, SPACES)):
    raise UserError(f'{path} holds other numbers than 0 and 1: binarized MNIST has lines of {SIDE**2} of them')
  ends = np.append(np.flatnonzero(text == NEWLINE), text.size)
  before = np.searchsorted(np.flatnonzero(digits), ends)  # digits up to the end of each line
  widths = np.diff(before, prepend=0)
  wrong = np.flatnonzero((widths != 0) & (widths != SIDE**2))
  if wrong.size:
    line = int(wrong[0])
    raise UserError(f'line {line + 1} of {path} has {widths[line]} numbers, where binarized MNIST has {SIDE**2}')
  if not before[-1]:
    raise UserError(f'{path} is empty: fetch it anew')
  return (255 * (text[digits] == ONE).astype(np.uint8)).reshape(-1, SIDE, SIDE, 1)
