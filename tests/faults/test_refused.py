"""A command that is refused leaves no mark: not a byte of a run changes, and no folder is made."""

import concurrent.futures
import shutil
import subprocess
import sys

import numpy as np
import pytest
import runs
from trials import record, trials

TINY = '--config=configs/vae_digits.py:tiny'
# Beside `train.py --config=configs/vae_digits.py:tiny --workdir=RUN`, or a command of its own; {tmp} is a folder.
ON_A_RUN = {
  'another seed': '--config.seed=1',
  'other shapes, allowed': '--allow_config_change --config.model.latents=(3,)',
  'another optimizer, allowed': '--allow_config_change --config.optimizer.model.name=adagrad',
  'data of another size, allowed': '--allow_config_change --config.data.size=6',
  'a graft of another network, allowed': '--config={tmp}/graft.py --config.seed=1 --allow_config_change',
  'slices that do not divide': '--config.batch_size=16 --config.accumulate=3',
  'other data': '--config.data.name=npy:{tmp}/images.npy',
  'no such data': '--config.data.name=folder:{tmp}/none --allow_config_change',
  'no such measurement': '-m dgm_jax.evaluate --only=mean.images',
  'no such step': '-m dgm_jax.evaluate --checkpoint=3',
  'no such judge': '-m dgm_jax.evaluate --judge={tmp}/none --only=generated.fid',
  'no such picture': '-m dgm_jax.sample --n=0',
}  # fmt: skip
GRAFT = """
import pathlib

from dgm_jax.internal.files import import_file

def get_config():
  config = import_file(pathlib.Path('configs/vae_digits.py')).get_config('tiny')
  config.graft = {'encoder': 'none'}
  return config
"""
ON_NO_RUN = {
  'a batch that does not divide': '--config.batch_size=17 --config.accumulate=4',
  'no such system': '--config.system=vae.vea',
  'no such data': '--config.data.name=folder:{tmp}/none',
  'a graft of no run': '--config={tmp}/graft.py',
  'a validation part that is too large': '--config.data.valid_size=100000',
  'a size that cannot be': '--config.data.size=-3',
  'a layer without units': '--config.model.hidden=((0,),)',
  'no room for checkpoints': '--config.model.hidden=((30000000,),(30000,))',
}  # fmt: skip


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  folder = tmp_path_factory.mktemp('refused')
  np.save(folder / 'images.npy', np.zeros((300, 8, 8), np.uint8))
  runs.complete(folder / 'run', '--config.steps=8', '--config.picture_every=0', '--config.eval_every=0')
  return folder / 'run'


def content(folder):
  """Every file and folder below, with its bytes and the time of its last change."""
  return {
    path.relative_to(folder): (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b'')
    for path in folder.rglob('*')
    if path.name != 'lock.json'
  }


def answer(case):
  """Gives a command that must be refused; returns what is wrong with the answer, '' if nothing is."""
  name, words, folder = case
  before = content(folder.parent)
  train = [] if words.startswith('-m ') else ['train.py', TINY, '--config.steps=8']
  command = [sys.executable, *train, *words.format(tmp=folder.parent).split(), f'--workdir={folder}']
  done = subprocess.run(command, cwd=runs.ROOT, env=runs.environment(), capture_output=True, text=True, timeout=300)
  said = done.stderr.strip().splitlines()
  if done.returncode != 2 or not said or not said[-1].startswith('error: ') or 'Traceback' in done.stderr:
    return f'{name}: code {done.returncode}, {done.stderr[-800:]}'
  changed = {path for path in before.keys() | content(folder.parent).keys()
             if before.get(path) != content(folder.parent).get(path)}  # fmt: skip
  return f'{name}: changed {sorted(map(str, changed))}' if changed else ''


def test_a_refused_command_changes_nothing(run, tmp_path):
  cases = []
  for number, (name, words) in enumerate([*ON_A_RUN.items(), *ON_NO_RUN.items()][:: trials(9, 1)]):
    folder = tmp_path / str(number)
    folder.mkdir()
    shutil.copy(run.parent / 'images.npy', folder)
    (folder / 'graft.py').write_text(GRAFT)
    if ON_A_RUN.get(name) == words:
      shutil.copytree(run, folder / 'run')
    cases.append((name, words, folder / 'run'))
  with concurrent.futures.ThreadPoolExecutor(2) as pool:
    wrong = [what for what in pool.map(answer, cases) if what]
  record('refused commands', commands=len(cases), unchanged_to_the_byte=len(cases) - len(wrong))
  assert not wrong, '\n'.join(wrong)


def test_after_a_refusal_the_run_is_what_it_was(run, tmp_path):
  folder = tmp_path / 'run'
  shutil.copytree(run, folder)
  wrong = answer(('other shapes', ON_A_RUN['other shapes, allowed'], folder))
  assert not wrong
  runs.final_state(folder)
  said = runs.complete(folder, '--config.steps=12', '--config.picture_every=0', '--config.eval_every=0')
  assert 'going on from the checkpoint of step 8 of 12' in said


def test_a_folder_without_a_checkpoint_does_not_hold_its_config_against_a_new_one(tmp_path):
  folder = tmp_path / 'run'
  folder.mkdir()
  (folder / 'config.json').write_text('{"seed": 7}')
  runs.complete(folder, '--config.steps=4', '--config.picture_every=0', '--config.eval_every=0')
