"""What a checkpoint vouches for is on the disk before it counts, and a restart looks for it."""

import os
import pathlib
import random
import shutil

import pytest
import runs
from trials import record, trials

from dgm_jax import training
from dgm_jax.internal.files import import_file

FLAGS = ('--config.steps=80', '--config.picture_every=0')


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
  """A run of 80 steps, with figures every four."""
  folder = tmp_path_factory.mktemp('lost') / 'run'
  runs.complete(folder, *FLAGS)
  return folder


def test_lost_figures_are_named_by_the_next_start(trained, tmp_path):
  """A disk that had not written the last appends when its power went."""
  chance, named = random.Random(0), 0
  assert 'hole' not in runs.complete(trained, *FLAGS)
  lines = runs.figures(trained).splitlines(keepends=True)
  for number in range(trials(1, 12)):
    folder = tmp_path / str(number) / 'run'
    shutil.copytree(trained, folder)
    lost = chance.randint(1, len(lines) - 1)
    (folder / 'metrics.jsonl').write_bytes(b''.join(lines[:-lost]))
    said = runs.complete(folder, '--config.steps=84', '--config.picture_every=0')
    held = [line for line in said.splitlines() if 'lacks lines of steps up to 80' in line]
    named += len(held) == 1 and 'metrics.jsonl lacks lines of steps up to 80 (' in held[0]
  record('lost appends', trials=trials(1, 12), named=named)
  assert named == trials(1, 12)


def test_figures_and_pages_are_on_the_disk_before_a_step_counts(tmp_path, monkeypatch):
  told, sync, replace = [], os.fsync, os.replace

  def noted(number):
    told.append(pathlib.Path(os.readlink(f'/proc/self/fd/{number}')))
    sync(number)

  def renamed(old, new, **options):
    told.append(('renamed', pathlib.Path(new)))
    replace(old, new, **options)

  monkeypatch.setattr(os, 'fsync', noted)
  monkeypatch.setattr(os, 'replace', renamed)
  folder = tmp_path / 'run'
  config = import_file(runs.ROOT / 'configs' / 'vae_digits.py').get_config('tiny')
  config.update({'steps': 8, 'picture_every': 0, 'keep': 9})
  config.log.tensorboard = False
  training.fit(config, folder)
  assert runs.newest(folder) == 8
  for step in ('4', '8'):
    page = told.index(folder / 'checkpoints' / step / 'meta' / 'metadata')
    figures = max(number for number, path in enumerate(told[:page]) if path == folder / 'metrics.jsonl')
    assert not any(path == folder / 'checkpoints' / step for path in told[:figures])
    assert {folder / 'checkpoints', folder / 'checkpoints' / step} <= set(told[page - 40 if page > 40 else 0 :])
  for name in ('config.json', 'env.json'):  # the file, its new name, and the folder that holds the name
    at = told.index(('renamed', folder / name))
    assert told[at - 1].name.startswith(f'.{name}') and told[at + 1] == folder
