"""PixelSNAIL: gated residual blocks between layers of attention over all previous pixels.

Axes: B batch, H height, W width, C channels, D condition, P parameters of a pixel's distribution.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dgm_jax.models.pixelcnn import Condition
from dgm_jax.nn import attention, masked
from dgm_jax.nn.masked import WHOLE, Place, condition_at, rectangle
from dgm_jax.nn.weightnorm import GatedResnet, NormConv

__all__ = ['CausalAttention', 'PixelSNAIL', 'coordinates']

BEFORE = rectangle(1, 0, 1, 0)  # 2x2: above and to the left


class CausalAttention(nn.Module):
  """Attention of each position to those before it.

  A key and a value are computed from a position's map, pixel and coordinates, a query from its map and coordinates.

  Reference: Chen et al. 2018, arXiv:1712.09763, figure 2 (after its program).
  """

  keys: int
  values: int
  chunk: int  # queries at a time
  nonlinearity: str
  dropout: float
  dtype: jnp.dtype | str

  def setup(self):
    block = lambda: GatedResnet(None, self.nonlinearity, self.dropout, self.dtype)
    dense = lambda features: NormConv(features, dtype=self.dtype)
    self.content_block, self.query_block = block(), block()
    self.content, self.query = dense(self.keys + self.values), dense(self.keys)

  def __call__(self, x: Float[Array, '*S F'], image: Float[Array, 'B H W C'], at: Place) -> Float[Array, '*S V']:
    if at.row is not None:
      return self._one(x, image, at)
    where = jnp.broadcast_to(coordinates(*image.shape[1:3]), (*image.shape[:3], 2))
    flat = lambda a: a.reshape(a.shape[0], -1, a.shape[-1])
    query, (key, value) = self._query(x, where), self._content(x, image, where)
    return attention.attend_in_chunks(flat(query), flat(key), flat(value), self.chunk).reshape(*x.shape[:3], -1)

  @nn.compact
  def _one(self, x, image, at: Place):
    """Attends from one position.

    Its own pixel is not sampled yet, so its key and value are computed at the next position.
    """
    batch, height, width = image.shape[:3]
    last = self.variable('cache', 'last', jnp.zeros_like, x)
    keys = self.variable('cache', 'keys', jnp.zeros, (batch, height * width, self.keys), x.dtype)
    values = self.variable('cache', 'values', jnp.zeros, (batch, height * width, self.values), x.dtype)
    now = at.row * width + at.column
    before = jnp.maximum(now - 1, 0)  # at the first position this writes what the second one overwrites
    where = jnp.broadcast_to(
      coordinates(height, width)[0].reshape(-1, 2)[jnp.stack([before, now])][:, None], (2, batch, 2)
    )
    key, value = self._content(last.value, image[:, before // width, before % width], where[0])
    keys.value, values.value = keys.value.at[:, before].set(key), values.value.at[:, before].set(value)
    last.value = x
    return attention.attend(self._query(x, where[1])[:, None], keys.value, values.value, now)[:, 0]

  def _query(self, x, where):
    return self.query(self.query_block(jnp.concatenate([x, where.astype(x.dtype)], -1)))

  def _content(self, x, pixel, where):
    parts = [part.astype(x.dtype) for part in (pixel, x, where)]
    both = self.content(self.content_block(jnp.concatenate(parts, -1)))
    return both[..., : self.keys], both[..., self.keys :]


def coordinates(height: int, width: int) -> Float[Array, '1 H W 2']:
  """Returns row and column of every position, in [-1/2, 1/2)."""
  rows, columns = jnp.arange(height) / height - 0.5, jnp.arange(width) / width - 0.5
  return jnp.stack(jnp.meshgrid(rows, columns, indexing='ij'), -1)[None]


class PixelSNAIL(nn.Module):
  """The network; it models whole pixels, without an order of their channels.

  Reference: Chen et al. 2018, arXiv:1712.09763, section 3.
  """

  num_parameters: int
  features: int = 256
  blocks: int = 12
  resnets: int = 4  # in each block, before the attention
  keys: int = 16
  values: int = 128
  chunk: int = 1024  # queries at a time
  dropout: float = 0.5
  nonlinearity: str = 'elu'
  groups: int = 1
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
    if self.groups != 1:
      raise ValueError(f'PixelSNAIL draws whole pixels, got a likelihood of {self.groups} channels one after another')
    condition, common = condition_at(condition, at), (self.nonlinearity, self.dropout, self.dtype)
    first = lambda taps: NormConv(self.features, taps, masked.from_image_with_ones, dtype=self.dtype)
    inputs = masked.with_ones(image) if at.row is None else image
    x = first(rectangle(1, 1, 1, 1))(inputs, at) + first(rectangle(1, 0, 1, -1))(inputs, at)
    for _ in range(self.blocks):
      for _ in range(self.resnets):
        x = GatedResnet(BEFORE, *common)(x, None, condition, at)
      attended = CausalAttention(self.keys, self.values, self.chunk, *common)(x, image, at)
      x = GatedResnet(None, *common)(x, attended, None, at)
    return NormConv(self.num_parameters, dtype=self.dtype)(jax.nn.elu(x)).astype(jnp.float32)
