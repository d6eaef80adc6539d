"""The parts and the classes of a folder of pictures: which pictures belong to which, and what belongs to none."""

import os
import pathlib
from typing import NamedTuple

from dgm_jax.data.listing import SUFFIXES, is_hidden, summary, walk
from dgm_jax.data.names import PARTS, part_of, resembles_part
from dgm_jax.errors import UserError

__all__ = ['Layout', 'Part', 'layout']

STRAY = 'beside the class folders'
APART = 'beside the folders of parts'


class Part(NamedTuple):
  """The pictures of one part."""

  folder: pathlib.Path
  pictures: list[str]  # paths relative to the folder
  labelled: bool  # whether the first folder of each path is its class


class Layout(NamedTuple):
  """How a folder is read."""

  parts: dict[str, Part]  # 'train', 'valid', 'test'; '' alone if all are to be split
  classes: tuple[str, ...]
  notes: tuple[str, ...]  # what was left out and why, and what else is worth a line


def layout(root: pathlib.Path) -> Layout:
  """Finds the parts and classes of a folder.

  Folders at the top that are called train, valid or test (or by another of their names) are the parts. Without
  them there is one part. Folders at the top of a part are the classes.

  Raises:
    UserError: there is no picture in a part, or the training part cannot be identified.
  """
  folders = _part_folders(root)
  left_out, parts, visited = [], {}, set()
  if folders:
    left_out += [(APART, name) for name in sorted(os.listdir(root)) if name not in folders.values()]
  for part, name in folders.items() or [('', '')]:
    listing = walk(root / name, '', visited)
    left_out += [(reason, f'{name}/{path}' if name else path) for reason, path in listing.left_out]
    if not listing.pictures:
      there = summary(left_out)
      others = f'; left out, {"; ".join(there)}' if there else ''
      raise UserError(f'no images in {root / name}: looked for {" ".join(SUFFIXES)}{others}')
    parts[part] = Part(*_unwrapped(root / name, listing.pictures, part), False)
  _refuse_inner_parts(root, parts)
  parts, strays, notes = _labelled(parts)
  left_out += [(STRAY, str((parts[part].folder / path).relative_to(root))) for part, path in strays]
  classes = _classes(root, parts)
  left = tuple(f'left out, {phrase}' for phrase in summary(left_out))
  return Layout(parts, classes, notes + left)


def _part_folders(root: pathlib.Path) -> dict[str, str]:
  """Returns the folders at the top that hold parts, part -> name.

  Raises:
    UserError: two folders may be one part, or their parts cannot be identified.
  """
  names = sorted(entry for entry in os.listdir(root) if not is_hidden(entry) and (root / entry).is_dir())
  by_name: dict[str, str] = {}
  for name in names:
    part = part_of(name)
    if part in by_name:
      raise UserError(f'{root} holds both {by_name[part]} and {name}, which may be the part {part}: keep one of them')
    if part:
      by_name[part] = name
  _refuse_one_folder_twice(root, list(by_name.values()))
  likely = {resembles_part(name): name for name in names if not part_of(name)}
  likely.pop('', None)
  if likely and ('train' in likely or by_name) and len({*likely, *by_name}) > 1:
    shown = ', '.join([*by_name.values(), *likely.values()])
    raise UserError(
      f'{root} holds {shown}, and it cannot be told which parts they are: call them train, valid and test'
    )
  if by_name and 'train' not in by_name:
    shown = ' and '.join(f'{name} (the part {part})' for part, name in by_name.items())
    raise UserError(f'{root} holds {shown} but no folder train: call the folder of training images train')
  return {part: by_name[part] for part in PARTS if part in by_name}


def _refuse_one_folder_twice(root: pathlib.Path, names: list[str]) -> None:
  for i, name in enumerate(names):
    for other in names[:i]:
      if (root / name).samefile(root / other):
        raise UserError(f'{root / other} and {root / name} are one folder: remove the link')


def _unwrapped(folder: pathlib.Path, pictures: list[str], part: str) -> tuple[pathlib.Path, list[str]]:
  """Removes an inner folder of the part's own name, which archives often have: train/train/0.png."""
  top = pictures[0].split('/')[0]
  if part and part_of(top) == part and all(path.startswith(f'{top}/') for path in pictures):
    return folder / top, [path.removeprefix(f'{top}/') for path in pictures]
  return folder, pictures


def _refuse_inner_parts(root: pathlib.Path, parts: dict[str, Part]) -> None:
  """Refuses folders of parts that lie further down, because their test images would be trained on."""
  for name, part in parts.items():
    inner = {pathlib.PurePath(folder) for folder in {path.rpartition('/')[0] for path in part.pictures}}
    inner = {path for folder in inner for path in (folder, *folder.parents) if part_of(path.name)}
    if inner := sorted(str(path) for path in inner):
      what = 'parts' if not name else f'parts inside of the part {name}'
      raise UserError(
        f'{part.folder} holds folders of {what} further down ({", ".join(inner[:3])}): give the path of the folder'
        ' that holds train and test, with the classes inside of them, or give these folders other names'
      )


def _labelled(parts: dict[str, Part]) -> tuple[dict[str, Part], list[tuple[str, str]], tuple[str, ...]]:
  """Returns the parts with `labelled` set, the pictures (part, path) beside class folders, and notes.

  Raises:
    UserError: more pictures of a part lie beside its class folders than inside.
  """
  tops = {path.split('/')[0] for part in parts.values() for path in part.pictures if '/' in path}
  whole = all('/' in path for part in parts.values() for path in part.pictures)
  if len(tops) < 2 and not whole:
    return parts, [], tuple(f'no labels: there are images in {top} and beside it' for top in tops)
  strays, labelled = [], {}
  for name, part in parts.items():
    inside = [path for path in part.pictures if '/' in path]
    beside = [(name, path) for path in part.pictures if '/' not in path]
    if len(beside) > len(inside) > 0:
      raise UserError(
        f'{len(beside)} images of {part.folder} lie beside its folders and {len(inside)} inside of them: move all of'
        ' them into folders, one a class, or all out of them'
      )
    strays += beside if inside else []
    labelled[name] = part._replace(pictures=inside or part.pictures, labelled=bool(inside))
  return labelled, strays, ()


def _classes(root: pathlib.Path, parts: dict[str, Part]) -> tuple[str, ...]:
  """Returns the names of the classes of all parts, sorted."""
  classes = sorted({path.split('/')[0] for part in parts.values() if part.labelled for path in part.pictures})
  folded: dict[str, str] = {}
  for name in classes:
    other = folded.setdefault(name.strip().casefold(), name)
    if other != name:
      raise UserError(f'{root} has the classes {other} and {name}: give folders of one class one name')
  return tuple(classes)
