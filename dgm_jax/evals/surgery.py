"""ELBO surgery on a trained autoencoder: what its divergence from the prior is spent on."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from dgm_jax import distributions
from dgm_jax.evals.mean import per_example
from dgm_jax.runs.subject import Subject
from dgm_jax.views import needs

__all__ = ['surgery']

SAMPLES = 20_000  # at most; each is held against the posteriors of all examples
ROWS = 2**22  # numbers that are held at a time
NODES = 40  # of the quadrature, a dimension
EXACT = 2e8  # evaluations of a density that quadrature may take
LogProb = Callable[[np.ndarray], np.ndarray]  # codes [S, Z] -> [S] nats


@needs('posterior', 'prior.log_prob')
def surgery(seed: int, subject: Subject) -> dict[str, float]:
  """Splits the mean divergence of posteriors from the prior into marginal divergence and index-code information.

  All are in nats. The aggregated posterior is that of the whole split. If latents and examples are few, the figures are
  exact to rounding, by quadrature. Otherwise the two parts are estimated, with their standard errors. The information
  is at most ln n. `surgery_residual_nats` is the difference between the sum of the parts and the divergence in closed
  form. Under a prior other than N(0, I) there is no closed form: the divergence is the sum of the parts, and there is
  no residual.

  Reference: Hoffman & Johnson 2016, ELBO surgery, equations 6 to 8.
  """
  views = subject.system.views

  def posterior(key, state, batch):
    return dict(zip(('mean', 'logvar'), views.posterior(key, state, batch['x']), strict=True))

  posteriors = per_example(posterior, subject.split, subject.config, subject.mesh)(seed, subject.state)
  prior = None if views.prior.normal else _density(seed, subject)
  count, latents = posteriors['mean'].shape
  if NODES**latents * count**2 <= EXACT:
    return exact(posteriors['mean'], posteriors['logvar'], prior=prior)
  return sampled(seed, posteriors['mean'], posteriors['logvar'], prior=prior)


def _density(seed: int, subject: Subject) -> LogProb:
  """Returns the log-density of the system's prior."""
  log_prob = jax.jit(subject.system.views.prior.log_prob)
  return lambda z: np.asarray(log_prob(jax.random.key(seed), subject.state, jnp.asarray(z, jnp.float32)), np.float64)


def exact(mean: np.ndarray, logvar: np.ndarray, nodes: int = NODES, prior: LogProb | None = None) -> dict[str, float]:
  """Computes the decomposition of posteriors [N, Z] by Gauss-Hermite quadrature under each, in float64.

  It is exact for log q(z|i) and log N(z; 0, I), which are quadratic, whatever the number of nodes a dimension. `prior`
  is the log-density of another prior.
  """
  mean, logvar = np.asarray(mean, np.float64), np.asarray(logvar, np.float64)
  points, weights = np.polynomial.hermite_e.hermegauss(nodes)
  grid = np.stack(np.meshgrid(*[points] * mean.shape[1], indexing='ij'), -1).reshape(-1, mean.shape[1])  # [M, Z]
  weight = np.prod(np.stack(np.meshgrid(*[weights] * mean.shape[1])), 0).ravel() / weights.sum() ** mean.shape[1]
  parts, log_prior = [], prior or (lambda z: _normal(z, 0, 0))
  for centre, log_scale in zip(mean, logvar, strict=True):
    z = centre + np.exp(0.5 * log_scale) * grid  # [M, Z]
    aggregated = np.logaddexp.reduce(_normal(z[:, None], mean, logvar), 1) - math.log(len(mean))
    parts.append((weight @ (aggregated - log_prior(z)), weight @ (_normal(z, centre, log_scale) - aggregated)))
  marginal, information = np.mean(parts, 0)
  return _page(mean, logvar, float(marginal), float(information), closed=prior is None)


def sampled(
  seed: int, mean: np.ndarray, logvar: np.ndarray, samples: int = SAMPLES, prior: LogProb | None = None
) -> dict[str, float]:
  """Estimates the decomposition of posteriors [N, Z] by samples z ~ q(z|i), the examples i taking turns.

  The parts are unbiased. The number of samples is about `samples`. If N is less, it is a multiple of N. `prior` is the
  log-density of a prior other than N(0, I).
  """
  count = len(mean)
  samples = samples // count * count or samples
  index = np.resize(np.random.default_rng(seed).permutation(count), samples)
  arrays = jnp.asarray(mean), jnp.asarray(logvar)
  log_prior = prior or distributions.standard_normal_log_prob
  log_probs = _log_probs(jax.random.key(seed), *arrays, index, log_prior)
  own, aggregated, under_prior = (np.asarray(a, np.float64) for a in log_probs)
  error = lambda values: float(values.std() / math.sqrt(samples))
  marginal, information = float((aggregated - under_prior).mean()), float((own - aggregated).mean())
  page = _page(mean, logvar, marginal, information, closed=prior is None)
  page['marginal_kl_standard_error_nats'] = error(aggregated - under_prior)
  page['mutual_information_standard_error_nats'] = error(own - aggregated)
  return page | ({'surgery_residual_standard_error_nats': error(own - under_prior)} if prior is None else {})


def _page(mean, logvar, marginal: float, information: float, closed: bool) -> dict[str, float]:
  """Returns the figures. If the prior is N(0, I) (`closed`), the divergence has a closed form."""
  mean, logvar = np.asarray(mean, np.float64), np.asarray(logvar, np.float64)
  average = float(0.5 * (mean**2 + np.expm1(logvar) - logvar).sum(1).mean()) if closed else marginal + information
  residual = {'surgery_residual_nats': marginal + information - average} if closed else {}
  return {
    'average_kl_nats': average,
    'marginal_kl_nats': marginal,
    'mutual_information_nats': information,
    'log_n_nats': math.log(len(mean)),
  } | residual


def _normal(z, mean, logvar) -> np.ndarray:
  """Computes the log-density in nats, summed over the last axis, in float64."""
  return -0.5 * (math.log(2 * math.pi) + logvar + (z - mean) ** 2 * np.exp(-logvar)).sum(-1)


def _log_probs(key: jax.Array, mean: jax.Array, logvar: jax.Array, index: np.ndarray, log_prior: Callable):
  """Computes log q(z|i), log q(z) and log p(z) of one z ~ q(z|i) for each index, [S] each."""
  z = distributions.normal_sample(key, mean[index], logvar[index])
  own = distributions.normal_log_prob(z, mean[index], logvar[index])
  rows = max(1, ROWS // mean.size)
  aggregated = jax.jit(lambda z: jax.lax.map(lambda row: _aggregated(row, mean, logvar), z, batch_size=rows))(z)
  return own, aggregated, log_prior(z)


def _aggregated(z: jax.Array, mean: jax.Array, logvar: jax.Array) -> jax.Array:
  """Computes log q(z) = log (1/N) sum_i q(z|i), [], for z [Z]."""
  return jax.nn.logsumexp(distributions.normal_log_prob(z[None], mean, logvar)) - math.log(len(mean))
