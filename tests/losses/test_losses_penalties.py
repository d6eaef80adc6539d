"""Penalties of linear and quadratic critics in closed form, and of critics without a slope."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dgm_jax import losses

KEY = jax.random.key(7)
RANDOM = np.random.default_rng(7)
REAL, FAKE = (jnp.asarray(RANDOM.normal(size=(6, 2, 2, 3)), jnp.float32) for _ in range(2))
SLOPE = jnp.asarray(RANDOM.normal(size=(1, 2, 2, 3)), jnp.float32)


def linear(slope):
  return lambda x: jnp.sum(x * slope, (1, 2, 3)) + 0.3


def test_penalties_of_a_linear_critic():
  norm = np.linalg.norm(SLOPE)
  np.testing.assert_allclose(losses.gradient_penalty(linear(SLOPE), REAL, FAKE, KEY), [(norm - 1) ** 2] * 6, 1e-5)
  np.testing.assert_allclose(losses.gradient_penalty(linear(SLOPE), REAL, FAKE, KEY, target=0.0), [norm**2] * 6, 1e-5)
  np.testing.assert_allclose(losses.r1_penalty(linear(SLOPE), REAL), [norm**2 / 2] * 6, 1e-5)
  # d/dw (|w| - 1)^2 = 2 (1 - 1 / |w|) w.
  slope = jax.grad(lambda w: losses.gradient_penalty(linear(w), REAL, FAKE, KEY).mean())(SLOPE)
  np.testing.assert_allclose(slope, 2 * (1 - 1 / norm) * SLOPE, 1e-5)
  np.testing.assert_allclose(jax.grad(lambda w: losses.r1_penalty(linear(w), REAL).mean())(SLOPE), SLOPE, 1e-5)


def test_a_critic_without_slope_has_a_gradient():
  zero = jnp.zeros_like(SLOPE)
  np.testing.assert_array_equal(losses.gradient_penalty(linear(zero), REAL, FAKE, KEY), np.ones(6))
  np.testing.assert_array_equal(losses.r1_penalty(linear(zero), REAL), np.zeros(6))
  slope = jax.grad(lambda w: losses.gradient_penalty(linear(w), REAL, FAKE, KEY).mean())(zero)
  np.testing.assert_array_equal(slope, zero)
  np.testing.assert_array_equal(losses.path_length(lambda w: 0 * w, jnp.ones((3, 2)), KEY), np.zeros(3))


def test_gradient_penalty_is_taken_on_the_segment_with_one_weight_an_example():
  # The slope of |x|^2 / 2 is x itself: with real 0 and fake a constant c, its norm is (1 - e) c sqrt(12).
  quadratic = lambda x: 0.5 * jnp.sum(jnp.square(x), (1, 2, 3))
  n = 2000
  real, fake = jnp.zeros((n, 2, 2, 3)), jnp.ones((n, 2, 2, 3))
  norms = jnp.sqrt(losses.gradient_penalty(quadratic, real, fake, KEY, target=0.0) / 12)
  # One weight an example: the norms are uniform. One a pixel would draw them together at sqrt(1/3).
  assert abs(norms.mean() - 0.5) < 4 / np.sqrt(12 * n)
  assert abs(norms.var() - 1 / 12) < 4 / np.sqrt(180 * n)
  same = losses.gradient_penalty(quadratic, REAL, REAL, KEY, target=0.0)
  np.testing.assert_allclose(same, jnp.sum(jnp.square(REAL), (1, 2, 3)), 1e-5)
  np.testing.assert_allclose(losses.r1_penalty(quadratic, FAKE), quadratic(FAKE), 1e-5)


def test_penalised_dual_has_the_closed_form_gap():
  """Critic s x on points 0 and D: the best s is 1 + D / (2 weight), the gap D s = 1.05 at D = 1, weight 10."""
  real, fake = jnp.ones((1, 1)), jnp.zeros((1, 1))

  def loss(slope, weight):
    critic = lambda x: slope * x[:, 0]
    penalty = losses.gradient_penalty(critic, real, fake, KEY)
    return jnp.mean(losses.wasserstein_critic(critic(real), critic(fake)) + weight * penalty)

  for weight, gap in ((10.0, 1.05), (1.0, 1.5), (0.1, 6.0)):
    np.testing.assert_allclose(jax.grad(loss)(jnp.asarray(gap), weight), 0, atol=1e-5)


def test_penalties_at_the_extremes():
  steep = linear(SLOPE * 1e9)
  norm = np.linalg.norm(SLOPE) * 1e9
  np.testing.assert_allclose(losses.gradient_penalty(steep, REAL, FAKE, KEY), [norm**2] * 6, 1e-5)
  np.testing.assert_allclose(losses.r1_penalty(steep, REAL), [norm**2 / 2] * 6, 1e-5)
  assert losses.r1_penalty(steep, REAL[:0]).shape == (0,)
  assert losses.gradient_penalty(steep, REAL[:1], FAKE[:1], KEY).shape == (1,)


def test_a_critic_in_bfloat16_is_penalised_in_float32():
  narrow = lambda x: linear(SLOPE)(x.astype(jnp.bfloat16)).astype(jnp.bfloat16)
  penalty = losses.r1_penalty(narrow, REAL.astype(jnp.bfloat16))
  assert penalty.dtype == jnp.float32
  np.testing.assert_allclose(penalty, [jnp.sum(jnp.square(SLOPE)) / 2] * 6, 0.02)


def test_clip_parameters():
  params = {'w': jnp.asarray([-1e9, -0.005, 0.02]), 'b': jnp.asarray(0.5, jnp.bfloat16)}
  clipped = losses.clip_parameters(params, bound=0.01)
  np.testing.assert_allclose(clipped['w'], [-0.01, -0.005, 0.01])
  assert clipped['b'].dtype == jnp.bfloat16 and float(clipped['b']) <= 0.0101


def test_orthogonal_regularization_by_hand():
  # Columns (1, 0), (1, 2): inner product 1, twice in the Gram matrix; lengths do not count.
  kernel = jnp.asarray([[1.0, 1.0], [0.0, 2.0]])
  assert losses.orthogonal_regularization({'kernel': kernel, 'bias': jnp.ones(2)}) == 2
  assert losses.orthogonal_regularization({'a': kernel, 'b': kernel}) == 4
  assert losses.orthogonal_regularization(3 * jnp.eye(4)) == 0
  assert losses.orthogonal_regularization(kernel.reshape(1, 2, 1, 2)) == 2
  # The gradient is 4 W (W^T W * (1 - I)).
  gram = np.asarray(kernel.T @ kernel) * (1 - np.eye(2))
  np.testing.assert_allclose(jax.grad(losses.orthogonal_regularization)(kernel), 4 * np.asarray(kernel) @ gram)
  np.testing.assert_allclose(losses.orthogonal_regularization(kernel * 1e4), 2e16, 1e-6)


def test_path_length_of_a_linear_generator():
  # |J^T y|^2 averages to the sum of J's squares over the number of pixels.
  jacobian = jnp.asarray(RANDOM.normal(size=(3, 2 * 2 * 1)), jnp.float32)
  generator = lambda w: (w @ jacobian).reshape(-1, 2, 2, 1)
  lengths = losses.path_length(generator, jnp.zeros((4000, 3)), KEY)
  expected = float(jnp.sum(jnp.square(jacobian))) / 4
  squares = np.asarray(lengths) ** 2
  assert abs(squares.mean() - expected) < 4 * squares.std() / np.sqrt(4000)
  # Of a scaling by s in one dimension, |s y|: the mean of |N(0, 1)| is sqrt(2 / pi).
  lengths = losses.path_length(lambda w: -3 * w, jnp.zeros((4000, 1)), KEY)
  assert abs(lengths.mean() - 3 * np.sqrt(2 / np.pi)) < 4 * 3 * np.sqrt((1 - 2 / np.pi) / 4000)
  np.testing.assert_allclose(losses.path_length(lambda w: -3e9 * w, jnp.zeros((4000, 1)), KEY), lengths * 1e9, 1e-5)


@pytest.mark.parametrize('batch', [0, 1])
def test_path_length_of_small_batches(batch):
  assert losses.path_length(lambda w: w, jnp.ones((batch, 2)), KEY).shape == (batch,)


def test_orthogonal_regularization_of_three_outputs():
  """Numbers worked out by hand: rows are outputs. The slope is 4 (W W^T off the diagonal) W, a program's half of it."""
  rows = jnp.asarray([[1.0, 2, 0], [-1, 0.5, 1], [0, 1, 1]])
  value, slope = jax.value_and_grad(lambda kernel: losses.orthogonal_regularization({'kernel': kernel}))(rows.T)
  np.testing.assert_allclose(value, 12.5, rtol=1e-6)
  np.testing.assert_allclose(slope.T, [[0, 8, 8], [0, 6, 6], [2, 19, 6]], rtol=1e-6, atol=1e-6)
