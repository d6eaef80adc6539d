"""Examples that lie on the devices: a copy on each, or their rows spread over them.

Axes: N examples.
"""

from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from dgm_jax import data
from dgm_jax.data import rows
from dgm_jax.runtime import ahead, parallel, placement

__all__ = ['place', 'placement_of', 'shapes']


def shapes(split: data.Split, where: str, mesh: Mesh) -> dict[str, jax.ShapeDtypeStruct]:
  """Returns the examples that lie on the devices, as shapes with shardings; {} for 'host'.

  Spread over the devices, they are filled up to a multiple of the number of devices.
  """
  if where == 'host':
    return {}
  spread = where == 'sharded'
  sharding = parallel.rows(mesh) if spread else parallel.replicated(mesh)

  def like(array: Any) -> jax.ShapeDtypeStruct:
    size = len(array) + (-len(array) % mesh.size if spread else 0)
    return jax.ShapeDtypeStruct((size, *array.shape[1:]), array.dtype, sharding=sharding)

  return {name: like(array) for name, array in split.arrays.items()}


def placement_of(split: data.Split, asked: str, mesh: Mesh) -> placement.Placement:
  """Chooses where the examples of a split lie, see `placement.choose`."""
  return placement.choose(asked, split.nbytes, mesh, rows.are_in_files(split.arrays), not split.rendered)


def place(array: Any, like: jax.ShapeDtypeStruct) -> jax.Array:
  """Puts an array [N, ...] on the devices as `like` says. Each process reads the rows of its own devices."""
  in_files = isinstance(array, rows.Rows)
  if in_files and like.sharding.is_fully_replicated:  # read once for all devices
    array, in_files = ahead.read({'': array}, np.arange(len(array)))[''], False

  def part(index: tuple[slice, ...]) -> np.ndarray:
    start, stop, _ = index[0].indices(like.shape[0]) if index else (0, 0, 1)
    own = ahead.read({'': array}, np.arange(len(array))[start:stop])[''] if in_files else array[start:stop]
    missing = stop - start - len(own)
    return np.concatenate([own, np.zeros((missing, *own.shape[1:]), own.dtype)]) if missing else own

  return jax.make_array_from_callback(like.shape, like.sharding, part)
