"""An encoder of binary codes.

Axes: B batch, H W C pixels, Z latents.
"""

from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from dgm_jax.nn.blocks import MLP, glorot

__all__ = ['BinaryEncoder']


class BinaryEncoder(nn.Module):
  """The posterior q(z|x) of independent Bernoulli latents, by their logits: [B, H, W, C] -> [B, Z], float32."""

  hidden: Sequence[int]
  latents: int
  activation: str = 'tanh'
  dtype: jnp.dtype | str = 'float32'

  @nn.compact
  def __call__(self, x: Float[Array, 'B H W C']) -> Float[Array, 'B Z']:
    h = MLP(self.hidden, self.activation, self.dtype)(x.reshape(x.shape[0], -1))
    return nn.Dense(self.latents, kernel_init=glorot, dtype=self.dtype)(h).astype(jnp.float32)
