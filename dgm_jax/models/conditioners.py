"""Networks that compute the parameters of couplings: dense, RealNVP's residual one, Glow's.

Axes: B batch, H height, W width, C channels, D dimensions, F features.
"""

from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dgm_jax.nn.blocks import ACTIVATIONS, glorot
from dgm_jax.nn.coupling import checkerboard
from dgm_jax.nn.norm import BatchNorm

__all__ = ['EDGES', 'Dense', 'GlowNet', 'OnGrid', 'ResNet', 'Started', 'TanhScale', 'ZeroConv', 'symmetric']


def symmetric(reach: float) -> Callable:
  """Returns the initializer that is uniform in [-reach, reach]."""
  return lambda key, shape, dtype=jnp.float32: jax.random.uniform(key, shape, dtype, -reach, reach)


class Dense(nn.Module):
  """Hidden layers and a linear one: [B, D] -> [B, features]."""

  features: int
  hidden: Sequence[int]
  activation: str = 'relu'
  start: Callable = glorot  # of the hidden layers' weights
  last: Callable = nn.initializers.zeros  # of the linear layer's
  dtype: jnp.dtype | str | None = None

  @nn.compact
  def __call__(self, x: Float[Array, 'B D']) -> Float[Array, 'B F']:
    h = x
    for size in self.hidden:
      h = ACTIVATIONS[self.activation](nn.Dense(size, kernel_init=self.start, dtype=self.dtype)(h))
    return nn.Dense(self.features, kernel_init=self.last, dtype=self.dtype)(h).astype(x.dtype)


class TanhScale(nn.Module):
  """A network whose second half of outputs becomes g tanh(.), with one trained g.

  If both g and the network's last layer were 0 initially, their gradients would be 0, too.

  Reference: Dinh et al. 2017, arXiv:1605.08803, section 4.1.
  """

  network: Callable  # features -> module
  features: int
  start: float  # g

  @nn.compact
  def __call__(self, x: Float[Array, 'B *S C']) -> Float[Array, 'B *S F']:
    shift, raw = jnp.split(self.network(self.features)(x), 2, -1)
    g = self.param('scale', nn.initializers.constant(self.start), ())
    return jnp.concatenate([shift, g * jnp.tanh(raw)], -1)


class ResNet(nn.Module):
  """RealNVP's network: weight-normalised convolutions, batch normalisation, a sum of 1x1 skips.

  A convolution before a normalisation or before another layer's gain has no gain of its own.

  Reference: Dinh et al. 2017, arXiv:1605.08803, section 4.1 (after its program).
  """

  features: int
  width: int = 64
  blocks: int = 8
  factor: float = 1.0  # of the normalised input: 2 in couplings of checkerboards
  dtype: jnp.dtype | str | None = None

  @nn.compact
  def __call__(self, x: Float[Array, 'B H W C']) -> Float[Array, 'B H W F']:
    norm = lambda h: nn.relu(BatchNorm(1e-4, scale=False, dtype=self.dtype)(h))
    conv = lambda size, width, gain=True, **more: nn.WeightNorm(
      nn.Conv(width, (size, size), dtype=self.dtype, **more), use_scale=gain
    )
    h = self.factor * BatchNorm(1e-4, scale=False, dtype=self.dtype)(x)
    h = conv(3, self.width, False)(nn.relu(jnp.concatenate([h, -h], -1)))
    skips = conv(1, self.width)(h)
    for _ in range(self.blocks):
      h = h + conv(3, self.width)(norm(conv(3, self.width, False, use_bias=False)(norm(h))))
      skips = skips + conv(1, self.width)(h)
    return conv(1, self.features)(norm(skips)).astype(x.dtype)


