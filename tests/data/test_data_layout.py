"""Folders as people have them: parts by any name, links, hidden files, deep greys; no test image is trained on."""

import itertools
import os
import re
import zlib
from zlib import crc32 as crc

import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from dgm_jax.data import cache, load
from dgm_jax.data.names import part_of, role_of
from dgm_jax.errors import UserError


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
  monkeypatch.setenv('DGM_JAX_CACHE', str(tmp_path / 'cache'))


@pytest.fixture
def root(tmp_path):
  return tmp_path / 'pictures'


def config_of(root, **changes):
  defaults = {'train': 'train', 'test': 'test', 'valid_size': 0, 'size': 0, 'channels': 0, 'invert': False}
  return ConfigDict(defaults | {'preprocess': 'scale', 'name': f'folder:{root}'} | changes)


def save(path, value, dtype=np.uint8, **options):
  path.parent.mkdir(parents=True, exist_ok=True)
  Image.fromarray(np.full((2, 2), value, dtype)).save(path, **options)


def values(split):
  return split.arrays['x'][:, 0, 0, 0].tolist()


def refused(root, said, split='train'):
  with pytest.raises(UserError, match=said) as caught:
    load(config_of(root), split)
  assert '\n' not in str(caught.value)


@pytest.mark.parametrize(
  'names',
  [
    ('Train', 'Test', 'val'), ('training', 'testing', 'validation'), ('TRAIN', 'TEST', 'Val'),
    ('training_set', 'test_set', 'dev'), ('train2017', 'test2017', 'val2017'), ('train_images', 'test-images', 'valid'),
  ],
)  # fmt: skip
def test_parts_have_many_names_and_no_test_image_is_trained_on(root, names):
  for name, first in zip(names, (10, 20, 30), strict=True):
    for i in range(4):
      save(root / name / f'{i}.png', first + i)
  train, test, valid = (load(config_of(root), split) for split in ('train', 'test', 'valid'))
  assert [values(split) for split in (train, test, valid)] == [[*range(n, n + 4)] for n in (10, 20, 30)]


@pytest.mark.parametrize(
  ('names', 'said'),
  [
    (('trainA', 'testA'), 'holds testA, trainA, and it cannot be told which parts they are: call them train'),
    (('train', 'test_old'), 'holds train, test_old, and it cannot be told'),
    (('cat', 'dog', 'test'), r'holds test \(the part test\) but no folder train'),
    (('train', 'Training', 'test'), 'holds both Training and train, which may be the part train: keep one'),
    (('cat/train', 'cat/test'), r'holds folders of parts further down \(cat/test, cat/train\)'),
    (('pets/train/cat', 'pets/test/cat'), r'holds folders of parts further down \(pets/test, pets/train\)'),
    (('train/a', 'train/val', 'test/a'), r'holds folders of parts inside of the part train further down \(val\)'),
    (('train/Cat', 'train/dog', 'test/cat'), 'has the classes Cat and cat: give folders of one class one name'),
  ],
)
def test_where_it_cannot_be_told_what_to_train_on_nothing_is(root, names, said):
  for name in names:
    for i in range(4):
      save(root / name / f'{i}.png', i)
  refused(root, said)


def test_a_part_within_a_folder_of_its_own_name_has_no_class_of_that_name(root):
  for part in ('train', 'test'):
    for i in range(4):
      save(root / part / part / f'{i}.png', i)
  assert set(load(config_of(root), 'train').arrays) == {'x'}


def test_a_test_folder_that_is_a_link_to_the_training_folder_is_refused(root):
  save(root / 'train' / '0.png', 0)
  (root / 'test').symlink_to(root / 'train')
  refused(root, r'train and .*test are one folder|test and .*train are one folder')


