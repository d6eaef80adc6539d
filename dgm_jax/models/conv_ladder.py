"""Ladders of maps of latents, inferred from the top down; each level depends on all levels above.

`Tower` makes a ladder of an encoder and a decoder. `GatedEncoder` and `GatedDecoder` are those of the program
addtt/ladder-vae-pytorch; `models.deep_ladder` has those of VDVAE.

Axes: B batch, N = B k rows, k samples of an example side by side, H height, W width, C channels, F features, D pixels;
level 0 is next to the data.
"""

from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dgm_jax.models.ladder import Normal, Rung, repeat, sample
from dgm_jax.nn.blocks import NHWC, elu, transposed
from dgm_jax.nn.norm import BatchNorm

__all__ = [
  'Block', 'Conv', 'GatedDecoder', 'GatedEncoder', 'Tower', 'descend', 'gated_shapes', 'normal', 'pixel_params',
  'uniform',
]  # fmt: skip

HEADS = 0.1  # first deviation of means and log-variances, so that first divergences are a few nats
uniform = nn.initializers.variance_scaling(1 / 3, 'fan_in', 'uniform')  # of PyTorch's layers


class Tower(nn.Module):
  """A ladder of an encoder, x -> features of each level, and a decoder that infers and samples the levels."""

  encoder: nn.Module
  decoder: nn.Module

  def __call__(
    self, x: Float[Array, 'B H W C'], noise: Sequence[Float[Array, 'N _ _ _']]
  ) -> tuple[list[Rung], tuple[Float[Array, 'N D'], ...]]:
    """Samples the posterior by standard normal noise of each level, from the data up.

    Returns:
      the levels, from the data up, and the likelihood's parameters.
    """
    return self.decoder(self.encoder(x), noise)

  def generate(
    self, noise: Sequence[Float[Array, 'N _ _ _']], top: Sequence[Float[Array, 'N _ _ _']] = ()
  ) -> tuple[Float[Array, 'N D'], ...]:
    """Computes the likelihood's parameters for latents from the prior.

    Args:
      noise: of each level, from the data up; zeros are for the prior's means.
      top: latents of the upper levels, from the top down, in place of samples.
    """
    return self.decoder(None, noise, top)[1]

  def top_prior(self) -> Normal:
    """Returns mean and log-variance of the top level's prior, [1, H, W, C] each."""
    return self.decoder.top_prior()


def descend(
  rungs: Sequence[Callable],
  h: Array | None,
  features: Sequence[Array] | None,
  noise: Sequence[Array],
  top: Sequence[Array],
) -> tuple[Array | None, list[Rung]]:
  """Applies the rungs from the top down.

  Args:
    rungs: (h, features of the level or None, noise, latents or None) -> (h, Rung), from the top down.
    h: the input of the first one.
    features: of the encoder for each level, from the data up; None: the latents are from the prior.
    noise: of each level, from the data up.
    top: latents of the upper levels, from the top down.

  Returns:
    h below the last rung, and the levels from the data up.
  """
  levels = []
  for depth, rung in enumerate(rungs):
    level = len(rungs) - 1 - depth
    own = None if features is None else features[level]
    h, latents = rung(h, own, noise[level], top[depth] if depth < len(top) else None)
    levels.append(latents)
  return h, levels[::-1]


def normal(params: Array) -> Normal:
  """Splits features into mean and log-variance, float32."""
  mean, logvar = jnp.split(params.astype(jnp.float32), 2, -1)
  return mean, logvar


def pixel_params(out: Array, parts: int) -> tuple[Array, ...]:
  """Splits a map into `parts` parameters of the likelihood, each flattened to [N, D], float32."""
  return tuple(part.reshape(out.shape[0], -1) for part in jnp.split(out.astype(jnp.float32), parts, -1))


