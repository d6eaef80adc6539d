"""EM and mean field for mixtures: parity with scikit-learn in float64, monotone objectives, EM as a special case."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.mixture import BayesianGaussianMixture, GaussianMixture

from dgm_jax.classical import bayesian_mixture, em, mixture

N, D, K = 1500, 3, 4  # more than a chunk, and no multiple of it
STRUCTURES = {'full': mixture.full, 'tied': mixture.tied, 'diag': mixture.diagonal, 'spherical': mixture.spherical}


@pytest.fixture(autouse=True)
def float64():
  with jax.enable_x64(True):
    yield


def points():
  random = np.random.default_rng(0)
  centres = 2 * random.normal(size=(K, D))
  return centres[random.integers(K, size=N)] + random.normal(size=(N, D)) @ np.diag([0.5, 1, 1.5]) + 5


def start(x, name):
  covariances = np.ones((K, D)) if name in ('diag', 'spherical') else np.stack([np.eye(D)] * K)
  return mixture.Mixture(jnp.full(K, 1 / K), jnp.asarray(x[:K]), jnp.asarray(covariances))


def sklearn_fit(model, x):
  with warnings.catch_warnings():
    warnings.simplefilter('ignore')  # that it has not converged
    return model.fit(x)


@pytest.mark.parametrize('name', STRUCTURES)
def test_em_agrees_with_scikit_learn(name):
  x, structure = points(), STRUCTURES[name]()
  inverse = {'full': np.stack([np.eye(D)] * K), 'tied': np.eye(D), 'diag': np.ones((K, D)), 'spherical': np.ones(K)}
  theirs = GaussianMixture(
    K, covariance_type=name, max_iter=20, tol=0, weights_init=np.full(K, 1 / K), means_init=x[:K],
    precisions_init=inverse[name],
  )  # fmt: skip
  sklearn_fit(theirs, x)
  run = jax.jit(lambda x, start: em.fit(structure, x, start, 20, -1.0, 1e-6))
  ours, trace = run(jnp.asarray(x), start(x, name))
  np.testing.assert_allclose(trace, theirs.lower_bounds_, rtol=1e-9)
  np.testing.assert_allclose(ours.means, theirs.means_, atol=1e-9)
  np.testing.assert_allclose(ours.weights, theirs.weights_, atol=1e-9)
  covariances = {'tied': theirs.covariances_[None], 'spherical': theirs.covariances_.reshape(-1, 1)}
  np.testing.assert_allclose(*np.broadcast_arrays(ours.covariances, covariances.get(name, theirs.covariances_)), 1e-8)
  density = mixture.log_prob(structure, ours, jnp.asarray(x))
  np.testing.assert_allclose(density, theirs.score_samples(x), atol=1e-9)


def test_em_on_iris_reaches_the_known_maximum():
  x = jnp.asarray(load_iris().data)
  labels = np.repeat(np.eye(3), 50, 0)  # the classes; every good start leads here
  first = em.maximise(mixture.full(), mixture.statistics(mixture.full(), x, jnp.asarray(labels)), 4, 1e-6)
  fitted, trace = jax.jit(lambda x, first: em.fit(mixture.full(), x, first, 200, 1e-7, 1e-6))(x, first)
  total = mixture.log_prob(mixture.full(), fitted, x).sum()
  np.testing.assert_allclose(total, -180.185, atol=2e-3)
  np.testing.assert_allclose(np.sort(fitted.weights), [0.2993, 0.3333, 0.3674], atol=2e-3)
  assert np.isnan(trace[-1]) and np.isfinite(trace[:10]).all()  # it stopped early


@pytest.mark.parametrize('name', STRUCTURES)
def test_without_regularization_the_likelihood_never_falls(name):
  x = points()
  run = jax.jit(lambda x, start: em.fit(STRUCTURES[name](), x, start, 40, -1.0))
  _, trace = run(jnp.asarray(x), start(x, name))
  assert np.diff(trace).min() > -1e-12
  assert trace[-1] - trace[0] > 0.5


def test_one_component_is_the_mean_and_the_covariance_of_the_data():
  x = points()
  found = mixture.statistics(mixture.full(), jnp.asarray(x), jnp.ones((N, 1)))
  one = em.maximise(mixture.full(), found, D)
  np.testing.assert_allclose(one.means[0], x.mean(0), rtol=1e-12)
  np.testing.assert_allclose(one.covariances[0], np.cov(x.T, bias=True), rtol=1e-10)


def test_responsibilities_come_with_their_entropy():
  x, first = points(), start(points(), 'full')
  found, evidence = mixture.respond(mixture.full(), mixture.natural(mixture.full(), first), jnp.asarray(x))
  logits = -0.5 * np.square(x[:, None] - x[None, :K]).sum(-1) - np.log(K) - 0.5 * D * np.log(2 * np.pi)
  weights = np.exp(logits - np.logaddexp.reduce(logits, 1)[:, None])
  np.testing.assert_allclose(evidence, np.logaddexp.reduce(logits, 1).sum(), rtol=1e-12)
  np.testing.assert_allclose(found.sums[:, 0], weights.sum(0), rtol=1e-12)
  again = mixture.statistics(mixture.full(), jnp.asarray(x), jnp.asarray(weights))
  np.testing.assert_allclose(found.sums, again.sums, rtol=1e-9, atol=1e-9)
  np.testing.assert_allclose(found.entropy, again.entropy, rtol=1e-9)


def test_samples_have_the_moments_of_the_mixture():
  weights, means = jnp.asarray([0.3, 0.7]), jnp.asarray([[-2.0, 0.0], [1.0, 3.0]])
  covariances = jnp.asarray([[[1.0, 0.6], [0.6, 1.0]], [[0.5, 0.0], [0.0, 2.0]]])
  x = np.asarray(
    mixture.sample(mixture.full(), mixture.Mixture(weights, means, covariances), jax.random.key(0), 40_000)
  )
  mean = np.asarray(weights @ means)
  second = np.einsum('k,kde->de', weights, covariances + means[:, :, None] * means[:, None, :])
  np.testing.assert_allclose(x.mean(0), mean, atol=0.04)
  np.testing.assert_allclose(np.cov(x.T), second - np.outer(mean, mean), atol=0.1)
  diagonal = mixture.Mixture(weights, means, jnp.asarray([[1.0, 4.0], [0.25, 1.0]]))
  x = np.asarray(mixture.sample(mixture.diagonal(), diagonal, jax.random.key(1), 40_000))
  np.testing.assert_allclose(x.var(0), [0.3 + 0.175 + 0.21 * 9, 1.2 + 0.7 + 0.21 * 9], rtol=0.03)


def initial(x, seed=3):
  """Responsibilities as scikit-learn draws them with init_params='random'."""
  weights = np.random.RandomState(seed).uniform(size=(len(x), K))
  return jnp.asarray(weights / weights.sum(1, keepdims=True))


def bayes(x, concentration, sweeps):
  x = x - x.mean(0)
  parameters = bayesian_mixture.conjugate(bayesian_mixture.prior(jnp.asarray(x), concentration), K)
  run = jax.jit(
    lambda x, r: bayesian_mixture.fit(parameters, x, mixture.statistics(mixture.full(), x, r), sweeps, -1.0)
  )
  return run(jnp.asarray(x), initial(x))


def test_mean_field_agrees_with_scikit_learn():
  x = points()
  theirs = BayesianGaussianMixture(
    n_components=K, max_iter=40, tol=0, reg_covar=0.0, init_params='random', random_state=3,
    weight_concentration_prior_type='dirichlet_distribution', weight_concentration_prior=0.5,
  )  # fmt: skip
  sklearn_fit(theirs, x)
  ours = bayes(x, 0.5, 41)
  # A sweep is M then E, theirs E then M; their bound leaves out a constant of the prior and the data.
  gap = np.asarray(ours.bounds)[1:, 0] - theirs.lower_bounds_
  assert np.ptp(gap) < 1e-6 * abs(theirs.lower_bounds_[-1])
  q = ours.factors['parameters']
  np.testing.assert_allclose(q.means + x.mean(0)[None], theirs.means_, atol=1e-7)
  np.testing.assert_allclose(q.concentration, theirs.weight_concentration_, rtol=1e-7)
  np.testing.assert_allclose(q.dof, theirs.degrees_of_freedom_, rtol=1e-7)
  fitted = bayesian_mixture.mean_mixture(q)
  np.testing.assert_allclose(fitted.covariances, theirs.covariances_, atol=1e-7)
  np.testing.assert_allclose(fitted.weights, theirs.weights_, atol=1e-7)


def test_the_bound_never_falls_after_any_update():
  bounds = np.asarray(bayes(points(), 0.5, 60).bounds).ravel()
  assert np.diff(bounds).min() > -1e-9 * abs(bounds[-1])
  assert bounds[-1] - bounds[0] > 100


def test_one_component_has_the_conjugate_posterior_and_its_exact_evidence():
  """With K = 1 nothing is approximated: the bound is log p(x), here from the predictive Student-t of each point."""
  from scipy import stats

  x = points()[:6]
  before = bayesian_mixture.prior(jnp.asarray(x), 1.0, 0.7, 5.0)
  parameters = bayesian_mixture.conjugate(before, 1)
  found = mixture.statistics(mixture.full(), jnp.asarray(x), jnp.ones((6, 1)))
  q = parameters.update(found)
  bound = bayesian_mixture.bound(parameters, {'latent': found, 'parameters': q})
  b, m, nu, scatter = 0.7, x.mean(0), 5.0, np.cov(x.T)
  evidence = 0.0
  for point in x:
    shape = scatter * (1 + b) / (b * (nu + 1 - D))
    evidence += stats.multivariate_t.logpdf(point, m, shape, nu + 1 - D)
    scatter = scatter + b / (b + 1) * np.outer(point - m, point - m)
    m, b, nu = (b * m + point) / (b + 1), b + 1, nu + 1
  np.testing.assert_allclose(bound, evidence, rtol=1e-9)
  np.testing.assert_allclose(q.means[0], m, rtol=1e-9)
  np.testing.assert_allclose(q.scale_inverses[0], scatter, rtol=1e-9)


def test_the_bound_is_below_the_evidence_of_two_points():
  """Two points, two components in one dimension: the evidence is a sum over the four assignments."""
  from scipy.special import gammaln
  from scipy.stats import t

  x = np.asarray([[-1.0], [1.5]])
  before = bayesian_mixture.NormalWishart(*map(jnp.asarray, ([0.8], [1.0], [[0.0]], [3.0], [[[2.0]]])))
  run = bayesian_mixture.fit(
    bayesian_mixture.conjugate(before, 2), jnp.asarray(x),
    mixture.statistics(mixture.full(), jnp.asarray(x), jnp.asarray([[0.9, 0.1], [0.2, 0.8]])), 50, -1.0,
  )  # fmt: skip

  def cluster(values):
    b, m, nu, s, total = 1.0, 0.0, 3.0, 2.0, 0.0
    for v in values:
      total += t.logpdf(v, nu, m, np.sqrt(s * (1 + b) / (b * nu)))
      s, m, b, nu = s + b / (b + 1) * (v - m) ** 2, (b * m + v) / (b + 1), b + 1, nu + 1
    return total

  def prior(counts):
    return gammaln(1.6) - gammaln(3.6) + sum(gammaln(0.8 + c) - gammaln(0.8) for c in counts)

  together = prior((2, 0)) + cluster(x[:, 0])
  apart = prior((1, 1)) + cluster(x[0]) + cluster(x[1])
  evidence = np.log(2) + np.logaddexp(together, apart)
  bounds = np.asarray(run.bounds).ravel()
  assert bounds.max() < evidence
  assert evidence - bounds[-1] < 1.5  # nats
  assert np.diff(bounds).min() > -1e-12


def test_a_point_in_the_mean_field_machinery_makes_the_iterates_of_em():
  x = points() - points().mean(0)
  first = start(x, 'full')
  found, _ = mixture.respond(mixture.full(), mixture.natural(mixture.full(), first), jnp.asarray(x))
  ascent = jax.jit(lambda x, found: bayesian_mixture.fit(bayesian_mixture.point(mixture.full(), D), x, found, 12, -1.0))
  ours = ascent(jnp.asarray(x), found)
  by_hand, trace = first, []
  for _ in range(12):  # straight from the formulas of EM
    logits = np.stack([gaussian(x, by_hand, k) for k in range(K)], 1)
    evidence = np.logaddexp.reduce(logits, 1)
    r = np.exp(logits - evidence[:, None])
    trace.append(evidence.sum())
    means = (r.T @ x) / r.sum(0)[:, None]
    centred = [(x - mean) * np.sqrt(r[:, [k]]) for k, mean in enumerate(means)]
    covariances = np.stack([c.T @ c / r[:, k].sum() for k, c in enumerate(centred)])
    by_hand = mixture.Mixture(r.mean(0), means, covariances)
  for a, b in zip(ours.factors['parameters'], by_hand, strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-11)
  # After the E-step the bound is the likelihood; the update before it was the M-step.
  np.testing.assert_allclose(np.asarray(ours.bounds)[:-1, 1], trace[1:], rtol=1e-12)
  fitted, _ = jax.jit(lambda x, first: em.fit(mixture.full(), x, first, 12, -1.0))(jnp.asarray(x), first)
  for a, b in zip(ours.factors['parameters'], fitted, strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-13)


def gaussian(x, model, k):
  from scipy import stats

  return np.log(model.weights[k]) + stats.multivariate_normal.logpdf(x, model.means[k], model.covariances[k])


def test_with_much_data_mean_field_tends_to_em():
  """Every point weighted by c: the posterior's means come nearer to EM's like 1 / c."""
  x = points() - points().mean(0)
  before = bayesian_mixture.prior(jnp.asarray(x), 1.0)
  structure = mixture.full()
  fitted, _ = em.fit(structure, jnp.asarray(x), start(x, 'full'), 5, -1.0)
  found, _ = mixture.respond(structure, mixture.natural(structure, fitted), jnp.asarray(x))
  target = em.maximise(structure, found, D)
  update = bayesian_mixture.conjugate(before, K).update
  distance = [
    np.abs(update(mixture.Responsibilities(found.sums * c, found.entropy)).means - target.means).max() for c in (1, 100)
  ]
  np.testing.assert_allclose(distance[0] / distance[1], 100, rtol=0.02)
