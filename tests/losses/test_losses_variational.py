"""Bounds against linear-Gaussian models whose evidence is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dgm_jax import distributions as dist
from dgm_jax import losses

KEY = jax.random.key(2)
BIG = 1e9

surgery = jax.jit(losses.elbo_surgery, static_argnums=3)

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
  np.testing.assert_array_equal(losses.beta_elbo(log_px_z, kl, beta=4), [-18, -32])
  np.testing.assert_array_equal(losses.beta_elbo(log_px_z, kl, beta=1), losses.elbo(log_px_z, kl))
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
  weights = jax.jit(log_weights, static_argnums=(1, 2))(KEY, 50, 20_000)
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
  np.testing.assert_array_equal(losses.free_bits(kl, floor=1.0), [3, 5])
  assert losses.free_bits(kl, floor=1.0).mean() == np.maximum(kl.mean(0), 1).sum()
  slope = jax.grad(lambda kl: losses.free_bits(kl, floor=1.0).mean())(kl)
  np.testing.assert_array_equal(slope, [[0, 0.5], [0, 0.5]])
  np.testing.assert_array_equal(losses.free_bits(kl, floor=0.0), kl.sum(-1))
  np.testing.assert_array_equal(losses.free_bits(jnp.full((1, 2), BIG), floor=1.0), [2 * BIG])


def test_free_bits_groups_any_number_of_axes():
  kl = jnp.arange(24.0).reshape(2, 3, 4)
  np.testing.assert_array_equal(losses.free_bits(kl, floor=9.0), losses.free_bits(kl.reshape(2, 12), floor=9.0))


def test_soft_free_bits_move_the_weight_by_a_tenth_outside_of_the_tolerance():
  step = lambda gamma, kl: float(losses.soft_free_bits(jnp.asarray(gamma), jnp.asarray(kl), floor=8.0))
  assert step(0.5, 7.9) == pytest.approx(0.45)
  assert step(0.5, 8.5) == pytest.approx(0.55)
  assert step(0.5, 8.2) == pytest.approx(0.5)
  assert step(0.95, 9.0) == 1.0
  assert step(1e-6, 0.0) == pytest.approx(1e-6)


def test_soft_free_bits_hold_a_scalar_divergence_within_a_twentieth_of_the_floor():
  """A posterior N(m, 1) of one latent that earns sqrt(m^2): without a floor its divergence m^2 / 2 would be 0.5."""
  floor = 4.0

  def step(carry, _):
    mean, gamma = carry
    slope = jax.grad(lambda mean: -(mean - gamma * 0.5 * mean**2))(mean)
    mean = mean - 0.05 * slope
    gamma = losses.soft_free_bits(gamma, 0.5 * mean**2, floor=floor, factor=0.01)
    return (mean, gamma), 0.5 * mean**2

  _, kls = jax.lax.scan(step, (jnp.float32(0.1), jnp.float32(1.0)), length=5000)
  np.testing.assert_allclose(kls[-1000:].mean(), floor, rtol=0.05)


def test_active_units_counts_the_variances_above_the_threshold():
  # Variances 1, .01 - and + a little, 0.
  means = jnp.asarray([[1.0, 0.099, 0.101, 7.0], [-1.0, -0.099, -0.101, 7.0]])
  assert losses.active_units(means) == 2
  assert losses.active_units(means, threshold=0.0) == 3
  assert losses.active_units(means[:1]) == 0
  assert losses.active_units(means.reshape(2, 2, 2) * BIG) == 3


def test_the_three_forms_of_the_elbo_agree():
  # log p(x) - KL(N(1/2, 1) || N(1/2, 1/2)); E log p(x, z) + H(q); E log p(x|z) - KL(q || p).
  gap = dist.gaussian_kl(HALF, ZERO, HALF, jnp.log(HALF))
  evidence = losses.elbo_from_evidence(jnp.asarray([LOG_PX]), gap)
  energy = -0.5 * (2 * np.log(2 * np.pi) + 1.25 + 1.25)  # E_q[z^2] = E_q[(1 - z)^2] = 5/4
  from_energy = losses.elbo_from_energy(jnp.asarray([energy]), dist.normal_entropy(ZERO))
  reconstruction = losses.elbo(jnp.asarray([energy]) / 2, dist.gaussian_kl_standard(HALF, ZERO))
  for bound in (evidence, from_energy, reconstruction):
    np.testing.assert_allclose(bound, [ELBO], rtol=2e-6)
  np.testing.assert_allclose(gap, [0.5 * (1 - np.log(2))], rtol=1e-6)  # 0.153426


def test_capacity_elbo_turns_at_the_capacity():
  log_px_z, kl = jnp.full(3, -10.0), jnp.asarray([24.0, 25.0, 27.0])
  np.testing.assert_array_equal(losses.capacity_elbo(log_px_z, kl, capacity=25.0, gamma=1000.0), [-1010, -10, -2010])
  slope = jax.grad(lambda kl: losses.capacity_elbo(log_px_z, kl, capacity=25.0, gamma=1000.0).sum())(kl)
  assert slope[0] == 1000 and slope[2] == -1000
  # Without capacity and at weight one, the plain bound: a divergence is never negative.
  np.testing.assert_array_equal(losses.capacity_elbo(log_px_z, kl, capacity=0.0, gamma=1.0), losses.elbo(log_px_z, kl))
  assert losses.capacity_elbo(jnp.zeros(1), jnp.asarray([-BIG]), capacity=BIG, gamma=1.0)[0] == -2 * BIG


def test_hierarchical_elbo_of_a_linear_gaussian_chain_is_its_evidence():
  """z_2 ~ N(0, 1), z_1 ~ N(a z_2, 1), x ~ N(z_1, 1): with the exact joint posterior the bound is log p(x)."""
  a, x = 0.8, 1.3
  # Joint precision of (z_1, z_2) given x, from the exponents -(x - z_1)^2 / 2 - (z_1 - a z_2)^2 / 2 - z_2^2 / 2.
  covariance = np.linalg.inv(np.asarray([[2, -a], [-a, 1 + a**2]]))
  mean = covariance @ [x, 0]
  # q(z_2|x), and q(z_1|z_2, x): z_1 = x / 2 + a z_2 / 2 with variance 1/2.
  m2, v2 = mean[1], covariance[1, 1]
  kl_2 = dist.gaussian_kl_standard(jnp.full((1, 1), m2), jnp.full((1, 1), np.log(v2)))
  # E over z_2 of KL(N((x + a z_2) / 2, 1/2) || N(a z_2, 1)) with E (x - a z_2)^2 / 4.
  square = ((x - a * m2) ** 2 + a**2 * v2) / 4
  kl_1 = jnp.asarray([0.5 * (0.5 - 1 + np.log(2) + square)])
  log_px_z = jnp.asarray([-0.5 * (np.log(2 * np.pi) + (x - mean[0]) ** 2 + covariance[0, 0])])
  evidence = -0.5 * (np.log(2 * np.pi * (2 + a**2)) + x**2 / (2 + a**2))
  np.testing.assert_allclose(losses.hierarchical_elbo(log_px_z, (kl_1, kl_2)), [evidence], rtol=1e-5)
  np.testing.assert_allclose(losses.hierarchical_elbo(log_px_z, [kl_2]), losses.elbo(log_px_z, kl_2))
  np.testing.assert_array_equal(losses.hierarchical_elbo(-ONE[0] * BIG, (ONE[0] * BIG,)), [-2 * BIG])


def posterior_weight(z, mean, logvar, weight):
  """log p(x, z) - log q(z) with p(z) = N(0, 1), p(x|z) = N(weight z, 1), x = 1, q's own parameters constant."""
  log_q = losses.sticking_the_landing(dist.normal_log_prob, z, mean, logvar)
  x = jnp.ones((1, 1))
  return dist.standard_normal_log_prob(z) + dist.normal_log_prob(x, weight * z, jnp.zeros((1, 1))) - log_q


