"""Small dense networks that know labels, for points.

Axes: B batch, Z latents, F features.

Reference: Gong et al. 2019, arXiv:1907.02690, section 4.1, and the released one-dimensional program.
"""

import math
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dgm_jax.models.adversary import OUTPUTS
from dgm_jax.models.heads import Heads, Said

__all__ = ['Critic', 'Generator']

even = nn.initializers.variance_scaling(1 / 3, 'fan_in', 'uniform')  # uniform on +- 1 / sqrt(inputs)


class Generator(nn.Module):
  """Dense layers of latents and a vector of the label, of its `size`: [B, Z] and [B] -> [B, *shape].

  All hidden layers but the last have a hyperbolic tangent.
  """

  shape: Sequence[int]
  hidden: Sequence[int]
  classes: int = 0
  size: int = 2
  output: str = 'linear'
  dtype: jnp.dtype | str = 'float32'

  @nn.compact
  def __call__(self, z: Float[Array, 'B Z'], label: Array | None = None) -> Float[Array, 'B *S']:
    h = z
    if self.classes:
      table = nn.Embed(self.classes, self.size, embedding_init=nn.initializers.normal(1.0), name='shared')
      h = jnp.concatenate([z, table(label)], 1)
    h = _hidden(h, self.hidden, self.dtype)
    h = nn.Dense(math.prod(self.shape), kernel_init=even, dtype=self.dtype)(h)
    return OUTPUTS[self.output](h.astype(jnp.float32)).reshape(-1, *self.shape)


class Critic(nn.Module):
  """Dense layers and heads, [B, ...] and labels [B] -> value, features and logits.

  All hidden layers but the last have a hyperbolic tangent.
  """

  hidden: Sequence[int]
  head: str = 'none'
  classes: int = 0
  dtype: jnp.dtype | str = 'float32'

  @nn.compact
  def __call__(self, x: Float[Array, 'B *S'], label: Array | None = None) -> Said:
    h = _hidden(x.reshape(x.shape[0], -1), self.hidden, self.dtype)
    return Heads(self.head, self.classes, even)(h, label)


def _hidden(h: jax.Array, sizes: Sequence[int], dtype) -> jax.Array:
  for i, size in enumerate(sizes):
    h = nn.Dense(size, kernel_init=even, dtype=dtype)(h)
    h = jnp.tanh(h) if i < len(sizes) - 1 else h
  return h
