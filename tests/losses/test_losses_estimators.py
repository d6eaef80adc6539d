"""Gradient estimators: exact means by enumeration, golden variances in closed form."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dgm_jax import distributions as dist
from dgm_jax import losses

KEY = jax.random.key(5)
BIG = 1e9

# Every configuration of three bits, what it earns, and the logits that they are drawn by.
BITS = jnp.asarray(list(itertools.product([0.0, 1.0], repeat=3)))
REWARD = jax.random.normal(jax.random.key(1), (8,))
LOGITS = jnp.asarray([0.3, -0.7, 1.1])


def log_q(logits):
  return dist.bernoulli_log_prob(BITS, logits[None])


def exact_gradient():
  return jax.grad(lambda logits: jnp.sum(jnp.exp(log_q(logits)) * REWARD))(LOGITS)


def expectation(gradients, samples):
  """Exact mean over all configurations of several independent samples, [8^samples, ...] row by row."""
  log_p = log_q(LOGITS)
  joint = sum(
    np.asarray(log_p)[list(index)] for index in zip(*itertools.product(range(8), repeat=samples), strict=True)
  )
  return np.tensordot(np.exp(joint), np.asarray(gradients), 1)


def rows(samples):
  return jnp.asarray(list(itertools.product(range(8), repeat=samples)))


def test_score_function_is_unbiased_for_any_baseline():
  for baseline in (0.0, 3.7, jnp.linspace(-1, 1, 8) * 0 + 2):
    slopes = jax.jacobian(lambda logits, b=baseline: losses.score_function_surrogate(log_q(logits), REWARD, b))(LOGITS)
    np.testing.assert_allclose(expectation(slopes, 1), exact_gradient(), atol=1e-6)


def test_score_function_surrogate_by_hand():
  # Value the reward; to log q (reward - baseline); to the reward itself one; to the baseline nothing.
  surrogate = lambda *a: losses.score_function_surrogate(*a).sum()
  arguments = jnp.asarray([-1.0, -2.0]), jnp.asarray([5.0, 7.0]), jnp.asarray([1.0, 2.0])
  np.testing.assert_array_equal(losses.score_function_surrogate(*arguments), [5, 7])
  by_log_q, by_reward, by_baseline = jax.grad(surrogate, (0, 1, 2))(*arguments)
  np.testing.assert_array_equal(by_log_q, [4, 5])
  np.testing.assert_array_equal(by_reward, [1, 1])
  np.testing.assert_array_equal(by_baseline, [0, 0])
  far = jax.grad(surrogate)(jnp.full(1, -BIG), jnp.full(1, BIG), jnp.full(1, -BIG))
  np.testing.assert_array_equal(far, [2 * BIG])
  assert losses.score_function_surrogate(jnp.zeros(0), jnp.zeros(0)).shape == (0,)


def test_leave_one_out_baseline_by_hand():
  rewards = jnp.asarray([[1.0, 10.0], [2.0, 20.0], [6.0, 60.0]])
  np.testing.assert_allclose(losses.leave_one_out_baseline(rewards), [[4, 40], [3.5, 35], [1.5, 15]])
  np.testing.assert_allclose(losses.leave_one_out_baseline(rewards.T, -1), [[4, 3.5, 1.5], [40, 35, 15]])
  np.testing.assert_array_equal(losses.leave_one_out_baseline(jnp.asarray([BIG, -BIG])), [-BIG, BIG])


def test_leave_one_out_is_unbiased():
  index = rows(2)

  def surrogate(logits):
    rewards = REWARD[index]  # [64, 2]
    baseline = losses.leave_one_out_baseline(rewards, axis=1)
    return losses.score_function_surrogate(log_q(logits)[index], rewards, baseline).mean(1)

  np.testing.assert_allclose(expectation(jax.jacobian(surrogate)(LOGITS), 2), exact_gradient(), atol=1e-6)


@pytest.mark.parametrize('samples', [2, 3])
def test_vimco_is_unbiased(samples):
  """The gradient of the multi-sample bound over all configurations, for logits and for the model's weights."""
  index = rows(samples)
  log_joint = jax.random.normal(jax.random.key(3), (8,))

  def bound(logits, log_joint):
    weights = (log_joint - log_q(logits))[index]
    return jnp.sum(jnp.exp(log_q(logits)[index].sum(1)) * losses.importance_weighted_bound(weights, axis=1))

  def surrogate(logits, log_joint):
    weights = (log_joint - log_q(logits))[index]
    return losses.vimco_surrogate(weights, log_q(logits)[index], axis=1)

  for slopes, expected in zip(
    jax.jit(jax.jacobian(surrogate, (0, 1)))(LOGITS, log_joint),
    jax.jit(jax.grad(bound, (0, 1)))(LOGITS, log_joint),
    strict=True,
  ):
    np.testing.assert_allclose(expectation(slopes, samples), expected, atol=2e-6)
  value = losses.importance_weighted_bound((log_joint - log_q(LOGITS))[index], axis=1)
  np.testing.assert_allclose(surrogate(LOGITS, log_joint), value, rtol=1e-6)


