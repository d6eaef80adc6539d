"""Logistic densities and pixel probabilities: golden values, scipy, enumeration, and the ends of float32."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from dgm_jax import distributions as dist

RANDOM = np.random.default_rng(4)
KEY = jax.random.key(4)
BIG = 1e9


def real(*shape):
  return jnp.asarray(RANDOM.normal(size=shape), jnp.float32)


def grid(levels=256):
  return 2 * jnp.arange(levels) / (levels - 1) - 1


def pixel_log_probs(mean, log_scale, levels=256):
  """[..., levels] log-probabilities of all values under discretized logistics."""
  mean, log_scale = (jnp.asarray(a, jnp.float32)[..., None, None] for a in (mean, log_scale))
  x = grid(levels).reshape((1,) * (mean.ndim - 2) + (levels, 1))
  return dist.discretized_logistic_log_prob(x, mean, log_scale, levels)


def test_logistic_agrees_with_scipy():
  x, mean, log_scale = 3 * real(4, 3), real(4, 3), real(4, 3)
  reference = scipy.stats.logistic(mean, np.exp(log_scale))
  np.testing.assert_allclose(dist.logistic_log_prob(x, mean, log_scale), reference.logpdf(x).sum(-1), 1e-5)
  np.testing.assert_allclose(dist.logistic_entropy(log_scale), reference.entropy().sum(-1), 1e-5)


def test_logistic_at_the_extremes():
  # -|x| / s, either side.
  far, zero = jnp.full((1, 1), BIG), jnp.zeros((1, 1))
  np.testing.assert_allclose(dist.logistic_log_prob(far, zero, zero), [-BIG])
  np.testing.assert_allclose(dist.logistic_log_prob(-far, zero, zero), [-BIG])
  np.testing.assert_allclose(dist.logistic_log_prob(zero, zero, far), [-BIG])
  np.testing.assert_allclose(dist.logistic_entropy(-far), [-BIG])
  slope = jax.grad(lambda x: dist.logistic_log_prob(x, zero, zero).sum())(jnp.concatenate([far, -far]))
  np.testing.assert_allclose(slope, [[-1], [1]])


def test_logistic_samples_have_the_mean_and_the_variance():
  n, scale = 40_000, 2.0
  z = dist.logistic_sample(KEY, jnp.full((n, 1), 3.0), jnp.full((1, 1), np.log(scale)))
  variance = (scale * np.pi) ** 2 / 3
  assert abs(z.mean() - 3) < 4 * np.sqrt(variance / n)
  # Kurtosis 4.2: the relative variance of the variance is 3.2 / n.
  assert abs(z.var() / variance - 1) < 4 * np.sqrt(3.2 / n)


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


def test_discretized_logistic_sums_to_one_with_finite_gradients():
  means = jnp.asarray([0.0, 0.3, -1.0, 1.0, 5.0, -5.0, BIG, -BIG, 1 / 255, 0.123456, 1 / 255 + 1e-4])
  log_scales = jnp.asarray([-BIG, -20.0, -9.0, -7.0, -3.0, 0.0, 5.0, 20.0, BIG])
  mean, log_scale = (a.ravel() for a in jnp.meshgrid(means, log_scales))
  log_probs = np.asarray(pixel_log_probs(mean, log_scale), np.float64)
  np.testing.assert_allclose(np.exp(log_probs).sum(-1), 1, atol=1e-6)
  grads = jax.grad(lambda m, s: pixel_log_probs(m, s).sum(), (0, 1))(mean, log_scale)
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


def test_discretized_logistic_slope_is_right_at_the_kinks_of_its_formula():
  # The mean on a bin's edge and in its middle, inside and at the open ends, against float64 differences.
  value, mean, scale, step = np.asarray([0, 0, 255, 255, 9, 9]), np.asarray([0.5, 0, 254.5, 255, 8.5, 9]), 0.8, 1e-4

  def exact(mean):
    upper = np.where(value == 255, 1, scipy.special.expit((value + 0.5 - mean) / scale))
    lower = np.where(value == 0, 0, scipy.special.expit((value - 0.5 - mean) / scale))
    return np.log(upper - lower)

  expected = (exact(mean + step) - exact(mean - step)) / (2 * step)
  x, m = (jnp.asarray(a / 127.5 - 1, jnp.float32)[:, None] for a in (value, mean))
  log_scale = jnp.full((1, 1), np.log(scale / 127.5))
  slope = jax.grad(lambda m: dist.discretized_logistic_log_prob(x, m, log_scale).sum())(m)
  np.testing.assert_allclose(slope[:, 0] / 127.5, expected, atol=2e-5)


def test_discretized_logistic_samples_follow_the_probabilities():
  n, mean, log_scale, levels = 40_000, -0.6, -1.0, 8
  x = dist.discretized_logistic_sample(KEY, jnp.full((n, 1), mean), jnp.full((1, 1), log_scale), levels)
  counts = np.bincount(np.asarray(jnp.round((x[:, 0] + 1) * (levels - 1) / 2), int), minlength=levels)
  p = np.exp(np.asarray(pixel_log_probs(mean, log_scale, levels), np.float64))
  assert scipy.stats.chisquare(counts, n * p / p.sum()).pvalue > 1e-3


def mixture(*leading, channels=3, components=4):
  pairs = channels * (channels - 1) // 2
  rows = 1 + 2 * channels + pairs
  return dist.logistic_mixture_split(real(*leading, rows * components), channels)


def test_logistic_mixture_split_lays_out_the_parameters():
  # Two components of three channels: rows of two numbers.
  parameters = jnp.arange(20.0)[None] - 10
  logits, means, log_scales, coefficients = dist.logistic_mixture_split(parameters)
  np.testing.assert_array_equal(logits, [[-10, -9]])
  np.testing.assert_array_equal(means, [[[-8, -7], [-6, -5], [-4, -3]]])
  np.testing.assert_array_equal(log_scales, [[[-2, -1], [0, 1], [2, 3]]])
  np.testing.assert_allclose(coefficients, np.tanh([[[4, 5], [6, 7], [8, 9]]]), 1e-6)
  assert dist.logistic_mixture_split(parameters * BIG).log_scales.min() == -7
  assert [a.shape for a in dist.logistic_mixture_split(parameters[:, :15], 1)] == [
    (1, 5),
    (1, 1, 5),
    (1, 1, 5),
    (1, 0, 5),
  ]


def test_logistic_mixture_agrees_with_the_published_formula():
  """The difference of sigmoids, in float64, with the channels coupled by hand."""
  x = grid()[RANDOM.integers(0, 256, (50, 3))]
  parameters = mixture(50)
  got = dist.logistic_mixture_log_prob(x, parameters)
  x, logits, m, log_scales, c = (np.asarray(a, np.float64) for a in (x, *parameters))
  m = m.copy()
  m[:, 1] += c[:, 0] * x[:, 0, None]
  m[:, 2] += c[:, 1] * x[:, 0, None] + c[:, 2] * x[:, 1, None]
  x, scale = x[:, :, None], np.exp(log_scales)
  upper = np.where(x > 0.999, 1, scipy.special.expit((x + 1 / 255 - m) / scale))
  lower = np.where(x < -0.999, 0, scipy.special.expit((x - 1 / 255 - m) / scale))
  log_components = np.log(upper - lower).sum(1) + scipy.special.log_softmax(logits, -1)
  np.testing.assert_allclose(got, scipy.special.logsumexp(log_components, -1), 1e-4)


def test_logistic_mixture_of_one_channel_and_component_is_the_discretized_logistic():
  x = grid()[:, None]
  parameters = dist.logistic_mixture_split(jnp.broadcast_to(jnp.asarray([BIG, 0.2, -2.0]), (256, 3)), 1)
  expected = pixel_log_probs(0.2, -2.0)
  np.testing.assert_allclose(dist.logistic_mixture_log_prob(x, parameters), expected, 1e-5)


@pytest.mark.parametrize('sharp', [1.0, 8.0, BIG])
def test_logistic_mixture_sums_to_one_over_all_pixels(sharp):
  # Four levels a channel: 64 pixels.
  pixels = jnp.asarray(list(itertools.product(np.asarray(grid(4)), repeat=3)))
  one = dist.LogisticMixture(*(sharp * a for a in mixture()))
  every = dist.LogisticMixture(*(jnp.broadcast_to(a, (64, *a.shape)) for a in one))
  log_probs = dist.logistic_mixture_log_prob(pixels, every, 4)
  np.testing.assert_allclose(np.exp(np.asarray(log_probs, np.float64)).sum(), 1, atol=1e-6)


def test_logistic_mixture_of_256_levels_sums_to_one_at_the_extremes():
  x = grid()[:, None]
  for logit, mean, log_scale in itertools.product((0.0, BIG), (0.0, 5.0, -5.0, BIG), (-7.0, 0.0, 20.0)):
    row = jnp.asarray([logit, 0.0, mean, -0.3, log_scale, -1.0])
    parameters = dist.logistic_mixture_split(jnp.broadcast_to(row, (256, 6)), 1)
    log_probs = np.asarray(dist.logistic_mixture_log_prob(x, parameters), np.float64)
    np.testing.assert_allclose(np.exp(log_probs).sum(), 1, atol=1e-6)


def test_logistic_mixture_gradients_are_finite_for_every_value_and_extreme():
  x = jnp.stack([grid()] * 3, -1)

  def loss(parameters):
    return dist.logistic_mixture_log_prob(x, dist.logistic_mixture_split(parameters)).sum()

  slope = jax.jit(jax.grad(loss))
  for extreme in (-7.0, 5.0, -5.0, BIG, -BIG):
    assert np.isfinite(slope(jnp.full((256, 40), extreme))).all()


def test_logistic_mixture_samples_follow_the_probabilities():
  # Two channels of three levels, strongly coupled: nine pixels.
  n, parameters = 60_000, mixture(channels=2, components=3)
  parameters = parameters._replace(coefficients=jnp.full((1, 3), 0.9), log_scales=jnp.full((2, 3), -1.0))
  repeated = lambda n: dist.LogisticMixture(*(jnp.broadcast_to(a, (n, *a.shape)) for a in parameters))
  x = dist.logistic_mixture_sample(KEY, repeated(n), 3)
  counts = np.bincount(np.asarray((x[:, 0] + 1) * 3 + x[:, 1] + 1, int), minlength=9)
  pixels = jnp.asarray(list(itertools.product([-1.0, 0.0, 1.0], repeat=2)))
  p = np.exp(np.asarray(dist.logistic_mixture_log_prob(pixels, repeated(9), 3), np.float64))
  assert scipy.stats.chisquare(counts, n * p / p.sum()).pvalue > 1e-3
