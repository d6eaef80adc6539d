"""Saving checkpoints beside the training. A save counts once its files are on the disk."""

import contextlib
import dataclasses
import gc
import logging
import math
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from dgm_jax.core import State
from dgm_jax.errors import DIVERGED, UNSAVED, Halt, UserError
from dgm_jax.internal.files import PAUSES, exists, is_folder, make_folder, patiently
from dgm_jax.runs.checkpoint import folder as folders
from dgm_jax.runs.checkpoint.folder import FOLDER, reason, steps
from dgm_jax.runs.checkpoint.quiet import quiet
from dgm_jax.runs.checkpoint.reader import ITEMS, measured, seal
from dgm_jax.runs.digest import digest, first_bad, num_bytes, shapes
from dgm_jax.runtime import cluster

__all__ = ['Saver', 'check_space', 'commit', 'save', 'saving']

SLICE = 2**20  # bytes: devices that hold one array share its writing where each one's part is as large

FULL = 'the disk is full'
FAILURES = (OSError, ValueError, RuntimeError)  # TensorStore's full disk is a ValueError


@dataclasses.dataclass
class Saver:
  """Saves the states of one run, and removes the steps that it need not keep."""

  folder: Path
  keep: int  # number of newest steps
  best: str  # a metric; '' for none
  values: dict[int, float]  # step -> metric
  manager: ocp.CheckpointManager
  under_way: int | None = None  # the step whose save has begun
  failed: Exception | None = None  # what its beginning raised
  lost: bool = False  # whether a save failed


@contextlib.contextmanager
def saving(workdir: Path, keep: int, best: str) -> Iterator[Saver]:
  """Yields a Saver whose saves run beside the training. When the block ends, however it ends, all are committed.

  Args:
    workdir: the run's folder.
    keep: number of newest steps to keep.
    best: the name of a metric; the step with its lowest value is kept, too. '' for none.
  """
  folder = (Path(workdir) / FOLDER).resolve()
  values: dict[int, float] = {}

  def prepare() -> None:
    make_folder(folder)
    folders.tidy(folder)
    values.update(measured(workdir, best) if best else {})

  cluster.first(prepare)
  with quiet(), _alarmed(folder):
    # A smaller part costs more to cut out, by a program of its own for each shape, than to write.
    handler = ocp.type_handlers.ArrayHandler(min_slice_bytes_for_replica_parallel=SLICE)
    ocp.type_handlers.register_type_handler(jax.Array, handler, override=True)
    saver = Saver(folder, max(1, keep), best, values, _manager(folder))
    try:
      yield saver
    finally:
      try:
        commit(saver)
      finally:
        _close(saver)


def save(saver: Saver, state: State, meta: dict[str, Any], metrics: dict[str, float], wait: bool = False) -> None:
  """Starts the save of a state under its own step number. The step counts once it is committed.

  Args:
    saver: of `saving`.
    state: the state.
    meta: JSON data; 'digest', 'shapes', 'metrics' and 'seal' are added.
    metrics: select the best step.
    wait: whether to return only when it is committed. If so, a failure that may pass is tried again.

  Raises:
    ValueError: the step is saved already.
    Halt: a number of the state is not finite, or this save or the one before it failed.
  """
  step = int(jax.device_get(state.step))
  if not _finished(saver):
    wait = True
  if exists(saver.folder / str(step)):
    raise ValueError(f'{saver.folder} has a checkpoint of step {step} already')
  if bad := first_bad(state):
    raise Halt(f'{bad} is not finite at step {step}, which is not saved', DIVERGED)
  meta = meta | {'digest': digest(state), 'shapes': shapes(state), 'metrics': metrics}
  meta |= {'seal': seal(meta)}
  args = ocp.args.Composite(state=ocp.args.StandardSave(state), meta=ocp.args.JsonSave(meta))
  for pause in PAUSES if wait else ():
    _begin(saver, step, args, metrics)
    if _finished(saver):
      return
    time.sleep(pause)
  _begin(saver, step, args, metrics)
  if wait:
    commit(saver)


def commit(saver: Saver) -> None:
  """Waits until the save under way is on the disk, and removes the steps that need not be kept.

  Raises:
    Halt: the save failed.
  """
  step, saver.under_way = saver.under_way, None
  if step is None:
    return
  with _committing(saver, step):
    if saver.failed:
      raise saver.failed
    saver.manager.wait_until_finished()
    if cluster.main_process():
      patiently(lambda: folders.sync_step(saver.folder / str(step)))
  if cluster.main_process():
    _prune(saver)


def check_space(workdir: Path, like: State) -> None:
  """Refuses a run without room for checkpoints: the next is written before the last but one is removed.

  Raises:
    UserError: fewer bytes are free than two states take.
  """
  there = next(path for path in (Path(workdir).absolute(), *Path(workdir).absolute().parents) if is_folder(path))
  needed, free = 2 * num_bytes(like), shutil.disk_usage(there).free
  if free < needed:
    raise UserError(f'{workdir} has {free:,} bytes free, and checkpoints need {needed:,}: free some space first')


