"""A run rehearsed as shapes, so that what does not fit together is one line before the folder is touched."""

import contextlib
from collections.abc import Callable, Iterator

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from dgm_jax import config as experiment
from dgm_jax import data, systems
from dgm_jax.core import State, System
from dgm_jax.data import archive, preprocess
from dgm_jax.errors import UserError
from dgm_jax.internal.words import first_line, named
from dgm_jax.runs import workdir
from dgm_jax.runs.digest import num_bytes

__all__ = ['explained', 'rehearse']


@contextlib.contextmanager
def explained(config: ConfigDict, what: str) -> Iterator[None]:
  """Turns an exception within the block into one line that names the settings that the user has changed.

  Raises:
    UserError: the block raised an exception.
  """
  try:
    yield
  except UserError:
    raise
  except Exception as error:  # a trace raises whatever the libraries beneath it do
    overrides: tuple[str, ...] = config.overrides  # type: ignore[assignment]
    changes = ' '.join(f'--config.{change}' for change in overrides)
    size = fitting_size(config)
    hint = f'try --config.data.size={size}' if size else f'change {changes}' if changes else 'change its config file'
    raise UserError(f'{what} of {config.system} cannot be built ({first_line(error)}): {hint}') from error


def fitting_size(config: ConfigDict) -> int:
  """Returns the size nearest to that of the data whose images the system can be built for, 0 if there is none."""
  if len(config.data.shape) != 3:
    return 0
  side, channels = min(config.data.shape[:2]), config.data.shape[2]
  multiples = {n for unit in (2, 4, 8, 16, 32) for n in (side // unit * unit, side // unit * unit + unit)}
  for size in sorted(multiples - {0}, key=lambda n: (abs(n - side), -n)):
    other = config.copy_and_resolve_references()
    with other.unlocked():
      other.data.shape = (size, size, channels)
    with contextlib.suppress(Exception):  # which has been reported for the size at hand
      _trace_first_step(other)
      return size
  return 0


def _trace_first_step(config: ConfigDict) -> None:
  """Traces the first step of a config as shapes, on examples of `config.data.shape`."""
  system, size = systems.build(config), config.batch_size
  batch = {name: jax.ShapeDtypeStruct((size,), np.int32) for name in ('y', 'index')}
  batch['x'] = jax.ShapeDtypeStruct((size, *config.data.shape), np.float32)
  key = jax.eval_shape(lambda: jax.random.key(0))
  jax.eval_shape(lambda key, batch: system.step(key, system.init(key, batch), batch), key, batch)


def rehearse(config: ConfigDict, system: System, splits: dict[str, data.Split], like: State, mesh: Mesh) -> None:
  """Traces a step, an evaluation and a sample of a run as shapes. Nothing is computed.

  Raises:
    UserError: one of them cannot be built, a measurement is not there, or `config.best` is none of those measured.
  """
  evals: tuple[str, ...] = config.evals  # type: ignore[assignment]
  for name in evals:
    experiment.by_path('dgm_jax.evals', name)
  _check_memory(config, splits, like, mesh)
  key = jax.eval_shape(lambda: jax.random.key(0))
  with explained(config, 'the training step'):
    devices, step = 1, system.step
    if config.parallel == 'pmap':  # each device's step has an axis of this name around it
      devices, step = mesh.size, jax.vmap(system.step, None, axis_name='data', axis_size=mesh.size)
    batch = _batch(splits['train'], config, config.batch_size // devices, preprocess.training)
    jax.eval_shape(step, key, like, batch)
  split = splits.get('valid', splits['test'])
  with explained(config, 'the evaluation'):
    examples = min(config.eval_batch_size, split.size) + -min(config.eval_batch_size, split.size) % mesh.size
    batch = _batch(split, config, examples, preprocess.evaluation)
    measured = jax.eval_shape(system.evaluate, key, like, batch)
  if best := workdir.best(config):
    experiment.require(
      best in measured,
      f'config.best is {named(config.best, measured)}, which {config.system} does not measure; it measures'
      f' {", ".join(sorted(measured))}',
    )
  if system.sample is not None:
    with explained(config, 'the sample'):
      jax.eval_shape(lambda key, state: system.sample(key, state, config.pictures), key, like)


def _batch(split: data.Split, config: ConfigDict, size: int, prepare: Callable) -> dict[str, jax.ShapeDtypeStruct]:
  """Returns a preprocessed batch of a split as shapes."""
  like = lambda array: jax.ShapeDtypeStruct(array.shape, array.dtype)
  arrays, index = jax.tree.map(like, split.arrays), jax.ShapeDtypeStruct((size,), np.int32)
  make = lambda arrays, index: prepare(config.data)(jax.random.key(0), split.fetch(arrays, index))
  return jax.eval_shape(make, arrays, index)


def _check_memory(config: ConfigDict, splits: dict[str, data.Split], like: State, mesh: Mesh) -> None:
  """Refuses a state or a batch that is larger than a CPU's memory, where the system would stop rather than fail."""
  if mesh.devices.flat[0].platform != 'cpu':
    return
  example = 4 * int(np.prod(splits['train'].shape, dtype=object))
  sizes = {
    f'the state of {config.system}': (num_bytes(like), 'set smaller networks'),
    'a batch': (example * config.batch_size, 'lower config.batch_size'),
    'a call': (4 * config.batch_size * config.steps_per_call, 'lower config.steps_per_call or config.batch_size'),
    'the first batch': (example * min(config.init_examples, splits['train'].size), 'lower config.init_examples'),
  }
  for what, (needed, hint) in sizes.items():
    experiment.require(
      needed <= archive.memory(),
      f'{what} takes {needed:,} bytes, and this machine has {archive.memory():,} bytes of memory: {hint}',
    )
