"""Encoders of images and decoders to maps of features, as PixelVAE and simpler autoencoders have them.

An encoder takes images x [B, H, W, C] and returns mean and log-variance of the latents, [B, Z] each. A map takes
latents z [B, Z] and returns features [B, H, W, F] of every pixel, which condition a network of pixels.

Reference: Gulrajani et al. 2017, arXiv:1611.05013, and its program mnist_pixelvae_train.py.
"""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dgm_jax.models import resnet_vae
from dgm_jax.nn.blocks import MLP, NormalHead, TransposedConv, halvings

__all__ = ['DenseEncoder', 'DenseMap', 'PairEncoder', 'PairMap', 'ResNetEncoder', 'ResNetMap']


class DenseEncoder(nn.Module):
  """An encoder of dense layers."""

  latents: int
  hidden: Sequence[int] = (200, 200)
  activation: str = 'tanh'
  dtype: jnp.dtype | str = 'float32'

  @nn.compact
  def __call__(self, x: Float[Array, 'B H W C']) -> tuple[Float[Array, 'B Z'], Float[Array, 'B Z']]:
    h = MLP(self.hidden, self.activation, self.dtype)(x.reshape(x.shape[0], -1))
    return NormalHead(self.latents, self.dtype)(h)


class DenseMap(nn.Module):
  """A map of dense layers."""

  size: tuple[int, int]  # H, W
  features: int = 4
  hidden: Sequence[int] = (200, 200)
  activation: str = 'tanh'
  dtype: jnp.dtype | str = 'float32'

  @nn.compact
  def __call__(self, z: Float[Array, 'B Z']) -> Float[Array, 'B H W F']:
    h = MLP(self.hidden, self.activation, self.dtype)(z)
    h = nn.Dense(self.size[0] * self.size[1] * self.features, dtype=self.dtype)(h)
    return h.reshape(-1, *self.size, self.features)


class PairEncoder(nn.Module):
  """An encoder of pairs of 3x3 convolutions, of which the second has stride 2 in all pairs but the last."""

  latents: int
  channels: Sequence[int] = (32, 64, 64)  # after each halving
  dtype: jnp.dtype | str = 'float32'

  @nn.compact
  def __call__(self, x: Float[Array, 'B H W C']) -> tuple[Float[Array, 'B Z'], Float[Array, 'B Z']]:
    width = self.channels[0]
    for following in self.channels:
      x = self._conv(self._conv(x, width, 1), following, 2)
      width = following
    x = self._conv(self._conv(x, width, 1), width, 1)
    return NormalHead(self.latents, self.dtype)(x.reshape(x.shape[0], -1))

  def _conv(self, x, features: int, stride: int):
    return jax.nn.relu(nn.Conv(features, (3, 3), (stride, stride), dtype=self.dtype)(x))


class PairMap(nn.Module):
  """A map of pairs of convolutions, the mirror of `PairEncoder`: a transposed one of stride 2, then a plain one."""

  size: tuple[int, int]
  features: int = 32
  channels: Sequence[int] = (32, 64, 64)
  dtype: jnp.dtype | str = 'float32'

  @nn.compact
  def __call__(self, z: Float[Array, 'B Z']) -> Float[Array, 'B H W F']:
    *sizes, top = halvings(self.size, len(self.channels))
    width = self.channels[-1]
    x = jax.nn.relu(nn.Dense(top[0] * top[1] * width, dtype=self.dtype)(z)).reshape(-1, *top, width)
    x = self._conv(jax.nn.relu(self._conv(x, width)), width)
    for size, width in zip(reversed(sizes), (*self.channels[-2::-1], self.channels[0]), strict=True):
      x = jax.nn.relu(TransposedConv(width, kernel=3, dtype=self.dtype)(jax.nn.relu(x)))
      x = self._conv(x[:, : size[0], : size[1]], self.features if size == self.size else width)
    return x

  def _conv(self, x, features: int):
    return nn.Conv(features, (3, 3), dtype=self.dtype)(x)


class ResNetEncoder(nn.Module):
  """The residual encoder of `models.resnet_vae`, without a context."""

  latents: int
  channels: Sequence[int] = (16, 32, 32)
  hidden: int = 450
  dtype: jnp.dtype | str = 'float32'

  @nn.compact
  def __call__(self, x: Float[Array, 'B H W C']) -> tuple[Float[Array, 'B Z'], Float[Array, 'B Z']]:
    return resnet_vae.Encoder(self.channels, self.hidden, self.latents, dtype=self.dtype, name='resnet')(x)


class ResNetMap(nn.Module):
  """A map by the residual decoder of `models.resnet_vae`, whose outputs are features instead of parameters."""

  size: tuple[int, int]
  features: int = 4
  channels: Sequence[int] = (16, 32, 32)
  hidden: int = 450
  dtype: jnp.dtype | str = 'float32'

  @nn.compact
  def __call__(self, z: Float[Array, 'B Z']) -> Float[Array, 'B H W F']:
    shape = (*self.size, self.features)
    (out,) = resnet_vae.Decoder(self.channels, self.hidden, shape, 1, dtype=self.dtype, name='resnet')(z)
    return out.reshape(-1, *shape)
