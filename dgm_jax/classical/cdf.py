"""Flows of one dimension: distribution functions F, their inverses, and the increasing map x = F^-1(G(z)) between two.

A `Law` has the methods of a scipy.stats distribution. The parameters of `mixture` receive gradients.

Axes: ... any, K components.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dgm_jax.internal.roots import root

__all__ = ['Law', 'exponential', 'mixture', 'normal', 'transport', 'uniform']


class Law(NamedTuple):
  """A continuous distribution on the line; every function is elementwise."""

  log_pdf: Callable  # [...] -> nats
  cdf: Callable
  survival: Callable  # 1 - cdf, precise in the upper tail
  quantile: Callable  # the inverse of cdf
  upper_quantile: Callable  # the inverse of survival


def from_scipy(law: Any) -> Law:
  """Returns the functions of a frozen `scipy.stats` distribution, on the host in float64."""
  return Law(log_pdf=law.logpdf, cdf=law.cdf, survival=law.sf, quantile=law.ppf, upper_quantile=law.isf)


def uniform() -> Law:
  """Returns the uniform distribution on [0, 1]."""

  def log_pdf(x):
    return jnp.where((x >= 0) & (x <= 1), 0.0, -jnp.inf)

  def cdf(x):
    return jnp.clip(x, 0, 1)

  def survival(x):
    return jnp.clip(1 - x, 0, 1)

  def quantile(u):
    return u

  def upper_quantile(u):
    return 1 - u

  return Law(log_pdf=log_pdf, cdf=cdf, survival=survival, quantile=quantile, upper_quantile=upper_quantile)


def normal(mean: float | jax.Array = 0.0, deviation: float | jax.Array = 1.0) -> Law:
  """Returns N(mean, deviation^2)."""

  def standardise(x):
    return (x - mean) / deviation

  def log_pdf(x):
    return jax.scipy.stats.norm.logpdf(x, mean, deviation)

  def cdf(x):
    return jax.scipy.special.ndtr(standardise(x))

  def survival(x):
    return jax.scipy.special.ndtr(-standardise(x))

  def quantile(u):
    return mean + deviation * jax.scipy.special.ndtri(u)

  def upper_quantile(u):
    return 2 * mean - quantile(u)

  return Law(log_pdf=log_pdf, cdf=cdf, survival=survival, quantile=quantile, upper_quantile=upper_quantile)


def exponential() -> Law:
  """Returns the exponential distribution of rate 1."""

  def log_pdf(x):
    return jnp.where(x >= 0, -x, -jnp.inf)

  def cdf(x):
    return -jnp.expm1(-x)

  def survival(x):
    return jnp.exp(-x)

  def quantile(u):
    return -jnp.log1p(-u)

  def upper_quantile(u):
    return -jnp.log(u)

  return Law(log_pdf=log_pdf, cdf=cdf, survival=survival, quantile=quantile, upper_quantile=upper_quantile)


def mixture(logits: jax.Array, means: jax.Array, log_deviations: jax.Array) -> Law:
  """Returns the mixture of K normals with the weights softmax(logits); quantiles are computed by bisection.

  As a flow onto U[0, 1], u = sum_k w_k Phi((x - m_k) / s_k) has the mixture's own likelihood.
  """
  weights, deviations = jax.nn.softmax(logits), jnp.exp(log_deviations)
  reach = 12 * deviations
  ends = (means - reach).min(), (means + reach).max()

  def standardise(x):
    return (x[..., None] - _last(means, x)) / _last(deviations, x)

  def average(values):
    return (values * _last(weights, values[..., 0])).sum(-1)

  def cdf(x):
    return average(jax.scipy.special.ndtr(standardise(x)))

  def survival(x):
    return average(jax.scipy.special.ndtr(-standardise(x)))

  def log_pdf(x):
    logs = jax.scipy.stats.norm.logpdf(standardise(x)) + _last(jax.nn.log_softmax(logits) - log_deviations, x)
    return jax.nn.logsumexp(logs, -1)

  def quantile(u):
    return root(cdf, u, *ends)

  def upper_quantile(u):
    return root(lambda x: -survival(x), -u, *ends)

  return Law(log_pdf=log_pdf, cdf=cdf, survival=survival, quantile=quantile, upper_quantile=upper_quantile)


def _last(values: jax.Array, x: jax.Array) -> jax.Array:
  """Reshapes [K] -> [1, ..., 1, K], behind the axes of x."""
  return values.reshape(*[1] * x.ndim, -1)


def transport(base: Law, target: Law, z: jax.Array) -> jax.Array:
  """Computes x = F^-1(G(z)), the only increasing map from the base distribution G to the target F, elementwise.

  Above the base's median it uses the survival functions, which are precise for small probabilities.

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
  """Computes log dx/dz of `transport`, so that log f(x) = log g(z) - log dx/dz, [...] nats."""
  return base.log_pdf(z) - target.log_pdf(transport(base, target, z))
