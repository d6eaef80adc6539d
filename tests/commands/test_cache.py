"""What is kept between runs is listed with its size and age, and removed if it is ours and nobody is writing it."""

import os
import threading
import time

import numpy as np
import pytest
from absl import flags

from dgm_jax.commands import cache as command
from dgm_jax.data import cache, kept
from dgm_jax.data.rows import Rows
from dgm_jax.errors import UserError

B = 'b' * 16


@pytest.fixture
def root(tmp_path, monkeypatch):
  """A folder with two sets of pictures, a number, two programs, rows and five things of somebody else."""
  monkeypatch.setenv('DGM_JAX_CACHE', str(tmp_path / 'kept'))
  for name, n in (('cats', 40), ('dogs', 10)):
    cache.cached(name, {}, lambda n=n: (n, [(str(i), np.zeros((5, 5, 1), np.uint8), i % 3) for i in range(n)]))
  cache.remembered('cats', {'what': 'a number'}, lambda: 7)
  rows = kept.kept(Rows((20, 5, 5), 'uint8', lambda index: np.zeros((len(index), 5, 5), 'uint8'), ''), 'owls', {})
  rows[:3]
  programs = tmp_path / 'kept' / 'programs'
  programs.mkdir()
  for number in '01':
    (programs / f'jit_step-{number * 64}-cache').write_bytes(bytes(700))
  (programs / 'notes.txt').write_text('mine')
  (tmp_path / 'kept' / 'letters').mkdir()
  (tmp_path / 'precious').mkdir()
  (tmp_path / 'precious' / 'x.npy').write_bytes(b'mine')
  (tmp_path / 'kept' / 'data' / f'link-{"a" * 16}').symlink_to(tmp_path / 'precious')
  (tmp_path / 'kept' / 'data' / 'x.npy').write_bytes(b'mine')
  thesis = tmp_path / 'kept' / 'data' / f'thesis-{B}'  # of the form of a name of ours
  thesis.mkdir()
  (thesis / 'chapter.tex').write_bytes(b'mine')
  if 'clean' not in flags.FLAGS:
    command.define_flags()
  return tmp_path / 'kept'


def call(*words):
  flags.FLAGS.clean = False
  command.main(['cache', *words])


def test_it_lists_names_sizes_and_ages(root, capsys):
  hour = time.time() - 3700
  for path in root.joinpath('programs').glob('*-cache'):
    os.utime(path, (hour, hour))
  call()
  said = capsys.readouterr().out
  lines = [line.split() for line in said.splitlines()]
  assert ['compiled', 'programs', '1.4', 'kB', '1', 'hour'] in lines
  assert [line[0].partition('-')[0] for line in lines if line[-1:] == ['new']] == [
    'owls', 'cats', 'dogs', 'cats',
  ]  # by size, which is that on the disk  # fmt: skip
  assert f'kB in {root}' in said
  assert {line[0] for line in lines if line[1:4] == ['is', 'not', 'of']} == {
    f'{root}/{name}'
    for name in ('letters', 'programs/notes.txt', 'data/x.npy', f'data/link-{"a" * 16}', f'data/thesis-{B}')
  }
  call('DOGS')
  said = capsys.readouterr().out
  assert 'dogs-' in said and 'cats' not in said and 'programs ' not in said


def test_it_removes_what_is_ours_and_nothing_else(root, capsys):
  call('cats', '--clean')
  assert 'removed from' in capsys.readouterr().out
  assert sorted(path.name.partition('-')[0] for path in root.joinpath('data').iterdir()) == [
    'dogs', 'link', 'thesis', 'x.npy',
  ]  # fmt: skip
  call('--clean')
  left = [str(path.relative_to(root)) for path in root.rglob('*')]
  assert sorted(left) == sorted([
    'data', f'data/link-{"a" * 16}', f'data/thesis-{B}', f'data/thesis-{B}/chapter.tex', 'data/x.npy',
    'letters', 'locks', 'programs', 'programs/notes.txt', 'rows',
  ])  # fmt: skip
  assert (root.parent / 'precious' / 'x.npy').read_bytes() == b'mine'
  capsys.readouterr()
  call()
  assert capsys.readouterr().out.startswith(f'0 B in {root}')


def test_an_entry_that_is_being_written_stays_and_others_wait_for_it(root, capsys):
  (entry,) = root.joinpath('data').glob('dogs-*[0-9a-f]')
  made, lock = [], cache.lock_of(entry.name)
  with lock:
    call('dogs', '--clean')
    assert 'is being written by another process and stays' in capsys.readouterr().out and entry.exists()
    (entry / 'sums.json').rename(entry / 'aside')  # another process has begun with it
    second = threading.Thread(target=lambda: made.append(cache.cached('dogs', {}, pytest.fail)))
    second.start()
    time.sleep(0.2)
    assert not made
    (entry / 'aside').rename(entry / 'sums.json')  # and has finished
  second.join()
  assert made[0]['x'].shape == (10, 5, 5, 1)


def test_the_folder_of_another_user_is_left_alone(root, monkeypatch):
  monkeypatch.setattr(command.os, 'getuid', lambda: 12345)
  with pytest.raises(UserError, match=r'kept belongs to user \d+: set DGM_JAX_CACHE to a folder of your own'):
    call('--clean')
  assert len(list(root.joinpath('data').iterdir())) > 4
