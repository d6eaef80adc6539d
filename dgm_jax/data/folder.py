"""A user's folder of pictures."""

import os
import pathlib
from collections.abc import Callable, Iterator

import numpy as np

from dgm_jax.data.batches import permutation
from dgm_jax.data.cache import Example, cached, stamp
from dgm_jax.data.images import Look, conform, read
from dgm_jax.data.split import Arrays
from dgm_jax.errors import UserError

__all__ = ['dealt', 'parts']

_SUFFIXES = ('.png', '.jpg', '.jpeg', '.bmp', '.webp', '.gif')
_PARTS = ('train', 'valid', 'test')


def parts(where: str, look: Look) -> dict[str, Callable[[], Arrays]]:
  """The pictures under a folder, in the order of their paths.

  With a subfolder train/, the split is the folder's own: train/, valid/ and test/.
  Otherwise all pictures are dealt 80 : 10 : 10 by a fixed permutation. When every
  picture lies in a subfolder (of its part), the subfolders are the classes, numbered
  in the order of their names.

  Raises:
    UserError: there is no such folder, or no picture in it or in a part of it.
  """
  root = pathlib.Path(where).expanduser().resolve()
  if not root.is_dir():
    raise UserError(f'no folder {root}: give --config.data.name=folder:PATH the path of a folder of images')
  if not (root / 'train').is_dir():
    return dealt(lambda: _read({'': _list(root)}, root, '', look))
  listed = {part: _list(root / part) for part in _PARTS if (root / part).is_dir()}
  return {part: lambda part=part: _read(listed, root, part, look) for part in listed}


def dealt(whole: Callable[[], Arrays]) -> dict[str, Callable[[], Arrays]]:
  """Splits one array of examples 80 : 10 : 10 by a fixed permutation; each part keeps the stored order.

  Raises:
    UserError: there are fewer than three examples.
  """

  def deal(part: str) -> Arrays:
    arrays = whole()
    size = len(arrays['x'])
    if size < 3:
      raise UserError(f'{size} examples are too few to deal into train, valid and test: 3 are needed')
    tenth, chosen = max(1, size // 10), permutation(0, 0, size)
    cuts = {'train': slice(2 * tenth, None), 'valid': slice(tenth, 2 * tenth), 'test': slice(tenth)}
    return {name: array[np.sort(chosen[cuts[part]])] for name, array in arrays.items()}

  return {part: lambda part=part: deal(part) for part in _PARTS}


def _list(folder: pathlib.Path) -> list[str]:
  """The pictures' paths relative to the folder, sorted; hidden files are none."""
  found = [
    (pathlib.Path(at) / name).relative_to(folder).as_posix()
    for at, _, names in os.walk(folder)
    for name in names
    if name.lower().endswith(_SUFFIXES) and not name.startswith('.')
  ]
  if not found:
    raise UserError(f'no images in {folder}: looked for {" ".join(_SUFFIXES)}')
  return sorted(found)


def _read(listed: dict[str, list[str]], root: pathlib.Path, part: str, look: Look) -> Arrays:
  """The decoded pictures of one part; the classes are those of all parts together."""
  paths = [path for names in listed.values() for path in names]
  classes = sorted({path.split('/')[0] for path in paths}) if all('/' in path for path in paths) else []
  folder, names = root / part, listed[part]

  def examples() -> Iterator[Example]:
    for name in names:
      pixels = conform(read(folder / name, str(folder / name)), look)
      yield str(folder / name), pixels, classes.index(name.split('/')[0]) if classes else None

  facts = {'look': look, 'files': [stamp(folder / name) for name in names], 'classes': classes}
  return cached(str(folder), facts, lambda: (len(names), examples()))
