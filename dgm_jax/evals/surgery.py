"""ELBO surgery on a trained autoencoder: what its divergence from the prior is spent on."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from dgm_jax import distributions
from dgm_jax.errors import UserError
from dgm_jax.evals.mean import Subject, per_example

__all__ = ['surgery']

SAMPLES = 20_000  # at most; each is held against the posteriors of all examples
ROWS = 2**22  # numbers that are held at a time
NODES = 40  # of the quadrature, a dimension
EXACT = 2e8  # evaluations of a density that quadrature may take


def surgery(seed: int, subject: Subject) -> dict[str, float]:
  """The mean divergence of the posteriors from the prior, as marginal divergence plus index-code information, in nats.

  The aggregated posterior is that of the whole split. Where latents and examples are few the figures are exact to
  rounding, by quadrature; elsewhere the two parts are estimated, with their standard errors. The information is at
  most ln n. `surgery_residual_nats` is what the sum of the parts and the divergence in closed form differ by.

  Raises:
    UserError: the system has no view `posterior`, diagonal normals with the prior N(0, I).

  Reference: Hoffman & Johnson 2016, ELBO surgery, equations 6 to 8.
  """
  if 'posterior' not in subject.system.views:
    raise UserError(f'{subject.config.system} has no normal posterior q(z|x): surgery takes one, such as vae.vae has')

  def posterior(key, state, batch):
    del key
    return dict(zip(('mean', 'logvar'), subject.system.views['posterior'](state, batch['x']), strict=True))

  found = per_example(posterior, subject.split, subject.config, subject.mesh)(seed, subject.state)
  count, latents = found['mean'].shape
  if NODES**latents * count**2 <= EXACT:
    return exact(found['mean'], found['logvar'])
  return sampled(seed, found['mean'], found['logvar'])


def exact(mean: np.ndarray, logvar: np.ndarray, nodes: int = NODES) -> dict[str, float]:
  """The decomposition of posteriors [N, Z] by Gauss-Hermite quadrature under each, in float64.

  Exact for log q(z|i) and log p(z), which are quadratic, whatever the number of nodes a dimension.
  """
  mean, logvar = np.asarray(mean, np.float64), np.asarray(logvar, np.float64)
  points, weights = np.polynomial.hermite_e.hermegauss(nodes)
  grid = np.stack(np.meshgrid(*[points] * mean.shape[1], indexing='ij'), -1).reshape(-1, mean.shape[1])  # [M, Z]
  weight = np.prod(np.stack(np.meshgrid(*[weights] * mean.shape[1])), 0).ravel() / weights.sum() ** mean.shape[1]
  parts = []
  for centre, log_scale in zip(mean, logvar, strict=True):
    z = centre + np.exp(0.5 * log_scale) * grid  # [M, Z]
    aggregated = np.logaddexp.reduce(_normal(z[:, None], mean, logvar), 1) - math.log(len(mean))
    parts.append((weight @ (aggregated - _normal(z, 0, 0)), weight @ (_normal(z, centre, log_scale) - aggregated)))
  marginal, information = np.mean(parts, 0)
  return _page(mean, logvar, float(marginal), float(information))


def sampled(seed: int, mean: np.ndarray, logvar: np.ndarray, samples: int = SAMPLES) -> dict[str, float]:
  """The decomposition of posteriors [N, Z] by samples z ~ q(z|i), the examples i taking turns.

  The parts are unbiased. About `samples` of them are taken: a multiple of N, if N is less.
  """
  count = len(mean)
  samples = samples // count * count or samples
  index = np.resize(np.random.default_rng(seed).permutation(count), samples)
  arrays = jnp.asarray(mean), jnp.asarray(logvar)
  own, aggregated, prior = (np.asarray(a, np.float64) for a in _log_probs(jax.random.key(seed), *arrays, index))
  error = lambda values: float(values.std() / math.sqrt(samples))
  page = _page(mean, logvar, float((aggregated - prior).mean()), float((own - aggregated).mean()))
  return page | {
    'marginal_kl_standard_error_nats': error(aggregated - prior),
    'mutual_information_standard_error_nats': error(own - aggregated),
    'surgery_residual_standard_error_nats': error(own - prior),
  }


def _page(mean, logvar, marginal: float, information: float) -> dict[str, float]:
  mean, logvar = np.asarray(mean, np.float64), np.asarray(logvar, np.float64)
  average = float(0.5 * (mean**2 + np.expm1(logvar) - logvar).sum(1).mean())
  return {
    'average_kl_nats': average,
    'marginal_kl_nats': marginal,
    'mutual_information_nats': information,
    'log_n_nats': math.log(len(mean)),
    'surgery_residual_nats': marginal + information - average,
  }


def _normal(z, mean, logvar) -> np.ndarray:
  """Log-density in nats, summed over the last axis, in float64."""
  return -0.5 * (math.log(2 * math.pi) + logvar + (z - mean) ** 2 * np.exp(-logvar)).sum(-1)


def _log_probs(key: jax.Array, mean: jax.Array, logvar: jax.Array, index: np.ndarray):
  """log q(z|i), log q(z) and log p(z) of one z ~ q(z|i) for each index, [S] each."""
  z = distributions.normal_sample(key, mean[index], logvar[index])
  own = distributions.normal_log_prob(z, mean[index], logvar[index])
  rows = max(1, ROWS // mean.size)
  aggregated = jax.jit(lambda z: jax.lax.map(lambda row: _aggregated(row, mean, logvar), z, batch_size=rows))(z)
  return own, aggregated, distributions.standard_normal_log_prob(z)


def _aggregated(z: jax.Array, mean: jax.Array, logvar: jax.Array) -> jax.Array:
  """log q(z) = log (1/N) sum_i q(z|i), [], z [Z]."""
  return jax.nn.logsumexp(distributions.normal_log_prob(z[None], mean, logvar)) - math.log(len(mean))
