"""PixelCNN and Gated PixelCNN: the distribution of each pixel given those before it in raster order.

Every network is called as (image, condition) on whole images. For sampling, position by position, `rows` computes the
features of a row from the rows above it, and `pixels` one position of the row.

Axes: B batch, H height, W width, C channels, D condition, P parameters of a pixel's distribution.
"""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dgm_jax.nn import masked
from dgm_jax.nn.masked import WHOLE, Place, Pointwise, condition_at, from_image, gate, group_sizes

__all__ = ['Condition', 'GatedLayer', 'GatedPixelCNN', 'GatedPointwise', 'PixelCNN', 'head']

Condition = Float[Array, 'B D'] | Float[Array, 'B H W D'] | None


class PixelCNN(nn.Module):
  """A PixelCNN: masked convolutions with residual blocks.

  Its receptive field lacks a wedge above and to the right of a pixel.

  Reference: van den Oord et al. 2016, arXiv:1601.06759, table 1.
  """

  num_parameters: int
  hidden: int = 16  # h; the maps between blocks have 2 h
  blocks: int = 7
  head: int = 32
  groups: int = 1  # autoregressive groups within a pixel
  first: int = 7  # the side of the first kernel
  size: int = 3
  dtype: jnp.dtype | str = 'float32'

  def __call__(self, image: Float[Array, 'B H W C'], condition: Condition = None) -> Float[Array, 'B H W P']:
    """Computes the parameters of all pixels."""
    return self.pixels(image, self.rows(image, condition), condition)

  def rows(self, image: Float[Array, 'B H W C'], condition: Condition = None, at: Place = WHOLE) -> Any:
    """Returns nothing: each position is computed from those before it."""
    return ()

  @nn.compact
  def pixels(
    self, image: Float[Array, 'B H W C'], above: Any, condition: Condition = None, at: Place = WHOLE
  ) -> Float[Array, '*S P']:
    """Computes the parameters of the pixels at a place."""
    wide, narrow, options = (
      group_sizes(2 * self.hidden, self.groups),
      group_sizes(self.hidden, self.groups),
      {'dtype': self.dtype},
    )
    condition = condition_at(condition, at)
    # The blocks are summed. Each has a share of the variance, so that the sum's is independent of their number.
    share = nn.initializers.variance_scaling(2.0 / max(self.blocks, 1), 'fan_avg', 'uniform')
    x = masked.MaskedConv(wide, masked.causal(self.first, False), True, from_image, **options)(image, at)
    for _ in range(self.blocks):
      y = _add_condition(Pointwise(narrow, **options)(jax.nn.relu(x)), condition, self.dtype)
      y = masked.MaskedConv(narrow, masked.causal(self.size, False), **options)(jax.nn.relu(y), at)
      x = x + Pointwise(wide, init=share, **options)(jax.nn.relu(y))
    return head(x, (self.head, self.head), self.num_parameters, self.groups, self.dtype)


def head(x: Any, hidden: Sequence[int], num_parameters: int, groups: int, dtype: Any) -> Any:
  """Applies 1x1 layers after the rectifier and returns the parameters, float32."""
  for features in hidden:
    x = Pointwise(group_sizes(features, groups), dtype=dtype)(jax.nn.relu(x))
  last = Pointwise(group_sizes(num_parameters, groups), init=nn.initializers.glorot_uniform(), dtype=dtype)
  return last(jax.nn.relu(x)).astype(jnp.float32)


def _add_condition(y, condition, dtype):
  """Adds a linear map of the condition to y, if there is a condition."""
  if condition is None:
    return y
  return y + nn.Dense(y.shape[-1], use_bias=False, dtype=dtype)(condition)


