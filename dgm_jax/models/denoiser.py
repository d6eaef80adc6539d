"""The networks of Sohl-Dickstein et al.: functions of x_t whose last layer weighs bump functions of the step t.

Everything before the last layer is a function of x_t alone. The output has K numbers for each dimension of x, float32,
which are 0 initially.

Axes: B batch, D dimensions of a point, H height, W width, C channels, F features, J bumps, K numbers for a dimension.

Reference: Sohl-Dickstein et al. 2015, arXiv:1503.03585, appendix D.2.
"""

import math
from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dgm_jax.nn.blocks import MLP

__all__ = ['SPACINGS', 'Dense', 'MultiScale', 'Radial', 'bumps']

SPACINGS: dict[str, Callable] = {
  'linear': lambda t, steps: (t - 1) / (steps - 1),
  'logarithmic': lambda t, steps: jnp.log(t) / math.log(steps),
}


def bumps(t: Int[Array, 'B'], steps: int, count: int, spacing: str = 'linear') -> Float[Array, 'B J']:
  """Computes bump functions of the step, which sum to one.

  Args:
    t: [B] in 1 ... T.
    steps: T.
    count: J, at least 2.
    spacing: the coordinate in which their centres are evenly spaced from step 1 to T: 'linear' in t, or 'logarithmic'.
      Their deviation is half of the distance between two.

  Returns:
    [B, J], float32.

  Reference: Sohl-Dickstein et al. 2015, arXiv:1503.03585, equations 61 to 63.
  """
  place = SPACINGS[spacing](t.astype(jnp.float32), steps)
  centres = jnp.linspace(0, 1, count)
  logits = -2 * jnp.square((place[:, None] - centres[None]) * (count - 1))
  return jax.nn.softmax(logits)


class Readout(nn.Module):
  """Linear functions of features [B, ..., F], weighed by bumps of t: [B, ..., K]."""

  outputs: int
  steps: int
  bumps: int = 10
  spacing: str = 'linear'
  dtype: jnp.dtype | str = 'float32'

  @nn.compact
  def __call__(self, h: Float[Array, 'B *S F'], t: Int[Array, 'B']) -> Float[Array, 'B *S K']:
    heads = nn.Dense(self.outputs * self.bumps, kernel_init=nn.initializers.zeros, dtype=self.dtype)(h)
    heads = heads.astype(jnp.float32).reshape(*h.shape[:-1], self.outputs, self.bumps)
    weights = bumps(t, self.steps, self.bumps, self.spacing)
    return jnp.einsum('b...kj,bj->b...k', heads, weights)


class Dense(nn.Module):
  """Dense layers of x_t as a vector; with `waves`, they also see sines and cosines of t."""

  outputs: int  # K
  steps: int
  hidden: Sequence[int] = (50, 50, 50)
  activation: str = 'tanh'
  bumps: int = 10
  spacing: str = 'linear'
  waves: int = 0
  dtype: jnp.dtype | str = 'float32'

  @nn.compact
  def __call__(self, x: Float[Array, 'B *S'], t: Int[Array, 'B']) -> Float[Array, 'B *S K']:
    h = x.reshape(x.shape[0], -1)
    size = h.shape[1] * self.outputs
    if self.waves:
      place = SPACINGS[self.spacing](t.astype(jnp.float32), self.steps)[:, None]
      angles = math.pi * place * jnp.arange(1, self.waves + 1, dtype=jnp.float32)[None]
      h = jnp.concatenate([h, jnp.sin(angles), jnp.cos(angles)], 1)
    h = MLP(self.hidden, self.activation, self.dtype)(h)
    return Readout(size, self.steps, self.bumps, self.spacing, self.dtype)(h, t).reshape(*x.shape, self.outputs)


class Radial(nn.Module):
  """Gaussian bumps of x_t around trained centres, of trained widths: exp(-|x - c|^2 / (2 s^2))."""

  outputs: int  # K
  steps: int
  units: int = 16
  bumps: int = 10
  spacing: str = 'linear'
  dtype: jnp.dtype | str = 'float32'

  @nn.compact
  def __call__(self, x: Float[Array, 'B *S'], t: Int[Array, 'B']) -> Float[Array, 'B *S K']:
    flat = x.reshape(x.shape[0], -1).astype(self.dtype)
    size = flat.shape[1] * self.outputs
    centres = self.param('centres', nn.initializers.normal(1.0), (self.units, flat.shape[1]))
    log_width = self.param('log_width', nn.initializers.zeros, (self.units,))
    square = jnp.square(flat[:, None] - centres.astype(self.dtype)[None]).sum(-1)
    h = jnp.exp(-0.5 * square * jnp.exp(-2 * log_width.astype(self.dtype))[None])
    return Readout(size, self.steps, self.bumps, self.spacing, self.dtype)(h, t).reshape(*x.shape, self.outputs)


class MultiScale(nn.Module):
  """Convolutions at several scales beside dense layers, and layers at each pixel of both.

  A layer convolves the image, and its means over squares of 2, 4 ... pixels a side, whose results are repeated; the sum
  of all scales goes through a softplus. Dense layers and those at each pixel have hyperbolic tangents.
  """

  outputs: int  # K
  steps: int
  features: int = 100
  layers: int = 6
  scales: int = 3
  dense: int = 1000  # width of the dense layers; 0: none
  dense_layers: int = 6
  dense_features: int = 5  # of each pixel, from the dense layers
  upper: int = 100
  upper_layers: int = 4  # the output included
  bumps: int = 10
  spacing: str = 'linear'
  dtype: jnp.dtype | str = 'float32'

  @nn.compact
  def __call__(self, x: Float[Array, 'B H W C'], t: Int[Array, 'B']) -> Float[Array, 'B H W C K']:
    h, (height, width), largest = x, x.shape[1:3], 2 ** (self.scales - 1)
    if height % largest or width % largest:
      raise ValueError(f'{self.scales} scales need sides that {largest} divides, got {height}x{width}')
    for _ in range(self.layers):
      h = jax.nn.softplus(self._at_all_scales(h))
    if self.dense:
      hidden = (self.dense,) * (self.dense_layers - 1) + (self.dense_features * height * width,)
      beside = MLP(hidden, 'tanh', self.dtype)(x.reshape(x.shape[0], -1))
      h = jnp.concatenate([h, beside.reshape(x.shape[0], height, width, self.dense_features)], -1)
    h = MLP((self.upper,) * (self.upper_layers - 1), 'tanh', self.dtype)(h)
    out = Readout(x.shape[-1] * self.outputs, self.steps, self.bumps, self.spacing, self.dtype)(h, t)
    return out.reshape(*x.shape, self.outputs)

  def _at_all_scales(self, h: jax.Array) -> jax.Array:
    """Convolves an image at all scales, [B, H, W, in] -> [B, H, W, F]."""
    total = nn.Conv(self.features, (3, 3), dtype=self.dtype)(h)
    for scale in range(1, self.scales):
      side = 2**scale
      small = nn.Conv(self.features, (3, 3), use_bias=False, dtype=self.dtype)(
        nn.avg_pool(h, (side, side), (side, side))
      )
      total = total + small.repeat(side, 1).repeat(side, 2)
    return total
