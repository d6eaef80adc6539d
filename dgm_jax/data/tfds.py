"""TensorFlow Datasets sets on disk, read without TensorFlow and without a network."""

import json
import os
import pathlib
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from dgm_jax.data import archive, records
from dgm_jax.data.cache import Example, cached, stamp
from dgm_jax.data.images import Look, conform, read
from dgm_jax.data.split import Arrays
from dgm_jax.errors import UserError
from dgm_jax.internal.files import read_text

__all__ = ['OtherForm', 'check_form', 'counted', 'data_dir', 'factors', 'opened', 'parts', 'verify']

_AT_ONCE = 256  # examples read from disk in one call
# TFDS imports the modules that a set's features name. Those of its own features run nothing that a set brings.
_FEATURE = re.compile(r'tensorflow_datasets\.core\.features\.(?!\w*test)[a-z_]+\.[A-Za-z]+')
_CLASS_KEYS = ('pythonClassName', 'python_class_name', 'type', 'proto_cls')


def data_dir() -> pathlib.Path:
  """Returns the folder of prepared sets: $TFDS_DATA_DIR, or TFDS's own default."""
  return pathlib.Path(os.environ.get('TFDS_DATA_DIR') or '~/tensorflow_datasets').expanduser()


def parts(name: str, train: str, test: str, look: Look) -> dict[str, Callable[[], Arrays]]:
  """Returns the splits of a prepared set.

  Args:
    name: of the set, 'mnist', or of a set and its variant, 'cifar10_corrupted/fog_1'.
    train: the split to train on, in TFDS's notation: 'train', 'train[:90%]', 'train+test'.
    test: the split to test on.
    look: channels, size and polarity of the pictures.

  Raises:
    UserError: the set is missing, or its form cannot be read.
  """
  folder = locate(name)
  return {
    'train': lambda: _read(folder, name, train, look, 'train'),
    'test': lambda: _read(folder, name, test, look, 'test'),
  }


def locate(name: str) -> pathlib.Path:
  """Returns the folder of the newest prepared version, without importing anything heavy.

  Raises:
    UserError: there is none, or it is not stored as array_record.
  """
  home = data_dir() / name
  folders = [path.parent for path in home.glob('*/dataset_info.json')]
  versions = [path for path in folders if re.fullmatch(r'\d+\.\d+\.\d+', path.name)]
  if not versions:
    raise UserError(_missing(name, home))
  folder = max(versions, key=lambda path: [int(number) for number in path.name.split('.')])
  check_form(name, folder)
  return folder


class OtherForm(UserError):
  """A set is stored in a form that only TensorFlow reads."""


def check_form(name: str, folder: pathlib.Path) -> None:
  """Checks that a prepared set is stored as array_record.

  Raises:
    OtherForm: it is stored in another form.
    UserError: its note cannot be read.
  """
  stored = info(folder).get('fileFormat', 'tfrecord')
  if stored != 'array_record':
    raise OtherForm(
      f'{folder} is stored as {stored}, which cannot be read without TensorFlow: '
      f'run python -m dgm_jax.prepare {name} --data_dir=OTHER and set TFDS_DATA_DIR=OTHER'
    )


def info(folder: pathlib.Path) -> dict[str, Any]:
  """Reads the note that TFDS wrote with a set.

  Raises:
    UserError: the note cannot be read.
  """
  try:
    note = json.loads(read_text(folder / 'dataset_info.json'))
    if isinstance(note, dict):
      return note
  except (OSError, ValueError, RecursionError) as error:
    raise UserError(f'cannot read {folder / "dataset_info.json"}: prepare the set again') from error
  raise UserError(f'{folder / "dataset_info.json"} is no note of TFDS: prepare the set again')


def counted(builder: Any) -> dict[str, int]:
  """Returns the number of examples of each split of a prepared set, after counting the records of its files.

  Args:
    builder: of TFDS, for the folder of the set.

  Raises:
    UserError: see `verify`.
  """
  splits = builder.info.splits
  verify([(pathlib.Path(f.filename), f.examples_in_shard) for s in splits.values() for f in s.file_instructions])
  return {name: split.num_examples for name, split in splits.items()}


def verify(files: list[tuple[pathlib.Path, int]]) -> None:
  """Counts the records in each file, which TFDS itself does not do.

  Args:
    files: path and expected number of records.

  Raises:
    UserError: a file is missing or damaged, or holds another number.
  """
  for path, expected in files:
    counts = count(path)
    if counts != expected:
      raise UserError(f'{path} holds {counts} readable records instead of {expected}: prepare the set again')


def count(path: pathlib.Path) -> int:
  """Returns the number of records in an array_record file, 0 if it is missing or damaged."""
  from array_record.python.array_record_module import ArrayRecordReader

  if not path.is_file():
    return 0
  try:
    reader = ArrayRecordReader(str(path))
    records = reader.num_records()
    reader.close()
  except RuntimeError:
    return 0
  return records


def _missing(name: str, home: pathlib.Path) -> str:
  names = sorted({path.parents[1].name for path in data_dir().glob('*/*/dataset_info.json')})
  there = f' (there: {", ".join(names)})' if names else ''
  return (
    f'dataset {name!r} is not prepared: no {home}/VERSION/dataset_info.json{there}: '
    f'run python -m dgm_jax.prepare {name}, or set TFDS_DATA_DIR to where it is'
  )


