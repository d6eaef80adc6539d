"""What can be known of a run's data before its first step: whether the parts fit together, and what was found."""

import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from dgm_jax.data import rows
from dgm_jax.data.split import Split
from dgm_jax.errors import UserError, printable

__all__ = ['check_labels', 'check_range', 'check_shape', 'check_together', 'describe', 'digests']

OWN = ('folder:', 'npz:', 'npy:', 'mat:', 'amat:')  # names of what a user has brought
_NAMED = 12  # classes whose sizes are told one by one
_COMPARED = 2**30  # bytes of examples up to which parts are compared
_RARE = 0.1  # share of examples of classes that are not trained on, above which something is wrong
_DIM = 64  # pixels of which none is brighter deserve a word


def is_own(name: str) -> bool:
  """Returns whether a dataset is a user's folder or file."""
  return name.startswith(OWN)


def check_together(splits: Mapping[str, Split]) -> None:
  """Refuses parts whose examples differ in shape or type.

  Raises:
    UserError: a part has examples of another shape or type than the first part.
  """
  first, *others = splits.values()
  for other in others:
    check_shape(other, first.shape, f'those of {first.name}')
    kinds = [split.arrays['x'].dtype for split in (first, other) if 'x' in split.arrays]
    if len(set(kinds)) > 1:
      raise UserError(f'{first.name} holds {kinds[0]} and {other.name} {kinds[1]}: store all parts alike')


def check_shape(split: Split, shape: tuple[int, ...], whose: str) -> None:
  """Refuses examples of another shape.

  Raises:
    UserError: the examples do not have this shape.
  """
  if tuple(split.shape) != tuple(shape):
    raise UserError(
      f'examples of {split.name} have the shape {_shape(split.shape)}, {whose} {_shape(shape)}: store all parts alike,'
      ' or set --config.data.size and --config.data.channels'
    )


def check_labels(splits: Mapping[str, Split], classes: int) -> None:
  """Refuses data whose labels a system of `classes` classes cannot use. 0 stands for a system without labels.

  Raises:
    UserError: a part has no labels, a label is not below `classes`, or many examples have classes that training lacks.
  """
  if not classes:
    return
  for split in splits.values():
    labels = split.arrays.get('y')
    if labels is None:
      raise UserError(
        f'{split.name} has no labels, which this system needs: put images into a folder for each class, or add an'
        ' array of labels y'
      )
    if (greatest := int(rows.sampled(labels).max())) >= classes:
      raise UserError(f'{split.name} has the label {greatest}, but config.model.classes={classes}: raise the latter')
    new = _unknown(split, next(iter(splits.values())))
    if len(new) > _RARE * split.size:
      shown = ', '.join(_called(split, label) for label in sorted(set(new))[:3])
      raise UserError(f'{split.name} has examples of {shown}, of which there are none to train on: add some')


def check_range(splits: Mapping[str, Split], config: Any, bounds: tuple[float, float] | None) -> None:
  """Refuses a user's values that lie outside the model's range.

  Args:
    splits: the parts.
    config: `config.data`.
    bounds: least and greatest value in the range of the model; None: any.

  Raises:
    UserError: values lie outside the bounds, or pixels are 0 and 1 where 0 to 255 are expected.
  """
  for split in splits.values():
    if not is_own(split.name):
      continue
    low, high = _range(split)
    if config.preprocess != 'identity' and high <= 1 and low < high:
      raise UserError(
        f'{split.name} holds pixels of 0 and 1, which {config.preprocess} takes for black: store 255 * x, or set'
        ' --config.data.preprocess=identity'
      )
    if config.preprocess == 'identity' and bounds and (low < bounds[0] or high > bounds[1]):
      hint = _scaling(low, high, *bounds)
      raise UserError(
        f'{split.name} holds values from {low:g} to {high:g}, but this model is for values in'
        f' [{bounds[0]:g}, {bounds[1]:g}]: {hint}'
      )


def digests(splits: Mapping[str, Split]) -> dict[str, str]:
  """Returns a checksum of each part of a user's data, {} for other data. A later start compares the checksums.

  A part that is not read at a start has one of its names and sizes.
  """
  return {name: _digest(split) for name, split in splits.items() if is_own(split.name)}


