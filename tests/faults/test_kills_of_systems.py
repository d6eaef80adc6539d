"""`kill -9` at events of the file system and at random moments, over systems that keep more than parameters."""

import concurrent.futures
import random
import signal
import subprocess
import sys
import time

import pytest
import runs
import shims
from trials import record, trials

pytestmark = shims.needed
# What each keeps that a restart must bring back.
SYSTEMS = {
  'a mixture without an optimizer': 'configs/gmm.py:tiny',
  'averages of a game': 'configs/dcgan_mnist.py:tiny',
  'a prior with a graft': '{graft}/prior.py',
  'a flow that starts from data': 'configs/nice_mnist.py:tiny',
  'two players of FactorVAE': 'configs/disentangle.py:tiny_factor',
}
PRIOR = """
import pathlib

from dgm_jax.internal.files import import_file

def get_config():
  config = import_file(pathlib.Path({path!r})).get_config('tiny_prior')
  config.graft = {{'vqvae': {run!r}}}
  return config
"""
CALLS = ('open', 'write', 'fsync', 'rename', 'mkdir', 'list', 'stat')


@pytest.fixture(scope='module')
def shim(tmp_path_factory):
  return shims.build(tmp_path_factory.mktemp('shim'))


def begin(name, folder, graft, **changes):
  config = SYSTEMS[name].format(graft=graft)
  words = ['train.py', f'--config={config}', '--config.picture_every=0', f'--workdir={folder}']
  return subprocess.Popen(
    [sys.executable, *words], cwd=runs.ROOT, env=runs.environment(**changes), stdout=subprocess.DEVNULL,
    stderr=subprocess.PIPE, text=True,
  )  # fmt: skip


def finish(name, folder, graft):
  process = begin(name, folder, graft)
  _, err = process.communicate(timeout=300)
  assert process.returncode == 0, f'{name}: {err[-2000:]}'


def kill_once(name, folder, graft, shim, chance) -> bool:
  """Kills one start of a run. Returns False if it had ended before."""
  if chance.random() < 0.7:
    call, skip = chance.choice(CALLS), int(chance.expovariate(1 / 60))
    process = begin(name, folder, graft, **shims.faults(shim, '/run/', call, skip=skip, kill=True))
  else:
    process = begin(name, folder, graft)
    time.sleep(chance.uniform(1, 12))
    process.send_signal(signal.SIGKILL)
  _, err = process.communicate(timeout=300)
  assert process.returncode in (0, -signal.SIGKILL), f'{name}: {err[-2000:]}'
  return process.returncode != 0


def chain(name, root, graft, shim, kills):
  """Kills a run until it has ended, and another, until there were so many; returns how many ended alike."""
  chance, number, made, same = random.Random(name), 0, 0, 0
  finish(name, root / 'whole' / 'run', graft)
  while made < kills:
    folder = root / str(number) / 'run'
    while made < kills and kill_once(name, folder, graft, shim, chance):
      made += 1
    finish(name, folder, graft)
    assert not list(folder.glob('checkpoints/*corrupt*')), name
    same += runs.same(folder, root / 'whole' / 'run')
    number += 1
  return number, same


def test_every_kind_of_system_restarts_to_the_same_bits(tmp_path, shim):
  names = [*SYSTEMS][: trials(1, 5)]
  graft = tmp_path / 'graft'
  if 'a prior with a graft' in names:
    words = ['train.py', '--config=configs/vqvae2_mnist.py:tiny', f'--workdir={graft / "run"}']
    subprocess.run([sys.executable, *words], cwd=runs.ROOT, env=runs.environment(), check=True, capture_output=True)
    path = str(runs.ROOT / 'configs' / 'vqvae2_mnist.py')
    (graft / 'prior.py').write_text(PRIOR.format(path=path, run=str(graft / 'run')))
  kills = trials(1, 20)
  with concurrent.futures.ThreadPoolExecutor(2) as pool:
    results = list(pool.map(lambda name: chain(name, tmp_path / name.replace(' ', '_'), graft, shim, kills), names))
  record('kills of systems', systems=names, kills=kills * len(names), runs=sum(number for number, _ in results),
         identical_in_the_end=sum(same for _, same in results))  # fmt: skip
  assert all(number == same for number, same in results), dict(zip(names, results, strict=True))
