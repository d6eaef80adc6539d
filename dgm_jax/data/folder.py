"""A user's folder of pictures."""

import functools
import hashlib
import os
import pathlib
from collections.abc import Callable, Iterator

import numpy as np

from dgm_jax.data import rows
from dgm_jax.data.batches import permutation
from dgm_jax.data.cache import Example, cached, refuse_shapes, remembered, stamp
from dgm_jax.data.images import DEEP, Look, bits_used, conform, read
from dgm_jax.data.kept import kept
from dgm_jax.data.layout import Layout, Part, layout
from dgm_jax.data.names import PARTS, located
from dgm_jax.data.split import Arrays, Dataset
from dgm_jax.errors import UserError

__all__ = ['source', 'split_three_ways']


def source(where: str, look: Look) -> Dataset:
  """Finds the pictures under a folder, in the order of their paths.

  If there are subfolders train, valid and test, or others of their names, the split is the folder's own. Otherwise all
  pictures are split 80 : 10 : 10 by a fixed permutation. Subfolders (of a part) are the classes, numbered in the
  order of their names.

  Raises:
    UserError: there is no such folder, no picture in it or in a part of it, or its parts cannot be identified.
  """
  root = located(where)
  if not root.is_dir():
    raise UserError(f'no folder {root}: give --config.data.name=folder:PATH the path of a folder of images')
  tree = layout(root)
  notes = tree.notes
  if _is_large(tree, look):
    read_part = functools.cache(lambda part: _rows(tree, part, look))
  else:
    bits = _bits(root, tree)
    read_part = lambda part: _read(tree, part, look, bits)
    if bits and bits < DEEP:
      notes = (f'images of 16 bits use {bits} bits: their values are read as 0 to {2**bits - 1}', *notes)
  parts = (
    split_three_ways(lambda: read_part('')) if '' in tree.parts else {p: lambda p=p: read_part(p) for p in tree.parts}
  )
  return Dataset(parts, tree.classes, notes)


def _is_large(tree: Layout, look: Look) -> bool:
  """Returns whether the decoded pictures of all parts are too many to be read at a start. It looks at the first one."""
  count = sum(len(part.pictures) for part in tree.parts.values())
  if look.size and count * look.size**2 * 3 <= rows.LARGE:
    return False
  part = next(iter(tree.parts.values()))
  return count * _decoded(part, 0, look, DEEP).nbytes > rows.LARGE


def split_three_ways(whole: Callable[[], Arrays]) -> dict[str, Callable[[], Arrays]]:
  """Splits one array of examples 80 : 10 : 10 by a fixed permutation; each part keeps the stored order.

  Raises:
    UserError: there are fewer than three examples.
  """

  def deal(part: str) -> Arrays:
    arrays = whole()
    size = len(arrays['x'])
    if size < 3:
      raise UserError(f'{size} examples are too few to deal into train, valid and test: 3 are needed')
    tenth, order = max(1, size // 10), permutation(0, 0, size)
    cuts = {'train': slice(2 * tenth, None), 'valid': slice(tenth, 2 * tenth), 'test': slice(tenth)}
    part_of_all = np.zeros(size, bool)
    part_of_all[order[cuts[part]]] = True
    places = np.flatnonzero(part_of_all).astype(np.int32)
    return {name: rows.chosen(array, places) for name, array in arrays.items()}

  return {part: lambda part=part: deal(part) for part in PARTS}


def _bits(root: pathlib.Path, tree: Layout) -> int:
  """Returns the bits that 16-bit pictures of all parts use together, 0 if there are none."""
  files = [part.folder / name for part in tree.parts.values() for name in part.pictures]
  return remembered(f'{root} bits', {'files': [stamp(file) for file in files]}, lambda: bits_used(files))


def _decoded(part: Part, number: int, look: Look, bits: int) -> np.ndarray:
  """Returns picture `number` of a part, uint8 [H, W, C]."""
  file = part.folder / part.pictures[number]
  return conform(read(file, str(file), bits), look)


def _labels(part: Part, classes: tuple[str, ...]) -> list[int]:
  """Returns the class of each picture, [] if the part has no classes."""
  numbers = {name: number for number, name in enumerate(classes)}
  return [numbers[name.partition('/')[0]] for name in part.pictures] if part.labelled else []


def _read(tree: Layout, name: str, look: Look, bits: int) -> Arrays:
  """Decodes the pictures of one part, or takes them from the cache."""
  part, classes = tree.parts[name], tree.classes if tree.parts[name].labelled else ()
  labels = _labels(part, classes)

  def examples() -> Iterator[Example]:
    for i, picture in enumerate(part.pictures):
      yield str(part.folder / picture), _decoded(part, i, look, bits or DEEP), labels[i] if labels else None

  files = [stamp(part.folder / picture) for picture in part.pictures]
  facts = {'look': look.facts, 'files': files, 'classes': list(classes)}
  if bits and bits < DEEP:
    facts |= {'bits': bits}
  return cached(str(part.folder), facts, lambda: (len(part.pictures), examples()))


def _rows(tree: Layout, name: str, look: Look) -> Arrays:
  """Returns the pictures of one part, of which each is decoded when it is first asked for, and then kept.

  Pictures of 16 bits are taken to use all of them: which they use is known when all have been read.
  """
  part = tree.parts[name]
  shape, labels = _decoded(part, 0, look, DEEP).shape, _labels(part, tree.classes)
  sizes, times = _table(part)

  def read_rows(index: np.ndarray) -> np.ndarray:
    out = np.empty((len(index), *shape), np.uint8)
    for i, number in enumerate(index.tolist()):
      pixels = _decoded(part, number, look, DEEP)
      if pixels.shape != shape:
        refuse_shapes(str(part.folder), part.pictures[0], shape, part.pictures[number], pixels.shape)
      out[i] = pixels
    return out

  names = '\0'.join(part.pictures).encode('utf-8', 'surrogateescape')
  files = hashlib.sha256(names + sizes.tobytes() + times.tobytes()).hexdigest()
  mark = rows.fingerprint(names, sizes.tobytes(), str(look.facts))
  array = rows.Rows((len(part.pictures), *shape), np.uint8, read_rows, mark)
  x = kept(array, str(part.folder), {'look': look.facts, 'files': files})
  return {'x': x, 'y': np.array(labels, np.int32)} if labels else {'x': x}


def _table(part: Part) -> tuple[np.ndarray, np.ndarray]:
  """Returns the size in bytes and the time of the last change in ns of each picture, int64 [N] each."""
  sizes, times = np.empty((2, len(part.pictures)), np.int64)
  for i, name in enumerate(part.pictures):
    status = os.stat(f'{part.folder}/{name}')
    sizes[i], times[i] = status.st_size, status.st_mtime_ns
  return sizes, times
