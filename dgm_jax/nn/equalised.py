"""Layers with equalised learning rates: parameters start at unit scale, and He's constant is applied in each call.

An optimizer that divides by the size of the gradient then moves all weights at one relative speed.

Axes: B batch, H height, W width, C channels, F outputs.

Reference: Karras et al. 2018, arXiv:1710.10196, section 4.1.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

__all__ = ['EqualConv', 'EqualDense']


class EqualDense(nn.Module):
  """A dense layer [..., C] -> [..., F] with the kernel multiplier * gain / sqrt(C) * parameter.

  Parameters start with deviation 1 / multiplier, so that the multiplier slows training alone. It applies to the bias,
  too.
  """

  features: int
  gain: float = math.sqrt(2.0)
  multiplier: float = 1.0
  use_bias: bool = True
  dtype: jnp.dtype | str = 'float32'

  @nn.compact
  def __call__(self, x: Float[Array, '*B C']) -> Float[Array, '*B F']:
    fan = x.shape[-1]
    kernel = self.param('kernel', nn.initializers.normal(1 / self.multiplier), (fan, self.features))
    y = x.astype(self.dtype) @ (kernel * (self.multiplier * self.gain / math.sqrt(fan))).astype(self.dtype)
    if not self.use_bias:
      return y
    bias = self.param('bias', nn.initializers.zeros, (self.features,)) * self.multiplier
    return y + bias.astype(self.dtype).reshape(*[1] * (x.ndim - 1), -1)


class EqualConv(nn.Module):
  """A convolution [B, H, W, C] -> [B, H, W, F] in a frame of zeros; its kernel is gain / size / sqrt(C) * parameter."""

  features: int
  size: int = 3
  gain: float = math.sqrt(2.0)
  use_bias: bool = True
  dtype: jnp.dtype | str = 'float32'

  @nn.compact
  def __call__(self, x: Float[Array, 'B H W C']) -> Float[Array, 'B H W F']:
    shape = (self.size, self.size, x.shape[-1], self.features)
    kernel = self.param('kernel', nn.initializers.normal(1.0), shape)
    scaled = (kernel * (self.gain / math.sqrt(math.prod(shape[:3])))).astype(self.dtype)
    y = jax.lax.conv_general_dilated(
      x.astype(self.dtype), scaled, (1, 1), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC')
    )
    if not self.use_bias:
      return y
    bias = self.param('bias', nn.initializers.zeros, (self.features,))
    return y + bias.astype(self.dtype).reshape(1, 1, 1, -1)
