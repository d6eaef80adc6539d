"""Autoregressive maps of vectors: a masked network computes the parameters of each dimension from those before it.

Axes: B batch, D dimensions, N parameters for each of them.

Reference: Germain et al. 2015, arXiv:1502.03509; Papamakarios et al. 2017, arXiv:1705.07057.
"""

import contextlib
import contextvars
import itertools
from collections.abc import Callable, Iterator, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.linen import dtypes
from jaxtyping import Array, Float

from dgm_jax.nn.blocks import ACTIVATIONS, glorot
from dgm_jax.nn.coupling import Elementwise
from dgm_jax.nn.reversible import Bijection, bijection, pair

__all__ = ['MADE', 'autoregressive', 'conditioned', 'fixed_point', 'masks', 'reporting_turns']

_REPORT = contextvars.ContextVar('report', default=None)
FAR = 1e6  # dimensions further out are cut there while a fixed point is looked for, so that no sum of them overflows


def masks(dims: int, hidden: Sequence[int], numbers: int, context: bool = False) -> list[np.ndarray]:
  """Returns the masks [in, out] of each layer's weights by which outputs of d depend on dimensions before d only.

  Hidden units have the degrees 1 to D - 1 in turn, so that every degree is in every layer of at least D - 1 units. With
  a context they have the degrees 0 to D - 1: units of degree 0 bring the context, and nothing else, to dimension 1.
  """
  first, count = (0, dims) if context else (1, max(1, dims - 1))
  degrees = [np.arange(1, dims + 1), *(np.arange(size) % count + first for size in hidden)]
  inner = [(a[:, None] <= b[None]).astype(np.float32) for a, b in itertools.pairwise(degrees)]
  last = (degrees[-1][:, None] < np.arange(1, dims + 1)[None]).astype(np.float32)
  return [*inner, np.tile(last, (1, numbers))]


class MADE(nn.Module):
  """A masked network [B, D] -> [B, N D], initially 0; the first D outputs are the dimensions' first parameters.

  A context [B, C] enters the first layer. It reaches all dimensions.
  """

  hidden: Sequence[int]
  num_parameters: int  # N
  activation: str = 'relu'
  dtype: jnp.dtype | str | None = None

  @nn.compact
  def __call__(self, x: Float[Array, 'B D'], context: Float[Array, 'B C'] | None = None) -> Float[Array, 'B F']:
    h, allowed = x, masks(x.shape[1], self.hidden, self.num_parameters, context is not None)
    for i, mask in enumerate(allowed):
      last = i == len(allowed) - 1
      kernel = self.param(f'kernel_{i}', nn.initializers.zeros if last else glorot, mask.shape)
      bias = self.param(f'bias_{i}', nn.initializers.zeros, mask.shape[1:])
      h, kernel, bias = dtypes.promote_dtype(h, kernel * mask, bias[None], dtype=self.dtype)
      h = h @ kernel + bias
      if context is not None and i == 0:
        h = h + nn.Dense(mask.shape[1], False, self.dtype, kernel_init=glorot, name='context')(context)
      h = h if last else ACTIVATIONS[self.activation](h)
    return h.astype(x.dtype)


def autoregressive(
  network: Callable[[int], nn.Module], elementwise: Elementwise, by_fixed_point: bool = False
) -> Bijection:
  """Maps every dimension with parameters from those before it: all at once forward, one after another inverse.

  Args:
    network: N -> a masked module [B, D] -> [B, N D].
    elementwise: the map.
    by_fixed_point: whether the inverse is `fixed_point`. It has the same values, usually in fewer evaluations, and no
      gradient.
  """
  module = network(elementwise.num_parameters)
  evaluate = lambda params, x: module.apply({'params': params}, x)

  def init(key, x):
    return module.init(key, x)['params']

  def forward(params, stats, x):
    return *elementwise.forward(evaluate(params, x), x), {}

  def inverse(params, stats, y):
    return _invert(lambda x: evaluate(params, x), elementwise, y, by_fixed_point)

  return bijection(init, forward, inverse)


def conditioned(
  network: Callable[[int], nn.Module], elementwise: Elementwise, by_fixed_point: bool = False
) -> Bijection:
  """Maps the first of a pair (x, context) as `autoregressive` does, with a network that reads the context, too.

  Args:
    network: N -> a masked module ([B, D], [B, C]) -> [B, N D], or the same with maps.
    elementwise: the map.
    by_fixed_point: as in `autoregressive`.

  Raises:
    ValueError: at trace time, x is not a pair.
  """
  module = network(elementwise.num_parameters)
  evaluate = lambda params, x, context: module.apply({'params': params}, x, context)

  def init(key, x):
    return module.init(key, *pair('conditioned', x))['params']

  def forward(params, stats, x):
    x, context = pair('conditioned', x)
    y, log_det = elementwise.forward(evaluate(params, x, context), x)
    return (y, context), log_det, {}

  def inverse(params, stats, y):
    y, context = pair('conditioned', y)
    x, log_det = _invert(lambda x: evaluate(params, x, context), elementwise, y, by_fixed_point)
    return (x, context), log_det

  return bijection(init, forward, inverse)


def _invert(evaluate: Callable, elementwise: Elementwise, y: jax.Array, by_fixed_point: bool):
  """Returns x and the log-determinant of the inverse; `evaluate` maps x to the parameters of its dimensions."""
  if by_fixed_point:
    x, turns = fixed_point(evaluate, elementwise, y)
    if _REPORT.get() is not None:
      jax.debug.callback(_REPORT.get(), turns, y[0].size)
    return elementwise.inverse(evaluate(x), y)
  places = jnp.arange(y[0].size).reshape(1, *y.shape[1:])

  def step(x, d):
    # Dimensions up to d are right, since their parameters are. Later ones stay 0: from wrong parameters they may
    # overflow, and a weight of 0 does not undo that.
    return jnp.where(places <= d, elementwise.inverse(evaluate(x), y)[0], 0), None

  x, _ = jax.lax.scan(step, jnp.zeros_like(y), jnp.arange(y[0].size - 1))
  return elementwise.inverse(evaluate(x), y)


def fixed_point(evaluate: Callable, elementwise: Elementwise, y: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Inverts an autoregressive map by x <- inverse(parameters of x, y), until nothing changes or D turns are over.

  After n turns the first n dimensions are exact, since no later one enters their parameters.

  Args:
    evaluate: x [B, D] -> parameters [B, N D] of the dimensions, each from those before it.
    elementwise: the map.
    y: [B, D], or a map [B, H, W, C] in raster order.

  Returns:
    x in the shape of y, and the number of turns [] int32.
  """

  def turn(carry):
    x, _, turns = carry
    new = jnp.nan_to_num(elementwise.inverse(evaluate(x), y)[0], nan=0.0, posinf=FAR, neginf=-FAR)
    return jnp.clip(new, -FAR, FAR), x, turns + 1

  def goes_on(carry):
    x, last, turns = carry
    return (turns < y[0].size) & jnp.any(x != last)

  start = jnp.zeros_like(y), jnp.full_like(y, jnp.nan), jnp.int32(0)
  x, _, turns = jax.lax.while_loop(goes_on, turn, start)
  return x, turns


@contextlib.contextmanager
def reporting_turns(report: Callable[[int, int], None]) -> Iterator[None]:
  """Makes programs that are traced inside report the turns of each inverse by fixed point.

  Args:
    report: called in each run of such a program, as `report(turns, most)`; `most` is the number of dimensions.
  """
  token = _REPORT.set(report)
  try:
    yield
  finally:
    _REPORT.reset(token)
