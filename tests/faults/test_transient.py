"""A file system that fails now and then, as one on a network does: what passes is tried again, the rest is one line."""

import concurrent.futures
import os
import random
import shutil
import subprocess
import sys

import pytest
import runs
import shims
from trials import record, trials

pytestmark = shims.needed
PASSING = ('EIO', 'ESTALE', 'ETIMEDOUT', 'EREMOTEIO', 'EAGAIN', 'EBUSY', 'ENOLCK', 'ECONNRESET', 'EMFILE', 'ENFILE',
           'ENOMEM')  # fmt: skip
LASTING = ('EACCES', 'EPERM', 'EROFS', 'ENOSPC', 'EDQUOT')
PLACES = ('/run/checkpoints', '/run/metrics', '/run/config', '/run/')
TRAIN = ('train.py', *runs.FLAGS, '--config.steps=40', '--config.picture_every=0')
COMMANDS = {
  'a new run': (*TRAIN, '--workdir={run}'),
  'a longer run': (*TRAIN, '--config.steps=44', '--workdir={run}'),
  'evaluate': ('-m', 'dgm_jax.evaluate', '--workdir={run}'),
  'sample': ('-m', 'dgm_jax.sample', '--workdir={run}', '--out={run}/../samples'),
  'report': ('-m', 'dgm_jax.report', '--workdir={run}'),
}


@pytest.fixture(scope='module')
def shim(tmp_path_factory):
  return shims.build(tmp_path_factory.mktemp('shim'))


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
  """A run of 40 steps."""
  folder = tmp_path_factory.mktemp('trained') / 'run'
  runs.complete(folder, '--config.steps=40', '--config.picture_every=0')
  return folder


def attempt(folder, shim, trained, command, call, place, error, times, skip):
  """Gives a command a file system that fails; returns its exit code, what it said, and how many calls failed."""
  folder.mkdir()
  if command != 'a new run':
    shutil.copytree(trained, folder / 'run')
  log = folder / 'failed'
  faults = shims.faults(shim, place, call, error, times, skip, log)
  words = [sys.executable, *(word.format(run=folder / 'run') for word in COMMANDS[command])]
  done = subprocess.run(
    words, cwd=runs.ROOT, env=runs.environment(**faults), capture_output=True, text=True, timeout=120
  )
  return done, len(log.read_text().splitlines()) if log.exists() else 0


def verdict(done, error, times, names):
  """'went on' or 'one line' where the command did what it should, otherwise what went wrong."""
  errors = [line for line in done.stderr.splitlines() if line.startswith('error: ')]
  if 'Traceback' in done.stderr or any('.corrupt' in name for name in names):
    return f'traceback or set aside: {done.stderr[-1500:]} {names}'
  if done.returncode == 0:
    return 'went on'
  if error in PASSING and times <= 2:
    return f'gave up: {done.stderr[-800:]}'
  fine = done.returncode in (2, 4) and len(errors) == 1 and done.stderr.rstrip().endswith(errors[0])
  return 'one line' if fine else f'code {done.returncode}: {done.stderr[-1500:]}'


def test_whatever_fails_in_whichever_command_passes_or_is_one_line(tmp_path, shim, trained):
  chance = random.Random(int(os.environ.get('FAULTS_SEED', '0')))
  # A step's folder that cannot be made at first: nothing may wait for it when the run is over.
  cases = [(tmp_path / 'known', 'a longer run', 'mkdir', '/run/checkpoints', 'EAGAIN', 2, 0)]
  for number in range(trials(3, 160)):
    case = (
      chance.choice([*COMMANDS]),
      chance.choice(shims.CALLS),
      chance.choice(PLACES),
      chance.choice(PASSING + LASTING),
    )
    cases.append((tmp_path / str(number), *case, chance.choice((1, 2, 10**6)), chance.choice((0, 0, 1, 3, 9))))

  def one(case):
    folder, command, call, place, error, times, skip = case
    done, failed = attempt(folder, shim, trained, command, call, place, error, times, skip)
    names = [path.name for path in (folder / 'run' / 'checkpoints').glob('*')]
    shutil.rmtree(folder)
    return verdict(done, error, times, names), failed

  with concurrent.futures.ThreadPoolExecutor(2) as pool:
    results = list(pool.map(one, cases))
  wrong = [
    (case[1:], what) for case, (what, _) in zip(cases, results, strict=True) if what not in ('went on', 'one line')
  ]
  told = [what for what, failed in results if failed]
  record('a file system that fails', trials=len(told), calls_that_failed=sum(failed for _, failed in results),
         went_on=told.count('went on'), one_line=told.count('one line'), traceback_or_damage=len(wrong))  # fmt: skip
  assert not wrong, '\n\n'.join(map(str, wrong))
