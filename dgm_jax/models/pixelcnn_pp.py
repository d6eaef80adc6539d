"""PixelCNN++: two streams of gated residual blocks at several resolutions, with long skips.

Axes: B batch, H height, W width, C channels, D condition, P parameters of a pixel's distribution.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dgm_jax.models.pixelcnn import Condition
from dgm_jax.nn import masked
from dgm_jax.nn.masked import WHOLE, Place, condition_at, rectangle
from dgm_jax.nn.weightnorm import GatedResnet, NormConv, NormUpsample

__all__ = ['PixelCNNpp', 'Stream']

ABOVE = rectangle(1, 0, 1, 1)  # 2x3: receptive field of a stream that is one row behind
BEFORE = rectangle(1, 0, 1, 0)  # 2x2: above and to the left


class Stream(nn.Module):
  """One of the two streams: blocks on the way down to the coarsest resolution and on the way up again.

  The maps of the way down are the skips of the way up, last first.
  """

  features: int
  blocks: int  # a resolution on the way down; one more on the way up at all but the coarsest
  levels: int
  taps: masked.Taps
  dropout: float
  nonlinearity: str
  dtype: jnp.dtype | str

  def setup(self):
    block = lambda: GatedResnet(self.taps, self.nonlinearity, self.dropout, self.dtype)
    levels = range(self.levels)
    self.down = [[block() for _ in range(self.blocks)] for _ in levels]
    last = self.levels - 1
    self.up = [[block() for _ in range(self.blocks + (level < last))] for level in levels]
    halving = self.taps._replace(stride=2)
    self.smaller = [NormConv(self.features, halving, dtype=self.dtype) for _ in range(last)]
    self.larger = [NormUpsample(self.features, self.taps.width, self.dtype) for _ in range(last)]

  def __call__(self, x, others, condition: Condition, at: Place):
    """Applies the stream.

    Args:
      x: [..., F], the first map.
      others: for each block in turn, the map of the other stream at its resolution, or None.
      condition: the condition of the image.
      at: the place.

    Returns:
      the map of each block, in turn; the last is the stream's output.
    """
    maps, skips, others = [], [x], iter(others)
    places = [at]
    for _ in range(self.levels - 1):
      places.append(masked.half(places[-1]))
    conditions = [
      None if condition is None else condition_at(_coarse(condition, n), place) for n, place in enumerate(places)
    ]
    for level, place in enumerate(places):
      for block in self.down[level]:
        x = block(x, _at(next(others), place), conditions[level], place)
        maps.append(x)
        skips.append(x)
      if level < self.levels - 1:
        x = self.smaller[level](x, place)
        skips.append(x)
    x = skips.pop()
    for level, place in reversed(list(enumerate(places))):
      for block in self.up[level]:
        other, skip = _at(next(others), place), skips.pop()
        x = block(x, skip if other is None else jnp.concatenate([other, skip], -1), conditions[level], place)
        maps.append(x)
      if level:
        x = self.larger[level - 1](x, places[level - 1])
    return maps


def _at(other, place: Place):
  return None if other is None else masked.column(other, place)


def _coarse(condition, level: int):
  """Returns a condition at a coarser resolution: of a map, the upper left value of each square."""
  return condition if condition.ndim == 2 else condition[:, :: 2**level, :: 2**level]


class PixelCNNpp(nn.Module):
  """The network; it models whole pixels, without an order of their channels.

  Height and width must be divisible by 2^(levels - 1).

  Reference: Salimans et al. 2017, arXiv:1701.05517.
  """

  num_parameters: int
  features: int = 192
  blocks: int = 5
  levels: int = 3
  dropout: float = 0.5
  nonlinearity: str = 'concat_elu'
  groups: int = 1
  dtype: jnp.dtype | str = 'float32'

  def setup(self):
    if self.groups != 1:
      raise ValueError(f'PixelCNNpp draws whole pixels, got a likelihood of {self.groups} channels one after another')
    first = lambda taps: NormConv(self.features, taps, masked.from_image_with_ones, dtype=self.dtype)
    stream = lambda taps: Stream(
      self.features, self.blocks, self.levels, taps, self.dropout, self.nonlinearity, self.dtype
    )
    self.first_above, self.above = first(rectangle(2, 1, 1, 1)), stream(ABOVE)
    self.first_row, self.first_column = first(rectangle(1, 1, 1, 1)), first(rectangle(1, 0, 1, -1))
    self.before = stream(BEFORE)
    self.head = NormConv(self.num_parameters, dtype=self.dtype)

  def __call__(self, image: Float[Array, 'B H W C'], condition: Condition = None) -> Float[Array, 'B H W P']:
    """Computes the parameters of all pixels."""
    return self.pixels(image, self.rows(image, condition), condition)

  def rows(self, image: Float[Array, 'B H W C'], condition: Condition = None, at: Place = WHOLE) -> Any:
    """Computes the maps of the stream whose receptive field is the rows above."""
    size = 2 ** (self.levels - 1)
    if image.shape[1] % size or image.shape[2] % size:
      raise ValueError(f'images of {image.shape[1]}x{image.shape[2]} cannot be halved {self.levels - 1} times')
    x = self.first_above(self._with_ones(image, at), at)
    count = self.levels * self.blocks * 2 + self.levels - 1
    return self.above(x, [None] * count, condition, at)

  def pixels(
    self, image: Float[Array, 'B H W C'], above: Any, condition: Condition = None, at: Place = WHOLE
  ) -> Float[Array, '*S P']:
    """Computes the parameters of the pixels at a place."""
    inputs = self._with_ones(image, at)
    x = self.first_row(inputs, at) + self.first_column(inputs, at)
    x = self.before(x, above, condition, at)[-1]
    return self.head(jax.nn.elu(x)).astype(jnp.float32)

  def _with_ones(self, image, at: Place):
    return masked.with_ones(image) if at.row is None else image
