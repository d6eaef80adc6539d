"""A small convolutional classifier, whose last features measure the quality of generated images.

Axes: B batch, H height, W width, C channels, F features, K classes.
"""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dgm_jax.nn.blocks import Downsample

__all__ = ['Classifier']


class Classifier(nn.Module):
  """Strided convolutions and a dense layer: [B, H, W, C] -> logits [B, K] and features [B, F].

  If there is a key 'dropout', half of the features are dropped.
  """

  channels: Sequence[int]
  features: int
  classes: int
  dtype: jnp.dtype | str = 'float32'

  @nn.compact
  def __call__(self, x: Float[Array, 'B H W C']) -> tuple[Float[Array, 'B K'], Float[Array, 'B F']]:
    h = Downsample(self.channels, dtype=self.dtype)(x)
    h = jax.nn.relu(nn.Dense(self.features, dtype=self.dtype)(h.reshape(h.shape[0], -1)).astype(jnp.float32))
    dropped = nn.Dropout(0.5, deterministic=not self.has_rng('dropout'))(h)
    return nn.Dense(self.classes)(dropped), h
