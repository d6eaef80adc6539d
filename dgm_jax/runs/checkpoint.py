"""Checkpoints: the only module that knows Orbax.

A step folder holds the state and, committed with it, a JSON page: experiment, versions, shapes, a digest of each part.
Orbax restores flipped bits without a word, and stores a NaN like any number; we do not.
"""

import contextlib
import functools
import hashlib
import itertools
import json
import logging
import math
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding, PartitionSpec
from orbax.checkpoint import checkpoint_managers as policies

from dgm_jax.core import State
from dgm_jax.errors import DIVERGED, UNSAVED, Halt, UserError
from dgm_jax.internal import metrics as names
from dgm_jax.runs import lines
from dgm_jax.runs.digest import digest, first_bad, named_leaves, num_bytes, of, shapes

__all__ = [
  'DAMAGE', 'best_step', 'check_space', 'commit', 'compare_shapes', 'read_parts', 'reason', 'restore', 'save', 'saving',
  'steps',
]  # fmt: skip

FOLDER = 'checkpoints'
ITEMS = ('state', 'meta')
SLICE = 2**20  # bytes: devices that hold one array share its writing where each one's part is as large
UNFINISHED = '*.orbax-checkpoint-tmp*'  # what Orbax writes to before it renames
DAMAGE = (ValueError, KeyError, TypeError, OSError)  # what comes of reading a damaged file


class _Best(NamedTuple):
  """Orbax's policy for keeping the step whose metric is lowest, also when it was saved before the run was resumed."""

  metric: str
  before: dict[int, float]  # step -> metric, of earlier starts

  def should_preserve(self, checkpoints, *, context) -> list[bool]:
    del context
    values = [(info.metrics or {}).get(self.metric, self.before.get(info.step, math.nan)) for info in checkpoints]
    lowest = min(filter(math.isfinite, values), default=None)
    return [value == lowest for value in values]


class Restored(NamedTuple):
  """A state as it was saved, and the page that was saved with it."""

  state: State
  meta: dict[str, Any]
  step: int


def steps(workdir: Path) -> list[int]:
  """Returns the committed steps of a run, in order. Other folders are ignored."""
  folder = Path(workdir) / FOLDER
  if not folder.is_dir():
    return []
  return sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit() and (path / 'state').is_dir())


@contextlib.contextmanager
def saving(workdir: Path, keep: int, best: str) -> Iterator[ocp.CheckpointManager]:
  """Yields a manager whose saves run beside the training. When the block ends, however it ends, all are committed.

  Args:
    workdir: the run's folder.
    keep: number of newest steps to keep.
    best: the name of a metric; the step with its lowest value is kept, too. '' for none.
  """
  folder = (Path(workdir) / FOLDER).resolve()
  _tidy(folder)
  kept: list = [policies.LatestN(max(1, keep))]
  if best:
    kept.append(_Best(best, _measured(workdir, best)))
  options = ocp.CheckpointManagerOptions(preservation_policy=policies.AnyPreservationPolicy(kept))
  with _quiet():
    # A smaller part costs more to cut out, by a program of its own for each shape, than to write.
    handler = ocp.type_handlers.ArrayHandler(min_slice_bytes_for_replica_parallel=SLICE)
    ocp.type_handlers.register_type_handler(jax.Array, handler, override=True)
    manager = ocp.CheckpointManager(folder, options=options, item_names=ITEMS)
    try:
      yield manager
    finally:
      with contextlib.closing(manager), _committing(folder):
        manager.wait_until_finished()


def save(manager: ocp.CheckpointManager, state: State, meta: dict[str, Any], metrics: dict[str, float]) -> None:
  """Starts the save of a state under its own step number. The step counts once it is committed.

  Args:
    manager: of `saving`.
    state: the state.
    meta: JSON data; 'digest', 'shapes', 'metrics' and 'seal' are added.
    metrics: select the best step.

  Raises:
    Halt: a number of the state is not finite, or this save or the one before it failed.
  """
  step, folder = int(jax.device_get(state.step)), Path(manager.directory)
  if bad := first_bad(state):
    raise Halt(f'{bad} is not finite at step {step}, which is not saved', DIVERGED)
  meta = meta | {'digest': digest(state), 'shapes': shapes(state), 'metrics': metrics}
  meta |= {'seal': _seal(meta)}
  args = ocp.args.Composite(state=ocp.args.StandardSave(state), meta=ocp.args.JsonSave(meta))
  with _committing(folder):
    saved = manager.save(step, args=args, metrics=metrics, force=True)
  if not saved:
    raise RuntimeError(f'the checkpoint of step {step} was not saved in {folder}')


