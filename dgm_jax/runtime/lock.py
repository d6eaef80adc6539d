"""One trainer a folder: a lock that names its holder, and dies with it."""

import contextlib
import datetime
import json
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from dgm_jax.errors import UserError, printable
from dgm_jax.internal.files import append, exists, make_folder, open_without_links, patiently, read_bytes, read_text
from dgm_jax.internal.locks import file_lock

__all__ = ['locked']

TRIES = 20  # of opening a file that others remove
NAME = 'lock.json'  # {host, pid, started}; empty: nobody trains here


@contextlib.contextmanager
def locked(folder: Path, flag: str = '--workdir') -> Iterator[None]:
  """Holds a folder. If a killed process left a lock behind, it is taken over, with a line.

  The kernel drops the lock with the process. If the file system has no locks, the page alone decides. In that case a
  holder on another machine counts as alive. If the block ends by a UserError, whatever was made for the lock is
  removed. `flag` is the folder's in messages.

  Raises:
    UserError: another process holds the folder, or it cannot be written.
  """
  path = Path(folder).absolute() / NAME
  fresh = [place for place in (path, *path.parents) if not exists(place)]
  with contextlib.ExitStack() as exits:
    try:
      kernel = _acquire(path, exits, flag)
      file = exits.enter_context(_open(path))
    except OSError as error:
      _remove(fresh)
      raise UserError(f'{flag}={folder} cannot be written: {error.strerror}') from error
    before, refused = _take(path, kernel, flag), False
    try:
      _sign(file, path, flag)
      yield
    except UserError:
      refused = True
      raise
    finally:
      with contextlib.suppress(OSError):  # a page that stays is that of a process that is gone
        patiently(lambda: file.truncate(0))
        if refused:
          append(file.fileno(), before)
          _remove(fresh)


def _acquire(path: Path, exits: contextlib.ExitStack, flag: str) -> bool:
  """Takes the lock of the file until `exits` is closed. Returns whether the file system has locks.

  Raises:
    UserError: another process holds the folder.
  """
  from filelock import Timeout

  lock = file_lock(path, seconds=0)
  exits.callback(lock.release)
  try:
    for _ in range(TRIES):
      with contextlib.suppress(FileNotFoundError):  # a command that is refused has removed the folder
        lock.acquire()
        return True
  except Timeout as error:
    raise UserError(_refusal(path, _holder(path), flag)) from error
  except OSError:  # a network file system without locks, or what `_open` says better
    pass
  return False


def _open(path: Path) -> IO[str]:
  """Opens the file of the lock. A command that is refused may remove it, and its folder, meanwhile."""
  for _ in range(TRIES):
    with contextlib.suppress(FileNotFoundError, FileExistsError):
      make_folder(path.parent)
      return open_without_links(path)
  make_folder(path.parent)
  return open_without_links(path)


def _remove(fresh: list[Path]) -> None:
  """Removes the lock and the folders that were made for it, as far as nothing else is in them."""
  with contextlib.suppress(OSError):
    for place in fresh:
      place.unlink(missing_ok=True) if place.name == NAME else place.rmdir()


def _take(path: Path, kernel: bool, flag: str) -> bytes:
  """Returns what a killed holder left in the file.

  Args:
    path: of the file.
    kernel: whether the kernel has given us the lock.
    flag: the folder's, for the message.

  Raises:
    UserError: another process holds the folder.
  """
  holder = _holder(path)
  if holder and not kernel and _alive(holder):
    raise UserError(f'{_refusal(path, holder, flag)}; if it is gone, remove {path}')
  if holder:
    print(printable(f'warning: taking over {path.parent} from {_described(holder)}, which is gone'), file=sys.stderr)
  return read_bytes(path)


def _sign(file: IO[str], path: Path, flag: str) -> None:
  """Writes the page of this process.

  Raises:
    UserError: it cannot be written.
  """
  started = datetime.datetime.now().astimezone().isoformat(timespec='seconds')
  page = {'host': socket.gethostname(), 'pid': os.getpid(), 'started': started}
  try:
    file.truncate(0)
    append(file.fileno(), json.dumps(page).encode())
  except OSError as error:
    raise UserError(f'{flag}={path.parent} cannot be written: {error.strerror}') from error


def _holder(path: Path) -> dict:
  """Reads the page of the lock. Returns {} if it is empty or cut short."""
  try:
    page = json.loads(read_text(path))
    return {'host': str(page['host']), 'pid': int(page['pid']), 'started': str(page['started'])}
  except (OSError, ValueError, KeyError, TypeError):
    return {}


def _alive(holder: dict) -> bool:
  """Returns whether a holder may be alive. A holder on another machine always may."""
  if holder['host'] != socket.gethostname():
    return True
  try:
    os.kill(holder['pid'], 0)
  except ProcessLookupError:
    return False
  except PermissionError:
    pass
  return True


def _refusal(path: Path, holder: dict, flag: str) -> str:
  who = _described(holder) if holder else 'another process'
  return f'{path.parent} is being trained by {who}; take another {flag}, or wait'


def _described(holder: dict) -> str:
  return f'process {holder["pid"]} on {holder["host"]}, started {holder["started"]}'
