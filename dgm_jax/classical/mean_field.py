"""Coordinate ascent: q(T) = prod_j q_j(T_j), each factor in turn set to exp E_{i != j} log p(X, T), normalised.

A factor is any tree of arrays; an update is a pure function of all factors. A model provides one update a factor and
the bound. With a factor that is a point (a delta function) the ascent is an EM algorithm.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

__all__ = ['Ascent', 'Factors', 'ascend']

Factors = dict[str, Any]


class Ascent(NamedTuple):
  """The result of a coordinate ascent."""

  factors: Factors
  bounds: jax.Array  # [sweeps, J] nats, the bound after each update; NaN in sweeps that did not run
  sweeps: jax.Array  # [] int32, the number of sweeps that ran


def ascend(
  updates: Mapping[str, Callable[[Factors], Any]],
  bound: Callable[[Factors], jax.Array],
  factors: Factors,
  sweeps: int,
  tolerance: float = 0.0,
) -> Ascent:
  """Updates every factor in turn, for at most `sweeps` sweeps, until one gains no more than `tolerance` nats.

  Each update maximises the bound over its own factor, log q_j = E_{i != j} log p(X, T) + const, so that the bound
  never falls.

  Args:
    updates: name of a factor -> (all factors -> its new value), in the order of a sweep.
    bound: the evidence lower bound in nats, [].
    factors: the initial factors, by name; one without an update is constant.
    sweeps: most sweeps.
    tolerance: nats; if negative, all sweeps are run.

  Reference: Bishop 2006, Pattern Recognition and Machine Learning, equation 10.9.
  """

  def sweep(carry):
    factors, bounds, i, last, _ = carry
    values = []
    for name, update in updates.items():
      factors = factors | {name: update(factors)}
      values.append(bound(factors))
    return factors, bounds.at[i].set(jnp.stack(values)), i + 1, values[-1], values[-1] - last

  kind = jax.eval_shape(bound, factors).dtype
  bounds, low = jnp.full((sweeps, len(updates)), jnp.nan, kind), jnp.asarray(-jnp.inf, kind)
  start = (factors, bounds, jnp.zeros((), jnp.int32), low, -low)
  unfinished = lambda carry: (carry[2] < sweeps) & (carry[4] > tolerance)
  factors, bounds, count, *_ = jax.lax.while_loop(unfinished, sweep, start)
  return Ascent(factors, bounds, count)