def commit(manager: ocp.CheckpointManager) -> None:
  """Waits until the save under way is committed.

  Raises:
    Halt: the save failed.
  """
  with _committing(Path(manager.directory)):
    manager.wait_until_finished()


def check_space(workdir: Path, like: State) -> None:
  """Refuses a run without room for checkpoints: the next is written before the last but one is removed.

  Raises:
    UserError: fewer bytes are free than two states take.
  """
  needed, free = 2 * num_bytes(like), shutil.disk_usage(workdir).free
  if free < needed:
    raise UserError(f'{workdir} has {free:,} bytes free, and checkpoints need {needed:,}: free some space first')


def restore(workdir: Path, like: State, step: int | None = None) -> Restored:
  """Restores the newest good state of a run, or that of one step.

  If a step is damaged, it is renamed `<step>.corrupt`, and the one before it is restored. A line names both.

  Args:
    workdir: the run's folder.
    like: shapes, dtypes and shardings, as `jax.ShapeDtypeStruct` leaves.
    step: the step; the newest good one if None.

  Raises:
    UserError: there is no checkpoint, none is good, or its shapes are not those of `like`.
  """
  candidates = steps(workdir) if step is None else [s for s in steps(workdir) if s == step]
  if not candidates:
    which = 'no checkpoint' if step is None else f'no checkpoint of step {step}; it has {steps(workdir)}'
    raise UserError(f'{Path(workdir) / FOLDER} has {which}')
  notes: list[str] = []
  with _reading(workdir) as manager:
    for number in reversed(candidates):
      try:
        restored = _restore_step(manager, like, number)
        _warn(notes, f'; step {number} is taken')
        return restored
      except (UserError, MemoryError, jax.errors.JaxRuntimeError):  # no fault of the checkpoint
        raise
      except Exception as error:
        notes += _set_aside(workdir, number, reason(error))
  _warn(notes, '')
  if step is not None:
    raise UserError(f'the checkpoint of step {step} in {Path(workdir) / FOLDER} was damaged; it has {steps(workdir)}')
  raise UserError(f'no checkpoint in {Path(workdir) / FOLDER} is readable; move the folder away to start anew')


def best_step(workdir: Path, metric: str) -> int:
  """Returns the saved step whose metric was lowest.

  Raises:
    UserError: no saved step has that metric.
  """
  measured = _measured(workdir, metric)
  if not measured:
    raise UserError(f"no checkpoint in {Path(workdir) / FOLDER} was saved with the metric '{metric}'")
  return min(measured, key=lambda step: measured[step])


def read_parts(workdir: Path, parts: list[str], like: dict[str, Any]) -> dict[str, Any]:
  """Reads named parts of the last checkpoint's state: {'params/encoder': tree}. Missing parts are left out.

  Args:
    workdir: the run's folder.
    parts: 'params/<network>', 'extra/<entry>'.
    like: a tree with the shardings of the arrays of the same path; other arrays are on all devices.

  Raises:
    UserError: there is no checkpoint, or it has none of the requested networks.
    OSError, ValueError and others of `DAMAGE`: it is damaged.
  """
  saved_steps = steps(workdir)
  if not saved_steps:
    raise UserError('which has no checkpoint')
  with _reading(workdir) as manager:
    digests = _page(manager, saved_steps[-1])['digest']
    for part in parts:
      if part.startswith('params/') and part not in digests:
        networks = ', '.join(key.removeprefix('params/') for key in digests if key.startswith('params/'))
        raise UserError(f'which has no such network; it has {networks}')
    there = [part for part in parts if part in digests]
    whole = ocp.PyTreeCheckpointHandler().metadata(manager.directory / str(saved_steps[-1]) / 'state').tree
    item = _placed(whole, there, like)
    restore = ocp.args.PyTreeRestore(
      item, restore_args=ocp.checkpoint_utils.construct_restore_args(item), partial_restore=True
    )
    tree = manager.restore(saved_steps[-1], args=ocp.args.Composite(state=restore))['state']
  saved = {part: functools.reduce(lambda inner, key: inner[key], part.split('/'), tree) for part in there}
  if any(of(saved[part]) != digests[part] for part in there):
    raise ValueError('the digest does not fit')
  return saved


