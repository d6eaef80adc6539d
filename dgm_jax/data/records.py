"""Large sets of TensorFlow Datasets, whose records are read and decoded when they are asked for.

Axes: N examples, R of them that are asked for together.
"""

import contextlib
import json
import pathlib
import re
import resource
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from dgm_jax.data.cache import refuse_shapes
from dgm_jax.data.images import Look, conform, read
from dgm_jax.data.kept import kept
from dgm_jax.data.rows import Rows, fingerprint
from dgm_jax.data.split import Arrays
from dgm_jax.errors import UserError
from dgm_jax.internal.files import read_text

__all__ = ['allow_files', 'fetch', 'num_bytes', 'rows_of']

SQUEEZED = 8  # decoded bytes for a stored one, where the notes do not tell the shape of the pictures
OTHERS = 256  # files that a program has open beside a set's


def num_bytes(folder: pathlib.Path, info: Mapping[str, Any], expression: str, look: Look) -> int:
  """Estimates the bytes of the decoded pictures of a split from the notes of the set; 0 if they do not tell.

  Args:
    folder: of the prepared version.
    info: its dataset_info.json.
    expression: the split in TFDS's notation; all of a split counts where it names a part.
    look: size and channels of the pictures.
  """
  try:
    splits = [split for split in info['splits'] if re.search(rf'\b{re.escape(split["name"])}\b', expression)]
    count = sum(int(length) for split in splits for length in split['shardLengths'])
    features = json.loads(read_text(folder / 'features.json'))['featuresDict']['features']
    shapes = [feature['image']['shape']['dimensions'] for feature in features.values() if 'image' in feature]
    height, width, channels = map(int, shapes[0])
    pixels = look.size**2 or (height * width if min(height, width) > 0 else 0)
    each = pixels * (look.channels or channels)
    return count * each if each > 0 else SQUEEZED * sum(int(split['numBytes']) for split in splits)
  except (OSError, ValueError, KeyError, TypeError, IndexError, RecursionError):
    return 0


def allow_files(count: int) -> None:
  """Raises the limit of open files of this process for a set of so many, if the machine lets it."""
  soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
  with contextlib.suppress(OSError, ValueError):
    if soft != resource.RLIM_INFINITY and soft < count + OTHERS:
      resource.setrlimit(resource.RLIMIT_NOFILE, (count + OTHERS, hard))


def fetch(source: Any, places: Sequence[int], where: str) -> Sequence[Any]:
  """Reads records at `places` of a split.

  Raises:
    UserError: they are damaged.
  """
  try:
    return source.__getitems__(places)
  except Exception as error:
    raise UserError(f'{where} is damaged near example {places[0]}: prepare the set again') from error


def rows_of(
  source: Any, image: str, labels: tuple[str, ...], look: Look, where: str, facts: dict[str, Any]
) -> Arrays:  # fmt: skip
  """Returns the pictures 'x' of a split, and its labels 'y' or 'factors', as rows that are read and then kept.

  Args:
    source: records with random access, thread-safe.
    image: the name of the picture in a record.
    labels: the name of the label, or the names of the factors.
    look: of the pictures.
    where: the split's name in messages to users.
    facts: what determines the rows.
  """
  decoded = lambda record, place: conform(read(record[image], f'example {place} of {where}'), look)
  shape = decoded(fetch(source, [0], where)[0], 0).shape

  def picture(record: Any, place: int) -> np.ndarray:
    pixels = decoded(record, place)
    if pixels.shape != shape:
      refuse_shapes(where, 'example 0', shape, f'example {place}', pixels.shape)
    return pixels

  def rows(name: str, example: tuple[int, ...], dtype: str, one: Callable[[Any, int], Any]) -> Rows:
    def read_rows(index: np.ndarray) -> np.ndarray:
      places = index.tolist()
      several = fetch(source, places, where) if places else []
      out = np.empty((len(index), *example), dtype)
      for i, place in enumerate(places):
        out[i] = one(several[i], place)
      return out

    mark = fingerprint(where, str(facts['look']), str(len(source)))
    return kept(Rows((len(source), *example), dtype, read_rows, mark), f'{where} {name}', facts)

  arrays = {'x': rows('x', shape, 'uint8', picture)}
  if len(labels) > 1:
    arrays['factors'] = rows('factors', (len(labels),), 'int32', lambda record, place: [record[n] for n in labels])
  elif labels:
    arrays['y'] = rows('y', (), 'int32', lambda record, place: record[labels[0]])
  return arrays
