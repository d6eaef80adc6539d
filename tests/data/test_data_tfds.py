"""A TFDS set written here without TensorFlow, and read, cached, damaged and misplaced."""

import importlib.util
import io
import json
import os
import subprocess
import sys

import jax
import numpy as np
import pytest
from absl import flags
from array_record.python.array_record_module import ArrayRecordWriter
from ml_collections import ConfigDict
from PIL import Image

from dgm_jax.commands import prepare
from dgm_jax.data import cache, load, simulator
from dgm_jax.errors import UserError

FEATURES = 'tensorflow_datasets.core.features'
IMAGE = {'pythonClassName': f'{FEATURES}.image_feature.Image'}
LABEL = {'pythonClassName': f'{FEATURES}.class_label_feature.ClassLabel', 'classLabel': {'numClasses': '10'}}
TEXT = {'pythonClassName': f'{FEATURES}.text_feature.Text', 'text': {}}


def _varint(n):
  return bytes([n]) if n < 128 else bytes([n % 128 + 128]) + _varint(n // 128)


def _field(number, content):
  return _varint(8 * number + 2) + _varint(len(content)) + content


def _example(image, labels):
  """A serialized tf.train.Example: a map of names to lists of bytes (1) or of integers (3)."""
  lists = {'image': _field(1, _field(1, image))}
  lists |= {name: _field(3, _field(1, _varint(label))) for name, label in labels.items()}
  entries = [_field(1, _field(1, name.encode()) + _field(2, values)) for name, values in lists.items()]
  return _field(1, b''.join(entries))


def _png(pixels):
  file = io.BytesIO()
  Image.fromarray(pixels.squeeze()).save(file, 'PNG')
  return file.getvalue()


def _write(
  home, sizes, version='1.0.0', shape=(3, 5, 1), form='array_record', features=None, dtype='uint8',
  labels=lambda i: {'label': i % 10},
):  # fmt: skip
  """Writes the set 'tiny'; pixel and label of example i of a split are its number, 100 more for test."""
  folder = home / 'tiny' / version
  folder.mkdir(parents=True)
  dimensions = {'dimensions': [str(length) for length in shape]}
  features = features or {'image': IMAGE | {'image': {'dtype': dtype, 'shape': dimensions}}, 'label': LABEL}
  root = {'pythonClassName': f'{FEATURES}.features_dict.FeaturesDict', 'featuresDict': {'features': features}}
  (folder / 'features.json').write_text(json.dumps(root))
  template = '{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}'
  splits = [
    {'name': k, 'shardLengths': [str(n)], 'numBytes': '9', 'filepathTemplate': template} for k, n in sizes.items()
  ]
  note = {'name': 'tiny', 'version': version, 'fileFormat': form, 'splits': splits}
  (folder / 'dataset_info.json').write_text(json.dumps(note))
  for split, size in sizes.items():
    writer = ArrayRecordWriter(str(folder / f'tiny-{split}.array_record-00000-of-00001'), 'group_size:1')
    for i in range(size):
      writer.write(_example(_png(np.full(shape, (i + 100 * (split == 'test')) % 256, np.uint8)), labels(i)))
    writer.close()
  return folder


@pytest.fixture(autouse=True)
def _own_folders(tmp_path, monkeypatch):
  monkeypatch.setenv('DGM_JAX_CACHE', str(tmp_path / 'cache'))
  monkeypatch.setenv('TFDS_DATA_DIR', str(tmp_path / 'tfds'))


def _config(name='tiny', **changes):
  defaults = {'train': 'train', 'test': 'test', 'valid_size': 0, 'size': 0, 'channels': 0, 'invert': False}
  return ConfigDict(defaults | {'preprocess': 'scale', 'name': name} | changes)


def _assert_mistake(config, *parts, split='train'):
  with pytest.raises(UserError) as caught:
    load(config, split)
  assert '\n' not in str(caught.value)
  for part in parts:
    assert str(part) in str(caught.value)


def test_splits(tmp_path):
  _write(tmp_path / 'tfds', {'train': 40, 'test': 6})
  config = _config(valid_size=3)
  train, valid, test = (load(config, split) for split in ('train', 'valid', 'test'))
  assert (train.name, train.size, valid.size, test.size) == ('tiny:train', 37, 3, 6)
  x, y = train.arrays['x'], train.arrays['y']
  assert (x.shape, x.dtype, y.dtype) == ((37, 3, 5, 1), np.uint8, np.int32)
  np.testing.assert_array_equal(x, np.broadcast_to(np.arange(37).reshape(-1, 1, 1, 1), x.shape))
  np.testing.assert_array_equal(y, np.arange(37) % 10)
  assert valid.arrays['x'][:, 0, 0, 0].tolist() == [37, 38, 39]
  assert test.arrays['x'][:, 0, 0, 0].tolist() == [100, 101, 102, 103, 104, 105]


@pytest.mark.parametrize(
  ('expression', 'values'),
  [
    ('train[:3]', [0, 1, 2]),
    ('train[-2:]', [18, 19]),
    ('test+train[:10%]', [100, 101, 102, 103, 0, 1]),
  ],
)
def test_expressions(tmp_path, expression, values):
  _write(tmp_path / 'tfds', {'train': 20, 'test': 4})
  assert load(_config(test=expression), 'test').arrays['x'][:, 0, 0, 0].tolist() == values


def test_colour_set_made_grey_small_and_inverted(tmp_path):
  _write(tmp_path / 'tfds', {'train': 300}, shape=(9, 9, 3))
  config = _config(size=4, channels=1, invert=True)
  x = load(config, 'train').arrays['x']
  assert x.shape == (300, 4, 4, 1)
  np.testing.assert_array_equal(x[:, 0, 0, 0], 255 - np.arange(300) % 256)


def test_newest_version_is_read(tmp_path):
  for version, size in [('1.0.9', 9), ('1.0.10', 10), ('1.0.2', 2)]:
    _write(tmp_path / 'tfds', {'train': size}, version)
  (tmp_path / 'tfds' / 'tiny' / '2.0.0.incompleteAB').mkdir()
  assert load(_config(), 'train').size == 10


def test_second_start_imports_nothing_heavy(tmp_path):
  folder = _write(tmp_path / 'tfds', {'train': 5})
  load(_config(), 'train')
  code = (
    'import sys; from types import SimpleNamespace as C; from dgm_jax.data import load;'
    "options = {'valid_size': 0, 'size': 0, 'channels': 0, 'invert': False, 'preprocess': 'scale'};"
    "s = load(C(name='tiny', train='train', test='test', **options), 'train');"
    "print(s.size, [m for m in ('tensorflow_datasets', 'array_record', 'jax', 'tensorflow') if m in sys.modules])"
  )
  done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True, env=os.environ)
  assert (done.stdout, done.stderr) == ('5 []\n', '')
  (entry,) = cache.root().iterdir()
  os.utime(folder / 'tiny-train.array_record-00000-of-00001', (1, 1))
  load(_config(), 'train')
  assert len(list(cache.root().iterdir())) == 2
  assert entry.exists()


