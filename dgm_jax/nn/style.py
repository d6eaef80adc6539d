"""Parts of style-based generators: normalisations, styles, noise, and sizes that double or halve.

Norms compute in float32 and return the dtype that they are given.

Axes: B batch, H height, W width, C channels, Z size of a latent or style.

Reference: Karras et al. 2019, arXiv:1812.04948, section 2; Karras et al. 2018, arXiv:1710.10196, section 4.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dgm_jax.nn.equalised import EqualDense

__all__ = ['SLOPE', 'StyledLayer', 'blur', 'double', 'halve', 'instance_norm', 'modulate', 'pixel_norm']

EPSILON = 1e-8
SLOPE = 0.2  # of rectifiers below zero


def pixel_norm(x: Float[Array, '*S C']) -> Float[Array, '*S C']:
  """Scales the channels of each position to a mean square of 1."""
  h = x.astype(jnp.promote_types(x.dtype, jnp.float32))
  return (h * jax.lax.rsqrt(jnp.square(h).mean(-1, keepdims=True) + EPSILON)).astype(x.dtype)


def instance_norm(x: Float[Array, 'B H W C']) -> Float[Array, 'B H W C']:
  """Normalises each channel of each image over its positions, to mean 0 and variance 1; a constant becomes 0."""
  h = x.astype(jnp.promote_types(x.dtype, jnp.float32))
  centred = h - h.mean((1, 2), keepdims=True)
  return (centred * jax.lax.rsqrt(jnp.square(centred).mean((1, 2), keepdims=True) + EPSILON)).astype(x.dtype)


def modulate(
  x: Float[Array, 'B H W C'], scale: Float[Array, 'B C'], shift: Float[Array, 'B C']
) -> Float[Array, 'B H W C']:
  """Computes adaptive instance normalisation: (scale + 1) * instance_norm(x) + shift.

  The result has the mean `shift` and the deviation |scale + 1| in each channel.
  """
  wide = lambda values: values.astype(x.dtype)[:, None, None]
  return instance_norm(x) * wide(scale + 1) + wide(shift)


class StyledLayer(nn.Module):
  """What follows a convolution: noise, bias, rectifier, then a normalisation with the style of the layer.

  Noise is one map for all channels, weighted by channel. The weights start at 0. Without a style the layer is that of
  the traditional generator: no noise, and a pixel norm.
  """

  @nn.compact
  def __call__(
    self,
    x: Float[Array, 'B H W C'],
    w: Float[Array, 'B Z'] | None = None,
    noise: Float[Array, 'N H W 1'] | None = None,
  ) -> Float[Array, 'B H W C']:
    channel = lambda name: self.param(name, nn.initializers.zeros, x.shape[-1:]).astype(x.dtype).reshape(1, 1, 1, -1)
    if noise is not None:
      x = x + noise.astype(x.dtype) * channel('noise')
    x = jax.nn.leaky_relu(x + channel('bias'), SLOPE)
    if w is None:
      return pixel_norm(x)
    scale, shift = jnp.split(EqualDense(2 * x.shape[-1], gain=1.0, name='style')(w), 2, -1)
    return modulate(x, scale, shift)


def blur(x: Float[Array, 'B H W C']) -> Float[Array, 'B H W C']:
  """Filters each channel by (1, 2, 1) / 4 in both directions, in a frame of zeros.

  It is made of shifts and sums: a convolution that keeps channels apart is slow on a CPU.
  """
  for axis in (1, 2):
    width = [(1, 1) if i == axis else (0, 0) for i in range(4)]
    padded, size = jnp.pad(x, width), x.shape[axis]
    before, middle, after = (jax.lax.slice_in_dim(padded, i, i + size, axis=axis) for i in range(3))
    x = 0.25 * (before + after) + 0.5 * middle
  return x


def double(x: Float[Array, 'B H W C']) -> Float[Array, 'B I J C']:
  """Repeats every pixel twice in both directions."""
  b, h, w, c = x.shape
  return jnp.broadcast_to(x[:, :, None, :, None], (b, h, 2, w, 2, c)).reshape(b, 2 * h, 2 * w, c)


def halve(x: Float[Array, 'B H W C']) -> Float[Array, 'B I J C']:
  """Averages squares of 2 x 2 pixels."""
  b, h, w, c = x.shape
  return x.reshape(b, h // 2, 2, w // 2, 2, c).mean((2, 4))
