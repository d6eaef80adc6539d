"""The Inception network of published Frechet distances, layer by layer.

Its last block pools by maximum, the others by means that exclude the padding, and there are 1,008 classes. Figures of
other Inception networks are not comparable.

Axes: B batch, H height, W width, C channels.

Reference: Szegedy et al. 2016, arXiv:1512.00567; Heusel et al. 2017, arXiv:1706.08500, appendix A1.
"""

from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

__all__ = ['SIDE', 'BlockA', 'BlockB', 'BlockC', 'BlockD', 'BlockE', 'Conv', 'Inception', 'resize']

SIDE = 299


class Conv(nn.Module):
  """A convolution without bias, a normalisation with stored statistics, and a rectifier."""

  features: int
  kernel: Sequence[int] = (1, 1)
  stride: int = 1
  padding: str = 'SAME'

  @nn.compact
  def __call__(self, x: Float[Array, 'B H W C']) -> Float[Array, 'B I J F']:
    stride = (self.stride, self.stride)
    x = nn.Conv(self.features, tuple(self.kernel), stride, self.padding, use_bias=False, name='conv')(x)
    wide = lambda values: values.reshape(1, 1, 1, -1)
    mean, variance = (
      self.variable('batch_stats', name, start, (self.features,)).value
      for name, start in (('mean', jnp.zeros), ('variance', jnp.ones))
    )
    scale = self.param('scale', nn.initializers.ones, (self.features,))
    bias = self.param('bias', nn.initializers.zeros, (self.features,))
    return jax.nn.relu((x - wide(mean)) * wide(scale * jax.lax.rsqrt(variance + 1e-3)) + wide(bias))


class Inception(nn.Module):
  """The network: [B, 299, 299, 3] in [-1, 1] -> logits [B, classes] without the last bias, and features [B, 2048]."""

  classes: int = 1008

  @nn.compact
  def __call__(self, x: Float[Array, 'B H W C']) -> tuple[Float[Array, 'B K'], Float[Array, 'B F']]:
    x = Conv(32, (3, 3), 2, 'VALID')(x)
    x = Conv(32, (3, 3), 1, 'VALID')(x)
    x = _max(Conv(64, (3, 3))(x), 2)
    x = Conv(192, (3, 3), 1, 'VALID')(Conv(80)(x))
    x = _max(x, 2)
    for width in (32, 64, 64):
      x = BlockA(width)(x)
    x = BlockB()(x)
    for width in (128, 160, 160, 192):
      x = BlockC(width)(x)
    x = BlockD()(x)
    x = BlockE(_mean)(x)
    x = BlockE(_max)(x)
    features = x.mean((1, 2))
    kernel = self.param('kernel', nn.initializers.lecun_normal(), (features.shape[1], self.classes))
    self.param('bias', nn.initializers.zeros, (self.classes,))  # of the file; the score excludes it
    return features @ kernel, features


class BlockA(nn.Module):
  """Branches of 1x1, 5x5 and twice 3x3, and a mean: [B, 35, 35, C] -> [B, 35, 35, 224 + pooled]."""

  pooled: int

  @nn.compact
  def __call__(self, x: Float[Array, 'B H W C']) -> Float[Array, 'B I J F']:
    return jnp.concatenate([
      Conv(64)(x),
      Conv(64, (5, 5))(Conv(48)(x)),
      Conv(96, (3, 3))(Conv(96, (3, 3))(Conv(64)(x))),
      Conv(self.pooled)(_mean(x)),
    ], -1)  # fmt: skip


class BlockB(nn.Module):
  """A block that halves the image: [B, 35, 35, 288] -> [B, 17, 17, 768]."""

  @nn.compact
  def __call__(self, x: Float[Array, 'B H W C']) -> Float[Array, 'B I J F']:
    deep = Conv(96, (3, 3), 2, 'VALID')(Conv(96, (3, 3))(Conv(64)(x)))
    return jnp.concatenate([Conv(384, (3, 3), 2, 'VALID')(x), deep, _max(x, 2)], -1)


class BlockC(nn.Module):
  """Branches of rows and columns of seven: [B, 17, 17, 768] -> the same shape."""

  width: int

  @nn.compact
  def __call__(self, x: Float[Array, 'B H W C']) -> Float[Array, 'B I J F']:
    width, row, column = self.width, (1, 7), (7, 1)
    short = Conv(192, column)(Conv(width, row)(Conv(width)(x)))
    long = Conv(width, column)(Conv(width)(x))
    long = Conv(192, row)(Conv(width, column)(Conv(width, row)(long)))
    return jnp.concatenate([Conv(192)(x), short, long, Conv(192)(_mean(x))], -1)


class BlockD(nn.Module):
  """A block that halves the image: [B, 17, 17, 768] -> [B, 8, 8, 1280]."""

  @nn.compact
  def __call__(self, x: Float[Array, 'B H W C']) -> Float[Array, 'B I J F']:
    short = Conv(320, (3, 3), 2, 'VALID')(Conv(192)(x))
    long = Conv(192, (7, 1))(Conv(192, (1, 7))(Conv(192)(x)))
    return jnp.concatenate([short, Conv(192, (3, 3), 2, 'VALID')(long), _max(x, 2)], -1)


class BlockE(nn.Module):
  """Branches that fork into a row and a column of three: [B, 8, 8, C] -> [B, 8, 8, 2048]."""

  pool: Callable[[Array], Array]  # over 3x3; preserves the size

  @nn.compact
  def __call__(self, x: Float[Array, 'B H W C']) -> Float[Array, 'B I J F']:
    middle, deep = Conv(384)(x), Conv(384, (3, 3))(Conv(448)(x))
    forks = [Conv(384, kernel)(h) for h in (middle, deep) for kernel in ((1, 3), (3, 1))]
    return jnp.concatenate([Conv(320)(x), *forks, Conv(192)(self.pool(x))], -1)


def resize(x: Float[Array, 'B H W C'], side: int = SIDE) -> Float[Array, 'B I J C']:
  """Resizes images bilinearly, as the first TensorFlow did.

  Pixel i of the result lies at i * H / side, not at its middle.
  """

  def along(x: Array, axis: int) -> Array:
    size = x.shape[axis]
    place = jnp.arange(side) * (size / side)
    low = jnp.floor(place).astype(int)
    part = (place - low).reshape([-1 if i == axis else 1 for i in range(x.ndim)])
    take = lambda index: jnp.take(x, jnp.minimum(index, size - 1), axis)
    return take(low) * (1 - part) + take(low + 1) * part

  return along(along(x, 1), 2)


def _max(x: Array, stride: int = 1) -> Array:
  padding = 'VALID' if stride == 2 else 'SAME'
  return nn.max_pool(x, (3, 3), (stride, stride), padding)


def _mean(x: Array) -> Array:
  return nn.avg_pool(x, (3, 3), (1, 1), 'SAME', count_include_pad=False)
