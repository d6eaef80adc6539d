"""The U-Net of DDPM: residual blocks that know the step at falling and rising resolutions, with attention at some.

Axes: B batch, H height, W width, C channels, F features, E size of the step's embedding, K numbers for a dimension.

Reference: Ho et al. 2020, arXiv:2006.11239, appendix B, and its program.
"""

import math
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dgm_jax.nn.coupling import from_depth, to_depth

__all__ = ['UNet', 'embedding']

LONGEST = 10_000  # wavelength of an embedding, in units of 1 / 2 pi
REFERENCE = 1000  # steps that wavelengths are for
spread = nn.initializers.variance_scaling(1.0, 'fan_avg', 'uniform')


def embedding(t: Int[Array, 'B'], steps: int, size: int) -> Float[Array, 'B E']:
  """Computes sines and cosines of 1000 t / T at wavelengths from 2 pi to 20,000 pi.

  Args:
    t: [B] in 1 ... T.
    steps: T.
    size: E, even.

  Reference: Vaswani et al. 2017, arXiv:1706.03762, section 3.5.
  """
  rates = jnp.exp(-math.log(LONGEST) * jnp.arange(size // 2) / max(1, size // 2 - 1))
  angles = (t.astype(jnp.float32) - 1)[:, None] * REFERENCE / steps * rates[None]
  return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], 1)


class Block(nn.Module):
  """Two convolutions, each after a group normalisation and a swish; the step is added between them."""

  features: int
  groups: int
  dropout: float
  dtype: jnp.dtype | str = 'float32'

  @nn.compact
  def __call__(self, x: Float[Array, 'B H W C'], step: Float[Array, 'B E']) -> Float[Array, 'B H W F']:
    h = nn.Conv(self.features, (3, 3), kernel_init=spread, dtype=self.dtype)(self._active(x))
    h = h + nn.Dense(self.features, kernel_init=spread, dtype=self.dtype)(jax.nn.swish(step))[:, None, None]
    h = nn.Dropout(self.dropout, deterministic=not self.has_rng('dropout'))(self._active(h))
    h = nn.Conv(self.features, (3, 3), kernel_init=nn.initializers.zeros, dtype=self.dtype)(h)
    if x.shape[-1] != self.features:
      x = nn.Dense(self.features, kernel_init=spread, dtype=self.dtype)(x)
    return x + h

  def _active(self, h: jax.Array) -> jax.Array:
    return jax.nn.swish(normalise(h, self.groups, self.dtype))


class Attention(nn.Module):
  """Adds to each place what it finds at all places: x + o(softmax(query key^T / sqrt(C)) value)."""

  groups: int
  dtype: jnp.dtype | str = 'float32'

  @nn.compact
  def __call__(self, x: Float[Array, 'B H W C']) -> Float[Array, 'B H W C']:
    batch, _, _, channels = x.shape
    h = normalise(x, self.groups, self.dtype).reshape(batch, -1, channels)
    query, key, value = (
      nn.Dense(channels, kernel_init=spread, dtype=self.dtype, name=name)(h) for name in ('query', 'key', 'value')
    )
    scores = jnp.einsum('bmc,bnc->bmn', query, key, preferred_element_type=jnp.float32) / math.sqrt(channels)
    mixed = jnp.einsum('bmn,bnc->bmc', jax.nn.softmax(scores).astype(value.dtype), value)
    out = nn.Dense(channels, kernel_init=nn.initializers.zeros, dtype=self.dtype, name='output')(mixed)
    return x + out.reshape(x.shape)


def normalise(h: jax.Array, groups: int, dtype: jnp.dtype | str) -> jax.Array:
  """Normalises groups of channels over the places of each example, within a module. Statistics are float32."""
  return nn.GroupNorm(groups, epsilon=1e-6, dtype=dtype)(h)


class UNet(nn.Module):
  """Blocks at falling resolutions, and at rising ones, which also see what the falling ones gave.

  With `patch`, squares of pixels are channels on the way in and become pixels again at the end. The last layer is 0
  initially.
  """

  outputs: int  # K
  steps: int
  features: int = 128
  multipliers: Sequence[int] = (1, 2, 2, 2)  # of the features, at each resolution from that of the image down
  blocks: int = 2  # of each resolution on the way down
  attention: Sequence[int] = (16,)  # heights of maps with attention
  groups: int = 32
  dropout: float = 0.1
  patch: int = 1
  dtype: jnp.dtype | str = 'float32'

  @nn.compact
  def __call__(self, x: Float[Array, 'B H W C'], t: Int[Array, 'B']) -> Float[Array, 'B H W C K']:
    lowest = self.patch * 2 ** (len(self.multipliers) - 1)
    if x.shape[1] % lowest or x.shape[2] % lowest:
      raise ValueError(
        f'{len(self.multipliers)} multipliers need sides that {lowest} divides, got {x.shape[1]}x{x.shape[2]}'
      )
    step = embedding(t, self.steps, self.features)
    step = nn.Dense(4 * self.features, kernel_init=spread, dtype=self.dtype, name='step_0')(step)
    step = nn.Dense(4 * self.features, kernel_init=spread, dtype=self.dtype, name='step_1')(jax.nn.swish(step))
    h = nn.Conv(self.features, (3, 3), kernel_init=spread, dtype=self.dtype, name='input')(to_depth(x, self.patch))
    h, maps = self._down(h, step)
    h = self._block(h, step, h.shape[-1])
    h = Attention(self.groups, self.dtype)(h)
    h = self._block(h, step, h.shape[-1])
    h = jax.nn.swish(normalise(self._up(h, maps, step), self.groups, self.dtype))
    size = x.shape[-1] * self.outputs * self.patch**2
    h = nn.Conv(size, (3, 3), kernel_init=nn.initializers.zeros, dtype=self.dtype, name='output')(h)
    return from_depth(h.astype(jnp.float32), self.patch).reshape(*x.shape, self.outputs)

  def _block(self, h: jax.Array, step: jax.Array, features: int) -> jax.Array:
    return Block(features, self.groups, self.dropout, self.dtype)(h, step)

  def _attended(self, h: jax.Array) -> jax.Array:
    return Attention(self.groups, self.dtype)(h) if h.shape[1] in self.attention else h

  def _down(self, h: jax.Array, step: jax.Array) -> tuple[jax.Array, list[jax.Array]]:
    """Returns the lowest map, and all maps on the way."""
    maps = [h]
    for level, multiplier in enumerate(self.multipliers):
      for _ in range(self.blocks):
        h = self._attended(self._block(h, step, multiplier * self.features))
        maps.append(h)
      if level < len(self.multipliers) - 1:
        h = nn.Conv(h.shape[-1], (3, 3), 2, kernel_init=spread, dtype=self.dtype)(h)
        maps.append(h)
    return h, maps

  def _up(self, h: jax.Array, maps: list[jax.Array], step: jax.Array) -> jax.Array:
    """Returns the map of the image's size; each block takes the last map that is left."""
    for level, multiplier in reversed(list(enumerate(self.multipliers))):
      for _ in range(self.blocks + 1):
        h = self._block(jnp.concatenate([h, maps.pop()], -1), step, multiplier * self.features)
        h = self._attended(h)
      if level:
        h = nn.Conv(h.shape[-1], (3, 3), kernel_init=spread, dtype=self.dtype)(h.repeat(2, 1).repeat(2, 2))
    return h