def _manager(folder: Path) -> ocp.CheckpointManager:
  """Returns a manager that removes nothing: `_prune` does."""
  # If a folder is made beside the writing and cannot be, threads wait for it for ten minutes, beyond the program's end.
  folders_first = ocp.AsyncOptions(create_directories_asynchronously=False)
  options = ocp.CheckpointManagerOptions(async_options=folders_first)
  return ocp.CheckpointManager(folder, options=options, item_names=ITEMS)


def _close(saver: Saver) -> None:
  """Closes the manager. It raises once more what `commit` has told of."""
  try:
    saver.manager.close()
  except FAILURES:
    saver.lost = True
  if saver.lost:
    gc.collect()  # here, where they are not heard, the other writes of a failed save say that they were given up


def _finished(saver: Saver) -> bool:
  """Commits the save under way. Returns False, with a line, if it failed by what may be gone at the next attempt.

  Raises:
    Halt: the disk is full, or the run has several processes, which cannot try again each on its own.
  """
  step = saver.under_way
  try:
    commit(saver)
    return True
  except Halt as halt:
    if jax.process_count() > 1 or FULL in str(halt):
      raise
    print(f'warning: {halt}; the next save takes its place', file=sys.stderr)
  _close(saver)
  with contextlib.suppress(OSError):  # it may be whole and not on the disk
    folders.remove(saver.folder / str(step), force=True)
  saver.manager = _manager(saver.folder)
  return False


def _begin(saver: Saver, step: int, args: ocp.args.Composite, metrics: dict[str, float]) -> None:
  """Starts a save. `commit` tells whether it failed."""
  saver.failed, saver.under_way = None, step
  try:
    if not saver.manager.save(step, args=args, force=True):
      saver.failed = RuntimeError(f'the checkpoint of step {step} was not saved')
  except FAILURES as error:
    saver.failed = error
  if saver.best in metrics:
    saver.values[step] = metrics[saver.best]


def _prune(saver: Saver) -> None:
  """Removes the steps that are neither among the newest nor the best. A step that cannot be removed is named."""
  there = steps(saver.folder.parent)
  finite = {step: saver.values[step] for step in there if math.isfinite(saver.values.get(step, math.nan))}
  kept = {*there[-saver.keep :], *([min(finite, key=lambda step: finite[step])] if saver.best and finite else [])}
  for step in there:
    if step not in kept:
      try:
        folders.remove(saver.folder / str(step))
      except OSError as error:
        print(f'warning: {saver.folder / str(step)} cannot be removed ({error.strerror})', file=sys.stderr)


@contextlib.contextmanager
def _committing(saver: Saver, step: int | None) -> Iterator[None]:
  """Turns a failed save into one line, and removes what it left.

  Raises:
    Halt: the save failed; names the folder, the reason, the free bytes, and the checkpoint that remains.
  """
  try:
    yield
  except FAILURES as error:
    saver.lost = True
    message = _failure(error, saver.folder, step)
    if jax.process_count() > 1:
      cluster.leave(message, UNSAVED)  # the others wait for this process in Orbax
    raise Halt(message, UNSAVED) from error


def _failure(error: BaseException, folder: Path, step: int | None) -> str:
  """Removes what a failed save has left, and returns the line that reports it."""
  if cluster.main_process():
    folders.remove_drafts(folder, settle=0.2)
  free, kept = shutil.disk_usage(folder).free, [number for number in steps(folder.parent) if number != step]
  last = f'the last good one is of step {kept[-1]}' if kept else 'there is none yet'
  full = ('RESOURCE_EXHAUSTED' in str(error) and 'Too many open' not in str(error)) or 'No space' in str(error)
  why = FULL if full else reason(error)
  return f'no checkpoint can be written to {folder}: {why} ({free:,} bytes free); {last}'


class _Alarm(logging.Handler):
  """Ends this process of several when Orbax logs that its part of a save failed.

  Orbax tells of it only after all processes have met, and those that wait for this one never come.
  """

  def __init__(self, folder: Path):
    super().__init__(logging.ERROR)
    self.folder = folder

  def emit(self, record: logging.LogRecord) -> None:
    """Leaves, if the record is of a failed save."""
    if record.exc_info and record.exc_info[1] and 'Commit' in record.getMessage():
      cluster.leave(_failure(record.exc_info[1], self.folder, None), UNSAVED)


@contextlib.contextmanager
def _alarmed(folder: Path) -> Iterator[None]:
  """Keeps an alarm within the block, if there are several processes."""
  logger, alarm = logging.getLogger('absl'), _Alarm(folder)
  if jax.process_count() == 1:
    yield
    return
  before = logger.level, logger.propagate
  logger.addHandler(alarm)
  logger.setLevel(logging.ERROR)
  logger.propagate = False
  try:
    yield
  finally:
    logger.removeHandler(alarm)
    logger.setLevel(before[0])
    logger.propagate = before[1]
