"""Mean field: coordinate ascent on grids of spins, on regression, on the Bayesian mixture, and an image cleaned."""

import itertools
import math
import warnings

import jax
import jax.numpy as jnp
import numpy as np

from dgm_jax.classical import bayesian_mixture, ising, linear_regression, mixture
from dgm_jax.pages.topics.em import points
from dgm_jax.pages.topics.page import Row, Topic

__all__ = ['mean_field']

ERROR = 0.15  # of the pixels are replaced
SWEEPS = 40


def mean_field() -> Topic:
  """Compares every bound with what it bounds, and the mixture with scikit-learn.

  It also shows an image with and without its noise.
  """
  with jax.enable_x64(True):
    mixture_rows, bounds = _mixture()
    rows = [*_spins(), *_regression(), *mixture_rows]
    picture, image_rows = _image()
  return Topic(
    'Mean field',
    'Each factor in turn is set to exp E log p of the others. The bound rises with every update, and stays below the'
    ' evidence: by the divergence of the factorised from the true posterior. The image is a Potts grid of four states'
    f' whose pixels were replaced with chance {ERROR}: clean, noisy, cleaned.',
    rows=[*rows, *image_rows],
    charts={'bound of the Bayesian mixture after each update, nats': {'bound': bounds}},
    pictures={'a Potts grid cleaned by mean field': picture},
  )


def _spins() -> list[Row]:
  """Compares with the golden values of 3 x 3 spins, and of two spins whose symmetry breaks."""
  couplings = ising.grid_couplings(3, 3, 0.3)
  run = jax.jit(lambda s: ising.ising_fit(jnp.asarray(couplings), jnp.full(9, 0.1), s, 60))(jnp.full(9, 0.9))
  spins = np.array(list(itertools.product([-1, 1], repeat=9)))
  log_z = np.logaddexp.reduce(0.5 * np.einsum('si,ij,sj->s', spins, couplings, spins) + 0.1 * spins.sum(1))
  pair = 2.0 * (1 - jnp.eye(2))
  two = jax.jit(lambda s: ising.ising_fit(pair, jnp.zeros(2), s, 60))(jnp.full(2, 0.9))
  values = {f'3 x 3 Ising grid, mean of spin {i}': value for i, value in ((0, 0.3518), (1, 0.4459), (4, 0.5615))}
  measured = [float(run.factors[str(i)]) for i in (0, 1, 4)]
  rows = [Row(name, value, got, 1e-4) for (name, value), got in zip(values.items(), measured, strict=True)]
  return [
    *rows,
    Row('3 x 3 Ising grid, bound', 6.45838, float(run.bounds[-1, -1]), 1e-5),
    Row('3 x 3 Ising grid, log Z by enumeration', 6.91268, float(log_z), 1e-5),
    Row('two spins of coupling 2, mean (the truth is 0)', 0.9575, float(two.factors['0']), 1e-4),
    Row('two spins of coupling 2, bound (log Z is 2.7113)', 2.0393, float(two.bounds[-1, -1]), 1e-4),
    Row('3 x 3 Ising grid, largest fall of the bound', 0.0, _fall(run.bounds), 1e-12),
  ]


def _regression() -> list[Row]:
  """Compares the bound with the evidence: with known precisions nothing is approximated, and they are equal."""
  random = np.random.default_rng(0)
  x = random.normal(size=(12, 2))
  y = x @ [1.5, -0.5] + 0.4 * random.normal(size=12)
  gamma = lambda shape, mean: linear_regression.Gamma(jnp.asarray(shape), jnp.asarray(shape / mean))
  run = linear_regression.fit(jnp.asarray(x), jnp.asarray(y), gamma(1e9, 2.0), gamma(1e9, 6.0), 3, -1.0)
  covariance = np.eye(12) / 6 + x @ x.T / 2
  evidence = -0.5 * (12 * math.log(2 * math.pi) + np.linalg.slogdet(covariance)[1] + y @ np.linalg.solve(covariance, y))
  return [Row('linear regression, known precisions: bound = evidence', evidence, float(run.bounds[-1, -1]), 1e-5)]


