"""Distances of two sets of features and scores of class probabilities, in double precision on the host.

Axes: N, M examples, F features, K classes. `Moments` takes in features batch by batch.
"""

import math
from typing import NamedTuple

import numpy as np

__all__ = [
  'Moments', 'add', 'density_coverage', 'frechet', 'inception_score', 'kernel_subsets', 'manifolds', 'no_moments',
  'squared_distances',
]  # fmt: skip

ROWS = 500  # of a matrix of distances held at a time


class Moments(NamedTuple):
  """How many rows, their mean, and the sum of outer products of what they differ from it by."""

  count: int
  mean: np.ndarray  # [F]
  scatter: np.ndarray  # [F, F]


def no_moments(features: int) -> Moments:
  """Returns the moments of no rows."""
  return Moments(0, np.zeros(features), np.zeros((features, features)))


def add(moments: Moments, x: np.ndarray) -> Moments:
  """Computes the moments of the rows so far and of x [N, F].

  They are exact to rounding, whatever the order and the cuts.

  Reference: Chan et al. 1983, "Algorithms for computing the sample variance", equation 2.1.
  """
  x = np.asarray(x, np.float64)
  count, mean = len(x), x.mean(0)
  total, apart = moments.count + count, mean - moments.mean
  scatter = (x - mean).T @ (x - mean) + np.outer(apart, apart) * (moments.count * count / total)
  return Moments(total, moments.mean + apart * (count / total), moments.scatter + scatter)


def covariance(moments: Moments) -> np.ndarray:
  """Returns the unbiased covariance [F, F]."""
  return moments.scatter / (moments.count - 1)


def frechet(a: Moments, b: Moments) -> float:
  """Computes the squared Frechet distance of the two normals with these means and covariances.

  It is |m_a - m_b|^2 + Tr(A + B - 2 (A B)^(1/2)). The trace of the root is the sum of the roots of the eigenvalues of
  A^(1/2) B A^(1/2), which are real and not negative.

  Reference: Heusel et al. 2017, arXiv:1706.08500, equation 6.
  """
  first, second = covariance(a), covariance(b)
  root = _root(first)
  eigenvalues = np.linalg.eigvalsh(root @ second @ root)
  overlap = np.sqrt(np.maximum(eigenvalues, 0)).sum()
  return float(np.square(a.mean - b.mean).sum() + np.trace(first) + np.trace(second) - 2 * overlap)


def kernel(x: np.ndarray, y: np.ndarray) -> float:
  """Computes the unbiased squared maximum mean discrepancy of x [N, F] and y [M, F], kernel (x y / F + 1)^3.

  It may be negative.

  Reference: Binkowski et al. 2018, arXiv:1801.01401, equation 4.
  """
  x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
  cube = lambda a, b: (a @ b.T / x.shape[1] + 1) ** 3
  apart = lambda k: (k.sum() - np.trace(k)) / (len(k) * (len(k) - 1))
  return float(apart(cube(x, x)) + apart(cube(y, y)) - 2 * cube(x, y).mean())


def kernel_subsets(x: np.ndarray, y: np.ndarray, subsets: int = 100, size: int = 1000) -> tuple[float, float]:
  """Computes the mean and standard deviation of `kernel` over random subsets.

  If there are fewer rows than `size`, the subsets are smaller.
  """
  random, size = np.random.default_rng(2020), min(size, len(x), len(y))
  draw = lambda rows: rows[random.choice(len(rows), size, replace=False)]
  distances = [kernel(draw(x), draw(y)) for _ in range(subsets)]
  return float(np.mean(distances)), float(np.std(distances))


def inception_score(probabilities: np.ndarray, splits: int = 10) -> tuple[float, float]:
  """Computes exp(mean KL(p(y|x) | p(y))) of p(y|x) [N, K], in [1, K].

  It returns mean and standard deviation over the splits. Rows are shuffled first: samples that come class by class
  would fill each split with few classes.

  Reference: Salimans et al. 2016, arXiv:1606.03498, section 4.
  """
  scores = []
  shuffled = np.random.default_rng(0).permutation(np.asarray(probabilities, np.float64))
  for part in np.array_split(shuffled, splits):
    log = np.log(np.maximum(part, 1e-300))
    marginal = np.log(np.maximum(part.mean(0), 1e-300))
    scores.append(math.exp((part * (log - marginal)).sum(1).mean()))
  return float(np.mean(scores)), float(np.std(scores))


def manifolds(real: np.ndarray, fake: np.ndarray, k: int = 3) -> dict[str, float]:
  """Computes improved precision and recall.

  They are the shares of one set within the balls of the other set. Each ball reaches its example's k-th neighbour.

  Args:
    real: [N, F].
    fake: [M, F].
    k: neighbours, an example itself not among them.

  Reference: Kynkaanniemi et al. 2019, arXiv:1904.06991, equations 1 and 2.
  """
  real, fake = np.asarray(real, np.float64), np.asarray(fake, np.float64)
  real_radii, fake_radii = radii(real, k), radii(fake, k)
  inside, covered = np.zeros(len(fake), bool), []
  for rows in _chunks(len(real)):
    squares = squared_distances(real[rows], fake)
    inside |= (squares <= real_radii[rows, None]).any(0)
    covered.append((squares <= fake_radii[None]).any(1))
  return {'precision': float(inside.mean()), 'recall': float(np.concatenate(covered).mean())}


def density_coverage(real: np.ndarray, fake: np.ndarray, k: int = 5) -> dict[str, float]:
  """Computes density and coverage by the balls of real examples that reach their k-th neighbour.

  Density is the mean number of real balls that hold a generated example, over k. Coverage is the share of real balls
  that hold any. Identical distributions have density 1 and coverage 1 - 2^-k as N grows.

  Reference: Naeem et al. 2020, arXiv:2002.09797, equations 4 and 5.
  """
  real, fake = np.asarray(real, np.float64), np.asarray(fake, np.float64)
  reach, inside, covered = radii(real, k), 0, []
  for rows in _chunks(len(real)):
    within = squared_distances(real[rows], fake) < reach[rows, None]
    inside += int(within.sum())
    covered.append(within.any(1))
  return {'density': inside / (k * len(fake)), 'coverage': float(np.concatenate(covered).mean())}


def radii(x: np.ndarray, k: int) -> np.ndarray:
  """Computes the squared distance of each row of x [N, F] from its k-th nearest other row, [N]."""
  return np.concatenate([np.partition(squared_distances(x[rows], x), k, 1)[:, k] for rows in _chunks(len(x))])


def squared_distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
  """Computes the squared distances [N, M] of rows [N, F] and [M, F], never less than 0.

  Those of equal rows are zero only up to rounding.
  """
  squares = np.square(x).sum(1)[:, None] + np.square(y).sum(1)[None] - 2 * x @ y.T
  return np.maximum(squares, 0)


def _chunks(rows: int) -> list[slice]:
  return [slice(start, start + ROWS) for start in range(0, rows, ROWS)]


def _root(matrix: np.ndarray) -> np.ndarray:
  """Computes the symmetric root of a symmetric matrix without negative eigenvalues."""
  values, vectors = np.linalg.eigh(matrix)
  return (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
