"""Which pictures lie under a folder, and what else does: walks links once, leaves hidden things and pipes alone."""

import os
import pathlib
from collections.abc import Iterable
from typing import NamedTuple

from dgm_jax.errors import UserError

__all__ = ['FORMATS', 'SUFFIXES', 'Listing', 'summary', 'walk']

SUFFIXES = ('.png', '.jpg', '.jpeg', '.jpe', '.jfif', '.bmp', '.webp', '.gif')
FORMATS = 'PNG, JPEG, BMP, WebP, GIF'
HIDDEN = 'hidden'
LINKED = 'links to what is read already'
BROKEN = 'broken links'
SPECIAL = 'neither files nor folders'
OTHER = f'of other kinds than {FORMATS}'
_JUNK = ('__macosx', '@eadir', '$recycle.bin', 'lost+found', '#recycle', '#snapshot', '__pycache__', 'thumbs.db')
_SHOWN = 3  # examples of what was left out


class Listing(NamedTuple):
  """What lies under a folder."""

  pictures: list[str]  # paths relative to the folder, sorted
  left_out: list[tuple[str, str]]  # (reason, path)


def walk(root: pathlib.Path, at: str = '', visited: set[tuple[int, int]] | None = None) -> Listing:
  """Lists the pictures under a folder, each once.

  Folders and files come before links, so that a link to a place under the same root is left out.

  Args:
    root: the folder that paths are relative to.
    at: the folder below it that is listed.
    visited: device and inode number of every entry that is already listed; this call adds its own.

  Raises:
    UserError: a folder cannot be listed.
  """
  visited, pictures, left_out, links = set() if visited is None else visited, [], [], []
  folders = [at]
  while folders:
    here = folders.pop()
    status = _status(root / here, follow=True)
    if status is None or (status.st_dev, status.st_ino) in visited:
      continue
    visited.add((status.st_dev, status.st_ino))
    for entry in _entries(root / here):
      path = f'{here}/{entry.name}' if here else entry.name
      if is_hidden(entry.name):
        left_out.append((HIDDEN, path))
      elif entry.is_symlink():
        links.append(path)
      elif entry.is_dir(follow_symlinks=False):
        folders.append(path)
      elif not entry.is_file(follow_symlinks=False):
        left_out.append((SPECIAL, path))
      elif not entry.name.lower().endswith(SUFFIXES):
        left_out.append((OTHER, path))
      else:
        pictures.append(path)
        visited.add((status.st_dev, entry.inode()))
  for path in sorted(links):
    _follow(root, path, visited, pictures, left_out)
  return Listing(sorted(pictures), sorted(left_out))


def is_hidden(name: str) -> bool:
  """Returns whether an entry of a folder is not data: hidden, or made by an operating system for its own use."""
  return name.startswith('.') or name.lower() in _JUNK


def _follow(root: pathlib.Path, path: str, visited: set, pictures: list[str], left_out: list) -> None:
  """Adds the target of a link."""
  status = _status(root / path, follow=True)
  if status is None:
    left_out.append((BROKEN, path))
  elif (status.st_dev, status.st_ino) in visited:
    left_out.append((LINKED, path))
  elif (root / path).is_dir():
    listing = walk(root, path, visited)
    pictures += listing.pictures
    left_out += listing.left_out
  elif not (root / path).is_file():
    left_out.append((SPECIAL, path))
  elif not path.lower().endswith(SUFFIXES):
    left_out.append((OTHER, path))
  else:
    visited.add((status.st_dev, status.st_ino))
    pictures.append(path)


def _status(path: pathlib.Path, follow: bool) -> os.stat_result | None:
  try:
    return path.stat(follow_symlinks=follow)
  except OSError:
    return None


def _entries(folder: pathlib.Path) -> list[os.DirEntry]:
  try:
    with os.scandir(folder) as entries:
      return sorted(entries, key=lambda entry: entry.name)
  except OSError as error:
    raise UserError(f'cannot list the folder {folder} ({error.strerror}): make it readable, or remove it') from error


def summary(left_out: Iterable[tuple[str, str]]) -> list[str]:
  """Returns one phrase for each reason: 'hidden: 2 (.git, a/.b)'."""
  groups: dict[str, list[str]] = {}
  for reason, path in left_out:
    groups.setdefault(reason, []).append(path)
  phrases = []
  for reason, paths in groups.items():
    more = f', and {len(paths) - _SHOWN} more' if len(paths) > _SHOWN else ''
    phrases.append(f'{reason}: {len(paths)} ({", ".join(paths[:_SHOWN])}{more})')
  return phrases