def _mixture():
  """Compares with scikit-learn from its own random start, and returns the bound after each update."""
  from sklearn.mixture import BayesianGaussianMixture

  x, components = points(), 4
  start = np.random.RandomState(3).uniform(size=(len(x), components))
  theirs = BayesianGaussianMixture(
    n_components=components, max_iter=SWEEPS, tol=0, reg_covar=0.0, init_params='random', random_state=3,
    weight_concentration_prior_type='dirichlet_distribution', weight_concentration_prior=0.5,
  )  # fmt: skip
  with warnings.catch_warnings():
    warnings.simplefilter('ignore')  # that it has not converged
    theirs.fit(x)
  centred = jnp.asarray(x - x.mean(0))
  parameters = bayesian_mixture.conjugate(bayesian_mixture.prior(centred, 0.5), components)
  start_statistics = mixture.statistics(parameters.structure, centred, jnp.asarray(start / start.sum(1, keepdims=True)))
  run = jax.jit(lambda x, start_statistics: bayesian_mixture.fit(parameters, x, start_statistics, SWEEPS + 1, -1.0))(
    centred, start_statistics
  )
  # A sweep is M then E, theirs E then M; their bound leaves out a constant.
  ours, lower = np.asarray(run.bounds)[1:, 0], np.asarray(theirs.lower_bounds_)
  means = np.asarray(run.factors['parameters'].means) + x.mean(0)
  distance = float(np.abs(means - theirs.means_).max())
  size = abs(lower[-1])
  rows = [
    Row('Bayesian mixture, gain of the bound: scikit-learn', lower[-1] - lower[0], ours[-1] - ours[0], 1e-6 * size),
    Row('Bayesian mixture, distance of the means from scikit-learn', 0.0, distance, 1e-5),
    Row('Bayesian mixture, largest fall of the bound', 0.0, _fall(run.bounds), 1e-9 * abs(ours[-1])),
  ]
  return rows, [(i + 1.0, float(bound)) for i, bound in enumerate(np.asarray(run.bounds).ravel())]


def _image():
  clean = _scene()
  random = np.random.default_rng(0)
  noisy = np.where(random.random(clean.shape) < ERROR, (clean + random.integers(1, 4, clean.shape)) % 4, clean)
  run = jax.jit(lambda fields: ising.potts_fit(1.2, fields, 50))(ising.flip_fields(jnp.asarray(noisy), 4, ERROR))
  restored = np.argmax(np.asarray(run.factors['dark'] + run.factors['light']), -1)
  wrong = [float((image != clean).mean()) for image in (noisy, restored)]
  rows = [
    Row('Potts image, share of wrong pixels before', ERROR, wrong[0], 0.01),
    Row('Potts image, share of wrong pixels after', 0.0, wrong[1], 0.02),
    Row('Potts image, largest fall of the bound', 0.0, _fall(run.bounds), 1e-8),
  ]
  draw = lambda image: (85 * image).astype(np.uint8)[..., None].repeat(3, 0).repeat(3, 1)
  gap = np.full((3 * clean.shape[0], 12, 1), 255, np.uint8)
  return np.concatenate([draw(clean), gap, draw(noisy), gap, draw(restored)], 1), rows


def _scene() -> np.ndarray:
  """Draws two discs and a bar, [96, 96] in 0 to 3."""
  y, x = np.mgrid[:96, :96]
  scene = np.zeros((96, 96), int)
  scene[(y - 32) ** 2 + (x - 30) ** 2 < 500] = 1
  scene[(y - 60) ** 2 + (x - 64) ** 2 < 600] = 2
  scene[76:88, 10:50] = 3
  return scene


def _fall(bounds) -> float:
  """Computes how far the bound ever fell, 0 if it never did."""
  steps = np.diff(np.asarray(bounds).ravel())
  return float(max(0.0, -np.nanmin(steps)))
