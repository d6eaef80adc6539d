"""Recurrent layers over images, which work on whole images, on one row, or on one position, as in `dgm_jax.nn.masked`.

A layer has two methods: `above` computes the inputs of a row from the rows above it, `__call__` one position of the
row. On whole images `above` returns nothing and `__call__` does all.

Axes: B batch, H height, W width, C channels in, F features out, S steps of a scan.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dgm_jax.nn import masked
from dgm_jax.nn.masked import Place, Pointwise, condition_at

__all__ = ['LAYERS', 'Cache', 'ConvLSTM', 'DiagonalBiLSTM', 'RowLSTM', 'lstm', 'skew', 'unskew']

_FORGET = 1.0  # added to the forget gate, so that initially the cell decays slowly


def skew(x: Float[Array, 'B H W F']) -> Float[Array, 'B H S F']:
  """Shifts row r to the right by r, with zeros around: S = H + W - 1, and a diagonal becomes a column."""
  batch, height, width, features = x.shape
  flat = jnp.pad(x, ((0, 0), (0, 0), (0, height), (0, 0))).reshape(batch, -1, features)
  return flat[:, :-height].reshape(batch, height, height + width - 1, features)


def unskew(x: Float[Array, 'B H S F']) -> Float[Array, 'B H W F']:
  """Undoes `skew`."""
  batch, height, steps, features = x.shape
  flat = jnp.pad(x.reshape(batch, -1, features), ((0, 0), (0, height), (0, 0)))
  return flat.reshape(batch, height, steps + 1, features)[:, :, : steps + 1 - height]


def lstm(y: Float[Array, '*S G'], cell: Float[Array, '*T F'], sizes: Sequence[int]) -> Any:
  """Returns the new output and cell, [..., F] both, from the four gates of each color in turn.

  Args:
    y: [..., 4 F] gates.
    cell: [..., F].
    sizes: the features of each color.

  Reference: van den Oord et al. 2016, arXiv:1601.06759, equation 3.
  """
  ends = [0, *itertools.accumulate(4 * size for size in sizes)]
  colors = [jnp.split(y[..., a:b], 4, -1) for a, b in itertools.pairwise(ends)]
  out, forget, keep, new = (jnp.concatenate(parts, -1) for parts in zip(*colors, strict=True))
  cell = jax.nn.sigmoid(forget + _FORGET) * cell + jax.nn.sigmoid(keep) * jnp.tanh(new)
  return jax.nn.sigmoid(out) * jnp.tanh(cell), cell


class Cache(nn.Module):
  """A cache of the sampler: the variable of a shape, initially zeros."""

  @nn.compact
  def __call__(self, shape: tuple[int, ...], dtype) -> nn.Variable:
    return self.variable('cache', 'kept', jnp.zeros, shape, dtype)


class RowLSTM(nn.Module):
  """An LSTM over rows: a position depends on its neighbours in the row above, and on earlier positions of its own row.

  A call takes x [..., C], the result of the method `above` at the same place, a condition and a place. It returns
  [..., F]. The condition is [B, D], [B, H, W, D] or None.

  Reference: van den Oord et al. 2016, arXiv:1601.06759, section 3.1.
  """

  sizes: Sequence[int]  # features of each color
  size: int  # of both kernels, in a row; odd
  dtype: jnp.dtype | str = 'float32'

  margin = 0  # columns past the last one that a sampler must compute

  def setup(self):
    features, gates = sum(self.sizes), tuple(4 * size for size in self.sizes)
    self.inward = masked.MaskedConv(gates, masked.before(self.size), dtype=self.dtype)
    self.condition = nn.Dense(4 * features, use_bias=False, dtype=self.dtype)
    self.across = self.param('across', masked.halved, (self.size, features, 4 * features))
    self.start = self.param('start', nn.initializers.zeros, (2, features))  # output and cell above the image
    self.kept = Cache()

  def above(self, image: Float[Array, 'B H W C'], condition, at: Place) -> Any:
    """Computes the row above's part of the gates [B, W, 4 F], and its cells [B, W, F]."""
    del condition
    if at.row is None:
      return ()
    batch, width, features = image.shape[0], at.width, sum(self.sizes)
    memory = self.kept((2, batch, width, features), self.dtype)
    h, cell = jnp.where(at.row == 0, self._start(batch, width), memory.value)
    return self._from_row(h), cell

  def __call__(self, x: Float[Array, '*S C'], above: Any, condition, at: Place) -> Float[Array, '*S F']:
    y = self.inward(x, at)
    if condition is not None:
      y += self.condition(condition_at(condition, at))
    if at.row is None:
      return self._whole(y)
    gates, cell = above
    h, cell = lstm(y + gates, cell, self.sizes)
    memory = self.kept((2, x.shape[0], at.width, sum(self.sizes)), self.dtype)
    memory.value = memory.value.at[:, :, at.column].set(jnp.stack([h, cell]))
    return h

  def _whole(self, y):
    def row(carry, y):
      h, cell = lstm(y + self._from_row(carry[0]), carry[1], self.sizes)
      return (h, cell), h

    start = self._start(y.shape[0], y.shape[2])
    return jax.lax.scan(row, (start[0], start[1]), y.swapaxes(0, 1))[1].swapaxes(0, 1)

  def _from_row(self, h):
    """Convolves a row of outputs, as one product: XLA's convolutions in loops are slow on a CPU."""
    half, width = self.size // 2, h.shape[1]
    padded = jnp.pad(h, ((0, 0), (half, half), (0, 0)))
    beside = jnp.concatenate([padded[:, i : i + width] for i in range(self.size)], -1)
    return beside @ self.across.astype(self.dtype).reshape(beside.shape[-1], -1)

  def _start(self, batch: int, width: int):
    """Returns output and cell above the image, [2, B, W, F]."""
    return jnp.broadcast_to(self.start.astype(self.dtype)[:, None, None], (2, batch, width, sum(self.sizes)))


