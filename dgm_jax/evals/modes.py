"""How many modes of a mixture a generator has found, and how evenly."""

import math

import jax
import numpy as np

from dgm_jax.cli import UserError
from dgm_jax.data import points
from dgm_jax.evals.mean import Subject

SAMPLES = 2500
NEAR = 3.0  # deviations


def modes(seed: int, subject: Subject) -> dict[str, float]:
  """Coverage of the mixture that a run was trained on, by 2,500 samples.

  Raises:
    UserError: the data is no mixture of normals.

  Reference: Srivastava et al. 2017 (VEEGAN), arXiv:1705.07761, section 4.1.
  """
  name = subject.config.data.name.removeprefix('points:')
  if name not in points.MIXTURES:
    raise UserError(f'{subject.config.data.name} is no mixture of normals, whose modes could be counted')
  key = jax.random.key(seed)
  x = np.asarray(jax.jit(subject.system.sample, static_argnums=2)(key, subject.state, SAMPLES), np.float64)
  return {f'{name}/{SAMPLES}': value for name, value in coverage(x, points.MIXTURES[name]).items()}


def coverage(x: np.ndarray, mixture: points.Mixture) -> dict[str, float]:
  """How samples [N, D] fall on the modes of a mixture.

  Returns:
    modes: those with a sample within three deviations that has no centre nearer.
    high_quality_percent: samples within three deviations of a centre; 98.9 of the mixture's own in the plane.
    kl_modes_nats: divergence of the shares of the nearest centres from the uniform; about (K - 1) / 2N at best.
    distance_in_deviations: median distance from the nearest centre; 1.18 for the mixture's own in the plane.
  """
  squares = np.square(x[:, None] - mixture.centres[None]).sum(-1)  # [N, K]
  nearest, distance = squares.argmin(1), np.sqrt(squares.min(1)) / mixture.deviation
  share = np.bincount(nearest, minlength=len(mixture.centres)) / len(x)
  there = share[share > 0]
  return {
    'modes': float(len(np.unique(nearest[distance <= NEAR]))),
    'high_quality_percent': float(100 * (distance <= NEAR).mean()),
    'kl_modes_nats': float((there * np.log(there)).sum() + math.log(len(mixture.centres))),
    'distance_in_deviations': float(np.median(distance)),
  }