def test_sticking_the_landing_has_no_noise_at_the_posterior():
  # At q = N(1/2, 1/2), the posterior for weight 1, every sample's gradient is zero; with the score it is not.
  mean, logvar = HALF, jnp.log(HALF)

  def bound(own, log_q):
    mean, logvar = own
    z = dist.normal_sample(KEY, jnp.broadcast_to(mean, (8, 1)), jnp.broadcast_to(logvar, (8, 1)))
    x = jnp.ones((1, 1))
    return dist.standard_normal_log_prob(z) + dist.normal_log_prob(x, z, jnp.zeros((1, 1))) - log_q(z, mean, logvar)

  stuck = lambda z, mean, logvar: losses.sticking_the_landing(dist.normal_log_prob, z, mean, logvar)
  np.testing.assert_allclose(bound((mean, logvar), stuck), bound((mean, logvar), dist.normal_log_prob))
  noiseless = jax.jit(jax.jacobian(lambda own: bound(own, stuck)))((mean, logvar))
  noisy = jax.jit(jax.jacobian(lambda own: bound(own, dist.normal_log_prob)))((mean, logvar))
  assert max(np.abs(g).max() for g in noiseless) < 1e-5
  assert min(np.abs(g).max() for g in noisy) > 0.1


def test_doubly_reparametrized_surrogate_by_hand():
  # The value is the bound; through z comes w^2 d log_weight, to the decoder w d log_weight.
  z, mean, logvar, weight = jax.random.normal(KEY, (5, 1)), HALF, ZERO, jnp.asarray(0.7)
  log_weights = posterior_weight(z, mean, logvar, weight)
  surrogate = lambda z, weight: losses.doubly_reparametrized_surrogate(
    lambda z: posterior_weight(z, mean, logvar, weight), z
  )
  np.testing.assert_allclose(surrogate(z, weight), losses.importance_weighted_bound(log_weights), rtol=1e-6)
  by_z, by_weight = jax.jit(jax.grad(surrogate, (0, 1)))(z, weight)
  normalised = jax.nn.softmax(log_weights)
  slope_z = jax.grad(lambda z: posterior_weight(z, mean, logvar, weight).sum())(z)
  np.testing.assert_allclose(by_z, normalised[:, None] ** 2 * slope_z, rtol=1e-5)
  slope_weight = jax.jacobian(lambda w: posterior_weight(z, mean, logvar, w))(weight)
  np.testing.assert_allclose(by_weight, jnp.sum(normalised * slope_weight), rtol=1e-5)


