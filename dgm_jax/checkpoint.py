"""Checkpoints: the only module that knows Orbax.

A step folder holds the state and, committed together with it, a JSON page: the
experiment, the versions, the shapes, and a digest of every part of the state.
Orbax restores flipped bits without a word; the digest does not.
"""

import contextlib
import hashlib
import itertools
import json
import logging
import math
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as policies

from dgm_jax.cli import UserError
from dgm_jax.core import State

FOLDER = 'checkpoints'
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
  """The committed steps of a run, in order; what is not a step folder is passed over."""
  folder = Path(workdir) / FOLDER
  if not folder.is_dir():
    return []
  return sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit() and (path / 'state').is_dir())


@contextlib.contextmanager
def saving(workdir: Path, keep: int, best: str) -> Iterator[ocp.CheckpointManager]:
  """A manager whose saves run beside the training and are all committed when the block ends, however it ends.

  Args:
    workdir: the run's folder.
    keep: so many newest steps are kept.
    best: the name of a metric; the step where it was lowest is kept, too. '' for none.
  """
  kept: list = [policies.LatestN(max(1, keep))]
  if best:
    kept.append(_Best(best, _measured(workdir, best)))
  options = ocp.CheckpointManagerOptions(
    preservation_policy=policies.AnyPreservationPolicy(kept), cleanup_tmp_directories=jax.process_index() == 0
  )
  manager = ocp.CheckpointManager((Path(workdir) / FOLDER).resolve(), options=options, item_names=('state', 'meta'))
  try:
    yield manager
  finally:
    manager.close()


def save(manager: ocp.CheckpointManager, state: State, meta: dict[str, Any], metrics: dict[str, float]) -> None:
  """Starts the save of a state under its own step number; the step stands once it is committed.

  Args:
    meta: JSON data; 'digest', 'shapes', 'metrics' and 'seal' are added.
    metrics: what the choice of the best step is made by.
  """
  step = int(jax.device_get(state.step))
  meta = meta | {'digest': digest(state), 'shapes': _shapes(state), 'metrics': metrics}
  meta |= {'seal': _seal(meta)}
  args = ocp.args.Composite(state=ocp.args.StandardSave(state), meta=ocp.args.JsonSave(meta))
  if not manager.save(step, args=args, metrics=metrics, force=True):
    raise RuntimeError(f'the checkpoint of step {step} was not saved in {manager.directory}')


def restore(workdir: Path, like: State, step: int | None = None) -> Restored:
  """The newest good state of a run, or that of the given step.

  A step whose digest does not fit, or that cannot be read, is renamed `<step>.corrupt`, and the one
  before it is taken.

  Args:
    like: shapes, dtypes and shardings, as `jax.ShapeDtypeStruct` leaves.

  Raises:
    UserError: there is no checkpoint, none is good, or its shapes are not those of `like`.
  """
  found = steps(workdir) if step is None else [s for s in steps(workdir) if s == step]
  if not found:
    which = 'no checkpoint' if step is None else f'no checkpoint of step {step}; it has {steps(workdir)}'
    raise UserError(f'{Path(workdir) / FOLDER} has {which}')
  with _reading(workdir) as manager:
    for number in reversed(found):
      try:
        return _restore_step(manager, like, number)
      except (UserError, MemoryError, jax.errors.JaxRuntimeError):  # no fault of the checkpoint
        raise
      except Exception as error:
        _set_aside(workdir, number, error)
  if step is not None:
    raise UserError(f'the checkpoint of step {step} in {Path(workdir) / FOLDER} was damaged; it has {steps(workdir)}')
  raise UserError(f'no checkpoint in {Path(workdir) / FOLDER} is readable; move the folder away to start anew')


def best_step(workdir: Path, metric: str) -> int:
  """The saved step whose metric was lowest.

  Raises:
    UserError: no saved step has that metric.
  """
  measured = _measured(workdir, metric)
  if not measured:
    raise UserError(f"no checkpoint in {Path(workdir) / FOLDER} was saved with the metric '{metric}'")
  return min(measured, key=lambda step: measured[step])


