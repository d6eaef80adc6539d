"""A run that is asked to end saves at its last finished step, whatever it is doing, and loses not a bit."""

import concurrent.futures
import itertools
import random
import shutil
import subprocess
import sys
from typing import NamedTuple

import pytest
import runs
from trials import record, trials

from dgm_jax.runs import checkpoint

CODES = {'SIGTERM': 143, 'SIGINT': 130}
# What is interrupted, by a fresh start or a later one: the occasions to choose from, and the longest delay in seconds.
PHASES = {
  'compile, fresh': ('compile', (2, 2), 0.4),
  'compile, resumed': ('compile', (1, 1), 0.4),
  'step': ('step', (3, 110), 0.003),
  'evaluation': ('evaluation', (1, 5), 0.06),
  'sampling': ('sampling', (1, 2), 0.8),
  'save': ('save', (1, 5), 0.3),
  'data wait, fresh': ('data wait', (1, 3), 0.8),
  'data wait, resumed': ('data wait', (1, 3), 0.8),
}
ALL = {name: 5 - 2 * ('resumed' in name) - 3 * ('fresh' in name) for name in PHASES}  # 30


class Ended(NamedTuple):
  """How a run that was asked to end did so."""

  phase: str
  code_right: bool
  said: bool
  saved_last_step: bool
  same_in_the_end: bool


@pytest.fixture(scope='module')
def interrupted(tmp_path_factory):
  """A run that was asked to end at step 62 or, where its thread has to wait for a core, a little later."""
  folder = tmp_path_factory.mktemp('interrupted') / 'run'
  code, _, err = runs.finish(runs.start(folder, child=('step', 32, 0, 'SIGTERM')))
  assert code == 143, err
  finished = int((folder.parent / 'steps').read_text().split()[-1])
  assert runs.newest(folder) == finished and 62 <= finished < 80  # when a measurement is due
  return folder


def trial(number, name, folder, interrupted, whole):
  """Ends a run by a signal in the named phase, looks at what it left, and runs it to its end."""
  chance = random.Random(number)
  phase, occasions, delay = PHASES[name]
  signal = 'SIGINT' if number % 3 == 2 else 'SIGTERM'
  before = 0
  folder.parent.mkdir()
  if 'resumed' in name:
    shutil.copytree(interrupted, folder)
    before = runs.newest(folder)
  child = (phase, chance.randint(*occasions), chance.uniform(0, delay), signal)
  # What compiles is not in the cache, so that there is a compilation to interrupt.
  cache = {'DGM_JAX_CACHE': str(folder.parent / 'cache')} if phase == 'compile' else {}
  code, out, err = runs.finish(runs.start(folder, child=child, **cache))
  noted = folder.parent / 'steps'
  begun = int(noted.read_text().split()[-1]) if noted.exists() and phase != 'compile' else before
  saved = runs.newest(folder)
  said = f'{signal} received' in err and (phase == 'data wait' or f'with step {begun} of' in out or not begun)
  runs.complete(folder)
  ended = Ended(name, code == CODES[signal], said, saved == begun, runs.same(folder, whole))
  if not all(ended):
    print(ended, child, code, begun, saved, out[-500:], err[-500:], sep='\n')
  return ended


def test_a_run_that_is_asked_to_end_saves_its_last_finished_step(tmp_path, interrupted, whole):
  chosen = [name for name in PHASES for _ in range(trials(name in ('evaluation', 'save'), ALL[name]))]
  with concurrent.futures.ThreadPoolExecutor(2) as pool:
    folders = [tmp_path / str(number) / 'run' for number in range(len(chosen))]
    ended = list(pool.map(trial, itertools.count(), chosen, folders, *map(itertools.repeat, (interrupted, whole))))
  good = {phase: sum(all(e) for e in ended if e.phase.startswith(phase)) for phase in
          ('compile', 'step', 'evaluation', 'sampling', 'save', 'data wait')}  # fmt: skip
  record('signals', trials=len(ended), saved_and_identical=sum(all(e) for e in ended), by_phase=good)
  assert all(all(e) for e in ended), ended


def test_what_is_saved_for_a_signal_says_what_is_yet_to_be_done(interrupted):
  """An evaluation that was cut short is made again, though its step is not."""
  from dgm_jax import config
  from dgm_jax.runs import workdir

  subject = workdir.open_subject(interrupted, '', config=config.load(interrupted))
  restored = checkpoint.restore(interrupted, workdir.shapes(subject.system, subject.config, subject.mesh))
  assert restored.meta['due'] is False and restored.meta['skipped'] == 0


DEFER = """
import os, signal, sys, time
from dgm_jax.runtime import cli, signals
def main(argv):
  with signals.deferred():
    os.kill(os.getpid(), getattr(signal, argv[1]))
    print('noted', flush=True)
    if argv[2] == 'again':
      os.kill(os.getpid(), signal.SIGTERM)
    signals.poll()
cli.run(main)
"""


@pytest.mark.parametrize('name', CODES)
def test_the_first_signal_is_noted_and_a_second_ends_at_once(name):
  for again, code, last in (
    ('once', CODES[name], f'{name} received; the same command starts anew'),
    ('again', 143, 'SIGTERM again: ending at once; the last checkpoint stands'),
  ):
    done = subprocess.run([sys.executable, '-c', DEFER, name, again], cwd=runs.ROOT, capture_output=True, text=True)
    assert done.returncode == code and done.stdout == 'noted\n'
    assert done.stderr.splitlines()[-1] == last


@pytest.mark.parametrize('name', CODES)
def test_a_command_that_has_nothing_to_save_ends_at_the_first_signal(name):
  program = 'import time\nfrom dgm_jax.runtime import cli\n'
  program += 'cli.run(lambda argv: (print("ready", flush=True), time.sleep(60)))'
  process = subprocess.Popen([sys.executable, '-c', program], cwd=runs.ROOT, stdout=-1, stderr=-1, text=True)
  assert process.stdout.readline() == 'ready\n'
  process.send_signal(getattr(__import__('signal'), name))
  _, err = process.communicate(timeout=20)
  assert process.returncode == CODES[name] and 'Traceback' not in err
