"""Checkpoints: the only module that knows Orbax.

A step folder holds the state and, committed together with it, a JSON page: the
experiment, the versions, the shapes, and a digest of every part of the state.
Orbax restores flipped bits without a word; the digest does not.
"""

import contextlib
import math
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as policies

from dgm_jax.cli import UserError
from dgm_jax.core import State

FOLDER = 'checkpoints'


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
    # A step without the metric has not been measured: it counts as worst.
    kept.append(
      policies.BestN(get_metric_fn=lambda m: -m.get(best, math.inf), n=1, keep_checkpoints_without_metrics=False)
    )
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
    meta: JSON data; 'digest' and 'shapes' are added.
    metrics: what the choice of the best step is made by.
  """
  step = int(jax.device_get(state.step))
  meta = meta | {'digest': digest(state), 'shapes': _shapes(state)}
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
  for step in reversed(found):
    try:
      return _restore_step(workdir, like, step)
    except UserError:
      raise
    except Exception as error:
      _set_aside(workdir, step, error)
  raise UserError(f'no checkpoint in {Path(workdir) / FOLDER} is readable; move the folder away to start anew')


def best_step(workdir: Path, metric: str) -> int:
  """The saved step whose metric was lowest.

  Raises:
    UserError: no saved step has that metric.
  """
  with _reading(workdir) as manager:
    values = {step: (manager.metrics(step) or {}).get(metric) for step in steps(workdir)}
  measured = {step: value for step, value in values.items() if value is not None}
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
  params = dict(state.params)
  for name, workdir in sources.items():
    saved, meta = _read_network(Path(workdir), name)
    got, expected = _shapes({name: saved}), _shapes({name: params.get(name, {})})
    if got != expected:
      other = next(path for path in sorted(got.keys() | expected.keys()) if got.get(path) != expected.get(path))
      raise UserError(
        f"config.graft takes '{name}' from {workdir}, but {other} is {got.get(other, 'absent')} there"
        f' and {expected.get(other, "absent")} here'
      )
    if _digest_of(saved) != meta['digest'][f'params/{name}']:
      raise UserError(f"config.graft: '{name}' of {workdir} is damaged (its digest does not fit)")
    params[name] = jax.tree.map(lambda new, old: jax.device_put(new, old.sharding), saved, params[name])
  return state.replace(params=params)


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


def _reading(workdir: Path):
  options = ocp.CheckpointManagerOptions(read_only=True)
  folder = (Path(workdir) / FOLDER).resolve()
  return contextlib.closing(ocp.CheckpointManager(folder, options=options, item_names=('state', 'meta')))


def _restore_step(workdir: Path, like: State, step: int) -> Restored:
  with _reading(workdir) as manager:
    meta = manager.restore(step, args=ocp.args.Composite(meta=ocp.args.JsonRestore()))['meta']
    _compare_shapes(Path(workdir) / FOLDER / str(step), meta['shapes'], _shapes(like))
    state = manager.restore(step, args=ocp.args.Composite(state=ocp.args.StandardRestore(like)))['state']
  if digest(state) != meta['digest']:
    raise ValueError('the digest does not fit')
  # Restored buffers are copied into ones of XLA's own, which donation can reuse.
  copy = jax.jit(lambda s: jax.tree.map(jnp.copy, s), out_shardings=jax.tree.map(lambda leaf: leaf.sharding, like))
  return Restored(copy(state), meta, step)


def _compare_shapes(where: Path, saved: dict[str, str], expected: dict[str, str]) -> None:
  for path in sorted(saved.keys() | expected.keys()):
    if saved.get(path) != expected.get(path):
      raise UserError(
        f'{where} was saved by another config: {path} is {saved.get(path, "absent")} there'
        f' and {expected.get(path, "absent")} here'
      )


def _set_aside(workdir: Path, step: int, error: Exception) -> None:
  folder = Path(workdir) / FOLDER / str(step)
  if jax.process_index() == 0:
    folder.rename(folder.with_name(f'{step}.corrupt'))
  reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
  print(f'warning: the checkpoint {folder} is damaged and now {step}.corrupt ({reason})', file=sys.stderr)


def _read_network(workdir: Path, name: str) -> tuple[Any, dict[str, Any]]:
  found = steps(workdir)
  if not found:
    raise UserError(f"config.graft takes '{name}' from {workdir}, which has no checkpoint")
  with _reading(workdir) as manager:
    meta = manager.restore(found[-1], args=ocp.args.Composite(meta=ocp.args.JsonRestore()))['meta']
    if f'params/{name}' not in meta['digest']:
      known = ', '.join(key.removeprefix('params/') for key in meta['digest'] if key.startswith('params/'))
      raise UserError(f"config.graft takes '{name}' from {workdir}, which has no such network; it has {known}")
    saved = manager.restore(found[-1], args=ocp.args.Composite(state=ocp.args.StandardRestore()))['state']
  return jax.tree.map(np.asarray, saved['params'][name]), meta
