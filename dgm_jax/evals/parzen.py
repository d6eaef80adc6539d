"""Likelihood under a Parzen window: the figure of papers whose generators have no density of their own.

It says more of the window than of the generator: in high dimensions no number of samples makes it near the likelihood
(Theis et al. 2016, arXiv:1511.01844, section 3.2). It stands beside published ones, and is compared with nothing else.
"""

import math

import numpy as np
from scipy.special import logsumexp

from dgm_jax import data
from dgm_jax.errors import UserError
from dgm_jax.evals import distances, generated
from dgm_jax.runs.subject import Subject
from dgm_jax.views import needs

__all__ = ['parzen']

SAMPLES = 10_000
WIDTHS = np.logspace(-1, 0, 10)  # of which the one that is best on validation images is taken
CHOSEN_BY = 1000  # validation images
ROWS = 500  # images whose distances from all samples are held at a time


@needs('sample')
def parzen(seed: int, subject: Subject) -> dict[str, float]:
  """Measures a split by normals around generated images, with the width that fits validation images best.

  Returns:
    parzen_log_likelihood_nats: the mean log-density of an image of pixels in [0, 1]; the greater, the better.
    parzen_standard_error_nats: of that mean.
    parzen_width: the deviation of each normal.

  Raises:
    UserError: there are no validation images.

  Reference: Goodfellow et al. 2014, arXiv:1406.2661, section 5.
  """
  config = subject.config
  if not config.data.valid_size:
    raise UserError('parzen.parzen chooses its width by validation images: train with config.data.valid_size > 0')
  count = config.get('generated', {}).get('samples', 0) or SAMPLES
  centres = _flat(np.concatenate(list(generated.samples(seed, subject, count))))
  chosen_by = _flat(generated.first(data.load(config.data, 'valid'), CHOSEN_BY))
  width = max(WIDTHS, key=lambda width: log_density(chosen_by, centres, width).mean())
  log_densities = log_density(_flat(generated.first(subject.split, subject.split.size)), centres, width)
  results = {
    'parzen_log_likelihood_nats': float(log_densities.mean()),
    'parzen_standard_error_nats': float(log_densities.std() / math.sqrt(len(log_densities))),
    'parzen_width': float(width),
  }
  return {generated.counted(name, count): value for name, value in results.items()}


def log_density(x: np.ndarray, centres: np.ndarray, width: float) -> np.ndarray:
  """Computes the log of the mean over centres [M, D] of the normal density at x [N, D], [N] nats.

  `width` is the deviation.
  """
  norm = math.log(len(centres)) + x.shape[1] * (0.5 * math.log(2 * math.pi) + math.log(width))
  parts = np.array_split(x, -(-len(x) // ROWS))
  exponents = (-distances.squared_distances(part, centres) / (2 * width**2) for part in parts)
  return np.concatenate([logsumexp(each, axis=1) for each in exponents]) - norm


def _flat(pixels: np.ndarray) -> np.ndarray:
  """Returns uint8 [N, H, W, C] as numbers in [0, 1], [N, D]."""
  return pixels.reshape(len(pixels), -1).astype(np.float64) / 255
