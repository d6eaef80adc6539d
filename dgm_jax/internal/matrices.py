"""Decompositions of matrices, one or a stack of them.

Axes: B examples, K matrices, D rows and columns.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

__all__ = ['Spectrum', 'each', 'spectrum']

LEAST = 1e-7  # variances below this share of the greatest one are not known in float32


class Spectrum(NamedTuple):
  """The mean of a batch, and the axes of its covariance C = axes diag(variances) axes^T."""

  mean: Float[Array, ' D']
  axes: Float[Array, 'D D']  # orthogonal columns
  variances: Float[Array, ' D']


def spectrum(x: Float[Array, 'B D']) -> Spectrum:
  """Computes the spectrum of a batch; variances are at least 1e-7 of the greatest one."""
  mean = x.mean(0)
  covariance = jnp.matmul((x - mean[None]).T, x - mean[None], precision='highest') / x.shape[0]
  variances, axes = jnp.linalg.eigh(covariance)
  return Spectrum(mean, axes, jnp.maximum(variances, LEAST * variances[-1]))


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