class Conv(nn.Module):
  """A convolution of stride 1 or 2, or a transposed one of stride 2; its first outputs have mean 0."""

  features: int
  size: int = 3
  stride: int = 1
  up: bool = False
  bias: bool = True
  deviation: float = 1.0  # of the first outputs
  dtype: jnp.dtype | str = 'float32'

  @nn.compact
  def __call__(self, x: Float[Array, 'N H W C']) -> Float[Array, 'N h w F']:
    x, shape = x.astype(self.dtype), (self.size, self.size, x.shape[-1], self.features)

    def apply(kernel):
      kernel = kernel.astype(self.dtype)
      if self.up:
        return transposed(x, kernel)
      return jax.lax.conv_general_dilated(x, kernel, (self.stride,) * 2, 'SAME', dimension_numbers=NHWC)

    kernel_init, bias_init = uniform, nn.initializers.zeros
    if self.is_initializing():
      raw = uniform(self.make_rng('params'), shape)
      y = apply(raw).astype(jnp.float32)
      factor = self.deviation * jax.lax.rsqrt(y.var((0, 1, 2)) + 1e-10)
      shift = -y.mean((0, 1, 2)) * factor
      kernel_init = lambda key, shape: raw * factor.reshape(1, 1, 1, -1)
      bias_init = lambda key, shape: shift
    y = apply(self.param('kernel', kernel_init, shape))
    if not self.bias:
      return y
    return y + self.param('bias', bias_init, (self.features,)).astype(y.dtype).reshape(1, 1, 1, -1)


class Block(nn.Module):
  """A residual block of two batch-normalised 3x3 convolutions and a gate, after a change of size: [N, H, W, F].

  The first convolution of the two has no bias, since the next normalisation would take it away.
  """

  resize: str = ''  # or 'down', 'up'
  gated: bool = True
  dropout: float = 0.0  # of whole maps, applied if there is an rng of that name
  dtype: jnp.dtype | str = 'float32'

  @nn.compact
  def __call__(self, x: Float[Array, 'N H W F']) -> Float[Array, 'N h w F']:
    features, conv = x.shape[-1], lambda *args, **more: Conv(*args, dtype=self.dtype, **more)
    if self.resize:
      up = self.resize == 'up'
      x = conv(features, stride=1 if up else 2, up=up, name='resize')(x)
    h = x
    for i in range(2):
      h = conv(features, bias=i == 1, name=f'conv_{i}')(elu(BatchNorm(dtype=self.dtype, name=f'norm_{i}')(h)))
      h = nn.Dropout(self.dropout, (1, 2), deterministic=not self.has_rng('dropout'))(h)
    if self.gated:
      a, b = jnp.split(conv(2 * features, 1, name='gate')(h), 2, -1)
      h = elu(a) * jax.nn.sigmoid(b)
    return x + h


class Merge(nn.Module):
  """Two maps side by side, brought to the width of one, and a residual block."""

  dropout: float = 0.0
  dtype: jnp.dtype | str = 'float32'

  @nn.compact
  def __call__(self, x: Float[Array, 'N H W F'], y: Float[Array, 'N H W F']) -> Float[Array, 'N H W F']:
    h = Conv(x.shape[-1], 1, dtype=self.dtype, name='linear')(jnp.concatenate([x, y], -1))
    return Block(dropout=self.dropout, dtype=self.dtype, name='block')(h)