def test_doubly_reparametrized_gradient_is_unbiased_and_less_noisy():
  k, mean, logvar = 8, HALF * 0.2, ZERO

  def sample(key, mean):
    return dist.normal_sample(key, jnp.broadcast_to(mean, (k, 1)), logvar)

  def plain(mean, key):
    z = sample(key, mean)
    x = jnp.ones((1, 1))
    log_joint = dist.standard_normal_log_prob(z) + dist.normal_log_prob(x, z, jnp.zeros((1, 1)))
    return losses.importance_weighted_bound(log_joint - dist.normal_log_prob(z, mean, logvar))

  def doubly(mean, key):
    z = sample(key, mean)
    return losses.doubly_reparametrized_surrogate(lambda z: posterior_weight(z, mean, logvar, 1.0), z)

  keys = jax.random.split(KEY, 20_000)
  ours, theirs = (jax.jit(jax.vmap(jax.grad(f), (None, 0)))(mean, keys)[:, 0, 0] for f in (doubly, plain))
  assert abs(ours.mean() - theirs.mean()) < 4 * np.sqrt((ours.var() + theirs.var()) / 20_000)
  assert ours.var() < 0.5 * theirs.var()


def test_doubly_reparametrized_surrogate_on_another_axis():
  z = jax.random.normal(KEY, (2, 5, 1))
  of = lambda z: -jnp.sum(jnp.square(z), -1)
  got = jax.vjp(lambda z: losses.doubly_reparametrized_surrogate(of, z, axis=1), z)
  expected = jax.vjp(lambda z: losses.doubly_reparametrized_surrogate(of, z.swapaxes(0, 1)), z)
  np.testing.assert_allclose(got[0], expected[0], rtol=1e-6)
  np.testing.assert_allclose(got[1](jnp.ones(2))[0], expected[1](jnp.ones(2))[0], rtol=1e-6)


def test_elbo_surgery_golden_values():
  # Mean KL 1.06947024 = marginal KL 0.27188020 + information 0.79759004.
  means, sd = jnp.asarray([[-1.5], [0.2], [1.0]]), jnp.asarray([[0.3], [0.5], [0.4]])
  parts = surgery(means, 2 * jnp.log(sd), KEY, 30_000)
  np.testing.assert_allclose(parts.average_kl, 1.06947024, rtol=1e-6)
  np.testing.assert_allclose(parts.marginal_kl, 0.27188020, atol=0.02)
  np.testing.assert_allclose(parts.mutual_information, 0.79759004, atol=0.02)
  assert abs(parts.marginal_kl + parts.mutual_information - parts.average_kl) < 0.02
  assert parts.mutual_information < np.log(3)


def test_elbo_surgery_information_is_zero_for_one_posterior_and_ln_n_for_separate_ones():
  same = surgery(jnp.full((6, 2), 0.7), jnp.zeros((6, 2)), KEY, 60)
  np.testing.assert_allclose(same.mutual_information, 0, atol=1e-5)
  apart = surgery(100 * jnp.arange(6.0)[:, None], jnp.zeros((6, 1)), KEY, 7)
  np.testing.assert_allclose(apart.mutual_information, np.log(6), rtol=1e-5)
  far = surgery(jnp.full((1, 1), BIG), jnp.zeros((1, 1)), KEY, 1)
  np.testing.assert_allclose([far.average_kl, far.marginal_kl, far.mutual_information], [BIG**2 / 2, BIG**2 / 2, 0])


def test_weights_have_names_only_so_that_they_cannot_be_swapped():
  nats = jnp.ones(3)
  with pytest.raises(TypeError):
    losses.capacity_elbo(nats, nats, 25.0, 100.0)
  assert losses.capacity_elbo(nats, nats, capacity=25.0, gamma=100.0).shape == (3,)