def _read(folder: pathlib.Path, name: str, expression: str, look: Look, key: str) -> Arrays:
  """Returns the decoded examples of a split. On a cache hit, tensorflow_datasets is not imported."""
  facts = {'look': look.facts, 'files': [stamp(path) for path in sorted(folder.iterdir())]}
  if records.num_bytes(folder, info(folder), expression, look) > archive.memory() // 4:
    source, image, labels, shards = opened(folder, expression, key)
    records.allow_files(len(shards))
    return records.rows_of(source, image, labels, look, f'{name}:{expression}', facts)
  if names := factors(name):
    facts |= {'factors': names}
  arrays = cached(f'{name}:{expression}', facts, lambda: _open(folder, expression, look, key))
  if not names or 'y' not in arrays:
    return arrays
  return {'x': arrays['x'], 'factors': arrays['y'].reshape(-1, len(names))}


def factors(name: str) -> tuple[str, ...]:
  """Returns the names of the known factors of a prepared set: features 'label_...' of one whole number.

  If the set has a 'label', there are none.

  Raises:
    UserError: the set is missing, or its notes cannot be read.
  """
  path = locate(name) / 'features.json'
  try:
    features = dict(json.loads(read_text(path))['featuresDict']['features'])
  except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
    raise UserError(f'cannot read the notes of TFDS in {path.parent}: prepare the set again') from error
  return () if 'label' in features else tuple(sorted(key for key in features if key.startswith('label_')))


def _open(folder: pathlib.Path, expression: str, look: Look, key: str) -> tuple[int, Iterator[Example]]:
  """Returns the number of examples of a split, and the examples."""
  source, image, labels, shards = opened(folder, expression, key)
  verify([(pathlib.Path(shard.filename), shard.examples_in_shard) for shard in shards])
  return len(source), _examples(source, image, labels, look, f'{folder} {expression}')


def opened(folder: pathlib.Path, expression: str, key: str) -> tuple[Any, str, tuple[str, ...], list]:
  """Opens a split for random access to its records.

  Args:
    folder: of the prepared version.
    expression: the split in TFDS's notation.
    key: of `config.data` that holds the expression.

  Returns:
    the records, whose pictures are not decoded; the name of the picture; those of its label or factors; the shards.

  Raises:
    UserError: the notes are damaged or foreign, or there is no such split.
  """
  import tensorflow_datasets as tfds

  _refuse_foreign(folder)
  try:
    builder: Any = tfds.builder_from_directory(folder)
    image, labels = _features(builder.info.features, folder)
  except UserError:
    raise
  except Exception as error:  # TFDS raises anything for notes that are damaged
    raise UserError(f'cannot read the notes of TFDS in {folder}: prepare the set again') from error
  try:
    # The pictures are decoded here: TFDS would do the same, slower, and warn that OpenCV is absent.
    source = builder.as_data_source(split=expression, decoders={image: tfds.decode.SkipDecoding()})
    shards = builder.info.splits[expression].file_instructions
  except ValueError as error:
    reason = str(error).splitlines()[0]
    raise UserError(f'{folder} has no split {expression!r} (--config.data.{key}): {reason}') from error
  except Exception as error:
    raise UserError(f'cannot read the notes of TFDS in {folder}: prepare the set again') from error
  return source, image, labels, shards


def _refuse_foreign(folder: pathlib.Path) -> None:
  """Refuses a set whose notes name classes that are not features of TFDS, or that holds pipes or devices.

  Raises:
    UserError: the notes name such a class, or the set holds a pipe or a device.
  """
  for path in folder.iterdir():
    if not path.is_file() and not path.is_dir():
      raise UserError(f'{path} is no regular file: remove it, or prepare the set again')
  try:
    page = json.loads(read_text(folder / 'features.json'))
    foreign = sorted(name for name in _classes(page) if not _FEATURE.fullmatch(name))
  except (OSError, ValueError, RecursionError) as error:
    raise UserError(f'cannot read the notes of TFDS in {folder}: prepare the set again') from error
  if foreign:
    raise UserError(
      f'{folder / "features.json"} names {foreign[0]}, which is no feature of TFDS and could run code: prepare the set'
      ' again'
    )


def _classes(page: Any) -> Iterator[str]:
  """Yields the classes that JSON data names, at any depth."""
  if isinstance(page, dict):
    yield from (page[key] for key in _CLASS_KEYS if isinstance(page.get(key), str))
  for inner in page.values() if isinstance(page, dict) else page if isinstance(page, list) else ():
    yield from _classes(inner)


def _features(features: Any, folder: pathlib.Path) -> tuple[str, tuple[str, ...]]:
  """Returns the name of the picture, and those of its integer label or of its factors, if there are any."""
  import tensorflow_datasets as tfds

  images = [name for name, feature in features.items() if isinstance(feature, tfds.features.Image)]
  images = [name for name in images if features[name].np_dtype == np.uint8]
  if not images:
    raise UserError(f'{folder} holds no uint8 images, but {", ".join(features)}')
  names = ('label',) if 'label' in features else tuple(sorted(n for n in features if n.startswith('label_')))
  whole = lambda name: features[name].shape == () and np.issubdtype(features[name].np_dtype, np.integer)
  return 'image' if 'image' in images else images[0], names if all(map(whole, names)) else ()


def _examples(source: Any, image: str, labels: tuple[str, ...], look: Look, where: str) -> Iterator[Example]:
  for first in range(0, len(source), _AT_ONCE):
    several = records.fetch(source, range(first, min(first + _AT_ONCE, len(source))), where)
    for i, record in enumerate(several, first):
      place = f'example {i}'
      values = tuple(int(record[label]) for label in labels)
      y = values if len(values) > 1 else next(iter(values), None)
      yield place, conform(read(record[image], f'{place} of {where}'), look), y
