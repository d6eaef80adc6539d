"""Losses of the players: arithmetic by hand, divergences in closed form, the ends of float32."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from dgm_jax import distributions as dist
from dgm_jax import losses

RANDOM = np.random.default_rng(6)
BIG = 1e9
REAL, FAKE = jnp.asarray([2.0, -1.0]), jnp.asarray([-0.5, 3.0])
FAR = jnp.asarray([BIG, -BIG])


def softplus(x):
  return np.logaddexp(0, np.asarray(x, np.float64))


def test_minimax_by_hand():
  expected = softplus(-REAL) + softplus(FAKE)
  np.testing.assert_allclose(losses.minimax_discriminator(REAL, FAKE), expected, 1e-6)
  np.testing.assert_allclose(losses.minimax_generator(FAKE), -softplus(FAKE), 1e-6)
  np.testing.assert_allclose(losses.nonsaturating_generator(FAKE), softplus(-FAKE), 1e-6)
  # A discriminator that says 1/2: V = -ln 4, slopes 1/2 each way.
  zero = jnp.zeros(3)
  np.testing.assert_allclose(losses.minimax_discriminator(zero, zero), np.log(4) * np.ones(3), 1e-6)
  slopes = jax.grad(lambda r, f: losses.minimax_discriminator(r, f).sum(), (0, 1))(zero, zero)
  np.testing.assert_allclose(slopes, [-0.5 * np.ones(3), 0.5 * np.ones(3)])


def test_minimax_at_the_extremes():
  np.testing.assert_array_equal(losses.minimax_discriminator(FAR, FAR), [BIG, BIG])
  np.testing.assert_array_equal(losses.minimax_discriminator(FAR, -FAR), [0, 2 * BIG])
  np.testing.assert_array_equal(losses.minimax_generator(FAR), [-BIG, 0])
  np.testing.assert_array_equal(losses.nonsaturating_generator(FAR), [0, BIG])
  # The minimax generator's slope vanishes where it loses; the other's does not.
  np.testing.assert_array_equal(jax.grad(lambda f: losses.minimax_generator(f).sum())(FAR), [-1, 0])
  np.testing.assert_array_equal(jax.grad(lambda f: losses.nonsaturating_generator(f).sum())(FAR), [0, -1])
  assert losses.minimax_discriminator(jnp.zeros(0), jnp.zeros(0)).shape == (0,)


@pytest.mark.parametrize(('distance', 'jsd'), [(0.5, 0.030311), (1.0, 0.111421), (2.0, 0.336831), (3.0, 0.526777)])
def test_minimax_optimum_is_the_jensen_shannon_divergence(distance, jsd):
  # N(0, 1) against N(d, 1): the optimal logit is log p / q = d^2 / 2 - d x; V = 2 JSD - log 4.
  x = np.linspace(-12, 12, 4001)
  logit = lambda x: jnp.asarray(distance**2 / 2 - distance * x, jnp.float32)
  weights = np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi) * (x[1] - x[0])
  value = -np.sum(weights * losses.minimax_discriminator(logit(x), logit(x + distance)))
  np.testing.assert_allclose(value, 2 * jsd - np.log(4), atol=3e-6)


def test_label_smoothing_by_hand():
  # Cross-entropy against labels 0.9 and 0.1; with p = q and one-sided target a the best logit is log(a / (2 - a)).
  expected = 0.9 * softplus(-REAL) + 0.1 * softplus(REAL) + 0.1 * softplus(-FAKE) + 0.9 * softplus(FAKE)
  np.testing.assert_allclose(losses.minimax_discriminator(REAL, FAKE, real_label=0.9, fake_label=0.1), expected, 1e-6)
  best = jnp.full(1, np.log(0.9 / 1.1))
  slope = jax.grad(lambda logit: losses.minimax_discriminator(logit, logit, real_label=0.9).sum())(best)
  np.testing.assert_allclose(slope, [0], atol=1e-6)


def test_least_squares_by_hand():
  np.testing.assert_allclose(losses.least_squares_discriminator(REAL, FAKE), [(1 + 0.25) / 2, (4 + 9) / 2])
  np.testing.assert_allclose(losses.least_squares_generator(FAKE), [1.125, 2])
  # On two points with probabilities p, q the best value is p / (p + q).
  p, q = 0.3, 0.8
  slope = jax.grad(
    lambda v: jnp.sum(
      p * losses.least_squares_discriminator(v, 0 * v) + q * losses.least_squares_discriminator(0 * v + 1, v)
    )
  )(jnp.full(1, p / (p + q)))
  np.testing.assert_allclose(slope, [0], atol=1e-6)
  np.testing.assert_allclose(losses.least_squares_discriminator(FAR, FAR), [BIG**2, BIG**2], 1e-6)
  np.testing.assert_allclose(losses.least_squares_generator(FAR), [BIG**2 / 2] * 2, 1e-6)


def test_hinge_by_hand():
  np.testing.assert_allclose(losses.hinge_discriminator(REAL, FAKE), [0.5, 6])
  np.testing.assert_array_equal(losses.hinge_discriminator(jnp.ones(1), -jnp.ones(1)), [0])
  np.testing.assert_array_equal(losses.hinge_discriminator(jnp.zeros(1), jnp.zeros(1)), [2])
  np.testing.assert_array_equal(losses.hinge_generator(FAKE), -FAKE)
  np.testing.assert_array_equal(losses.hinge_discriminator(FAR, FAR), [BIG, BIG])
  slopes = jax.grad(lambda r, f: losses.hinge_discriminator(r, f).sum(), (0, 1))(REAL, FAKE)
  np.testing.assert_array_equal(slopes, [[0, -1], [1, 1]])
  np.testing.assert_array_equal(losses.hinge_generator(FAR), -FAR)


def test_wasserstein_by_hand():
  np.testing.assert_array_equal(losses.wasserstein_critic(REAL, FAKE), [-2.5, 4])
  np.testing.assert_array_equal(losses.wasserstein_generator(FAKE), [0.5, -3])
  np.testing.assert_array_equal(losses.wasserstein_critic(FAR, -FAR), [-2 * BIG, 2 * BIG])
  np.testing.assert_array_equal(losses.wasserstein_generator(FAR), -FAR)


def test_feature_matching_by_hand():
  # Means (2, 3) and (1, 1): 1 + 4; the batches need not be of one size.
  real, fake = jnp.asarray([[1.0, 2], [3, 4]]), jnp.asarray([[0.0, 0], [2, 2], [1, 1]])
  assert losses.feature_matching(real, fake) == 5
  assert losses.feature_matching(real.reshape(2, 1, 2), fake.reshape(3, 1, 2)) == 5
  slope = jax.grad(losses.feature_matching, 1)(real, fake)
  np.testing.assert_allclose(slope, np.broadcast_to([-2 / 3, -4 / 3], (3, 2)), 1e-6)
  np.testing.assert_allclose(losses.feature_matching(jnp.full((1, 1), BIG), jnp.zeros((1, 1))), BIG**2, 1e-6)


def test_historical_averaging_by_hand():
  params = {'w': jnp.asarray([1.0, 2.0]), 'b': jnp.asarray(3.0)}
  average = {'w': jnp.asarray([0.0, 0.0]), 'b': jnp.asarray(1.0)}
  assert losses.historical_averaging(params, average) == 1 + 4 + 4
  slopes = jax.grad(losses.historical_averaging, (0, 1))(params, average)
  np.testing.assert_array_equal(slopes[0]['w'], [2, 4])
  np.testing.assert_array_equal(slopes[1]['w'], [0, 0])
  assert losses.historical_averaging({}, {}) == 0
  with pytest.raises(ValueError, match='average: got the tree'):
    losses.historical_averaging(params, {'w': average['w']})


def test_historical_averaging_finds_the_equilibrium_of_the_papers_game():
  """min_x max_y (f(x) - 1)(y - 1), f(x) = x below 0 and x^2 above: from (-1, 2.5) near (1, 1) in the end."""

  def value(x, y):
    return (jnp.where(x < 0, x, jnp.square(x)) - 1) * (y - 1)

  def step(state, t):
    (x, y), average = state
    own = {'x': x, 'y': y}
    average = jax.tree.map(lambda a, p: a + (p - a) / (t + 1), average, own)
    pull = jax.grad(losses.historical_averaging)(own, average)
    x_slope, y_slope = jax.grad(value, (0, 1))(x, y)
    return ((x - 0.05 * (x_slope + 0.5 * pull['x']), y + 0.05 * (y_slope - 0.5 * pull['y'])), average), None

  start = (jnp.asarray(-1.0), jnp.asarray(2.5))
  zero = {'x': jnp.asarray(0.0), 'y': jnp.asarray(0.0)}
  middle, _ = jax.lax.scan(step, (start, zero), jnp.arange(1000))
  (end, _), _ = jax.lax.scan(step, middle, jnp.arange(1000, 5000))
  # Golden, by a program that counts the average from another step.
  np.testing.assert_allclose(middle[0], (1.182, 0.915), atol=5e-3)
  np.testing.assert_allclose(end, (1.056, 1.007), atol=5e-3)


def test_infogan_categorical_information():
  codes, logits = jnp.arange(10), jnp.zeros((10, 10))
  np.testing.assert_allclose(losses.infogan_categorical_information(codes, logits), np.zeros(10), atol=1e-6)
  sure = losses.infogan_categorical_information(codes, BIG * jnp.eye(10))
  np.testing.assert_allclose(sure, np.full(10, np.log(10)), 1e-6)
  np.testing.assert_allclose(losses.infogan_categorical_information(codes, -BIG * jnp.eye(10)), np.full(10, -BIG))
  np.testing.assert_allclose(losses.infogan_mutual_information(jnp.asarray([-1.0, BIG]), entropy=3.0), [2, BIG])


def test_infogan_gaussian_information():
  # Golden: with deviation one the best E log q is -0.918939 a code.
  codes = jnp.asarray([[0.3, -0.2], [0.9, 0.0]])
  best = losses.infogan_gaussian_information(codes, codes, jnp.zeros((1, 2)), entropy=0.0)
  np.testing.assert_allclose(best, [-2 * 0.918939] * 2, 1e-5)
  # The bound of a uniform code c seen through normal noise: x = c, q = N(x, s^2) cannot beat H(c) + max log q.
  got = losses.infogan_gaussian_information(codes, codes + 0.1, jnp.full((2, 2), np.log(0.04)), entropy=2 * np.log(2))
  expected = 2 * (np.log(2) - 0.5 * np.log(2 * np.pi * 0.04) - 0.01 / 0.08)
  np.testing.assert_allclose(got, [expected] * 2, 1e-5)
  far = losses.infogan_gaussian_information(jnp.full((1, 1), BIG), jnp.zeros((1, 1)), jnp.zeros((1, 1)), entropy=0.0)
  np.testing.assert_allclose(far, [-(BIG**2) / 2], 1e-6)


def test_a_label_that_is_no_class_is_nan():
  logits, labels = np.zeros((4, 2)), np.asarray([-1, -2, 2, 1])
  for nats in (
    jax.jit(losses.auxiliary_classifier)(logits, labels),
    jax.jit(losses.twin_auxiliary_classifier)(logits, logits, labels),
    jax.jit(losses.infogan_categorical_information)(labels, logits),
    jax.jit(losses.multi_hinge)(logits, labels),
  ):
    np.testing.assert_array_equal(np.isnan(nats), [True, True, True, False])


def test_auxiliary_classifiers_are_cross_entropies():
  logits, twin = (jnp.asarray(RANDOM.normal(size=(4, 3)), jnp.float32) for _ in range(2))
  labels = jnp.asarray([0, 2, 1, 1])
  of = lambda logits: -scipy.special.log_softmax(np.asarray(logits, np.float64), -1)[np.arange(4), labels]
  np.testing.assert_allclose(losses.auxiliary_classifier(logits, labels), of(logits), 1e-5)
  np.testing.assert_allclose(losses.twin_auxiliary_classifier(logits, twin, labels), of(logits) - of(twin), 1e-5)
  np.testing.assert_array_equal(losses.twin_auxiliary_classifier(logits, logits, labels), np.zeros(4))
  wrong = losses.auxiliary_classifier(jnp.asarray([[BIG, -BIG]]), jnp.asarray([1]))
  np.testing.assert_array_equal(wrong, [2 * BIG])
  both = losses.twin_auxiliary_classifier(jnp.asarray([[BIG, -BIG]]), jnp.asarray([[0.0, 0.0]]), jnp.asarray([1]))
  np.testing.assert_array_equal(both, [2 * BIG])


def test_classifiers_of_two_examples():
  """Numbers worked out in double precision; the generator's is the difference of two."""
  logits, twin = jnp.asarray([[2, 0.5, -1], [0, 1, 0.3]]), jnp.asarray([[0.5, 0.2, 0.1], [1, -0.5, 0]])
  labels = jnp.asarray([0, 2])
  np.testing.assert_allclose(losses.auxiliary_classifier(logits, labels), [0.2413112967, 1.3229740119], 1e-6)
  np.testing.assert_allclose(losses.auxiliary_classifier(twin, labels), [0.8800989458, 1.4643687841], 1e-6)
  np.testing.assert_allclose(losses.twin_auxiliary_classifier(logits, twin, labels).mean(), -0.3900912107, 1e-6)
  np.testing.assert_allclose(losses.auxiliary_classifier(logits, labels).mean(), 0.7821426543, 1e-6)
  np.testing.assert_allclose(losses.multi_hinge(logits, labels).mean(), 0.7333333333, 1e-6)
  linear = [losses.multi_hinge(of, labels, clamp=False).mean() for of in (logits, twin)]
  np.testing.assert_allclose(linear, [0.3166666667, 0.9666666667], 1e-6)


