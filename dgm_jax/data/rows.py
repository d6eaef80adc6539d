"""Arrays whose rows stay in files until they are asked for, from any thread.

Axes: N examples, R of them that are asked for together.
"""

import os
import weakref
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from dgm_jax.data import archive
from dgm_jax.errors import UserError
from dgm_jax.internal.files import open_regular, patiently

__all__ = ['LARGE', 'Rows', 'Source', 'are_in_files', 'chosen', 'fingerprint', 'of_file', 'require_whole', 'sampled']

LARGE = 2**30  # bytes of a user's pictures from which on they are not read at a start
CHUNK = 2**26  # bytes that are read at a time where a whole array is wanted
SAMPLE = 64  # rows that stand for all of them in checks


class Rows:
  """An array [N, ...] in files. An index, a slice or an array of indices along its first axis gives a new array.

  Args:
    shape: (N, ...).
    dtype: of the array.
    read: `read(index int64 [R]) -> [R, ...]`, thread-safe, a new array a call.
    mark: a checksum of what can be known without reading contents, such as names and sizes.
  """

  def __init__(self, shape: tuple[int, ...], dtype: Any, read: Callable[[np.ndarray], np.ndarray], mark: str):
    self.shape, self.dtype, self.read, self.mark = tuple(map(int, shape)), np.dtype(dtype), read, mark

  @property
  def ndim(self) -> int:
    """Returns the number of axes."""
    return len(self.shape)

  @property
  def nbytes(self) -> int:
    """Returns the bytes of the whole array."""
    return int(np.prod(self.shape, dtype=object)) * self.dtype.itemsize

  def __len__(self) -> int:
    return self.shape[0]

  def __getitem__(self, index: Any) -> np.ndarray:
    if isinstance(index, tuple):
      rows = self[index[0]]
      return rows[(*[slice(None)] * (rows.ndim - self.ndim + 1), *index[1:])]
    if isinstance(index, slice):
      return self.read(np.arange(*index.indices(len(self)), dtype=np.int64))
    index = np.asarray(index)
    index = np.flatnonzero(index) if index.dtype == bool and index.shape == (len(self),) else index
    if index.size and not -len(self) <= index.min() <= index.max() < len(self):
      raise IndexError(f'there is no row {index.max()} or {index.min()} of {len(self)}')
    flat = np.where(index < 0, index + len(self), index).astype(np.int64).reshape(-1)
    return self.read(flat).reshape(*index.shape, *self.shape[1:])

  def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
    del copy
    require_whole(self)
    whole, each = np.empty(self.shape, self.dtype), max(1, CHUNK // max(1, self.nbytes // max(1, len(self))))
    for first in range(0, len(self), each):
      whole[first : first + each] = self[first : first + each]
    return whole if dtype is None else whole.astype(dtype, copy=False)


class Source:
  """Random access to the examples of a split, as Grain and other loaders want it: `len(source)`, `source[i]`.

  Args:
    arrays: name -> [N, ...], NumPy arrays or `Rows`.
  """

  def __init__(self, arrays: Mapping[str, Any]):
    self.arrays = dict(arrays)

  def __len__(self) -> int:
    return len(next(iter(self.arrays.values())))

  def __getitem__(self, place: int) -> dict[str, np.ndarray]:
    return {name: array[0] for name, array in self.rows(np.array([place])).items()}

  def rows(self, index: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the examples at `index` int [R], name -> [R, ...], as new arrays. It may be called in any thread."""
    return {name: array[index] for name, array in self.arrays.items()}


def are_in_files(arrays: Mapping[str, Any]) -> bool:
  """Returns whether rows of these arrays are read when they are asked for."""
  return any(isinstance(array, Rows) for array in arrays.values())


def require_whole(array: Rows) -> None:
  """Refuses to read an array into memory that it does not fit.

  Raises:
    UserError: it takes more than half of the memory.
  """
  if array.nbytes > archive.memory() // 2:
    raise UserError(
      f'{len(array):,} examples take {array.nbytes:,} bytes, and this needs all of them in memory, of which the'
      f' machine has {archive.memory():,}: take a smaller split, or set --config.data.size'
    )


def chosen(array: Any, index: np.ndarray | slice) -> Any:
  """Returns the rows of an array at an increasing index. Of `Rows` nothing is read."""
  if not isinstance(array, Rows):
    return array[index]
  if isinstance(index, slice):
    start, stop, step = index.indices(len(array))
    size, place = len(range(start, stop, step)), lambda rows: start + step * rows
  else:
    size, place = len(index), lambda rows: index[rows].astype(np.int64)
  mark = fingerprint(array.mark, str(index) if isinstance(index, slice) else index.tobytes())
  return Rows((size, *array.shape[1:]), array.dtype, lambda rows: array.read(place(rows)), mark)


def sampled(array: Any) -> np.ndarray:
  """Returns the array, or of `Rows` a few, evenly strided."""
  if not isinstance(array, Rows):
    return array
  return array[np.arange(min(SAMPLE, len(array))) * len(array) // min(SAMPLE, len(array))]


def fingerprint(*parts: str | bytes) -> str:
  """Returns a checksum of texts and bytes."""
  value = 0
  for part in parts:
    value = zlib.crc32(part.encode() if isinstance(part, str) else part, value)
  return f'{value:08x}'


def of_file(path: os.PathLike, member: archive.Member) -> Rows:
  """Returns the array of an .npy file, of which rows are read without mapping it: a map's pages would count as memory.

  Raises:
    UserError: the array is stored by columns; on a read, the file is damaged or gone.
  """
  if member.by_columns:
    raise UserError(f'{path} is stored by columns: save it anew by np.save(FILE, np.ascontiguousarray(x))')
  with open_regular(path) as file:
    number = os.dup(file.fileno())
  row = int(np.prod(member.shape[1:], dtype=object)) * member.dtype.itemsize

  def read(index: np.ndarray) -> np.ndarray:
    out = np.empty((len(index), *member.shape[1:]), member.dtype)
    view = memoryview(out.reshape(-1).view(np.uint8))
    ends = [*(np.flatnonzero(np.diff(index) != 1) + 1).tolist(), len(index)]
    first = 0
    for end in ends if len(index) else ():  # rows that follow one another in the file are one read
      _fill(number, view[first * row : end * row], member.start + int(index[first]) * row, path)
      first = end
    return out

  weakref.finalize(read, os.close, number)
  mark = fingerprint(f'{os.path.basename(path)} {member.shape} {member.dtype}')
  return Rows(member.shape, member.dtype, read, mark)


def _fill(number: int, view: memoryview, offset: int, path: os.PathLike) -> None:
  """Reads as many bytes of an open file as the view has."""
  done = 0
  while done < len(view):
    try:
      count = patiently(lambda at=done: os.preadv(number, [view[at:]], offset + at))
    except OSError as error:
      raise UserError(f'cannot read {path} ({error.strerror}): mend the disk, and start again') from error
    if not count:
      raise UserError(f'{path} ends before its last row: it has been cut, save it anew')
    done += count
