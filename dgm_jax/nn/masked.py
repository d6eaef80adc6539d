"""Causal layers that work on whole images, on one row, or on one position with a cache of earlier ones.

A network of such layers is written once. Whole images train it. One position at a time samples it, at the cost of that
position alone: each convolution stores the few rows of its input that it needs again, in the collection 'cache'.
Kernels hold the causal taps alone.

A layer that is called more than once, whose calls share its weights, takes the name of a memory for each call.

Axes: B batch, H height, W width, C channels in, F features out; `...` is [B, H, W], [B, W] or [B], depending on `at`.
"""

import itertools
import weakref
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

__all__ = [
  'MEMORY', 'WHOLE', 'Conv', 'MaskedConv', 'Place', 'Pointwise', 'Taps', 'before', 'causal', 'column', 'condition_at',
  'correlate', 'from_cache', 'from_image', 'from_image_with_ones', 'gate', 'group_sizes', 'half', 'halved', 'rectangle',
  'with_center', 'with_ones',
]  # fmt: skip

MEMORY = 'rows'  # the name of a layer's memory, if it is called once
# The memories that an application of a network has written, by its root scope.
_WRITTEN: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()

# Variance 4 / (fan in + fan out), counting the causal taps alone.
halved = nn.initializers.variance_scaling(2.0, 'fan_avg', 'uniform')


class Place(NamedTuple):
  """The place where a layer computes: everywhere, one row, or one position."""

  row: Any = None  # [] int32; None: every row
  column: Any = None  # [] int32; None: every column
  width: int = 0  # of the image; 0 if everywhere


WHOLE = Place()


