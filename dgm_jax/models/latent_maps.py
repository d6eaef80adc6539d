"""Encoders and decoders whose latents are maps, and the networks that order the latents of a map.

Latents [B, h w C] are a map [h, w, C] in raster order, channels last.

Axes: B batch, H height, W width of the image, C channels of a map [h, w, C] of latents, F features.

Reference: Chen et al. 2017, arXiv:1611.02731, appendix B; Gulrajani et al. 2017, arXiv:1611.05013, section 3.2.
"""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dgm_jax.models.resnet_vae import Block, NormConv
from dgm_jax.nn import masked
from dgm_jax.nn.blocks import NormalHead, TransposedConv, elu
from dgm_jax.nn.masked import Pointwise, group_sizes

__all__ = ['DenseSteps', 'LadderEncoder', 'MapDecoder', 'MapEncoder', 'MaskedMap']


class DenseSteps(nn.Module):
  """A block of 3x3 convolutions, each of all maps so far; a 1x1 convolution brings them back to F.

  Reference: Huang et al. 2017, arXiv:1608.06993.
  """

  steps: int = 3
  dtype: jnp.dtype | str = 'float32'

  @nn.compact
  def __call__(self, x: Float[Array, 'B H W F']) -> Float[Array, 'B H W F']:
    features, y = x.shape[-1], x
    for _ in range(self.steps):
      y = jnp.concatenate([y, NormConv(features, dtype=self.dtype)(elu(y))], -1)
    return x + NormConv(features, 1, deviation=0.1, dtype=self.dtype)(elu(y))


