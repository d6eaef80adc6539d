"""The one training loop.

It knows the four functions of a System and never a loss. Several steps are one compiled call; the host works only
between calls, one call behind the devices. All that is written about a step is written before its checkpoint is
committed, so that a run that was killed goes on as if nothing had happened. A run that receives a signal saves its last
finished step. A run with NaN or infinity is never saved.
"""

import collections
import contextlib
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from dgm_jax import config as experiment
from dgm_jax.core import State
from dgm_jax.data import preprocess
from dgm_jax.errors import DIVERGED, Halt, UserError
from dgm_jax.evals import likelihood, mean
from dgm_jax.pictures import chains, gallery, painting, positions
from dgm_jax.runs import checkpoint, workdir
from dgm_jax.runs.digest import finite, first_bad
from dgm_jax.runtime import cluster, lock, parallel, signals
from dgm_jax.training import feed, log
from dgm_jax.training.profile import profiled
from dgm_jax.training.run import Run, build_run, compile_call, identity
from dgm_jax.training.start import Start, load_or_init

__all__ = ['ROLLBACKS', 'Diverged', 'Evaluators', 'attempt', 'due', 'evaluators_of', 'fit', 'saver', 'train']

AHEAD = 2  # calls that the host may run ahead of the devices
GOLDEN = 0x9E3779B9  # 2^32 / golden ratio: seeds that differ by multiples of it share no stream
ROLLBACKS = 3  # of one start of a run
WORK = ('eval_every', 'picture_every', 'save_every')  # what is done between two calls


class Evaluators(NamedTuple):
  """Compiled measurements, `run(seed, state) -> {name: [N]}`, and the images that pictures are made of."""

  valid: Callable
  test: Callable
  images: np.ndarray


class Diverged(Exception):
  """A number is no longer finite: which, and after how many batches it was seen."""

  def __init__(self, message: str, batches: int):
    super().__init__(message)
    self.batches = batches


def fit(
  config: ConfigDict, folder: Path, allow_config_change: bool = False, rollbacks: int = 0, profile: int = 0
) -> State:
  """Trains, or goes on training, the experiment in its folder.

  Args:
    config: an experiment that has passed `config.check`.
    folder: the workdir.
    allow_config_change: whether to resume a run that has another experiment.
    rollbacks: how often NaN or infinity may send the run back to the last checkpoint, to skip the batches in question.
    profile: how many steps are traced, see `profiled`.

  Returns:
    the last state.

  Raises:
    UserError: the data, the folder or the devices do not fit the experiment.
    Halt: something is no longer finite, or no checkpoint can be written.
    Stopped: a signal has come; the last finished step is saved.
  """
  run = cluster.agree(lambda: build_run(config, folder))
  more = {'--workdir': str(folder), '--on_nan': f'{rollbacks} rollbacks'}
  cluster.alike(identity(run, **more), 'the run')
  with contextlib.ExitStack() as stack:
    cluster.first(lambda: _take(stack, run, allow_config_change))
    call, evaluators, batches = parallel.interruptible(compile_call(run)), evaluators_of(run), 0
    call = stack.enter_context(profiled(call, profile, feed.call_steps(run), folder))
    for left in range(rollbacks, -1, -1):
      try:
        return attempt(run, call, evaluators, batches)
      except Diverged as error:
        if not left:
          kept = checkpoint.steps(folder)
          last = f'the last good checkpoint is of step {kept[-1]}' if kept else 'no checkpoint was made before'
          hint = 'lower the learning rate or clip the gradients' + ', or add --on_nan=rollback' * (not rollbacks)
          raise Halt(f'{error}; {last}: {hint}', DIVERGED) from error
        print(f'warning: {error}; going back to the last checkpoint and past these batches', flush=True)
        batches = error.batches
  raise AssertionError('the loop returns or raises')


def _take(stack: contextlib.ExitStack, run: Run, allow_config_change: bool) -> None:
  """Locks the folder of a run, unless it must be refused."""
  checkpoint.check_space(run.folder, run.like)
  workdir.compare(run.folder, run.config, allow_config_change)
  stack.enter_context(lock.locked(run.folder))
  workdir.compare(run.folder, run.config, allow_config_change)  # another trainer may just have ended


def attempt(run: Run, call: Callable, evaluators: Evaluators, batches: int = 0) -> State:
  """Trains from the newest checkpoint, or afresh, to the end.

  Args:
    run: the constant part of the training.
    call: several steps in one program.
    evaluators: compiled measurements.
    batches: skip the data stream ahead to this batch, if the checkpoint is not there yet.

  Raises:
    Diverged: something is no longer finite.
  """
  began = load_or_init(run)
  lost, skipped = log.lost(run.folder, began.step), max(batches - began.step, began.meta.get('skipped', 0))
  due = began.meta.get('due', False)
  with contextlib.ExitStack() as stack:
    stack.enter_context(cluster.together())
    writer = stack.enter_context(_open_writer(run, began))
    _greet(run, writer, began.step, skipped)
    if due:  # the run was asked to end before this was done
      _evaluate_and_draw(run, began.state, began.step, writer, evaluators)
    stack.enter_context(signals.deferred())
    keeper = stack.enter_context(checkpoint.saving(run.folder, run.config.keep, workdir.best(run.config)))
    note = lambda steps, seconds: writer.say(_costs(began, lost, steps, seconds))
    save = saver(run, writer, keeper, skipped)
    state = train(run, call, began.state, began.step, writer, save, evaluators, skipped, note)
    writer.say(f'done: {run.folder}; sample with python -m dgm_jax.sample --workdir={run.folder}')
  return state