def test_pictures_of_different_sizes(tmp_path):
  folder = _write(tmp_path / 'tfds', {'train': 2}, shape=(4, 4, 1))
  writer = ArrayRecordWriter(str(folder / 'tiny-train.array_record-00000-of-00001'), 'group_size:1')
  for side in (4, 6):
    writer.write(_example(_png(np.zeros((side, side), np.uint8)), {'label': 1}))
  writer.close()
  _assert_mistake(
    _config(), 'tiny:train: images differ', 'example 0 is 4x4x1, example 1 is 6x6x1', 'set --config.data.size'
  )
  assert load(_config(size=4), 'train').arrays['x'].shape == (2, 4, 4, 1)


# Mistakes, each one line, none of them waiting for a network.


def test_not_prepared(tmp_path):
  home = tmp_path / 'tfds'
  where = f'no {home}/mnist/VERSION/dataset_info.json'
  _assert_mistake(
    _config('mnist'), "dataset 'mnist' is not prepared", where, 'python -m dgm_jax.prepare mnist', 'TFDS_DATA_DIR'
  )
  _write(home, {'train': 1})
  _assert_mistake(_config('mnist'), '(there: tiny)')


@pytest.mark.parametrize('form', ['tfrecord', 'parquet'])
def test_other_file_formats(tmp_path, form):
  folder = _write(tmp_path / 'tfds', {'train': 1}, form=form)
  _assert_mistake(_config(), f'{folder} is stored as {form}', 'without TensorFlow', 'prepare tiny --data_dir=')