def half(at: Place) -> Place:
  """Returns the same place in the image of half the size."""
  if at.row is None:
    return at
  return Place(at.row // 2, None if at.column is None else at.column // 2, at.width // 2)


class Taps(NamedTuple):
  """The neighbours in a kernel: rows `up` to `down` above, columns `left` before to `right` after.

  Of the lowest row only the first `last` columns are used. With stride 2, output (r, c) is centred on input (2r, 2c).
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
  def count(self) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
    return (self.height - 1) * self.width + self.last


def rectangle(up: int, down: int, left: int, right: int, stride: int = 1) -> Taps:
  """Returns all taps in the rows `up` to `down` above and the columns `left` before to `right` after."""
  return Taps(up, down, left, right, left + right + 1, stride)


def causal(size: int, center: bool) -> Taps:
  """Returns the taps of a square kernel of odd size before its center in raster order, with or without the center."""
  half = size // 2
  return Taps(half, 0, half, half, half + center)


def before(size: int) -> Taps:
  """Returns the taps before the center in a row of odd size."""
  return Taps(0, 0, size // 2, -1, size // 2)


def with_center(taps: Taps) -> Taps:
  """Returns the taps of `causal(size, False)` or `before(size)`, and the position itself."""
  return taps._replace(right=max(taps.right, 0), last=taps.last + 1)


def from_image(module: nn.Module, image: Array, taps: Taps, at: Place, memory: str = MEMORY) -> Array:
  """Returns the rows [B, h, W + left + right, C], or the window [B, h, w, C], of an image; outside, zeros."""
  del module, memory  # nothing is stored: the sampler has the image
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
  """Appends a channel of ones, which distinguishes zeros inside the image from those outside."""
  return jnp.concatenate([image, jnp.ones_like(image[..., :1])], -1)


def from_image_with_ones(module: nn.Module, image: Array, taps: Taps, at: Place, memory: str = MEMORY) -> Array:
  """Computes `from_image` of `with_ones(image)` without the whole of the latter."""
  del memory
  ones = from_image(module, jnp.ones((1, *image.shape[1:3], 1), image.dtype), taps, at)
  window = from_image(module, image, taps, at)
  return jnp.concatenate([window, jnp.broadcast_to(ones, (*window.shape[:-1], 1))], -1)


def from_cache(module: nn.Module, x: Array, taps: Taps, at: Place, memory: str = MEMORY) -> Array:
  """Writes x [B, W, C] or [B, C] into the layer's cache and returns what the taps cover, in the shape of `from_image`.

  The cache [rows, W + left + right, B, C] holds the last rows in turn, with zeros beyond both edges.

  Raises:
    ValueError: at trace time, if this memory of the layer was written at this place already.
  """
  _write_once(module, memory)
  batch, channels = x.shape[0], x.shape[-1]
  # With a stride, the last row that was a multiple of it may be some rows above.
  size = (taps.up + taps.stride, at.width + taps.left + max(taps.right, 0), batch, channels)
  cache = module.variable('cache', memory, jnp.zeros, size, x.dtype)
  zero = jnp.zeros_like(at.row)
  update = x[None, None] if at.column is not None else x.swapaxes(0, 1)[None]
  first = taps.left + (zero if at.column is None else at.column)
  cache.value = jax.lax.dynamic_update_slice(cache.value, update, (at.row % size[0], first, zero, zero))
  row = at.row - at.row % taps.stride
  start, columns = (zero, size[1]) if at.column is None else (at.column - at.column % taps.stride, taps.width)
  parts = [
    jax.lax.dynamic_slice(cache.value, ((row - above) % size[0], start, zero, zero), (1, columns, batch, channels))
    for above in range(taps.up, taps.down - 1, -1)
  ]
  return jnp.concatenate(parts).transpose(2, 0, 1, 3)


def _write_once(module: nn.Module, memory: str) -> None:
  """Refuses a memory that this application of the network has written already."""
  written = _WRITTEN.setdefault(module.scope.root, set())
  name = '/'.join((*module.path, memory))
  if name in written:
    raise ValueError(
      f'the memory {name} of a causal layer is written twice at one place, so that samples would be wrong: give each'
      " call of a layer with tied weights its own, layer(x, at, memory='second')"
    )
  written.add(name)


class Conv(nn.Module):
  """A convolution whose kernel [taps, C, F] holds the causal taps alone.

  A call takes x [..., C] and a place, and returns [..., F]. If `window` is `from_image`, x is the whole image
  [B, H, W, C] at every place. Calls of one layer share its weights; each must name a `memory` of its own.
  """

  features: int
  taps: Taps
  window: Callable = from_cache  # (module, x, taps, at, memory) -> what the taps cover
  use_bias: bool = True
  init: Callable = halved
  dtype: jnp.dtype | str = 'float32'

  @nn.compact
  def __call__(self, x: Float[Array, '*S C'], at: Place = WHOLE, memory: str = MEMORY) -> Float[Array, '*T F']:
    kernel = self.param('kernel', self.init, (self.taps.count, x.shape[-1], self.features))
    x = x.astype(self.dtype)
    window = None if at.row is None else self.window(self, x, self.taps, at, memory)
    y = correlate(x, window, kernel.astype(self.dtype), self.taps, at)
    if self.use_bias:
      y += (
        self.param('bias', nn.initializers.zeros, (self.features,)).astype(self.dtype).reshape(*[1] * (y.ndim - 1), -1)
      )
    return y


def correlate(x: Any, window: Any, kernel: Any, taps: Taps, at: Place) -> Any:
  """Correlates a kernel [taps, C, F] with the whole image x, or with a window of it."""
  if at.row is None:
    # Cropped: with negative padding XLA's gradients on a CPU are wrong.
    height, width = x.shape[1] - taps.down, x.shape[2] + min(taps.right, 0)
    padding = (taps.up, 0), (taps.left, max(taps.right, 0))
    return _convolve(x[:, :height, :width], _dense(kernel, taps), padding, taps.stride)
  if at.column is None:
    return _convolve(window, _dense(kernel, taps), ((0, 0), (0, 0)), taps.stride)[:, 0]
  inputs = window.reshape(window.shape[0], -1, window.shape[-1])[:, : taps.count]
  return inputs.reshape(inputs.shape[0], -1) @ kernel.reshape(-1, kernel.shape[-1])


def _dense(kernel, taps: Taps):
  """Pads a kernel [taps, C, F] -> [h, w, C, F] with zeros where the last row has no taps."""
  missing = taps.height * taps.width - taps.count
  return jnp.pad(kernel, ((0, missing), (0, 0), (0, 0))).reshape(taps.height, taps.width, *kernel.shape[1:])


def _convolve(x, kernel, padding, strides: int):
  return jax.lax.conv_general_dilated(
    x, kernel, (strides, strides), padding, dimension_numbers=('NHWC', 'HWIO', 'NHWC')
  )


def group_sizes(features: int, groups: int) -> tuple[int, ...]:
  """Returns the number of features of each autoregressive group of channels; groups lie side by side."""
  ends = [features * g // groups for g in range(groups + 1)]
  return tuple(b - a for a, b in itertools.pairwise(ends))


class Pointwise(nn.Module):
  """A 1x1 convolution in which a color depends on the colors before it and, unless `strict`, on itself.

  Each color has a kernel of its own. A call takes x [..., C], the colors side by side as in `group_sizes`, and returns
  [..., sum(sizes)].
  """

  sizes: Sequence[int]  # features of each color; one entry if channels have no order
  strict: bool = False
  use_bias: bool = True
  init: Callable = halved
  dtype: jnp.dtype | str = 'float32'

  @nn.compact
  def __call__(self, x: Float[Array, '*S C']) -> Float[Array, '*S F']:
    ends = [0]
    for size in group_sizes(x.shape[-1], len(self.sizes)):
      ends.append(ends[-1] + size)
    ends = ends[:-1] if self.strict else ends[1:]
    x = x.astype(self.dtype)
    return jnp.concatenate([self._color(x[..., :end], g) for g, end in enumerate(ends)], -1)

  def _color(self, x, g: int):
    """Computes the features of one color."""
    y = jnp.zeros((*x.shape[:-1], self.sizes[g]), self.dtype)
    if x.shape[-1]:
      kernel = self.param(f'kernel_{g}', self.init, (1, x.shape[-1], self.sizes[g]))[0]
      y = x @ kernel.astype(self.dtype)
    if self.use_bias:
      bias = self.param(f'bias_{g}', nn.initializers.zeros, (self.sizes[g],)).astype(self.dtype)
      y += bias.reshape(*[1] * (y.ndim - 1), -1)
    return y


class MaskedConv(nn.Module):
  """A convolution over earlier positions in raster order and, at the position itself, over earlier colors.

  Type A (`strict`), the first layer, excludes the own color; type B includes it. A call takes x [..., C] and a place,
  and returns [..., sum(sizes)]. If `window` is `from_image`, x is the whole image.

  Reference: van den Oord et al. 2016, arXiv:1601.06759, section 3.4.
  """

  sizes: Sequence[int]
  taps: Taps  # without the position itself
  strict: bool = False
  window: Callable = from_cache
  dtype: jnp.dtype | str = 'float32'

  @nn.compact
  def __call__(self, x: Float[Array, '*S C'], at: Place = WHOLE) -> Float[Array, '*T F']:
    alone = len(self.sizes) == 1
    taps = with_center(self.taps) if alone and not self.strict else self.taps
    y = Conv(sum(self.sizes), taps, self.window, dtype=self.dtype, name='before')(x, at)
    if alone:
      return y
    here = x if at.row is None or self.window is from_cache else from_image(self, x, Taps(0, 0, 0, 0, 1), at)[:, 0, 0]
    return y + Pointwise(self.sizes, self.strict, use_bias=False, dtype=self.dtype, name='here')(here)


def gate(y: Float[Array, '*S F'], sizes: Sequence[int]) -> Float[Array, '*S G']:
  """Computes tanh(a) * sigmoid(b); y holds (a, b) of each color in turn, and `sizes` are those of the result.

  Reference: van den Oord et al. 2016, arXiv:1606.05328, equation 2.
  """
  ends, parts, start = [2 * sum(sizes[: g + 1]) for g in range(len(sizes))], [], 0
  for end, size in zip(ends, sizes, strict=True):
    parts.append(jnp.tanh(y[..., start : start + size]) * jax.nn.sigmoid(y[..., start + size : end]))
    start = end
  return parts[0] if len(parts) == 1 else jnp.concatenate(parts, -1)


def condition_at(condition: Array | None, at: Place) -> Array | None:
  """Returns a condition [B, D] or [B, H, W, D] in the shape to be added at a place.

  Everywhere it is [B, 1, 1, D] or [B, H, W, D], in a row [B, 1, D] or [B, W, D], at a position [B, D]. Past the last
  column it is that of the last column.
  """
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


def column(above: Any, at: Place) -> Any:
  """Returns the features at a place, of features [B, W, F] (or [B, H, W, F]) of the rows above."""
  return above if at.column is None else jax.tree.map(lambda a: a[:, at.column], above)
