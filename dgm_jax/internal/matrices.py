"""Decompositions of stacks of matrices.

Axes: K matrices, D rows and columns.
"""

from collections.abc import Callable
from typing import Any

import jax
from jaxtyping import Array, Float

__all__ = ['each']


def each(decompose: Callable, matrices: Float[Array, 'K D D']) -> Any:
  """Decomposes every matrix of a stack: on a CPU one after another, elsewhere all at once.

  A CPU runs the matrices of a stack on the same threads that wait for them. Two stacks at a time, of two layers or of
  two devices, can occupy every thread and deadlock.

  Args:
    decompose: a decomposition of one matrix, such as `jnp.linalg.cholesky`.
    matrices: the stack.

  Returns: what `decompose` returns, stacked.
  """
  one_by_one = lambda stack: jax.lax.map(decompose, stack)
  return jax.lax.platform_dependent(matrices, cpu=one_by_one, default=jax.vmap(decompose))
