"""A user's folder of pictures."""

import pathlib
from collections.abc import Callable, Iterator

import numpy as np

from dgm_jax.data.batches import permutation
from dgm_jax.data.cache import Example, cached, remembered, stamp
from dgm_jax.data.images import DEEP, Look, bits_used, conform, read
from dgm_jax.data.layout import Layout, layout
from dgm_jax.data.names import PARTS, located
from dgm_jax.data.split import Arrays, Source
from dgm_jax.errors import UserError

__all__ = ['source', 'split_three_ways']


def source(where: str, look: Look) -> Source:
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
  bits = _bits(root, tree)
  read_part = lambda part: _read(tree, part, look, bits)
  notes = tree.notes
  if bits and bits < DEEP:
    notes = (f'images of 16 bits use {bits} bits: their values are read as 0 to {2**bits - 1}', *notes)
  parts = (
    split_three_ways(lambda: read_part('')) if '' in tree.parts else {p: lambda p=p: read_part(p) for p in tree.parts}
  )
  return Source(parts, tree.classes, notes)


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
    tenth, chosen = max(1, size // 10), permutation(0, 0, size)
    cuts = {'train': slice(2 * tenth, None), 'valid': slice(tenth, 2 * tenth), 'test': slice(tenth)}
    return {name: array[np.sort(chosen[cuts[part]])] for name, array in arrays.items()}

  return {part: lambda part=part: deal(part) for part in PARTS}


def _bits(root: pathlib.Path, tree: Layout) -> int:
  """Returns the bits that 16-bit pictures of all parts use together, 0 if there are none."""
  files = [part.folder / name for part in tree.parts.values() for name in part.pictures]
  return remembered(f'{root} bits', {'files': [stamp(file) for file in files]}, lambda: bits_used(files))


def _read(tree: Layout, part: str, look: Look, bits: int) -> Arrays:
  """Decodes the pictures of one part, or takes them from the cache."""
  folder, names, labelled = tree.parts[part]
  classes = tree.classes if labelled else ()

  def examples() -> Iterator[Example]:
    for name in names:
      pixels = conform(read(folder / name, str(folder / name), bits or DEEP), look)
      yield str(folder / name), pixels, classes.index(name.split('/')[0]) if classes else None

  facts = {'look': look.facts, 'files': [stamp(folder / name) for name in names], 'classes': list(classes)}
  if bits and bits < DEEP:
    facts |= {'bits': bits}
  return cached(str(folder), facts, lambda: (len(names), examples()))
