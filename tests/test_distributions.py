"""Densities against closed forms, numpyro and scipy, and at the ends of float32."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as oracle
import pytest
import scipy.stats

from dgm_jax import distributions as dist

RANDOM = np.random.default_rng(1)
KEY = jax.random.key(1)
BIG = 1e9


def real(*shape):
  return jnp.asarray(RANDOM.normal(size=shape), jnp.float32)


def pixel_log_probs(mean, log_scale, levels=256):
  """[levels] log-probabilities of all values under one discretized logistic."""
  x = jnp.linspace(-1, 1, levels)[:, None]
  return dist.discretized_logistic_log_prob(x, jnp.full_like(x, mean), jnp.full_like(x, log_scale), levels)


def test_bernoulli_agrees_with_numpyro():
  x, logits = RANDOM.integers(0, 2, (4, 6)), 3 * real(4, 6)
  expected = oracle.Bernoulli(logits=logits).to_event(1).log_prob(x)
  np.testing.assert_allclose(dist.bernoulli_log_prob(x, logits), expected, 1e-6)


def test_bernoulli_at_the_extremes():
  logits = jnp.asarray([[BIG], [-BIG], [BIG], [-BIG], [0.0], [30.0]])
  x = jnp.asarray([[1], [0], [0], [1], [1], [1]])
  # A sure and right guess costs nothing, a sure and wrong one its logit; log(1 + e^-30) is e^-30.
  expected = [0, 0, -BIG, -BIG, -np.log(2), -np.exp(-30)]
  np.testing.assert_allclose(dist.bernoulli_log_prob(x, logits), expected, 1e-6)
  slope = jax.grad(lambda logits: dist.bernoulli_log_prob(x, logits).sum())(logits)
  np.testing.assert_allclose(slope, [[0], [0], [-1], [1], [0.5], [np.exp(-30)]], atol=1e-7)


def test_bernoulli_of_an_empty_batch_is_empty():
  assert dist.bernoulli_log_prob(jnp.zeros((0, 3)), jnp.zeros((0, 3))).shape == (0,)


def test_size_one_axes_broadcast():
  x, logits = RANDOM.integers(0, 2, (1, 4, 6)), real(3, 4, 6)
  expected = [dist.bernoulli_log_prob(x[0], row) for row in logits]
  np.testing.assert_allclose(dist.bernoulli_log_prob(x, logits), expected, 1e-6)


def test_normal_agrees_with_scipy():
  x, mean, logvar = real(4, 3), real(4, 3), real(4, 3)
  reference = scipy.stats.norm(mean, np.exp(logvar / 2))
  np.testing.assert_allclose(dist.normal_log_prob(x, mean, logvar), reference.logpdf(x).sum(-1), 1e-5)
  np.testing.assert_allclose(dist.normal_entropy(logvar), reference.entropy().sum(-1), 1e-5)
  np.testing.assert_allclose(dist.standard_normal_log_prob(x), scipy.stats.norm.logpdf(x).sum(-1), 1e-6)


def test_normal_at_the_extremes():
  # -x^2 / 2 and -logvar / 2 rule; the constant log(2 pi) / 2 is below their last digit.
  zero, far = jnp.zeros((1, 1)), jnp.full((1, 1), BIG)
  np.testing.assert_allclose(dist.normal_log_prob(far, zero, zero), [-0.5 * BIG**2], 1e-6)
  np.testing.assert_allclose(dist.normal_log_prob(zero, -far, zero), [-0.5 * BIG**2], 1e-6)
  np.testing.assert_allclose(dist.normal_log_prob(zero, zero, far), [-0.5 * BIG], 1e-6)
  np.testing.assert_allclose(dist.standard_normal_log_prob(-far), [-0.5 * BIG**2], 1e-6)
  np.testing.assert_allclose(dist.normal_entropy(-far), [-0.5 * BIG], 1e-6)


def test_normal_samples_have_the_mean_and_the_variance():
  n, mean, logvar = 40_000, jnp.asarray([[1.0, -2.0]]), jnp.asarray([[0.0, 1.5]])
  z = dist.normal_sample(KEY, mean, jnp.broadcast_to(logvar, (n, 2)))
  sd = np.exp(np.asarray(logvar[0]) / 2)
  np.testing.assert_array_less(np.abs(z.mean(0) - mean[0]), 4 * sd / np.sqrt(n))
  np.testing.assert_array_less(np.abs(z.var(0) / sd**2 - 1), 4 * np.sqrt(2 / n))


def test_normal_sample_is_reparametrised():
  # d(mean + e^(logvar/2) noise) = (1, (z - mean) / 2).
  mean, logvar = real(1, 3), real(1, 3)
  z, pull = jax.vjp(lambda mean, logvar: dist.normal_sample(KEY, mean, logvar), mean, logvar)
  by_mean, by_logvar = pull(jnp.ones_like(z))
  np.testing.assert_allclose(by_mean, np.ones((1, 3)))
  np.testing.assert_allclose(by_logvar, (z - mean) / 2, 1e-5)


def test_gaussian_kl_agrees_with_numpyro():
  mean_q, logvar_q, mean_p, logvar_p = (real(4, 3) for _ in range(4))
  q, p = oracle.Normal(mean_q, jnp.exp(logvar_q / 2)), oracle.Normal(mean_p, jnp.exp(logvar_p / 2))
  expected = oracle.kl_divergence(q, p)
  np.testing.assert_allclose(dist.gaussian_kl_per_dim(mean_q, logvar_q, mean_p, logvar_p), expected, 1e-5, 1e-6)
  np.testing.assert_allclose(dist.gaussian_kl(mean_q, logvar_q, mean_p, logvar_p), expected.sum(-1), 1e-5)


def test_gaussian_kl_standard_is_the_kl_to_zero_mean_and_unit_variance():
  mean, logvar = real(4, 3), real(4, 3)
  expected = dist.gaussian_kl_per_dim(mean, logvar, jnp.zeros((4, 3)), jnp.zeros((4, 3)))
  np.testing.assert_allclose(dist.gaussian_kl_standard_per_dim(mean, logvar), expected, 1e-6)
  np.testing.assert_allclose(dist.gaussian_kl_standard(mean, logvar), expected.sum(-1), 1e-6)
  # mean 2, variance e: (4 + e - 1 - 1) / 2.
  np.testing.assert_allclose(dist.gaussian_kl_standard(jnp.full((1, 1), 2.0), jnp.ones((1, 1))), [(2 + np.e) / 2])


def test_gaussian_kl_keeps_its_digits_near_zero():
  # (e^r - 1 - r) / 2 = r^2 / 4 + r^3 / 12 + ..., which exp(r) - 1 - r in float32 loses.
  r = jnp.asarray([[1e-3], [-1e-3], [0.0]])
  expected = np.asarray([2.500833e-7, 2.499167e-7, 0])
  np.testing.assert_allclose(dist.gaussian_kl_standard(jnp.zeros((3, 1)), r), expected, 1e-3)
  np.testing.assert_allclose(dist.gaussian_kl(r, r, r, jnp.zeros((3, 1))), expected, 1e-3)


def test_gaussian_kl_at_the_extremes():
  zero, far = jnp.zeros((1, 1)), jnp.full((1, 1), BIG)
  np.testing.assert_allclose(dist.gaussian_kl_standard(far, zero), [0.5 * BIG**2], 1e-6)
  np.testing.assert_allclose(dist.gaussian_kl_standard(zero, -far), [0.5 * BIG], 1e-6)
  np.testing.assert_allclose(dist.gaussian_kl(zero, zero, zero, far), [0.5 * BIG], 1e-6)
  assert dist.gaussian_kl_standard(zero, far)[0] == np.inf  # a variance of e^BIG is beyond float32


@pytest.mark.parametrize(
  ('mean', 'log_scale', 'expected'),
  [
    (0.1, -3, {127: 0.01547030, 128: 0.01744541}),
    (-0.98, -2, {0: 0.47033378, 127: 0.00004268}),
    (0, -7, {127: 0.49981612, 128: 0.49981612}),
    (1.2, -1, {255: 0.63513642, 0: 0.00254885}),
    (0.3, 0, {0: 0.21482575, 255: 0.33268226}),
  ],
)
def test_discretized_logistic_golden_values(mean, log_scale, expected):
  probs = np.exp(pixel_log_probs(mean, log_scale))
  np.testing.assert_allclose([probs[v] for v in expected], list(expected.values()), rtol=2e-5, atol=1e-8)


def test_discretized_logistic_mode():
  assert np.argmax(pixel_log_probs(0.1, -3.0)) == 140  # the bin of 127.5 + 12.75


@pytest.mark.parametrize('mean', [0.0, 0.3, -1.0, 1.0, 5.0, -5.0, BIG, -BIG, 1 / 255])
@pytest.mark.parametrize('log_scale', [-BIG, -20.0, -7.0, -3.0, 0.0, 5.0, 20.0, BIG])
def test_discretized_logistic_sums_to_one_with_finite_gradients(mean, log_scale):
  log_probs = np.asarray(pixel_log_probs(mean, log_scale), np.float64)
  assert abs(np.exp(log_probs).sum() - 1) < 1e-6
  grads = jax.vmap(jax.grad(lambda m, s, x: dist.discretized_logistic_log_prob(x, m, s)[()], (0, 1)), (None, None, 0))(
    jnp.full(1, mean), jnp.full(1, log_scale), jnp.linspace(-1, 1, 256)[:, None]
  )
  assert all(np.isfinite(g).all() for g in grads)


def test_discretized_logistic_agrees_with_scipy_far_into_the_tail():
  # In float64 from the survival side, where the difference of two sigmoids is exact.
  s, x = np.exp(-5.0), 2 * np.arange(130, 250) / 255 - 1
  upper = scipy.stats.logistic.sf
  expected = np.log(upper((x - 1 / 255) / s) - upper((x + 1 / 255) / s))
  got = pixel_log_probs(0.0, -5.0)[130:250]
  np.testing.assert_allclose(got, expected, rtol=1e-5)
  assert got[-1] < -130


def test_discretized_logistic_of_two_levels_is_a_bernoulli():
  # The one edge is at 0: P(1) = sigmoid(mean / scale).
  log_probs = pixel_log_probs(0.4, -1.0, levels=2)
  x = jnp.asarray([[0], [1]])
  expected = dist.bernoulli_log_prob(x, jnp.full((2, 1), 0.4 * np.e))
  np.testing.assert_allclose(log_probs, expected, 1e-5)
