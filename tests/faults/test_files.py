"""Files are data: hostile ones, and a thousand with faults, end in one line each; nothing runs, nothing hangs."""

import json
import os
import signal
import stat
import subprocess
import sys
import time
import zipfile
import zlib

import mutations
import numpy as np
import pytest
import runs
from ml_collections import ConfigDict
from PIL import Image
from trials import record, trials

from dgm_jax import config as experiment
from dgm_jax.data import load
from dgm_jax.errors import UserError
from dgm_jax.internal import files
from dgm_jax.runs import lines
from dgm_jax.runtime import lock

SECONDS = 30  # that a file may take
EPS = mutations.EPS


@pytest.fixture(autouse=True)
def _trap(tmp_path, monkeypatch):
  """Whatever a file starts from PATH leaves a mark; what takes too long is an error."""
  (tmp_path / 'bin').mkdir()
  for name in ('gs', 'gswin32c', 'djpeg', 'ppmtogif', 'sh'):
    program = tmp_path / 'bin' / name
    program.write_text(f'#!/bin/bash\ntouch {tmp_path}/ran\n')
    program.chmod(0o755)
  monkeypatch.setenv('PATH', f'{tmp_path}/bin:{os.environ["PATH"]}')
  monkeypatch.setenv('DGM_JAX_CACHE', str(tmp_path / 'cache'))
  monkeypatch.setenv('TFDS_DATA_DIR', str(tmp_path / 'tfds'))

  def late(*_):
    pytest.fail('a file is waited for')  # no Exception, which a decoder's handler could take for its own

  before = signal.signal(signal.SIGALRM, late)
  yield
  signal.signal(signal.SIGALRM, before)
  assert not (tmp_path / 'ran').exists(), 'a file has started a program'


def config_of(name):
  return ConfigDict(
    {'name': name, 'train': 'train', 'test': 'test', 'valid_size': 0, 'size': 0, 'channels': 0, 'invert': False}
    | {'preprocess': 'scale'}
  )


def outcome(name):
  """'read', or 'refused' in one line."""
  signal.alarm(SECONDS)
  try:
    load(config_of(name), 'train')
  except UserError as error:
    assert str(error).isprintable()
    return 'refused'
  finally:
    signal.alarm(0)
  return 'read'


def test_files_with_faults_are_read_or_refused_in_one_line(tmp_path, monkeypatch):
  """Any other exception, a hang, or a program that is started is a failure; its seed is in the message."""
  ends, slowest = {'read': 0, 'refused': 0}, 0.0
  for seed in range(trials(60, 1000)):
    folder, started = tmp_path / 'data' / str(seed), time.perf_counter()
    monkeypatch.setenv('TFDS_DATA_DIR', str(folder))
    made = mutations.written(seed, folder)
    try:
      ends[outcome(made.name)] += 1
    except Exception as error:
      raise AssertionError(f'seed {seed}, kind {made.kind}: {type(error).__name__} {error}') from error
    slowest = max(slowest, time.perf_counter() - started)
  record('mutated files', files=sum(ends.values()), **ends, tracebacks=0, most_seconds=slowest)
  assert ends['refused'] > ends['read'] / 4 > 0


# By kind: what makes each, and what is said.


def folder_with(path, content):
  path.mkdir()
  for i in range(3):
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(path / f'{i}.png')
  (path / 'bad.png').write_bytes(content)
  return f'folder:{path}'


def eps(path):
  return folder_with(path, EPS)


def bomb(path):
  whole = bytearray(mutations.sound('png'))
  whole[16:24] = (200_000).to_bytes(4, 'big') * 2
  whole[29:33] = zlib.crc32(whole[12:29]).to_bytes(4, 'big')
  return folder_with(path, bytes(whole))


def pipe(path):
  os.mkfifo(path)
  return f'npz:{path}'


def device(path):
  path.symlink_to('/dev/zero')
  return f'npy:{path}'


def raw(path):
  mutations.zipped(path, x=b'no array')
  return f'npz:{path}'


def raw_array(path):
  mutations.zipped(path, **{'x.npy': b'no array'})
  return f'npz:{path}'


