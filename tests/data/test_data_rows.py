"""Rows of files: those of the whole array, read when asked for, decoded once, and refused in one line."""

import os
import zlib

import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from dgm_jax.data import archive, checks, images, kept, load, load_parts, records, rows
from dgm_jax.data.images import Look
from dgm_jax.errors import UserError

X = np.random.default_rng(0).integers(0, 256, (40, 5, 4, 3), np.uint8)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
  monkeypatch.setenv('DGM_JAX_CACHE', str(tmp_path / 'cache'))


def config_of(name, **changes):
  plain = {'name': name, 'size': 0, 'channels': 0, 'invert': False, 'pad': 0, 'valid_size': 0, 'preprocess': 'scale'}
  return ConfigDict(plain | {'train': 'train', 'test': 'test', **changes})


def counted(x):
  """Rows of x, and the list of those that were read."""
  read = []
  return rows.Rows(x.shape, x.dtype, lambda index: (read.extend(index.tolist()), x[index])[1], 'mark'), read


@pytest.mark.parametrize(
  'index',
  [
    3,
    -1,
    slice(2, 9),
    slice(None, None, 7),
    [5, 5, 0],
    [-1, 39],
    np.array([[1, 2], [3, 4]]),
    (slice(4, 6), 2),
    [],
    (3, 1),
    (np.array([[1, 2], [3, 4]]), 1),
    np.arange(40) % 3 == 0,
  ],
)
def test_rows_are_indexed_as_an_array_is(index, tmp_path):
  np.save(tmp_path / 'x.npy', X)
  array = rows.of_file(tmp_path / 'x.npy', archive.members(tmp_path / 'x.npy')[0]['x'])
  index = np.array(index, np.int32) if isinstance(index, list) else index
  np.testing.assert_array_equal(array[index], X[index])
  some = np.array([0, 3, 4, 5, 39])
  np.testing.assert_array_equal(np.asarray(rows.chosen(array, some)), X[some])
  np.testing.assert_array_equal(rows.chosen(array, slice(3, 30, 4))[:], X[3:30:4])
  np.testing.assert_array_equal(rows.chosen(rows.chosen(array, slice(10, 30)), np.array([1, 19]))[:], X[[11, 29]])


def test_rows_that_are_not_there_are_refused():
  with pytest.raises(IndexError, match='no row 40'):
    counted(X)[0][40]


def test_a_source_is_what_loaders_want(tmp_path):
  source = rows.Source({'x': counted(X)[0], 'y': np.arange(40)})
  assert len(source) == 40 and source[7]['y'] == 7
  np.testing.assert_array_equal(source[7]['x'], X[7])
  np.testing.assert_array_equal(source.rows(np.array([3, 1]))['x'], X[[3, 1]])


def test_a_large_file_is_dealt_without_being_read(tmp_path, monkeypatch):
  np.save(tmp_path / 'x.npy', X)
  whole = load_parts(config_of(f'npy:{tmp_path / "x.npy"}'), ('train', 'valid', 'test'))
  monkeypatch.setattr(rows, 'LARGE', 0)
  parts = load_parts(config_of(f'npy:{tmp_path / "x.npy"}'), ('train', 'valid', 'test'))
  for name, part in parts.items():
    assert isinstance(part.arrays['x'], rows.Rows) and part.shape == (5, 4, 3)
    np.testing.assert_array_equal(np.asarray(part.arrays['x']), whole[name].arrays['x'])
  np.savez(tmp_path / 'x.npz', x=X)
  packed = load(config_of(f'npz:{tmp_path / "x.npz"}'), 'train').arrays['x']
  assert isinstance(packed, np.ndarray) and (packed == whole['train'].arrays['x']).all()
  grey = load(config_of(f'npy:{tmp_path / "x.npy"}', channels=1, size=3), 'train').arrays['x']
  monkeypatch.setattr(rows, 'LARGE', 2**30)
  small = load(config_of(f'npy:{tmp_path / "x.npy"}', channels=1, size=3), 'train').arrays['x']
  np.testing.assert_array_equal(np.asarray(grey), small)


