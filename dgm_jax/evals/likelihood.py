"""Likelihood of held-out data."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from dgm_jax import data
from dgm_jax.errors import UserError
from dgm_jax.evals import annealing, standing
from dgm_jax.evals.mean import images, per_example
from dgm_jax.runs.subject import Subject
from dgm_jax.views import needs

__all__ = ['ais', 'nll']


@needs('log_prob', 'bits')
def nll(seed: int, subject: Subject) -> dict[str, float]:
  """Estimates the negative log-likelihood in nats (and bits per dimension) by importance sampling.

  It takes `config.nll.samples` samples. log (1/L) sum_l p(x, z_l) / q(z_l|x) is on average a lower bound of log p(x).
  The estimate is hence an upper bound, tight as L grows. The standard error is that over the examples of the split, or
  over `config.nll.examples` of them, evenly strided.

  Reference: Burda et al. 2016, arXiv:1509.00519, section 5.
  """
  settings, views = subject.config.nll, subject.system.views
  split = strided(subject.split, settings.get('examples', 0))

  def log_prob(key, state, batch):
    return {'log_prob': views.log_prob(key, state, batch['x'])}

  # Small batches of images: their samples fill the processor's caches.
  batch_size = max(1, min(subject.config.eval_batch_size, settings.rows // 10))
  run = per_example(log_prob, split, subject.config, subject.mesh, batch_size)
  state = standing.normalized(seed, subject.system, subject.state)
  nats = -run(seed, state)['log_prob'].astype(np.float64)
  return {
    'nll_nats': float(nats.mean()),
    'nll_standard_error_nats': float(nats.std() / math.sqrt(len(nats))),
    'nll_bits_per_dim': float(views.bits(jax.random.key(seed), subject.state, nats.mean())),
  }


def strided(split: data.Split, examples: int) -> data.Split:
  """Returns the split of so many of its examples, evenly strided; all of them if the number is 0.

  Raises:
    UserError: the split has fewer.
  """
  if not examples:
    return split
  if examples > split.size:
    raise UserError(
      f'config.nll.examples={examples} is more than the {split.size} of {split.name}: take fewer, or 0 for all'
    )
  rows = np.arange(examples) * split.size // examples

  def fetch(arrays, index):
    return split.fetch(arrays, jnp.asarray(rows, index.dtype)[index])

  return split._replace(size=examples, fetch=fetch, places=rows if split.places is None else split.places[rows])


@needs('log_likelihood', 'emit', 'prior.log_prob')
def ais(seed: int, subject: Subject) -> dict[str, float]:
  """Estimates the negative log-likelihood in nats by annealed importance sampling, and the width of its bracket.

  `ais_nll_nats` is on average an upper bound, of evenly strided examples of the split. Of as many images that the model
  itself draws, an exact posterior sample is known: `ais_simulated_upper_nats` is an upper bound of their negative
  log-likelihood and `ais_simulated_lower_nats`, by chains from that sample, a lower one. Their difference
  `ais_gap_nats` bounds the error of both. The settings are `config.ais`.

  Reference: Grosse et al. 2015, arXiv:1511.02543; Wu et al. 2017, arXiv:1611.04273.
  """
  system, state, settings = subject.system, subject.state, subject.config.ais
  split = strided(subject.split, min(settings.examples, subject.split.size))
  for_z, for_x, for_data, for_simulated = jax.random.split(jax.random.key(seed), 4)
  z = system.views.prior.sample(for_z, state, split.size)
  simulated = system.views.emit(for_x, state, z)
  bracket = jax.jit(lambda key, state, x, z: _bracket(system, settings, key, state, x, z))
  upper, _ = bracket(for_data, state, jnp.asarray(images(split, subject.config, split.size)), None)
  simulated_upper, simulated_lower = bracket(for_simulated, state, simulated, z)
  means = [float(np.asarray(nats, np.float64).mean()) for nats in (upper, simulated_upper, simulated_lower)]
  names = 'ais_nll_nats', 'ais_simulated_upper_nats', 'ais_simulated_lower_nats'
  return dict(zip(names, means, strict=True)) | {'ais_gap_nats': means[1] - means[2]}


def _bracket(
  system, settings, key: jax.Array, state, x: jax.Array, z: jax.Array | None
) -> tuple[jax.Array, jax.Array | None]:
  """Computes an upper bound of -log p(x) and, given exact posterior samples z of x, a lower one, [B] nats each."""
  for_views, for_start, for_steps, up, down = jax.random.split(key, 5)
  rows = jnp.repeat(x, settings.chains, 0)
  chains = annealing.Chains(
    log_prior=lambda z: system.views.prior.log_prob(for_views, state, z),
    log_likelihood=lambda z: system.views.log_likelihood(for_views, state, rows, z),
    leapfrogs=settings.leapfrogs,
  )
  betas = annealing.temperatures(settings.temperatures)
  one, other = (system.views.prior.sample(key, state, rows.shape[0]) for key in jax.random.split(for_start))
  steps = annealing.tune(for_steps, chains, one, betas)
  mean = lambda log_weights: jax.nn.logsumexp(log_weights.reshape(x.shape[0], -1), 1) - math.log(settings.chains)
  upper = -mean(annealing.forward(up, chains, other, betas, steps))
  if z is None:
    return upper, None
  return upper, mean(annealing.backward(down, chains, jnp.repeat(z, settings.chains, 0), betas, steps))