def test_vimco_learning_signal_by_hand():
  # K = 2: without sample 1 both weights are the second, so that L_-1 = log w_2; L = log((w_1 + w_2) / 2).
  log_weights = jnp.log(jnp.asarray([3.0, 1.0]))
  slope = jax.grad(lambda q: losses.vimco_surrogate(log_weights, q))(jnp.zeros(2))
  np.testing.assert_allclose(slope, [np.log(2), np.log(2 / 3)], rtol=1e-6)
  far = jax.grad(lambda q: losses.vimco_surrogate(jnp.asarray([BIG, -BIG]), q))(jnp.zeros(2))
  np.testing.assert_allclose(far, [2 * BIG, 0], atol=1)


def gaussian_gradient(surrogate, samples):
  """key -> estimate of d/dm E_N(m, 1)[z^2] at m = 1, the truth being 2."""

  def estimate(key):
    z = 1 + jax.random.normal(key, (samples, 1))
    log_q = lambda mean: dist.normal_log_prob(z, mean.reshape(1, 1), jnp.zeros((1, 1)))
    return jax.grad(lambda mean: surrogate(log_q(mean), jnp.square(z[:, 0])).mean())(jnp.asarray(1.0))

  return estimate


def leave_one_out(log_q, reward):
  return losses.score_function_surrogate(log_q, reward, losses.leave_one_out_baseline(reward))


@pytest.mark.parametrize(
  ('surrogate', 'samples', 'variance'),
  [
    (losses.score_function_surrogate, 1, 30),
    (lambda q, r: losses.score_function_surrogate(q, r, 2.0), 1, 18),
    (lambda q, r: losses.score_function_surrogate(q, r, 4.0), 1, 14),
    (losses.score_function_surrogate, 2, 15),
    (leave_one_out, 2, 14),
    (leave_one_out, 4, 16 / 3),
  ],
)
def test_golden_variances(surrogate, samples, variance):
  estimate = gaussian_gradient(surrogate, samples)
  n = 100_000
  got = jax.jit(lambda key: losses.estimator_variance(estimate, key, n))(KEY)
  # The estimates have heavy tails: kurtosis below 60, so that the relative error is sqrt(60 / n) = 2.5 %.
  np.testing.assert_allclose(got, variance, rtol=0.1)
  mean = jax.jit(jax.vmap(estimate))(jax.random.split(KEY, n)).mean()
  assert abs(mean - 2) < 4 * np.sqrt(variance / n)


def test_reparametrised_variance_is_four():
  estimate = lambda key: jax.grad(lambda m: jnp.square(m + jax.random.normal(key)))(jnp.asarray(1.0))
  np.testing.assert_allclose(losses.estimator_variance(estimate, KEY, 50_000), 4, rtol=0.04)


def test_bernoulli_toy():
  """E (b - 0.499)^2 at probability 1/2: gradient 5e-4, score variance 1.5625e-2, leave-one-out 2.5e-7."""

  def estimate(surrogate, samples):
    def of(key):
      b = jax.random.bernoulli(key, 0.5, (samples, 1)).astype(jnp.float32)
      log_q = lambda logit: dist.bernoulli_log_prob(b, logit.reshape(1, 1))
      return jax.grad(lambda logit: surrogate(log_q(logit), jnp.square(b[:, 0] - 0.499)).mean())(jnp.asarray(0.0))

    return of

  variance = jax.jit(losses.estimator_variance, static_argnums=(0, 2))
  plain = variance(estimate(losses.score_function_surrogate, 1), KEY, 4_000)
  better = variance(estimate(leave_one_out, 2), KEY, 4_000)
  np.testing.assert_allclose(plain, 1.5625e-2, rtol=0.05)
  np.testing.assert_allclose(better, 2.5e-7, rtol=0.05)


def test_estimator_variance_of_a_tree_by_hand():
  draws = lambda key: {'a': jax.random.normal(key, (2,)), 'b': jnp.ones(())}
  variance = losses.estimator_variance(draws, KEY, 300)  # more than are held at once
  values = jax.vmap(draws)(jax.random.split(KEY, 300))['a']
  np.testing.assert_allclose(variance['a'], np.var(np.asarray(values), 0, ddof=1), rtol=1e-5)
  assert variance['b'] == 0
