"""Units and dequantization."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from dgm_jax import distributions as dist
from dgm_jax import losses

KEY = jax.random.key(3)
BIG = 1e9


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
    y = losses.dequantize(KEY, x, bits=bits)
    assert y.dtype == jnp.float32 and y.max() < 1
    np.testing.assert_array_equal(jnp.floor(y * 2**bits), x)


def test_dequantize_noise_is_uniform():
  n = 50_000
  for dtype in (jnp.uint8, jnp.float32):
    noise = losses.dequantize(KEY, jnp.full(n, 7, dtype)) * 256 - 7
    # Mean 1/2 and variance 1/12; the variance of the variance is 1/180 n.
    assert abs(noise.mean() - 0.5) < 4 / np.sqrt(12 * n)
    assert abs(noise.var() - 1 / 12) < 4 / np.sqrt(180 * n)


def test_change_of_variables_by_hand():
  # x = e^z: log p(x) = log N(ln x; 0, 1) - ln x, the log-normal density.
  x = jnp.asarray([0.5, 3.0])
  got = losses.change_of_variables(dist.standard_normal_log_prob(jnp.log(x)[:, None]), -jnp.log(x))
  np.testing.assert_allclose(got, scipy.stats.lognorm(1).logpdf(x), 1e-6)
  np.testing.assert_array_equal(
    losses.change_of_variables(jnp.asarray([BIG, -BIG]), jnp.asarray([BIG, -BIG])), [2e9, -2e9]
  )


@pytest.mark.parametrize('alpha', [0.05, 1e-6])
def test_logit_transform_log_determinant_is_the_jacobians(alpha):
  x = jnp.asarray([[0.0, 0.2, 0.999], [0.5, 1.0, 1e-3]])
  y, log_det = losses.logit_transform(x, alpha=alpha)
  jacobian = jax.vmap(jax.jacobian(lambda x: losses.logit_transform(x, alpha=alpha)[0]))(x)
  np.testing.assert_allclose(log_det, np.linalg.slogdet(np.asarray(jacobian, np.float64))[1], 1e-4)
  np.testing.assert_allclose(losses.logit_transform_inverse(y, alpha=alpha), x, atol=2e-7)
  # The program's form: softplus(y) + softplus(-y) + log(1 - 2 alpha) a dimension.
  softplus = lambda y: np.logaddexp(0, np.asarray(y, np.float64))
  np.testing.assert_allclose(log_det, (softplus(y) + softplus(-y) + np.log1p(-2 * alpha)).sum(-1), 1e-4)


def test_logit_transform_by_hand():
  # 1/2 -> 0 with slope 4 (1 - 2 alpha); 1 -> logit(0.95) = ln 19.
  y, log_det = losses.logit_transform(jnp.asarray([[0.5], [1.0], [0.0]]))
  np.testing.assert_allclose(y[:, 0], [0, np.log(19), -np.log(19)], atol=1e-6)
  np.testing.assert_allclose(log_det[0], np.log(4 * 0.9), 1e-6)
  np.testing.assert_array_equal(losses.logit_transform_inverse(jnp.asarray([BIG, -BIG])), [1, 0])
  # With the smallest margin the end still has digits: logit(1e-6) = -13.8155.
  np.testing.assert_allclose(losses.logit_transform(jnp.ones((1, 1)), alpha=1e-6)[0], [[13.81551]], 1e-5)