def graft(state: State, sources: dict[str, str]) -> State:
  """Takes the named networks from the last checkpoints of other runs.

  Args:
    sources: network name -> workdir.

  Raises:
    UserError: a run has no such network, or one of other shapes.
  """
  taken = {name: _read_network(Path(workdir), name, state.params.get(name, {})) for name, workdir in sources.items()}
  return state.replace(params=state.params | taken)


def digest(state: State) -> dict[str, str]:
  """A fingerprint of each part of the state, the same on any number of devices: {'params/encoder': '9c..'}."""
  parts = {'step': state.step}
  for field in ('params', 'opt', 'extra'):
    parts |= {f'{field}/{name}': part for name, part in getattr(state, field).items()}
  return {name: _digest_of(part) for name, part in sorted(parts.items())}


def _digest_of(tree) -> str:
  return '-'.join(f'{int(word):08x}' for word in jax.device_get(_fingerprint(jax.tree.leaves(tree))))


@jax.jit
def _fingerprint(leaves: list[jax.Array]) -> jax.Array:
  """Two sums modulo 2^32 over all words, weighted by position, [2] uint32.

  Sums of integers do not depend on the order of summation, hence not on the sharding; an odd weight
  lets no single flipped bit pass.
  """
  total = jnp.zeros(2, jnp.uint32)
  for number, leaf in enumerate(leaves):
    words = _words(leaf)
    place = jax.lax.iota(jnp.uint32, words.size).reshape(words.shape)
    first = (words * (2 * place + 1)).sum(dtype=jnp.uint32)
    second = ((words ^ jnp.uint32(0x9E3779B9)) * ((place * jnp.uint32(0x85EBCA6B)) | 1)).sum(dtype=jnp.uint32)
    total = total * jnp.uint32(0x01000193) + jnp.stack([first, second]) * jnp.uint32(2 * number + 1)
  return total


def _words(leaf: jax.Array) -> jax.Array:
  """The bits of an array as uint32, one word an element (two halves for 64 bits are added up)."""
  if leaf.dtype == jnp.bool_:
    return leaf.astype(jnp.uint32)
  bits = jax.lax.bitcast_convert_type(leaf, jnp.dtype(f'uint{8 * min(4, leaf.dtype.itemsize)}'))
  return bits.astype(jnp.uint32)


def _shapes(tree) -> dict[str, str]:
  """'path' -> 'float32[784,200]' for every leaf."""
  leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
  return {_path(path): f'{leaf.dtype}{list(leaf.shape)}'.replace(' ', '') for path, leaf in leaves}


def _path(path) -> str:
  return '/'.join(re.sub(r'\W', '', str(entry)) for entry in path)


@contextlib.contextmanager
def _reading(workdir: Path) -> Iterator[ocp.CheckpointManager]:
  """A manager that leaves the folder as it is."""
  orbax = logging.getLogger('absl')
  level = orbax.level
  orbax.setLevel(logging.CRITICAL)  # what is wrong is told once, by us
  try:
    options = ocp.CheckpointManagerOptions(read_only=True)
    folder = (Path(workdir) / FOLDER).resolve()
    with contextlib.closing(ocp.CheckpointManager(folder, options=options, item_names=('state', 'meta'))) as manager:
      yield manager
  finally:
    orbax.setLevel(level)


def _page(manager: ocp.CheckpointManager, step: int) -> dict[str, Any]:
  """The JSON page of a step.

  Raises:
    ValueError: it is damaged.
  """
  meta = manager.restore(step, args=ocp.args.Composite(meta=ocp.args.JsonRestore()))['meta']
  seal = meta.pop('seal')
  if seal != _seal(meta):
    raise ValueError('the seal of its page does not fit')
  return meta


def _seal(meta: dict[str, Any]) -> str:
  return hashlib.sha256(json.dumps(meta, sort_keys=True).encode()).hexdigest()[:16]


