"""Bounds against linear-Gaussian models whose evidence is known."""

import jax
import jax.numpy as jnp
import numpy as np

from dgm_jax import distributions as dist
from dgm_jax import losses

KEY = jax.random.key(2)
BIG = 1e9

# p(z) = N(0, 1), p(x|z) = N(z, 1), x = 1, q = N(1/2, 1): log p(x) = log N(1; 0, 2).
LOG_PX = -1.515512
ELBO = -1.668939
HALF, ONE = jnp.full((1, 1), 0.5), jnp.ones((1, 1))
ZERO = jnp.zeros((1, 1))


def log_weights(key, k, n):
  """[k, n] log p(x, z) - log q(z) of the model above."""
  z = dist.normal_sample(key, jnp.full((k, n, 1), 0.5), jnp.zeros((1, 1, 1)))
  x = jnp.ones((1, 1, 1))
  log_joint = dist.standard_normal_log_prob(z) + dist.normal_log_prob(x, z, jnp.zeros((1, 1, 1)))
  return log_joint - dist.normal_log_prob(z, HALF[None], ZERO[None])


def test_elbo_of_the_linear_gaussian_model():
  # E_q log N(1; z, 1) = -(log 2 pi + 1/4 + 1) / 2, KL(N(1/2, 1) || N(0, 1)) = 1/8.
  log_px_z = jnp.asarray([-0.5 * (np.log(2 * np.pi) + 1.25)])
  np.testing.assert_allclose(losses.elbo(log_px_z, dist.gaussian_kl_standard(HALF, ZERO)), [ELBO], rtol=1e-6)


def test_elbo_by_hand():
  log_px_z, kl = jnp.asarray([-10.0, -20.0]), jnp.asarray([2.0, 3.0])
  np.testing.assert_array_equal(losses.elbo(log_px_z, kl), [-12, -23])
  np.testing.assert_array_equal(losses.beta_elbo(log_px_z, kl, 4), [-18, -32])
  np.testing.assert_array_equal(losses.beta_elbo(log_px_z, kl, 1), losses.elbo(log_px_z, kl))
  np.testing.assert_array_equal(losses.elbo(log_px_z * 0 - BIG, kl * 0 + BIG), [-2e9, -2e9])
  assert losses.elbo(jnp.zeros(0), jnp.zeros(0)).shape == (0,)


def test_importance_weighted_bound_by_hand():
  # log((2 + 4) / 2) and log((1 + 1) / 2).
  weights = jnp.log(jnp.asarray([[2.0, 1.0], [4.0, 1.0]]))
  np.testing.assert_allclose(losses.importance_weighted_bound(weights), [np.log(3), 0], atol=1e-7)
  np.testing.assert_allclose(losses.importance_weighted_bound(weights.T, axis=-1), [np.log(3), 0], atol=1e-7)


def test_importance_weighted_bound_of_one_sample_is_the_elbo():
  weights = log_weights(KEY, 1, 5)
  np.testing.assert_array_equal(losses.importance_weighted_bound(weights), weights[0])


def test_importance_weighted_bound_rises_to_the_evidence():
  # Golden values: L_1 = -1.668939, L_2 = -1.567304, L_5 = -1.5322, L_50 = -1.5170.
  weights = log_weights(KEY, 50, 20_000)
  bounds = {k: losses.importance_weighted_bound(weights[:k]) for k in (1, 2, 5, 50)}
  golden = {1: ELBO, 2: -1.567304, 5: -1.5322, 50: -1.5170}
  for k, bound in bounds.items():
    np.testing.assert_allclose(bound.mean(), golden[k], atol=2e-4 + 4 * bound.std() / np.sqrt(20_000))
  means = [float(bounds[k].mean()) for k in (1, 2, 5, 50)]
  assert means == sorted(means)
  assert abs(means[-1] - LOG_PX) < 0.004


def test_importance_weighted_gradient_is_the_normalised_weights():
  weights = jax.random.normal(KEY, (6, 2)) * 3
  slope = jax.grad(lambda w: losses.importance_weighted_bound(w).sum())(weights)
  np.testing.assert_allclose(slope, jax.nn.softmax(weights, 0), rtol=1e-5, atol=1e-7)


def test_importance_weighted_bound_at_the_extremes():
  weights = jnp.asarray([[BIG, -BIG, BIG], [-BIG, -BIG, BIG]])
  np.testing.assert_allclose(losses.importance_weighted_bound(weights), [BIG, -BIG, BIG])
  slope = jax.grad(lambda w: losses.importance_weighted_bound(w).sum())(weights)
  np.testing.assert_allclose(slope, [[1, 0.5, 0.5], [0, 0.5, 0.5]])


def test_free_bits_takes_the_batch_mean_before_the_maximum():
  # Dimension 0 has mean .5 < 1, though one example spends 1; dimension 1 has mean 3.
  kl = jnp.asarray([[0.0, 2.0], [1.0, 4.0]])
  np.testing.assert_array_equal(losses.free_bits(kl, 1.0), [3, 5])
  assert losses.free_bits(kl, 1.0).mean() == np.maximum(kl.mean(0), 1).sum()
  slope = jax.grad(lambda kl: losses.free_bits(kl, 1.0).mean())(kl)
  np.testing.assert_array_equal(slope, [[0, 0.5], [0, 0.5]])
  np.testing.assert_array_equal(losses.free_bits(kl, 0.0), kl.sum(-1))
  np.testing.assert_array_equal(losses.free_bits(jnp.full((1, 2), BIG), 1.0), [2 * BIG])


def test_free_bits_groups_any_number_of_axes():
  kl = jnp.arange(24.0).reshape(2, 3, 4)
  np.testing.assert_array_equal(losses.free_bits(kl, 9.0), losses.free_bits(kl.reshape(2, 12), 9.0))


def test_active_units_counts_the_variances_above_the_threshold():
  # Variances 1, .01 - and + a little, 0.
  means = jnp.asarray([[1.0, 0.099, 0.101, 7.0], [-1.0, -0.099, -0.101, 7.0]])
  assert losses.active_units(means) == 2
  assert losses.active_units(means, 0.0) == 3
  assert losses.active_units(means[:1]) == 0
  assert losses.active_units(means.reshape(2, 2, 2) * BIG) == 3
