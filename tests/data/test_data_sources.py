"""Datasets by name: what is read, how it is split, what is kept, and every mistake in one line."""

import itertools
import os
import subprocess
import sys

import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from dgm_jax.data import cache, load
from dgm_jax.errors import UserError


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
  monkeypatch.setenv('DGM_JAX_CACHE', str(tmp_path / 'cache'))


def _config(name, **changes):
  defaults = {'train': 'train', 'test': 'test', 'valid_size': 0, 'size': 0, 'channels': 0, 'invert': False}
  return ConfigDict(defaults | {'preprocess': 'scale', 'name': name} | changes)


def _sizes(config, splits=('train', 'valid', 'test')):
  return [load(config, split).size for split in splits]


def _assert_mistake(config, split, *parts):
  """The mistake is one line, holding these parts."""
  with pytest.raises(UserError) as caught:
    load(config, split)
  assert '\n' not in str(caught.value)
  for part in parts:
    assert str(part) in str(caught.value)


def _save(path, pixels):
  path.parent.mkdir(parents=True, exist_ok=True)
  Image.fromarray(np.asarray(pixels, np.uint8)).save(path)


# Digits.


def test_digits():
  from sklearn.datasets import load_digits

  config = _config('digits', valid_size=100)
  assert _sizes(config) == [1297, 100, 400]
  splits = [load(config, split).arrays for split in ('train', 'valid', 'test')]
  x, y = (np.concatenate([arrays[name] for arrays in splits]) for name in 'xy')
  assert (x.shape, x.dtype, y.dtype) == ((1797, 8, 8, 1), np.uint8, np.int32)
  digits = load_digits()
  expected = sorted(
    (tuple(np.round(i.ravel() * 255 / 16 + 1e-9)), t) for i, t in zip(digits.images, digits.target, strict=True)
  )
  assert sorted((tuple(i.ravel()), t) for i, t in zip(x, y, strict=True)) == expected
  assert load(config, 'train').name == 'digits:train'


def test_digits_are_read_once(tmp_path):
  """On the next start neither scikit-learn nor jax nor TFDS is imported."""
  load(_config('digits'), 'test')
  code = (
    'import sys; from types import SimpleNamespace as C; from dgm_jax.data import load;'
    "options = {'valid_size': 9, 'size': 0, 'channels': 0, 'invert': False, 'preprocess': 'scale'};"
    "load(C(name='digits', **options), 'train');"
    "print([m for m in ('sklearn', 'jax', 'tensorflow_datasets', 'scipy') if m in sys.modules])"
  )
  done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True, env=os.environ)
  assert (done.stdout, done.stderr) == ('[]\n', '')


# The rules of splitting, sizes and colours.


def test_validation_is_the_tail_of_train_and_as_large_as_asked_for():
  whole = load(_config('digits'), 'train').arrays['y']
  assert len(whole) == 1397
  config = _config('digits', valid_size=30)
  np.testing.assert_array_equal(load(config, 'train').arrays['y'], whole[:-30])
  np.testing.assert_array_equal(load(config, 'valid').arrays['y'], whole[-30:])
  assert _sizes(_config('digits', valid_size=700)) == [697, 700, 400]  # as many as asked for, be it half of them


def test_size_channels_and_inversion():
  plain = load(_config('digits'), 'test').arrays['x']
  np.testing.assert_array_equal(load(_config('digits', invert=True), 'test').arrays['x'], 255 - plain)
  colour = load(_config('digits', channels=3), 'test').arrays['x']
  np.testing.assert_array_equal(colour, np.repeat(plain, 3, -1))
  assert load(_config('digits', size=4), 'test').arrays['x'].shape == (400, 4, 4, 1)
  np.testing.assert_array_equal(load(_config('digits', pad=3), 'test').arrays['x'][:, 3:-3, 3:-3], plain)
  for changes, message in (({'pad': -1}, 'pad=-1'), ({'name': 'sprites', 'pad': 1}, 'pad=1 is for stored images')):
    with pytest.raises(UserError, match=message):
      load(_config(**{'name': 'digits'} | changes), 'test')


@pytest.mark.parametrize(
  ('changes', 'split', 'parts'),
  [
    ({}, 'dev', ["no split 'dev'", 'train, valid, test']),
    (
      {},
      'valid',
      ['digits has no validation examples', 'set --config.data.valid_size to 1 or more', '1397 to train on'],
    ),
    ({'valid_size': -1}, 'train', ['--config.data.valid_size=-1']),
    ({'valid_size': 1397}, 'train', ['--config.data.valid_size=1397 leaves nothing of the 1397 examples']),
    ({'size': -2}, 'train', ['--config.data.size=-2', 'or 0 for images as stored']),
    ({'channels': 2}, 'train', ['--config.data.channels=2', '1 (grey), 3 (colour)']),
    (
      {'name': 'foldr:/x'},
      'train',
      ['--config.data.name=foldr:/x', 'folder:PATH, npz:PATH, npy:PATH, mat:PATH, amat:PATH, points:NAME, toy:NAME'],
    ),
    ({'name': 'npz:'}, 'train', ['--config.data.name=npz:']),
  ],
)
def test_mistakes_in_the_config(changes, split, parts):
  _assert_mistake(_config(**({'name': 'digits'} | changes)), split, *parts)


