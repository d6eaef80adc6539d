"""Autoregressive networks that see only the pixels near by, so that a latent code must hold what is global.

They are called as the networks of `dgm_jax.models.pixelcnn`, and draw whole pixels.

Axes: B batch, H height, W width, C channels, D condition, P parameters of a pixel's distribution.

Reference: Chen et al. 2017, arXiv:1611.02731, section 3.1, appendices A and B.
"""

import math
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from dgm_jax.models.pixelcnn import Condition
from dgm_jax.nn import masked
from dgm_jax.nn.blocks import elu
from dgm_jax.nn.masked import WHOLE, Place, Taps, condition_at
from dgm_jax.nn.weightnorm import GatedResnet, NormConv

__all__ = ['LocalPixelCNN', 'WindowPixelCNN', 'window_taps']

LUMINANCE = (0.299, 0.587, 0.114)  # of red, green and blue


class LocalPixelCNN(nn.Module):
  """A shallow PixelCNN: masked 3x3 layers in pairs, residual 1x1 layers between the pairs.

  With `tied`, all masked layers after the first share their weights; the first excludes the pixel itself, and its
  inputs are others. Six layers see 69 of the 406 previous pixels at (14, 14). The condition enters beside the image
  and, as it is no pixel, at the pixel itself.

  Reference: Chen et al. 2017, arXiv:1611.02731, appendix A.
  """

  num_parameters: int
  features: int = 12
  layers: int = 6  # masked
  pointwise: int = 4  # residual 1x1 blocks, dealt out evenly between the pairs
  tied: bool = True
  groups: int = 1
  dtype: jnp.dtype | str = 'float32'

  def setup(self):
    _check_groups(self)
    if self.layers < 2 or self.layers % 2:
      raise ValueError(f'LocalPixelCNN has its masked layers in pairs: layers must be 2, 4, ..., got {self.layers}')
    self.first = NormConv(self.features, masked.causal(3, False), masked.from_image, dtype=self.dtype)
    # Without a condition it is never called, so it has no parameters.
    self.condition_in = nn.Dense(self.features, use_bias=False, dtype=self.dtype)
    taps, count = masked.causal(3, True), 1 if self.tied else self.layers - 1
    self.masked = [NormConv(self.features, taps, dtype=self.dtype) for _ in range(count)]
    self.blocks = [_Block(self.features, self.dtype) for _ in range(self.pointwise)]
    self.head = NormConv(self.num_parameters, dtype=self.dtype)

  def __call__(self, image: Float[Array, 'B H W C'], condition: Condition = None) -> Float[Array, 'B H W P']:
    """Computes the parameters of all pixels."""
    return self.pixels(image, self.rows(image, condition), condition)

  def rows(self, image: Float[Array, 'B H W C'], condition: Condition = None, at: Place = WHOLE) -> Any:
    """Returns nothing: each position is computed from those before it."""
    return ()

  def pixels(
    self, image: Float[Array, 'B H W C'], above: Any, condition: Condition = None, at: Place = WHOLE
  ) -> Float[Array, '*S P']:
    """Computes the parameters of the pixels at a place."""
    x = self.first(image, at)
    if condition is not None:
      x += self.condition_in(condition_at(condition, at))
    x = x + self._masked(x, 0, at)
    pairs, done = self.layers // 2, 0
    for pair in range(1, pairs):
      until = self.pointwise * pair // (pairs - 1)
      for block in self.blocks[done:until]:
        x = block(x)
      x, done = x + self._masked(self._masked(x, 2 * pair - 1, at), 2 * pair, at), until
    return self.head(elu(x)).astype(jnp.float32)

  def _masked(self, x: Any, index: int, at: Place) -> Any:
    """Applies the masked layer of this number, which has a memory of its own even if its weights are shared."""
    layer = self.masked[0 if self.tied else index]
    return layer(elu(x), at, memory=f'rows_{index}')


