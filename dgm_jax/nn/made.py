"""Autoregressive maps of vectors: a masked network computes the parameters of each dimension from those before it.

Axes: B batch, D dimensions, N parameters for each of them.

Reference: Germain et al. 2015, arXiv:1502.03509; Papamakarios et al. 2017, arXiv:1705.07057.
"""

import itertools
from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.linen import dtypes
from jaxtyping import Array, Float

from dgm_jax.nn.blocks import ACTIVATIONS, glorot
from dgm_jax.nn.coupling import Elementwise
from dgm_jax.nn.reversible import Bijection, bijection

__all__ = ['MADE', 'autoregressive', 'masks']


def masks(dims: int, hidden: Sequence[int], numbers: int) -> list[np.ndarray]:
  """Returns the masks [in, out] of each layer's weights by which outputs of d depend on dimensions before d only.

  Hidden units have the degrees 1 to D - 1 in turn, so that every degree is in every layer of at least D - 1 units.
  """
  degrees = [np.arange(1, dims + 1), *(np.arange(size) % max(1, dims - 1) + 1 for size in hidden)]
  inner = [(a[:, None] <= b[None]).astype(np.float32) for a, b in itertools.pairwise(degrees)]
  last = (degrees[-1][:, None] < np.arange(1, dims + 1)[None]).astype(np.float32)
  return [*inner, np.tile(last, (1, numbers))]


class MADE(nn.Module):
  """A masked network [B, D] -> [B, N D], initially 0; the first D outputs are the dimensions' first parameters."""

  hidden: Sequence[int]
  num_parameters: int  # N
  activation: str = 'relu'
  dtype: jnp.dtype | str | None = None

  @nn.compact
  def __call__(self, x: Float[Array, 'B D']) -> Float[Array, 'B F']:
    h, allowed = x, masks(x.shape[1], self.hidden, self.num_parameters)
    for i, mask in enumerate(allowed):
      last = i == len(allowed) - 1
      kernel = self.param(f'kernel_{i}', nn.initializers.zeros if last else glorot, mask.shape)
      bias = self.param(f'bias_{i}', nn.initializers.zeros, mask.shape[1:])
      h, kernel, bias = dtypes.promote_dtype(h, kernel * mask, bias[None], dtype=self.dtype)
      h = h @ kernel + bias
      h = h if last else ACTIVATIONS[self.activation](h)
    return h.astype(x.dtype)


def autoregressive(network: Callable[[int], nn.Module], elementwise: Elementwise) -> Bijection:
  """Maps every dimension with parameters from those before it: all at once forward, one after another inverse.

  Args:
    network: N -> a masked module [B, D] -> [B, N D].
    elementwise: the map.
  """
  module = network(elementwise.num_parameters)
  evaluate = lambda params, x: module.apply({'params': params}, x)

  def init(key, x):
    return module.init(key, x)['params']

  def forward(params, stats, x):
    return *elementwise.forward(evaluate(params, x), x), {}

  def inverse(params, stats, y):
    places = jnp.arange(y.shape[1])[None]

    def step(x, d):
      # Dimensions up to d are right, since their parameters are. Later ones stay 0: from wrong parameters they may
      # overflow, and a weight of 0 does not undo that.
      return jnp.where(places <= d, elementwise.inverse(evaluate(params, x), y)[0], 0), None

    x, _ = jax.lax.scan(step, jnp.zeros_like(y), places[0, :-1])
    return elementwise.inverse(evaluate(params, x), y)

  return bijection(init, forward, inverse)
