"""Figures of sets of images: those of `generated`, by any features."""

import pathlib

import numpy as np
import pytest

from dgm_jax import evals
from dgm_jax.errors import UserError
from dgm_jax.evals import distances

RANDOM = np.random.default_rng(0)
X, Y = (RANDOM.integers(256, size=(60, 4, 4, 1), dtype=np.uint8) for _ in range(2))


def mean_and_spread(images):
  flat = images.reshape(len(images), -1) / 255
  return np.stack([flat.mean(1), flat.std(1)], 1)


def test_distances_by_features_of_ones_own():
  a, b = mean_and_spread(X), mean_and_spread(Y)
  gap = a.mean(0) - b.mean(0)
  root = np.linalg.cholesky(np.cov(a.T))
  overlap = np.sqrt(np.linalg.eigvalsh(root.T @ np.cov(b.T) @ root)).sum()
  expected = gap @ gap + np.trace(np.cov(a.T)) + np.trace(np.cov(b.T)) - 2 * overlap
  assert evals.fid(X, Y, mean_and_spread) == pytest.approx(expected, rel=1e-9)
  assert evals.fid(X, X, mean_and_spread) == pytest.approx(0, abs=1e-12)
  assert evals.kid(X, Y, mean_and_spread) == distances.kernel_subsets(a, b)[0]
  figures = evals.manifolds(X, X, mean_and_spread)
  assert figures['precision'] == figures['recall'] == figures['coverage'] == 1


def test_the_classifier_of_the_clone_is_a_judge():
  with np.load(pathlib.Path(__file__).parents[1] / 'data' / 'digits500.npz') as digits:
    x = digits['x']
  assert evals.fid(x, x, 'classifier_mnist') == pytest.approx(0, abs=1e-6)
  assert evals.fid(x[:250], 255 - x[250:], 'classifier_mnist') > 10 * evals.fid(x[:250], x[250:], 'classifier_mnist')
  assert 8 < evals.inception_score(x, 'classifier_mnist', 2) <= 10


@pytest.mark.parametrize('images', [X / 255, X[..., 0], X[:1]])
def test_what_is_no_set_of_images_is_refused(images):
  with pytest.raises(UserError, match=r'give two or more as uint8 \[N, H, W, C\]'):
    evals.fid(images, Y, mean_and_spread)


def test_what_evals_lacks_is_named():
  with pytest.raises(AttributeError, match=r"'dgm_jax\.evals' has no attribute 'fod'"):
    evals.fod  # noqa: B018