def test_hidden_folders_and_what_systems_leave_are_no_classes(root):
  for i in range(10):
    save(root / 'cat' / f'{i}.png', i)
    save(root / 'dog' / f'{i}.png', 100 + i)
    save(root / '.ipynb_checkpoints' / f'{i}-checkpoint.png', 50)
    save(root / 'cat' / '.ipynb_checkpoints' / f'{i}-checkpoint.png', 50)
    save(root / '__MACOSX' / f'{i}.png', 50)
    save(root / '@eaDir' / f'{i}.png', 50)
  split = load(config_of(root), 'train')
  assert split.classes == ('cat', 'dog')
  assert 50 not in values(split) and split.size == 16
  assert split.notes == ('left out, hidden: 4 (.ipynb_checkpoints, @eaDir, __MACOSX, and 1 more)',)


def test_links_are_followed_once_and_broken_ones_are_named(root, tmp_path):
  for i in range(5):
    save(root / 'cat' / f'{i}.png', i)
    save(tmp_path / 'elsewhere' / f'{i}.png', 10 + i)
  save(tmp_path / 'one.png', 20)
  (root / 'dog').symlink_to(tmp_path / 'elsewhere')
  (root / 'cat' / 'one.png').symlink_to(tmp_path / 'one.png')
  (root / 'cat' / 'gone.png').symlink_to(tmp_path / 'gone.png')
  (root / 'cat' / 'again.png').symlink_to(root / 'cat' / '0.png')
  (root / 'loop').symlink_to(root)
  splits = [load(config_of(root), split) for split in ('train', 'valid', 'test')]
  assert sorted(itertools.chain(*map(values, splits))) == [0, 1, 2, 3, 4, 10, 11, 12, 13, 14, 20]
  assert splits[0].classes == ('cat', 'dog')
  assert splits[0].notes == (
    'left out, broken links: 1 (cat/gone.png)',
    'left out, links to what is read already: 2 (cat/again.png, loop)',
  )


def test_a_stray_picture_costs_no_labels_and_other_kinds_are_named(root):
  for i in range(6):
    save(root / 'cat' / f'{i}.png', i)
    save(root / 'dog' / f'{i}.jpe', i, format='JPEG')
    save(root / 'dog' / f'{i}.tif', i)
  save(root / 'stray.png', 77)
  save(root / 'cat' / 'x.pgm', 1)
  split = load(config_of(root), 'train')
  assert set(split.arrays) == {'x', 'y'} and split.size == 10 and 77 not in values(split)
  assert split.notes == (
    'left out, of other kinds than PNG, JPEG, BMP, WebP, GIF: 7 (cat/x.pgm, dog/0.tif, dog/1.tif, and 4 more)',
    'left out, beside the class folders: 1 (stray.png)',
  )


def test_as_many_pictures_beside_class_folders_are_refused(root):
  save(root / 'cat' / '0.png', 0)
  save(root / 'dog' / '0.png', 0)
  for i in range(5):
    save(root / f'{i}.png', i)
  refused(root, '5 images of .* lie beside its folders and 2 inside of them')


def test_a_test_part_without_class_folders_leaves_the_training_part_its_labels(root):
  for i in range(6):
    save(root / 'train' / ('cat', 'dog')[i % 2] / f'{i}.png', i)
    save(root / 'test' / f'{i}.png', i)
  assert sorted(load(config_of(root), 'train').arrays) == ['x', 'y']
  assert sorted(load(config_of(root), 'test').arrays) == ['x']


def test_without_pictures_it_is_said_what_was_there(root):
  save(root / '0.tif', 0)
  os.mkfifo(root / '1.png')
  refused(root, r'no images in .*left out, neither files nor folders: 1 \(1.png\); of other kinds .*: 1 \(0.tif\)')


def test_pipes_are_left_alone(root):
  for i in range(5):
    save(root / f'{i}.png', i)
  os.mkfifo(root / 'pipe.png')
  split = load(config_of(root), 'train')
  assert split.size == 3 and split.notes == ('left out, neither files nor folders: 1 (pipe.png)',)


