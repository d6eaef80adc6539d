"""Mean field and EM where the truth is known: by enumeration, by quadrature, in closed form."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from dgm_jax.classical import entangle, factor_analysis, ising, linear_regression, mean_field


@pytest.fixture(autouse=True)
def float64():
  with jax.enable_x64(True):
    yield


# --- coordinate ascent ---


def test_ascent_on_a_normal_has_exact_means_and_too_small_variances():
  """Target N(m, S), bound -KL: the factors' variances are 1 / (S^-1)_ii, the bound -log(1 - rho^2) / 2 short."""
  rho, mean = 0.9, np.array([1.0, -2.0])
  precision = np.linalg.inv([[1, rho], [rho, 1]])

  def update(i):
    return lambda q: mean[i] - precision[i, 1 - i] / precision[i, i] * (q[str(1 - i)] - mean[1 - i])

  def bound(q):
    offset = jnp.stack([q['0'], q['1']]) - mean
    spread = 0.5 * (np.linalg.slogdet(precision)[1] - np.log(np.diag(precision)).sum())
    return spread - 0.5 * offset @ precision @ offset

  start = {'0': jnp.asarray(5.0), '1': jnp.asarray(5.0)}
  run = mean_field.ascend({str(i): update(i) for i in range(2)}, bound, start, 200, 1e-14)
  np.testing.assert_allclose([run.factors['0'], run.factors['1']], mean, atol=1e-6)
  made = int(run.sweeps)
  assert made < 200 and np.isnan(run.bounds[made:]).all()
  np.testing.assert_allclose(run.bounds[made - 1, 1], 0.5 * np.log(1 - rho**2), atol=1e-9)
  np.testing.assert_allclose(run.bounds[made - 1, 1], -0.8304, atol=1e-4)
  assert np.diff(np.asarray(run.bounds[:made]).ravel()).min() > -1e-12


# --- Ising and Potts ---


def enumerate_grid(couplings, fields):
  spins = np.array(list(itertools.product([-1, 1], repeat=len(fields))))
  energy = 0.5 * np.einsum('si,ij,sj->s', spins, couplings, spins) + spins @ fields
  log_z = np.logaddexp.reduce(energy)
  return log_z, np.exp(energy - log_z) @ spins


@pytest.mark.parametrize(
  ('coupling', 'start', 'mean', 'bound', 'log_z'),
  [(0.5, 0.1, 0, 1.3863, 1.5064), (2.0, 0.9, 0.9575, 2.0393, 2.7113)],
)
def test_two_spins(coupling, start, mean, bound, log_z):
  couplings = coupling * np.array([[0.0, 1], [1, 0]])
  run = ising.ising_fit(jnp.asarray(couplings), jnp.zeros(2), jnp.full(2, start), 100)
  np.testing.assert_allclose(run.factors['0'], mean, atol=1e-4)
  np.testing.assert_allclose(run.bounds[-1, -1], bound, atol=1e-4)
  exact, _ = enumerate_grid(couplings, np.zeros(2))
  np.testing.assert_allclose(exact, log_z, atol=1e-4)
  np.testing.assert_allclose(exact, np.log(4 * np.cosh(coupling)), rtol=1e-12)
  assert np.diff(np.asarray(run.bounds).ravel()).min() > -1e-12


def test_a_grid_of_nine_spins():
  couplings = ising.grid_couplings(3, 3, 0.3)
  run = jax.jit(lambda s: ising.ising_fit(jnp.asarray(couplings), jnp.full(9, 0.1), s, 60))(jnp.full(9, 0.9))
  means = np.array([run.factors[str(i)] for i in range(9)])
  np.testing.assert_allclose(means[[0, 1, 4]], [0.3518, 0.4459, 0.5615], atol=1e-4)
  np.testing.assert_allclose(run.bounds[-1, -1], 6.45838, atol=1e-5)
  log_z, exact = enumerate_grid(couplings, np.full(9, 0.1))
  np.testing.assert_allclose(log_z, 6.91268, atol=1e-5)
  np.testing.assert_allclose(exact[[0, 1, 4]], [0.2180, 0.2547, 0.2969], atol=1e-4)
  assert run.bounds[-1, -1] < log_z


