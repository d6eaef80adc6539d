"""Locks of files that the kernel keeps: they die with the process that holds them, also by `kill -9`."""

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
  from filelock import BaseFileLock

__all__ = ['file_lock']


def file_lock(path: str | os.PathLike, seconds: float = -1.0) -> 'BaseFileLock':
  """Returns a lock on a file, which is created by the first `acquire` and stays when the lock is released.

  It never is a soft lock, a file whose presence is the lock: that would outlive its holder.

  Args:
    path: of the file. A link is refused.
    seconds: how long `acquire` waits before it raises `filelock.Timeout`; negative: for ever.

  Returns:
    The lock. `acquire` raises OSError where the file system has no locks.
  """
  from filelock import FileLock

  return FileLock(path, seconds, fallback_to_soft=False, preserve_lock_file=True)
