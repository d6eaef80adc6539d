"""Couplings: one half of the dimensions is mapped elementwise, with parameters that a network computes from the other.

The halves are a pair of arrays, never a mask. The gradient of a coupling evaluates the network once.

Axes: B batch, ... positions, C channels or dimensions, N parameters for each of them.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from dgm_jax.nn import spline as rational
from dgm_jax.nn.reversible import Bijection, apply, pair, permutation, zeros

__all__ = [
  'Elementwise', 'additive', 'affine', 'checkerboard', 'coupling', 'even_odd', 'event_sum', 'from_depth', 'gated',
  'halves', 'pad', 'sigmoid_affine', 'spline', 'squeeze', 'swap', 'to_depth',
]  # fmt: skip


class Elementwise(NamedTuple):
  """An increasing map of every element of x [B, ..., C], with `num_parameters` N for each in h [B, ..., N C]."""

  num_parameters: int  # N
  forward: Callable  # (h, x) -> (y, log-determinant [B])
  inverse: Callable  # (h, y) -> (x, log-determinant [B])


def additive() -> Elementwise:
  """Returns the map y = x + h, which preserves volume.

  Reference: Dinh et al. 2014, arXiv:1410.8516, section 3.2.
  """

  def forward(h, x):
    return x + h, zeros(x)

  def inverse(h, y):
    return y - h, zeros(y)

  return Elementwise(num_parameters=1, forward=forward, inverse=inverse)


def _identity(raw: jax.Array) -> jax.Array:
  """Returns the raw parameters as log-scales."""
  return raw


def affine(log_scale: Callable = _identity) -> Elementwise:
  """Returns the map y = (x + shift) exp(log_scale(raw)); h contains the shifts, then the raw parameters.

  Reference: Dinh et al. 2017, arXiv:1605.08803, equation 4 (shifted first, as in its program).
  """

  def forward(h, x):
    shift, raw = jnp.split(h, 2, -1)
    s = log_scale(raw)
    return (x + shift) * jnp.exp(s), event_sum(s)

  def inverse(h, y):
    shift, raw = jnp.split(h, 2, -1)
    s = log_scale(raw)
    return y * jnp.exp(-s) - shift, -event_sum(s)

  return Elementwise(num_parameters=2, forward=forward, inverse=inverse)


def sigmoid_affine() -> Elementwise:
  """Returns `affine` with the scale sigmoid(raw + 2) < 1.

  Reference: Kingma & Dhariwal 2018, arXiv:1807.03039 (its program).
  """
  return affine(lambda raw: jax.nn.log_sigmoid(raw + 2))


def gated(start: float = 2.0) -> Elementwise:
  """Returns the map y = s x + (1 - s) m with s = sigmoid(raw + start); h contains m, then the raw parameters.

  Reference: Kingma et al. 2016, arXiv:1606.04934, equations 13 and 14.
  """

  def forward(h, x):
    m, raw = jnp.split(h, 2, -1)
    s = raw + start
    return jax.nn.sigmoid(s) * x + jax.nn.sigmoid(-s) * m, event_sum(jax.nn.log_sigmoid(s))

  def inverse(h, y):
    m, raw = jnp.split(h, 2, -1)
    s = raw + start
    return (y - jax.nn.sigmoid(-s) * m) / jax.nn.sigmoid(s), -event_sum(jax.nn.log_sigmoid(s))

  return Elementwise(num_parameters=2, forward=forward, inverse=inverse)


def spline(bins: int, bound: float) -> Elementwise:
  """Returns monotone rational-quadratic splines on [-bound, bound], with the identity outside.

  Reference: Durkan et al. 2019, arXiv:1906.04032, section 3.1.
  """

  def knots(h, x):
    # [B, ..., N C] -> [B, ..., C, N]
    params = jnp.moveaxis(h.reshape(*h.shape[:-1], 3 * bins - 1, x.shape[-1]), -2, -1)
    return rational.knots(params, bound)

  def forward(h, x):
    y, log_slope = rational.forward(knots(h, x), x)
    return y, event_sum(log_slope)

  def inverse(h, y):
    x, log_slope = rational.inverse(knots(h, y), y)
    return x, -event_sum(log_slope)

  return Elementwise(num_parameters=3 * bins - 1, forward=forward, inverse=inverse)


def coupling(network: Callable[[int], nn.Module], elementwise: Elementwise, kept: int = 0) -> Bijection:
  """Maps one half of a pair (a, b) elementwise, with parameters that a network g computes from the other half.

  If a is kept, forward is y = (a, f(b; g(a))) with log det = sum log f'(b; g(a)); inverse is x = (a, f^-1(b; g(a))).

  Args:
    network: features -> a linen module [B, ..., C] -> [B, ..., features]; it may have batch statistics.
    elementwise: the map f.
    kept: the half that stays, 0 or 1.

  Raises:
    ValueError: at trace time, x is not a pair.
  """
  moved = 1 - kept

  def module(x):
    return network(elementwise.num_parameters * pair('coupling', x)[moved].shape[-1])

  def init(key, x):
    return module(x).init(key, x[kept])['params']

  def forward(params, stats, x):
    h, used = apply(module(x), params, stats, x[kept])
    y, log_det = elementwise.forward(h, x[moved])
    return _pair(kept, x[kept], y), log_det, used

  def inverse(params, stats, y):
    h, _ = apply(module(y), params, stats, y[kept])
    x, log_det = elementwise.inverse(h, y[moved])
    return _pair(kept, y[kept], x), log_det

  def inverse_and_vjp(params, stats, used, y, cotangents):
    dy, dlog_det = cotangents
    evaluate = lambda params, a: apply(module(y), params, stats, a)
    h, back, _ = jax.vjp(evaluate, params, y[kept], has_aux=True)
    x, _ = elementwise.inverse(h, y[moved])
    _, back_elementwise = jax.vjp(elementwise.forward, h, x)
    dh, dx = back_elementwise((dy[moved], dlog_det))
    dparams, da = back(dh)
    return _pair(kept, y[kept], x), dparams, _pair(kept, dy[kept] + da, dx)

  return Bijection(init=init, forward=forward, inverse=inverse, inverse_and_vjp=inverse_and_vjp)


def halves() -> Bijection:
  """Returns the layer [B, ..., 2 C] -> its first and its second channels."""
  return permutation(lambda x: tuple(jnp.split(x, 2, -1)), lambda y: jnp.concatenate(y, -1))


def even_odd() -> Bijection:
  """Returns the layer [B, D] -> dimensions 0, 2, ... and 1, 3, ...

  Reference: Dinh et al. 2014, arXiv:1410.8516, section 5.1.
  """

  def join(y):
    even, odd = y
    both = jnp.stack([even, jnp.pad(odd, ((0, 0), (0, even.shape[1] - odd.shape[1])))], -1)
    return both.reshape(even.shape[0], -1)[:, : even.shape[1] + odd.shape[1]]

  return permutation(lambda x: (x[:, ::2], x[:, 1::2]), join)


def checkerboard() -> Bijection:
  """Returns the layer [B, H, W, C] -> pixels with i + j even, and pixels with i + j odd, each [B, H/2, W/2, 2 C].

  Channels are those of the upper pixel of each square, then those of the lower.
  """

  def split(x):
    top_left, top_right, low_left, low_right = jnp.split(to_depth(x), 4, -1)
    return jnp.concatenate([top_left, low_right], -1), jnp.concatenate([top_right, low_left], -1)

  def join(y):
    (top_left, low_right), (top_right, low_left) = (jnp.split(half, 2, -1) for half in y)
    return from_depth(jnp.concatenate([top_left, top_right, low_left, low_right], -1))

  return permutation(split, join)


def squeeze(factor: int = 2) -> Bijection:
  """Returns the layer [B, H, W, C] -> [B, H/f, W/f, f f C], sub-pixels by rows, each with its channels.

  Reference: Dinh et al. 2017, arXiv:1605.08803, section 3.6.
  """
  return permutation(lambda x: to_depth(x, factor), lambda y: from_depth(y, factor))


def swap() -> Bijection:
  """Returns the layer (a, b) -> (b, a)."""
  return permutation(lambda x: pair('swap', x)[::-1], lambda y: pair('swap', y)[::-1])


def pad(kept: int, channels: int) -> Bijection:
  """Returns the layer that appends channels of zeros to `kept` channels, up to `channels`.

  It is injective only; the inverse drops the appended channels.

  Reference: Jacobsen et al. 2018, arXiv:1802.07088, section 3.1.
  """
  widen = lambda x: jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, channels - kept)])
  return permutation(widen, lambda y: y[..., :kept])


def to_depth(x: jax.Array, factor: int = 2) -> jax.Array:
  """Moves space to depth.

  Raises:
    ValueError: the factor does not divide height and width.
  """
  batch, height, width, channels = x.shape
  if height % factor or width % factor:
    raise ValueError(f'x: got shape {x.shape}, expected a height and a width that {factor} divides')
  x = x.reshape(batch, height // factor, factor, width // factor, factor, channels)
  return x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, height // factor, width // factor, -1)


def from_depth(y: jax.Array, factor: int = 2) -> jax.Array:
  """Moves depth to space, the inverse of `to_depth`."""
  batch, height, width, channels = y.shape
  y = y.reshape(batch, height, width, factor, factor, channels // factor**2)
  return y.transpose(0, 1, 3, 2, 4, 5).reshape(batch, height * factor, width * factor, -1)


def event_sum(x: jax.Array) -> jax.Array:
  """Sums over each example, [B]."""
  return x.reshape(x.shape[0], math.prod(x.shape[1:])).sum(1)


def _pair(kept: int, a, b):
  return (a, b) if kept == 0 else (b, a)
