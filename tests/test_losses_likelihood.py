"""Units and dequantization."""

import jax
import jax.numpy as jnp
import numpy as np

from dgm_jax import losses

KEY = jax.random.key(3)


def test_bits_per_dim_of_the_published_units():
  # MNIST: 543.43 nats are 1 bit/dim; CIFAR-10: 6388 nats are 3.
  np.testing.assert_allclose(losses.bits_per_dim(543.43, 784), 1, atol=1e-5)
  np.testing.assert_allclose(losses.bits_per_dim(jnp.asarray([6388.05]), 3072), [3.0], atol=1e-5)


def test_bits_per_dim_of_uniform_pixels_is_eight():
  # The density of uniform data on [0, 1] is 1: 0 nats, plus the 8 bits of a value.
  assert losses.bits_per_dim(jnp.zeros(()), 3072) + 8 == 8
  # NICE on CIFAR-10, a density over [-1, 1]: 5371.78 nats are 4.477 bits/dim.
  np.testing.assert_allclose(losses.bits_per_dim(jnp.asarray(-5371.78), 3072) + 7, 4.477, atol=5e-4)


def test_dequantize_stays_within_its_bin():
  for bits in (1, 5, 8, 16):
    x = jnp.full((1000,), 2**bits - 1, jnp.int32)
    y = losses.dequantize(KEY, x, bits)
    assert y.dtype == jnp.float32 and y.max() < 1
    np.testing.assert_array_equal(jnp.floor(y * 2**bits), x)


def test_dequantize_noise_is_uniform():
  n = 50_000
  for dtype in (jnp.uint8, jnp.float32):
    noise = losses.dequantize(KEY, jnp.full(n, 7, dtype)) * 256 - 7
    # Mean 1/2 and variance 1/12; the variance of the variance is 1/180 n.
    assert abs(noise.mean() - 0.5) < 4 / np.sqrt(12 * n)
    assert abs(noise.var() - 1 / 12) < 4 / np.sqrt(180 * n)