def _blocks(features: int, count: int, dense: bool, dtype: Any) -> Sequence[Callable]:
  """Returns residual blocks; with `dense`, a block of dense steps for each two of them."""
  if dense:
    return [DenseSteps(dtype=dtype) for _ in range(-(-count // 2))]
  return [Block(features, act=elu, dtype=dtype) for _ in range(count)]


class MapEncoder(nn.Module):
  """An encoder of residual blocks between strided convolutions: images to mean and log-variance of a map of latents."""

  latents: int  # h w C of the map
  widths: Sequence[int] = (48, 96, 96)  # of each resolution; the image is halved between them
  blocks: Sequence[int] = (2, 2, 3)
  dense: bool = False
  dtype: jnp.dtype | str = 'float32'

  @nn.compact
  def __call__(self, x: Float[Array, 'B H W C']) -> tuple[Float[Array, 'B Z'], Float[Array, 'B Z']]:
    x = _encoded(x, self.widths, self.blocks, self.dense, self.dtype)
    channels = _channels(self.latents, x.shape[1:3])
    both = nn.Conv(2 * channels, (1, 1), dtype=self.dtype)(elu(x)).astype(jnp.float32)
    mean, log_std = (part.reshape(x.shape[0], -1) for part in jnp.split(both, 2, -1))
    return mean, 2 * log_std


def _encoded(x: Any, widths: Sequence[int], blocks: Sequence[int], dense: bool, dtype: Any) -> Any:
  """Computes the features of an image at the coarsest resolution.

  Raises:
    ValueError: there are not as many widths as blocks.
  """
  _check_scales(widths, blocks)
  for i, (width, count) in enumerate(zip(widths, blocks, strict=True)):
    x = NormConv(width, stride=2 if i else 1, dtype=dtype)(elu(x) if i else x)
    for block in _blocks(width, count, dense, dtype):
      x = block(x)
  return x


def _check_scales(widths: Sequence[int], blocks: Sequence[int]) -> None:
  """Refuses widths and numbers of blocks of different lengths, and none at all."""
  if len(widths) != len(blocks) or not widths:
    raise ValueError(f'widths {tuple(widths)} and blocks {tuple(blocks)} must list one number for each resolution')


def _channels(latents: int, size: tuple[int, ...]) -> int:
  """Returns the channels of a map of this size with so many latents.

  Raises:
    ValueError: there is no such map.
  """
  channels, rest = divmod(latents, size[0] * size[1])
  if rest or not channels:
    raise ValueError(f'{latents} latents are no map of {size[0]}x{size[1]} positions: take a multiple of their number')
  return channels


class MapDecoder(nn.Module):
  """A map of latents to features of each pixel, the mirror of `MapEncoder`."""

  size: tuple[int, int]
  features: int = 64
  widths: Sequence[int] = (48, 96, 96)
  blocks: Sequence[int] = (2, 2, 3)
  dense: bool = False
  dtype: jnp.dtype | str = 'float32'

  @nn.compact
  def __call__(self, z: Float[Array, 'B Z']) -> Float[Array, 'B H W F']:
    _check_scales(self.widths, self.blocks)
    halvings = len(self.widths) - 1
    top = tuple(n // 2**halvings for n in self.size)
    if any(n % 2**halvings for n in self.size):
      raise ValueError(f'images of {self.size[0]}x{self.size[1]} cannot be halved {halvings} times: list fewer widths')
    x = z.reshape(-1, *top, _channels(z.shape[-1], top))
    x = NormConv(self.widths[-1], 1, dtype=self.dtype)(x)
    for i, (width, count) in enumerate(zip(reversed(self.widths), reversed(self.blocks), strict=True)):
      x = TransposedConv(width, kernel=3, dtype=self.dtype)(elu(x)) if i else x
      for block in _blocks(width, count, self.dense, self.dtype):
        x = block(x)
    return NormConv(self.features, dtype=self.dtype)(elu(x))


class LadderEncoder(nn.Module):
  """An encoder of two levels: a map of latents, and a vector of latents of the same features of the image.

  It returns mean and log-variance of both, [B, Z_0] and [B, Z_1].
  """

  latents: Sequence[int]  # Z_0 of the map, Z_1 of the vector
  widths: Sequence[int] = (64, 128, 256)
  blocks: Sequence[int] = (1, 1, 2)
  top_width: int = 512
  dtype: jnp.dtype | str = 'float32'

  @nn.compact
  def __call__(self, x: Float[Array, 'B H W C']) -> Any:
    x = _encoded(x, self.widths, self.blocks, False, self.dtype)
    channels = _channels(self.latents[0], x.shape[1:3])
    both = nn.Conv(2 * channels, (1, 1), dtype=self.dtype)(elu(x)).astype(jnp.float32)
    mean, log_std = (part.reshape(x.shape[0], -1) for part in jnp.split(both, 2, -1))
    top = NormConv(self.top_width, stride=2, dtype=self.dtype)(elu(x))
    top = Block(self.top_width, act=elu, dtype=self.dtype)(top)
    flat = elu(top).reshape(x.shape[0], -1)
    return (mean, 2 * log_std), NormalHead(self.latents[1], self.dtype)(flat)


class MaskedMap(nn.Module):
  """A masked network of the latents of a map, [B, D] -> [B, N D], initially 0, as `nn.made.MADE` is of a vector.

  Latents are ordered by position, and at a position by channel. The first D outputs are their first parameters.
  """

  size: tuple[int, int, int]  # h, w, C
  num_parameters: int  # N
  hidden: Sequence[int] = (128, 128)
  dtype: jnp.dtype | str = 'float32'

  @nn.compact
  def __call__(self, z: Float[Array, 'B D']) -> Float[Array, 'B F']:
    channels, x = self.size[-1], z.reshape(-1, *self.size)
    for i, width in enumerate(self.hidden):
      sizes = group_sizes(width, channels)
      x = jax.nn.relu(masked.MaskedConv(sizes, masked.causal(3, False), not i, dtype=self.dtype)(x))
    last = group_sizes(self.num_parameters * channels, channels)
    x = Pointwise(last, init=nn.initializers.zeros, dtype=self.dtype, name='last')(x).astype(jnp.float32)
    x = x.reshape(*x.shape[:-1], channels, self.num_parameters)
    return jnp.moveaxis(x, -1, 1).reshape(z.shape[0], -1)
