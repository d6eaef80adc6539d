"""Vector quantization: straight-through gradients, k-means, Lloyd's constants."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dgm_jax import losses
from dgm_jax.nn import quantize

RANDOM = np.random.default_rng(9)
BOOK = jnp.asarray(RANDOM.normal(size=(5, 3)), jnp.float32)
Z = jnp.asarray(RANDOM.normal(size=(2, 4, 3)), jnp.float32)
BIG = 1e9


def test_the_nearest_code_is_found():
  quantized = losses.vector_quantize(Z, BOOK)
  distances = np.square(np.asarray(Z)[..., None, :] - np.asarray(BOOK)).sum(-1)
  np.testing.assert_array_equal(quantized.codes, distances.argmin(-1))
  np.testing.assert_allclose(quantized.vectors, np.asarray(BOOK)[distances.argmin(-1)], 1e-6)
  np.testing.assert_array_equal(losses.vector_quantize(BOOK, BOOK).codes, np.arange(5))
  assert losses.vector_quantize(Z[:0], BOOK).codes.shape == (0, 4)
  far = losses.vector_quantize(jnp.asarray([[BIG], [-BIG]]), jnp.asarray([[-1.0], [1.0]]))
  np.testing.assert_array_equal(far.codes, [1, 0])


def test_the_nearest_code_is_found_far_from_zero():
  z = np.float32(100 + 0.1 * RANDOM.normal(size=(500, 4)))
  book = np.float32(100 + 0.1 * RANDOM.normal(size=(16, 4)))
  distances = np.square(z.astype('f8')[:, None] - book.astype('f8')).sum(-1)
  for codes in (jax.jit(losses.vector_quantize)(z, book).codes, jax.jit(quantize.nearest)(z, book)):
    np.testing.assert_array_equal(codes, distances.argmin(-1))


def test_a_code_that_the_codebook_has_not_is_nan_and_never_the_last():
  z, codes = Z[0, :3], jnp.asarray([-1, 5, 4])

  @jax.jit
  def of(codes):
    losses_of = losses.codebook_loss(z, BOOK, codes), losses.commitment_loss(z, BOOK, codes)
    return *losses_of, losses.codebook_ema(jnp.ones(5), BOOK, z, codes, decay=0.5), losses.perplexity(codes, 5)

  *both, book, perplexity = of(codes)
  np.testing.assert_array_equal(np.isnan(both), [[True, True, False]] * 2)
  np.testing.assert_array_equal(book.counts, [0.5, 0.5, 0.5, 0.5, 1.0])
  np.testing.assert_allclose(book.sums[4], (BOOK[4] + z[2]) / 2, rtol=1e-6)
  assert np.isnan(perplexity) and np.isnan(of(jnp.asarray([4, 4, 5]))[-1]) and of(jnp.asarray([4, 4, 4]))[-1] == 1


def test_the_gradient_goes_straight_through():
  loss = lambda z, book: jnp.sum(jnp.sin(losses.vector_quantize(z, book).vectors))
  by_z, by_book = jax.grad(loss, (0, 1))(Z, BOOK)
  np.testing.assert_array_equal(by_z, jnp.cos(losses.vector_quantize(Z, BOOK).vectors))
  np.testing.assert_array_equal(by_book, np.zeros((5, 3)))


def test_codebook_and_commitment_losses_by_hand():
  # z = (1, 2) on code (0, 1): 1 + 1 each; the slopes 2 (e - z) and 2 (z - e).
  z, book, codes = jnp.asarray([[1.0, 2.0]]), jnp.asarray([[5.0, 5.0], [0.0, 1.0]]), jnp.asarray([1])
  np.testing.assert_array_equal(losses.codebook_loss(z, book, codes), [2])
  np.testing.assert_array_equal(losses.commitment_loss(z, book, codes), [2])
  slopes = jax.grad(lambda z, book: losses.codebook_loss(z, book, codes).sum(), (0, 1))(z, book)
  np.testing.assert_array_equal(slopes[0], [[0, 0]])
  np.testing.assert_array_equal(slopes[1], [[0, 0], [-2, -2]])
  slopes = jax.grad(lambda z, book: losses.commitment_loss(z, book, codes).sum(), (0, 1))(z, book)
  np.testing.assert_array_equal(slopes[0], [[2, 2]])
  np.testing.assert_array_equal(slopes[1], np.zeros((2, 2)))
  np.testing.assert_allclose(losses.commitment_loss(z * BIG, book, codes), [5 * BIG**2], 1e-6)
  np.testing.assert_allclose(losses.codebook_loss(z * BIG, book, codes), [5 * BIG**2], 1e-6)


def test_codebook_ema_without_decay_is_a_step_of_k_means():
  z = jnp.asarray(RANDOM.normal(size=(200, 3)), jnp.float32)
  counts, sums, book = jnp.ones(5), BOOK, BOOK
  distortions = []
  for _ in range(4):
    codes = losses.vector_quantize(z, book).codes
    distortions.append(float(losses.commitment_loss(z, book, codes).mean()))
    counts, sums, book = losses.codebook_ema(counts, sums, z, codes, decay=0.0)
    means = np.stack([np.asarray(z)[np.asarray(codes) == k].mean(0) for k in range(5)])
    np.testing.assert_allclose(book, means, atol=2e-6)
    np.testing.assert_array_equal(counts, np.bincount(codes, minlength=5))
  assert distortions == sorted(distortions, reverse=True)


def test_codebook_ema_by_hand():
  # Decay 3/4: counts (3/4 + 2/4, 3/4), sums 3/4 (1, 5) + 1/4 (6, 0); smoothing moves less than 1e-5.
  got = losses.codebook_ema(
    jnp.ones(2), jnp.asarray([[1.0], [5.0]]), jnp.asarray([[2.0], [4.0]]), jnp.asarray([0, 0]), decay=0.75
  )
  np.testing.assert_allclose(got.counts, [1.25, 0.75])
  np.testing.assert_allclose(got.sums, [[2.25], [3.75]])
  np.testing.assert_allclose(got.vectors, [[1.8], [5.0]], 2e-5)
  # A code that is never hit keeps its vector: count and sum shrink together.
  far = losses.codebook_ema(
    jnp.ones(1), jnp.full((1, 1), BIG), jnp.full((1, 1), BIG), jnp.zeros(1, jnp.int32), decay=0.5
  )
  np.testing.assert_allclose(far.vectors, [[BIG]], 1e-5)


def test_a_codebook_of_no_counts_is_zero():
  both = jax.jit(jax.value_and_grad(lambda sums, counts: losses.codebook_vectors(counts, sums).sum(), (0, 1)))
  value, slopes = both(np.zeros((3, 2)), np.zeros(3))
  assert value == 0 and all(np.isfinite(slope).all() for slope in slopes)
  none = jax.jit(losses.codebook_ema)(np.ones(3), np.ones((3, 2)), np.zeros((0, 2)), np.zeros(0, 'i4'), decay=0.0)
  np.testing.assert_array_equal(none.vectors, np.zeros((3, 2)))


def test_codebook_ema_passes_no_gradient_to_z():
  codes = jnp.zeros((2, 4), jnp.int32)
  slope = jax.grad(lambda z: losses.codebook_ema(jnp.ones(5), BOOK, z, codes, decay=0.9).vectors.sum())(Z)
  np.testing.assert_array_equal(slope, np.zeros_like(Z))


def test_codebook_ema_rests_at_the_conditional_means():
  z = jnp.asarray(RANDOM.normal(size=(64, 1)), jnp.float32)
  codes = (z[:, 0] > 0).astype(jnp.int32)
  step = jax.jit(lambda state: losses.codebook_ema(*state, z, codes, decay=0.9)[:2])
  state = (jnp.ones(2), jnp.zeros((2, 1)))
  for _ in range(150):
    state = step(state)
  expected = [[np.asarray(z)[np.asarray(codes) == k].mean()] for k in (0, 1)]
  np.testing.assert_allclose(losses.codebook_ema(*state, z, codes, decay=0.9).vectors, expected, atol=1e-4)


@pytest.mark.parametrize(('codes', 'centres', 'distortion'), [(2, 0.7979, 0.3634), (4, 1.5104, 0.1175)])
def test_codes_of_a_normal_are_lloyd_and_maxs(codes, centres, distortion):
  z = jax.random.normal(jax.random.key(0), (20_000, 1))
  state = (jnp.ones(codes), jnp.linspace(-1, 1, codes)[:, None], jnp.linspace(-1, 1, codes)[:, None])

  @jax.jit
  def step(state):
    return losses.codebook_ema(*state[:2], z, losses.vector_quantize(z, state[2]).codes, decay=0.0)

  for _ in range(60):
    state = step(state)
  assert abs(state[2].max() - centres) < 0.03
  found = losses.commitment_loss(z, state[2], losses.vector_quantize(z, state[2]).codes).mean()
  assert abs(found - distortion) < 0.01


def test_perplexity_by_hand():
  assert losses.perplexity(jnp.asarray([3, 3, 3]), 8) == 1
  np.testing.assert_allclose(losses.perplexity(jnp.arange(8), 8), 8, 1e-6)
  # Shares 1/2, 1/4, 1/4: entropy 1.5 ln 2.
  np.testing.assert_allclose(losses.perplexity(jnp.asarray([[0, 0], [1, 2]]), 512), 2**1.5, 1e-6)
