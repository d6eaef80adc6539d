"""Coordinate ascent: q(T) = prod_j q_j(T_j), each factor in turn set to exp E_{i != j} log p(X, T), normalised.

A factor is any tree of arrays; an update is a pure function of all factors. What a model has to give is one update a
factor and the bound. A factor that is a point (a delta function) makes the ascent an EM algorithm.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

__all__ = ['Ascent', 'Factors', 'ascend']

Factors = dict[str, Any]


class Ascent(NamedTuple):
  """What coordinate ascent arrives at."""

  factors: Factors
  bounds: jax.Array  # [sweeps, J] nats, the bound after each update; NaN in sweeps that were not needed
  sweeps: jax.Array  # [] int32, sweeps made


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
    updates: name of a factor -> function of all factors that gives the new one, in the order of a sweep.
    bound: the evidence lower bound in nats, [].
    factors: where to start, one entry a name; a factor that has no update stays as it is.
    sweeps: most sweeps.
    tolerance: nats; with a negative one all sweeps are made.

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
  factors, bounds, made, *_ = jax.lax.while_loop(unfinished, sweep, start)
  return Ascent(factors, bounds, made)
