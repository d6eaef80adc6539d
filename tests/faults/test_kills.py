"""`kill -9` at any moment, also while a checkpoint is written or removed, again and again."""

import concurrent.futures
import pathlib
import random
import signal
import time
from typing import NamedTuple

import runs
from trials import record, trials

from dgm_jax.runs import lines

SAVE_EVERY = 1000
FLAGS = (
  '--config.steps_per_call=100', '--config.log_every=100', '--config.eval_every=20000', '--config.eval_batch_size=64',
  f'--config.save_every={SAVE_EVERY}', '--config.picture_every=0', '--config.optimizer.model.schedule=constant',
  '--config.best=',
)  # fmt: skip


class Kill(NamedTuple):
  """What a killed process left."""

  restarted: bool  # the start before this kill took up the newest checkpoint
  torn: bool  # a committed step was damaged
  saving: bool  # a checkpoint was being written
  lost: int  # steps that were told of and not saved


def progress(folder) -> int:
  """The last step of which a figure was written."""
  return max((line['step'] for line in lines.read(pathlib.Path(folder) / 'metrics.jsonl')), default=0)


def kill_once(folder, chance) -> Kill:
  """Starts the run, lets it live for a random time, kills it, and examines the checkpoints."""
  before, told = runs.newest(folder), (folder / 'metrics.jsonl').stat().st_mtime_ns if folder.exists() else 0
  process = runs.start(folder, *FLAGS, '--config.steps=10000000')
  moment = chance.random()
  if moment < 0.2:  # on the way to the first steps
    time.sleep(chance.uniform(0.5, 5))
  else:  # some time after the first steps of this start, or after it has saved, when the next save is under way
    reached = (lambda: progress_time(folder) > told) if moment < 0.5 else (lambda: runs.newest(folder) > before)
    while process.poll() is None and not reached():
      time.sleep(0.005)
    time.sleep(chance.uniform(0, 0.5))
  process.send_signal(signal.SIGKILL)
  code, out, err = runs.finish(process)
  assert code == -signal.SIGKILL, err
  began = 'going on from the checkpoint of step' in out
  trained = 'first call' in out  # else it was killed before it had looked for a checkpoint
  restarted = f'step {before} of' in out if began else before == 0 or not trained
  drafts = list((folder / 'checkpoints').glob('*tmp*'))
  newest, reached = runs.newest(folder), progress(folder)
  if newest:
    runs.final_state(folder)  # sets a torn step aside
  torn = bool(list((folder / 'checkpoints').glob('*corrupt*'))) or newest != runs.newest(folder)
  return Kill(restarted, torn, bool(drafts), max(0, reached - newest))


def progress_time(folder) -> int:
  """When a figure was written last; the start of a run writes the file anew, with what is kept."""
  path = folder / 'metrics.jsonl'
  return path.stat().st_mtime_ns if path.exists() and progress(folder) > runs.newest(folder) else 0


def chain(folder, kills, seed):
  chance = random.Random(seed)
  made = [kill_once(folder, chance) for _ in range(kills)]
  last = max(SAVE_EVERY, -(-runs.newest(folder) // SAVE_EVERY) * SAVE_EVERY) + SAVE_EVERY
  said = runs.complete(folder, *FLAGS, f'--config.steps={last}')
  assert 'goodput: ' in said
  runs.complete(folder.with_name('whole'), *FLAGS, f'--config.steps={last}')
  return made, runs.same(folder, folder.with_name('whole')), last


def test_a_run_that_is_killed_again_and_again_ends_with_the_bits_of_one_that_was_not(tmp_path):
  halves = [tmp_path / name / 'run' for name in ('a', 'b')][: trials(1, 2)]
  for folder in halves:
    folder.parent.mkdir()
  with concurrent.futures.ThreadPoolExecutor(2) as pool:
    results = list(pool.map(lambda folder: chain(folder, trials(2, 25), folder.parent.name), halves))
  kills = [kill for made, _, _ in results for kill in made]
  figures = {
    'kills': len(kills),
    'restarts_good': sum(kill.restarted for kill in kills) + len(results),
    'restarts': len(kills) + len(results),
    'torn': sum(kill.torn for kill in kills),
    'killed_while_saving': sum(kill.saving for kill in kills),
    'save_every': SAVE_EVERY,
    'most_steps_lost': max(kill.lost for kill in kills),
    'identical_in_the_end': all(same for _, same, _ in results),
  }
  record('kills', **figures)
  assert all(kill.restarted and not kill.torn for kill in kills), kills
  assert figures['identical_in_the_end']
  assert all(kill.lost <= SAVE_EVERY for kill in kills), kills