class _Block(nn.Module):
  """A residual block of two 1x1 layers."""

  features: int
  dtype: jnp.dtype | str

  @nn.compact
  def __call__(self, x: Float[Array, '*S F']) -> Float[Array, '*S F']:
    y = NormConv(self.features, dtype=self.dtype)(elu(x))
    return x + NormConv(self.features, deviation=0.1, dtype=self.dtype)(elu(y))


class WindowPixelCNN(nn.Module):
  """A network that sees a window of exactly `wide` x `high` pixels above, and ceil((wide - 1) / 2) to the left.

  One convolution reads the window, 1x1 gated residual blocks follow. With `grey` it sees only the luminance of the
  previous pixels.

  Reference: Chen et al. 2017, arXiv:1611.02731, appendix B; the paper has several layers for a window.
  """

  num_parameters: int
  wide: int = 7
  high: int = 4
  features: int = 64
  blocks: int = 4
  grey: bool = False
  dropout: float = 0.0  # applied if there is an rng of that name
  nonlinearity: str = 'concat_elu'
  groups: int = 1
  dtype: jnp.dtype | str = 'float32'

  def setup(self):
    _check_groups(self)
    window = _grey_with_ones if self.grey else masked.from_image_with_ones
    self.first = NormConv(self.features, window_taps(self.wide, self.high), window, dtype=self.dtype)
    self.condition_in = nn.Dense(self.features, use_bias=False, dtype=self.dtype)
    block = lambda: GatedResnet(None, self.nonlinearity, self.dropout, self.dtype)
    self.stack = [block() for _ in range(self.blocks)]
    self.head = NormConv(self.num_parameters, dtype=self.dtype)

  def __call__(self, image: Float[Array, 'B H W C'], condition: Condition = None) -> Float[Array, 'B H W P']:
    """Computes the parameters of all pixels."""
    return self.pixels(image, self.rows(image, condition), condition)

  def rows(self, image: Float[Array, 'B H W C'], condition: Condition = None, at: Place = WHOLE) -> Any:
    """Returns nothing: a pixel depends on its window alone."""
    return ()

  def pixels(
    self, image: Float[Array, 'B H W C'], above: Any, condition: Condition = None, at: Place = WHOLE
  ) -> Float[Array, '*S P']:
    """Computes the parameters of the pixels at a place."""
    if at.row is None:
      image = masked.with_ones(luminance(image) if self.grey else image)
    x, condition = self.first(image, at), condition_at(condition, at)
    if condition is not None:
      x += self.condition_in(condition)
    for block in self.stack:
      x = block(x, None, condition, at)
    return self.head(elu(x)).astype(jnp.float32)


def window_taps(wide: int, high: int) -> Taps:
  """Returns the taps of a window: `high` rows above of `wide` pixels each, and half as many to the left.

  Raises:
    ValueError: the window is empty.
  """
  if wide < 1 or high < 0 or (wide == 1 and high == 0):
    raise ValueError(f'a window of {wide}x{high} pixels is empty: take wide >= 1 and high >= 1')
  left = math.ceil((wide - 1) / 2)
  return Taps(up=high, down=0, left=left, right=wide - 1 - left, last=left)


def luminance(image: Float[Array, '*S C']) -> Float[Array, '*S 1']:
  """Computes the luminance of red, green and blue."""
  if image.shape[-1] != len(LUMINANCE):
    raise ValueError(f'grey=True takes images of 3 channels, got {image.shape[-1]}: leave it out')
  return (image * jnp.array(LUMINANCE, image.dtype).reshape(*[1] * (image.ndim - 1), -1)).sum(-1, keepdims=True)


def _grey_with_ones(module: nn.Module, image: Array, taps: Taps, at: Place, memory: str = masked.MEMORY) -> Array:
  """Computes `from_image_with_ones` of the luminance of an image."""
  window = masked.from_image_with_ones(module, image, taps, at, memory)
  return jnp.concatenate([luminance(window[..., :-1]), window[..., -1:]], -1)


def _check_groups(network: nn.Module) -> None:
  """Refuses likelihoods that draw the channels of a pixel one after another."""
  if network.groups != 1:
    name = type(network).__name__
    raise ValueError(f'{name} draws whole pixels, got a likelihood of {network.groups} channels one after another')
