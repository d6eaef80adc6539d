"""The start of a run: 1. its newest good checkpoint; 2. else fresh parameters and grafted networks."""

import time
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from dgm_jax import data
from dgm_jax.core import State
from dgm_jax.data import preprocess
from dgm_jax.errors import UserError
from dgm_jax.runs import checkpoint, graft
from dgm_jax.runs.digest import first_bad
from dgm_jax.runtime import cluster, signals
from dgm_jax.training import feed
from dgm_jax.training.run import Run, schedule_changes

__all__ = ['Start', 'load_or_init', 'start']


class Start(NamedTuple):
  """The state that a run begins with or goes on from."""

  state: State
  step: int  # completed ones
  meta: dict  # of the checkpoint; {} for a fresh run
  seconds: float  # that finding it took


def start(run: Run) -> tuple[State, int]:
  """Returns the state to begin with, and the number of steps behind it."""
  return load_or_init(run)[:2]


def load_or_init(run: Run) -> Start:
  """Loads the newest good checkpoint. If there is none, initialises a fresh state.

  Raises:
    UserError: the fresh state is not finite: the examples for the initialisation lack something.
  """
  started = time.perf_counter()
  there = cluster.first(lambda: checkpoint.steps(run.folder))
  cluster.agree(lambda: _require_sight(run.folder, there))
  if there:
    restored = checkpoint.restore(run.folder, run.like, trains=True)
    if cluster.main_process():
      for line in schedule_changes(restored.meta.get('config', {}), run, restored.step):
        print(line, flush=True)
    return Start(restored.state, restored.step, restored.meta, time.perf_counter() - started)
  if cluster.main_process():
    print(f'making the start state of {run.config.system} ...', flush=True)
  state = jax.block_until_ready(signals.interruptible(lambda: _init(run)))
  state = graft.graft(state, run.config.graft.to_dict(), run.config.graft_fresh)
  if bad := first_bad(state):
    shown = min(run.config.init_examples, run.splits['train'].size)
    raise UserError(
      f'{bad} is not finite at the start, which {run.config.system} makes of {shown} examples:'
      ' raise config.init_examples, or train on data with more of what it needs (such as labels of every class)'
    )
  return Start(state, 0, {}, time.perf_counter() - started)


def _require_sight(folder: Path, there: list[int]) -> None:
  """Refuses a process that does not see the checkpoints of process 0."""
  if there and not checkpoint.steps(folder):
    raise UserError(f'{folder.absolute()} has no checkpoints, but process 0 sees some: give all the same --workdir')


def _init(run: Run) -> State:
  shardings = jax.tree.map(lambda leaf: leaf.sharding, run.like)
  prepare_batch = preprocess.training(run.config.data)
  fetch = run.splits['train'].fetch if run.placement.where == 'device' else data.handed

  def init(seed, arrays, index):
    for_data, for_init = jax.random.split(jax.random.fold_in(jax.random.key(seed), 0))
    return run.system.init(for_init, prepare_batch(for_data, fetch(arrays, index)))

  return jax.jit(init, out_shardings=shardings)(np.uint32(run.config.seed), *feed.first_examples(run))
