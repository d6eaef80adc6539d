"""Linear-Gaussian models: p(z) = N(0, I), p(x|z) = N(W z + mean, noise). Factor analysis and probabilistic PCA.

Everything is a function of the data's mean and covariance S.

Axes: D dimensions, Z latents.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from dgm_jax.classical.mixture import LOG_TWO_PI

__all__ = ['FactorModel', 'fit', 'log_likelihood', 'probabilistic_pca', 'shared_noise']


class FactorModel(NamedTuple):
  """The loadings and the noise; the mean is the data's own."""

  loadings: jax.Array  # [D, Z]
  noise: jax.Array  # [D] variances


def own_noise(variances: jax.Array) -> jax.Array:
  """Returns the noise of factor analysis: a variance for each dimension, [D]."""
  return variances


def shared_noise(variances: jax.Array) -> jax.Array:
  """Returns the noise of probabilistic PCA: one variance for all dimensions, repeated, [D]."""
  return jnp.broadcast_to(variances.mean(), variances.shape)


def log_likelihood(model: FactorModel, covariance: jax.Array) -> jax.Array:
  """Computes the mean log-likelihood in nats, [], of data with this covariance S [D, D].

  It is -(D log 2 pi + log |C| + tr C^-1 S) / 2 with C = W W^T + noise.

  Reference: Tipping & Bishop 1999, Probabilistic principal component analysis, equation 4.
  """
  scale_tril = jnp.linalg.cholesky(_marginal(model))
  white = jax.scipy.linalg.solve_triangular(scale_tril, covariance, lower=True)
  trace = jnp.trace(jax.scipy.linalg.solve_triangular(scale_tril.T, white))
  log_det = 2 * jnp.sum(jnp.log(jnp.diagonal(scale_tril)))
  return -0.5 * (covariance.shape[0] * LOG_TWO_PI + log_det + trace)


def posterior(model: FactorModel) -> tuple[jax.Array, jax.Array]:
  """Returns p(z|x): the matrix [Z, D] from x - mean to its mean, and its covariance [Z, Z].

  Reference: Bishop 2006, Pattern Recognition and Machine Learning, equations 12.66 to 12.68.
  """
  scaled = model.loadings / model.noise[:, None]
  eye = jnp.eye(model.loadings.shape[1], dtype=model.loadings.dtype)
  covariance = jnp.linalg.inv(eye + jnp.matmul(model.loadings.T, scaled, precision='highest'))
  return jnp.matmul(covariance, scaled.T, precision='highest'), covariance


def step(noise: Callable, model: FactorModel, covariance: jax.Array) -> tuple[FactorModel, jax.Array]:
  """Computes one EM step; also returns the log-likelihood in nats of the model before it.

  Args:
    noise: `own_noise` or `shared_noise`.
    model: the model before the step.
    covariance: [D, D] of the data.

  Reference: Rubin & Thayer 1982, EM algorithms for ML factor analysis; Tipping & Bishop 1999, equations 29 and 30.
  """
  gain, spread = posterior(model)
  cross = jnp.matmul(covariance, gain.T, precision='highest')  # E x z^T
  second = spread + jnp.matmul(gain, cross, precision='highest')  # E z z^T
  loadings = jnp.linalg.solve(second, cross.T).T
  residual = jnp.diagonal(covariance) - jnp.sum(loadings * cross, 1)
  return FactorModel(loadings, noise(residual)), log_likelihood(model, covariance)


def fit(noise: Callable, covariance: jax.Array, start: FactorModel, steps: int) -> tuple[FactorModel, jax.Array]:
  """Runs `steps` EM steps; also returns [steps] the log-likelihood in nats before each, which never falls."""

  def one(model, _):
    return step(noise, model, covariance)

  return jax.lax.scan(one, start, None, steps)


def probabilistic_pca(covariance: jax.Array, latents: int) -> FactorModel:
  """Computes the maximum of the likelihood in closed form: principal directions, and the mean other eigenvalue.

  Reference: Tipping & Bishop 1999, Probabilistic principal component analysis, equations 7 and 8.
  """
  values, vectors = jnp.linalg.eigh(covariance)
  values, vectors = values[::-1], vectors[:, ::-1]
  noise = values[latents:].mean()
  return FactorModel(vectors[:, :latents] * jnp.sqrt(values[:latents] - noise)[None], jnp.full_like(values, noise))


def _marginal(model: FactorModel) -> jax.Array:
  return jnp.matmul(model.loadings, model.loadings.T, precision='highest') + jnp.diag(model.noise)
