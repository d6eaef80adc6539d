"""Whole files that a reader never sees half written, files that are opened only if they are what they seem, modules.

A network file system fails now and then. What may pass is tried again after pauses, here and by all who read or write.
"""

import contextlib
import errno
import importlib.util
import io
import os
import pathlib
import shutil
import stat
import time
from collections.abc import Callable
from types import ModuleType
from typing import IO, TypeVar

__all__ = [
  'PAUSES', 'append', 'cache_folder', 'exists', 'import_file', 'is_file', 'is_folder', 'make_folder', 'may_pass',
  'open_regular', 'open_without_links', 'patiently', 'read_bytes', 'read_text', 'sweep', 'sync', 'write_atomic',
  'write_with',
]  # fmt: skip

T = TypeVar('T')
PAUSES = (0.1, 0.5, 2.0)  # seconds before each new attempt
DAY = 86400  # seconds
# Errors that say what a path is, or what the user may do. All others may be gone at the next attempt.
FINAL = {
  errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL, errno.EEXIST,
  errno.ENOTEMPTY, errno.EROFS, errno.EPERM, errno.EACCES, errno.ENOSPC, errno.EDQUOT, errno.ENXIO, errno.EXDEV, None,
}  # fmt: skip
DENIED = {errno.EPERM, errno.EACCES, errno.EROFS}  # no damage, and no reason to wait


def cache_folder(name: str = '') -> pathlib.Path:
  """Returns the folder of what is kept between runs, $DGM_JAX_CACHE or ~/.cache/dgm_jax, or a folder in it."""
  return pathlib.Path(os.environ.get('DGM_JAX_CACHE') or '~/.cache/dgm_jax').expanduser() / name


def may_pass(error: OSError) -> bool:
  """Returns whether an error says nothing about a file itself: a fault of the disk or the network, a missing right."""
  return error.errno in DENIED or error.errno not in FINAL


def patiently(function: Callable[[], T]) -> T:
  """Calls a function, and again after pauses while it fails by what may be gone at the next attempt.

  Raises:
    OSError: the last attempt failed, or the failure will not pass.
  """
  for pause in PAUSES:
    try:
      return function()
    except OSError as error:
      if error.errno in FINAL:
        raise
    time.sleep(pause)
  return function()


def exists(path: str | os.PathLike) -> bool:
  """Returns whether there is something at a path. See `patiently`."""
  return patiently(pathlib.Path(path).exists)


def is_file(path: str | os.PathLike) -> bool:
  """Returns whether there is a regular file at a path. See `patiently`."""
  return patiently(pathlib.Path(path).is_file)


def is_folder(path: str | os.PathLike) -> bool:
  """Returns whether there is a folder at a path. See `patiently`."""
  return patiently(pathlib.Path(path).is_dir)


def import_file(path: pathlib.Path) -> ModuleType:
  """Returns the module of a Python file. It is not entered into `sys.modules`, and is read anew each time."""
  spec = importlib.util.spec_from_file_location(path.stem, path)
  assert spec and spec.loader
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def make_folder(path: str | os.PathLike) -> None:
  """Makes a folder and those above it, unless they are there, and has their names on the disk."""
  path = pathlib.Path(path)
  fresh = [place for place in (path, *path.parents) if not exists(place)]
  patiently(lambda: os.makedirs(path, exist_ok=True))
  for place in fresh:
    sync(place.parent)


def write_atomic(path: str | os.PathLike, data: bytes) -> None:
  """Replaces `path` by `data`. After a crash the file holds either the old bytes or the new ones."""
  patiently(lambda: _replace(pathlib.Path(path), data))


def _replace(path: pathlib.Path, data: bytes) -> None:
  draft = path.with_name(f'.{path.name}.{os.getpid()}.tmp')  # same folder: a rename across file systems is not atomic
  try:
    draft.unlink(missing_ok=True)  # of a process that was killed, or a link that somebody put there
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666), 'wb') as file:
      file.write(data)
      file.flush()
      os.fsync(file.fileno())
    draft.replace(path)
    sync(path.parent)
  finally:
    draft.unlink(missing_ok=True)


def sweep(folder: pathlib.Path, pattern: str) -> None:
  """Removes the drafts of killed processes: folders in `folder` of this pattern that are older than a day."""
  for draft in folder.glob(pattern):
    with contextlib.suppress(FileNotFoundError):  # its owner lives, and has just finished
      if time.time() - draft.stat().st_mtime > DAY:
        shutil.rmtree(draft, ignore_errors=True)


def sync(path: str | os.PathLike) -> None:
  """Has a file, or the names in a folder, on the disk before it returns.

  A file system that does not know how (EINVAL), and a path that is gone, are passed over.

  Raises:
    OSError: the disk reports a failure.
  """
  try:
    number = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
  except (FileNotFoundError, PermissionError):
    return
  try:
    os.fsync(number)
  except OSError as error:
    if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
      raise
  finally:
    os.close(number)


def write_with(path: str | os.PathLike, write: Callable[[IO[bytes]], object]) -> None:
  """Replaces `path` by the output of `write(file)`. See `write_atomic`."""
  content = io.BytesIO()
  write(content)
  write_atomic(path, content.getvalue())


def open_regular(path: str | os.PathLike) -> io.BufferedReader:
  """Opens a regular file for reading. It never waits, as opening a pipe would.

  Raises:
    OSError: the path is missing or unreadable, or is a pipe, a device, a socket or a folder.
  """
  number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
  if not stat.S_ISREG(os.fstat(number).st_mode):
    os.close(number)
    raise OSError(errno.EINVAL, 'it is no regular file', os.fspath(path))
  return os.fdopen(number, 'rb')


def read_bytes(path: str | os.PathLike) -> bytes:
  """Returns the content of a regular file. See `open_regular`."""

  def read() -> bytes:
    with open_regular(path) as file:
      data = file.read()
    if data is None:  # in place of EAGAIN
      raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN), os.fspath(path))
    return data

  return patiently(read)


def read_text(path: str | os.PathLike) -> str:
  """Returns the content of a regular file in UTF-8. See `open_regular`."""
  return read_bytes(path).decode('utf-8')


def open_without_links(path: str | os.PathLike) -> IO[str]:
  """Opens a file of a run for reading and appending. It creates a missing file, follows no link and never waits.

  Raises:
    OSError: the path is a link, a pipe, a device or a folder, or it cannot be written.
  """
  flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
  try:
    number = patiently(lambda: os.open(path, flags, 0o666))
  except OSError as error:
    if error.errno == errno.ELOOP:
      raise OSError(errno.ELOOP, 'it is a link: remove it', os.fspath(path)) from error
    raise
  if not stat.S_ISREG(patiently(lambda: os.fstat(number)).st_mode):
    os.close(number)
    raise OSError(errno.EINVAL, 'it is no regular file: remove it', os.fspath(path))
  return os.fdopen(number, 'a+', encoding='utf-8')


def append(number: int, data: bytes) -> None:
  """Writes all of `data` to an open file.

  Raises:
    OSError: it cannot be written.
  """
  done = 0
  while done < len(data):
    done += patiently(lambda start=done: os.write(number, data[start:]))
