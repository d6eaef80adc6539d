"""MNIST and CIFAR-10, downloaded and written as TensorFlow Datasets writes them, without TensorFlow.

Addresses, sizes, SHA-256, features and notes of a set are those of the installed TFDS. The order of examples is TFDS's,
too. So a run reads the same images in the same order, whichever of the two prepared them.
"""

import contextlib
import gzip
import hashlib
import io
import math
import pathlib
import struct
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from dgm_jax.data import tfds as prepared
from dgm_jax.data.download import Remote, fetch
from dgm_jax.errors import UserError
from dgm_jax.internal.files import sweep

__all__ = ['SETS', 'Original', 'cifar_rows', 'idx', 'order', 'prepare']

CIFAR = 'cifar-10-binary.tar.gz'
CIFAR_FOLDER = 'cifar-10-batches-bin'
IDX_BYTES = 0x08  # the type of an idx file's elements: unsigned bytes


class Original(NamedTuple):
  """A set as its authors publish it."""

  images: dict[str, np.ndarray]  # split -> uint8 [N, H, W, C]
  labels: dict[str, np.ndarray]  # split -> uint8 [N]
  names: Sequence[str] = ()  # of the classes, if the authors name them


def idx(data: bytes, name: str) -> np.ndarray:
  """Reads a file of the format of MNIST.

  It has two zero bytes, the type of the elements (8: unsigned bytes), the number of axes, the length of every axis in
  four bytes, the highest first, and the elements, of which the last axis is the fastest.

  Args:
    data: the content of the file.
    name: of the file, for errors.

  Returns:
    uint8, of the shape that the file says.

  Raises:
    UserError: it is no such file, or its length is another.
  """
  if len(data) < 4 or data[:3] != bytes((0, 0, IDX_BYTES)) or len(data) < 4 + 4 * data[3]:
    raise UserError(f'{name} is no idx file of unsigned bytes: download it again')
  shape = struct.unpack(f'>{data[3]}I', data[4 : 4 + 4 * data[3]])
  content = np.frombuffer(data, np.uint8, offset=4 + 4 * data[3])
  if content.size != math.prod(shape):
    raise UserError(f'{name} holds {content.size} elements instead of {math.prod(shape)}: download it again')
  return content.reshape(shape)


def cifar_rows(data: bytes, name: str) -> tuple[np.ndarray, np.ndarray]:
  """Reads a binary file of CIFAR-10, whose records are a byte for the label and the planes of red, green and blue.

  Args:
    data: the content of the file.
    name: of the file, for errors.

  Returns:
    Images uint8 [N, 32, 32, 3] and labels uint8 [N].

  Raises:
    UserError: the records are no whole number, or a label is more than 9.
  """
  size = 1 + 3 * 32 * 32
  if len(data) % size:
    raise UserError(f'{name} has {len(data)} bytes, which are no records of {size}: download it again')
  rows = np.frombuffer(data, np.uint8).reshape(-1, size)
  if rows.size and rows[:, 0].max() > 9:
    raise UserError(f'{name} has the label {rows[:, 0].max()}, more than 9: download it again')
  return np.ascontiguousarray(rows[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)), rows[:, 0]


def _mnist(folder: pathlib.Path) -> Original:
  read = lambda name: idx(gzip.decompress((folder / name).read_bytes()), name)
  files = {'train': 'train', 'test': 't10k'}
  images = {split: read(f'{file}-images-idx3-ubyte.gz')[..., None] for split, file in files.items()}
  return Original(images, {split: read(f'{file}-labels-idx1-ubyte.gz') for split, file in files.items()})


def _cifar10(folder: pathlib.Path) -> Original:
  files = {'train': [f'data_batch_{number}.bin' for number in range(1, 6)], 'test': ['test_batch.bin']}
  with tarfile.open(folder / CIFAR) as archive:
    read = lambda name: _member(archive, f'{CIFAR_FOLDER}/{name}')
    parts = {split: [cifar_rows(read(name), name) for name in names] for split, names in files.items()}
    names = read('batches.meta.txt').decode().split()
  images, labels = ({split: np.concatenate([part[i] for part in parts[split]]) for split in parts} for i in (0, 1))
  return Original(images, labels, names)


def _member(archive: tarfile.TarFile, name: str) -> bytes:
  try:
    file = archive.extractfile(name)
  except KeyError:
    file = None
  if file is None:
    raise UserError(f'{CIFAR} has no file {name}: download it again')
  return file.read()


# name of a set -> how its files in a folder are read
SETS: dict[str, Callable[[pathlib.Path], Original]] = {'mnist': _mnist, 'cifar10': _cifar10}


