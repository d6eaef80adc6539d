"""Likelihood of held-out data."""

import math

import jax
import numpy as np

from dgm_jax.evals.mean import per_example
from dgm_jax.runs.subject import Subject
from dgm_jax.views import needs

__all__ = ['nll']


@needs('log_prob', 'bits')
def nll(seed: int, subject: Subject) -> dict[str, float]:
  """Estimates the negative log-likelihood in nats (and bits per dimension) by importance sampling.

  It takes `config.nll.samples` samples. log (1/L) sum_l p(x, z_l) / q(z_l|x) is on average a lower bound of log p(x).
  The estimate is hence an upper bound, tight as L grows. The standard error is that over the examples of the split.

  Reference: Burda et al. 2016, arXiv:1509.00519, section 5.
  """
  settings, views = subject.config.nll, subject.system.views

  def log_prob(key, state, batch):
    return {'log_prob': views.log_prob(key, state, batch['x'])}

  # Small batches of images: their samples fill the processor's caches.
  batch_size = max(1, min(subject.config.eval_batch_size, settings.rows // 10))
  run = per_example(log_prob, subject.split, subject.config, subject.mesh, batch_size)
  nats = -run(seed, subject.state)['log_prob'].astype(np.float64)
  return {
    'nll_nats': float(nats.mean()),
    'nll_standard_error_nats': float(nats.std() / math.sqrt(len(nats))),
    'nll_bits_per_dim': float(views.bits(jax.random.key(seed), subject.state, nats.mean())),
  }
