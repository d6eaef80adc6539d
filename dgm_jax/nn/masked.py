"""Causal layers that work on whole images, on one row, or on one position with a memory of what came before.

A network of these is written once. On whole images it trains; at one position it draws the next pixel, at the cost
of that pixel alone: each convolution keeps the few rows of its input that it will look at again, in the collection
'cache'. Kernels hold the taps that may be seen and no others.

Axes: B batch, H height, W width, C channels in, F features out; `...` is [B, H, W], [B, W] or [B] as `at` says.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

__all__ = [
  'WHOLE', 'Conv', 'MaskedConv', 'Place', 'Pointwise', 'Taps', 'before', 'causal', 'column', 'correlate',
  'from_image', 'from_image_with_ones', 'gate', 'group_sizes', 'half', 'halved', 'rectangle', 'remembered',
  'shared', 'with_center', 'with_ones',
]  # fmt: skip

# Variance 4 / (fan in + fan out), of the taps that are there.
halved = nn.initializers.variance_scaling(2.0, 'fan_avg', 'uniform')


class Place(NamedTuple):
  """Where a layer computes: everywhere, in one row, or at one position of it."""

  row: jax.Array | None = None  # [] int32
  column: jax.Array | None = None  # [] int32
  width: int = 0  # of the image; 0 for everywhere


WHOLE = Place()


def half(at: Place) -> Place:
  """The same place in the image of half the size."""
  if at.row is None:
    return at
  return Place(at.row // 2, None if at.column is None else at.column // 2, at.width // 2)


class Taps(NamedTuple):
  """Which neighbours a convolution sees: rows `up` to `down` above, columns `left` before to `right` after.

  Of the lowest row only the first `last` columns are there. With a stride of 2, places are taken in twos: output
  (r, c) is at (2 r, 2 c) of the input.
  """

  up: int
  down: int
  left: int
  right: int
  last: int
  stride: int = 1

  @property
  def height(self) -> int:
    return self.up - self.down + 1

  @property
  def width(self) -> int:
    return self.left + self.right + 1

  @property
  def count(self) -> int:
    return (self.height - 1) * self.width + self.last


def rectangle(up: int, down: int, left: int, right: int, stride: int = 1) -> Taps:
  """All of the rows `up` to `down` above and of the columns `left` before to `right` after."""
  return Taps(up, down, left, right, left + right + 1, stride)


def causal(size: int, center: bool) -> Taps:
  """The half of a square kernel of odd size that precedes its center in raster order, with the center or without."""
  half = size // 2
  return Taps(half, 0, half, half, half + center)


def before(size: int) -> Taps:
  """The pixels before the center in a row of odd size."""
  return Taps(0, 0, size // 2, -1, size // 2)


def with_center(taps: Taps) -> Taps:
  """The taps of `causal(size, False)` or `before(size)`, and the position itself."""
  return taps._replace(right=max(taps.right, 0), last=taps.last + 1)


def from_image(module: nn.Module, image: Array, taps: Taps, at: Place) -> Array:
  """The rows [B, h, W + left + right, C], or the window [B, h, w, C], of a whole image; zeros beyond its edges."""
  del module  # nothing is kept: the sampler has the image
  height, width = image.shape[1:3]
  rows = at.row - jnp.arange(taps.up, taps.down - 1, -1)
  if at.column is None:
    columns = jnp.arange(-taps.left, width + taps.right)
  else:
    columns = at.column + jnp.arange(-taps.left, taps.right + 1)
  inside = ((rows >= 0) & (rows < height))[:, None] & ((columns >= 0) & (columns < width))[None]
  window = image[:, jnp.clip(rows, 0, height - 1)][:, :, jnp.clip(columns, 0, width - 1)]
  return jnp.where(inside[None, :, :, None], window, 0)


def with_ones(image: Array) -> Array:
  """The image with a channel of ones, which tells the zeros beyond its edges from those within."""
  return jnp.concatenate([image, jnp.ones_like(image[..., :1])], -1)


def from_image_with_ones(module: nn.Module, image: Array, taps: Taps, at: Place) -> Array:
  """`from_image` of `with_ones(image)`, without making the latter."""
  ones = from_image(module, jnp.ones((1, *image.shape[1:3], 1), image.dtype), taps, at)
  window = from_image(module, image, taps, at)
  return jnp.concatenate([window, jnp.broadcast_to(ones, (*window.shape[:-1], 1))], -1)


def remembered(module: nn.Module, x: Array, taps: Taps, at: Place) -> Array:
  """Writes x [B, W, C] or [B, C] into the layer's memory and reads what the taps see, shaped as by `from_image`.

  The memory [rows, W + left + right, B, C] holds the last rows in turn, with the zeros beyond both edges.
  """
  batch, channels = x.shape[0], x.shape[-1]
  # With a stride, the last place that it fell on may lie some rows above.
  size = (taps.up + taps.stride, at.width + taps.left + max(taps.right, 0), batch, channels)
  memory = module.variable('cache', 'rows', jnp.zeros, size, x.dtype)
  zero = jnp.zeros_like(at.row)
  written = x[None, None] if at.column is not None else x.swapaxes(0, 1)[None]
  first = taps.left + (zero if at.column is None else at.column)
  memory.value = jax.lax.dynamic_update_slice(memory.value, written, (at.row % size[0], first, zero, zero))
  row = at.row - at.row % taps.stride
  start, columns = (zero, size[1]) if at.column is None else (at.column - at.column % taps.stride, taps.width)
  parts = [
    jax.lax.dynamic_slice(memory.value, ((row - above) % size[0], start, zero, zero), (1, columns, batch, channels))
    for above in range(taps.up, taps.down - 1, -1)
  ]
  return jnp.concatenate(parts).transpose(2, 0, 1, 3)


class Conv(nn.Module):
  """A convolution whose kernel [taps, C, F] holds the causal taps alone.

  Args of a call:
    x: [..., C]; the whole image [B, H, W, C] at every place where `read` is `from_image`.
    at: where.

  Returns: [..., F].
  """

  features: int
  taps: Taps
  read: Callable = remembered
  use_bias: bool = True
  init: Callable = halved
  dtype: jnp.dtype | str = 'float32'

  @nn.compact
  def __call__(self, x: Float[Array, '*S C'], at: Place = WHOLE) -> Float[Array, '*T F']:
    kernel = self.param('kernel', self.init, (self.taps.count, x.shape[-1], self.features))
    x = x.astype(self.dtype)
    window = None if at.row is None else self.read(self, x, self.taps, at)
    y = correlate(x, window, kernel.astype(self.dtype), self.taps, at)
    if self.use_bias:
      y += (
        self.param('bias', nn.initializers.zeros, (self.features,)).astype(self.dtype).reshape(*[1] * (y.ndim - 1), -1)
      )
    return y


def correlate(x, window, kernel, taps: Taps, at: Place):
  """The products of a kernel [taps, C, F] with the whole image x, or with the window that was read of it."""
  if at.row is None:
    # Cropped, and not padded by a negative number: of that, XLA's gradients on a CPU are wrong.
    height, width = x.shape[1] - taps.down, x.shape[2] + min(taps.right, 0)
    padding = (taps.up, 0), (taps.left, max(taps.right, 0))
    return _convolve(x[:, :height, :width], _dense(kernel, taps), padding, taps.stride)
  if at.column is None:
    return _convolve(window, _dense(kernel, taps), ((0, 0), (0, 0)), taps.stride)[:, 0]
  seen = window.reshape(window.shape[0], -1, window.shape[-1])[:, : taps.count]
  return seen.reshape(seen.shape[0], -1) @ kernel.reshape(-1, kernel.shape[-1])


def _dense(kernel, taps: Taps):
  """[taps, C, F] -> [h, w, C, F], zero where the last row has no taps."""
  missing = taps.height * taps.width - taps.count
  return jnp.pad(kernel, ((0, missing), (0, 0), (0, 0))).reshape(taps.height, taps.width, *kernel.shape[1:])


def _convolve(x, kernel, padding, strides: int):
  return jax.lax.conv_general_dilated(
    x, kernel, (strides, strides), padding, dimension_numbers=('NHWC', 'HWIO', 'NHWC')
  )


def group_sizes(features: int, groups: int) -> tuple[int, ...]:
  """How many of the features belong to each color; they lie side by side."""
  ends = [features * g // groups for g in range(groups + 1)]
  return tuple(b - a for a, b in itertools.pairwise(ends))


class Pointwise(nn.Module):
  """A 1x1 convolution in which a color sees itself and the colors before it, or only those before it.

  Each color has a kernel of its own, over what it sees.

  Args of a call:
    x: [..., C], the colors side by side as in `group_sizes`.

  Returns: [..., sum(sizes)].
  """

  sizes: Sequence[int]  # features of each color; one entry where there is no order among channels
  strict: bool = False
  use_bias: bool = True
  init: Callable = halved
  dtype: jnp.dtype | str = 'float32'

  @nn.compact
  def __call__(self, x: Float[Array, '*S C']) -> Float[Array, '*S F']:
    ends = [0]
    for size in group_sizes(x.shape[-1], len(self.sizes)):
      ends.append(ends[-1] + size)
    seen = ends[:-1] if self.strict else ends[1:]
    x = x.astype(self.dtype)
    return jnp.concatenate([self._color(x[..., :end], g) for g, end in enumerate(seen)], -1)

  def _color(self, x, g: int):
    """What one color's features get."""
    y = jnp.zeros((*x.shape[:-1], self.sizes[g]), self.dtype)
    if x.shape[-1]:
      kernel = self.param(f'kernel_{g}', self.init, (1, x.shape[-1], self.sizes[g]))[0]
      y = x @ kernel.astype(self.dtype)
    if self.use_bias:
      bias = self.param(f'bias_{g}', nn.initializers.zeros, (self.sizes[g],)).astype(self.dtype)
      y += bias.reshape(*[1] * (y.ndim - 1), -1)
    return y