def test_what_is_wrong_with_a_large_file_is_one_line(tmp_path, monkeypatch):
  monkeypatch.setattr(rows, 'LARGE', 0)
  path = tmp_path / 'x.npy'
  name = f'npy:{path}'
  np.save(path, np.asfortranarray(X))
  with pytest.raises(UserError, match='stored by columns: save it anew'):
    load(config_of(name), 'train')
  np.save(path, np.where(np.arange(40) == 7, np.nan, 1.0)[:, None] * np.ones((40, 2), 'f8'))
  x = load(config_of(name, preprocess='identity'), 'train').arrays['x']
  assert x.dtype == np.float32
  with pytest.raises(UserError, match='not finite float32'):
    np.asarray(x)
  np.save(path, X)
  x = load(config_of(name), 'train').arrays['x']
  os.truncate(path, path.stat().st_size - 1000)
  with pytest.raises(UserError, match=r'x.npy ends before its last row'):
    np.asarray(x)
  monkeypatch.setattr(archive, 'memory', lambda: 100)
  with pytest.raises(UserError, match=r'32 examples take 1,920 bytes, .* of which the machine has 100'):
    np.asarray(x)


def test_the_array_of_a_terabyte_is_opened_at_once(tmp_path):
  path = tmp_path / 'x.npy'
  with path.open('wb') as file:
    header = {'descr': '|u1', 'fortran_order': False, 'shape': (10**6, 1000, 1000)}
    np.lib.format.write_array_header_1_0(file, header)
    file.truncate(10**12 + 128)
  test = load(config_of(f'npy:{path}'), 'test')
  assert (test.size, test.nbytes) == (10**5, 10**11) and test.source[99_999]['x'].shape == (1000, 1000, 1)


def test_a_row_is_decoded_once_and_again_if_it_was_torn(tmp_path, monkeypatch):
  def opened(files=1):
    array, read = counted(X)
    return kept.kept(array, 'set', {'files': files}), read

  first, read = opened()
  for _ in range(2):
    np.testing.assert_array_equal(first[[4, 9, 4]], X[[4, 9, 4]])
  assert sorted(set(read)) == [4, 9] and len(read) <= 3
  (path,) = (tmp_path / 'cache' / 'rows').glob('set-*[!s]')
  assert path.stat().st_size == X.nbytes
  with path.open('r+b') as file:
    file.seek(9 * X[0].nbytes + 5)
    file.write(b'\0torn')
  again, read = opened()
  np.testing.assert_array_equal(again[[4, 9, 11]], X[[4, 9, 11]])
  assert read == [9, 11]
  sums = np.fromfile(f'{path}.sums', np.uint32)
  assert sums[9] == zlib.crc32(X[9].tobytes()) and np.flatnonzero(sums).tolist() == [4, 9, 11]
  changed, read_anew = opened(files=2)
  np.testing.assert_array_equal(changed[[4]], X[[4]])
  assert read_anew == [4]
  monkeypatch.setattr(kept.os, 'pread', lambda *_: (_ for _ in ()).throw(OSError(5, 'Input/output error')))
  np.testing.assert_array_equal(again[[4]], X[[4]])
  assert read == [9, 11, 4]


