"""OMNIGLOT as the authors of IWAE publish it: chardata.mat, a file of MATLAB with grey images of 28 x 28."""

import math
import pathlib
from collections.abc import Iterator

import numpy as np

from dgm_jax.data import archive
from dgm_jax.data.cache import Example, cached, stamp
from dgm_jax.data.images import Look, conform
from dgm_jax.data.names import located
from dgm_jax.data.split import Arrays, Dataset
from dgm_jax.errors import UserError
from dgm_jax.internal.files import open_regular

__all__ = ['source']

SIDE = 28
NAMES = {'train': 'data', 'test': 'testdata'}  # of the two arrays, pixels x examples
COUNTS = {'train': 24_345, 'test': 8_070}  # in the authors' file
SEED = 123  # of the authors' shuffle, before the last images are held out


def source(where: str, look: Look) -> Dataset:
  """Finds the training and test images of chardata.mat: 24,345 and 8,070, split by the authors.

  The file holds intensities in [0, 1] as `data` and `testdata`, [784, N], the pixels of an image column by column. An
  image becomes uint8 [28, 28, 1], rounded to the nearest of 256 levels. Training images are shuffled as in the authors'
  program, which holds out the last 1,345 (`config.data.valid_size`).

  Reference:
    Burda, Grosse and Salakhutdinov, Importance Weighted Autoencoders, ICLR 2016, section 5, and its program.

  Raises:
    UserError: the file is missing or damaged, or holds another set.
  """
  path = located(where)
  shapes = _shapes(path)
  _check_shapes(path, shapes)
  counts = {part: shapes[name][1] for part, name in NAMES.items()}
  notes = () if counts == COUNTS else ('the authors have 24345 and 8070 images: this file is another',)
  return Dataset({part: lambda part=part: _read(path, part, counts[part], look) for part in NAMES}, notes=notes)


def _shapes(path: pathlib.Path) -> dict[str, tuple[int, ...]]:
  """Returns the shapes of the arrays in a file of MATLAB, by their headers."""
  return {name: shape for name, shape, _ in _tried(path, 'whosmat')}


def _tried(path: pathlib.Path, reader: str, **options):
  """Calls a reader of `scipy.io` on the opened file."""
  import scipy.io

  if not path.is_file():
    raise UserError(f'no file {path}: give --config.data.name=mat:PATH the path of chardata.mat')
  try:
    with open_regular(path) as file:
      return getattr(scipy.io, reader)(file, appendmat=False, **options)
  except Exception as error:  # damaged files raise anything; those of MATLAB 7.3 another error
    raise UserError(f"cannot read {path} as a file of MATLAB 5 (.mat): fetch the authors' chardata.mat anew") from error


def _check_shapes(path: pathlib.Path, shapes: dict[str, tuple[int, ...]]) -> None:
  for name in NAMES.values():
    shape = shapes.get(name)
    if shape is None or len(shape) != 2 or shape[0] != SIDE**2 or shape[1] < 1:
      there = ', '.join(f'{name} {list(shape)}' for name, shape in shapes.items()) or 'nothing'
      raise UserError(
        f"{path} holds {there}, but OMNIGLOT's chardata.mat has data and testdata of [784, N]: give"
        ' --config.data.name=mat:PATH that file'
      )
    if 8 * math.prod(shape) > archive.memory():
      raise UserError(f'{name} of {path} has shape {shape}, more than the memory of this machine: cut it')


def _read(path: pathlib.Path, part: str, size: int, look: Look) -> Arrays:
  """Returns the images of a part; those to train on in the order of the authors' shuffle."""
  facts = {'file': stamp(path), 'part': part, 'look': look.facts}
  arrays = cached(f'mat:{path.name}:{part}', facts, lambda: (size, _examples(path, NAMES[part], look)))
  if part == 'test':
    return arrays
  order = np.random.RandomState(SEED).permutation(size)
  return {name: array[order] for name, array in arrays.items()}


def _examples(path: pathlib.Path, name: str, look: Look) -> Iterator[Example]:
  grey = _tried(path, 'loadmat', variable_names=[name])[name]
  whole = isinstance(grey, np.ndarray) and grey.dtype.kind in 'fbiu'  # and not sparse, or a structure
  if not whole or not np.all((grey >= 0) & (grey <= 1)):
    raise UserError(f"{name} of {path} must hold intensities in [0, 1]: fetch the authors' chardata.mat anew")
  pixels = np.floor(255 * grey.T.astype(np.float64) + 0.5).astype(np.uint8)
  for i, image in enumerate(pixels.reshape(-1, SIDE, SIDE).swapaxes(1, 2)):  # stored column by column
    yield f'example {i}', conform(image[..., None], look), None