def test_a_potts_grid_of_two_states_is_the_ising_grid():
  """Coupling 2 J and fields -h, h: both bounds differ by J for each of the 12 pairs."""
  j, h = 0.3, 0.1
  fields = jnp.broadcast_to(jnp.asarray([-h, h]), (3, 3, 2))
  run = ising.potts_fit(2 * j, fields, 200, -1.0)
  q = run.factors['dark'] + run.factors['light']
  np.testing.assert_allclose(q.sum(-1), 1, rtol=1e-12)
  means = np.asarray(q[..., 1] - q[..., 0])
  np.testing.assert_allclose(means[[0, 0, 1], [0, 1, 1]], [0.3518, 0.4459, 0.5615], atol=1e-4)
  np.testing.assert_allclose(run.bounds[-1, -1] - 12 * j, 6.45838, atol=1e-5)
  assert np.diff(np.asarray(run.bounds).ravel()).min() > -1e-12


def test_potts_of_three_states_is_below_the_enumerated_log_z():
  fields = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, 3)))
  run = ising.potts_fit(0.4, fields, 100, 0.0)
  energies = []
  for states in itertools.product(range(3), repeat=6):
    s = np.array(states).reshape(2, 3)
    pairs = (s[:, 1:] == s[:, :-1]).sum() + (s[1:] == s[:-1]).sum()
    energies.append(0.4 * pairs + np.take_along_axis(np.asarray(fields), s[..., None], -1).sum())
  bounds = np.asarray(run.bounds)[: int(run.sweeps)].ravel()
  assert 0 < np.logaddexp.reduce(energies) - bounds[-1] < 0.3
  assert np.diff(bounds).min() > -1e-12


def test_an_image_is_cleaned():
  clean = np.zeros((24, 24), int)
  clean[4:12, 4:18], clean[14:20, 10:22] = 1, 2
  random = np.random.default_rng(0)
  noisy = np.where(random.random(clean.shape) < 0.15, (clean + random.integers(1, 3, clean.shape)) % 3, clean)
  run = ising.potts_fit(1.2, ising.flip_fields(jnp.asarray(noisy), 3, 0.15), 50)
  restored = np.argmax(run.factors['dark'] + run.factors['light'], -1)
  assert (noisy != clean).mean() > 0.1
  assert (restored != clean).mean() < 0.03


# --- regression ---


def regression():
  random = np.random.default_rng(0)
  x = random.normal(size=(12, 2))
  return x, x @ [1.5, -0.5] + 0.4 * random.normal(size=12)


def gamma(shape, rate):
  return linear_regression.Gamma(jnp.asarray(float(shape)), jnp.asarray(float(rate)))


def test_known_precisions_give_the_exact_posterior_and_evidence():
  x, y = regression()
  sure = 1e9  # a Gamma this narrow is a number
  run = linear_regression.fit(jnp.asarray(x), jnp.asarray(y), gamma(sure, sure / 2), gamma(sure, sure / 6), 3, -1.0)
  covariance = np.linalg.inv(2 * np.eye(2) + 6 * x.T @ x)
  np.testing.assert_allclose(run.factors['weights'].covariance, covariance, rtol=1e-6)
  np.testing.assert_allclose(run.factors['weights'].mean, 6 * covariance @ x.T @ y, rtol=1e-6)
  evidence = stats.multivariate_normal.logpdf(y, np.zeros(12), np.eye(12) / 6 + x @ x.T / 2)
  np.testing.assert_allclose(run.bounds[-1, -1], evidence, atol=1e-5)