def _placed(whole: dict, parts: list[str], like: dict) -> dict[str, Any]:
  """Returns shapes of saved parts with the shardings of `like`. Paths that `like` lacks are on all its devices."""
  shardings = {path: leaf.sharding for path, leaf in named_leaves(like)}
  one = next(iter(shardings.values()), None)
  everywhere = NamedSharding(one.mesh, PartitionSpec()) if isinstance(one, NamedSharding) else one
  item: dict[str, dict] = {}
  for field, name in (part.split('/') for part in parts):
    item.setdefault(field, {})[name] = whole[field][name]
  placed = [shardings.get(path, everywhere) for path, _ in named_leaves(item)]
  leaves, structure = jax.tree.flatten(item)
  shapes = [jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=put) for x, put in zip(leaves, placed, strict=True)]
  return jax.tree.unflatten(structure, shapes)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
  """Silences what Orbax and its threads print about a failure, which `_committing` reports once."""
  logger, hook = logging.getLogger('absl'), threading.excepthook
  level = logger.level
  logger.setLevel(logging.CRITICAL)
  # When one of several reads or writes fails, the others find their event loop closed.
  threading.excepthook = lambda args: None if 'Event loop is closed' in str(args.exc_value) else hook(args)
  try:
    yield
  finally:
    logger.setLevel(level)
    threading.excepthook = hook


@contextlib.contextmanager
def _committing(folder: Path) -> Iterator[None]:
  """Turns a failed save into one line, and removes what it left.

  Raises:
    Halt: the save failed; names the folder, the reason, the free bytes, and the checkpoint that remains.
  """
  try:
    yield
  except (OSError, ValueError, RuntimeError) as error:  # TensorStore's full disk is a ValueError
    if jax.process_index() == 0:
      _remove_drafts(folder, settle=0.2)
    free, kept = shutil.disk_usage(folder).free, steps(folder.parent)
    last = f'the last good one is of step {kept[-1]}' if kept else 'there is none yet'
    why = 'the disk is full' if 'RESOURCE_EXHAUSTED' in str(error) or 'No space' in str(error) else reason(error)
    raise Halt(f'no checkpoint can be written to {folder}: {why} ({free:,} bytes free); {last}', UNSAVED) from error


def _remove_drafts(folder: Path, settle: float = 0.0, tries: int = 20) -> None:
  """Removes the files of unfinished saves, until no file comes back within `settle` seconds.

  If one of several writes fails, the others go on, and put files back into a folder that is being removed.
  """
  for _ in range(tries):
    for draft in folder.glob(UNFINISHED):
      shutil.rmtree(draft, ignore_errors=True)
    time.sleep(settle)
    if not any(folder.glob(UNFINISHED)):
      return


def _tidy(folder: Path) -> None:
  """Removes drafts of killed saves, sets aside half-deleted steps, and names all other files."""
  if jax.process_index() == 0 and folder.is_dir():
    _remove_drafts(folder)
    whole = {str(step) for step in steps(folder.parent)}
    for path in sorted(folder.iterdir()):
      # Orbax would count it among the newest, and drop a good one for it.
      if path.name.isdigit() and path.name not in whole:
        _warn(_set_aside(folder.parent, int(path.name), 'it holds no state'), '')
      elif path.name not in whole and '.corrupt' not in path.name:
        print(f'warning: {path} is no checkpoint and is ignored', file=sys.stderr)
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices('checkpoints')


@contextlib.contextmanager
def _reading(workdir: Path) -> Iterator[ocp.CheckpointManager]:
  """Yields a manager that does not change the folder."""
  folder = (Path(workdir) / FOLDER).resolve()
  with _quiet():
    options = ocp.CheckpointManagerOptions(read_only=True)
    with contextlib.closing(ocp.CheckpointManager(folder, options=options, item_names=ITEMS)) as manager:
      yield manager


