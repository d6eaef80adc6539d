"""Decoded examples on disk: kept once, private, checked, and made again when damaged."""

import os
import time

import numpy as np
import pytest

from dgm_jax.data import cache
from dgm_jax.errors import UserError

LABELLED = [(f'example {i}', np.full((2, 3, 1), i, np.uint8), 10 * i) for i in range(5)]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
  monkeypatch.setenv('DGM_JAX_CACHE', str(tmp_path / 'cache'))


def _read(calls, facts=None, examples=LABELLED):
  def source():
    calls.append(facts)
    return len(examples), iter(examples)

  return cache.cached('some:set', facts or {}, source)


def _check(arrays):
  np.testing.assert_array_equal(arrays['x'], np.stack([x for _, x, _ in LABELLED]))
  np.testing.assert_array_equal(arrays['y'], [0, 10, 20, 30, 40])
  assert (arrays['x'].dtype, arrays['y'].dtype) == (np.uint8, np.int32)


def test_decoded_once_and_private(capsys):
  calls = []
  for _ in range(3):
    _check(_read(calls))
  assert len(calls) == 1
  assert capsys.readouterr().err.count('some:set: decoding 5 examples, this once, into') == 1
  assert cache.root().stat().st_mode & 0o777 == 0o700
  assert [path.name[:9] for path in cache.root().iterdir()] == ['some_set-']


def test_arrays_are_mapped_not_copied():
  x = _read([])['x']
  assert not x.flags.writeable
  assert isinstance(x.base, np.memmap)


def test_other_facts_are_another_entry(tmp_path):
  calls, file = [], tmp_path / 'file'
  stamps = []
  for content, when in [('a', 5), ('b', 6), ('bb', 6), ('bb', 6)]:
    file.write_text(content)
    os.utime(file, (when, when))
    stamps.append(cache.stamp(file))
    _read(calls, {'files': [cache.stamp(file)]})
  assert calls == [{'files': [stamp]} for stamp in stamps[:3]]


def test_without_labels_there_is_no_y():
  assert set(_read([], examples=[(place, x, None) for place, x, _ in LABELLED])) == {'x'}


def _flip(path):
  content = bytearray(path.read_bytes())
  content[len(content) // 2] ^= 1
  path.write_bytes(content)


DAMAGES = {
  'flip': _flip,
  'cut': lambda path: path.write_bytes(path.read_bytes()[:-1]),
  'empty': lambda path: path.write_bytes(b''),
  'remove': lambda path: path.unlink(),
}


@pytest.mark.parametrize('name', ['x.npy', 'y.npy', 'sums.json'])
@pytest.mark.parametrize('damage', DAMAGES)
def test_damage_is_seen_and_mended(name, damage):
  calls = []
  _read(calls)
  (entry,) = cache.root().iterdir()
  DAMAGES[damage](entry / name)
  _check(_read(calls))
  _check(_read(calls))
  assert len(calls) == 2
  assert list(cache.root().iterdir()) == [entry]


def test_sums_of_nothing_are_damage():
  calls = []
  _read(calls)
  (entry,) = cache.root().iterdir()
  (entry / 'sums.json').write_text('{}')
  _check(_read(calls))
  assert len(calls) == 2


def test_pickled_objects_are_never_loaded(tmp_path):
  """Even with a fitting checksum."""
  calls = []
  _read(calls)
  (entry,) = cache.root().iterdir()
  np.save(entry / 'x.npy', np.array([{}], object), allow_pickle=True)
  (entry / 'sums.json').write_text(f'{{"x.npy": {cache._checksum(entry / "x.npy")}}}')
  _check(_read(calls))
  assert len(calls) == 2


@pytest.mark.parametrize('seen', [True, False])
def test_another_process_may_be_first(monkeypatch, seen):
  """Without locks of the file system the entry appears while this process decodes, before or after it looks."""

  def unsupported(*_):
    raise OSError(95, 'Operation not supported')

  monkeypatch.setattr('filelock.FileLock._acquire', unsupported)
  exists = cache.pathlib.Path.exists
  calls = []

  def examples():
    yield from LABELLED
    _check(_read(calls))
    if not seen:
      monkeypatch.setattr(cache.pathlib.Path, 'exists', lambda path: not path.name.startswith('some') and exists(path))

  _check(cache.cached('some:set', {}, lambda: (5, examples())))
  assert len(calls) == 1
  assert len(list(cache.root().iterdir())) == 1


def test_interrupted_decoding_leaves_nothing():
  def examples():
    yield LABELLED[0]
    raise KeyboardInterrupt

  with pytest.raises(KeyboardInterrupt):
    cache.cached('some:set', {}, lambda: (5, examples()))
  assert not list(cache.root().iterdir())


def test_leftovers_of_killed_processes_are_swept_after_a_day():
  _read([])
  (entry,) = cache.root().iterdir()
  old, young = (cache.root() / f'{entry.name}.tmp{name}' for name in ('old', 'young'))
  for path in (old, young):
    path.mkdir()
  os.utime(old, (time.time() - 90000,) * 2)
  (entry / 'x.npy').unlink()
  _read([])
  assert (old.exists(), young.exists()) == (False, True)


def test_short_source_is_an_error():
  with pytest.raises(UserError, match='reads back damaged'):
    cache.cached('some:set', {}, lambda: (6, iter(LABELLED)))


def test_unwritable_cache(tmp_path, monkeypatch):
  (tmp_path / 'file').touch()
  monkeypatch.setenv('DGM_JAX_CACHE', str(tmp_path / 'file'))
  with pytest.raises(
    UserError, match=f'some:set: cannot keep decoded data in {tmp_path}/file/data .*set DGM_JAX_CACHE'
  ):
    _read([])


def test_full_disk(monkeypatch):
  def full(*_, **__):
    raise OSError(28, 'No space left on device')

  monkeypatch.setattr(cache.np, 'save', full)
  with pytest.raises(UserError, match=r'No space left on device.*free some space'):
    _read([])
  assert not list(cache.root().iterdir())