def describe(splits: Mapping[str, Split], config: Any) -> list[str]:
  """Returns lines that say what a user's folder or file holds: sizes, values, parts, classes, and what was left out."""
  first = next(iter(splits.values()))
  if not is_own(first.name):
    return []
  ranges = [_range(split) for split in splits.values()]
  low, high = min(low for low, _ in ranges), max(high for _, high in ranges)
  what = 'images' if len(first.shape) == 3 else 'points'
  head = f'{what} {_shape(first.shape)}, {first.arrays["x"].dtype} values from {low:g} to {high:g}'
  lines = [f'data: {config.name}: {head}']
  lines += [f'data: {name}: {split.size} {what}{_by_class(split)}' for name, split in splits.items()]
  if first.arrays['x'].dtype == np.uint8 and config.preprocess != 'identity' and high < _DIM:
    lines.append(f'data: no pixel is brighter than {high:g} of 255: is this meant to be dark?')
  for name, split in splits.items():
    new = ', '.join(_called(split, label) for label in sorted(set(_unknown(split, first))))
    lines += [f'data: {name} has {new}, of which there are no examples to train on'] if new else []
  lines += _repeated(splits)
  return [printable(line) for line in (*lines, *(f'data: {note}' for note in first.notes))]


def _unknown(split: Split, train: Split) -> list[int]:
  """Returns the labels of the examples of a user's part whose class the training part lacks."""
  if not is_own(split.name) or 'y' not in split.arrays or 'y' not in train.arrays:
    return []
  return split.arrays['y'][~np.isin(split.arrays['y'], train.arrays['y'])].tolist()


def _by_class(split: Split) -> str:
  labels = split.arrays.get('y')
  if labels is None:
    return ', no labels'
  counts = np.bincount(labels, minlength=len(split.classes))
  if len(counts) > _NAMED:
    return f' of {len(counts)} classes, {counts.min()} to {counts.max()} each'
  return ', ' + ', '.join(f'{_called(split, label)}: {count}' for label, count in enumerate(counts))


def _called(split: Split, label: int) -> str:
  return f'class {label} ({split.classes[label]})' if label < len(split.classes) else f'class {label}'


def _scaling(low: float, high: float, least: float, most: float) -> str:
  """Returns advice on scaling values from low to high for a model of values from `least` to `most`."""
  if low >= 0 and 1 < high <= 255:
    by = 'x / 255' if least == 0 else 'x / 127.5 - 1'
    return f'store x.astype(np.uint8) and let --config.data.preprocess scale it, or store {by}'
  if low >= -1 and high <= 1 and least == 0:
    return 'store (x + 1) / 2'
  return 'store values in this range'


def _repeated(splits: Mapping[str, Split]) -> list[str]:
  """Returns lines that count the examples of other parts that are also in the training part."""
  in_files = any(rows.are_in_files(split.arrays) for split in splits.values())
  if in_files or sum(split.arrays['x'].nbytes for split in splits.values()) > _COMPARED:
    return []
  hashes = {name: [hash(row.tobytes()) for row in split.arrays['x']] for name, split in splits.items()}
  first, *others = hashes
  trained_on = set(hashes[first])
  counts = {name: sum(value in trained_on for value in hashes[name]) for name in others}
  return [f'data: {count} of the {name} examples are training examples, too' for name, count in counts.items() if count]


def _range(split: Split) -> tuple[float, float]:
  x = rows.sampled(split.arrays['x'])
  return float(x.min()), float(x.max())


def _digest(split: Split) -> str:
  value = 0
  for name, array in sorted(split.arrays.items()):
    if isinstance(array, rows.Rows):
      value = zlib.crc32(f'{name} {array.mark}'.encode(), value)
      continue
    value = zlib.crc32(f'{name} {array.dtype} {array.shape}'.encode(), value)
    for first in range(0, len(array), 4096):
      value = zlib.crc32(np.ascontiguousarray(array[first : first + 4096]), value)
  return f'{value:08x}'


def _shape(shape: tuple[int, ...]) -> str:
  return 'x'.join(map(str, shape))
