"""Causal attention, in which each position attends to those before it, and attention between all places of an image.

Axes: B batch, N positions in raster order, K features of keys, V features of values, H height, W width, C channels.
"""

import math
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

__all__ = ['ImageAttention', 'attend', 'attend_in_chunks']

# Keeps the quotient of the first position defined, as in the authors' program: it attends to nothing and is zero.
_NOTHING = 1e-6
FEW = 2**24  # most scores of a whole batch that a layer stores for the gradient


def attend(
  query: Float[Array, 'B M K'], key: Float[Array, 'B N K'], value: Float[Array, 'B N V'], first: Array | int = 0
) -> Float[Array, 'B M V']:
  """Averages the values of earlier positions, weighted by the softmax of query . key / sqrt(K).

  Args:
    query: of the positions first, first + 1, ...
    key: of all positions; a query's own and later ones are masked.
    value: of all positions.
    first: the position of the first query.

  Returns:
    [B, M, V]; zero at position 0.

  Reference: Chen et al. 2018, arXiv:1712.09763, section 2.
  """
  scores = jnp.einsum('bmk,bnk->bmn', query, key, preferred_element_type=jnp.float32) / math.sqrt(query.shape[-1])
  own = first + jnp.arange(query.shape[1])
  mask = (jnp.arange(key.shape[1])[None] < own[:, None])[None]
  # The largest unmasked score, or -1e30 if there is none. The shift of a softmax has no gradient.
  top = jax.lax.stop_gradient(jnp.max(scores, -1, keepdims=True, where=mask, initial=-1e30))
  weights = jnp.where(mask, jnp.exp(jnp.where(mask, scores - top, 0.0)), 0.0)
  total = weights.sum(-1, keepdims=True) + _NOTHING
  return jnp.einsum('bmn,bnv->bmv', (weights / total).astype(value.dtype), value)


def attend_in_chunks(
  query: Float[Array, 'B N K'], key: Float[Array, 'B N K'], value: Float[Array, 'B N V'], chunk: int
) -> Float[Array, 'B N V']:
  """Computes `attend` for all positions, in chunks of at most `chunk` queries.

  If all scores fit in memory, a chunk skips the keys beyond its end: c chunks take (c + 1) / 2c of the arithmetic of
  `attend`, and their scores are stored for the gradient. Otherwise one chunk's scores are in memory at a time, forward
  and backward.
  """
  batch, n, features = query.shape
  size = max(d for d in range(1, min(chunk, n) + 1) if n % d == 0)
  if size == n:
    return attend(query, key, value)
  if batch * n * n <= FEW:
    ends = range(size, n + 1, size)
    parts = [attend(query[:, end - size : end], key[:, :end], value[:, :end], end - size) for end in ends]
    return jnp.concatenate(parts, 1)
  chunks = query.reshape(batch, n // size, size, features).swapaxes(0, 1)
  one = jax.checkpoint(lambda first_and_chunk: attend(first_and_chunk[1], key, value, first_and_chunk[0]))
  out = jax.lax.map(one, (jnp.arange(0, n, size), chunks))
  return out.swapaxes(0, 1).reshape(batch, n, -1)


class ImageAttention(nn.Module):
  """Adds to an image what its places find at all others: x + gain o(softmax(query key^T) value), with a gain from zero.

  Queries and keys have C / 8 channels, values C / 2. Keys and values are the largest of squares of 2 x 2 places. No
  layer has a bias.

  Reference: Zhang et al. 2019, arXiv:1805.08318, equations 1 to 3 (pooling and C / 2 as in its program).
  """

  kernel_init: Callable = nn.initializers.orthogonal()
  dtype: jnp.dtype | str = 'float32'

  @nn.compact
  def __call__(self, x: Float[Array, 'B H W C']) -> Float[Array, 'B H W C']:
    (batch, _, _, channels), few = x.shape, max(1, x.shape[-1] // 8)
    conv = lambda size, name: nn.Conv(
      size, (1, 1), use_bias=False, kernel_init=self.kernel_init, dtype=self.dtype, name=name
    )
    places = lambda h: h.reshape(batch, -1, h.shape[-1])
    pooled = lambda h: places(nn.max_pool(h, (2, 2), (2, 2)))
    query, key = places(conv(few, 'query')(x)), pooled(conv(few, 'key')(x))
    value = pooled(conv(max(1, channels // 2), 'value')(x))
    scores = jnp.einsum('bmk,bnk->bmn', query, key, preferred_element_type=jnp.float32)
    mixed = jnp.einsum('bmn,bnv->bmv', jax.nn.softmax(scores).astype(value.dtype), value)
    gain = self.param('gain', nn.initializers.zeros, ())
    return x + gain.astype(x.dtype) * conv(channels, 'output')(mixed.reshape(*x.shape[:3], -1)).astype(x.dtype)
