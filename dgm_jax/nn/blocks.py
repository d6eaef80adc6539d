"""Dense and convolutional stacks, and heads that compute the parameters of a density.

Axes: ... any leading axes, F features, H height, W width, C channels.
"""

from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dgm_jax.nn.norm import BatchNorm

__all__ = [
  'ACTIVATIONS', 'MLP', 'VARIANCES', 'Downsample', 'NormalHead', 'TransposedConv', 'Upsample', 'elu', 'glorot',
  'halvings', 'leaky_relu', 'side_by_side', 'transposed',
]  # fmt: skip


def leaky_relu(x: Float[Array, '*S']) -> Float[Array, '*S']:
  """Computes max(x, 0.1 x)."""
  return jax.nn.leaky_relu(x, 0.1)


ACTIVATIONS: dict[str, Callable] = {
  'tanh': jnp.tanh, 'relu': jax.nn.relu, 'elu': jax.nn.elu, 'gelu': jax.nn.gelu, 'leaky_relu': leaky_relu,
  'sigmoid': jax.nn.sigmoid,
}  # fmt: skip
VARIANCES = ('exp', 'softplus')
LEAST = 1e-6  # variance of 'softplus', whose logarithm has no bound otherwise
PIECES = 4  # linear layers of which 'maxout' takes the greatest
NHWC = ('NHWC', 'HWIO', 'NHWC')
glorot = nn.initializers.glorot_uniform()


def elu(x: Float[Array, '*S']) -> Float[Array, '*S']:
  """Computes the exponential linear unit with exp(x) - 1, absolute error 1e-7.

  On a CPU `jax.nn.elu`, which has expm1(x), takes four times as long, gradient included.
  """
  return jnp.where(x > 0, x, jnp.exp(jnp.minimum(x, 0)) - 1)