def _open_writer(run: Run, began: Start) -> log.Writer:
  """Opens the writer of the main process, claims the folder, and tells of lost figures."""
  due, opened = began.meta.get('due', False), [log.silent()]

  def prepare() -> None:
    hole = log.hole(run.folder, began.step, began.meta.get('logged', {}), due)
    opened[0] = log.open(run.folder, began.step, run.total, run.config, due)
    workdir.claim(run.folder, run.config, workdir.count(run.like.params))
    if hole:
      opened[0].say(hole)

  cluster.first(prepare)
  return opened[0]


def train(
  run: Run, call: Callable, state: State, first: int, writer: log.Writer, save: Callable, evaluators: Evaluators,
  skipped: int = 0, note: Callable = lambda steps, seconds: None,
) -> State:  # fmt: skip
  """Takes the steps from `first` to the end. The host stays at most AHEAD calls ahead of the devices.

  Args:
    run: the constant part of the training.
    call: several steps in one program, of `compile_call`.
    state: after `first` steps.
    first: the number of completed steps.
    writer: where metrics and pictures go.
    save: `save(state, measured, last)`; `measured` is None if the evaluation due at this step was interrupted.
    evaluators: of `evaluators_of`.
    skipped: number of batches of the stream to skip before step `first`.
    note: `note(steps, seconds)` is called once, after the first compiled call.

  Raises:
    Diverged: a number is not finite.
    Stopped, UserError: a signal has come, examples cannot be read; the last finished step is saved, if all can do so.
  """
  config, total, watch = run.config, run.total, log.stopwatch(writer, first, run.config.batch_size)
  seed = np.uint32((config.seed + skipped * GOLDEN) % 2**32)  # skipped batches skip their noise, too
  step, saved, interrupted, pending = first, first, False, Pending(writer, watch, skipped)
  batches = feed.batches(run, first, skipped)
  try:
    while step < total:
      signals.poll()
      # One call: up to steps_per_call steps, on the devices. It ends at a multiple of steps_per_call.
      arrays, index = next(batches)
      state, metrics = call(state, seed, arrays, index)
      begun, step = step, step + len(index)
      pending.add(step, metrics, state, AHEAD if begun > first else 0)
      if begun == first:
        note(step - first, watch.first(step))
      # Log, one call late: the metrics of a step are fetched while the next call runs.
      pending.log(state)
      writer.progress(step)
      if due(step, config.log_every, total):
        pending.log_later(step, metrics, finite(state))
      # Evaluate, draw, save: only where the state is known to be finite.
      if step == total or any(due(step, config[every], total) for every in WORK):
        pending.drain(step, state)
        interrupted = True
        measured = _evaluate_and_draw(run, state, step, writer, evaluators)
        if due(step, config.save_every, total):
          save(state, measured, step == total)
          saved = step
        interrupted = False
        watch.restart(step)
  except (signals.Stopped, UserError) as error:
    if isinstance(error, signals.Stopped) or not signals.shared():  # else the others do not know of it, and all save
      pending.log(state)
      if step > saved:
        save(state, None if interrupted else {}, True)
      writer.say(f'ending early, with step {step} of {total} saved' if step else 'ending before the first step')
    raise
  finally:
    batches.close()
  return state


class Pending:
  """Calls that the devices have not finished, and metrics that are logged one call late."""

  def __init__(self, writer: log.Writer, watch: log.Stopwatch, skipped: int):
    self.writer, self.watch, self.skipped = writer, watch, skipped
    self.calls, self.logged = collections.deque(), None

  def add(self, step: int, metrics: dict, state: State, ahead: int) -> None:
    """Records a call, and waits for those that are more than `ahead` behind it."""
    self.calls.append((step, metrics))
    self._wait(state, ahead)

  def log_later(self, step: int, metrics: dict, sound: jax.Array) -> None:
    """Keeps metrics until `log` is called."""
    self.logged = step, metrics, sound

  def log(self, state: State) -> None:
    """Writes the metrics that were kept. This waits for the devices."""
    if self.logged is not None:
      (step, metrics, sound), self.logged = self.logged, None
      self.writer.metrics(step, 'train', parallel.fetch(metrics))
      self.watch.count(step)
      _check_finite(step, {}, sound, state, self.skipped)

  def drain(self, step: int, state: State) -> None:
    """Waits for every call, and checks the state."""
    self.log(state)
    self._wait(state, 0)
    self.watch.count(step)  # where nothing was logged, the time has passed all the same
    _check_finite(step, {}, finite(state), state, self.skipped)

  def _wait(self, state: State, ahead: int) -> None:
    while len(self.calls) > ahead:
      step, metrics = self.calls.popleft()
      jax.block_until_ready(metrics)
      _check_finite(step, parallel.fetch(metrics), True, state, self.skipped)