def test_hinge_of_three_examples():
  real, fake = jnp.asarray([2, 0.3, -0.5]), jnp.asarray([-1.5, -0.2, 0.4])
  np.testing.assert_allclose(losses.hinge_discriminator(real, fake).mean(), 1.4666666667, 1e-6)
  np.testing.assert_allclose(losses.hinge_generator(fake).mean(), 0.4333333333, 1e-6)


def test_information_bound_is_exact_for_the_true_posterior():
  # c uniform on 3 classes, x = c + unit noise: Q the true posterior makes the bound the information itself.
  x = np.linspace(-8, 10, 2001)
  density = np.exp(-((x[:, None] - np.arange(3)) ** 2) / 2) / np.sqrt(2 * np.pi)
  logits = jnp.asarray(np.log(density), jnp.float32)
  bound = sum(
    np.sum(density[:, c] / 3 * losses.infogan_categorical_information(jnp.full(2001, c), logits)) for c in range(3)
  ) * (x[1] - x[0])
  marginal = density.mean(1)
  exact = np.sum(density / 3 * np.log(density / marginal[:, None])) * (x[1] - x[0])
  np.testing.assert_allclose(bound, exact, 1e-4)
  assert dist.categorical_entropy(jnp.zeros((1, 3)))[0] > bound
