"""Sets of images whose factors are known: how an image is made, or found, that has factors of one's choice.

Axes: N images of a set, B images asked for, K factors.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dgm_jax.data.split import Arrays
from dgm_jax.errors import UserError

__all__ = ['Simulator', 'of_arrays', 'sample', 'values_of']


class Simulator(NamedTuple):
  """Independent, uniform factors, and images of them."""

  names: Sequence[str]
  sizes: Sequence[int]  # values of each factor
  draw: Callable[[jax.Array, Any], Any]  # (key, factors int32 [B, K]) -> uint8 [B, H, W, C]
  fixed: bool  # whether the factors determine the image, so that the key has nothing to draw


def sample(key: jax.Array, simulator: Simulator, n: int) -> jax.Array:
  """Samples factors independently and uniformly, int32 [n, K]."""
  return jax.random.randint(key, (n, len(simulator.sizes)), 0, jnp.asarray(simulator.sizes), jnp.int32)


def values_of(number: Any, sizes: Sequence[int]) -> jax.Array:
  """Returns factors int32 [B, K] of numbers [B] on their grid. The last factor varies fastest."""
  return jnp.stack(jnp.unravel_index(number, tuple(sizes)), -1).astype(jnp.int32)


def numbers_of(factors: Any, sizes: Sequence[int]) -> Any:
  """Computes the inverse of `values_of`: [B, K] -> [B], NumPy or JAX."""
  bases = [math.prod(sizes[i + 1 :]) for i in range(len(sizes))]
  return sum(factors[:, i] * base for i, base in enumerate(bases))


def of_arrays(name: str, names: Sequence[str], arrays: Arrays) -> Simulator:
  """Returns the simulator that selects images from a set. If several have the same factors, it samples one.

  Args:
    name: of the set, for errors.
    names: of the factors.
    arrays: 'x' uint8 [N, H, W, C], 'factors' int32 [N, K].

  Raises:
    UserError: no image has some combination of factors.
  """
  sizes = tuple(int(most) + 1 for most in arrays['factors'].max(0))
  number = numbers_of(arrays['factors'].astype(np.int64), sizes)
  order, counts = np.argsort(number, kind='stable'), np.bincount(number, minlength=math.prod(sizes))
  if not counts.all():
    raise UserError(f'{name} lacks {int((counts == 0).sum())} of {len(counts)} combinations of its factors')
  first = np.cumsum(counts) - counts

  def draw(key, factors):
    asked = numbers_of(np.asarray(factors, np.int64), sizes)
    which = np.asarray(jax.random.uniform(key, asked.shape)) * counts[asked]
    return arrays['x'][order[first[asked] + np.minimum(which.astype(np.int64), counts[asked] - 1)]]

  return Simulator(tuple(names), sizes, draw, bool((counts == 1).all()))
