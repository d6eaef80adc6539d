"""Whole files that a reader never sees half written, files that are opened only if they are what they seem, modules."""

import errno
import importlib.util
import io
import os
import pathlib
import stat
from collections.abc import Callable
from types import ModuleType
from typing import IO

__all__ = ['import_file', 'open_regular', 'open_without_links', 'read_bytes', 'read_text', 'write_atomic', 'write_with']


def import_file(path: pathlib.Path) -> ModuleType:
  """Returns the module of a Python file. It is not entered into `sys.modules`, and is read anew each time."""
  spec = importlib.util.spec_from_file_location(path.stem, path)
  assert spec and spec.loader
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def write_atomic(path: str | os.PathLike, data: bytes) -> None:
  """Replaces `path` by `data`. After a crash the file holds either the old bytes or the new ones."""
  path = pathlib.Path(path)
  draft = path.with_name(f'.{path.name}.{os.getpid()}.tmp')  # same folder: a rename across file systems is not atomic
  try:
    draft.unlink(missing_ok=True)  # of a process that was killed, or a link that somebody put there
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666), 'wb') as file:
      file.write(data)
      file.flush()
      os.fsync(file.fileno())
    draft.replace(path)
  finally:
    draft.unlink(missing_ok=True)


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
  with open_regular(path) as file:
    return file.read()


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
    number = os.open(path, flags, 0o666)
  except OSError as error:
    if error.errno == errno.ELOOP:
      raise OSError(errno.ELOOP, 'it is a link: remove it', os.fspath(path)) from error
    raise
  if not stat.S_ISREG(os.fstat(number).st_mode):
    os.close(number)
    raise OSError(errno.EINVAL, 'it is no regular file: remove it', os.fspath(path))
  return os.fdopen(number, 'a+', encoding='utf-8')