def prepare(
  name: str, home: pathlib.Path, remotes: Mapping[str, Remote] | None = None
) -> tuple[pathlib.Path, dict[str, int]]:
  """Downloads and writes a set, unless it lies there whole.

  The folder of the set appears whole, by a rename, or not at all. A damaged set of the same version is replaced.

  Args:
    name: of `SETS`.
    home: where sets lie.
    remotes: file name -> the file on the network; None: those that TFDS knows.

  Returns:
    The folder of the set, and the number of examples of each split.

  Raises:
    UserError: a file cannot be downloaded or is another one, or the folder holds something else.
  """
  import tensorflow_datasets as tfds

  folder = home / name / str(tfds.builder_cls(name).VERSION)
  if counts := _whole(name, folder):
    return folder, counts
  with _draft(folder) as draft:
    builder = tfds.builder(name, data_dir=draft, file_format='array_record')
    if remotes is None:
      infos = builder.url_infos.items()
      remotes = {str(info.filename): Remote(url, int(info.size), info.checksum) for url, info in infos}
    size = sum(remote.size for remote in remotes.values())
    print(f'{name}: downloading {size / 1e6:.1f} MB and writing to {folder}', flush=True)
    for file, remote in remotes.items():
      fetch(remote, draft / file)
    _write(builder, SETS[name](draft))
    counts = prepared.counted(builder)
    if folder.exists():
      folder.rename(draft / 'damaged')
    pathlib.Path(builder.data_path).rename(folder)
  return folder, counts


def _whole(name: str, folder: pathlib.Path) -> dict[str, int] | None:
  """Returns the numbers of examples of a set that lies there whole, None if it is missing or damaged.

  Raises:
    UserError: the folder holds no set, or one of another form.
  """
  import tensorflow_datasets as tfds

  if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
    return None
  if not (folder / 'dataset_info.json').is_file():
    raise UserError(f'{folder} is there and holds no set of TFDS: remove it')
  try:
    prepared.check_form(name, folder)
    return prepared.counted(tfds.builder_from_directory(folder))
  except prepared.OtherForm:
    raise
  except Exception:  # TFDS raises anything for notes that are damaged
    print(f'{folder} is damaged: preparing the set again', flush=True)
    return None


@contextlib.contextmanager
def _draft(folder: pathlib.Path) -> Iterator[pathlib.Path]:
  """Yields a folder beside the set's. In the end it is removed, and if the block fails, so is what was made for it."""
  fresh = [path for path in folder.parents if not path.exists()]
  folder.parent.mkdir(parents=True, exist_ok=True)
  sweep(folder.parent, f'{folder.name}.incomplete*')
  try:
    with tempfile.TemporaryDirectory(prefix=f'{folder.name}.incomplete', dir=folder.parent) as draft:
      yield pathlib.Path(draft)
  except BaseException:
    with contextlib.suppress(OSError):  # somebody else has put something there
      for path in fresh:
        path.rmdir()
    raise


def _write(builder: Any, original: Original) -> None:
  """Writes the examples of a set and its notes to the folder of a builder of TFDS."""
  import tensorflow_datasets as tfds

  folder, features = pathlib.Path(builder.data_path), builder.info.features
  folder.mkdir(parents=True)
  if original.names:
    features['label'].names = list(original.names)
  splits = []
  for split, images in original.images.items():
    labels = original.labels[split]
    if len(images) != len(labels):
      raise UserError(f'{builder.name} {split} has {len(images)} images and {len(labels)} labels: download it again')
    template = tfds.core.ShardedFileTemplate(
      dataset_name=builder.name, data_dir=folder, split=split, filetype_suffix='array_record'
    )
    path = pathlib.Path(template.sharded_filepath(shard_index=0, num_shards=1))
    size = _write_records(path, split, images, labels, with_id='id' in features)
    splits.append(
      tfds.core.SplitInfo(name=split, shard_lengths=[len(images)], num_bytes=size, filename_template=template)
    )
  builder.info.set_splits(tfds.core.SplitDict(splits))
  builder.info.write_to_directory(folder)


def _write_records(path: pathlib.Path, split: str, images: np.ndarray, labels: np.ndarray, with_id: bool) -> int:
  """Writes the examples of a split in TFDS's order. Returns the bytes of all records."""
  from array_record.python.array_record_module import ArrayRecordWriter

  total, writer = 0, ArrayRecordWriter(str(path), 'group_size:1')
  for number in order(split, len(images)):
    values = {'image': _png(images[number]), 'label': int(labels[number])}
    record = _record(values | ({'id': f'{split}_{number:05d}'.encode()} if with_id else {}))
    writer.write(record)
    total += len(record)
  writer.close()
  return total


def order(split: str, size: int) -> list[int]:
  """Returns the numbers of a split's examples in TFDS's order, that of the MD5 of the split's name and the number."""
  return sorted(range(size), key=lambda number: hashlib.md5(f'{split}{number}'.encode()).digest())


def _record(values: Mapping[str, int | bytes]) -> bytes:
  """Returns a serialized tf.train.Example of bytes and whole numbers."""
  from tensorflow_datasets.proto import tf_example_pb2

  example = tf_example_pb2.Example()  # pyright: ignore[reportAttributeAccessIssue]  # made when it is imported
  for name, value in values.items():
    feature = example.features.feature[name]
    (feature.bytes_list if isinstance(value, bytes) else feature.int64_list).value.append(value)
  return example.SerializeToString()


def _png(pixels: np.ndarray) -> bytes:
  """Returns an image of 1 or 3 channels as a PNG file."""
  from PIL import Image

  file = io.BytesIO()
  Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(file, 'PNG')
  return file.getvalue()
