"""EM: parity with scikit-learn, mean field with a point for a factor, and the linear-Gaussian models."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np

from dgm_jax.classical import bayesian_mixture, factor_analysis, mixture
from dgm_jax.classical import em as algorithm
from dgm_jax.pages.topics import drawing
from dgm_jax.pages.topics.page import Row, Topic

__all__ = ['em']

N, D, K, STEPS = 2000, 3, 4, 30
EIGENVALUES = np.array([4, 2, 1, 0.5, 0.25])
GOLDEN = {1: -7.6588, 2: -7.3259, 3: -7.1536, 4: -7.0947}  # probabilistic PCA's likelihood by number of latents


def em() -> Topic:
  """Compares EM for every family of covariances with scikit-learn, and EM with mean field.

  Probabilistic PCA and factor analysis follow.
  """
  with jax.enable_x64(True):
    rows, traces, picture = [], {}, None
    for name, structure in _structures().items():
      more, traces[name], fitted = _parity(name, structure)
      rows += more
      picture = picture if picture is not None else _picture(fitted)
    rows += [*_point(), *_linear()]
  return Topic(
    'EM, the mean field of a point',
    'With q(parameters) a delta function, mean field is EM: the E-step is exact, the M-step maximises the expected'
    ' log-joint, and the likelihood never falls. The picture has the data by its component, the first two dimensions.',
    rows=rows,
    charts={'mean log-likelihood, nats': traces},
    pictures={'a mixture of four normals found by EM': picture},
  )


def points() -> np.ndarray:
  """Draws a cloud of four normals, [N, D], float64."""
  random = np.random.default_rng(0)
  centres = 2 * random.normal(size=(K, D))
  return centres[random.integers(K, size=N)] + random.normal(size=(N, D)) @ np.diag([0.5, 1, 1.5]) + 5


def _structures() -> dict[str, mixture.Structure]:
  return {
    'full': mixture.full(), 'tied': mixture.tied(), 'diag': mixture.diagonal(), 'spherical': mixture.spherical()
  }  # fmt: skip


def _start(name: str) -> mixture.Mixture:
  covariances = np.ones((K, D)) if name in ('diag', 'spherical') else np.stack([np.eye(D)] * K)
  return mixture.Mixture(jnp.full(K, 1 / K), jnp.asarray(points()[:K]), jnp.asarray(covariances))


def _parity(name: str, structure: mixture.Structure):
  from sklearn.mixture import GaussianMixture

  x = points()
  precisions = {'full': np.stack([np.eye(D)] * K), 'tied': np.eye(D), 'diag': np.ones((K, D)), 'spherical': np.ones(K)}
  theirs = GaussianMixture(
    K, covariance_type=name, max_iter=STEPS, tol=0, weights_init=np.full(K, 1 / K), means_init=x[:K],
    precisions_init=precisions[name],
  )  # fmt: skip
  with warnings.catch_warnings():
    warnings.simplefilter('ignore')  # that it has not converged
    theirs.fit(x)
  run = jax.jit(lambda x, start: algorithm.fit(structure, x, start, STEPS, -1.0, 1e-6))
  fitted, trace = run(jnp.asarray(x), _start(name))
  distance = float(np.abs(np.asarray(fitted.means) - theirs.means_).max())
  likelihood = theirs.lower_bounds_[-1]
  rows = [
    Row(f'{name}: log-likelihood, scikit-learn', likelihood, float(trace[-1]), 1e-6 * abs(likelihood)),
    Row(f'{name}: distance of the means from scikit-learn', 0.0, distance, 1e-5),
  ]
  return rows, [(i + 1.0, float(value)) for i, value in enumerate(trace)], fitted


def _point() -> list[Row]:
  """Compares the iterates of EM with those of coordinate ascent with a point for q(parameters)."""
  x, structure, start = jnp.asarray(points() - points().mean(0)), mixture.full(), _start('full')
  start = start._replace(means=start.means - points().mean(0)[None])
  fitted, trace = jax.jit(lambda x, s: algorithm.fit(structure, x, s, STEPS, -1.0))(x, start)
  respond, _ = mixture.respond(structure, mixture.natural(structure, start), x)
  parameters = bayesian_mixture.point(structure, D)
  ascent = jax.jit(lambda x, respond: bayesian_mixture.fit(parameters, x, respond, STEPS, -1.0))(x, respond)
  distance = max(float(jnp.abs(a - b).max()) for a, b in zip(fitted, ascent.factors['parameters'], strict=True))
  falls = float(max(0.0, -np.diff(np.asarray(ascent.bounds).ravel()).min()))
  bound = float(ascent.bounds[-2, -1]) / N
  return [
    Row('mean field with a point: distance of its iterates from EM', 0.0, distance, 1e-10),
    Row('mean field with a point: its bound, EM log-likelihood', float(trace[-1]), bound, 1e-12 * abs(bound)),
    Row('mean field with a point: largest fall of the bound', 0.0, falls, 1e-9 * N),
  ]


def _linear() -> list[Row]:
  basis = np.linalg.qr(np.random.default_rng(1).normal(size=(5, 5)))[0]
  covariance = jnp.asarray(basis * EIGENVALUES @ basis.T)
  rows = []
  for latents, value in GOLDEN.items():
    start = factor_analysis.FactorModel(jnp.asarray(np.random.default_rng(2).normal(size=(5, latents))), jnp.ones(5))
    fit = jax.jit(lambda s, m: factor_analysis.fit(factor_analysis.shared_noise, s, m, 1500))
    _, trace = fit(covariance, start)
    closed = factor_analysis.log_likelihood(factor_analysis.probabilistic_pca(covariance, latents), covariance)
    rows.append(Row(f'probabilistic PCA, {latents} latents: closed form', value, float(closed), 1e-4))
    rows.append(Row(f'probabilistic PCA, {latents} latents: EM', float(closed), float(trace[-1]), 1e-6))
  return rows


def _picture(fitted: mixture.Mixture) -> np.ndarray:
  x = points()
  joint = mixture.full().features(jnp.asarray(x)) @ mixture.natural(mixture.full(), fitted).T
  return drawing.scatter(x[:, :2], np.asarray(jnp.argmax(joint, 1)) / (K - 1), x[:, :2].min(), x[:, :2].max())
