"""Monotone rational-quadratic splines, elementwise, with the identity as tails.

Axes: ... elements, K bins.

Reference: Durkan et al. 2019, arXiv:1906.04032, section 3.1.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

__all__ = ['Knots', 'forward', 'inverse', 'knots']

MIN_BIN, MIN_SLOPE = 1e-3, 1e-3  # of the whole interval; of the derivative at a knot


class Knots(NamedTuple):
  """The knots between the pieces, and the slopes there; 1 at both ends."""

  x: jax.Array  # [..., K + 1]
  y: jax.Array  # [..., K + 1]
  slope: jax.Array  # [..., K + 1]


def knots(numbers: Float[Array, '*S N'], bound: float) -> Knots:
  """Computes knots from N = 3 K - 1 unconstrained parameters: K widths, K heights, K - 1 slopes.

  If all of them are 0, the spline is the identity.
  """
  bins = (numbers.shape[-1] + 1) // 3
  widths, heights, slopes = jnp.split(numbers, [bins, 2 * bins], -1)
  inner = MIN_SLOPE + jax.nn.softplus(slopes + math.log(math.expm1(1 - MIN_SLOPE)))
  ends = jnp.ones_like(inner[..., :1]) if bins > 1 else jnp.ones_like(widths[..., :1])
  return Knots(_edges(widths, bound), _edges(heights, bound), jnp.concatenate([ends, inner, ends], -1))


def _edges(raw, bound: float):
  shares = MIN_BIN + (1 - MIN_BIN * raw.shape[-1]) * jax.nn.softmax(raw, -1)
  inside = jnp.cumsum(shares, -1)[..., :-1]
  edge = jnp.ones_like(raw[..., :1])
  return bound * (2 * jnp.concatenate([0 * edge, inside, edge], -1) - 1)


class _Piece(NamedTuple):
  x: jax.Array
  y: jax.Array
  width: jax.Array
  height: jax.Array
  left: jax.Array  # slope
  right: jax.Array


def _piece(knots: Knots, edges: jax.Array, at: jax.Array) -> _Piece:
  """Returns the piece of each element whose edges enclose it."""
  index = jnp.clip((at[..., None] >= edges[..., 1:-1]).sum(-1), 0, edges.shape[-1] - 2)[..., None]
  take = lambda values, shift: jnp.take_along_axis(values, index + shift, -1)[..., 0]
  x, y = take(knots.x, 0), take(knots.y, 0)
  return _Piece(x, y, take(knots.x, 1) - x, take(knots.y, 1) - y, take(knots.slope, 0), take(knots.slope, 1))


def _log_slope(p: _Piece, t: jax.Array) -> jax.Array:
  """Computes the log-slope of the piece at a share t of its width."""
  steep = p.height / p.width
  top = jnp.square(steep) * (p.right * t**2 + 2 * steep * t * (1 - t) + p.left * (1 - t) ** 2)
  return jnp.log(top) - 2 * jnp.log(steep + (p.left + p.right - 2 * steep) * t * (1 - t))


def forward(knots: Knots, x: Float[Array, '*S']) -> tuple[Float[Array, '*S'], Float[Array, '*S']]:
  """Computes y, and log dy/dx of each element."""
  inside = (x > knots.x[..., 0]) & (x < knots.x[..., -1])
  x_in = jnp.where(inside, x, 0.5 * (knots.x[..., 0] + knots.x[..., -1]))
  p = _piece(knots, knots.x, x_in)
  t, steep = (x_in - p.x) / p.width, p.height / p.width
  y = p.y + p.height * (steep * t**2 + p.left * t * (1 - t)) / (steep + (p.left + p.right - 2 * steep) * t * (1 - t))
  return jnp.where(inside, y, x), jnp.where(inside, _log_slope(p, t), 0.0)


def inverse(knots: Knots, y: Float[Array, '*S']) -> tuple[Float[Array, '*S'], Float[Array, '*S']]:
  """Computes x, and log dy/dx there.

  The root of the quadratic is in the form without cancellation.
  """
  inside = (y > knots.y[..., 0]) & (y < knots.y[..., -1])
  y_in = jnp.where(inside, y, 0.5 * (knots.y[..., 0] + knots.y[..., -1]))
  p = _piece(knots, knots.y, y_in)
  steep, up = p.height / p.width, y_in - p.y
  bend = p.left + p.right - 2 * steep
  a, b, c = p.height * (steep - p.left) + up * bend, p.height * p.left - up * bend, -steep * up
  # Rounding may move the root out of the piece, far out if it is steep, where the slope is below 0.
  t = jnp.clip(2 * c / (-b - jnp.sqrt(jnp.maximum(b**2 - 4 * a * c, 0.0))), 0.0, 1.0)
  return jnp.where(inside, p.x + t * p.width, y), jnp.where(inside, _log_slope(p, t), 0.0)
