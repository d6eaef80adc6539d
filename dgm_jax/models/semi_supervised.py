"""A classifier that is also a discriminator, and its generator: semi-supervised MNIST by feature matching.

Axes: B batch, Z latents, F features, K classes, D pixels.

Reference: Salimans et al. 2016, arXiv:1606.03498, section 6.1, and its released code.
"""

import math
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dgm_jax.nn.norm import BatchNorm

__all__ = ['NoisyClassifier', 'SoftplusGenerator', 'WeightNormDense']

INSIDE = 1e-6  # summand under the root of a generator's weight norm, as in the released code


class WeightNormDense(nn.Module):
  """A linear map whose output units have weights of a fixed length, initialised by data: [B, F] -> [B, features].

  Initially the outputs of the first batch have mean 0 and variance 1. The length is in the collection 'constants',
  where no player may change it. A discriminator with longer weights would reduce the effect of its noise, which is its
  only regularisation.
  """

  features: int
  learned: bool  # whether the length is a parameter

  @nn.compact
  def __call__(self, h: Float[Array, 'B F']) -> Float[Array, 'B G']:
    theta = self.param('theta', nn.initializers.normal(0.1), (h.shape[-1], self.features))
    y = h @ (theta / jnp.linalg.norm(theta, axis=0, keepdims=True))
    deviation = jnp.maximum(y.std(0), 1e-6)  # 0 in a batch of one
    length = (
      self.param('length', lambda key: 1 / deviation)
      if self.learned
      else self.variable('constants', 'length', lambda: 1 / deviation).value
    )
    bias = self.param('bias', lambda key: -y.mean(0) / deviation)
    return y * length[None] + bias[None]


class NoisyClassifier(nn.Module):
  """Dense layers with normal noise before each: [B, ...] -> logits [B, K] and the last features [B, F].

  If there is a key 'noise', its deviation is 0.3 on the pixels and 0.5 on hidden layers.
  """

  hidden: Sequence[int] = (1000, 500, 250, 250, 250)
  classes: int = 10

  @nn.compact
  def __call__(self, x: Float[Array, 'B *S']) -> tuple[Float[Array, 'B K'], Float[Array, 'B F']]:
    h = self._noisy(x.reshape(x.shape[0], -1), 0.3)
    features = h
    for size in self.hidden:
      features = jax.nn.relu(WeightNormDense(size, learned=False)(h))
      h = self._noisy(features, 0.5)
    return WeightNormDense(self.classes, learned=True)(h), features

  def _noisy(self, h: Array, deviation: float) -> Array:
    return h + deviation * jax.random.normal(self.make_rng('noise'), h.shape) if self.has_rng('noise') else h


class SoftplusGenerator(nn.Module):
  """Dense layers with softplus and batch statistics, no gain, then pixels in [0, 1]: [B, Z] -> [B, *shape]."""

  hidden: Sequence[int]
  shape: Sequence[int]

  @nn.compact
  def __call__(self, z: Float[Array, 'B Z']) -> Float[Array, 'B *S']:
    h = z
    for size in self.hidden:
      h = nn.Dense(size, use_bias=False, kernel_init=nn.initializers.glorot_uniform())(h)
      h = jax.nn.softplus(BatchNorm(epsilon=1e-6, scale=False)(h))
    size = math.prod(self.shape)
    theta = self.param('theta', nn.initializers.normal(0.1), (h.shape[-1], size))
    length = self.param('length', nn.initializers.ones, (size,))
    bias = self.param('bias', nn.initializers.zeros, (size,))
    unit = theta * jax.lax.rsqrt(INSIDE + jnp.square(theta).sum(0, keepdims=True))
    return jax.nn.sigmoid(h @ unit * length[None] + bias[None]).reshape(-1, *self.shape)