def flagged(path, at, value, directory):
  """An .npz with two bytes changed in every header of a member."""
  np.savez(path, x=np.zeros((6, 8, 8), np.uint8))
  whole = bytearray(path.with_suffix('.npz').read_bytes())
  for mark, offset in ((b'PK\3\4', at), (b'PK\1\2', directory)):
    place = whole.find(mark)
    whole[place + offset : place + offset + 2] = value.to_bytes(2, 'little')
  path.write_bytes(bytes(whole))
  return f'npz:{path}'


def encrypted(path):
  return flagged(path, 6, 1, 8)


def unknown_compression(path):
  return flagged(path, 8, 97, 10)


def bzip2(path):
  with zipfile.ZipFile(path, 'w', zipfile.ZIP_BZIP2) as archive:
    archive.writestr('x.npy', mutations.sound('npy'))
  return f'npz:{path}'


def twice(path):
  with pytest.warns(UserWarning, match='Duplicate'), zipfile.ZipFile(path, 'w') as archive:
    for _ in range(2):
      archive.writestr('x.npy', mutations.sound('npy'))
  return f'npz:{path}'


def header(shape, descr="'|u1'", rest=b''):
  text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}"
  text = text.ljust(-(-(len(text) + 11) // 64) * 64 - 11) + '\n'
  return b'\x93NUMPY\1\0' + len(text).to_bytes(2, 'little') + text.encode() + rest


def terabytes(path):
  mutations.zipped(path, **{'x.npy': header((10**6, 10**3, 10**3))})
  return f'npz:{path}'


def npy(content):
  def make(path):
    path.write_bytes(content)
    return f'npy:{path}'

  return make


def foreign_features(path):
  home = path / 'tiny' / '1.0.0'
  home.mkdir(parents=True)
  notes = json.loads(json.dumps(mutations.NOTES))
  notes['features']['featuresDict']['features']['image']['pythonClassName'] = 'hostile_module.Image'
  (path / 'hostile_module.py').write_text(f'open({str(path.parent / "ran")!r}, "w")\n')
  (home / 'features.json').write_text(json.dumps(notes['features']))
  (home / 'dataset_info.json').write_text(json.dumps(notes['info']))
  os.environ['TFDS_DATA_DIR'] = str(path)
  sys.path.insert(0, str(path))
  return 'tiny'


def pipe_features(path):
  name = foreign_features(path)
  (path / 'tiny' / '1.0.0' / 'features.json').unlink()
  os.mkfifo(path / 'tiny' / '1.0.0' / 'features.json')
  return name


def pipe_info(path):
  name = foreign_features(path)
  (path / 'tiny' / '1.0.0' / 'dataset_info.json').unlink()
  os.mkfifo(path / 'tiny' / '1.0.0' / 'dataset_info.json')
  return name


HOSTILE = {
  'PostScript that is called .png': (eps, 'cannot read the image .*bad.png .UnidentifiedImageError'),
  'a picture of 40 gigapixels': (bomb, 'cannot read the image .*bad.png .DecompressionBombError'),
  'a pipe': (pipe, 'no file'),
  'a device': (device, 'no file'),
  'a raw member': (raw, 'holds nothing: name the examples x'),
  'a member that is no array': (raw_array, 'cannot read .* as NumPy arrays'),
  'an encrypted member': (encrypted, 'x.npy of .* is encrypted'),
  'a member of unknown compression': (unknown_compression, 'is compressed in a way that NumPy does not write'),
  'a member by bzip2': (bzip2, 'is compressed in a way that NumPy does not write'),
  'a member that is there twice': (twice, 'holds x.npy twice'),
  'a member of a terabyte': (terabytes, 'more than the memory of this machine'),
  'a header that ends early': (npy(header((9, 9))[:40]), 'cannot read .* as NumPy arrays'),
  'a header that is code': (npy(header('__import__("os").system("sh")')), 'cannot read .* as NumPy arrays'),
  'a header of many brackets': (npy(header('(' * 5000)), 'cannot read .* as NumPy arrays'),
  'a header of negative size': (npy(header((-1, 8, 8))), 'cannot read .* as NumPy arrays'),
  'a header of objects': (npy(header((9,), "'|O'", b'cos\nsystem\n')), 'without pickled objects'),
  'a header of another version': (npy(b'\x93NUMPY\7\7' + bytes(64)), 'cannot read .* as NumPy arrays'),
  'features of a foreign module': (foreign_features, 'names hostile_module.Image, which is no feature of TFDS'),
  'features that are a pipe': (pipe_features, 'cannot read the notes of TFDS|is no regular file'),
  'notes that are a pipe': (pipe_info, 'cannot read .*dataset_info.json'),
}


@pytest.mark.parametrize('kind', HOSTILE)
def test_hostile_files_are_refused_in_one_line(kind, tmp_path, monkeypatch):
  make, said = HOSTILE[kind]
  monkeypatch.setattr(sys, 'path', [*sys.path])
  name = make(tmp_path / 'data')
  signal.alarm(SECONDS)
  with pytest.raises(UserError, match=said) as caught:
    load(config_of(name), 'train')
  signal.alarm(0)
  assert str(caught.value).isprintable()


# The files of a run.


def test_a_lock_that_is_a_link_empties_nothing(tmp_path):
  (tmp_path / 'precious').write_text('kept')
  (tmp_path / 'run').mkdir()
  (tmp_path / 'run' / 'lock.json').symlink_to(tmp_path / 'precious')
  with pytest.raises(UserError, match='cannot be written: it is a link: remove it'), lock.locked(tmp_path / 'run'):
    pass
  assert (tmp_path / 'precious').read_text() == 'kept'


def test_a_draft_that_is_a_link_is_written_over_and_not_through(tmp_path):
  (tmp_path / 'precious').write_text('kept')
  (tmp_path / f'.page.json.{os.getpid()}.tmp').symlink_to(tmp_path / 'precious')
  files.write_atomic(tmp_path / 'page.json', b'new')
  (tmp_path / 'array.npy').symlink_to(tmp_path / 'precious')
  files.write_with(tmp_path / 'array.npy', lambda file: np.save(file, np.arange(3)))
  assert np.load(tmp_path / 'array.npy', allow_pickle=False).tolist() == [0, 1, 2]
  assert (tmp_path / 'precious').read_text() == 'kept' and (tmp_path / 'page.json').read_bytes() == b'new'


@pytest.mark.parametrize('name', ['lock.json', 'config.json', 'metrics.jsonl'])
def test_a_pipe_in_the_folder_of_a_run_is_one_line(name, tmp_path):
  os.mkfifo(tmp_path / name)
  signal.alarm(SECONDS)
  with pytest.raises(UserError, match='it is no regular file'):
    if name == 'lock.json':
      with lock.locked(tmp_path):
        pass
    elif name == 'config.json':
      experiment.load(tmp_path)
    else:
      lines.read(tmp_path / name)
  signal.alarm(0)


def test_files_that_are_made_have_the_rights_that_the_user_gives(tmp_path):
  before = os.umask(0o027)
  try:
    files.write_atomic(tmp_path / 'a', b'')
    files.open_without_links(tmp_path / 'b').close()
  finally:
    os.umask(before)
  assert [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in 'ab'] == [0o640, 0o640]


def test_commands_answer_hostile_files_by_one_line_and_code_2(tmp_path):
  kinds = ('PostScript that is called .png', 'an encrypted member', 'a pipe', 'a sparse array of a terabyte')
  wrong = []
  for kind in kinds[: trials(1, len(kinds))]:
    make, _ = HOSTILE[kind]
    words = [
      '--config=configs/vae_digits.py:tiny',
      f'--workdir={tmp_path}/run',
      f'--config.data.name={make(tmp_path / kind[:6])}',
    ]
    done = subprocess.run(
      [sys.executable, 'train.py', *words], cwd=runs.ROOT, env=runs.environment(), capture_output=True, text=True,
      timeout=120,
    )  # fmt: skip
    lines = [line for line in done.stderr.splitlines() if 'decoding' not in line]
    right = done.returncode == 2 and len(lines) == 1 and lines[0].startswith('error: ')
    wrong += [] if right else [(kind, done.returncode, done.stderr[-400:])]
  record('hostile files', kinds=len(HOSTILE), refused_in_one_line=len(HOSTILE), commands=len(kinds))
  assert not wrong and not (tmp_path / 'run').exists()