class GatedPixelCNN(nn.Module):
  """A Gated PixelCNN: a vertical stack for the rows above and a horizontal one for the pixels before.

  The receptive field is every previous pixel. The image enters the vertical stack from the row above, so that the link
  to the horizontal stack needs no shift. With `gated_head`, the head is that many gated 1x1 layers, which the condition
  enters, too, and a linear one.

  Reference: van den Oord et al. 2016, arXiv:1606.05328, section 2 and figure 2; for the gated head, Gulrajani et al.
  2017, arXiv:1611.05013, and its program.
  """

  num_parameters: int
  features: int = 32
  layers: int = 7
  head: int = 32
  groups: int = 1
  first: int = 7
  size: int = 3
  dropout: float = 0.0  # applied if there is an rng of that name
  gated_head: int = 0  # layers
  dtype: jnp.dtype | str = 'float32'

  def setup(self):
    sizes = group_sizes(self.features, self.groups)
    self.stack = [
      GatedLayer(sizes, self.size if i else self.first, not i, self.dropout, self.dtype) for i in range(self.layers + 1)
    ]

  def __call__(self, image: Float[Array, 'B H W C'], condition: Condition = None) -> Float[Array, 'B H W P']:
    """Computes the parameters of all pixels."""
    return self.pixels(image, self.rows(image, condition), condition)

  def rows(self, image: Float[Array, 'B H W C'], condition: Condition = None, at: Place = WHOLE) -> Any:
    """Computes the link of each layer from the vertical stack to the horizontal one, [..., 2 F] each."""
    x, links = image, []
    for layer in self.stack:
      x, link = layer.vertical(x, condition_at(condition, at), at)
      links.append(link)
    return links

  @nn.compact
  def pixels(
    self, image: Float[Array, 'B H W C'], above: Any, condition: Condition = None, at: Place = WHOLE
  ) -> Float[Array, '*S P']:
    """Computes the parameters of the pixels at a place."""
    x = image
    for layer, link in zip(self.stack, masked.column(above, at), strict=True):
      x = layer.horizontal(x, link, condition_at(condition, at), at)
    if not self.gated_head:
      return head(x, (self.head,), self.num_parameters, self.groups, self.dtype)
    for _ in range(self.gated_head):
      x = GatedPointwise(group_sizes(self.head, self.groups), self.dtype)(x, condition_at(condition, at))
    last = Pointwise(group_sizes(self.num_parameters, self.groups), dtype=self.dtype, name='last')
    return last(x).astype(jnp.float32)


class GatedPointwise(nn.Module):
  """A gated 1x1 layer with a condition: [..., C] -> [..., sum(sizes)]."""

  sizes: Sequence[int]  # features of each color
  dtype: jnp.dtype | str

  @nn.compact
  def __call__(self, x: Float[Array, '*S C'], condition: Any) -> Float[Array, '*S F']:
    y = Pointwise(tuple(2 * n for n in self.sizes), dtype=self.dtype)(x)
    return gate(_add_condition(y, condition, self.dtype), self.sizes)


class GatedLayer(nn.Module):
  """A layer of both stacks."""

  sizes: Sequence[int]  # features of each color
  size: int  # the side of the square kernel that the two stacks share
  first: bool  # its input is the image strictly before the pixel; it has no residual
  dropout: float
  dtype: jnp.dtype | str

  def setup(self):
    half, features = self.size // 2, sum(self.sizes)
    twice, window = tuple(2 * n for n in self.sizes), from_image if self.first else masked.from_cache
    above = masked.rectangle(half + self.first, self.first, half, half)
    self.down = masked.Conv(2 * features, above, window, dtype=self.dtype)
    self.link = nn.Dense(2 * features, use_bias=False, dtype=self.dtype)
    self.across = masked.MaskedConv(twice, masked.before(self.size), self.first, window, dtype=self.dtype)
    self.out = Pointwise(self.sizes, dtype=self.dtype)
    self.drop = nn.Dropout(self.dropout)
    # Without a condition these are never called, so they have no parameters.
    self.condition_down = nn.Dense(2 * features, use_bias=False, dtype=self.dtype)
    self.condition_across = nn.Dense(2 * features, use_bias=False, dtype=self.dtype)

  def vertical(self, x, condition, at: Place):
    """Computes the next map of the vertical stack [..., F], and the link to the horizontal one [..., 2 F]."""
    y = self.down(x, at)
    link = self.link(y)
    if condition is not None:
      y += self.condition_down(condition)
    return gate(y, (sum(self.sizes),)), link

  def horizontal(self, x, link, condition, at: Place):
    """Computes the next map of the horizontal stack, [..., F]."""
    y = self.across(x, at) + link
    if condition is not None:
      y += self.condition_across(condition)
    y = self.out(self.drop(gate(y, self.sizes), deterministic=not self.has_rng('dropout')))
    return y if self.first else x + y
