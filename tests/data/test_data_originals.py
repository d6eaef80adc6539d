"""MNIST and CIFAR-10 from files made here, written as TFDS would write them, or refused without a trace."""

import gzip
import hashlib
import io
import json
import os
import struct
import tarfile

import numpy as np
import pytest
from absl import flags
from ml_collections import ConfigDict
from tensorflow_datasets.core import hashing

from dgm_jax.commands import prepare
from dgm_jax.data import download, load, originals
from dgm_jax.errors import UserError

COUNTS = {'train': 23, 'test': 9}


@pytest.fixture(autouse=True)
def _own_folders(tmp_path, monkeypatch):
  monkeypatch.setenv('DGM_JAX_CACHE', str(tmp_path / 'cache'))
  monkeypatch.setenv('TFDS_DATA_DIR', str(tmp_path / 'tfds'))


def pixels(split, shape):
  return np.random.default_rng(len(split)).integers(0, 256, (COUNTS[split], *shape), np.uint8)


def labels(split):
  return np.arange(COUNTS[split], dtype=np.uint8) % 10


def remotes(folder, files):
  """Writes files, and returns their addresses, sizes and hashes."""
  folder.mkdir()
  for name, data in files.items():
    (folder / name).write_bytes(data)
  return {
    name: download.Remote((folder / name).as_uri(), len(data), hashlib.sha256(data).hexdigest())
    for name, data in files.items()
  }


def idx(array):
  return gzip.compress(struct.pack(f'>4B{array.ndim}I', 0, 0, 8, array.ndim, *array.shape) + array.tobytes())


@pytest.fixture
def mnist(tmp_path):
  files = {}
  for split, file in {'train': 'train', 'test': 't10k'}.items():
    files[f'{file}-images-idx3-ubyte.gz'] = idx(pixels(split, (28, 28)))
    files[f'{file}-labels-idx1-ubyte.gz'] = idx(labels(split))
  return remotes(tmp_path / 'source', files)


def archive(leave_out=''):
  rows = {
    split: np.concatenate([labels(split)[:, None], pixels(split, (3, 32, 32)).reshape(-1, 3072)], 1).tobytes()
    for split in COUNTS
  }
  files = {f'data_batch_{i}.bin': rows['train'][(i - 1) * 5 * 3073 :][: 5 * 3073] for i in range(1, 6)}
  files |= {'test_batch.bin': rows['test'], 'batches.meta.txt': '\n'.join([*'abcdefghij', '']).encode()}
  content = io.BytesIO()
  with tarfile.open(fileobj=content, mode='w:gz') as tar:
    for name in files.keys() - {leave_out}:
      entry = tarfile.TarInfo(f'cifar-10-batches-bin/{name}')
      entry.size = len(files[name])
      tar.addfile(entry, io.BytesIO(files[name]))
  return content.getvalue()


def loaded(name, split):
  settings = {'train': 'train', 'test': 'test', 'valid_size': 0, 'size': 0, 'channels': 0, 'invert': False}
  return load(ConfigDict(settings | {'preprocess': 'scale', 'name': name}), split).arrays


def test_mnist_reads_as_its_authors_wrote_it_in_the_order_of_tfds(tmp_path, mnist):
  folder, counts = originals.prepare('mnist', tmp_path / 'tfds', mnist)
  assert (folder, counts) == (tmp_path / 'tfds/mnist/3.0.1', COUNTS)
  for split, n in COUNTS.items():
    rows = originals.order(split, n)
    np.testing.assert_array_equal(loaded('mnist', split)['x'][..., 0], pixels(split, (28, 28))[rows])
    np.testing.assert_array_equal(loaded('mnist', split)['y'], labels(split)[rows])
  assert os.listdir(folder.parent) == ['3.0.1']
  note = json.loads((folder / 'dataset_info.json').read_text())
  assert (note['fileFormat'], note['splits'][0]['shardLengths']) == ('array_record', ['23'])
  for file in mnist:  # a set that is there is not downloaded again
    (tmp_path / 'source' / file).unlink()
  assert originals.prepare('mnist', tmp_path / 'tfds', mnist) == (folder, counts)


def test_cifar10_reads_as_its_authors_wrote_it(tmp_path):
  source = remotes(tmp_path / 'source', {'cifar-10-binary.tar.gz': archive()})
  folder, counts = originals.prepare('cifar10', tmp_path / 'tfds', source)
  assert counts == COUNTS and (folder / 'label.labels.txt').read_text().split() == list('abcdefghij')
  x = pixels('test', (3, 32, 32)).transpose(0, 2, 3, 1)[originals.order('test', 9)]
  np.testing.assert_array_equal(loaded('cifar10', 'test')['x'], x)
  import tensorflow_datasets as tfds

  ids = [row['id'].decode() for row in tfds.builder_from_directory(folder).as_data_source(split='train')]
  assert ids == [f'train_{number:05d}' for number in originals.order('train', 23)]


