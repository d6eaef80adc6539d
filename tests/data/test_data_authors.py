"""Files of papers' authors: OMNIGLOT's chardata.mat, Larochelle's binarized MNIST; others are refused in one line."""

import numpy as np
import pytest
import scipy.io
from ml_collections import ConfigDict

from dgm_jax.data import checks, load, mat, preprocess
from dgm_jax.errors import UserError

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (9, 28, 28)).astype(np.uint8)  # [N, H, W], upright


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
  monkeypatch.setenv('DGM_JAX_CACHE', str(tmp_path / 'cache'))


def config_of(name, **changes):
  defaults = {'train': 'train', 'test': 'test', 'valid_size': 0, 'size': 0, 'channels': 0, 'invert': False}
  return ConfigDict(defaults | {'preprocess': 'dynamic_binarize', 'name': name} | changes)


def refused(name, *parts):
  with pytest.raises(UserError) as caught:
    for part in ('train', 'valid', 'test'):
      load(config_of(name, valid_size=1), part)
  message = str(caught.value)
  assert message.isprintable()
  for part in parts:
    assert part in message
  return True


def stored(images):
  """As MATLAB keeps them: [784, N], each image column by column."""
  return np.stack([image.flatten(order='F') / 255 for image in images], axis=1)


def chardata(tmp_path, **arrays):
  path = tmp_path / 'chardata.mat'
  scipy.io.savemat(path, {'data': stored(IMAGES[:6]), 'testdata': stored(IMAGES[6:])} | arrays, do_compression=True)
  return f'mat:{path}'


# OMNIGLOT


def test_characters_stand_upright_and_are_shuffled_as_by_the_authors(tmp_path):
  name = chardata(tmp_path, target=np.zeros((50, 6)))
  train, valid, test = (load(config_of(name, valid_size=2), part) for part in ('train', 'valid', 'test'))
  np.testing.assert_array_equal(test.arrays['x'][..., 0], IMAGES[6:])
  order = np.random.RandomState(123).permutation(6)
  np.testing.assert_array_equal(train.arrays['x'][..., 0], IMAGES[:6][order[:4]])
  np.testing.assert_array_equal(valid.arrays['x'][..., 0], IMAGES[:6][order[4:]])
  assert train.shape == (28, 28, 1) and train.arrays['x'].dtype == np.uint8
  assert train.notes == ('the authors have 24345 and 8070 images: this file is another',)
  assert checks.is_own(train.name)


def test_the_authors_order_of_axes_is_that_of_their_program(tmp_path):
  """Their program makes rows of the file's columns and reads those as images in Fortran's order."""
  rows = np.random.default_rng(1).random((784, 3)).T.astype('f4')
  images = rows.reshape((-1, 28, 28)).reshape((-1, 784), order='F').reshape(-1, 28, 28)
  name = chardata(tmp_path, testdata=rows.T)
  np.testing.assert_array_equal(
    load(config_of(name), 'test').arrays['x'][..., 0], np.floor(255 * images.astype('f8') + 0.5)
  )


def test_characters_take_another_size(tmp_path):
  smaller = load(config_of(chardata(tmp_path), size=14, invert=True), 'test')
  assert smaller.shape == (14, 14, 1)


@pytest.mark.parametrize(
  ('arrays', 'parts'),
  [
    ({'data': np.zeros((32, 32, 3))}, ('data [32, 32, 3]', 'chardata.mat has data and testdata')),
    ({'testdata': np.zeros((256, 4))}, ('testdata [256, 4]', '[784, N]')),
    ({'data': 255 * stored(IMAGES)}, ('must hold intensities in [0, 1]', 'data of')),
    ({'data': -stored(IMAGES)}, ('must hold intensities in [0, 1]', 'data of')),
    ({'testdata': np.full((784, 2), np.nan)}, ('must hold intensities', 'testdata of')),
    ({'data': scipy.sparse.csc_array(stored(IMAGES))}, ('must hold intensities',)),
  ],
)
def test_a_mat_file_of_another_set_is_refused(tmp_path, arrays, parts):
  assert refused(chardata(tmp_path, **arrays), *parts)