class DiagonalBiLSTM(nn.Module):
  """An LSTM along both diagonals of the image: a position depends on all before it.

  From left to right a position depends on those to its left and above. From right to left it depends on those to its
  right and above; this output of the row above is added. The arguments are those of `RowLSTM`.

  A mask of each position's own pixel leaves no position in the row above that depends on the last pixel of that row.
  So the pass from right to left begins one column past it.

  Reference: van den Oord et al. 2016, arXiv:1601.06759, section 3.2 and figure 3.
  """

  sizes: Sequence[int]
  size: int  # unused: its kernels are of 1x1 and of two positions
  dtype: jnp.dtype | str = 'float32'

  margin = 1

  def setup(self):
    features, gates = sum(self.sizes), tuple(4 * size for size in self.sizes)
    self.inward = [Pointwise(gates, dtype=self.dtype) for _ in range(2)]
    self.condition = [nn.Dense(4 * features, use_bias=False, dtype=self.dtype) for _ in range(2)]
    # For each direction: weights from the outputs beside and above to the gates; output and cell beyond the image.
    self.across = self.param('across', _init_both, (2, 2 * features, 4 * features))
    self.start = self.param('start', nn.initializers.zeros, (2, 2, features))
    self.kept, self.kept_input, self.kept_back = Cache(), Cache(), Cache()

  def above(self, image: Float[Array, 'B H W C'], condition, at: Place) -> Any:
    """Computes the row above's outputs from right to left, and those from left to right, [B, W, F] both."""
    if at.row is None:
      return ()
    memory = self._memory(image.shape[0], at.width)
    there = jnp.where(at.row == 0, self._start(0)[0], memory.value[0])
    return self._back(image.shape[0], condition, at), there

  def __call__(self, x: Float[Array, '*S C'], above: Any, condition, at: Place) -> Float[Array, '*S F']:
    if at.row is None:
      y = jnp.stack([self._gates(0, x, condition, at), self._gates(1, x, condition, at)[:, :, ::-1]])
      there, back = jax.vmap(self._diagonals)(y, self.across.astype(self.dtype), self.start.astype(self.dtype))
      return there + jnp.pad(back[:, :-1, ::-1], ((0, 0), (1, 0), (0, 0), (0, 0)))
    (back, upper), memory = above, self._memory(x.shape[0], at.width)
    inputs = self.kept_input((x.shape[0], at.width, x.shape[-1]), self.dtype)
    inputs.value = inputs.value.at[:, at.column].set(x)
    beside, cell = jnp.where(at.column == 0, self._start(0), memory.value[:, :, at.column - 1])
    h, cell = self._step(self.across[0].astype(self.dtype), self._gates(0, x, condition, at), beside, upper, cell)
    memory.value = memory.value.at[:, :, at.column].set(jnp.stack([h, cell]))
    return h + back

  def _back(self, batch: int, condition, at: Place):
    """Computes the row above from right to left."""
    features = sum(self.sizes)
    memory = self.kept_back((batch, at.width, features), self.dtype)
    inputs = self.kept_input((batch, at.width, 2 * features), self.dtype)
    y = self._gates(1, inputs.value, condition, at._replace(row=jnp.maximum(at.row - 1, 0)))
    upper = jnp.where(at.row <= 1, self._start(1)[0], memory.value)
    kernel, start = self.across[1].astype(self.dtype), jnp.broadcast_to(self._start(1), (2, batch, features))

    def position(carry, inputs):
      h, cell = self._step(kernel, inputs[0], carry[0], inputs[1], carry[1])
      return (h, cell), h

    row = jax.lax.scan(position, (start[0], start[1]), (y.swapaxes(0, 1), upper.swapaxes(0, 1)), reverse=True)[1]
    memory.value = row.swapaxes(0, 1)
    return jnp.where(at.row == 0, 0, memory.value)

  def _diagonals(self, y, kernel, start):
    """Computes the outputs [B, H, W, F] from left to right, from the input's part of the gates [B, H, W, 4 F]."""
    batch, height, width = y.shape[:3]
    outside = jnp.broadcast_to(start[:, None, None], (2, batch, height, start.shape[-1]))

    def diagonal(carry, inputs):
      y, number = inputs
      upper = jnp.concatenate([outside[0, :, :1], carry[0, :, :-1]], 1)
      new = jnp.stack(self._step(kernel, y, carry[0], upper, carry[1]))
      inside = (jnp.arange(height) <= number)[None, None, :, None]  # the rows that the diagonal has entered
      carry = jnp.where(inside, new, outside)
      return carry, carry[0]

    inputs = skew(y).transpose(2, 0, 1, 3), jnp.arange(height + width - 1)
    return unskew(jax.lax.scan(diagonal, outside, inputs)[1].transpose(1, 2, 0, 3))

  def _step(self, kernel, y, beside, upper, cell):
    upper = jnp.broadcast_to(upper, beside.shape)
    return lstm(y + jnp.concatenate([beside, upper], -1) @ kernel, cell, self.sizes)

  def _gates(self, direction: int, x, condition, at: Place):
    y = self.inward[direction](x)
    return y if condition is None else y + self.condition[direction](condition_at(condition, at))

  def _memory(self, batch: int, width: int) -> nn.Variable:
    """Returns the cache of output and cell of the last position of each column."""
    return self.kept((2, batch, width, sum(self.sizes)), self.dtype)

  def _start(self, direction: int):
    return self.start[direction].astype(self.dtype)[:, None]


