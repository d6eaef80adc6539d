"""Residual encoder and decoder of a variational autoencoder, weight-normalised and started from data.

Each scale has a residual block that halves, or doubles, the image, and one that keeps its size. Blocks are
nonlinearity, 3x3 convolution, nonlinearity, 3x3 convolution.

Axes: B batch, H height, W width, C channels, Z latents, D pixels (H W C).

Reference: Kingma et al. 2016, arXiv:1606.04934, appendix B.
"""

from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dgm_jax.nn.blocks import ACTIVATIONS, NHWC, glorot, halvings, transposed
from dgm_jax.nn.weightnorm import weight_norm

__all__ = ['Block', 'Decoder', 'Encoder', 'NormConv', 'NormDense']


class NormConv(nn.Module):
  """A weight-normalised convolution of stride 1 or 2, or transposed one of stride 2: [B, H, W, C] -> [B, h, w, F]."""

  features: int
  size: int = 3
  stride: int = 1
  up: bool = False
  deviation: float = 1.0  # of the first batch's outputs
  dtype: jnp.dtype | str = 'float32'

  @nn.compact
  def __call__(self, x: Float[Array, 'B H W C']) -> Float[Array, 'B h w F']:
    x = x.astype(self.dtype)

    def apply(kernel):
      kernel = kernel.astype(self.dtype)
      if self.up:
        return transposed(x, kernel)
      return jax.lax.conv_general_dilated(x, kernel, (self.stride,) * 2, 'SAME', dimension_numbers=NHWC)

    return weight_norm(self, (self.size, self.size, x.shape[-1], self.features), apply, self.deviation)


class NormDense(nn.Module):
  """A weight-normalised dense layer: [..., C] -> [..., F]."""

  features: int
  deviation: float = 1.0
  dtype: jnp.dtype | str = 'float32'

  @nn.compact
  def __call__(self, x: Float[Array, '*B C']) -> Float[Array, '*B F']:
    x = x.astype(self.dtype)
    apply = lambda kernel: x @ kernel.astype(self.dtype)
    return weight_norm(self, (x.shape[-1], self.features), apply, self.deviation)


class Block(nn.Module):
  """A residual block: [B, H, W, C] -> [B, h, w, F]. Where the shape changes, a 1x1 convolution carries x over.

  Its last layer starts with a deviation of 0.1.
  """

  features: int
  stride: int = 1
  up: bool = False
  act: Callable = nn.elu
  dtype: jnp.dtype | str = 'float32'

  @nn.compact
  def __call__(self, x: Float[Array, 'B H W C']) -> Float[Array, 'B h w F']:
    conv = lambda **more: NormConv(self.features, dtype=self.dtype, **more)
    h = conv(stride=self.stride, up=self.up)(self.act(x))
    h = conv(deviation=0.1)(self.act(h))
    if self.up:
      return conv(size=2, up=True)(x) + h
    if self.stride > 1 or x.shape[-1] != self.features:
      return conv(size=1, stride=self.stride)(x) + h
    return x + h


class Encoder(nn.Module):
  """A diagonal normal q(z|x), and a context for the maps that move its samples, if there are any."""

  channels: Sequence[int]
  hidden: int
  latents: int
  context: int = 0
  activation: str = 'elu'
  dtype: jnp.dtype | str = 'float32'

  @nn.compact
  def __call__(self, x: Float[Array, 'B H W C']) -> tuple[Float[Array, 'B Z'], ...]:
    h, act = x, ACTIVATIONS[self.activation]
    for width in self.channels:
      h = Block(width, 2, act=act, dtype=self.dtype)(h)
      h = Block(width, act=act, dtype=self.dtype)(h)
    h = act(NormDense(self.hidden, dtype=self.dtype)(act(h).reshape(h.shape[0], -1)))
    both = NormDense(2 * self.latents, 0.1, self.dtype)(h).astype(jnp.float32)
    mean, log_std = jnp.split(both, 2, -1)
    if not self.context:
      return mean, 2 * log_std
    context = nn.Dense(self.context, kernel_init=glorot, dtype=self.dtype, name='context')(h)
    return mean, 2 * log_std, context.astype(jnp.float32)


class Decoder(nn.Module):
  """The likelihood p(x|z): the encoder's mirror."""

  channels: Sequence[int]
  hidden: int
  shape: tuple[int, int, int]
  num_parameters: int  # of the likelihood of a pixel
  activation: str = 'elu'
  dtype: jnp.dtype | str = 'float32'

  @nn.compact
  def __call__(self, z: Float[Array, '*B Z']) -> tuple[Float[Array, '*B D'], ...]:
    """Computes the likelihood's parameters for every pixel, flattened, float32."""
    act, sizes = ACTIVATIONS[self.activation], halvings(self.shape[:2], len(self.channels))
    h = act(NormDense(self.hidden, dtype=self.dtype)(z.reshape(-1, z.shape[-1])))
    h = NormDense(sizes[-1][0] * sizes[-1][1] * self.channels[-1], dtype=self.dtype)(h)
    h = h.reshape(h.shape[0], *sizes[-1], self.channels[-1])
    widths = (self.channels[0], *self.channels[:-1])[::-1]
    for width, size in zip(widths, sizes[-2::-1], strict=True):
      h = Block(h.shape[-1], act=act, dtype=self.dtype)(h)
      h = Block(width, up=True, act=act, dtype=self.dtype)(h)[:, : size[0], : size[1]]
    out = NormConv(self.shape[2] * self.num_parameters, deviation=0.1, dtype=self.dtype, name='output')(act(h))
    parts = jnp.split(out.astype(jnp.float32), self.num_parameters, -1)
    return tuple(part.reshape(*z.shape[:-1], -1) for part in parts)

  def pixels(self, z: Float[Array, '*B Z']) -> tuple[Float[Array, '*B D'], ...]:
    """Computes what a call computes; the name that decoders share."""
    return self(z)