def test_the_order_is_that_of_tfds():
  hash_key = hashing.Hasher('train').hash_key
  assert originals.order('train', 300) == sorted(range(300), key=hash_key)
  assert originals.order('train', 50_000)[0] == 16_399  # the first example of cifar10, as TFDS writes it


@pytest.mark.parametrize(
  ('change', 'said'),
  [
    (lambda r: r._replace(sha256='0' * 64), 'has the SHA-256 .* instead of 0000.*download it again'),
    (lambda r: r._replace(size=r.size + 1), 'bytes: download it again'),
    (lambda r: r._replace(size=r.size - 1), 'has more than .* bytes: download it again'),
    (lambda r: r._replace(url=r.url + '.gone'), 'cannot download t10k-labels.*No such file.*: check the network'),
  ],
)
def test_what_is_not_the_file_leaves_nothing_behind(tmp_path, mnist, change, said):
  mnist['t10k-labels-idx1-ubyte.gz'] = change(mnist['t10k-labels-idx1-ubyte.gz'])
  with pytest.raises(UserError, match=said) as caught:
    originals.prepare('mnist', tmp_path / 'tfds' / 'deep', mnist)
  assert '\n' not in str(caught.value) and not (tmp_path / 'tfds').exists()


def test_a_download_that_is_cut_short_leaves_nothing_behind(tmp_path, mnist, monkeypatch):
  class Answer(io.BytesIO):
    def read(self, size=-1):
      if self.tell():
        raise ConnectionResetError(104, 'Connection reset by peer')
      return super().read(100)

  monkeypatch.setattr(download.urllib.request, 'urlopen', lambda url, timeout: Answer(bytes(200)))
  with pytest.raises(UserError, match=r'cannot download .* from this machine: .*Connection reset by peer: check'):
    originals.prepare('mnist', tmp_path / 'tfds', mnist)
  assert not (tmp_path / 'tfds').exists()


@pytest.mark.parametrize('data', [b'', b'\0\0\x08\x01\0\0\0', b'\0\0\x0d\x01\0\0\0\0', b'\0\0\x08\x01\0\0\0\x02a'])
def test_what_is_no_idx_file_is_refused(data):
  with pytest.raises(UserError, match=r'^name (is no idx file|holds 1 elements instead of 2)'):
    originals.idx(data, 'name')


def test_what_is_no_file_of_cifar_is_refused(tmp_path):
  with pytest.raises(UserError, match='name has 3074 bytes, which are no records of 3073'):
    originals.cifar_rows(bytes(3074), 'name')
  with pytest.raises(UserError, match='name has the label 10, more than 9'):
    originals.cifar_rows(b'\x0a' + bytes(3072), 'name')
  source = remotes(tmp_path / 'source', {'cifar-10-binary.tar.gz': archive(leave_out='test_batch.bin')})
  with pytest.raises(UserError, match=r'has no file .*test_batch.bin: download it again'):
    originals.prepare('cifar10', tmp_path / 'tfds', source)
  assert not (tmp_path / 'tfds').exists()


def test_a_damaged_set_is_replaced_and_what_is_none_is_kept(tmp_path, mnist, capsys):
  folder, _ = originals.prepare('mnist', tmp_path / 'tfds', mnist)
  shard = folder / 'mnist-test.array_record-00000-of-00001'
  shard.write_bytes(b'')
  assert originals.prepare('mnist', tmp_path / 'tfds', mnist) == (folder, COUNTS)
  assert 'is damaged: preparing the set again' in capsys.readouterr().out and shard.stat().st_size
  assert os.listdir(folder.parent) == ['3.0.1']
  note = folder / 'dataset_info.json'
  note.write_text(note.read_text().replace('array_record"', 'tfrecord"', 1))
  with pytest.raises(UserError, match=r'is stored as tfrecord, .*--data_dir=OTHER'):
    originals.prepare('mnist', tmp_path / 'tfds', mnist)
  note.unlink()
  with pytest.raises(UserError, match=r'3\.0\.1 is there and holds no set of TFDS: remove it'):
    originals.prepare('mnist', tmp_path / 'tfds', mnist)
  assert shard.exists()


def test_the_command_asks_for_the_files_that_tfds_knows(tmp_path, monkeypatch):
  if 'data_dir' not in flags.FLAGS:
    prepare.define_flags()
  flags.FLAGS(['test'])
  asked = {}

  def fetch(remote, target):
    asked[target.name] = remote
    if len(asked) == 4:
      raise UserError('no network')

  monkeypatch.setattr(originals, 'fetch', fetch)
  monkeypatch.setattr(prepare.importlib.util, 'find_spec', lambda name: None)  # TensorFlow is not asked for
  with pytest.raises(UserError, match=r'^no network$'):
    prepare.main(['prepare', 'mnist'])
  names = ['images-idx3', 'labels-idx1']
  assert sorted(asked) == [f'{part}-{name}-ubyte.gz' for part in ('t10k', 'train') for name in names]
  assert all(len(r.sha256) == 64 and r.size > 4000 and r.url.startswith('https:') for r in asked.values())
  assert asked['train-images-idx3-ubyte.gz'].size == 9_912_422