def test_unknown_split_expression(tmp_path):
  folder = _write(tmp_path / 'tfds', {'train': 3, 'test': 1})
  _assert_mistake(_config(train='trian'), f"{folder} has no split 'trian' (--config.data.train)", "['train', 'test']")
  _assert_mistake(
    _config(test='test[:9]'), "'test[:9]' (--config.data.test)", 'incompatible with 1 examples', split='test'
  )
  _assert_mistake(_config(train='train['), "'train['")


def _shard(folder):
  return folder / 'tiny-train.array_record-00000-of-00001'


def _flip(folder):
  content = bytearray(_shard(folder).read_bytes())
  for place in range(65536 // 2, 65536 + 2000, 97):
    content[min(place, len(content) - 1)] ^= 255
  _shard(folder).write_bytes(content)


@pytest.mark.parametrize(
  ('damage', 'parts'),
  [
    (lambda f: _shard(f).unlink(), ['holds 0 readable records instead of 600: prepare the set again']),
    (lambda f: _shard(f).write_bytes(b'junk'), ['holds 0 readable records instead of 600']),
    (lambda f: _shard(f).write_bytes(_shard(f).read_bytes()[:65536]), ['holds 0 readable records instead of 600']),
    (
      lambda f: (f / 'tiny-test.array_record-00000-of-00001').replace(_shard(f)),
      ['holds 2 readable records instead of 600'],
    ),
    (lambda f: (f / 'features.json').write_text('{}'), ['cannot read the notes of TFDS']),
    (lambda f: (f / 'dataset_info.json').write_text('{'), ['cannot read', 'dataset_info.json: prepare the set again']),
    (_flip, ['prepare the set again']),
  ],
)
def test_damaged_sets(tmp_path, damage, parts):
  folder = _write(tmp_path / 'tfds', {'train': 600, 'test': 2})
  damage(folder)
  _assert_mistake(_config(), folder, *parts)
  assert not cache.root().exists() or not list(cache.root().iterdir())


def test_undecodable_picture(tmp_path):
  folder = _write(tmp_path / 'tfds', {'train': 1})
  writer = ArrayRecordWriter(str(_shard(folder)), 'group_size:1')
  writer.write(_example(b'no picture', {'label': 1}))
  writer.close()
  _assert_mistake(_config(), f'cannot read the image example 0 of {folder} train')


@pytest.mark.parametrize(
  'changes',
  [{'features': {'sentence': TEXT}}, {'dtype': 'uint16'}],
)
def test_sets_without_pictures(tmp_path, changes):
  folder = _write(tmp_path / 'tfds', {'train': 1}, **changes)
  _assert_mistake(_config(), f'{folder} holds no uint8 images')


# The command that writes sets.


@pytest.mark.parametrize('names', [[], ['mnist', 'cifar10']])
def test_prepare_takes_one_name(names):
  with pytest.raises(UserError, match=r'give one name .*: python -m dgm_jax.prepare mnist'):
    prepare.main(['prepare', *names])


def test_prepare_says_what_to_install(monkeypatch):
  monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
  with pytest.raises(UserError, match=r"omniglot needs TensorFlow, .*: pip install 'dgm_jax\[prepare\]'"):
    prepare.main(['prepare', 'omniglot'])


def test_prepare_counts_what_lies_there(tmp_path, monkeypatch, capsys):
  """A set that is there is not written again, so that TensorFlow is not called upon."""
  if 'data_dir' not in flags.FLAGS:
    prepare.define_flags()
  flags.FLAGS(['test'])
  _write(tmp_path / 'tfds', {'train': 7, 'test': 2})
  monkeypatch.setattr(importlib.util, 'find_spec', lambda name: True)
  prepare.main(['prepare', 'tiny'])
  assert f'{tmp_path}/tfds/tiny/1.0.0 holds 7 train, 2 test examples, counted' in capsys.readouterr().out
  _shard(tmp_path / 'tfds' / 'tiny' / '1.0.0').write_bytes(b'')
  with pytest.raises(UserError, match='holds 0 readable records instead of 7'):
    prepare.main(['prepare', 'tiny'])


def test_prepare_of_an_unknown_set(tmp_path):
  with pytest.raises(UserError, match=f'cannot prepare no_such_set in {tmp_path}: DatasetNotFoundError'):
    prepare.prepare('no_such_set', tmp_path)


def test_prepare_helps_at_once():
  done = subprocess.run(
    [sys.executable, '-X', 'importtime', '-m', 'dgm_jax.prepare', '--help'], capture_output=True, text=True
  )
  assert 'python -m dgm_jax.prepare mnist [--data_dir=DIR]' in done.stdout
  assert '--data_dir' in done.stdout
  assert not [module for module in ('numpy', 'jax', 'tensorflow') if f' {module}\n' in done.stderr]


def test_several_labels_are_the_factors_of_a_simulator(tmp_path, capsys):
  class_label = lambda n: LABEL | {'classLabel': {'numClasses': str(n)}}
  features = {
    'image': IMAGE | {'image': {'dtype': 'uint8', 'shape': {'dimensions': ['3', '5', '1']}}},
    'label_shape': class_label(2), 'label_hue': class_label(3),
  }  # fmt: skip
  labels = lambda i: {'label_shape': i // 3, 'label_hue': i % 3}
  _write(tmp_path / 'tfds', {'train': 6}, features=features, labels=labels)
  for _ in range(2):  # from TFDS, and from the cache
    split = load(_config(), 'train')
    np.testing.assert_array_equal(split.arrays['factors'], [[0, 0], [1, 0], [2, 0], [0, 1], [1, 1], [2, 1]])
    assert 'y' not in split.arrays
  assert 'decoding' in capsys.readouterr().err
  found = simulator(_config())
  assert (found.names, found.sizes, found.fixed) == (('label_hue', 'label_shape'), (3, 2), True)
  drawn = found.draw(jax.random.key(0), np.array([[2, 0], [1, 1]]))
  np.testing.assert_array_equal(drawn, np.full((2, 3, 5, 1), [[[[2]]], [[[4]]]]))


def test_pixels_of_0_and_1_are_not_taken_for_black(tmp_path):
  _write(tmp_path / 'tfds', {'train': 6})
  (tmp_path / 'tfds' / 'tiny').rename(tmp_path / 'tfds' / 'dsprites')
  for path in (tmp_path / 'tfds' / 'dsprites' / '1.0.0').glob('tiny-*'):
    path.rename(path.with_name(path.name.replace('tiny', 'dsprites')))
  note = tmp_path / 'tfds' / 'dsprites' / '1.0.0' / 'dataset_info.json'
  note.write_text(note.read_text().replace('"tiny"', '"dsprites"'))
  _assert_mistake(_config('dsprites'), 'dsprites holds pixels of 0 and 1', '--config.data.preprocess=identity')
  assert load(_config('dsprites', preprocess='identity'), 'train').size == 6