def test_the_bound_of_unknown_precisions_is_just_below_the_evidence():
  x, y = regression()
  run = linear_regression.fit(jnp.asarray(x), jnp.asarray(y), gamma(2, 1), gamma(3, 1), 100, -1.0)
  bounds = np.asarray(run.bounds).ravel()
  assert np.diff(bounds).min() > -1e-10
  grid = np.linspace(-6, 6, 241)  # logarithms of both precisions
  a, t = np.exp(grid)[:, None], np.exp(grid)[None]
  spectrum, basis = np.linalg.eigh(x @ x.T)
  variance = 1 / t[..., None] + spectrum / a[..., None]
  log_px = -0.5 * (np.log(2 * np.pi * variance) + (basis.T @ y) ** 2 / variance).sum(-1)
  prior = stats.gamma.logpdf(a, 2, scale=1) + stats.gamma.logpdf(t, 3, scale=1) + np.log(a) + np.log(t)
  evidence = special.logsumexp(log_px + prior) + 2 * np.log(grid[1] - grid[0])
  assert 0 < evidence - bounds[-1] < 0.3


def test_gamma_kl_agrees_with_quadrature():
  q, p = gamma(3.0, 2.0), gamma(1.5, 0.7)
  x = np.exp(np.linspace(-12, 4, 20_001))
  log_q, log_p = stats.gamma.logpdf(x, 3, scale=1 / 2), stats.gamma.logpdf(x, 1.5, scale=1 / 0.7)
  np.testing.assert_allclose(
    linear_regression.gamma_kl(q, p), np.trapezoid(np.exp(log_q) * (log_q - log_p), x), atol=1e-6
  )


# --- factor analysis and probabilistic PCA ---

EIGENVALUES = np.array([4, 2, 1, 0.5, 0.25])


def covariance():
  basis = np.linalg.qr(np.random.default_rng(1).normal(size=(5, 5)))[0]
  return jnp.asarray(basis * EIGENVALUES @ basis.T)


@pytest.mark.parametrize(
  ('latents', 'value', 'noise'), [(1, -7.6588, 0.9375), (2, -7.3259, 0.5833), (3, -7.1536, 0.375), (4, -7.0947, 0.25)]
)
def test_probabilistic_pca_has_the_golden_likelihood(latents, value, noise):
  model = factor_analysis.probabilistic_pca(covariance(), latents)
  np.testing.assert_allclose(factor_analysis.log_likelihood(model, covariance()), value, atol=1e-4)
  np.testing.assert_allclose(model.noise, noise, atol=1e-4)


def start(latents):
  loadings = jnp.asarray(np.random.default_rng(2).normal(size=(5, latents)))
  return factor_analysis.FactorModel(loadings, jnp.ones(5))


def test_em_climbs_to_the_closed_form_of_probabilistic_pca():
  fit = jax.jit(lambda s, m: factor_analysis.fit(factor_analysis.shared_noise, s, m, 800))
  model, trace = fit(covariance(), start(2))
  assert np.diff(trace).min() > -1e-12
  best = factor_analysis.probabilistic_pca(covariance(), 2)
  np.testing.assert_allclose(model.noise, best.noise, atol=1e-8)
  np.testing.assert_allclose(model.loadings @ model.loadings.T, best.loadings @ best.loadings.T, atol=1e-6)


def test_factor_analysis_agrees_with_scikit_learn():
  from sklearn.decomposition import FactorAnalysis

  random = np.random.default_rng(3)
  x = random.normal(size=(800, 2)) @ random.normal(size=(2, 5)) + random.normal(size=(800, 5)) * [0.3, 0.5, 1, 0.7, 0.4]
  theirs = FactorAnalysis(2, tol=1e-10, max_iter=5000, svd_method='lapack').fit(x)
  fit = jax.jit(lambda s, m: factor_analysis.fit(factor_analysis.own_noise, s, m, 3000))
  model, trace = fit(jnp.asarray(np.cov(x.T, bias=True)), start(2))
  assert np.diff(trace).min() > -1e-12
  np.testing.assert_allclose(trace[-1], theirs.score(x), rtol=1e-6)
  np.testing.assert_allclose(model.noise, theirs.noise_variance_, atol=1e-3)