def _page(manager: ocp.CheckpointManager, step: int) -> dict[str, Any]:
  """Reads the JSON page of a step.

  Raises:
    ValueError: the page is damaged.
  """
  meta = manager.restore(step, args=ocp.args.Composite(meta=ocp.args.JsonRestore()))['meta']
  seal = meta.pop('seal')
  if seal != _seal(meta):
    raise ValueError('the seal of its page does not fit')
  return meta


def _seal(meta: dict[str, Any]) -> str:
  return hashlib.sha256(json.dumps(meta, sort_keys=True).encode()).hexdigest()[:16]


def _measured(workdir: Path, metric: str) -> dict[int, float]:
  """Returns step -> metric, of the readable steps that were saved with a value or measured after a restart.

  Steps from before the metric was renamed have its old name.
  """
  saved_steps = steps(workdir)
  if not saved_steps:
    return {}
  valid = [line for line in lines.read(Path(workdir) / 'metrics.jsonl') if line['split'] == 'valid']
  value_of = lambda page, none: page.get(metric, page.get(names.once(metric), none))
  later = {line['step']: value_of(line, math.nan) for line in valid}
  values = {}
  with _reading(workdir) as manager:
    for step in saved_steps:
      # A damaged page is not this function's to report: the step is only not the best.
      with contextlib.suppress(*DAMAGE):
        values[step] = value_of(_page(manager, step)['metrics'], later.get(step, math.nan))
  return {step: value for step, value in values.items() if math.isfinite(value)}


def _restore_step(manager: ocp.CheckpointManager, like: State, step: int) -> Restored:
  meta = _page(manager, step)
  compare_shapes(f'{manager.directory / str(step)} was saved by another config:', meta['shapes'], shapes(like))
  state = manager.restore(step, args=ocp.args.Composite(state=ocp.args.StandardRestore(like)))['state']
  if digest(state) != meta['digest']:
    raise ValueError('the digest does not fit')
  # Restored buffers are copied into ones of XLA's own, which donation can reuse.
  copy = jax.jit(lambda s: jax.tree.map(jnp.copy, s), out_shardings=jax.tree.map(lambda leaf: leaf.sharding, like))
  return Restored(copy(state), meta, step)


def compare_shapes(subject: str, saved: dict[str, str], expected: dict[str, str]) -> None:
  """Compares saved shapes with expected ones, {path: 'float32[3]'} each.

  Raises:
    UserError: they differ; the message begins with `subject` and names the first array.
  """
  for path in sorted(saved.keys() | expected.keys()):
    there, here = saved.get(path, 'absent'), expected.get(path, 'absent')
    if there != here:
      raise UserError(f'{subject} {path} is {there} there and {here} here')


def _set_aside(workdir: Path, step: int, reason: str) -> list[str]:
  """Renames a damaged step. Returns the line that reports it, if there is one."""
  folder = Path(workdir) / FOLDER / str(step)
  if not folder.exists():  # another process has set it aside, or a run that is still training has removed it
    return []
  aside = next(path for path in _names(folder) if not path.exists())
  if jax.process_index() == 0:
    try:
      folder.rename(aside)
    except FileNotFoundError:
      return []
    except OSError as error:
      return [f'warning: the checkpoint {folder} is damaged ({reason}) and cannot be renamed ({error.strerror})']
  return [f'warning: the checkpoint {folder} is damaged and now {aside.name} ({reason})']


def _warn(notes: list[str], end: str) -> None:
  print(*(note + end + '\n' for note in notes), sep='', end='', file=sys.stderr)


def reason(error: Exception) -> str:
  """Returns the first line of an error."""
  return (str(error).splitlines() or [type(error).__name__])[0][:200]


def _names(folder: Path) -> Iterator[Path]:
  """Yields the possible names of a damaged step: 4.corrupt, 4.corrupt2, ..."""
  return (folder.with_name(f'{folder.name}.corrupt{number}') for number in itertools.chain([''], itertools.count(2)))