def _measured(workdir: Path, metric: str) -> dict[int, float]:
  """Step -> metric, of the readable steps that were saved with a value of it."""
  values, found = {}, steps(workdir)
  if not found:
    return {}
  with _reading(workdir) as manager:
    for step in found:
      # A damaged page is not this function's to report: the step is only not the best.
      with contextlib.suppress(*DAMAGE):
        values[step] = _page(manager, step)['metrics'].get(metric, math.nan)
  return {step: value for step, value in values.items() if math.isfinite(value)}


def _restore_step(manager: ocp.CheckpointManager, like: State, step: int) -> Restored:
  meta = _page(manager, step)
  _compare_shapes(f'{manager.directory / str(step)} was saved by another config:', meta['shapes'], _shapes(like))
  state = manager.restore(step, args=ocp.args.Composite(state=ocp.args.StandardRestore(like)))['state']
  if digest(state) != meta['digest']:
    raise ValueError('the digest does not fit')
  # Restored buffers are copied into ones of XLA's own, which donation can reuse.
  copy = jax.jit(lambda s: jax.tree.map(jnp.copy, s), out_shardings=jax.tree.map(lambda leaf: leaf.sharding, like))
  return Restored(copy(state), meta, step)


def _compare_shapes(subject: str, saved: dict[str, str], expected: dict[str, str]) -> None:
  for path in sorted(saved.keys() | expected.keys()):
    there, here = saved.get(path, 'absent'), expected.get(path, 'absent')
    if there != here:
      raise UserError(f'{subject} {path} is {there} there and {here} here')


def _set_aside(workdir: Path, step: int, error: Exception) -> None:
  folder = Path(workdir) / FOLDER / str(step)
  if not folder.is_dir():  # another process has set it aside, or a run that is still training has removed it
    return
  aside = next(path for path in _names(folder) if not path.exists())
  if jax.process_index() == 0:
    with contextlib.suppress(FileNotFoundError):
      folder.rename(aside)
  print(f'warning: the checkpoint {folder} is damaged and now {aside.name} ({_reason(error)})', file=sys.stderr)


def _reason(error: Exception) -> str:
  return (str(error).splitlines() or [type(error).__name__])[0][:200]


def _names(folder: Path) -> Iterator[Path]:
  """Where a damaged step may go: 4.corrupt, 4.corrupt2, ..."""
  return (folder.with_name(f'{folder.name}.corrupt{number}') for number in itertools.chain([''], itertools.count(2)))


def _read_network(workdir: Path, name: str, like) -> Any:
  """One network of the last checkpoint, in the shardings of `like`."""
  found, subject = steps(workdir), f"config.graft takes '{name}' from {workdir}, "
  if not found:
    raise UserError(f'{subject}which has no checkpoint')
  try:
    with _reading(workdir) as manager:
      return _take(manager, found[-1], subject, name, like)
  except DAMAGE as error:
    raise UserError(f'{subject}which is damaged ({_reason(error)})') from error


def _take(manager: ocp.CheckpointManager, step: int, subject: str, name: str, like) -> Any:
  meta = _page(manager, step)
  if f'params/{name}' not in meta['digest']:
    known = ', '.join(key.removeprefix('params/') for key in meta['digest'] if key.startswith('params/'))
    raise UserError(f'{subject}which has no such network; it has {known}')
  saved = {path: shape for path, shape in meta['shapes'].items() if path.startswith(f'params/{name}/')}
  _compare_shapes(f'{subject}but', saved, _shapes({'params': {name: like}}))
  item = {'params': {name: jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), like)}}
  restore = ocp.args.PyTreeRestore(
    item, restore_args=ocp.checkpoint_utils.construct_restore_args(item), partial_restore=True
  )
  network = manager.restore(step, args=ocp.args.Composite(state=restore))['state']['params'][name]
  if _digest_of(network) != meta['digest'][f'params/{name}']:
    raise ValueError('the digest does not fit')
  return network