def test_the_posterior_of_a_factor_model_by_conditioning():
  model = factor_analysis.FactorModel(start(2).loadings, jnp.asarray([0.3, 0.5, 1, 0.7, 0.4]))
  gain, spread = factor_analysis.posterior(model)
  w = np.asarray(model.loadings)
  inverse = np.linalg.inv(w @ w.T + np.diag(model.noise))
  np.testing.assert_allclose(gain, w.T @ inverse, rtol=1e-10)
  np.testing.assert_allclose(spread, np.eye(2) - w.T @ inverse @ w, atol=1e-12)
  x = np.random.default_rng(0).normal(size=(50, 5))
  density = stats.multivariate_normal.logpdf(x, np.zeros(5), w @ w.T + np.diag(model.noise)).mean()
  np.testing.assert_allclose(factor_analysis.log_likelihood(model, jnp.asarray(x.T @ x / 50)), density, rtol=1e-10)


# --- the impossibility of unsupervised disentanglement ---

MARGINALS = [entangle.UNIFORM, entangle.NORMAL, entangle.EXPONENTIAL, entangle.LOGISTIC]
SCIPY = [stats.uniform, stats.norm, stats.expon, stats.logistic]


def codes(n):
  uniform = np.random.default_rng(0).random((n, 4))
  return np.stack([law.ppf(u) for law, u in zip(SCIPY, uniform.T, strict=True)], 1)


def test_the_map_keeps_the_density_and_mixes_every_factor():
  """p(f(z)) |det df/dz| = p(z) for every z: exactly what 'the same distribution' means; and no partial is zero."""
  z, rotation = codes(20), entangle.householder(4, 0.3)
  f = lambda z: entangle.entangle(z, MARGINALS, rotation)
  jacobian = np.asarray(jax.vmap(jax.jacfwd(f))(jnp.asarray(z)))
  log_p = lambda z: sum(law.logpdf(z[:, i]) for i, law in enumerate(SCIPY))
  image = np.asarray(f(jnp.asarray(z)))
  np.testing.assert_allclose(log_p(image) + np.linalg.slogdet(jacobian)[1], log_p(z), atol=1e-8)
  assert np.abs(jacobian).min() > 1e-8
  back = entangle.entangle(jnp.asarray(image), MARGINALS, rotation.T)
  np.testing.assert_allclose(back, z, rtol=1e-6, atol=1e-8)


def test_the_image_has_the_same_marginals_and_stays_independent():
  image = np.asarray(entangle.entangle(jnp.asarray(codes(50_000)), MARGINALS, entangle.householder(4, 0.3)))
  for i, law in enumerate(SCIPY):
    assert stats.kstest(image[:, i], law.cdf).statistic < 0.0085  # the 0.1 % point for one test
  uniform = np.stack([law.cdf(image[:, i]) for i, law in enumerate(SCIPY)])
  assert np.abs(np.corrcoef(uniform) - np.eye(4)).max() < 0.02


@pytest.mark.parametrize(('dims', 'least', 'correlations'), [(2, 0.4, (0.385, -0.384)), (5, 0.35, (0.384, 0.634))])
def test_the_rotation_has_no_zero_and_the_known_correlations(dims, least, correlations):
  rotation = entangle.householder(dims, 0.3)
  np.testing.assert_allclose(rotation @ rotation.T, np.eye(dims), atol=1e-12)
  np.testing.assert_allclose(np.abs(rotation).min(), least, atol=1e-3)
  z = np.random.default_rng(0).random((100_000, dims))
  image = np.asarray(entangle.entangle(jnp.asarray(z), [entangle.UNIFORM] * dims, rotation))
  got = [np.corrcoef(z[:, i], image[:, i])[0, 1] for i in range(2)]
  np.testing.assert_allclose(got, correlations, atol=0.01)


@pytest.mark.parametrize(('dims', 'alpha'), [(1, 0.3), (3, 0.5), (3, 0.0)])
def test_a_rotation_that_does_not_exist_is_refused(dims, alpha):
  with pytest.raises(ValueError, match='householder takes'):
    entangle.householder(dims, alpha)
