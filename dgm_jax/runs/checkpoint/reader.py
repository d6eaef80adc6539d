"""Reading checkpoints: the newest good state of a run, its best step, parts of it. Reading never changes another's run.

What goes wrong is one of three. A step that is no longer there was removed by the run that trains: the list is read
again. Damage has proof that is seen twice: a digest or a seal that does not fit, or files that can all be read and are
cut, missing or wrong. Anything else may pass (a network file system, too few file descriptors, no right to read): it is
tried again after pauses, and then named.
"""

import contextlib
import enum
import functools
import gc
import hashlib
import json
import logging
import math
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from jax.sharding import NamedSharding, PartitionSpec

from dgm_jax.core import State
from dgm_jax.errors import UserError
from dgm_jax.internal import metrics as names
from dgm_jax.internal.files import PAUSES, may_pass, read_bytes
from dgm_jax.runs import lines
from dgm_jax.runs.checkpoint import folder as folders
from dgm_jax.runs.checkpoint.folder import FOLDER, reason, steps
from dgm_jax.runs.digest import digest, named_leaves, of, shapes
from dgm_jax.runtime import cluster

__all__ = [
  'DAMAGE', 'ITEMS', 'Restored', 'best_step', 'compare_shapes', 'measured', 'quiet', 'read_parts', 'restore', 'seal',
]  # fmt: skip

ITEMS = ('state', 'meta')
DAMAGE = (ValueError, KeyError, TypeError, OSError)  # what comes of reading a damaged file
HOOKS = ((sys, 'excepthook'), (sys, 'unraisablehook'), (threading, 'excepthook'))
LISTINGS = 100  # how often a step may vanish under a reader; with locks none does
# What TensorStore says of an error that is no property of the file; 2 is a missing file.
PASSING = re.compile(
  r'OS error (?!2\b)\d+|PERMISSION_DENIED|RESOURCE_EXHAUSTED|UNAVAILABLE|DEADLINE_EXCEEDED|ABORTED|CANCELLED'
  r"|can't start new thread"
)


class Restored(NamedTuple):
  """A state as it was saved, and the page that was saved with it."""

  state: State
  meta: dict[str, Any]
  step: int


class _Kind(enum.IntEnum):
  """What came of an attempt. If processes differ, the highest counts."""

  GOOD = 0
  GONE = 1
  PASSING = 2
  DAMAGED = 3
  REFUSED = 4


class _Outcome(NamedTuple):
  kind: _Kind
  value: Any = None
  why: str = ''


class _Damaged(ValueError):
  """A proof of damage."""


def restore(workdir: Path, like: State, step: int | None = None, trains: bool = False) -> Restored:
  """Restores the newest good state of a run, or that of one step.

  If a step is damaged, the one before it is restored. A line names both.

  Args:
    workdir: the run's folder.
    like: shapes, dtypes and shardings, as `jax.ShapeDtypeStruct` leaves.
    step: the step; the newest good one if None.
    trains: whether this process holds the folder to train in it; if so, damaged steps are renamed `<step>.corrupt`.

  Raises:
    UserError: there is no checkpoint, none is good, it cannot be read, or its shapes are not those of `like`.
  """
  notes: list[str] = []
  damaged: set[int] = set()
  # Process 0 lists the steps: all read the same one.
  candidates = lambda: cluster.first(lambda: [s for s in steps(workdir) if step in (None, s) and s not in damaged])
  if not candidates():
    raise UserError(_none(workdir, step))
  for number in _newest(candidates):
    path = Path(workdir) / FOLDER / str(number)
    outcome = _attempt(path, functools.partial(_restore_step, workdir, like, number), together=True)
    if outcome.kind == _Kind.GOOD:
      folders.warn(notes, f'; step {number} is taken')
      return outcome.value
    if outcome.kind == _Kind.DAMAGED:
      damaged.add(number)
      set_aside = folders.set_aside if trains and cluster.main_process() else folders.describe
      notes.append(set_aside(path, outcome.why))
  folders.warn(notes, '')
  if step is not None:
    raise UserError(f'the checkpoint of step {step} in {Path(workdir) / FOLDER} is damaged; it has {steps(workdir)}')
  raise UserError(f'no checkpoint in {Path(workdir) / FOLDER} is readable; move the folder away to start anew')


def best_step(workdir: Path, metric: str) -> int:
  """Returns the saved step whose metric was lowest.

  Raises:
    UserError: no saved step has that metric.
  """
  values = measured(workdir, metric)
  if not values:
    raise UserError(f"no checkpoint in {Path(workdir) / FOLDER} was saved with the metric '{metric}'")
  return min(values, key=lambda step: values[step])


