"""The three forms of the ELBO, each computed on its own: in closed form, and on a trained autoencoder by quadrature."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dgm_jax import losses
from dgm_jax.pages.topics import autoencoder
from dgm_jax.pages.topics.page import Row, Topic

__all__ = ['elbo_forms']

IMAGES = 8
NODES = 48  # of the quadrature under q, a dimension
EDGE, STEP = 8.0, 0.04  # of the grid over the latents


def elbo_forms() -> Topic:
  """Compares the three forms of the ELBO.

  Evidence minus posterior KL = negative energy plus entropy = reconstruction minus prior KL.
  """
  with jax.enable_x64(True):
    linear = _linear()
  return Topic(
    'Three forms of the ELBO',
    'Evidence minus the divergence from the true posterior; average negative energy plus entropy; reconstruction minus'
    ' the divergence from the prior. In a linear-Gaussian model all terms are in closed form. For an autoencoder of two'
    ' latents the evidence and the true posterior come from a grid over the latents, the averages under q from'
    ' Gauss-Hermite quadrature, entropy and prior divergence from their formulas.',
    rows=[*linear, *_autoencoder()],
  )


def linear_gaussian(x: float, mean: float, variance: float) -> tuple[float, float, float]:
  """Computes the three forms for p(z) = N(0, 1), p(x|z) = N(z, 1), q = N(mean, variance), in nats."""
  log_two_pi = math.log(2 * math.pi)
  evidence = -0.5 * (log_two_pi + math.log(2) + x**2 / 2)
  posterior_kl = 0.5 * (variance / 0.5 + (mean - x / 2) ** 2 / 0.5 - 1 - math.log(variance / 0.5))
  reconstruction = -0.5 * (log_two_pi + (x - mean) ** 2 + variance)
  log_joint = reconstruction - 0.5 * (log_two_pi + mean**2 + variance)
  entropy = 0.5 * (1 + log_two_pi + math.log(variance))
  prior_kl = 0.5 * (variance + mean**2 - 1 - math.log(variance))
  return evidence - posterior_kl, log_joint + entropy, reconstruction - prior_kl


def _linear() -> list[Row]:
  first, second, third = linear_gaussian(1.0, 0.5, 1.0)
  away = linear_gaussian(2.0, -0.3, 0.2)
  return [
    Row('linear-Gaussian, evidence - posterior KL', -1.668939, first, 1e-6),
    Row('linear-Gaussian, energy + entropy', first, second, 1e-12),
    Row('linear-Gaussian, reconstruction - prior KL', first, third, 1e-12),
    Row('another posterior, energy + entropy', away[0], away[1], 1e-12),
    Row('another posterior, reconstruction - prior KL', away[0], away[2], 1e-12),
  ]


def _autoencoder() -> list[Row]:
  run = autoencoder.trained(2)
  x = np.asarray(run.test['x'][:IMAGES])
  first, second, third = map(np.asarray, by_quadrature(run, x))
  keys = jax.random.split(jax.random.key(5), 4000)
  draws = jax.jit(jax.vmap(lambda key: run.system.evaluate(key, run.state, {'x': jnp.asarray(x)})['neg_elbo_nats']))
  sampled = -np.asarray(draws(keys), np.float64)
  error = float(sampled.mean(1).std() / math.sqrt(len(keys)))
  worst = lambda form: float(np.abs(form - first).max())
  return [
    Row('autoencoder, reconstruction - prior KL', float(first.mean()), float(third.mean()), 1e-3),
    Row('autoencoder, energy + entropy', float(first.mean()), float(second.mean()), 1e-3),
    Row('autoencoder, largest difference of an image, form 2', 0.0, worst(second), 2e-3),
    Row('autoencoder, largest difference of an image, form 3', 0.0, worst(third), 2e-3),
    Row('autoencoder, by 4000 samples (4 standard errors)', float(first.mean()), float(sampled.mean()), 4 * error),
  ]


def by_quadrature(run: Any, x: np.ndarray) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Computes the three forms for images x [B, H, W, C], [B] nats each.

  The autoencoder has two latents and binary pixels.
  """
  mean, logvar = (
    np.asarray(a, np.float64) for a in run.system.views.posterior(jax.random.key(0), run.state, jnp.asarray(x))
  )
  decode = jax.jit(lambda z: run.system.views.decode(jax.random.key(0), run.state, z))
  flat = x.reshape(len(x), -1).astype(np.float64)

  def log_px_z(z):
    """Computes log p(x|z) [M, B] of codes z [M, 2]."""
    probs = np.clip(np.asarray(decode(jnp.asarray(z, jnp.float32)), np.float64).reshape(len(z), -1), 1e-12, 1 - 1e-12)
    return np.log(probs) @ flat.T + np.log1p(-probs) @ (1 - flat.T)

  axis = np.arange(-EDGE, EDGE, STEP)
  grid = np.stack(np.meshgrid(axis, axis, indexing='ij'), -1).reshape(-1, 2)
  log_joint = log_px_z(grid) + _normal(grid, 0.0, 0.0)[:, None]  # [M, B]
  evidence = np.logaddexp.reduce(log_joint, 0) + 2 * math.log(STEP)
  log_q = np.stack([_normal(grid, m, v) for m, v in zip(mean, logvar, strict=True)], 1)
  posterior_kl = np.sum(np.exp(log_q) * (log_q - (log_joint - evidence)), 0) * STEP**2
  energy, reconstruction = np.transpose([_under(log_px_z, i, mean[i], logvar[i]) for i in range(len(x))])
  entropy = (0.5 * (1 + math.log(2 * math.pi) + logvar)).sum(1)
  prior_kl = 0.5 * (mean**2 + np.exp(logvar) - 1 - logvar).sum(1)
  return (
    losses.elbo_from_evidence(evidence, posterior_kl),
    losses.elbo_from_energy(energy, entropy),
    losses.elbo(reconstruction, prior_kl),
  )


def _under(log_px_z, i: int, mean: np.ndarray, logvar: np.ndarray) -> tuple[float, float]:
  """Computes E_q log p(x_i, z) and E_q log p(x_i|z) by quadrature."""
  points, weights = np.polynomial.hermite_e.hermegauss(NODES)
  z = mean + np.exp(0.5 * logvar) * np.stack(np.meshgrid(points, points, indexing='ij'), -1).reshape(-1, 2)
  weight = np.outer(weights, weights).ravel() / weights.sum() ** 2
  reconstruction = log_px_z(z)[:, i]
  return float(weight @ (reconstruction + _normal(z, 0.0, 0.0))), float(weight @ reconstruction)


def _normal(z: np.ndarray, mean, logvar) -> np.ndarray:
  return -0.5 * (math.log(2 * math.pi) + logvar + (z - mean) ** 2 * np.exp(-logvar)).sum(-1)
