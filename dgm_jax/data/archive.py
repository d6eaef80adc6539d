"""NumPy files whose headers are looked at before anything is read: what they promise must be there, and fit."""

import math
import os
import pathlib
import zipfile
from collections.abc import Callable
from typing import IO, NamedTuple

import numpy as np

from dgm_jax.errors import UserError
from dgm_jax.internal.files import open_regular

__all__ = ['Member', 'members', 'memory', 'read']

_ENCRYPTED = 1  # the flag of a member of a zip archive


class Member(NamedTuple):
  """An array in a file, by its header."""

  shape: tuple[int, ...]
  dtype: np.dtype
  start: int = 0  # of its content, in an .npy file
  by_columns: bool = False


def memory() -> int:
  """Returns the size of the machine's memory in bytes."""
  return os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')


def members(path: pathlib.Path) -> tuple[dict[str, Member], tuple[str, ...]]:
  """Returns the arrays in an .npz or .npy file, and the names of members that are not arrays.

  The array of an .npy file is called 'x'.

  Raises:
    UserError: the file is missing or damaged, or an array holds objects, is incomplete, or, in an archive, exceeds the
      memory.
  """
  return _tried(
    path, lambda file: _zipped(path, file) if _is_zip(file) else ({'x': _header(file, path.stat().st_size)}, ())
  )


def read(path: pathlib.Path, name: str) -> np.ndarray:
  """Returns an array that `members` lists. The array of an .npy file is mapped from disk.

  Raises:
    UserError: the file is damaged.
  """

  def load(file: IO[bytes]) -> np.ndarray:
    if not _is_zip(file):
      return np.load(path, 'r', allow_pickle=False)
    with np.load(file, allow_pickle=False) as arrays:
      return arrays[name]

  return _tried(path, load)


def _tried(path: pathlib.Path, use: Callable):
  """Calls `use(file)` on the opened file."""
  if not path.is_file():
    raise UserError(f'no file {path}: give --config.data.name=npz:PATH or npy:PATH the path of a NumPy file')
  try:
    with open_regular(path) as file:
      return use(file)
  except UserError:
    raise
  except Exception as error:  # damaged archives and headers raise anything
    raise UserError(f'cannot read {path} as NumPy arrays without pickled objects: save it anew by np.savez') from error


def _is_zip(file: IO[bytes]) -> bool:
  start = file.read(2)
  file.seek(0)
  return start == b'PK'


def _zipped(path: pathlib.Path, file: IO[bytes]) -> tuple[dict[str, Member], tuple[str, ...]]:
  members, others = {}, []
  with zipfile.ZipFile(file) as archive:
    for info in archive.infolist():
      name = info.filename.removesuffix('.npy')
      if info.flag_bits & _ENCRYPTED:
        raise UserError(f'{info.filename} of {path} is encrypted: save it anew by np.savez')
      if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise UserError(f'{info.filename} of {path} is compressed in a way that NumPy does not write: use np.savez')
      if name == info.filename:
        others.append(name)
        continue
      if name in members:
        raise UserError(f'{path} holds {info.filename} twice: save it anew by np.savez')
      with archive.open(info) as member:
        members[name] = _header(member, info.file_size)
      _refuse_large(members[name], f'{name} of {path}')
  return members, tuple(others)


def _refuse_large(member: Member, where: str) -> None:
  """Refuses an array of an archive, which is read whole, if it is larger than the memory."""
  needed = math.prod(member.shape) * member.dtype.itemsize
  if needed > memory():
    raise UserError(
      f'{where} has shape {member.shape}, {needed:.3g} bytes, more than the memory of this machine: cut it, or save it'
      ' alone by np.save, which is read row by row'
    )


def _header(file: IO[bytes], size: int) -> Member:
  """Reads the header of an array in a file of `size` bytes, and checks that the array is complete."""
  version = np.lib.format.read_magic(file)
  read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
  shape, by_columns, dtype = read_header(file)
  if dtype.hasobject:
    raise ValueError('pickled objects')
  needed, there = math.prod(shape) * dtype.itemsize, size - file.tell()
  if min(shape, default=0) < 0 or there < needed:
    raise ValueError(f'{needed} bytes promised, {there} there')
  return Member(shape, dtype, file.tell(), by_columns and len(shape) > 1)