def test_a_mat_file_that_is_none_is_refused(tmp_path, monkeypatch):
  path = tmp_path / 'caltech.mat'
  scipy.io.savemat(path, {'X': np.zeros((3, 784))})
  assert refused(f'mat:{path}', 'holds X [3, 784]')
  whole = tmp_path / 'chardata.mat'
  chardata(tmp_path)
  whole.write_bytes(whole.read_bytes()[:-400])
  assert refused(f'mat:{whole}', 'cannot read', 'fetch the authors')
  whole.write_bytes(b'\x89HDF\r\n\x1a\n' + bytes(600))
  assert refused(f'mat:{whole}', 'cannot read')
  assert refused(f'mat:{tmp_path}/none.mat', 'no file')
  assert refused(str(whole), f'write --config.data.name=mat:{whole}')
  chardata(tmp_path)
  monkeypatch.setattr(mat.archive, 'memory', lambda: 1000)
  assert refused(f'mat:{whole}', 'more than the memory')


# static MNIST

BITS = RANDOM.integers(0, 2, (9, 784))


def written(folder, part, rows, end='\n'):
  (folder / f'binarized_mnist_{part}.amat').write_text(''.join(' '.join(map(str, row)) + end for row in rows))


@pytest.fixture
def binarized(tmp_path):
  for part, rows in {'train': BITS[:5], 'valid': BITS[5:7], 'test': BITS[7:]}.items():
    written(tmp_path, part, rows)
  return tmp_path


def test_larochelles_files_are_read_bit_by_bit(binarized):
  parts = {part: load(config_of(f'amat:{binarized}'), part) for part in ('train', 'valid', 'test')}
  x = np.concatenate([part.arrays['x'] for part in parts.values()])
  assert (x.shape, x.dtype) == ((9, 28, 28, 1), np.uint8)
  np.testing.assert_array_equal(x, 255 * BITS.reshape(9, 28, 28, 1))
  assert [part.size for part in parts.values()] == [5, 2, 2]


@pytest.mark.parametrize('name', ['static_binarize', 'dynamic_binarize', 'threshold'])
def test_binarizing_what_is_binary_changes_nothing(binarized, name):
  x = load(config_of(f'amat:{binarized}'), 'train').arrays['x']
  batch = preprocess.find(name)(preprocess.jax.random.key(3), {'x': preprocess.jnp.asarray(x), 'index': np.arange(5)})
  np.testing.assert_array_equal(batch['x'].reshape(5, -1), BITS[:5])


def test_ends_of_lines_may_differ(binarized):
  written(binarized, 'train', BITS[:2], ' \r\n')
  (binarized / 'binarized_mnist_test.amat').write_text('\n'.join(' '.join(map(str, row)) for row in BITS[:3]))
  assert [load(config_of(f'amat:{binarized}'), part).size for part in ('train', 'test')] == [2, 3]


@pytest.mark.parametrize(
  ('text', 'part'),
  [
    (' '.join(['0'] * 784) + '\n' + ' '.join(['1'] * 785) + '\n', 'line 2 of'),
    (' '.join(['0'] * 256) + '\n', 'has 256 numbers, where binarized MNIST has 784'),
    (' '.join(['0.5'] * 784) + '\n', 'other numbers than 0 and 1'),
    (' '.join(['10'] * 392) + '\n', 'other numbers than 0 and 1'),
    ('\n', 'is empty'),
    ('', 'is empty'),
  ],
)
def test_an_amat_file_of_another_set_is_refused(binarized, text, part):
  (binarized / 'binarized_mnist_train.amat').write_text(text)
  assert refused(f'amat:{binarized}', part, 'binarized_mnist_train.amat')


def test_a_folder_without_the_three_files_is_refused(binarized):
  assert refused(f'amat:{binarized}/none', 'no folder', 'three .amat files')
  assert refused(f'amat:{binarized}/binarized_mnist_test.amat', 'no folder')
  (binarized / 'other_valid.amat').write_text('0 1\n')
  assert refused(f'amat:{binarized}', 'must hold one binarized_mnist_valid.amat')
  (binarized / 'other_valid.amat').unlink()
  (binarized / 'binarized_mnist_valid.amat').unlink()
  assert refused(f'amat:{binarized}', 'must hold one binarized_mnist_valid.amat')