class GatedEncoder(nn.Module):
  """The features of all levels, each after residual blocks that may halve the map.

  Images are padded by zeros to a multiple of what the halvings divide by.
  """

  down: Sequence[int]  # halvings below each level, from the data up, beside a first one
  features: int = 64
  blocks: int = 4
  dropout: float = 0.2
  dtype: jnp.dtype | str = 'float32'

  @nn.compact
  def __call__(self, x: Float[Array, 'B H W C']) -> list[Float[Array, 'B _ _ F']]:
    sides = [(low, total - low) for total in _padding(x.shape[1:3], self.down) for low in [total // 2]]
    x = jnp.pad(x, [(0, 0), *sides, (0, 0)])
    block = lambda **more: Block(dropout=self.dropout, dtype=self.dtype, **more)
    h = block(gated=False, name='first')(elu(Conv(self.features, 5, 2, dtype=self.dtype, name='input')(x)))
    levels = []
    for level, halvings in enumerate(self.down):
      for i in range(self.blocks):
        h = block(resize='down' if i < halvings else '', name=f'block_{level}_{i}')(h)
      levels.append(h)
    return levels


class GatedRung(nn.Module):
  """One level: prior and posterior, latents, a skip past them, and residual blocks."""

  latents: int
  features: int
  blocks: int
  doublings: int
  dropout: float
  top: tuple[int, int] | None = None  # the size of the top level's map, whose prior is a parameter
  dtype: jnp.dtype | str = 'float32'

  @nn.compact
  def __call__(self, h, features, noise, z):
    conv = lambda width, name, **more: Conv(width, dtype=self.dtype, name=name, **more)
    head = lambda name, x: normal(conv(2 * self.latents, name, deviation=HEADS)(x))
    merge = lambda name: Merge(self.dropout, self.dtype, name=name)
    rows, q = noise.shape[0], None
    if self.top:
      params = self.param('top', nn.initializers.zeros, (1, *self.top, 2 * self.latents))
      p = normal(jnp.broadcast_to(params, (rows, *params.shape[1:])))
    else:
      p = head('prior', h)
    if features is not None:
      features = repeat(features, rows)
      q = head('posterior', features if self.top else merge('merge')(features, h))
    z = sample(q or p, noise) if z is None else z
    out = conv(self.features, 'latents')(z)
    out = out if self.top else merge('skip')(out, h)
    for i in range(self.blocks):
      resize = 'up' if i < self.doublings else ''
      out = Block(resize, dropout=self.dropout, dtype=self.dtype, name=f'block_{i}')(out)
    return out, Rung(z, q or p, p)


class GatedDecoder(nn.Module):
  """The levels from the top down, then residual blocks at the size of the image; the top prior is a parameter."""

  down: Sequence[int]
  shape: tuple[int, int, int]  # of the data
  outputs: int  # channels of the last layer
  parts: int  # parameters of the likelihood that they are split into
  latents: int = 32
  features: int = 64
  blocks: int = 4
  dropout: float = 0.2
  dtype: jnp.dtype | str = 'float32'

  def setup(self):
    sizes = gated_shapes(self.shape, self.down, self.latents)
    settings = {'dropout': self.dropout, 'dtype': self.dtype}
    shared = (self.latents, self.features, self.blocks)
    self.rungs = [
      GatedRung(*shared, doublings, top=None if i else sizes[-1][:2], **settings)
      for i, doublings in enumerate(reversed(self.down))
    ]
    self.last = [Block(**settings) for _ in range(self.blocks)]
    self.output = Conv(self.outputs, dtype=self.dtype)

  def __call__(self, features, noise, top=()):
    """Infers the levels by the features of the encoder or, without features, samples them; see `Tower`."""
    h, levels = descend(self.rungs, None, features, noise, top)
    h = jax.image.resize(h, (h.shape[0], 2 * h.shape[1], 2 * h.shape[2], h.shape[3]), 'bilinear')
    for block in self.last:
      h = block(h)
    (high, left), (height, width) = (total // 2 for total in _padding(self.shape[:2], self.down)), self.shape[:2]
    out = self.output(h)[:, high : high + height, left : left + width]
    return levels, pixel_params(out, self.parts)

  def top_prior(self) -> Normal:
    """Returns mean and log-variance of the top level's prior, [1, H, W, C] each."""
    return normal(self.rungs[0].variables['params']['top'])


def _padding(size: Sequence[int], down: Sequence[int]) -> tuple[int, ...]:
  """Returns how many zeros make a side a multiple of what all halvings divide it by."""
  return tuple(-side % 2 ** (1 + sum(down)) for side in size)


def gated_shapes(shape: Sequence[int], down: Sequence[int], latents: int) -> list[tuple[int, int, int]]:
  """Returns the shapes of the maps of latents of a `GatedDecoder`, from the data up."""
  sides = [side + more for side, more in zip(shape[:2], _padding(shape[:2], down), strict=True)]
  halvings = [1 + sum(down[: level + 1]) for level in range(len(down))]
  return [(sides[0] >> count, sides[1] >> count, latents) for count in halvings]
