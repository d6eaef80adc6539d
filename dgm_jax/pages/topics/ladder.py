"""What an order of inference costs in a linear ladder of three levels, in closed form.

z_3 ~ N(0, 1), z_2 = 0.9 z_3 + 0.5 e, z_1 = -1.2 z_2 + 0.6 e, x = 0.8 z_1 + 0.3 + 0.4 e. Level 1 is next to the data.
"""

import math
from collections.abc import Sequence

import numpy as np

from dgm_jax.pages.topics.page import Figures, Row, Topic

__all__ = ['ladder']

SLOPES, NOISES = (0.8, -1.2, 0.9), (0.4, 0.6, 0.5)  # of x on z_1, z_1 on z_2, z_2 on z_3
SHIFT, X = 0.3, 1.1
ORDERS = ('factorised', 'bottom up', 'top down')


def ladder() -> Topic:
  """Compares the bounds of the best posterior of each order of inference with the evidence."""
  mean, posterior = condition()
  rows, table = [], []
  for order in ORDERS:
    covariance = best(posterior) if order == 'factorised' else posterior
    reconstruction, divergences = terms(mean, covariance, conditional_variances(covariance, order))
    bound, cost = reconstruction - sum(divergences), divergence(covariance, posterior)
    rows.append(Row(f'{order}: bound = log p(x) - KL(q || p(z|x))', evidence() - cost, bound, 1e-12))
    joint = divergence(covariance, prior(), mean)
    rows.append(Row(f'{order}: divergences of the levels add up', joint, sum(divergences), 1e-12))
    table.append([order, *divergences, sum(divergences), reconstruction, bound, cost])
  header = ('order', 'KL z_1', 'KL z_2', 'KL z_3', 'sum', 'log p(x|z)', 'bound', 'cost')
  return Topic(
    'Hierarchical VAE: what an order of inference costs',
    'Three levels and all maps linear, so that every term has a closed form. The posterior of a chain is a chain, from'
    ' either end: q(z_3|x) q(z_2|z_3, x) q(z_1|z_2, x), which is top down, and q(z_1|x) q(z_2|z_1) q(z_3|z_2), which is'
    ' bottom up, both have it, and their bound is the evidence. The product q(z_1|x) q(z_2|x) q(z_3|x) has not: its'
    ' best factors have the right means but variances that are too small, and 0.44 nats are lost. (The last factor of'
    ' the prior on the slide is p(z_1|z_2); it is printed p(z_1, z_2).)',
    rows=rows,
    figures=[Figures(f'nats, log p(x) = {evidence():.7f}', header, table)],
  )


def prior() -> np.ndarray:
  """Computes the covariance of the levels, [3, 3]."""
  covariance = np.ones((1, 1))
  for slope, noise in zip(SLOPES[:0:-1], NOISES[:0:-1], strict=True):
    below = slope * covariance[:1]
    covariance = np.block([[slope * below[:, :1] + noise**2, below], [below.T, covariance]])
  return covariance


def condition() -> tuple[np.ndarray, np.ndarray]:
  """Computes mean [3] and covariance [3, 3] of the levels given x."""
  precision = np.linalg.inv(prior())
  precision[0, 0] += (SLOPES[0] / NOISES[0]) ** 2
  covariance = np.linalg.inv(precision)
  return covariance[:, 0] * SLOPES[0] / NOISES[0] ** 2 * (X - SHIFT), covariance


def best(posterior: np.ndarray) -> np.ndarray:
  """Computes the covariance of the product of normals with the least divergence from the posterior, [3, 3]."""
  return np.diag(1 / np.diag(np.linalg.inv(posterior)))


def conditional_variances(covariance: np.ndarray, order: str) -> list[float]:
  """Computes the variance of each level given those that are sampled before it."""
  before = {
    'factorised': lambda level: [level],
    'bottom up': lambda level: list(range(level, -1, -1)),
    'top down': lambda level: list(range(level, 3)),
  }[order]
  return [1 / np.linalg.inv(covariance[np.ix_(before(level), before(level))])[0, 0] for level in range(3)]


def terms(mean: np.ndarray, covariance: np.ndarray, variances: Sequence[float]) -> tuple[float, list[float]]:
  """Computes E log p(x|z_1), and E KL of each level from the prior given the level above, in nats."""
  square = lambda vector: (vector @ mean) ** 2 + vector @ covariance @ vector
  axes, divergences = np.eye(3), []
  for level, variance in enumerate(variances):
    above, noise = (SLOPES[level + 1] * axes[level + 1], NOISES[level + 1]) if level < 2 else (0 * axes[0], 1.0)
    energy = 0.5 * (math.log(2 * math.pi * noise**2) + square(axes[level] - above) / noise**2)
    divergences.append(float(energy - 0.5 * math.log(2 * math.pi * math.e * variance)))
  error = (X - SHIFT - SLOPES[0] * mean[0]) ** 2 + SLOPES[0] ** 2 * covariance[0, 0]
  return float(-0.5 * (math.log(2 * math.pi * NOISES[0] ** 2) + error / NOISES[0] ** 2)), divergences


def evidence() -> float:
  """Computes log p(x) in nats."""
  variance = SLOPES[0] ** 2 * prior()[0, 0] + NOISES[0] ** 2
  return float(-0.5 * (math.log(2 * math.pi * variance) + (X - SHIFT) ** 2 / variance))


def divergence(covariance: np.ndarray, other: np.ndarray, mean: np.ndarray | None = None) -> float:
  """Computes the divergence of two normals whose means differ by `mean`, or not at all, in nats."""
  solved = np.linalg.solve(other, covariance)
  apart = 0.0 if mean is None else mean @ np.linalg.solve(other, mean)
  return float(0.5 * (np.trace(solved) + apart - len(solved) - np.linalg.slogdet(solved)[1]))
