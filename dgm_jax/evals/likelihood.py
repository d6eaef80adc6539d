"""Likelihood of held-out data."""

import math

import jax
import numpy as np

from dgm_jax import data
from dgm_jax.errors import UserError
from dgm_jax.evals.mean import per_example
from dgm_jax.runs.subject import Subject
from dgm_jax.views import needs

__all__ = ['nll']


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
  nats = -run(seed, subject.state)['log_prob'].astype(np.float64)
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
    return split.fetch(arrays, jax.numpy.asarray(rows, index.dtype)[index])

  return split._replace(size=examples, fetch=fetch)
