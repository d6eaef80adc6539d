"""Autoregressive maps of vectors: a masked network gives the numbers that move each dimension, from those before it.

Axes: B batch, D dimensions, N numbers for each of them.

Reference: Germain et al. 2015, arXiv:1502.03509; Papamakarios et al. 2017, arXiv:1705.07057.
"""

import itertools
from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dgm_jax.nn.blocks import ACTIVATIONS, glorot
from dgm_jax.nn.coupling import Elementwise
from dgm_jax.nn.reversible import Bijection, bijection

__all__ = ['MADE', 'autoregressive', 'masks']


def masks(dims: int, hidden: Sequence[int], numbers: int) -> list[np.ndarray]:
  """Which weights [in, out] of each layer may be other than 0, so that the numbers of d see dimensions before d only.

  Hidden units have the degrees 1 to D - 1 in turn, so that every degree is in every layer of at least D - 1 units.
  """
  degrees = [np.arange(1, dims + 1), *(np.arange(size) % max(1, dims - 1) + 1 for size in hidden)]
  inner = [(a[:, None] <= b[None]).astype(np.float32) for a, b in itertools.pairwise(degrees)]
  last = (degrees[-1][:, None] < np.arange(1, dims + 1)[None]).astype(np.float32)
  return [*inner, np.tile(last, (1, numbers))]


class MADE(nn.Module):
  """[B, D] -> [B, N D], the first D of which are the first numbers of all dimensions; 0 at the start."""

  hidden: Sequence[int]
  numbers: int
  activation: str = 'relu'
  dtype: jnp.dtype | str | None = None

  @nn.compact
  def __call__(self, x: Float[Array, 'B D']) -> Float[Array, 'B F']:
    h, allowed = x, masks(x.shape[1], self.hidden, self.numbers)
    for i, mask in enumerate(allowed):
      last = i == len(allowed) - 1
      kernel = self.param(f'kernel_{i}', nn.initializers.zeros if last else glorot, mask.shape)
      bias = self.param(f'bias_{i}', nn.initializers.zeros, mask.shape[1:])
      h, kernel, bias = nn.dtypes.promote_dtype(h, kernel * mask, bias[None], dtype=self.dtype)
      h = h @ kernel + bias
      h = h if last else ACTIVATIONS[self.activation](h)
    return h.astype(x.dtype)


def autoregressive(network: Callable[[int], nn.Module], elementwise: Elementwise) -> Bijection:
  """Moves every dimension by numbers read from those before it: all at once forward, one after another back.

  Args:
    network: N -> a masked module [B, D] -> [B, N D].
    elementwise: the map.
  """
  module = network(elementwise.numbers)
  read = lambda params, x: module.apply({'params': params}, x)

  def forward(params, stats, x):
    return *elementwise.forward(read(params, x), x), {}

  def inverse(params, stats, y):
    places = jnp.arange(y.shape[1])[None]

    def turn(x, d):
      # Up to d all is right, since its numbers are. What is not found yet stays 0: made of numbers that are wrong, it
      # may overflow, and a weight of 0 does not undo that.
      return jnp.where(places <= d, elementwise.inverse(read(params, x), y)[0], 0), None

    x, _ = jax.lax.scan(turn, jnp.zeros_like(y), places[0, :-1])
    return elementwise.inverse(read(params, x), y)

  return bijection(lambda key, x: module.init(key, x)['params'], forward, inverse)