def read_parts(workdir: Path, parts: list[str], like: dict[str, Any]) -> dict[str, Any]:
  """Reads named parts of the last checkpoint's state: {'params/encoder': tree}. Missing parts are left out.

  Args:
    workdir: the run's folder.
    parts: 'params/<network>', 'extra/<entry>'.
    like: a tree with the shardings of the arrays of the same path; other arrays are on all devices.

  Raises:
    UserError: there is no checkpoint, it cannot be read, or it has none of the requested networks.
    OSError, ValueError and others of `DAMAGE`: it is damaged.
  """
  if not steps(workdir):
    raise UserError('which has no checkpoint')
  for number in _newest(lambda: steps(workdir)):
    path = Path(workdir) / FOLDER / str(number)
    outcome = _attempt(path, functools.partial(_read_parts, workdir, parts, like, number))
    if outcome.kind == _Kind.DAMAGED:
      raise ValueError(outcome.why)
    if outcome.kind == _Kind.GOOD:
      return outcome.value
  raise UserError('which has no checkpoint')


def measured(workdir: Path, metric: str) -> dict[int, float]:
  """Returns step -> metric, of the readable steps that were saved with a value or measured after a restart.

  Steps from before the metric was renamed have its old name.

  Raises:
    UserError: a step cannot be read.
  """
  saved_steps = steps(workdir)
  if not saved_steps:
    return {}
  valid = [line for line in lines.read(Path(workdir) / 'metrics.jsonl') if line['split'] == 'valid']
  value_of = lambda page, none: page.get(metric, page.get(names.once(metric), none))
  later = {line['step']: value_of(line, math.nan) for line in valid}
  values = {}
  for step in saved_steps:
    outcome = _attempt(Path(workdir) / FOLDER / str(step), functools.partial(_page, Path(workdir) / FOLDER / str(step)))
    # A damaged page is not this function's to report: the step is only not the best.
    if outcome.kind == _Kind.GOOD:
      values[step] = value_of(outcome.value['metrics'], later.get(step, math.nan))
  return {step: value for step, value in values.items() if math.isfinite(value)}


def compare_shapes(subject: str, saved: dict[str, str], expected: dict[str, str]) -> None:
  """Compares saved shapes with expected ones, {path: 'float32[3]'} each.

  Raises:
    UserError: they differ; the message begins with `subject` and names the first array.
  """
  for path in sorted(saved.keys() | expected.keys()):
    there, here = saved.get(path, 'absent'), expected.get(path, 'absent')
    if there != here:
      raise UserError(f'{subject} {path} is {there} there and {here} here')


def seal(meta: dict[str, Any]) -> str:
  """Computes the fingerprint of a page."""
  return hashlib.sha256(json.dumps(meta, sort_keys=True).encode()).hexdigest()[:16]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
  """Silences what Orbax and its threads print about a failure, which is reported once."""
  loggers = [logging.getLogger(name) for name in ('absl', 'asyncio')]
  hooks = {(module, name): getattr(module, name) for module, name in HOOKS}
  levels = [logger.level for logger in loggers]
  for logger in loggers:
    logger.setLevel(logging.CRITICAL)
  for (module, name), hook in hooks.items():
    setattr(module, name, functools.partial(_report, hook))
  try:
    yield
  finally:
    for logger, level in zip(loggers, levels, strict=True):
      logger.setLevel(level)
    for (module, name), hook in hooks.items():
      setattr(module, name, hook)


def _report(hook: Callable, /, *error: Any) -> None:
  """Calls a hook for an uncaught exception, unless it is one of those that follow from a failure.

  When one of several reads or writes fails, the others find their event loop closed.
  """
  value = error[1] if len(error) == 3 else getattr(error[0], 'exc_value', '')
  if 'Event loop is closed' not in str(value):
    hook(*error)


def _none(workdir: Path, step: int | None) -> str:
  """Says which checkpoint there is not."""
  which = 'no checkpoint' if step is None else f'no checkpoint of step {step}; it has {steps(workdir)}'
  return f'{Path(workdir) / FOLDER} has {which}'


def _newest(candidates: Callable[[], list[int]]) -> Iterator[int]:
  """Yields the newest candidate again and again, until there is none."""
  for _ in range(LISTINGS):
    if not (left := candidates()):
      return
    yield left[-1]


def _attempt(path: Path, read: Callable[[], Any], together: bool = False) -> _Outcome:
  """Reads from the folder of a step until it works, the step is gone, or damage is proved twice.

  Args:
    path: the folder.
    read: reads once.
    together: whether all processes of a run read, and must agree.

  Raises:
    UserError: it cannot be read, or `read` raised it.
  """
  proofs, outcome = 0, _Outcome(_Kind.GONE)
  for pause in (0.0, *PAUSES):
    time.sleep(pause)
    outcome = _once(path, read)
    if together:
      outcome = _agree(outcome)
    proofs += outcome.kind == _Kind.DAMAGED
    if outcome.kind == _Kind.REFUSED:
      raise UserError(outcome.why)
    if outcome.kind in (_Kind.GOOD, _Kind.GONE) or proofs == 2:
      return outcome
  raise UserError(f'{path} cannot be read ({outcome.why}); nothing was changed: try again when that has passed')