# Folders.


def test_folder_is_dealt_80_10_10(tmp_path):
  for i in range(30):
    _save(tmp_path / 'a' / f'{i:02}.png', np.full((4, 5), i))
  config = _config(f'folder:{tmp_path}', valid_size=7)
  splits = [load(config, split).arrays for split in ('train', 'valid', 'test')]
  values = [arrays['x'][:, 0, 0, 0].tolist() for arrays in splits]
  assert [len(v) for v in values] == [24, 3, 3]
  assert sorted(itertools.chain(*values)) == list(range(30))
  assert all(v == sorted(v) for v in values)
  assert values[1] != [3, 4, 5]
  assert splits[0]['x'].shape == (24, 4, 5, 1)
  assert [load(config, 'train').arrays['x'][:, 0, 0, 0].tolist()] == values[:1]


def test_folder_with_parts_and_classes(tmp_path):
  for part, name, value in [('train', 'cat', 1), ('train', 'dog', 2), ('test', 'dog', 3), ('valid', 'cat', 4)]:
    for i in range(10):
      _save(tmp_path / part / name / f'{i}.png', np.full((3, 3, 3), 10 * value + i))
  _save(tmp_path / 'elsewhere.png', np.zeros((9, 9)))
  (tmp_path / 'train' / 'cat' / '._0.png').write_bytes(b'what a Mac leaves')
  (tmp_path / 'train' / 'notes.txt').write_text('no picture')
  config = _config(f'folder:{tmp_path}', valid_size=5)
  train, valid, test = (load(config, split).arrays for split in ('train', 'valid', 'test'))
  assert train['x'][:, 0, 0, 2].tolist() == [*range(10, 20), *range(20, 30)]
  assert train['y'].tolist() == [0] * 10 + [1] * 10
  assert (set(test['y'].tolist()), set(valid['y'].tolist())) == ({1}, {0})
  (tmp_path / 'valid').rename(tmp_path / 'train' / 'eel')
  assert _sizes(config) == [25, 5, 10]


def test_folder_without_classes_has_no_labels(tmp_path):
  for i in range(10):
    _save(tmp_path / ('a' if i else '.') / f'{i}.png', np.zeros((2, 2)))
  assert set(load(_config(f'folder:{tmp_path}'), 'train').arrays) == {'x'}


def test_folder_reads_what_cameras_and_painters_write(tmp_path):
  """Palette, transparency over white, 16 bits, a turned photograph, the first frame, an upper-case suffix."""
  colour = np.zeros((4, 4, 3), np.uint8) + np.array([255, 0, 0], np.uint8)
  picture = Image.fromarray(colour)
  picture.quantize(4).save(tmp_path / '0.png')
  Image.fromarray(np.concatenate([colour, np.zeros((4, 4, 1), np.uint8)], -1)).save(tmp_path / '1.png')
  Image.fromarray(np.full((4, 4), 0x80FF, np.uint16)).save(tmp_path / '2.PNG')
  top = np.zeros((4, 4), np.uint8)
  top[:2] = 255
  turned = Image.Exif()
  turned[0x0112] = 3
  Image.fromarray(top).save(tmp_path / '3.jpg', exif=turned)
  picture.save(tmp_path / '4.gif', save_all=True, append_images=[Image.fromarray(255 - colour)])
  picture.save(tmp_path / '5.webp', lossless=True)
  picture.save(tmp_path / '6.bmp')
  (tmp_path / 'train').mkdir()
  for file in tmp_path.glob('*.*'):
    file.rename(tmp_path / 'train' / file.name)
  x = load(_config(f'folder:{tmp_path}', channels=3), 'train').arrays['x'].astype(int)
  red = [255, 0, 0]
  np.testing.assert_array_equal(x[:, 0, 0], [red, [255] * 3, [128] * 3, x[3, 0, 0], red, red, red])
  assert x[3, 0].max() < 20 < 235 < x[3, 3].min()


