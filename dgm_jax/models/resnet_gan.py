"""Residual generator and critic of WGAN-GP for images of 32 x 32.

Axes: B batch, Z latents, F features, H height, W width, C channels.

Reference: Gulrajani et al. 2017, arXiv:1704.00028, appendix C, table 5.
"""

from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dgm_jax.models.adversary import OUTPUTS, Verdict, glorot

__all__ = ['Critic', 'First', 'Generator', 'Residual', 'Up', 'double', 'pool', 'wide']

wide = nn.initializers.variance_scaling(2.0, 'fan_avg', 'uniform')  # of 3x3 layers after a rectifier


class Generator(nn.Module):
  """A linear layer and `blocks` residual blocks that double the image: [B, Z] -> [B, H, W, C]."""

  shape: Sequence[int]
  width: int = 128
  blocks: int = 3
  output: str = 'tanh'
  norm: Callable | None = None
  dtype: jnp.dtype | str = 'float32'

  @nn.compact
  def __call__(self, z: Float[Array, 'B Z']) -> Float[Array, 'B H W C']:
    height, width = (size >> self.blocks for size in self.shape[:2])
    h = nn.Dense(height * width * self.width, kernel_init=glorot, dtype=self.dtype)(z)
    h = h.reshape(-1, height, width, self.width)
    for _ in range(self.blocks):
      h = Up(self.width, self.norm, self.dtype)(h)
    h = jax.nn.relu(self.norm(dtype=self.dtype)(h) if self.norm else h)
    h = nn.Conv(self.shape[-1], (3, 3), kernel_init=glorot, dtype=self.dtype)(h)
    return OUTPUTS[self.output](h.astype(jnp.float32))


class Critic(nn.Module):
  """Two residual blocks that halve the image and two that do not, then a mean over positions.

  [B, H, W, C] -> value [B] and features [B, F]. There is no normalisation by default.
  """

  width: int = 128
  norm: Callable | None = None
  kernels: int = 0
  dtype: jnp.dtype | str = 'float32'

  @nn.compact
  def __call__(self, x: Float[Array, 'B H W C']) -> tuple[Float[Array, ' B'], Float[Array, 'B F']]:
    h = First(self.width, self.dtype)(x)
    h = pool(Residual(self.width, self.norm, self.dtype)(h)) + pool(_pointwise(self.width, self.dtype)(h))
    for _ in range(2):
      h = Residual(self.width, self.norm, self.dtype)(h) + h
    h = jax.nn.relu(h).mean((1, 2))
    return Verdict(self.kernels)(h), h.astype(jnp.float32)


class Up(nn.Module):
  """A residual block that doubles the image: [B, H, W, C] -> [B, 2 H, 2 W, width]."""

  width: int
  norm: Callable | None
  dtype: jnp.dtype | str

  @nn.compact
  def __call__(self, x: Float[Array, 'B H W C']) -> Float[Array, 'B I J F']:
    act = lambda h: jax.nn.relu(self.norm(dtype=self.dtype)(h) if self.norm else h)
    h = _conv(self.width, self.dtype)(double(act(x)))
    h = _conv(self.width, self.dtype)(act(h))
    return h + _pointwise(self.width, self.dtype)(double(x))


class First(nn.Module):
  """The block next to the image, without a first rectifier: [B, H, W, C] -> [B, H / 2, W / 2, width]."""

  width: int
  dtype: jnp.dtype | str

  @nn.compact
  def __call__(self, x: Float[Array, 'B H W C']) -> Float[Array, 'B I J F']:
    h = jax.nn.relu(_conv(self.width, self.dtype)(x))
    return pool(_conv(self.width, self.dtype)(h)) + _pointwise(self.width, self.dtype)(pool(x))


class Residual(nn.Module):
  """The branch of a block: two layers, each after a rectifier: [B, H, W, C] -> [B, H, W, width]."""

  width: int
  norm: Callable | None
  dtype: jnp.dtype | str

  @nn.compact
  def __call__(self, x: Float[Array, 'B H W C']) -> Float[Array, 'B H W F']:
    h = x
    for _ in range(2):
      h = _conv(self.width, self.dtype)(jax.nn.relu(self.norm(dtype=self.dtype)(h) if self.norm else h))
    return h


def double(x: Float[Array, 'B H W C']) -> Float[Array, 'B I J C']:
  """Repeats every pixel twice in both directions."""
  return x.repeat(2, 1).repeat(2, 2)


def pool(x: Float[Array, 'B H W C']) -> Float[Array, 'B I J C']:
  """Averages squares of 2 x 2 pixels."""
  return nn.avg_pool(x, (2, 2), (2, 2))


def _conv(width: int, dtype) -> nn.Conv:
  return nn.Conv(width, (3, 3), kernel_init=wide, dtype=dtype)


def _pointwise(width: int, dtype) -> nn.Conv:
  return nn.Conv(width, (1, 1), kernel_init=glorot, dtype=dtype)