class ConvLSTM(nn.Module):
  """An LSTM whose gates are a convolution of its input and of its own output: a step returns output and cell.

  Reference: Shi et al. 2015, arXiv:1506.04214, equation 3, without peepholes.
  """

  features: int
  kernel: int  # pixels a side
  dtype: jnp.dtype | str = 'float32'

  @nn.compact
  def __call__(
    self, x: Float[Array, 'B H W C'], memory: tuple[Array, Array], gates: Array | float = 0.0
  ) -> tuple[Float[Array, 'B H W F'], Float[Array, 'B H W F']]:
    """Makes a step from output and cell, float32; `gates` [B, H, W, 4 F] are added to those of the convolution."""
    h, cell = memory
    y = nn.Conv(4 * self.features, (self.kernel, self.kernel), dtype=self.dtype)(jnp.concatenate([x, h], -1))
    return lstm((y + gates).astype(jnp.float32), cell, (self.features,))


def _init_both(key, shape, dtype='float32'):
  """Initialises two kernels, each with the deviation that it would have alone."""
  draw = nn.initializers.variance_scaling(2.0, 'fan_avg', 'uniform')
  return jnp.stack([draw(one, shape[1:], dtype) for one in jax.random.split(key, shape[0])])


LAYERS: dict[str, Callable] = {'row_lstm': RowLSTM, 'diagonal_bilstm': DiagonalBiLSTM}
