"""Trained models in one file that needs no run: parameters, statistics, the experiment and a card, as safetensors."""

import json
import os
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from safetensors import SafetensorError, safe_open
from safetensors import flax as tensors

from dgm_jax import config as experiment
from dgm_jax import core, data, systems
from dgm_jax.core import State
from dgm_jax.errors import UserError
from dgm_jax.internal.files import is_file, write_atomic
from dgm_jax.internal.words import one_line
from dgm_jax.runs import workdir
from dgm_jax.runs.subject import Subject
from dgm_jax.runtime import parallel

__all__ = ['SUFFIX', 'find', 'look_for', 'open_weights', 'save_weights']

SUFFIX = '.safetensors'
FOLDER = Path(__file__).parents[2] / 'weights'  # of a clone
FORMAT = '1'
ELSEWHERE = {'graft': {}, 'judge': ''}  # keys of the experiment that name other runs, of which nothing is needed


def save_weights(subject: Subject, card: dict[str, Any], path: str | os.PathLike, dtype: str = 'float32') -> None:
  """Writes a trained system into a file.

  Averages take the place of the parameters that they are of. Optimizers are left out.

  Args:
    subject: the run.
    card: what is told of it, JSON data.
    path: the file.
    dtype: 'float32', or 'bfloat16' for half the size.
  """
  config = subject.config.copy_and_resolve_references()
  with config.unlocked():
    config.update(ELSEWHERE)
  kept, _ = jax.tree_util.tree_flatten_with_path(_essence(subject.state))
  short = lambda leaf: leaf.astype(dtype) if leaf.dtype == jnp.float32 else leaf
  arrays = {jax.tree_util.keystr(where): short(jnp.asarray(parallel.fetch(leaf))) for where, leaf in kept}
  said = {'format': FORMAT, 'config': json.dumps(experiment.to_json(config)), 'card': json.dumps(card)}
  write_atomic(path, tensors.save(arrays, {'dgm_jax': json.dumps(said)}))


def look_for(name: str) -> Path | None:
  """Returns the file of a model, a path or the name of one of the clone's folder weights/; None if there is none."""
  return next((path for path in (Path(name), FOLDER / f'{name}{SUFFIX}') if is_file(path)), None)


def find(name: str) -> Path:
  """Returns the file of a model, as `look_for`.

  Raises:
    UserError: there is no such file.
  """
  path = look_for(name)
  if path is None:
    names = ', '.join(sorted(path.stem for path in FOLDER.glob(f'*{SUFFIX}'))) or 'none'
    raise UserError(f'{name} is no file, and not in {FOLDER.name}/, which has {names}')
  return path


def open_weights(path: str | os.PathLike) -> tuple[Subject, dict[str, Any]]:
  """Reads what `save_weights` has written.

  Returns:
    the system with its state, float32, on no data; and the card.

  Raises:
    UserError: the file cannot be read, or is of another kind.
  """
  hint = 'give a file that `dgm export` has written'
  try:
    with safe_open(path, 'numpy') as file:
      said = json.loads((file.metadata() or {}).get('dgm_jax', '{}'))
      arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
  except (SafetensorError, ValueError, OSError) as error:
    raise UserError(f'{path} cannot be read: {one_line(error)[:200]}; {hint}') from error
  if said.get('format') != FORMAT:
    raise UserError(f'{path} is of format {said.get("format")}, not {FORMAT}: {hint}')
  config = experiment.from_json(json.loads(said['config']))
  mesh, system = parallel.mesh(), systems.build(config)
  like = _essence(workdir.shapes(system, config, mesh))
  wanted, tree = jax.tree_util.tree_flatten_with_path(like)
  names = {jax.tree_util.keystr(where): leaf for where, leaf in wanted}
  wrong = [name for name in names if name not in arrays or arrays[name].shape != names[name].shape]
  if wrong or len(arrays) != len(names):
    first = (wrong or sorted(set(arrays) - set(names)))[0]
    raise UserError(f'{path} does not fit {config.system} of this version, at {first}: {hint}')
  put = lambda array, leaf: parallel.put(array.astype(leaf.dtype), leaf.sharding)
  kept = jax.tree.unflatten(tree, [put(arrays[name], leaf) for name, leaf in names.items()])
  state = State(kept['step'], kept['params'], {}, kept['extra'])
  card = json.loads(said['card'])
  return Subject(config, system, state, data.Split('', 0, {}), mesh, card.get('trained_at')), card


def _essence(state: State) -> dict[str, Any]:
  """Returns what an evaluation and samples need of a state."""
  plain = core.unaveraged(core.averaged(state))
  return {'step': plain.step, 'params': plain.params, 'extra': plain.extra}
