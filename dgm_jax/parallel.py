"""Devices: the mesh, what is spread over it, and how host arrays get there.

Batches are spread by rows over the axis 'data'; the state is replicated or, with
`shard_params`, its large arrays are spread too. Models, losses and systems are
written for the global batch and hold no collective; the compiler adds them.
"""

import os
from pathlib import Path

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from dgm_jax.cli import UserError

SHARD_FROM = 2**14  # smaller arrays than this are replicated: spreading them would cost more than it saves


def start(coordinator: str = '', processes: int = 1, process: int = 0) -> None:
  """Joins the other processes of the run, if any, and keeps compiled programs for the next start.

  Call it before the first use of a device.

  Args:
    coordinator: 'host:port' of process 0; 'auto' where the cluster is recognised (TPU pod, Slurm, Open MPI).
    processes: how many there are.
    process: which one this is.
  """
  if coordinator == 'auto':
    jax.distributed.initialize()
  elif coordinator:
    jax.distributed.initialize(coordinator, processes, process)
  # Programs are code: the folder is the user's alone.
  cache = Path(os.environ.get('DGM_JAX_CACHE', '~/.cache/dgm_jax')).expanduser() / 'programs'
  cache.mkdir(mode=0o700, parents=True, exist_ok=True)
  jax.config.update('jax_compilation_cache_dir', str(cache))
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.0)
  jax.config.update('jax_persistent_cache_min_entry_size_bytes', 0)


def mesh(devices: int = 0) -> Mesh:
  """All devices (or the first so many) of all processes along one axis, 'data'."""
  found = jax.devices()
  if devices > len(found):
    raise UserError(f'{devices} devices were asked for, but JAX sees {len(found)} ({found[0].platform})')
  # Explicit axes, the default, break linen's gathers: the axis is left to the compiler.
  return Mesh(np.asarray(found[: devices or len(found)]), ('data',), axis_types=(AxisType.Auto,))


def check_batch(key: str, size: int, mesh: Mesh) -> None:
  """Refuses a batch that cannot be dealt out evenly.

  Raises:
    UserError: the number of devices does not divide the batch.
  """
  if size % mesh.size:
    fits = max(mesh.size, size // mesh.size * mesh.size)
    raise UserError(f'config.{key}={size} is not divisible by the {mesh.size} devices; try --config.{key}={fits}')


def replicated(mesh: Mesh) -> NamedSharding:
  """Every device holds the whole array."""
  return NamedSharding(mesh, PartitionSpec())


def rows(mesh: Mesh, axis: int = 0) -> NamedSharding:
  """Each device holds its share of the given axis."""
  return NamedSharding(mesh, PartitionSpec(*[None] * axis, 'data'))


def state_shardings(mesh: Mesh, shapes, shard_params: bool):
  """A sharding for each leaf of the state: replicated, or large arrays spread along their longest fitting axis."""

  def one(leaf):
    fitting = [axis for axis, n in enumerate(leaf.shape) if n % mesh.size == 0]
    if not shard_params or leaf.size < SHARD_FROM or not fitting:
      return replicated(mesh)
    return rows(mesh, max(fitting, key=lambda axis: leaf.shape[axis]))

  return jax.tree.map(one, shapes)


def put(array: np.ndarray, sharding: NamedSharding) -> jax.Array:
  """A global array from the same host array on every process; each device takes only its part."""
  return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])


def fetch(tree):
  """Replicated device arrays as NumPy arrays, on every process."""
  return jax.tree.map(lambda x: np.asarray(x.addressable_data(0)) if isinstance(x, jax.Array) else x, tree)


def main_process() -> bool:
  """Whether this is the process that writes logs and pictures."""
  return jax.process_index() == 0