def test_folder_follows_its_files(tmp_path):
  for i in range(10):
    _save(tmp_path / f'{i}.png', np.full((2, 2), i))
  config = _config(f'folder:{tmp_path}')
  assert load(config, 'train').arrays['x'].max() < 10
  for i in range(10):
    _save(tmp_path / f'{i}.png', np.full((2, 2), 100 + i))
    os.utime(tmp_path / f'{i}.png', (1, 1))
  assert load(config, 'train').arrays['x'].min() >= 100


def test_mistakes_with_folders(tmp_path):
  _assert_mistake(_config(f'folder:{tmp_path}/none'), 'train', f'no folder {tmp_path}/none', 'folder:PATH')
  _assert_mistake(_config(f'folder:{tmp_path}'), 'train', f'no images in {tmp_path}', '.png .jpg')
  _save(tmp_path / 'a.png', np.zeros((4, 4)))
  _assert_mistake(_config(f'folder:{tmp_path}'), 'train', '1 examples are too few to deal', '3 are needed')
  _save(tmp_path / 'b.png', np.zeros((4, 6)))
  _save(tmp_path / 'c.png', np.zeros((4, 4)))
  where = f'{tmp_path}/a.png is 4x4x1, {tmp_path}/b.png is 4x6x1'
  _assert_mistake(_config(f'folder:{tmp_path}'), 'train', 'images differ', where, 'set --config.data.size')
  assert load(_config(f'folder:{tmp_path}', size=4), 'train').arrays['x'].shape == (1, 4, 4, 1)
  whole = (tmp_path / 'a.png').read_bytes()
  for damaged in (whole[: len(whole) // 2], b'', b'no picture', whole[:40]):
    (tmp_path / 'b.png').write_bytes(damaged)
    _assert_mistake(
      _config(f'folder:{tmp_path}', size=4), 'train', f'cannot read the image {tmp_path}/b.png', 'replace or remove'
    )
  assert not list(cache.root().glob('*.tmp*'))
  (tmp_path / 'train').mkdir()
  _assert_mistake(_config(f'folder:{tmp_path}'), 'train', f'no images in {tmp_path}/train')
  (tmp_path / 'a.png').rename(tmp_path / 'train' / 'a.png')
  _assert_mistake(_config(f'folder:{tmp_path}'), 'test', f'folder:{tmp_path} has no test part, but train')


# Arrays.


def test_npy_of_pictures_is_dealt(tmp_path):
  np.save(tmp_path / 'a.npy', np.arange(50, dtype=np.uint8)[:, None, None] * np.ones((4, 4), np.uint8))
  config = _config(f'npy:{tmp_path}/a.npy')
  values = [load(config, split).arrays['x'] for split in ('train', 'valid', 'test')]
  assert [v.shape for v in values] == [(40, 4, 4, 1), (5, 4, 4, 1), (5, 4, 4, 1)]
  assert sorted(np.concatenate(values)[:, 0, 0, 0].tolist()) == list(range(50))


def test_npz_with_parts(tmp_path):
  x, y = np.zeros((20, 3, 3, 1), np.uint8), np.arange(20)
  parts = {'x_train': x, 'y_train': y[:, None], 'x_test': x[:4] + 1, 'y_test': y[:4].astype(np.uint8)}
  np.savez(tmp_path / 'a.npz', **parts)
  config = _config(f'npz:{tmp_path}/a.npz', valid_size=2)
  assert _sizes(config) == [18, 2, 4]
  assert load(config, 'valid').arrays['y'].tolist() == [18, 19]
  assert load(config, 'test').arrays['y'].dtype == np.int32
  np.savez(tmp_path / 'b.npz', **parts, x_valid=x[:7] + 2)
  assert _sizes(_config(f'npz:{tmp_path}/b.npz', valid_size=2)) == [20, 7, 4]


def test_npz_of_floats(tmp_path):
  x = np.random.default_rng(0).normal(size=(10, 2))
  np.savez(tmp_path / 'a.npz', x=x, y=np.arange(10), other=np.zeros(3))
  config = _config(f'npz:{tmp_path}/a.npz', preprocess='identity')
  splits = [load(config, split).arrays for split in ('train', 'valid', 'test')]
  for arrays in splits:
    np.testing.assert_array_equal(arrays['x'], x.astype(np.float32)[arrays['y']])
  assert [len(arrays['x']) for arrays in splits] == [8, 1, 1]
  _assert_mistake(
    _config(f'npz:{tmp_path}/a.npz'), 'train', 'holds floats, which scale cannot take', 'preprocess=identity'
  )


def test_npz_is_resized_by_way_of_the_cache(tmp_path):
  x = np.random.default_rng(0).integers(0, 256, (10, 6, 8, 3)).astype(np.uint8)
  np.savez(tmp_path / 'a.npz', images=x)
  config = _config(f'npz:{tmp_path}/a.npz', size=3, channels=1)
  first = load(config, 'train').arrays['x']
  assert first.shape == (8, 3, 3, 1)
  assert len(list(cache.root().iterdir())) == 1
  np.testing.assert_array_equal(load(config, 'train').arrays['x'], first)


@pytest.mark.parametrize(
  ('arrays', 'parts'),
  [
    ({'x': np.zeros((0, 4, 4), np.uint8)}, ['x of', 'is empty, of shape (0, 4, 4)']),
    ({'x': np.zeros((9, 4), np.uint8)}, ['has shape (9, 4): images must be [N, H, W] or [N, H, W, C]']),
    ({'x': np.zeros((9, 3, 32, 32), np.uint8)}, ['has shape (9, 3, 32, 32)', 'C up to 4']),
    ({'x': np.zeros((9, 4, 4), np.int64)}, ['holds int64: images must be uint8']),
    ({'x': np.zeros(9)}, ['has shape (9,): floats must be [N, ...]']),
    ({'x': np.full((9, 2), np.nan)}, ['not finite']),
    ({'x': np.full((9, 2), 1e300)}, ['not finite']),
    ({'x': np.array([{}, []], object)}, ['cannot read', 'as NumPy arrays without pickled objects']),
    ({'a': np.zeros((9, 2)), 'b': np.zeros((9, 2))}, ['holds a, b: name the examples x']),
    ({'y': np.zeros(9)}, ['holds y: name the examples x']),
    ({'x': np.zeros((9, 2)), 'y': np.zeros(8, int)}, ['y of', 'labels must be 9 integers']),
    ({'x': np.zeros((9, 2)), 'y': np.zeros(9)}, ['is float64 of shape (9,): labels must be 9 integers']),
    ({'x': np.zeros((9, 2)), 'y': np.zeros((9, 10), int)}, ['of shape (9, 10): labels must be 9 integers']),
    ({'x_train': np.zeros((9, 2)), 'x_valid': np.zeros((0, 2))}, ['x_valid of', 'is empty']),
  ],
)
@pytest.mark.filterwarnings('ignore:overflow encountered in cast')
def test_mistakes_with_arrays(tmp_path, arrays, parts):
  np.savez(tmp_path / 'a.npz', **arrays)
  _assert_mistake(_config(f'npz:{tmp_path}/a.npz', preprocess='identity'), 'valid', f'{tmp_path}/a.npz', *parts)


def test_mistakes_with_files(tmp_path):
  _assert_mistake(_config(f'npz:{tmp_path}/none.npz'), 'train', f'no file {tmp_path}/none.npz', 'npz:PATH')
  _assert_mistake(_config(f'npz:{tmp_path}'), 'train', f'no file {tmp_path}')
  np.savez(tmp_path / 'b.npz', x=np.zeros((9, 99)))
  whole = (tmp_path / 'b.npz').read_bytes()
  for content in (b'', b'no array', whole[: len(whole) // 2]):
    (tmp_path / 'a.npz').write_bytes(content)
    _assert_mistake(_config(f'npz:{tmp_path}/a.npz'), 'train', f'cannot read {tmp_path}/a.npz as NumPy arrays')
  np.save(tmp_path / 'c.npy', np.zeros((9, 2)))
  (tmp_path / 'c.npy').write_bytes((tmp_path / 'c.npy').read_bytes()[:-8])
  _assert_mistake(_config(f'npy:{tmp_path}/c.npy'), 'train', f'cannot read {tmp_path}/c.npy as NumPy arrays')
  np.save(tmp_path / 'd.npy', np.array([{}, {}], object), allow_pickle=True)
  _assert_mistake(_config(f'npy:{tmp_path}/d.npy'), 'train', 'without pickled objects')
  np.savez(tmp_path / 'e.npz', x=np.zeros((9, 2, 2, 4), np.uint8), x_train=np.zeros((9, 2)))
  _assert_mistake(_config(f'npz:{tmp_path}/e.npz', size=3), 'train', 'holds float64', 'for uint8 images only')
  np.savez(tmp_path / 'f.npz', x=np.zeros((9, 2, 2, 4), np.uint8))
  _assert_mistake(
    _config(f'npz:{tmp_path}/f.npz', channels=1), 'train', 'has 4 channels: --config.data.channels must be 0'
  )


@pytest.mark.parametrize(
  ('name', 'said'),
  [
    ('/etc', 'folder:/etc'),
    ('~/pictures', 'folder:~/pictures'),
    ('a/x.npz', 'npz:a/x.npz'),
    ('', 'is empty: give digits'),
  ],
)
def test_a_path_without_its_kind_is_answered_by_the_name_to_write(name, said):
  _assert_mistake(_config(name), 'train', '--config.data.name', said)
