"""Lists what is kept between runs, decoded data and compiled programs, or removes it.

Usage: dgm cache [WORD ...] [--clean]

It lies in $DGM_JAX_CACHE, or ~/.cache/dgm_jax. What is removed is made again by the command that needs it. Only entries
whose name has all words are listed or removed. An entry that another process is writing stays, and so does whatever is
not of dgm_jax.
"""

import contextlib
import os
import pathlib
import re
import shutil
import sys
import time
from collections import defaultdict
from typing import NamedTuple

from absl import flags
from rich.console import Console
from rich.table import Table

from dgm_jax import config as experiment
from dgm_jax.data.cache import lock_of
from dgm_jax.errors import UserError, printable
from dgm_jax.internal.files import cache_folder
from dgm_jax.runtime import cli

__all__ = ['Entry', 'define_flags', 'entries', 'main', 'run']

flags.disclaim_key_flags()  # --help lists them as the flags of the program that calls `run`

PROGRAMS = {'programs': 'compiled programs', 'tests': 'compiled programs of tests'}  # folder -> what it holds
PROGRAM = re.compile(r'.+-[0-9a-f]{64}-(cache|atime)')
ENTRY = r'(\w*-[0-9a-f]{16})'
DECODED = {  # folder -> its folders: entries and drafts; its files: numbers, locks, rows that are decoded one by one
  'data': (rf'{ENTRY}(?:\.tmp\w+)?', rf'{ENTRY}\.json'), 'locks': ('', ENTRY), 'rows': ('', rf'{ENTRY}(?:\.sums)?')
}  # fmt: skip
INSIDE = {'x.npy', 'y.npy', 'sums.json', 'new', 'old'}  # of an entry or a draft
AGES = {'day': 86400, 'hour': 3600, 'minute': 60}


class Entry(NamedTuple):
  """What is listed in one line, and removed together."""

  name: str
  paths: list[pathlib.Path]
  size: int  # bytes
  changed: float  # time of the last change, seconds


def define_flags() -> None:
  """Defines the command line."""
  flags.DEFINE_bool('clean', False, 'Remove the entries.')


def main(argv: list[str]) -> None:
  """Lists or removes the entries whose names have all the words of the command line."""
  words = experiment.parse(argv, __doc__)[1:]
  root = cache_folder()
  there, foreign = entries(root)
  chosen = [entry for entry in there if all(word.lower() in entry.name.lower() for word in words)]
  removed = [entry for entry in chosen if flags.FLAGS.clean and _removed(entry)]
  shown = removed if flags.FLAGS.clean else chosen
  table = Table('', 'size', 'age', box=None, pad_edge=False)
  for entry in sorted(shown, key=lambda entry: -entry.size):
    table.add_row(printable(entry.name), _size(entry.size), _age(time.time() - entry.changed))
  if shown:
    Console(soft_wrap=not sys.stdout.isatty(), markup=False, highlight=False).print(table)
  total = _size(sum(entry.size for entry in shown))
  print(printable(f'{total} {"removed from" if flags.FLAGS.clean else "in"} {root}'))
  for path in foreign:
    print(printable(f'{path} is not of dgm_jax and stays'))


def entries(root: pathlib.Path) -> tuple[list[Entry], list[pathlib.Path]]:
  """Returns the entries of the folder of caches, and what else lies there.

  Raises:
    UserError: the folder belongs to somebody else.
  """
  if not root.exists():
    return [], []
  if hasattr(os, 'getuid') and root.stat().st_uid != os.getuid():
    raise UserError(f'{root} belongs to user {root.stat().st_uid}: set DGM_JAX_CACHE to a folder of your own')
  foreign, paths = [], defaultdict(list)
  for folder in sorted(root.iterdir()):
    if folder.name not in (*DECODED, *PROGRAMS) or not folder.is_dir():
      foreign.append(folder)
      continue
    for path in sorted(folder.iterdir()):
      if folder.name in DECODED and (name := _decoded(path)):
        paths[name].append(path)
      elif folder.name in PROGRAMS and PROGRAM.fullmatch(path.name) and path.is_file() and not path.is_symlink():
        paths[PROGRAMS[folder.name]].append(path)
      else:
        foreign.append(path)
  return [_entry(name, its) for name, its in paths.items()], foreign


def _decoded(path: pathlib.Path) -> str:
  """Returns the name of the entry that a path is of, '' if it is not of dgm_jax."""
  folders, files = DECODED[path.parent.name]
  if path.is_symlink() or not (match := re.fullmatch(folders if path.is_dir() else files, path.name)):
    return ''
  return match[1] if not path.is_dir() or {inner.name for inner in path.iterdir()} <= INSIDE else ''


def _entry(name: str, paths: list[pathlib.Path]) -> Entry:
  size, changed = 0, 0.0
  for path in paths:
    for inner in (path, *path.rglob('*')) if path.is_dir() else (path,):
      with contextlib.suppress(FileNotFoundError):  # another process has removed it just now
        status = inner.lstat()
        own = 512 * status.st_blocks if inner.parent.name == 'rows' else status.st_size  # rows that are not there yet
        size, changed = size + own * inner.is_file(), max(changed, status.st_mtime)
  return Entry(name, paths, size, changed)


def _removed(entry: Entry) -> bool:
  """Removes an entry. Returns whether it could be: nobody is writing it."""
  from filelock import Timeout

  if entry.name in PROGRAMS.values():
    for path in entry.paths:
      path.unlink(missing_ok=True)
    return True
  lock = lock_of(entry.name, seconds=0)
  try:
    lock.acquire()
  except Timeout:
    print(printable(f'{entry.name} is being written by another process and stays'))
    return False
  except OSError:  # no locks there: an entry is removed whole, and a draft whose folder is gone is made again
    pass
  try:
    for path in (*entry.paths, pathlib.Path(lock.lock_file)):
      if path.is_dir():
        (path / 'sums.json').unlink(missing_ok=True)  # first: half an entry is none
        shutil.rmtree(path, ignore_errors=True)
      else:
        path.unlink(missing_ok=True)
  finally:
    lock.release()
  return True


def _size(size: float) -> str:
  """Returns a number of bytes as text of three digits."""
  for unit in ('B', 'kB', 'MB'):
    if size < 1000:
      return f'{size:.3g} {unit}'
    size /= 1000
  return f'{size:.3g} GB'


def _age(seconds: float) -> str:
  """Returns a time as text in its largest unit."""
  for unit, length in AGES.items():
    if (number := int(seconds // length)) > 0:
      return f'{number} {unit}{"s" * (number > 1)}'
  return 'new'


def run() -> None:
  """Runs the program."""
  define_flags()
  cli.run(main)
