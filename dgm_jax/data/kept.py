"""Decoded rows that are kept on disk, so that each is decoded once: row by row, when it is first asked for.

A file under $DGM_JAX_CACHE/rows holds the rows, one beside it a checksum of each, 0 for those that are not there. Both
are sparse. A row that was torn by a kill fails its checksum and is decoded again. Processes may share the files.
"""

import hashlib
import json
import os
import pathlib
import shutil
import sys
import types
import weakref
import zlib
from typing import Any

import numpy as np

from dgm_jax.data.cache import root
from dgm_jax.data.rows import Rows
from dgm_jax.errors import printable

__all__ = ['kept']

_FORMAT = 1  # part of every key: raised when the same source would be decoded differently
SPARE = 2**30  # bytes of the disk that are left free


def kept(rows: Rows, label: str, facts: dict[str, Any]) -> Rows:
  """Returns the same rows, of which each is kept when it is read; without files where the disk lacks the room.

  Args:
    rows: the decoder.
    label: the rows' name in messages to users.
    facts: plain data that determines the rows, including names, sizes and times of their files.
  """
  key = hashlib.sha256(json.dumps([_FORMAT, label, facts], sort_keys=True).encode()).hexdigest()[:16]
  path = root().parent / 'rows' / f'{"".join(c if c.isalnum() else "_" for c in label)[-40:]}-{key}'
  try:
    numbers = _opened(path, rows)
  except OSError as error:
    print(
      printable(f'{label}: {error.strerror or error} ({path.parent}): each epoch decodes its {len(rows):,} examples'),
      file=sys.stderr, flush=True,
    )  # fmt: skip
    return rows
  return _keeping(rows, *numbers)


def _opened(path: pathlib.Path, rows: Rows) -> tuple[int, int]:
  """Opens, or makes, the file of rows and that of their checksums.

  Raises:
    OSError: the folder cannot be written, or the disk lacks the room.
  """
  path.parent.mkdir(parents=True, exist_ok=True)
  path.parent.chmod(0o700)
  numbers = [
    os.open(f'{path}{end}', os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600) for end in ('', '.sums')
  ]
  there = 512 * os.fstat(numbers[0]).st_blocks
  if rows.nbytes - there + SPARE > shutil.disk_usage(path.parent).free:
    for number in numbers:
      os.close(number)
    raise OSError(f'the disk lacks the {rows.nbytes:,} bytes to keep them')
  for number, size in zip(numbers, (rows.nbytes, 4 * len(rows)), strict=True):
    os.ftruncate(number, size)
  return numbers[0], numbers[1]


def _keeping(rows: Rows, number: int, number_of_sums: int) -> Rows:
  each = rows.nbytes // len(rows)
  sums = np.frombuffer(os.pread(number_of_sums, 4 * len(rows), 0), np.uint32).copy()
  disk = types.SimpleNamespace(full=False)

  def keep(place: int, row: np.ndarray) -> None:
    content = row.tobytes()
    value = np.uint32(zlib.crc32(content) or 1)
    try:
      os.pwrite(number, content, place * each)
      os.pwrite(number_of_sums, value.tobytes(), 4 * place)
    except OSError:  # the disk has filled up: what is there is good
      disk.full = True
      return
    sums[place] = value

  def stored(place: int) -> bytes:
    try:
      return os.pread(number, each, place * each)
    except OSError:  # a sector of the disk is gone: the row is decoded again
      return b''

  def read(index: np.ndarray) -> np.ndarray:
    out = np.empty((len(index), *rows.shape[1:]), rows.dtype)
    missing = []
    for i, place in enumerate(index.tolist()):
      if sums[place]:
        content = stored(place)
        if (zlib.crc32(content) or 1) == sums[place] and len(content) == each:
          out[i] = np.frombuffer(content, rows.dtype).reshape(out.shape[1:])
          continue
      missing.append(i)
    if missing:
      out[missing] = rows.read(index[missing])
      for i in missing if not disk.full else ():
        keep(int(index[i]), out[i])
    return out

  weakref.finalize(read, lambda: [os.close(number), os.close(number_of_sums)])
  return Rows(rows.shape, rows.dtype, read, rows.mark)
