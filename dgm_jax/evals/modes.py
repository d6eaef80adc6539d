"""How near a generator's points lie to the modes of a mixture, how many it has found, and how evenly.

The number of modes and the evenness of their shares cannot tell a mixture from noise: a uniform square finds most
modes, evenly. Each figure therefore stands between that of chance and that of the mixture's own points.
"""

import math

import jax
import numpy as np
from scipy.stats import norm

from dgm_jax.data import points
from dgm_jax.errors import UserError
from dgm_jax.runs.subject import Subject
from dgm_jax.views import needs

__all__ = ['classes', 'modes']

SAMPLES = 2500
NEAR = 3.0  # deviations
EACH = 20_000  # samples of a class


@needs('sample')
def modes(seed: int, subject: Subject) -> dict[str, float]:
  """Measures 2,500 samples against the mixture that a run was trained on.

  Beside each figure stand `_chance` and `_ideal`, from the same number of points. `_chance` is the figure of points
  spread evenly over the mixture's extent. `_ideal` is that of points of the mixture itself.

  Raises:
    UserError: the data is no mixture of normals.

  Reference: Srivastava et al. 2017 (VEEGAN), arXiv:1705.07761, section 4.1.
  """
  name = subject.config.data.name.removeprefix('points:')
  if name not in points.MIXTURES:
    raise UserError(f'{subject.config.data.name} is no mixture of normals, whose modes could be counted')
  key = jax.random.key(seed)
  x = np.asarray(jax.jit(subject.system.sample, static_argnums=2)(key, subject.state, SAMPLES), np.float64)
  return compared(x, points.MIXTURES[name], seed)


def compared(x: np.ndarray, mixture: points.Mixture, seed: int = 0) -> dict[str, float]:
  """Computes the `coverage` of samples [N, D] beside that of chance and of the mixture.

  The names are {'NAME/N', 'NAME_chance/N', ...}.
  """
  random, n = np.random.default_rng(seed), len(x)
  apart = np.sqrt(np.square(mixture.centres[:, None] - mixture.centres[None]).sum(-1))
  reach = apart[apart > 0].min() / 2 if len(apart) > 1 else NEAR * mixture.deviation  # a grid's cells are then alike
  even = random.uniform(mixture.centres.min(0) - reach, mixture.centres.max(0) + reach, (n, x.shape[1]))
  others = {'_chance': coverage(even, mixture), '_ideal': coverage(points.mixture(random, n, mixture), mixture)}
  measured = {'': coverage(x, mixture)} | others
  return {f'{name}{mark}/{n}': figures[name] for name in measured[''] for mark, figures in measured.items()}


@needs('classes')
def classes(seed: int, subject: Subject) -> dict[str, float]:
  """Measures 20,000 samples of each class against the labelled normals that a run was trained on.

  The distance of a class is Wasserstein-1, between sorted samples and the normal's quantiles. Beside it are the mean
  and the deviation of each class, and the sum of the distances.

  Raises:
    UserError: the data is not 'points:3classes'.

  Reference: Gong et al. 2019, arXiv:1907.02690, section 4.1.
  """
  if subject.config.data.name != 'points:3classes':
    raise UserError(f'{subject.config.data.name} has no labelled normals: they are points:3classes')
  draw = jax.jit(subject.system.views.classes, static_argnums=2)
  x = np.asarray(draw(jax.random.key(seed), subject.state, EACH), np.float64)
  return by_class(x.reshape(len(points.CLASSES[0]), EACH))


def by_class(x: np.ndarray) -> dict[str, float]:
  """Computes the figures of `classes` from samples [K, N]."""
  steps = (np.arange(x.shape[1]) + 0.5) / x.shape[1]
  quantiles = np.stack([norm.ppf(steps, *moments) for moments in zip(*points.CLASSES, strict=True)])
  apart = np.abs(np.sort(x, 1) - quantiles).mean(1)
  figures = {'wasserstein_sum': float(apart.sum())}
  for k, row in enumerate(x):
    of_class = {'wasserstein': apart[k], 'mean': row.mean(), 'deviation': row.std()}
    figures |= {f'{name}_class_{k}': float(value) for name, value in of_class.items()}
  return figures


def coverage(x: np.ndarray, mixture: points.Mixture) -> dict[str, float]:
  """Measures how samples [N, D] fall on the modes of a mixture.

  Returns:
    high_quality_percent: samples within three deviations of a centre; 98.9 of the mixture's own in the plane.
    distance_in_deviations: median distance from the nearest centre; 1.18 for the mixture's own in the plane.
    modes: those with a sample within three deviations that has no centre nearer.
    kl_modes_nats: divergence of the shares of the nearest centres from the uniform; about (K - 1) / 2N at best.
  """
  squares = np.square(x[:, None] - mixture.centres[None]).sum(-1)  # [N, K]
  nearest, distance = squares.argmin(1), np.sqrt(squares.min(1)) / mixture.deviation
  share = np.bincount(nearest, minlength=len(mixture.centres)) / len(x)
  there = share[share > 0]
  return {
    'high_quality_percent': float(100 * (distance <= NEAR).mean()),
    'distance_in_deviations': float(np.median(distance)),
    'modes': float(len(np.unique(nearest[distance <= NEAR]))),
    'kl_modes_nats': float((there * np.log(there)).sum() + math.log(len(mixture.centres))),
  }
