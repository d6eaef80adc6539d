"""Decoded examples kept on disk, so that only the first start pays for reading them.

One folder an entry under $DGM_JAX_CACHE/data (or ~/.cache/dgm_jax/data): x.npy,
y.npy when there are labels, and their checksums. It appears whole, by a rename, or
not at all; what a checksum does not match is made again. Nothing is unpickled.
"""

import contextlib
import errno
import hashlib
import json
import mmap
import pathlib
import shutil
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from dgm_jax.data import archive
from dgm_jax.data.split import Arrays
from dgm_jax.errors import UserError, printable
from dgm_jax.internal.files import cache_folder, read_text, sweep, write_atomic
from dgm_jax.internal.locks import file_lock

if TYPE_CHECKING:
  from filelock import BaseFileLock

__all__ = ['Example', 'cached', 'lock_of', 'refuse_shapes', 'remembered', 'root', 'stamp']

Label = int | tuple[int, ...] | None  # of one example; its factors, where it has several
Example = tuple[str, np.ndarray, Label]  # where it comes from, for errors; uint8 [H, W, C]; label

_FORMAT = 1  # part of every key: raised when the same source would be decoded differently


def root() -> pathlib.Path:
  """Returns the folder of the entries."""
  return cache_folder('data')


def stamp(path: pathlib.Path) -> list:
  """Returns what changes when the file changes: name, bytes, time of the last change."""
  status = path.stat()
  return [str(path), status.st_size, status.st_mtime_ns]


def cached(label: str, facts: dict[str, Any], source: Callable[[], tuple[int, Iterable[Example]]]) -> Arrays:
  """Returns the decoded examples of one split from the cache. On a miss, it reads the source and fills the cache.

  Args:
    label: the entry's name in messages to users.
    facts: plain data that determines the result, including the stamps of the source files.
    source: called on a miss; returns N, the number of examples, and the examples.

  Returns:
    'x' uint8 [N, H, W, C], mapped from disk, read-only. If every example has a label, also 'y' int32 [N] or [N, K].

  Raises:
    UserError: the examples differ in shape, or the cache cannot be written.
  """
  entry = _entry(label, facts)
  arrays = _load(entry)
  if arrays is None:
    with _alone(entry):
      arrays = _load(entry)  # another process may have filled it meanwhile
      if arrays is None:
        size, examples = source()
        print(printable(f'{label}: decoding {size} examples, this once, into {entry}'), file=sys.stderr, flush=True)
        _keep(entry, label, size, examples)
        arrays = _load(entry)
  if arrays is None:
    raise UserError(f'{label}: what was written to {entry} reads back damaged: set DGM_JAX_CACHE to a sound disk')
  return arrays


def lock_of(name: str, seconds: float = -1.0) -> 'BaseFileLock':
  """Returns the lock of the entry of this name, which lies in a folder beside theirs. See `internal.locks`."""
  return file_lock(cache_folder('locks') / name, seconds)


@contextlib.contextmanager
def _alone(entry: pathlib.Path) -> Iterator[None]:
  """Waits until no other process fills an entry. Where the file system has no locks, each fills it for itself."""
  lock = lock_of(entry.name)
  with contextlib.suppress(OSError):
    pathlib.Path(lock.lock_file).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock.acquire()
  try:
    yield
  finally:
    lock.release()


def remembered(label: str, facts: dict[str, Any], make: Callable[[], int]) -> int:
  """Returns a whole number that takes time to find, and saves it beside the arrays if possible.

  Args:
    label: the entry's name.
    facts: plain data that determines the number.
    make: computes the number.
  """
  entry = _entry(label, facts).with_suffix('.json')
  try:
    return int(json.loads(read_text(entry))['value'])
  except (OSError, ValueError, KeyError, TypeError):
    value = make()
  with contextlib.suppress(OSError):
    entry.parent.mkdir(parents=True, exist_ok=True)
    entry.parent.chmod(0o700)
    write_atomic(entry, json.dumps({'value': value}).encode())
  return value


def _entry(label: str, facts: dict[str, Any]) -> pathlib.Path:
  """Returns the path of the entry of a label and its facts."""
  digest = hashlib.sha256(json.dumps([_FORMAT, label, facts], sort_keys=True).encode()).hexdigest()[:16]
  return root() / f'{"".join(c if c.isalnum() else "_" for c in label)[-40:]}-{digest}'