def side_by_side(n: int, init: Callable = glorot) -> Callable:
  """Returns the initializer of n independent kernels [in, out], concatenated as [in, n out].

  One product then serves n heads, each with the fan of a head of its own.
  """

  def kernel(key, shape, dtype=jnp.float32):
    return jnp.concatenate([init(k, (*shape[:-1], shape[-1] // n), dtype) for k in jax.random.split(key, n)], -1)

  return kernel


class MLP(nn.Module):
  """Dense layers, each followed by the activation: [..., in] -> [..., hidden[-1]].

  With the activation 'gated' each is (A h + a) * sigmoid(B h + b), with 'maxout' the greatest of four linear layers.
  With `norm` the batch is normalised before the other activations, and its shift is the layer's bias.
  """

  hidden: Sequence[int]
  activation: str = 'tanh'
  dtype: jnp.dtype | str = 'float32'
  norm: bool = False

  @nn.compact
  def __call__(self, h: Float[Array, '*B in']) -> Float[Array, '*B F']:
    for size in self.hidden:
      if self.activation == 'gated':
        h = jax.nn.glu(nn.Dense(2 * size, kernel_init=side_by_side(2), dtype=self.dtype)(h))
      elif self.activation == 'maxout':
        h = nn.Dense(PIECES * size, kernel_init=side_by_side(PIECES), dtype=self.dtype)(h)
        h = h.reshape(*h.shape[:-1], PIECES, size).max(-2)
      else:
        h = nn.Dense(size, use_bias=not self.norm, kernel_init=glorot, dtype=self.dtype)(h)
        h = ACTIVATIONS[self.activation](BatchNorm(dtype=self.dtype)(h) if self.norm else h)
    return h


class NormalHead(nn.Module):
  """A head of mean and log-variance of a diagonal normal, float32: [..., F] -> 2 x [..., features].

  A linear layer computes the logarithm of the standard deviation, as in Burda et al. 2016, appendix C. With the
  variance 'softplus' it computes v, and the variance is softplus(v), as in Sonderby et al. 2016, equation 4.
  """

  features: int
  dtype: jnp.dtype | str = 'float32'
  variance: str = 'exp'

  @nn.compact
  def __call__(self, h: Float[Array, '*B F']) -> tuple[Float[Array, '*B Z'], Float[Array, '*B Z']]:
    both = nn.Dense(2 * self.features, kernel_init=side_by_side(2), dtype=self.dtype)(h)
    mean, log_std = jnp.split(both.astype(jnp.float32), 2, -1)
    return mean, jnp.log(jax.nn.softplus(log_std) + LEAST) if self.variance == 'softplus' else 2 * log_std


class Downsample(nn.Module):
  """4x4 convolutions of stride 2, each halving the image: [..., H, W, C] -> [..., H', W', channels[-1]]."""

  channels: Sequence[int]
  activation: str = 'relu'
  dtype: jnp.dtype | str = 'float32'

  @nn.compact
  def __call__(self, x: Float[Array, '*B H W C']) -> Float[Array, '*B h w F']:
    for size in self.channels:
      x = ACTIVATIONS[self.activation](nn.Conv(size, (4, 4), (2, 2), dtype=self.dtype)(x))
    return x


class Upsample(nn.Module):
  """4x4 transposed convolutions of stride 2, the mirror of `Downsample`, to an image of `size`.

  Activations are between the layers, not after the last, which has `features` channels.
  """

  channels: Sequence[int]
  features: int
  size: tuple[int, int]
  activation: str = 'relu'
  dtype: jnp.dtype | str = 'float32'

  @nn.compact
  def __call__(self, h: Float[Array, '*B F']) -> Float[Array, '*B H W C']:
    sizes = halvings(self.size, len(self.channels))
    top, act = sizes[-1], ACTIVATIONS[self.activation]
    h = act(nn.Dense(top[0] * top[1] * self.channels[-1], dtype=self.dtype)(h))
    h = h.reshape(*h.shape[:-1], *top, self.channels[-1])
    widths = (*self.channels[:-1][::-1], self.features)
    for i, (width, size) in enumerate(zip(widths, sizes[-2::-1], strict=True)):
      last = i == len(widths) - 1
      h = TransposedConv(width, dtype=self.dtype, name='output' if last else None)(h)
      h = h[..., : size[0], : size[1], :]  # an odd size was rounded up on the way down
      h = h if last else act(h)
    return h


class TransposedConv(nn.Module):
  """A transposed convolution of stride 2, `nn.ConvTranspose` to rounding: [B, h, w, E] -> [B, 2 h, 2 w, F].

  On a CPU XLA's transposed convolution multiplies the zeros that it inserts between pixels. With many features it takes
  six to eighteen times as long, gradients included. So on a CPU this is one convolution of stride 1, which computes the
  four pixels of each 2x2 square as channels. On other devices vendors' programs skip the zeros.
  """

  features: int
  kernel: int = 4  # pixels a side
  use_bias: bool = True
  kernel_init: Callable = nn.initializers.lecun_normal()
  dtype: jnp.dtype | str = 'float32'

  @nn.compact
  def __call__(self, x: Float[Array, 'B h w E']) -> Float[Array, 'B H W F']:
    kernel = self.param('kernel', self.kernel_init, (self.kernel, self.kernel, x.shape[-1], self.features))
    x, kernel = x.astype(self.dtype), kernel.astype(self.dtype)
    y = transposed(x, kernel)
    if not self.use_bias:
      return y
    return y + self.param('bias', nn.initializers.zeros, (self.features,)).astype(self.dtype)[None, None, None]


def transposed(x: Array, kernel: Array) -> Array:
  """Computes the transposed convolution of stride 2, [B, h, w, E] by [k, k, E, F] -> [B, 2 h, 2 w, F]."""
  return jax.lax.platform_dependent(x, kernel, cpu=_in_squares, default=_transpose)


def _transpose(x: Array, kernel: Array) -> Array:
  return jax.lax.conv_transpose(x, kernel, (2, 2), 'SAME', dimension_numbers=NHWC)


def _in_squares(x: Array, kernel: Array) -> Array:
  """Computes rows 2i and 2i + 1 of the result, and columns likewise, from rows i - reach to i + reach."""
  (batch, height, width, _), size = x.shape, kernel.shape[0]
  middle = min(size - 1, (size + 1) // 2)  # the kernel's row between output row 2i and input row i
  reach = middle // 2

  def part(kernel, axis, r):
    zeros = jnp.zeros_like(jax.lax.index_in_dim(kernel, 0, axis))
    taps = [middle + 2 * d - r for d in range(-reach, reach + 1)]
    rows = [jax.lax.index_in_dim(kernel, q, axis) if 0 <= q < size else zeros for q in taps]
    return jnp.concatenate(rows, axis)

  square = jnp.concatenate([part(part(kernel, 0, r), 1, c) for r in (0, 1) for c in (0, 1)], -1)
  y = jax.lax.conv_general_dilated(x, square, (1, 1), 'SAME', dimension_numbers=NHWC)
  y = y.reshape(batch, height, width, 2, 2, -1).transpose(0, 1, 3, 2, 4, 5)
  return y.reshape(batch, 2 * height, 2 * width, -1)


def halvings(size: tuple[int, int], n: int) -> list[tuple[int, int]]:
  """Returns the sizes of an image that is halved n times, rounded up: [(28, 28), (14, 14), (7, 7), (4, 4)]."""
  sizes = [size]
  for _ in range(n):
    sizes.append((-(-sizes[-1][0] // 2), -(-sizes[-1][1] // 2)))
  return sizes
