"""Flows of one dimension: distribution functions F, their inverses, and the increasing map x = F^-1(G(z)) between two.

A `Law` has a scipy.stats distribution's methods; `mixture` is one with parameters that gradients reach.

Axes: ... any, K components.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dgm_jax.internal.roots import root

__all__ = ['Law', 'exponential', 'mixture', 'normal', 'transport', 'uniform']


class Law(NamedTuple):
  """A continuous distribution of numbers; every function is elementwise."""

  log_pdf: Callable  # [...] -> nats
  cdf: Callable
  survival: Callable  # 1 - cdf, with its own digits
  quantile: Callable  # of the cdf
  upper_quantile: Callable  # of the survival


def from_scipy(law: Any) -> Law:
  """The functions of a frozen `scipy.stats` distribution, on the host in float64."""
  return Law(law.logpdf, law.cdf, law.sf, law.ppf, law.isf)


def uniform() -> Law:
  """On [0, 1]."""
  inside = lambda x: jnp.where((x >= 0) & (x <= 1), 0.0, -jnp.inf)
  return Law(inside, lambda x: jnp.clip(x, 0, 1), lambda x: jnp.clip(1 - x, 0, 1), lambda u: u, lambda u: 1 - u)


def normal(mean: float | jax.Array = 0.0, deviation: float | jax.Array = 1.0) -> Law:
  """N(mean, deviation^2)."""
  standard = lambda x: (x - mean) / deviation
  quantile = lambda u: mean + deviation * jax.scipy.special.ndtri(u)
  return Law(
    lambda x: jax.scipy.stats.norm.logpdf(x, mean, deviation),
    lambda x: jax.scipy.special.ndtr(standard(x)),
    lambda x: jax.scipy.special.ndtr(-standard(x)),
    quantile,
    lambda u: 2 * mean - quantile(u),
  )


def exponential() -> Law:
  """Of rate 1."""
  return Law(
    lambda x: jnp.where(x >= 0, -x, -jnp.inf),
    lambda x: -jnp.expm1(-x),
    lambda x: jnp.exp(-x),
    lambda u: -jnp.log1p(-u),
    lambda u: -jnp.log(u),
  )


def mixture(logits: jax.Array, means: jax.Array, log_deviations: jax.Array) -> Law:
  """Normals [K] with the weights softmax(logits); quantiles by halving an interval.

  As a flow onto U[0, 1], u = sum_k w_k Phi((x - m_k) / s_k) has the mixture's own likelihood.
  """
  weights, deviations = jax.nn.softmax(logits), jnp.exp(log_deviations)
  reach = 12 * deviations
  standard = lambda x: (x[..., None] - _last(means, x)) / _last(deviations, x)
  average = lambda values: (values * _last(weights, values[..., 0])).sum(-1)
  cdf = lambda x: average(jax.scipy.special.ndtr(standard(x)))
  survival = lambda x: average(jax.scipy.special.ndtr(-standard(x)))

  def log_pdf(x):
    logs = jax.scipy.stats.norm.logpdf(standard(x)) + _last(jax.nn.log_softmax(logits) - log_deviations, x)
    return jax.nn.logsumexp(logs, -1)

  ends = (means - reach).min(), (means + reach).max()
  falling = lambda u: root(lambda x: -survival(x), -u, *ends)
  return Law(log_pdf, cdf, survival, lambda u: root(cdf, u, *ends), falling)


def _last(values: jax.Array, x: jax.Array) -> jax.Array:
  """[K] -> [1, ..., 1, K] behind the axes of x."""
  return values.reshape(*[1] * x.ndim, -1)


def transport(base: Law, target: Law, z: jax.Array) -> jax.Array:
  """x = F^-1(G(z)), the only increasing map that carries the base G to the target F, elementwise.

  Above the base's median it goes by the survivals, which keep the digits of small probabilities.

  Args:
    base: the law of z.
    target: the law of x.
    z: [...].

  Reference: Villani 2003, Topics in Optimal Transportation, theorem 2.18.
  """
  upper = base.survival(z) < 0.5
  low = target.quantile(jnp.where(upper, 0.5, base.cdf(z)))
  return jnp.where(upper, target.upper_quantile(jnp.where(upper, base.survival(z), 0.5)), low)


def log_slope(base: Law, target: Law, z: jax.Array) -> jax.Array:
  """log dx/dz of `transport`, so that log f(x) = log g(z) - log dx/dz, [...] nats."""
  return base.log_pdf(z) - target.log_pdf(transport(base, target, z))