def _load(entry: pathlib.Path) -> Arrays | None:
  """Returns the arrays of a whole, undamaged entry, else None."""
  try:
    sums = json.loads(read_text(entry / 'sums.json'))
    if 'x.npy' not in sums or any(_checksum(entry / name) != value for name, value in sums.items()):
      return None
    return {name.removesuffix('.npy'): np.asarray(np.load(entry / name, 'r', allow_pickle=False)) for name in sums}
  except (OSError, ValueError, AttributeError):
    return None


def _checksum(path: pathlib.Path) -> int:
  with path.open('rb') as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
    return zlib.crc32(content)


def _keep(entry: pathlib.Path, label: str, size: int, examples: Iterable[Example]) -> None:
  """Writes an entry beside its place, then moves it there."""
  try:
    entry.parent.mkdir(parents=True, exist_ok=True)
    entry.parent.chmod(0o700)
    sweep(entry.parent, f'{entry.name}.tmp*')
    with tempfile.TemporaryDirectory(prefix=f'{entry.name}.tmp', dir=entry.parent) as beside:
      new = pathlib.Path(beside, 'new')
      new.mkdir()
      _write(new, label, size, examples)
      _swap(entry, new, pathlib.Path(beside, 'old'))
  except OSError as error:
    raise UserError(
      f'{label}: cannot keep decoded data in {entry.parent} ({error.strerror or error}): '
      'free some space there, or set DGM_JAX_CACHE to another folder'
    ) from error


def _swap(entry: pathlib.Path, new: pathlib.Path, old: pathlib.Path) -> None:
  """Puts `new` in the place of a damaged or missing entry. If another process was first, its entry stays."""
  if entry.exists():
    entry.rename(old)
  try:
    new.rename(entry)
  except OSError as error:
    if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
      raise


def _write(folder: pathlib.Path, label: str, size: int, examples: Iterable[Example]) -> None:
  labels = _write_pictures(folder / 'x.npy', label, size, examples)
  if all(y is not None for y in labels):
    np.save(folder / 'y.npy', np.array(labels, np.int32))
  sums = {path.name: _checksum(path) for path in sorted(folder.glob('*.npy'))}
  (folder / 'sums.json').write_text(json.dumps(sums))


def _write_pictures(path: pathlib.Path, label: str, size: int, examples: Iterable[Example]) -> list[Label]:
  """Writes x.npy picture by picture, so that memory holds one. Returns the labels."""
  labels, shape = [], None
  with path.open('wb') as file:
    for place, x, y in examples:
      if shape is None:
        first, shape = place, x.shape
        _check_room(path.parent, label, size * x.nbytes)
        header = {'descr': '|u1', 'fortran_order': False, 'shape': (size, *shape)}
        np.lib.format.write_array_header_1_0(file, header)
      if x.shape != shape:
        refuse_shapes(label, first, shape, place, x.shape)
      file.write(x.tobytes())
      labels.append(y)
  return labels


def refuse_shapes(label: str, first: str, shape: tuple[int, ...], place: str, other: tuple[int, ...]) -> NoReturn:
  """Refuses images of two shapes.

  Raises:
    UserError: always.
  """
  raise UserError(
    f'{label}: images differ: {first} is {_shape(shape)}, {place} is {_shape(other)}: '
    'set --config.data.size (pixels a side) and --config.data.channels (1 or 3)'
  )


def _check_room(folder: pathlib.Path, label: str, needed: int) -> None:
  """Refuses examples that are larger than the free disk, or than half of the memory: a split is a copy."""
  free, memory = shutil.disk_usage(folder).free, archive.memory() // 2
  if needed > min(free, memory):
    where = f'half of the memory of this machine, {memory:,}' if needed > memory else f'the {free:,} free in {root()}'
    raise UserError(
      f'{label}: decoded, it takes {needed:,} bytes, more than {where}: set a smaller --config.data.size'
      + ', or DGM_JAX_CACHE to a folder with more room' * (needed <= memory)
    )


def _shape(shape: tuple[int, ...]) -> str:
  return 'x'.join(map(str, shape))
