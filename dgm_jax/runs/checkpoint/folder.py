"""The folder of a run's checkpoints: which steps there are, how one is held, set aside and removed.

A reader holds the step that it reads by a shared lock of its folder. Whoever trains leaves such a step in its place.
"""

import contextlib
import itertools
import os
import shutil
import stat
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from dgm_jax.errors import UserError
from dgm_jax.internal.files import exists, patiently, sync

try:
  import fcntl  # filelock's locks of folders and of readers are files or databases beside them
except ImportError:  # Windows: as on a file system without locks, a reader whose step is gone lists again
  fcntl = None

__all__ = [
  'FOLDER', 'describe', 'hold', 'reason', 'remove', 'remove_drafts', 'set_aside', 'steps', 'sync_step', 'tidy',
  'unreadable', 'warn',
]  # fmt: skip

FOLDER = 'checkpoints'
UNFINISHED = ('*.orbax-checkpoint-tmp*', '*.removed')  # what Orbax has not renamed yet, what `remove` has begun with


def steps(workdir: Path) -> list[int]:
  """Returns the committed steps of a run, in order. Other folders are ignored.

  Raises:
    UserError: the folder cannot be read.
  """
  folder = Path(workdir) / FOLDER

  def committed(name: str) -> bool:
    try:
      return name.isdigit() and stat.S_ISDIR(os.stat(folder / name / 'state').st_mode)
    except (FileNotFoundError, NotADirectoryError):  # it was never whole, or is being removed
      return False

  try:
    return sorted(int(name) for name in _listing(folder) if patiently(lambda name=name: committed(name)))
  except OSError as error:
    raise UserError(f'{folder} cannot be read ({error.strerror}); nothing was changed: try again') from error


def unreadable(workdir: Path) -> list[str]:
  """Returns the names of the damaged steps that were set aside."""
  return sorted(name for name in _listing(Path(workdir) / FOLDER) if '.corrupt' in name)


@contextlib.contextmanager
def hold(step: Path) -> Iterator[None]:
  """Keeps the folder of a step from being removed by the run that trains, as far as the file system has locks."""
  number = None
  if fcntl:
    with contextlib.suppress(OSError):
      number = os.open(step, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
      fcntl.flock(number, fcntl.LOCK_SH | fcntl.LOCK_NB)
  try:
    yield
  finally:
    if number is not None:
      os.close(number)


def remove(step: Path, force: bool = False) -> None:
  """Removes the folder of a step: at once under its name, then its files.

  Args:
    step: the folder.
    force: whether it is removed even if it is held; if not, it stays for now.

  Raises:
    OSError: it cannot be removed.
  """
  aside = step.with_name(f'{step.name}.removed')
  with contextlib.ExitStack() as opened:
    if fcntl:
      try:
        number = os.open(step, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
      except FileNotFoundError:  # somebody else has removed it
        return
      opened.callback(os.close, number)
      with contextlib.suppress(OSError):  # a file system without locks: a reader finds out, and lists again
        try:
          fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
          if not force:
            return
    shutil.rmtree(aside, ignore_errors=True)
    with contextlib.suppress(FileNotFoundError):
      step.rename(aside)
  shutil.rmtree(aside, ignore_errors=True)


def sync_step(step: Path) -> None:
  """Has the files and folders of a committed step on the disk before it returns."""
  for path in [*step.rglob('*'), step, step.parent]:
    sync(path)


def tidy(folder: Path) -> None:
  """Removes drafts of killed saves, sets aside half-deleted steps, and names all other files."""
  remove_drafts(folder)
  whole = {str(step) for step in steps(folder.parent)}
  for path in patiently(lambda: sorted(folder.iterdir())):
    # Orbax would count it among the newest, and drop a good one for it.
    if path.name.isdigit() and path.name not in whole:
      warn([set_aside(path, 'it holds no state')], '')
    elif path.name not in whole and '.corrupt' not in path.name:
      print(f'warning: {path} is no checkpoint and is ignored', file=sys.stderr)


def remove_drafts(folder: Path, settle: float = 0.0, tries: int = 20) -> None:
  """Removes the files of unfinished saves, until no file comes back within `settle` seconds.

  If one of several writes fails, the others go on, and put files back into a folder that is being removed.
  """
  drafts = lambda: [path for pattern in UNFINISHED for path in patiently(lambda p=pattern: list(folder.glob(p)))]
  for _ in range(tries):
    for draft in drafts():
      shutil.rmtree(draft, ignore_errors=True)
    time.sleep(settle)
    if not drafts():
      return


def set_aside(step: Path, reason: str) -> str:
  """Renames a damaged step. Returns the line that reports it."""
  aside = next(path for path in _names(step) if not exists(path))
  try:
    step.rename(aside)
  except OSError as error:
    return f'{describe(step, reason)} and cannot be renamed ({error.strerror})'
  return f'warning: the checkpoint {step} is damaged and now {aside.name} ({reason})'


def describe(step: Path, reason: str) -> str:
  """Returns the line that reports a damaged step which is left in its place."""
  return f'warning: the checkpoint {step} is damaged ({reason})'


def warn(notes: list[str], end: str) -> None:
  """Prints lines on stderr, each with an end of its own."""
  print(*(note + end + '\n' for note in notes), sep='', end='', file=sys.stderr)


def reason(error: BaseException) -> str:
  """Returns the first line of an error."""
  return (str(error).splitlines() or [type(error).__name__])[0][:200]


def _listing(folder: Path) -> list[str]:
  """Returns the names in a folder, [] if it is not there."""
  try:
    return patiently(lambda: os.listdir(folder))
  except (FileNotFoundError, NotADirectoryError):
    return []


def _names(step: Path) -> Iterator[Path]:
  """Yields the possible names of a damaged step: 4.corrupt, 4.corrupt2, ..."""
  return (step.with_name(f'{step.name}.corrupt{number}') for number in itertools.chain([''], itertools.count(2)))