class MaskedConv(nn.Module):
  """A convolution over what precedes a position in raster order, and at the position over the colors that precede.

  Type A, the first layer, sees nothing of its own color; type B does.

  Args of a call:
    x: [..., C]; the whole image where `read` is `from_image`.
    at: where.

  Returns: [..., sum(sizes)].

  Reference: van den Oord et al. 2016, arXiv:1601.06759, section 3.4.
  """

  sizes: Sequence[int]
  taps: Taps  # without the position itself
  strict: bool = False
  read: Callable = remembered
  dtype: jnp.dtype | str = 'float32'

  @nn.compact
  def __call__(self, x: Float[Array, '*S C'], at: Place = WHOLE) -> Float[Array, '*T F']:
    alone = len(self.sizes) == 1
    taps = with_center(self.taps) if alone and not self.strict else self.taps
    y = Conv(sum(self.sizes), taps, self.read, dtype=self.dtype, name='before')(x, at)
    if alone:
      return y
    here = x if at.row is None or self.read is remembered else from_image(self, x, Taps(0, 0, 0, 0, 1), at)[:, 0, 0]
    return y + Pointwise(self.sizes, self.strict, use_bias=False, dtype=self.dtype, name='here')(here)


def gate(y: Float[Array, '*S F'], sizes: Sequence[int]) -> Float[Array, '*S G']:
  """tanh(a) * sigmoid(b), where y holds (a, b) of each color in turn and sizes are theirs in the result.

  Reference: van den Oord et al. 2016, arXiv:1606.05328, equation 2.
  """
  ends, parts, start = [2 * sum(sizes[: g + 1]) for g in range(len(sizes))], [], 0
  for end, size in zip(ends, sizes, strict=True):
    parts.append(jnp.tanh(y[..., start : start + size]) * jax.nn.sigmoid(y[..., start + size : end]))
    start = end
  return parts[0] if len(parts) == 1 else jnp.concatenate(parts, -1)


def shared(condition: Array | None, at: Place) -> Array | None:
  """A condition [B, D] or [B, H, W, D] as what is added at a place: [B, 1, 1, D] or [B, H, W, D] everywhere,
  [B, 1, D] or [B, W, D] in a row, [B, D] at a position; past the last column that of the last."""
  if condition is None:
    return None
  if condition.ndim == 2:
    missing = 2 if at.row is None else int(at.column is None)
    return condition.reshape(condition.shape[0], *[1] * missing, -1)
  if at.row is None:
    return condition
  row = condition[:, at.row]
  if at.column is None:
    return jnp.pad(row, ((0, 0), (0, at.width - row.shape[1]), (0, 0)), 'edge')
  return row[:, jnp.minimum(at.column, row.shape[1] - 1)]


def column(above, at: Place):
  """What lies at a place of features [B, W, F] (or [B, H, W, F]) of the rows above."""
  return above if at.column is None else jax.tree.map(lambda a: a[:, at.column], above)