def _once(path: Path, read: Callable[[], Any]) -> _Outcome:
  try:
    with folders.hold(path):
      return _Outcome(_Kind.GOOD, read())
  except UserError as error:
    return _Outcome(_Kind.REFUSED, why=str(error))
  except (MemoryError, jax.errors.JaxRuntimeError):  # no fault of the checkpoint
    raise
  except Exception as error:
    kind, why = _classify(error, path), reason(error)
  with quiet():
    gc.collect()  # here the other reads say that they were given up
  return _Outcome(kind, why=why)


def _agree(outcome: _Outcome) -> _Outcome:
  """Returns the outcome that all processes act on, since they must make the next attempt together."""
  if jax.process_count() == 1:
    return outcome
  pages = cluster.exchange(f'{int(outcome.kind)} {outcome.why}')
  kind, why = max(page.split(' ', 1) for page in pages)
  return outcome if int(kind) == outcome.kind else _Outcome(_Kind(int(kind)), why=why)


def _classify(error: Exception, path: Path) -> _Kind:
  if not path.is_dir():
    return _Kind.GONE
  if isinstance(error, _Damaged):
    return _Kind.DAMAGED
  chain: list[BaseException] = [error]
  while before := chain[-1].__cause__ or chain[-1].__context__:
    chain.append(before)
  passing = any(may_pass(e) if isinstance(e, OSError) else PASSING.search(str(e)) for e in chain)
  unknown = isinstance(error, ImportError | NotImplementedError)  # another version of a library
  return _Kind.PASSING if passing or unknown or not _whole(path) else _Kind.DAMAGED


def _whole(path: Path) -> bool:
  """Returns whether every file below a folder can be read to its end."""
  try:
    for file in path.rglob('*'):
      if file.is_file():
        with file.open('rb') as stream:
          while stream.read(2**24):
            pass
  except OSError:
    return False
  return True


@contextlib.contextmanager
def _reading(workdir: Path) -> Iterator[ocp.CheckpointManager]:
  """Yields a manager that does not change the folder."""
  folder = (Path(workdir) / FOLDER).resolve()
  with quiet():
    options = ocp.CheckpointManagerOptions(read_only=True)
    with contextlib.closing(ocp.CheckpointManager(folder, options=options, item_names=ITEMS)) as manager:
      yield manager


def _page(path: Path) -> dict[str, Any]:
  """Reads the JSON page of a step, which Orbax's JsonSave wrote.

  Raises:
    ValueError: the page is damaged.
  """
  meta = json.loads(read_bytes(path / 'meta' / 'metadata'))
  if meta.pop('seal') != seal(meta):
    raise _Damaged('the seal of its page does not fit')
  return meta


def _restore_step(workdir: Path, like: State, step: int) -> Restored:
  with _reading(workdir) as manager:
    path = Path(manager.directory) / str(step)
    meta = _page(path)
    compare_shapes(f'{path} was saved by another config:', meta['shapes'], shapes(like))
    state = manager.restore(step, args=ocp.args.Composite(state=ocp.args.StandardRestore(like)))['state']
  if digest(state) != meta['digest']:
    raise _Damaged('the digest does not fit')
  # Restored buffers are copied into ones of XLA's own, which donation can reuse.
  copy = jax.jit(lambda s: jax.tree.map(jnp.copy, s), out_shardings=jax.tree.map(lambda leaf: leaf.sharding, like))
  return Restored(copy(state), meta, step)


def _read_parts(workdir: Path, parts: list[str], like: dict[str, Any], step: int) -> dict[str, Any]:
  with _reading(workdir) as manager:
    digests = _page(Path(manager.directory) / str(step))['digest']
    for part in parts:
      if part.startswith('params/') and part not in digests:
        networks = ', '.join(key.removeprefix('params/') for key in digests if key.startswith('params/'))
        raise UserError(f'which has no such network; it has {networks}')
    there = [part for part in parts if part in digests]
    whole = ocp.PyTreeCheckpointHandler().metadata(manager.directory / str(step) / 'state').tree
    item = _placed(whole, there, like)
    args = ocp.args.PyTreeRestore(
      item, restore_args=ocp.checkpoint_utils.construct_restore_args(item), partial_restore=True
    )
    tree = manager.restore(step, args=ocp.args.Composite(state=args))['state']
  saved = {part: functools.reduce(lambda inner, key: inner[key], part.split('/'), tree) for part in there}
  if any(of(saved[part]) != digests[part] for part in there):
    raise _Damaged('the digest does not fit')
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
