"""Networks taken from other runs, with all that a run keeps for them."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict

from dgm_jax.core import State
from dgm_jax.errors import UserError
from dgm_jax.runs import checkpoint
from dgm_jax.runs.digest import shapes
from dgm_jax.runtime import cluster

__all__ = ['belongings', 'graft', 'owner']

BY_NETWORK = ('ema', 'history')  # entries of `State.extra` where each network has its own place
OWNERS = {'stats': 'flow', 'reference': 'generator'}  # of entries that do not begin with their network's name
BY_ENTRY = 'ema_statistics'  # averages of other entries, under the names of those


def graft(state: State, sources: dict[str, str], fresh: bool = False) -> State:
  """Loads the named networks from the last checkpoints of other runs, with their statistics and averages.

  If the other run has no average, the average begins at the loaded parameters.

  Args:
    state: the state whose networks are replaced.
    sources: network name -> workdir.
    fresh: whether what a network lacks there stays as it is in `state`, with a line that names it.

  Raises:
    UserError: a run has no such network, or one of other shapes or with more parts, or lacks what the network needs.
  """
  for name, workdir in sources.items():
    subject = f"config.graft takes '{name}' from {workdir}, "
    try:
      params, extra = _taken(state, name, Path(workdir), subject, fresh)
    except checkpoint.DAMAGE as error:
      raise UserError(f'{subject}which is damaged ({checkpoint.reason(error)})') from error
    shared = {entry: state.extra[entry] | part for entry, part in extra.items() if entry in (*BY_NETWORK, BY_ENTRY)}
    state = state.replace(params=state.params | {name: params}, extra=state.extra | extra | shared)
  return state


def owner(entry: str, networks: Iterable[str]) -> str:
  """Returns the network that an entry of `State.extra` belongs to, '' if none.

  An entry '<network>_...' belongs to that network, and every entry to a network that is alone.
  """
  networks = list(networks)
  if len(networks) == 1:
    return networks[0]
  return OWNERS.get(entry) or max((name for name in networks if entry.startswith(f'{name}_')), key=len, default='')


def belongings(state: State, name: str) -> dict[str, Any]:
  """Returns the entries of `State.extra` for one network, in the tree of `extra`."""
  extra, mine = state.extra, lambda entry: owner(entry, state.params) == name
  own = {entry: part for entry, part in extra.items() if entry not in (*BY_NETWORK, BY_ENTRY) and mine(entry)}
  own |= {entry: {name: extra[entry][name]} for entry in BY_NETWORK if name in extra.get(entry, {})}
  averaged = {entry: part for entry, part in extra.get(BY_ENTRY, {}).items() if mine(entry)}
  return own | ({BY_ENTRY: averaged} if averaged else {})


def _taken(state: State, name: str, workdir: Path, subject: str, fresh: bool) -> tuple[Any, dict[str, Any]]:
  """Loads a network's parameters and its entries of `State.extra` from another run, placed as in `state`."""
  own, params = belongings(state, name), state.params.get(name, {})
  here = {'params': {name: params}, 'extra': own}
  try:
    saved = checkpoint.read_parts(workdir, [f'params/{name}', *(f'extra/{entry}' for entry in own)], here)
  except UserError as error:
    raise UserError(f'{subject}{error}') from error
  network, extra = saved[f'params/{name}'], {}
  for entry, like in own.items():
    there = saved.get(f'extra/{entry}', {})
    extra[entry] = {key: there[key] for key in like if key in there} if entry in (*BY_NETWORK, BY_ENTRY) else there
  for entry in own.keys() & {*BY_NETWORK}:
    extra[entry] = extra[entry] or {name: jax.tree.map(jnp.copy, network)}
  for entry in own.get(BY_ENTRY, {}):
    extra[BY_ENTRY].setdefault(entry, jax.tree.map(jnp.copy, extra[entry]))
  there = {'params': {name: network}, 'extra': extra}
  if fresh:
    there = _completed(there, here, name)
  _compare(subject, shapes(there), shapes(here))
  placed = jax.tree.map(lambda x, like: jax.device_put(x, like.sharding), there, here)
  return placed['params'][name], placed['extra']


def _compare(subject: str, there: dict[str, str], here: dict[str, str]) -> None:
  """Refuses parts that differ; if none but absent ones do, the line says how they begin afresh."""
  try:
    checkpoint.compare_shapes(f'{subject}but', there, here)
  except UserError as error:
    grows = there.items() <= here.items()
    raise UserError(f'{error}' + ': set config.graft_fresh=True to begin it afresh' * grows) from error


def _completed(there: dict[str, Any], here: dict[str, Any], name: str) -> dict[str, Any]:
  """Returns the tree of what was loaded, completed by what it lacks of the one here."""
  loaded, whole = flatten_dict(there), flatten_dict(here)
  prefixes = {path[:depth] for path in loaded for depth in range(len(path) + 1)}
  lacking = [path for path in whole if path not in loaded]
  # The outermost module that is not there stands for all of its parameters.
  first = lambda path: next(path[depth - 1] for depth in range(1, len(path) + 1) if path[:depth] not in prefixes)
  names = dict.fromkeys(first(path) for path in lacking if path[0] == 'params')
  if names and cluster.main_process():
    print(f"'{name}' begins afresh in {', '.join(names)}", flush=True)
  return unflatten_dict(loaded | {path: whole[path] for path in lacking})
