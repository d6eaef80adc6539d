"""Roots of increasing functions, elementwise, with the derivatives that the implicit function theorem gives them."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

__all__ = ['root']

HALVINGS = 60  # of the interval in which a root is looked for: beyond the digits of float64


def root(function: Callable, values: jax.Array, low: float | jax.Array, high: float | jax.Array) -> jax.Array:
  """Finds where an increasing elementwise function has the values [...], by bisection from low to high.

  Bisection itself has no derivative. The derivatives, of any order, are those of the equation,
  dx = (dvalue - dfunction) / function'(x). They exist for the values and for every array that the function refers to.
  """

  def halve(difference, ends):
    def turn(_, ends):
      middle = 0.5 * (ends[0] + ends[1])
      below = difference(middle) < 0
      return jnp.where(below, middle, ends[0]), jnp.where(below, ends[1], middle)

    low, high = jax.lax.fori_loop(0, HALVINGS, turn, ends)
    return 0.5 * (low + high)

  ends = tuple(jnp.broadcast_to(jnp.asarray(end, values.dtype), values.shape) for end in (low, high))
  solve = lambda difference, _: halve(difference, jax.lax.stop_gradient(ends))
  slope = lambda linear, value: value / linear(jnp.ones_like(value))
  return jax.lax.custom_root(lambda x: function(x) - values, ends[0], solve, slope)
