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
import math
import os
import re
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
from dgm_jax.internal.files import PAUSES, is_folder, may_pass, open_regular, read_bytes
from dgm_jax.runs import lines
from dgm_jax.runs.checkpoint import folder as folders
from dgm_jax.runs.checkpoint.folder import FOLDER, reason, steps
from dgm_jax.runs.checkpoint.quiet import quiet
from dgm_jax.runs.digest import digest, named_leaves, of, shapes
from dgm_jax.runtime import cluster

__all__ = [
  'DAMAGE', 'ITEMS', 'Restored', 'best_step', 'compare_shapes', 'measured', 'read_parts', 'restore', 'seal',
]  # fmt: skip

ITEMS = ('state', 'meta')
DAMAGE = (ValueError, KeyError, TypeError, OSError)  # what comes of reading a damaged file
PROOF_PAUSE = 0.5  # seconds between two proofs: a network file system may show an old view
LISTINGS = 100  # how often a step may vanish under a reader; with locks none does
# What TensorStore says of an error that is no property of the file; 2 is a missing file.
PASSING = re.compile(
  r'OS error (?!2\b)\d+|PERMISSION_DENIED|RESOURCE_EXHAUSTED|UNAVAILABLE|DEADLINE_EXCEEDED|ABORTED|CANCELLED'
  r"|can't start new thread|sync_global_devices"
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


def restore(workdir: Path, like: State, step: int | Callable[[], int] | None = None, trains: bool = False) -> Restored:
  """Restores the newest good state of a run, or that of one step.

  If the newest step is damaged, the one before it is restored. A line names both.

  Args:
    workdir: the run's folder.
    like: shapes, dtypes and shardings, as `jax.ShapeDtypeStruct` leaves.
    step: the step, or a function that looks for it anew if it was removed meanwhile; the newest good one if None.
    trains: whether this process holds the folder to train in it; if so, damaged steps are renamed `<step>.corrupt`.

  Raises:
    UserError: there is no checkpoint, none is good, it cannot be read, or its shapes are not those of `like`.
  """
  damaged: dict[int, str] = {}

  def candidates() -> list[int]:
    wanted = step() if callable(step) else step
    return [s for s in steps(workdir) if wanted in (None, s) and s not in damaged]

  after, settled = '', False  # whether a step was restored, or none is good
  try:
    for number in _newest(lambda: cluster.first(candidates)):  # process 0 lists the steps: all read the same one
      read = functools.partial(_read_step, workdir, like, number)
      outcome = _attempt(Path(workdir) / FOLDER / str(number), read, _restored, together=True)
      if outcome.kind == _Kind.GOOD:
        after, settled = f'; step {number} is taken', True
        return outcome.value
      if outcome.kind == _Kind.DAMAGED:
        damaged[number] = outcome.why
    if not damaged:
      raise UserError(_none(workdir, step))
    settled = True
  finally:
    # A command that is refused for another reason renames nothing.
    aside = folders.set_aside if trains and settled and cluster.main_process() else folders.describe
    folders.warn([aside(Path(workdir) / FOLDER / str(n), why) for n, why in damaged.items()], after)
  if step is not None:
    which = f'the checkpoint of step {next(iter(damaged))} in {Path(workdir) / FOLDER}'
    raise UserError(f'{which} is damaged; it has {steps(workdir)}')
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
  for number in _newest(lambda: cluster.first(lambda: steps(workdir))):
    path = Path(workdir) / FOLDER / str(number)
    read = functools.partial(_read_parts, workdir, parts, like, number)
    outcome = _attempt(path, read, _checked_parts, together=True)
    if outcome.kind == _Kind.DAMAGED:
      raise ValueError(outcome.why)
    if outcome.kind == _Kind.GOOD:
      return outcome.value
  raise UserError('which has no checkpoint')


def measured(workdir: Path, metric: str, listings: int = LISTINGS) -> dict[int, float]:
  """Returns step -> metric, of the readable steps that were saved with a value or measured after a restart.

  Steps from before the metric was renamed have its old name. If a step is removed meanwhile, the steps are listed
  again, so many times.

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
    path = Path(workdir) / FOLDER / str(step)
    outcome = _attempt(path, functools.partial(_page, path))
    if outcome.kind == _Kind.GONE and listings:
      return measured(workdir, metric, listings - 1)
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


def _none(workdir: Path, step: int | Callable[[], int] | None) -> str:
  """Says which checkpoint there is not."""
  number = f'no checkpoint of step {step}' if isinstance(step, int) else 'no checkpoint'
  return f'{Path(workdir) / FOLDER} has {number}' + (f'; it has {steps(workdir)}' if step is not None else '')


def _newest(candidates: Callable[[], list[int]]) -> Iterator[int]:
  """Yields the newest candidate again and again, until there is none."""
  for _ in range(LISTINGS):
    if not (left := candidates()):
      return
    yield left[-1]


def _attempt(
  path: Path, read: Callable[[], Any], check: Callable[[Any], Any] = lambda value: value, together: bool = False
) -> _Outcome:
  """Reads from the folder of a step until it works, the step is gone, or damage is proved twice.

  Args:
    path: the folder.
    read: reads once. It does not wait for other processes.
    check: what was read -> the value; where all processes read, they check together.
    together: whether all processes of a run read, and must agree.

  Raises:
    UserError: it cannot be read, or `read` raised it.
  """
  proofs, outcome, agree = 0, _Outcome(_Kind.GONE), _agree if together else (lambda outcome: outcome)
  for pause in (0.0, *PAUSES):
    time.sleep(max(pause, PROOF_PAUSE) if proofs else pause)
    outcome = agree(_once(path, read))
    if outcome.kind == _Kind.GOOD:
      outcome = agree(_once(path, lambda value=outcome.value: check(value)))
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
  if not is_folder(path):
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
  """Returns whether every folder below a folder can be listed, and every file be read to its end."""

  def fail(error: OSError) -> None:
    raise error

  try:
    for folder, _, names in os.walk(path, onerror=fail):
      for name in names:
        with open_regular(Path(folder) / name) as stream:
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
    # Each process reads for itself: one that waited for another in Orbax could not tell it of a failure.
    own = jax.process_index()
    alone = ocp.options.MultiprocessingOptions(own, {own}, f'reader_{own}') if jax.process_count() > 1 else None
    more = {'multiprocessing_options': alone} if alone else {}
    options = ocp.CheckpointManagerOptions(read_only=True, **more)
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


def _read_step(workdir: Path, like: State, step: int) -> Restored:
  """Reads a step, the state still unchecked."""
  with _reading(workdir) as manager:
    path = Path(manager.directory) / str(step)
    meta = _page(path)
    compare_shapes(f'{path} was saved by another config:', meta['shapes'], shapes(like))
    state = manager.restore(step, args=ocp.args.Composite(state=ocp.args.StandardRestore(like)))['state']
  return Restored(state, meta, step)


def _restored(read: Restored) -> Restored:
  """Checks the digest of a state.

  Raises:
    ValueError: it does not fit.
  """
  if digest(read.state) != read.meta['digest']:
    raise _Damaged('the digest does not fit')
  # Restored buffers are copied into ones of XLA's own, which donation can reuse.
  shardings = jax.tree.map(lambda leaf: leaf.sharding, read.state)
  copy = jax.jit(lambda s: jax.tree.map(jnp.copy, s), out_shardings=shardings)
  return read._replace(state=copy(read.state))


def _read_parts(workdir: Path, parts: list[str], like: dict[str, Any], step: int) -> tuple[dict, dict]:
  """Reads parts of a step, still unchecked, and the digests of its page."""
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
  return saved, digests


def _checked_parts(read: tuple[dict, dict]) -> dict[str, Any]:
  """Checks the digests of parts.

  Raises:
    ValueError: one does not fit.
  """
  saved, digests = read
  if any(of(tree) != digests[part] for part, tree in saved.items()):
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
