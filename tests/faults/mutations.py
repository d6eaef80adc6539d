"""Files of data with a fault in them: seeded, so that what was found once can be made again.

`python tests/faults/mutations.py SEED FOLDER` writes the files of a seed.
"""

import io
import json
import pathlib
import sys
import zipfile
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import scipy.io
from PIL import Image

FEATURES = 'tensorflow_datasets.core.features'
EPS = b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n'
KINDS = (
  'png', 'grey16', 'palette', 'jpg', 'exif', 'bmp', 'webp', 'gif', 'npy', 'npz', 'deflated', 'mat', 'features', 'info'
)  # fmt: skip


class Mutation(NamedTuple):
  """A file with a fault."""

  kind: str
  name: str  # of the dataset, for config.data.name
  content: bytes


def written(seed: int, folder: pathlib.Path) -> Mutation:
  """Writes a dataset of a random kind, one file of which has a fault."""
  random = np.random.default_rng(seed)
  kind = KINDS[seed % len(KINDS)]
  whole = sound(kind)
  content = FAULTS[random.integers(len(FAULTS))](random, whole)
  folder.mkdir(parents=True)
  if kind in ('npy', 'npz', 'deflated'):
    suffix = 'npy' if kind == 'npy' else 'npz'
    (folder / f'x.{suffix}').write_bytes(content)
    return Mutation(kind, f'{suffix}:{folder}/x.{suffix}', content)
  if kind == 'mat':
    (folder / 'chardata.mat').write_bytes(content)
    return Mutation(kind, f'mat:{folder}/chardata.mat', content)
  if kind in ('features', 'info'):
    home = folder / 'tiny' / '1.0.0'
    home.mkdir(parents=True)
    for other, file in (('features', 'features.json'), ('info', 'dataset_info.json')):
      (home / file).write_bytes(content if other == kind else sound(other))
    return Mutation(kind, 'tiny', content)
  for i in range(4):
    (folder / f'{i}.{"png" if i else kind[:3]}').write_bytes(sound('png') if i else content)
  (folder / f'0.{kind[:3]}').rename(folder / '0.png')
  return Mutation(kind, f'folder:{folder}', content)


def sound(kind: str) -> bytes:
  """The file without a fault."""
  pixels = np.random.default_rng(0).integers(0, 256, (8, 8)).astype(np.uint8)
  file, picture = io.BytesIO(), Image.fromarray(pixels)
  if kind == 'grey16':
    Image.fromarray(pixels.astype(np.uint16) * 16).save(file, 'png')
  elif kind == 'exif':
    turned = Image.Exif()
    turned[0x0112] = 3
    picture.save(file, 'jpeg', exif=turned)
  elif kind in ('npy', 'npz', 'deflated'):
    stack = np.tile(pixels, (6, 1, 1))
    {'npy': np.save, 'npz': save_npz, 'deflated': save_deflated}[kind](file, stack)
  elif kind == 'mat':
    scipy.io.savemat(file, {name: np.tile(pixels.reshape(-1, 1) / 255, (13, 1))[:784] for name in ('data', 'testdata')})
  elif kind in ('features', 'info'):
    file.write(json.dumps(NOTES[kind]).encode())
  else:
    form = {'jpg': 'jpeg', 'palette': 'gif'}.get(kind, kind)
    (picture.quantize(4) if kind == 'palette' else picture).save(file, 'png' if kind == 'palette' else form)
  return file.getvalue()


def save_npz(file, x) -> None:
  np.savez(file, x=x, y=np.arange(len(x)))


def save_deflated(file, x) -> None:
  np.savez_compressed(file, x=x, y=np.arange(len(x)))


NOTES = {
  'features': {
    'pythonClassName': f'{FEATURES}.features_dict.FeaturesDict',
    'featuresDict': {'features': {
      'image': {'pythonClassName': f'{FEATURES}.image_feature.Image', 'image': {
        'dtype': 'uint8', 'shape': {'dimensions': ['8', '8', '1']}}},
      'label': {'pythonClassName': f'{FEATURES}.class_label_feature.ClassLabel', 'classLabel': {'numClasses': '10'}},
    }},
  },
  'info': {
    'name': 'tiny', 'version': '1.0.0', 'fileFormat': 'array_record', 'splits': [{
      'name': 'train', 'shardLengths': ['6'], 'numBytes': '9',
      'filepathTemplate': '{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}'}],
  },
}  # fmt: skip


def flipped(random, whole: bytes) -> bytes:
  """Some bits are others."""
  bits = bytearray(whole)
  for at in random.integers(len(bits), size=random.integers(1, 9)):
    bits[at] ^= 1 << random.integers(8)
  return bytes(bits)


def cut(random, whole: bytes) -> bytes:
  return whole[: random.integers(len(whole))]


def zeroed(random, whole: bytes) -> bytes:
  first = random.integers(len(whole))
  last = first + random.integers(1, 64)
  return whole[:first] + bytes(len(whole[first:last])) + whole[last:]


def inserted(random, whole: bytes) -> bytes:
  at = random.integers(len(whole))
  return whole[:at] + random.bytes(random.integers(1, 32)) + whole[at:]


def doubled(random, whole: bytes) -> bytes:
  first, last = sorted(random.integers(len(whole), size=2))
  return whole[:last] + whole[first:]


def swapped(random, whole: bytes) -> bytes:
  """The content is that of another kind of file, or a program."""
  others = [EPS, b'#!/bin/sh\ntouch ran\n', b'<svg/>', b'II*\0', b'', *map(sound, KINDS)]
  return others[random.integers(len(others))]


def renumbered(random, whole: bytes) -> bytes:
  """A run of digits is another number; where there is none, four bytes are the largest ones."""
  text = whole.decode('latin1')
  places = [i for i, c in enumerate(text) if c.isdigit()]
  if not places:
    return flipped(random, whole)
  at = places[random.integers(len(places))]
  number = ('-1', '0', '99999999999999', '1e9', 'null', '"x"', '{}', '[]')[random.integers(8)]
  return (text[:at] + number + text[at + 1 :]).encode('latin1')


FAULTS: tuple[Callable[[np.random.Generator, bytes], bytes], ...] = (
  flipped, cut, zeroed, inserted, doubled, swapped, renumbered
)  # fmt: skip


def zipped(path: pathlib.Path, **members: bytes) -> None:
  """Writes an .npz whose members hold any bytes."""
  with zipfile.ZipFile(path, 'w') as archive:
    for name, content in members.items():
      archive.writestr(name, content)


if __name__ == '__main__':
  print(written(int(sys.argv[1]), pathlib.Path(sys.argv[2])))
