"""Total correlation, covariance penalties and kernel distances against Gaussians in closed form."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dgm_jax import distributions as dist
from dgm_jax import losses

KEY = jax.random.key(8)
BIG = 1e9


def test_total_correlation_of_the_exact_density_ratio():
  # N(0, [[1, r], [r, 1]]) against its marginals: -log(1 - r^2) / 2 = 0.5108 at r = 0.8.
  r = 0.8
  tril = jnp.asarray([[1.0, 0.0], [r, np.sqrt(1 - r**2)]])
  z = dist.multivariate_normal_sample(KEY, jnp.zeros((50_000, 2)), tril)
  logits = dist.multivariate_normal_log_prob(z, jnp.zeros((1, 2)), tril) - dist.standard_normal_log_prob(z)
  estimate = losses.total_correlation(logits)
  assert abs(estimate.mean() - 0.5108) < 4 * estimate.std() / np.sqrt(50_000)
  np.testing.assert_array_equal(losses.total_correlation(jnp.asarray([BIG, -BIG])), [BIG, -BIG])


def test_total_correlation_discriminator_by_hand():
  joint, permuted = jnp.asarray([2.0, -1.0]), jnp.asarray([0.5, -3.0])
  expected = 0.5 * (np.logaddexp(0, [-2, 1]) + np.logaddexp(0, [0.5, -3]))
  np.testing.assert_allclose(losses.total_correlation_discriminator(joint, permuted), expected, 1e-6)
  zero = losses.total_correlation_discriminator(jnp.zeros(1), jnp.zeros(1))
  np.testing.assert_allclose(zero, [np.log(2)], 1e-6)
  far = jnp.asarray([BIG, -BIG])
  np.testing.assert_array_equal(losses.total_correlation_discriminator(far, far), [BIG / 2, BIG / 2])
  np.testing.assert_array_equal(losses.total_correlation_discriminator(far, -far), [0, BIG])


def test_permuted_latents_keep_every_column_and_lose_the_dependence():
  column = jnp.arange(1000.0)
  z = jnp.stack([column, column, -column], 1)
  permuted = losses.permute_latents(KEY, z)
  np.testing.assert_array_equal(jnp.sort(permuted, 0), jnp.sort(z, 0))
  correlations = np.corrcoef(np.asarray(permuted).T)[np.triu_indices(3, 1)]
  assert np.abs(correlations).max() < 4 / np.sqrt(1000)
  assert losses.permute_latents(KEY, z[:0]).shape == (0, 3)
  np.testing.assert_array_equal(losses.permute_latents(KEY, z[:1]), z[:1])


def posteriors(count):
  """Posteriors N(m, 0.1 I), m ~ N(0, 0.9 [[1, .9], [.9, 1]]), whose aggregate has unit variances, correlation 0.81."""
  mean_key, noise_key = jax.random.split(KEY)
  tril = jnp.linalg.cholesky(jnp.asarray([[0.9, 0.81], [0.81, 0.9]]))
  means = dist.multivariate_normal_sample(mean_key, jnp.zeros((count, 2)), tril)
  logvars = jnp.full((count, 2), np.log(0.1))
  return dist.normal_sample(noise_key, means, logvars), means, logvars


def one_over_batch(batch, dataset_size):
  del dataset_size
  return np.full((batch, batch), -np.log(batch), np.float32)


@pytest.mark.parametrize(
  ('weights', 'total_correlation', 'information'),
  [
    (losses.minibatch_weights, 11.361, 12.491),
    (one_over_batch, 0.542, 1.671),
    (losses.stratified_weights, 0.507, 1.880),
  ],
)
def test_minibatch_total_correlation_golden_values(weights, total_correlation, information):
  """Batches of 64 out of 50 000; the truth is 0.5337 and 1.7689 nats, the marginals are standard normal."""
  batches = [a.reshape(400, 64, 2) for a in posteriors(400 * 64)]
  of_batch = lambda *batch: losses.minibatch_total_correlation(*batch, dataset_size=50_000, log_weights=weights)
  parts = jax.jit(jax.vmap(of_batch))(*batches)
  for part, golden in ((parts.total_correlation, total_correlation), (parts.mutual_information, information)):
    np.testing.assert_allclose(part.mean(), golden, atol=0.05)
  z, means, logvars = batches
  whole = dist.normal_log_prob(z, means, logvars) - dist.standard_normal_log_prob(z)
  np.testing.assert_allclose(sum(parts), whole, atol=1e-4)


def test_minibatch_total_correlation_of_the_whole_data_is_exact():
  # With the whole data set as batch, 1 / N for each is the aggregate itself: as elbo_surgery, and at N = 3 by hand.
  means, logvars = jnp.asarray([[-1.5, 0.2], [0.2, 1.0], [1.0, -1.0]]), jnp.full((3, 2), -1.0)
  z = means + 0.3
  parts = losses.minibatch_total_correlation(z, means, logvars, dataset_size=3, log_weights=one_over_batch)
  uniform = jnp.zeros(3)
  log_qz = dist.normal_mixture_log_prob(z, uniform, means, logvars)
  marginals = [
    dist.normal_mixture_log_prob(z[:, d, None], uniform, means[:, d, None], logvars[:, d, None]) for d in (0, 1)
  ]
  np.testing.assert_allclose(parts.mutual_information, dist.normal_log_prob(z, means, logvars) - log_qz, 1e-4)
  np.testing.assert_allclose(parts.total_correlation, log_qz - sum(marginals), 1e-4, 1e-6)
  np.testing.assert_allclose(parts.dimension_wise_kl, sum(marginals) - dist.standard_normal_log_prob(z), 1e-4)


def test_importance_weights_by_hand():
  # M = 3 of N = 10: own 1/10, one other (10 - 2) / 20, the rest 1/2; each row sums to one.
  stratified = np.exp(losses.stratified_weights(3, 10))
  np.testing.assert_allclose(stratified, [[0.1, 0.4, 0.5], [0.5, 0.1, 0.4], [0.4, 0.5, 0.1]], 1e-6)
  np.testing.assert_allclose(np.exp(losses.minibatch_weights(3, 10)), np.full((3, 3), 1 / 30), 1e-6)
  # The whole data set: every posterior once.
  np.testing.assert_allclose(np.exp(losses.stratified_weights(4, 4))[0], [0.25, 1 / 12, 1 / 3, 1 / 3], 1e-6)


def test_minibatch_total_correlation_at_the_extremes():
  z = jnp.asarray([[BIG, -BIG], [0.0, 0.0]])
  parts = losses.minibatch_total_correlation(z, z, jnp.zeros((2, 2)), dataset_size=2)
  assert all(np.isfinite(part).all() for part in parts)
  np.testing.assert_allclose(parts.mutual_information, [np.log(2)] * 2, 1e-5)


def test_covariances_by_hand():
  means = jnp.asarray([[1.0, 2.0], [-1.0, -2.0]])
  np.testing.assert_allclose(losses.covariance_of_means(means), [[1, 2], [2, 4]])
  logvars = jnp.log(jnp.asarray([[1.0, 2.0], [3.0, 4.0]]))
  np.testing.assert_allclose(losses.aggregate_covariance(means, logvars), [[3, 2], [2, 7]], 1e-6)
  np.testing.assert_array_equal(losses.covariance_of_means(means[:1]), np.zeros((2, 2)))
  np.testing.assert_allclose(losses.covariance_of_means(means * BIG), np.asarray([[1, 2], [2, 4]]) * BIG**2, 1e-6)


def test_dip_penalty_by_hand():
  # Off the diagonal 2 * 2^2, on it (3 - 1)^2 + (7 - 1)^2.
  covariance = jnp.asarray([[3.0, 2.0], [2.0, 7.0]])
  assert losses.dip_penalty(covariance, off_diagonal=10.0, diagonal=1.0) == 10 * 8 + 40
  np.testing.assert_array_equal(
    jax.grad(losses.dip_penalty)(jnp.eye(3), off_diagonal=5.0, diagonal=50.0), np.zeros((3, 3))
  )
  np.testing.assert_allclose(losses.dip_penalty(jnp.full((1, 1), BIG), off_diagonal=1.0, diagonal=1.0), BIG**2, 1e-6)


def test_mmd_of_the_tiny_example():
  # Reference: {(1, 0), (0, 1)} against {(1, 1), (0, 0)} with the cubic kernel: 1 + 1 - 2 * 2.1875.
  x, y = jnp.asarray([[1.0, 0], [0, 1]]), jnp.asarray([[1.0, 1], [0, 0]])
  np.testing.assert_allclose(losses.mmd(x, y, kernel=losses.polynomial_kernel), -2.375)
  # Gaussian: within a pair the distance is sqrt 2, across pairs 1: 2 e^-1 - 2 e^-1/2.
  np.testing.assert_allclose(losses.mmd(x, y), 2 * np.exp(-1) - 2 * np.exp(-0.5), 1e-6)
  wide = functools.partial(losses.gaussian_kernel, bandwidth=2.0)
  np.testing.assert_allclose(losses.mmd(x, y, kernel=wide), 2 * np.exp(-1 / 4) - 2 * np.exp(-1 / 8), 1e-5)


def test_mmd_between_normals_is_the_closed_form():
  # N(0, I) against N(d, I), cubic kernel: 3 a + 3 a^2 + a^3 + (3 a + 6 a^2) / D + 6 a / D^2, a = |d|^2 / D.
  dims, n, a = 64, 2000, 0.25
  x_key, y_key = jax.random.split(KEY)
  x, y = jax.random.normal(x_key, (n, dims)), 0.5 + jax.random.normal(y_key, (n, dims))
  got = jax.jit(functools.partial(losses.mmd, kernel=losses.polynomial_kernel))(x, y)
  exact = 3 * a + 3 * a**2 + a**3 + (3 * a + 6 * a**2) / dims + 6 * a / dims**2
  np.testing.assert_allclose(exact, 0.971069, 1e-5)
  np.testing.assert_allclose(got, exact, atol=4 * 0.034 / 2)
  # Gaussian kernel, one dimension, bandwidth 1: (2 / sqrt 3) (1 - exp(-d^2 / 6)).
  got = jax.jit(losses.mmd)(x[:, :1], y[:, :1] + 0.5)
  np.testing.assert_allclose(got, 2 / np.sqrt(3) * (1 - np.exp(-1 / 6)), atol=0.03)


def test_kernels_at_the_extremes():
  far, zero = jnp.full((2, 1), BIG), jnp.zeros((2, 1))
  np.testing.assert_array_equal(losses.gaussian_kernel(far, zero), np.zeros((2, 2)))
  np.testing.assert_array_equal(losses.polynomial_kernel(far, zero), np.ones((2, 2)))
  assert losses.mmd(far, far) == 0


@pytest.mark.parametrize('r', [0.5, 0.9])
def test_discriminator_optimum_is_ln_2_minus_the_jensen_shannon_divergence(r):
  # At the exact ratio the slope of the loss in a scale on the logits is zero: no better scale exists.
  tril = jnp.asarray([[1.0, 0.0], [r, np.sqrt(1 - r**2)]])
  joint = dist.multivariate_normal_sample(KEY, jnp.zeros((50_000, 2)), tril)
  product = losses.permute_latents(KEY, joint)
  ratio = lambda z: dist.multivariate_normal_log_prob(z, jnp.zeros((1, 2)), tril) - dist.standard_normal_log_prob(z)
  per_pair = lambda scale: losses.total_correlation_discriminator(scale * ratio(joint), scale * ratio(product))
  slope = jax.jacfwd(per_pair)(jnp.asarray(1.0))
  assert abs(slope.mean()) < 4 * slope.std() / np.sqrt(50_000)
  assert per_pair(1.0).mean() < np.log(2)
