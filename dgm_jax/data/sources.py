"""A dataset's name and options -> its training, validation or test examples."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dgm_jax.data import amat, arrays, digits, folder, mat, points, rows, tfds, toy
from dgm_jax.data.images import Look
from dgm_jax.data.split import Arrays, Dataset, Split
from dgm_jax.errors import UserError

__all__ = ['load', 'load_parts', 'simulator']

if TYPE_CHECKING:
  from dgm_jax.data.factors import Simulator

BINARY = ('dsprites',)  # sets of TFDS that are not stored in 0..255
RENDERED = ('sprites', 'sprites_color')
DIGITS = ('digits', 'mnist')
PAIRS = 'pairs:'  # of digits of a stored set
_SPLITS = ('train', 'valid', 'test')


def load(config: Any, split: str) -> Split:
  """Loads one split of the dataset that `config` names, on the host. Of a large one only names and headers are read.

  Args:
    config: a mapping with attributes
      name: 'digits', 'sprites', 'sprites_color', a TFDS name ('mnist'), 'folder:PATH', 'npz:PATH', 'npy:PATH',
        'mat:PATH' (OMNIGLOT), 'amat:PATH' (static MNIST), 'points:NAME', 'toy:NAME', 'pairs:digits' or 'pairs:mnist'.
      train, test: TFDS split expressions; only for a TFDS name.
      valid_size: if the dataset has no validation part of its own, this number of the last training examples move from
        'train' to 'valid'.
      size: 0 as stored; n: the central square of each image, resized to n x n, antialiased; sprites are rendered at n,
        pairs put into n x n.
      channels: 0 as stored, 1 grey, 3 colour.
      pad: pixels of black that are put around each stored image, before it is resized; 0 if there is no such attribute.
      invert: True for 255 - x.
      preprocess: the name of a function in `dgm_jax.data.preprocess`.
    split: 'train', 'valid' or 'test'.

  Returns:
    The split; uint8 arrays may be mapped from disk, read-only, or be `rows.Rows`.

  Raises:
    UserError: a mistake in `config`, or in the data it names.
  """
  return load_parts(config, (split,))[split]


def load_parts(config: Any, names: Sequence[str]) -> dict[str, Split]:
  """Loads some splits, for which the dataset is looked for once. See `load`."""
  for name in names:
    if name not in _SPLITS:
      raise UserError(f'no split {name!r}: there are {", ".join(_SPLITS)}')
  look = _look(config)
  source = _source(config, look)
  return {name: _split(source, name, config, look) for name in names}


def _split(source: Dataset, split: str, config: Any, look: Look) -> Split:
  arrays = _pick(source, split, config)
  name, size = f'{config.name}:{split}', len(next(iter(arrays.values())))
  if config.name in RENDERED:
    return _sprites().split(config.name, size, arrays, look)._replace(name=name)
  if config.name.startswith(PAIRS):
    from dgm_jax.data import pairs  # JAX comes with it

    return pairs.split(name, arrays, config.size)
  if arrays['x'].dtype != np.uint8 and config.preprocess != 'identity':
    raise UserError(
      f'{config.name} holds floats, which {config.preprocess} cannot take: --config.data.preprocess=identity'
    )
  if config.name in BINARY and config.preprocess != 'identity':
    raise UserError(
      f'{config.name} holds pixels of 0 and 1, which {config.preprocess} takes for black:'
      ' --config.data.preprocess=identity'
    )
  # Resized images have levels between those that were stored.
  levels = digits.LEVELS if config.name == 'digits' and not config.size else 256
  return Split(name, size, arrays, levels=levels, classes=source.classes, notes=source.notes)


def simulator(config: Any) -> Simulator:
  """Returns the images of a dataset as a function of their factors.

  Args:
    config: as for `load`; the name is 'sprites', 'sprites_color', or that of a TFDS set with features 'label_...'
      ('dsprites', 'shapes3d', 'smallnorb'). Its training split must hold every combination of the factors.

  Raises:
    UserError: the factors of this dataset are not known, or it lacks combinations of them.
  """
  look = _look(config)
  if config.name in RENDERED:
    return _sprites().simulator(config.name, look)
  arrays = _pick(_source(config, look), 'train', config)
  if 'factors' not in arrays:
    raise UserError(
      f'the factors of {config.name} are not known (--config.data.name): take sprites, sprites_color, dsprites,'
      ' shapes3d or smallnorb'
    )
  from dgm_jax.data import factors

  return factors.of_arrays(config.name, tfds.factors(config.name), arrays)


def _sprites():
  from dgm_jax.data import sprites  # JAX comes with it

  return sprites


def _look(config: Any) -> Look:
  if config.size < 0:
    raise UserError(f'--config.data.size={config.size}: give pixels a side, or 0 for images as stored')
  if config.channels not in (0, 1, 3):
    raise UserError(f'--config.data.channels={config.channels}: give 1 (grey), 3 (colour) or 0 for images as stored')
  pad = getattr(config, 'pad', 0)
  if pad < 0:
    raise UserError(f'--config.data.pad={pad}: give pixels of black around each image, or 0')
  if pad and config.name in RENDERED:
    raise UserError(f'--config.data.pad={pad} is for stored images; {config.name} is rendered at --config.data.size')
  return Look(config.size, config.channels, bool(config.invert), pad)


def _source(config: Any, look: Look) -> Dataset:
  kind, colon, path = config.name.partition(':')
  if config.name == 'digits':
    return Dataset(digits.parts(look))
  if config.name.startswith(PAIRS) and path in DIGITS:
    stored = look._replace(size=0)
    return Dataset(digits.parts(stored) if path == 'digits' else tfds.parts(path, config.train, config.test, stored))
  if config.name in RENDERED:
    return Dataset(_sprites().parts())
  if not colon:
    _refuse_path(config.name)
    return Dataset(tfds.parts(config.name, config.train, config.test, look))
  own = {
    'folder': folder.source, 'npz': arrays.source, 'npy': arrays.source, 'mat': mat.source, 'amat': amat.source
  }  # fmt: skip
  synthetic = {'points': points.parts, 'toy': toy.parts}
  if kind in own and path:
    return own[kind](path, look)
  if kind in synthetic and path:
    return Dataset(synthetic[kind](path, look))
  raise UserError(
    f'--config.data.name={config.name}: give digits, sprites, a TFDS name, folder:PATH, npz:PATH, npy:PATH,'
    f' mat:PATH, amat:PATH, points:NAME, toy:NAME or pairs:NAME ({", ".join(DIGITS)})'
  )


def _refuse_path(name: str) -> None:
  """Refuses a path in place of a dataset's name, with the name that it has as a dataset."""
  kind = {'.npz': 'npz', '.npy': 'npy', '.mat': 'mat'}.get(os.path.splitext(name)[1], 'folder')
  if name.startswith(('/', './', '../', '~')) or kind != 'folder':
    raise UserError(f'--config.data.name={name} is a path: write --config.data.name={kind}:{name}')
  if not name:
    raise UserError('--config.data.name is empty: give digits, a TFDS name, or folder:PATH')


def _pick(source: Dataset, split: str, config: Any) -> Arrays:
  """Returns a part of the dataset's own, or one side of its training part."""
  parts = source.parts
  if split == 'test' or 'valid' in parts:
    if split not in parts:
      raise UserError(f'{config.name} has no {split} part, but {", ".join(parts)}: add one')
    return parts[split]()
  return _hold_out(parts['train'](), split, config)


def _hold_out(train: Arrays, split: str, config: Any) -> Arrays:
  """Returns the last `valid_size` training examples, or the others."""
  size, valid_size = len(next(iter(train.values()))), config.valid_size
  if valid_size < 0:
    raise UserError(f'--config.data.valid_size={valid_size}: give a number of examples, or 0')
  if valid_size >= size:
    raise UserError(
      f'--config.data.valid_size={valid_size} leaves nothing of the {size} examples of {config.name}: give fewer'
    )
  if split == 'valid' and valid_size == 0:
    raise UserError(
      f'{config.name} has no validation examples: set --config.data.valid_size to 1 or more (it has {size} to train on)'
    )
  places = slice(size - valid_size, None) if split == 'valid' else slice(size - valid_size)
  return {name: rows.chosen(array, places) for name, array in train.items()}
