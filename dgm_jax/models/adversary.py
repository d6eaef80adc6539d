"""Generators and critics of dense layers.

A critic returns a value [B] and its last features [B, F], of which the value is a linear function. A normalisation is
an argument, as the function that creates the layer.

Axes: B batch, Z latents, F features, H height, W width, C channels.
"""

import math
from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dgm_jax.nn.minibatch import MinibatchDiscrimination

__all__ = ['OUTPUTS', 'DenseCritic', 'DenseGenerator', 'MaxoutCritic', 'Verdict', 'glorot', 'he']

OUTPUTS: dict[str, Callable] = {'linear': lambda x: x, 'tanh': jnp.tanh, 'sigmoid': jax.nn.sigmoid}
he = nn.initializers.variance_scaling(2.0, 'fan_in', 'uniform')
glorot = nn.initializers.glorot_uniform()


class DenseGenerator(nn.Module):
  """Dense layers with rectifiers, [B, Z] -> [B, *shape]; (512,) * 3 is that of Gulrajani et al. 2017 for toys."""

  hidden: Sequence[int]
  shape: Sequence[int]
  output: str = 'linear'
  norm: Callable | None = None
  dtype: jnp.dtype | str = 'float32'

  @nn.compact
  def __call__(self, z: Float[Array, 'B Z']) -> Float[Array, 'B *S']:
    h = z
    for size in self.hidden:
      h = nn.Dense(size, use_bias=self.norm is None, kernel_init=he, dtype=self.dtype)(h)
      h = jax.nn.relu(self.norm(dtype=self.dtype)(h) if self.norm else h)
    h = nn.Dense(math.prod(self.shape), kernel_init=glorot, dtype=self.dtype)(h)
    return OUTPUTS[self.output](h.astype(jnp.float32)).reshape(-1, *self.shape)


class Verdict(nn.Module):
  """A linear layer from a critic's features [B, F] to its value [B], after `kernels` of minibatch discrimination."""

  kernels: int = 0
  bias: bool = True
  kernel_init: Callable = glorot

  @nn.compact
  def __call__(self, h: Float[Array, 'B F']) -> Float[Array, ' B']:
    h = MinibatchDiscrimination(self.kernels)(h) if self.kernels else h.astype(jnp.float32)
    return nn.Dense(1, use_bias=self.bias, kernel_init=self.kernel_init)(h)[:, 0]


class DenseCritic(nn.Module):
  """Dense layers with rectifiers, [B, ...] -> value [B] and features [B, F]."""

  hidden: Sequence[int]
  norm: Callable | None = None
  kernels: int = 0
  dtype: jnp.dtype | str = 'float32'

  @nn.compact
  def __call__(self, x: Float[Array, 'B *S']) -> tuple[Float[Array, ' B'], Float[Array, 'B F']]:
    h = x.reshape(x.shape[0], -1)
    for size in self.hidden:
      h = nn.Dense(size, kernel_init=he, dtype=self.dtype)(h)
      h = jax.nn.relu(self.norm(dtype=self.dtype)(h) if self.norm else h)
    return Verdict(self.kernels)(h), h.astype(jnp.float32)


class MaxoutCritic(nn.Module):
  """Maxout layers of `pieces` linear maps, with dropout of inputs and hidden units if there is a key 'dropout'.

  Two layers of 240 units of 5 pieces are the discriminator of Goodfellow et al. 2014 for MNIST.

  Reference: Goodfellow et al. 2013, arXiv:1302.4389, equation 1; 2014, arXiv:1406.2661, section 5.
  """

  hidden: Sequence[int]
  pieces: int = 5
  kernels: int = 0
  dtype: jnp.dtype | str = 'float32'

  @nn.compact
  def __call__(self, x: Float[Array, 'B *S']) -> tuple[Float[Array, ' B'], Float[Array, 'B F']]:
    small = lambda key, shape, dtype=jnp.float32: jax.random.uniform(key, shape, dtype, -0.005, 0.005)
    silent = not self.has_rng('dropout')
    h = nn.Dropout(0.2, deterministic=silent)(x.reshape(x.shape[0], -1))
    for size in self.hidden:
      h = nn.Dense(size * self.pieces, kernel_init=small, dtype=self.dtype)(h)
      h = h.reshape(h.shape[0], size, self.pieces).max(-1)
      h = nn.Dropout(0.5, deterministic=silent)(h)
    return Verdict(self.kernels, kernel_init=small)(h), h.astype(jnp.float32)