class OnGrid(nn.Module):
  """A network on the full grid: its input is one colour of a checkerboard, with zeros between, its output the other.

  [B, H/2, W/2, 2 C] -> [B, H/2, W/2, N 2 C]. The last channel of the network's input is the mask of the colour.
  """

  network: Callable  # features -> module
  features: int  # 2 N C
  kept: int

  @nn.compact
  def __call__(self, x: Float[Array, 'B h w D']) -> Float[Array, 'B h w F']:
    board, blank, count = checkerboard(), jnp.zeros_like(x), self.features // x.shape[-1]
    place = lambda half, other: board.inverse({}, None, (half, other) if self.kept == 0 else (other, half))[0]
    colour = jnp.ones_like(x[..., :2])
    h = self.network(self.features // 2)(jnp.concatenate([place(x, blank), place(colour, 0 * colour)], -1))
    parts = [board.forward({}, None, part)[0][1 - self.kept] for part in jnp.split(h, count, -1)]
    return jnp.concatenate(parts, -1)


class GlowNet(nn.Module):
  """3x3, 1x1 and 3x3 convolutions; the last is 0 initially, its output scaled by exp(3 s).

  A channel of its own marks the padding (`EDGES`). The hidden maps are normalised by the first batch.

  Reference: Kingma & Dhariwal 2018, arXiv:1807.03039 (after its program).
  """

  features: int
  width: int = 512
  act: Callable = nn.relu
  edge: str = 'padding'
  dtype: jnp.dtype | str | None = None

  @nn.compact
  def __call__(self, x: Float[Array, 'B H W C']) -> Float[Array, 'B H W F']:
    small = nn.initializers.normal(0.05)
    h = nn.Conv(self.width, (3, 3), padding='VALID', use_bias=False, kernel_init=small, dtype=self.dtype)(
      EDGES[self.edge](x)
    )
    h = self.act(Started(name='started_0')(h))
    h = nn.Conv(self.width, (1, 1), use_bias=False, kernel_init=small, dtype=self.dtype)(h)
    h = self.act(Started(name='started_1')(h))
    return ZeroConv(self.features, self.edge, self.dtype)(h).astype(x.dtype)


class ZeroConv(nn.Module):
  """A 3x3 convolution that is 0 initially, its output scaled by exp(3 s)."""

  features: int
  edge: str = 'padding'
  dtype: jnp.dtype | str | None = None

  @nn.compact
  def __call__(self, x: Float[Array, 'B H W C']) -> Float[Array, 'B H W F']:
    zeros = nn.initializers.zeros
    h = nn.Conv(self.features, (3, 3), padding='VALID', kernel_init=zeros, dtype=self.dtype)(EDGES[self.edge](x))
    s = self.param('log_scale', nn.initializers.zeros, (1, 1, 1, self.features))
    return (h * jnp.exp(3 * s)).astype(x.dtype)


class Started(nn.Module):
  """The map (x + bias) exp(s) by channel, with mean 0 and variance 1 over the batch of `init`."""

  @nn.compact
  def __call__(self, x: Float[Array, 'B H W C']) -> Float[Array, 'B H W C']:
    wide = (1, 1, 1, x.shape[-1])
    mean = lambda key: -x.astype(jnp.float32).mean((0, 1, 2)).reshape(wide)
    spread = lambda key: -jnp.log(x.astype(jnp.float32).std((0, 1, 2)) + 1e-6).reshape(wide)
    bias, s = self.param('bias', mean), self.param('log_scale', spread)
    return ((x + bias) * jnp.exp(s)).astype(x.dtype)


def _pad(x: jax.Array) -> jax.Array:
  """Pads each image with zeros, and appends a channel that is 1 in the padding and 0 in the image.

  [B, H, W, C] -> [B, H + 2, W + 2, C + 1].
  """
  outside = jnp.pad(jnp.zeros((*x.shape[:3], 1), x.dtype), AROUND, constant_values=1)
  return jnp.concatenate([jnp.pad(x, AROUND), outside], -1)


def _mark_border(x: jax.Array) -> jax.Array:
  """Pads each image with zeros, and appends a channel that is 1 at the border of the image alone."""
  height, width = (np.isin(np.arange(n), (0, n - 1)) for n in x.shape[1:3])
  border = jnp.asarray(height[:, None] | width[None], x.dtype)[None, :, :, None]
  return jnp.pad(jnp.concatenate([x, jnp.broadcast_to(border, (*x.shape[:3], 1))], -1), AROUND)


AROUND = ((0, 0), (1, 1), (1, 1), (0, 0))
EDGES = {'padding': _pad, 'image': _mark_border}  # where the appended channel is 1