@pytest.mark.skipif(os.geteuid() == 0, reason='root may list any folder')
def test_a_folder_that_cannot_be_listed_is_refused(root):
  save(root / 'cat' / '0.png', 0)
  (root / 'cat').chmod(0)
  refused(root, 'cannot list the folder')


# Sixteen bits.


@pytest.mark.parametrize(('most', 'bits'), [(255, 8), (1023, 10), (4095, 12), (4000, 12), (16383, 14), (65535, 16)])
def test_deep_greys_are_read_by_the_bits_that_all_of_them_use(root, most, bits):
  for part in ('train', 'test'):
    for i in range(3):
      save(root / part / f'{i}.png', i * most // (3 if part == 'train' else 2), np.uint16)
  expected = [[i * most // over >> bits - 8 for i in range(3)] for over in (3, 2)]
  train, test = load(config_of(root), 'train'), load(config_of(root), 'test')
  assert [values(train), values(test)] == expected
  said = f'images of 16 bits use {bits} bits: their values are read as 0 to {2**bits - 1}'
  assert train.notes == ((said,) if bits < 16 else ())


def test_a_change_of_the_bits_that_are_used_is_noticed(root):
  for i in range(3):
    save(root / 'train' / f'{i}.png', 4095, np.uint16)
  assert values(load(config_of(root), 'train')) == [255] * 3
  save(root / 'test' / '0.png', 65535, np.uint16)
  assert values(load(config_of(root), 'train')) == [15] * 3


def test_deep_colours_of_fewer_bits_are_refused(root):
  chunk = lambda name, data: len(data).to_bytes(4, 'big') + name + data + crc(name + data).to_bytes(4, 'big')
  header = b''.join(n.to_bytes(4, 'big') for n in (1, 1)) + bytes([16, 2, 0, 0, 0])
  for most in (0x0FFF, 0xFFFF):
    rows = zlib.compress(b'\0' + most.to_bytes(2, 'big') * 3)
    data = b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header) + chunk(b'IDAT', rows) + chunk(b'IEND', b'')
    (root / 'train').mkdir(parents=True, exist_ok=True)
    (root / 'train' / '0.png').write_bytes(data)
    if most == 0x0FFF:
      refused(root, 'has colours of 16 bits of which 12 are used: convert such images to 8 bits')
  assert load(config_of(root), 'train').arrays['x'].tolist() == [[[[255] * 3]]]


def test_the_bits_are_found_once(root, monkeypatch):
  for i in range(10):
    save(root / f'{i}.png', 4095, np.uint16)
  load(config_of(root), 'train')
  monkeypatch.setattr('dgm_jax.data.folder.bits_used', None)
  load(config_of(root), 'test')
  assert len(list(cache.root().glob('*.json'))) == 1


# Names.


def test_names_of_parts_and_arrays():
  assert [part_of(name) for name in ('Trn', 'cat', '', '7', 'set', 'tests', 'train_A', 'contest')] == ['train'] + [
    ''
  ] * 7
  roles = {'X_train': ('x', 'train'), 'testY': ('y', 'test'), 'val_images': ('x', 'valid'), 'labels': ('y', '')}
  assert {name: role_of(name) for name in roles} == roles
  assert [role_of(name) for name in ('arr_0', 'train', 'x_train_test', 'context')] == [('', '')] * 4


def test_a_name_that_can_be_no_path_is_one_line(tmp_path):
  (tmp_path / 'loop').symlink_to(tmp_path / 'loop')
  for path in ('a' * 5000, f'{tmp_path}/loop/x', '\0'):
    refused(path, 'no dataset at|no folder')


def test_control_characters_of_a_name_are_written_as_escapes(root):
  save(root / 'a\x1b[2J\n' / '0.png', 0)
  (root / 'a\x1b[2J\n' / '0.png').write_bytes(b'')
  for i in range(3):
    save(root / 'b' / f'{i}.png', 0)
  with pytest.raises(UserError) as caught:
    load(config_of(root), 'train')
  assert re.search(r'a\\x1b\[2J\\n/0.png', str(caught.value)) and str(caught.value).isprintable()