def test_rows_are_not_kept_where_the_disk_lacks_the_room(tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(kept, 'SPARE', 2**62)
  array, read = counted(X)
  same = kept.kept(array, 'set', {})
  assert same is array and 'each epoch decodes its 40 examples' in capsys.readouterr().err
  monkeypatch.setattr(kept, 'SPARE', 0)
  full = kept.kept(array, 'set', {})
  monkeypatch.setattr(kept.os, 'pwrite', lambda *_: (_ for _ in ()).throw(OSError(28, 'No space left')))
  np.testing.assert_array_equal(full[[1, 1]], X[[1, 1]])
  np.testing.assert_array_equal(full[[1]], X[[1]])
  assert read.count(1) == 3


def draw(folder, classes=('a', 'b', 'c'), each=4):
  for k, name in enumerate(classes):
    (folder / name).mkdir(parents=True)
    for i in range(each):
      Image.fromarray(X[4 * k + i]).save(folder / name / f'{i}.png')


def test_a_large_folder_has_the_pictures_and_labels_of_a_small_one(tmp_path, monkeypatch):
  draw(tmp_path / 'set')
  config = config_of(f'folder:{tmp_path / "set"}', size=4)
  small = load_parts(config, ('train', 'test'))
  monkeypatch.setattr(rows, 'LARGE', 0)
  large = load_parts(config, ('train', 'test'))
  for name in small:
    np.testing.assert_array_equal(np.asarray(large[name].arrays['x']), small[name].arrays['x'])
    np.testing.assert_array_equal(large[name].arrays['y'], small[name].arrays['y'])
  before = checks.digests(large)
  assert before == checks.digests(load_parts(config, ('train', 'test')))
  (tmp_path / 'set' / 'a' / '1.png').write_bytes(b'another size')
  assert before != checks.digests(load_parts(config, ('train', 'test')))


def test_pictures_that_differ_in_shape_or_are_damaged_are_named_when_they_are_read(tmp_path, monkeypatch):
  monkeypatch.setattr(rows, 'LARGE', 0)
  draw(tmp_path / 'set' / 'train')
  Image.fromarray(X[0][:3]).save(tmp_path / 'set' / 'train' / 'b' / '2.png')
  (tmp_path / 'set' / 'train' / 'c' / '1.png').write_bytes(b'no picture')
  x = load(config_of(f'folder:{tmp_path / "set"}', valid_size=1), 'train').arrays['x']
  with pytest.raises(UserError, match=r'a/0.png is 5x4x3, b/2.png is 3x4x3'):
    x[[0, 6]]
  with pytest.raises(UserError, match=r'cannot read the image .*c/1.png'):
    x[[9]]


class Records:
  """What TFDS gives of a set, of which each read is counted."""

  def __init__(self, contents):
    self.contents, self.read = contents, []

  def __len__(self):
    return len(self.contents)

  def __getitems__(self, places):
    self.read += places
    return [self.contents[place] for place in places]


def test_records_are_read_when_asked_for_with_their_labels(tmp_path):
  draw(tmp_path, ('a',))
  pictures = [(tmp_path / 'a' / f'{i}.png').read_bytes() for i in range(4)]
  source = Records([{'image': picture, 'label': np.int64(10 * i)} for i, picture in enumerate(pictures)])
  facts = {'look': Look().facts}
  arrays = records.rows_of(source, 'image', ('label',), Look(), 'tiny:train', facts)
  assert source.read == [0] and arrays['x'].shape == (4, 5, 4, 3)
  for _ in range(2):
    np.testing.assert_array_equal(arrays['x'][[3, 1]], X[[3, 1]])
    np.testing.assert_array_equal(np.asarray(arrays['y']), [0, 10, 20, 30])
  assert sorted(source.read) == [0, 0, 1, 1, 2, 3, 3]
  factors = records.rows_of(source, 'image', ('label', 'label'), Look(), 'other', facts)['factors']
  np.testing.assert_array_equal(factors[2], [20, 20])


def test_bytes_of_a_set_of_records_are_told_by_its_notes(tmp_path):
  note = '{"featuresDict": {"features": {"image": {"image": {"shape": {"dimensions": ["%s", "64", "3"]}}}}}}'
  info = {'splits': [
    {'name': 'train', 'shardLengths': ['900', '100'], 'numBytes': '5000'},
    {'name': 'test', 'shardLengths': ['7'], 'numBytes': '30'},
  ]}  # fmt: skip
  (tmp_path / 'features.json').write_text(note % '64')
  size = lambda expression, *look: records.num_bytes(tmp_path, info, expression, Look(*look))
  assert size('train[:90%]') == 1000 * 64 * 64 * 3 and size('test') == 7 * 64 * 64 * 3
  assert size('train+test', 32, 1) == 1007 * 32 * 32
  (tmp_path / 'features.json').write_text(note % '-1')
  assert size('train') == 8 * 5000 and size('train', 8) == 1000 * 64 * 3
  (tmp_path / 'features.json').write_text((note % '-1').replace('64', '-1'))
  assert size('train') == 8 * 5000
  assert records.num_bytes(tmp_path, {}, 'train', Look()) == 0


@pytest.mark.parametrize('shape', [(7, 9, 3), (9, 7, 3), (12, 12, 3), (5, 5, 3)])
def test_colours_are_resized_as_each_channel_alone(shape):
  x = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
  alone = [images.conform(x[..., [channel]], Look(size=6)) for channel in range(3)]
  np.testing.assert_array_equal(images.conform(x, Look(size=6)), np.concatenate(alone, -1))
