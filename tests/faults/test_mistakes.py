"""Twenty common mistakes: each is answered by one line that says what to do, and exit code 2."""

import concurrent.futures
import pathlib
import re
import subprocess
import sys

import numpy as np
import runs
from trials import record, trials

TINY = '--config=configs/vae_digits.py:tiny'
# The command, and what its last line says; {tmp} is a folder that holds what the mistakes need.
MISTAKES = {
  'a mistyped key': (f'train.py {TINY} --workdir=w --config.stpes=3', "no key 'stpes'; did you mean 'steps'"),
  'a mistyped flag': (f'train.py {TINY} --workdr=w', 'Did you mean: workdir'),
  'a value of another type': (f'train.py {TINY} --workdir=w --config.steps=many', "invalid literal for int.*'many'"),
  'a value out of range': (f'train.py {TINY} --workdir=w --config.batch_size=0', 'must be at least 1, got 0'),
  'a cadence between calls': (f'train.py {TINY} --workdir=w --config.log_every=3', 'must be a multiple of config'),
  'an unknown optimizer': (f'train.py {TINY} --workdir=w --config.optimizer.model.name=adma', 'one of adam, adamax'),
  'an unknown variant': ('train.py --config=configs/vae_digits.py:tny --workdir=w', 'no variant .tny.; .*are tiny'),
  'a config that is not there': ('train.py --config=configs/vea.py --workdir=w', 'configs/vea.py'),
  'no config': ('train.py --workdir=w', r'add --config=configs/NAME\.py'),
  'no workdir': (f'train.py {TINY}', 'add --workdir=DIR'),
  'processes without an address': (f'train.py {TINY} --workdir=w --processes=2', 'add --coordinator=HOST:PORT'),
  'slices that do not divide': (f'train.py {TINY} --workdir=w --config.accumulate=3', 'must be a multiple of config'),
  'pmap with spread parameters': (
    f'train.py {TINY} --workdir=w --config.parallel=pmap --config.shard_params=True', "needs config.parallel='jit'"),
  'an unknown system': (f'train.py {TINY} --workdir=w --config.system=vae.vea', "did you mean 'vae'"),
  'a dataset that is not there': (f'train.py {TINY} --workdir=w --config.data.name=mnist', 'dgm_jax.prepare mnist'),
  'a folder without images': (f'train.py {TINY} --workdir=w --config.data.name=folder:{{tmp}}/none', 'none'),
  'an array that is no image': (f'train.py {TINY} --workdir=w --config.data.name=npy:{{tmp}}/flat.npy', 'flat.npy'),
  'a workdir that is a file': (f'train.py {TINY} --workdir={{tmp}}/flat.npy/run', 'cannot be written'),
  'a run of another config': (f'train.py {TINY} --workdir={{tmp}}/run --config.seed=1', 'add --allow_config_change'),
  'no run to evaluate': ('-m dgm_jax.evaluate --workdir={tmp}', 'is not a workdir: it has no config.json; train'),
}  # fmt: skip


def answer(folder, command):
  """Exit code and stderr of a command."""
  words = [sys.executable, *command.format(tmp=folder).split()]
  env = runs.environment(TFDS_DATA_DIR=str(folder))
  done = subprocess.run(words, cwd=runs.ROOT, env=env, capture_output=True, text=True, timeout=300)
  return done.returncode, done.stderr.strip()


def test_twenty_mistakes_are_answered_by_one_line(tmp_path):
  """A few here, where the command line's own tests have the rest of them."""
  assert len(MISTAKES) == 20
  np.save(tmp_path / 'flat.npy', np.zeros((20, 3), np.uint8))
  names = [*MISTAKES][:: trials(7, 1)] + ['a run of another config'] * (not trials(0, 1))
  if 'a run of another config' in names:
    runs.complete(tmp_path / 'run', '--config.steps=2')
  with concurrent.futures.ThreadPoolExecutor(2) as pool:
    answers = pool.map(lambda name: answer(tmp_path, MISTAKES[name][0]), names)
  wrong = []
  for name, (code, said) in zip(names, answers, strict=True):
    right = code == 2 and re.search(MISTAKES[name][1], said) and 'Traceback' not in said
    wrong += [] if right and said.startswith('error: ') and '\n' not in said else [(name, code, said[-500:])]
  record('mistakes', mistakes=len(names), answered_in_one_line=len(names) - len(wrong))
  assert not wrong
  assert not (pathlib.Path(runs.ROOT) / 'w').exists()


def test_the_document_lists_them():
  page = (runs.ROOT / 'docs' / 'reliability.md').read_text()
  assert [name for name in MISTAKES if name not in page] == []
