"""Mean field for Bayesian linear regression: y = X w + noise with unknown weights and unknown precisions.

p(y|w, t) = N(X w, 1/t), p(w|a) = N(0, 1/a), with Gamma priors on the precisions a and t; q(w) q(a) q(t).

Axes: N examples, D weights.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import digamma, gammaln

from dgm_jax.classical import mean_field
from dgm_jax.classical.mixture import LOG_TWO_PI

__all__ = ['Gamma', 'fit']


class Gamma(NamedTuple):
  """A Gamma distribution of a precision."""

  shape: jax.Array  # []
  rate: jax.Array  # []


class Weights(NamedTuple):
  """A normal distribution of the weights."""

  mean: jax.Array  # [D]
  covariance: jax.Array  # [D, D]


def fit(
  x: jax.Array, y: jax.Array, weight_precision: Gamma, noise_precision: Gamma, sweeps: int, tolerance: float = 0.0
) -> mean_field.Ascent:
  """Ascends by coordinates over q(weights), q(weight_precision) and q(noise_precision).

  Args:
    x: [N, D].
    y: [N].
    weight_precision: prior of a. With shape s and rate s / a for a large s, a is fixed.
    noise_precision: prior of t.
    sweeps: most sweeps.
    tolerance: nats that a sweep must gain; if negative, all sweeps are run.

  Returns:
    the three factors, and the bound after every update.

  Reference: Bishop 2006, Pattern Recognition and Machine Learning, section 10.3, with q(t) as in exercise 10.26.
  """
  gram, cross, square = x.T @ x, x.T @ y, jnp.vdot(y, y)

  def errors(q):
    """Computes E_q of the sum of squared residuals, []."""
    second = q.covariance + jnp.outer(q.mean, q.mean)
    return square - 2 * jnp.vdot(q.mean, cross) + jnp.vdot(gram, second)

  def weights(q):
    a, t = mean(q['weight_precision']), mean(q['noise_precision'])
    covariance = jnp.linalg.inv(a * jnp.eye(x.shape[1], dtype=x.dtype) + t * gram)
    return Weights(t * covariance @ cross, covariance)

  def precision(prior, count, size):
    return Gamma(prior.shape + 0.5 * count, prior.rate + 0.5 * size)

  def update_weight_precision(q):
    return precision(weight_precision, x.shape[1], _size(q['weights']))

  def update_noise_precision(q):
    return precision(noise_precision, x.shape[0], errors(q['weights']))

  updates = {
    'weights': weights,
    'weight_precision': update_weight_precision,
    'noise_precision': update_noise_precision,
  }

  def bound(q):
    a, t, w = q['weight_precision'], q['noise_precision'], q['weights']
    likelihood = 0.5 * (x.shape[0] * (mean_log(t) - LOG_TWO_PI) - mean(t) * errors(w))
    prior = 0.5 * (x.shape[1] * (mean_log(a) - LOG_TWO_PI) - mean(a) * _size(w))
    entropy = 0.5 * (x.shape[1] * (1 + LOG_TWO_PI) + jnp.linalg.slogdet(w.covariance)[1])
    return likelihood + prior + entropy - gamma_kl(a, weight_precision) - gamma_kl(t, noise_precision)

  start = {'weight_precision': weight_precision, 'noise_precision': noise_precision}
  return mean_field.ascend(updates, bound, start | {'weights': weights(start)}, sweeps, tolerance)


def mean(q: Gamma) -> jax.Array:
  """Computes E of the precision, []."""
  return q.shape / q.rate


def mean_log(q: Gamma) -> jax.Array:
  """Computes E of its logarithm, []."""
  return digamma(q.shape) - jnp.log(q.rate)


def gamma_kl(q: Gamma, p: Gamma) -> jax.Array:
  """Computes KL(q || p) in nats, [].

  Reference: Bishop 2006, Pattern Recognition and Machine Learning, equations B.26 to B.31.
  """
  ratio = p.shape * (jnp.log(q.rate) - jnp.log(p.rate)) + gammaln(p.shape) - gammaln(q.shape)
  return ratio + (q.shape - p.shape) * digamma(q.shape) + (p.rate - q.rate) * mean(q)


def _size(q: Weights) -> jax.Array:
  """Computes E |w|^2, []."""
  return jnp.vdot(q.mean, q.mean) + jnp.trace(q.covariance)