def _check_finite(step: int, metrics: dict, sound: jax.Array | bool, state: State, skipped: int) -> None:
  """Raises Diverged if a metric or a number of the state is not finite."""
  wrong = [f'{name} is {float(value)}' for name, value in metrics.items() if not math.isfinite(value)]
  if wrong or not bool(sound):
    array = first_bad(state)
    wrong += [f'{array} is not finite'] * bool(array)
    raise Diverged(f'training went wrong by step {step}: {", ".join(wrong[:3] + wrong[3:][-1:])}', step + skipped)


def _evaluate_and_draw(
  run: Run, state: State, step: int, writer: log.Writer, evaluators: Evaluators
) -> dict[str, float]:
  """Evaluates and draws pictures if they are due. Returns the validation metrics, which select the best checkpoint."""
  config, measured, started = run.config, {}, time.perf_counter()
  if due(step, config.eval_every, run.total):
    measured = mean.means(evaluators.valid(config.seed, state))
    writer.metrics(step, 'valid', measured)
  if step == run.total:
    writer.metrics(step, 'test', mean.means(evaluators.test(config.seed, state)))
  if due(step, config.picture_every, run.total):
    _draw(run, state, step, writer, evaluators.images)
  writer.timing(step, {'seconds': time.perf_counter() - started})
  return measured


def _draw(run: Run, state: State, step: int, writer: log.Writer, images: np.ndarray) -> None:
  key, to_uint8 = jax.random.key(run.config.seed), preprocess.pixels(run.config.data)
  able = gallery.available(run.system) | positions.available(run.system, run.config) | painting.available(run.system)
  able |= chains.available(run.system, ('chains',))  # completions take as long as samples
  for name, draw in able.items():
    signals.poll()
    try:
      writer.picture(step, name, draw(key, state, images, to_uint8))
    except Exception as error:  # a picture must not end a training
      writer.say(f'step {step}: no picture {name}, {type(error).__name__}: {" ".join(str(error).split())}')


def due(step: int, every: int, total: int) -> bool:
  """Returns whether work with period `every` is due at `step`. The last step always counts; every = 0 means never."""
  return every > 0 and (step % every == 0 or step == total)


def evaluators_of(run: Run) -> Evaluators:
  """Compiles the measurements of a run, and selects the images for its pictures."""

  def measure(name: str) -> Callable:
    split = run.splits[name]
    measured = likelihood.strided(split, min(run.config.eval_examples, split.size))
    return mean.evaluation(run.system, measured, run.config, run.mesh)

  shown = 'valid' if 'valid' in run.splits else 'test'
  return Evaluators(measure(shown), measure('test'), mean.images(run.splits[shown], run.config, run.config.pictures))


def saver(run: Run, writer: log.Writer, keeper: checkpoint.Saver, skipped: int = 0) -> Callable:
  """Returns the `save(state, measured, last)` of `train`, which saves a state with the run's experiment.

  What was logged is on the disk before, and the page says how much that is.
  """
  meta = {'config': experiment.to_json(run.config), 'environment': workdir.environment(), 'skipped': skipped}

  def save(state: State, measured: dict[str, float] | None, last: bool = False) -> None:
    page = meta | {'due': measured is None, 'logged': writer.sync()}
    checkpoint.save(keeper, state, page, measured or {}, wait=last or not run.config.async_save)

  return save


def _greet(run: Run, writer: log.Writer, first: int, skipped: int) -> None:
  count = sum(leaf.size for leaf in jax.tree.leaves(run.like.params))
  sizes = ', '.join(f'{split.size} {name}' for name, split in run.splits.items())
  writer.say(
    f'{run.config.system} on {run.config.data.name} ({sizes} examples of {run.config.data.shape});'
    f' {count:,} parameters; {run.mesh.size} x {jax.devices()[0].device_kind}; workdir {run.folder}'
  )
  if skipped:
    writer.say(f'of the stream of batches, {skipped} are left out: training with them went wrong')
  if first >= run.total:
    writer.say(f'the run is complete: step {first} of {run.total}')
  elif first:
    writer.say(f'going on from the checkpoint of step {first} of {run.total}')
  else:
    writer.say(f'{run.total} steps; compiling the training step ({run.config.steps_per_call} steps a call) ...')


def _costs(began: Start, lost: log.Lost, steps: int, seconds: float) -> str:
  """Describes the time of a start before its first step, and the work that the previous start did not save."""
  state = 'restored' if began.meta else 'state made'
  again = f'; {lost.steps} steps of {lost.seconds:.1f} s are made again' if lost.steps else ''
  return (
    f'first call ({steps} steps, compilation included): {seconds:.1f} s\n'
    f'goodput: {state} in {began.seconds:.1f} s, first call in {seconds:.1f} s{again}'
  )
