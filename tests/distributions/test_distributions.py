"""Densities against closed forms, numpyro and scipy, and at the ends of float32."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as oracle
import scipy.special
import scipy.stats

from dgm_jax import distributions as dist

RANDOM = np.random.default_rng(1)
KEY = jax.random.key(1)
BIG = 1e9


def real(*shape):
  return jnp.asarray(RANDOM.normal(size=shape), jnp.float32)


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


def test_bernoulli_samples_and_entropy():
  logits = jnp.asarray([-2.0, 0.0, 1.0])
  x = dist.bernoulli_sample(KEY, jnp.broadcast_to(logits, (40_000, 3)))
  p = scipy.special.expit(np.asarray(logits))
  assert set(np.unique(x)) == {0, 1}
  np.testing.assert_array_less(np.abs(x.mean(0) - p), 4 * np.sqrt(p * (1 - p) / 40_000))
  np.testing.assert_allclose(dist.bernoulli_entropy(logits), scipy.stats.bernoulli(p).entropy().sum(), 1e-5)
  # At +-30 the entropy is about 31 e^-30; at +-1e9 it is nothing.
  rare = dist.bernoulli_entropy(jnp.asarray([[30.0], [-30.0], [BIG], [-BIG], [np.inf], [-np.inf]]))
  np.testing.assert_allclose(rare, [31 * np.exp(-30)] * 2 + [0] * 4, rtol=1e-4)
  assert (dist.bernoulli_sample(KEY, jnp.asarray([BIG, -BIG])) == jnp.asarray([1, 0])).all()


def test_categorical_agrees_with_numpyro():
  logits_q, logits_p = 2 * real(2, 3, 256), 2 * real(2, 3, 256)
  x = RANDOM.integers(0, 256, (2, 3))
  q = oracle.Categorical(logits=logits_q)
  np.testing.assert_allclose(dist.categorical_log_prob(x, logits_q), q.to_event(1).log_prob(x), 1e-5)
  np.testing.assert_allclose(dist.categorical_entropy(logits_q), q.entropy(), 1e-5)
  log_q, log_p = (scipy.special.log_softmax(np.asarray(a, np.float64), -1) for a in (logits_q, logits_p))
  expected = (np.exp(log_q) * (log_q - log_p)).sum(-1)
  np.testing.assert_allclose(dist.categorical_kl(logits_q, logits_p), expected, 1e-5)


def test_categorical_at_the_extremes():
  logits = jnp.asarray([[BIG, -BIG, 0.0]])
  np.testing.assert_allclose(
    dist.categorical_log_prob(jnp.arange(3)[:, None], logits[None].repeat(3, 0)), [0, -2e9, -BIG]
  )
  assert dist.categorical_entropy(logits)[0] == 0
  np.testing.assert_allclose(dist.categorical_kl(logits, jnp.zeros((1, 3))), [np.log(3)], 1e-6)
  np.testing.assert_allclose(dist.categorical_kl(logits, logits[:, ::-1]), [BIG], 1e-6)
  assert dist.categorical_sample(KEY, logits)[0] == 0
  grads = jax.grad(lambda q: dist.categorical_kl(q, logits[:, ::-1]).sum())(logits)
  np.testing.assert_array_equal(grads, [[0, 0, 0]])


def test_a_class_that_never_comes_adds_nothing():
  q = jnp.asarray([[0.0, 0.0, -jnp.inf], [1.0, -jnp.inf, -jnp.inf]])
  np.testing.assert_allclose(dist.categorical_entropy(q), [np.log(2), 0], 1e-6)
  p = jnp.asarray([[0.0, np.log(3.0), -jnp.inf], [0.0, 0.0, 0.0]])
  # 1/2 ln (1/2 / 1/4) + 1/2 ln (1/2 / 3/4), and ln 3; the other way round the third class of p is beyond q.
  np.testing.assert_allclose(dist.categorical_kl(q, p), [0.5 * np.log(4 / 3), np.log(3)], 1e-6)
  assert dist.categorical_kl(p, q)[1] == np.inf
  for loss in (lambda q: dist.categorical_entropy(q).sum(), lambda q: dist.categorical_kl(q, p).sum()):
    slope = jax.jit(jax.grad(loss))(q)
    assert np.isfinite(slope).all() and not slope[0, 2]
  assert dist.categorical_log_prob(jnp.asarray([0, 2]), q[:1].repeat(2, 0)) == -np.inf


def test_what_is_no_class_is_nan():
  for x in ([[3], [-1], [-3]], [[0.5], [np.nan], [3e9]], np.uint8([[3], [4], [255]])):
    assert np.isnan(jax.jit(dist.categorical_log_prob)(np.asarray(x), np.zeros((3, 1, 3)))).all()
  ends = jax.jit(dist.categorical_log_prob)(np.uint8([[0, 255]]), np.zeros((1, 2, 256)))
  np.testing.assert_allclose(ends, [-2 * np.log(256)], 1e-6)


def test_categorical_samples_have_the_frequencies():
  logits = jnp.asarray([0.0, 1.0, -1.0])
  draws = dist.categorical_sample(KEY, jnp.broadcast_to(logits, (40_000, 3)))
  p = scipy.special.softmax(np.asarray(logits))
  share = np.bincount(draws, minlength=3) / 40_000
  np.testing.assert_array_less(np.abs(share - p), 4 * np.sqrt(p * (1 - p) / 40_000))


def test_gumbel_softmax_of_two_classes_is_a_squashed_logistic():
  # With x = sigmoid(y), y = (l_1 - l_0 + logistic noise) / t: density of y over dx/dy = x (1 - x).
  t, logits, x = 0.7, jnp.asarray([[0.3, -0.4]]), np.asarray([[0.2, 0.8]])
  y = np.log(x[0, 0] / x[0, 1])
  expected = scipy.stats.logistic(0.7 / t, 1 / t).logpdf(y) - np.log(x[0, 0] * x[0, 1])
  np.testing.assert_allclose(dist.gumbel_softmax_log_prob(jnp.log(x), logits, t), [expected], 1e-5)


def test_gumbel_softmax_integrates_to_one_and_agrees_with_its_samples():
  # A grid over the triangle of three classes; E[x_0] by the density against that of samples.
  t, logits, n = 1.5, jnp.asarray([0.5, 0.0, -0.5]), 400
  a, b = np.meshgrid((np.arange(n) + 0.5) / n, (np.arange(n) + 0.5) / n)
  inside = a + b < 1
  x = np.stack([a[inside], b[inside], 1 - a[inside] - b[inside]], -1)
  density = np.exp(dist.gumbel_softmax_log_prob(np.log(x), jnp.broadcast_to(logits, x.shape), t))
  np.testing.assert_allclose(density.sum() / n**2, 1, atol=0.01)
  samples = dist.gumbel_softmax_sample(KEY, jnp.broadcast_to(logits, (20_000, 3)), t)
  np.testing.assert_allclose(samples.sum(-1), 1, atol=1e-5)
  expected = (density * x[:, 0]).sum() / n**2
  assert abs(samples[:, 0].mean() - expected) < 0.01


def test_gumbel_softmax_tends_to_the_classes():
  logits = jnp.broadcast_to(jnp.asarray([1.0, 0.0]), (20_000, 2))
  cold = dist.gumbel_softmax_sample(KEY, logits, 1e-3)
  assert abs(float((cold[:, 0] > 0.5).mean()) - scipy.special.expit(1)) < 0.015
  assert float(jnp.minimum(cold[:, 0], cold[:, 1]).mean()) < 1e-3
  extreme = dist.gumbel_softmax_sample(KEY, jnp.asarray([[BIG, -BIG]]), 0.1)
  np.testing.assert_array_equal(extreme, [[1, 0]])


def test_multivariate_normal_agrees_with_scipy():
  tril = np.asarray([[1.0, 0, 0], [0.5, 2, 0], [-0.3, 0.2, 0.7]], np.float32)
  x, mean = real(2, 4, 3), real(1, 1, 3)
  reference = scipy.stats.multivariate_normal(mean[0, 0], tril @ tril.T)
  np.testing.assert_allclose(dist.multivariate_normal_log_prob(x, mean, tril), reference.logpdf(x), 1e-5)
  np.testing.assert_allclose(dist.multivariate_normal_entropy(tril), reference.entropy(), 1e-5)


def test_multivariate_normal_with_a_diagonal_is_the_diagonal_one():
  x, mean, logvar = real(5, 3), real(5, 3), real(3)
  tril = jnp.diag(jnp.exp(logvar / 2))
  expected = dist.normal_log_prob(x, mean, jnp.broadcast_to(logvar, (5, 3)))
  np.testing.assert_allclose(dist.multivariate_normal_log_prob(x, mean, tril), expected, 1e-5)
  np.testing.assert_allclose(dist.multivariate_normal_entropy(tril), dist.normal_entropy(logvar), 1e-5)


def test_multivariate_normal_samples_have_the_covariance():
  tril, n = jnp.asarray([[1.0, 0.0], [0.8, 0.6]]), 40_000
  z = dist.multivariate_normal_sample(KEY, jnp.full((n, 2), 3.0), tril)
  np.testing.assert_allclose(z.mean(0), [3, 3], atol=4 / np.sqrt(n))
  np.testing.assert_allclose(np.cov(z.T), [[1, 0.8], [0.8, 1]], atol=4 * np.sqrt(2 / n))


def test_multivariate_normal_at_the_extremes():
  far = dist.multivariate_normal_log_prob(jnp.full((1, 2), BIG), jnp.zeros((1, 2)), jnp.eye(2))
  np.testing.assert_allclose(far, [-(BIG**2)], 1e-6)
  assert dist.multivariate_normal_log_prob(jnp.zeros((0, 2)), jnp.zeros((0, 2)), jnp.eye(2)).shape == (0,)


def test_normal_mixture_agrees_with_numpyro():
  logits, means, logvars, x = real(4), real(4, 2), real(4, 2), real(3, 5, 2)
  components = oracle.Normal(means, jnp.exp(logvars / 2)).to_event(1)
  reference = oracle.MixtureSameFamily(oracle.Categorical(logits=logits), components)
  got = dist.normal_mixture_log_prob(x, logits, means, logvars)
  with jax.numpy_rank_promotion('allow'):
    np.testing.assert_allclose(got, reference.log_prob(x), 1e-5)


def test_normal_mixture_of_one_is_the_normal():
  x, mean, logvar = real(3, 2), real(1, 2), real(1, 2)
  got = dist.normal_mixture_log_prob(x, jnp.asarray([BIG]), mean, logvar)
  np.testing.assert_allclose(got, dist.normal_log_prob(x, mean, logvar), 1e-6)
  far = dist.normal_mixture_log_prob(jnp.full((1, 2), BIG), jnp.zeros(2), jnp.zeros((2, 2)), jnp.zeros((2, 2)))
  np.testing.assert_allclose(far, [-(BIG**2)], 1e-6)


def test_normal_mixture_samples_follow_the_components():
  means, n = jnp.asarray([[-10.0], [10.0]]), 20_000
  z = dist.normal_mixture_sample(KEY, jnp.log(jnp.asarray([0.3, 0.7])), means, jnp.log(jnp.asarray([[1.0], [4.0]])), n)
  low, high = z[z < 0], z[z > 0]
  assert abs(low.size / n - 0.3) < 4 * np.sqrt(0.21 / n)
  np.testing.assert_allclose([low.mean(), high.mean()], [-10, 10], atol=0.1)
  np.testing.assert_allclose([low.std(), high.std()], [1, 2], rtol=0.05)
