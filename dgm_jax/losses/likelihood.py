"""Exact likelihoods: units, changes of variables and dequantization."""

import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Float32, Key, Num

from dgm_jax.internal import shapes

__all__ = ['bits_per_dim', 'change_of_variables', 'dequantize', 'logit_transform', 'logit_transform_inverse']

# Significant bits of float32: with value and noise on this grid their sum is exact.
_MANTISSA = 24


def bits_per_dim(nats: Float[ArrayLike, '*B'], dims: int) -> Float32[Array, '*B']:
  """Converts a negative log-likelihood to bits per dimension, per example: nats / (dims ln 2).

  For a density over data scaled to [0, 1] from 2^n values, the likelihood of one value is the density divided by 2^n:
  add n to the result.

  Args:
    nats: [...] negative log-likelihood in nats.
    dims: number of dimensions of an example, such as H * W * C.

  Returns:
    [...] bits per dimension, float32.

  Raises:
    ValueError: dims is not positive.

  Reference: Theis et al. 2016, arXiv:1511.01844, section 3.1.
  """
  if dims <= 0:
    raise ValueError(f'dims: got {dims}, expected a positive number of dimensions')
  return jnp.asarray(nats, jnp.float32) / (dims * math.log(2))


def dequantize(key: Key[Array, ''], x: Num[ArrayLike, '*S'], *, bits: int = 8) -> Float32[Array, '*S']:
  """Spreads integer values uniformly over their bins: (x + u) / 2^bits, u in [0, 1), on every axis.

  floor(2^bits y) = x exactly: the noise has only the digits that float32 has left, so that no sum is rounded up into
  the next bin.

  Args:
    key: random key.
    x: [...] integers in [0, 2^bits), of any type.
    bits: bits of a value, 1 to 16.

  Returns:
    [...] in [0, 1), float32.

  Raises:
    ValueError: bits is out of range.

  Reference: Theis et al. 2016, arXiv:1511.01844, section 3.1.
  """
  if not 1 <= bits <= 16:
    raise ValueError(f'bits: got {bits}, expected 1 to 16')
  spare = _MANTISSA - bits
  noise = jax.random.bits(key, jnp.shape(x), jnp.uint32) >> (32 - spare)
  return (jnp.asarray(x, jnp.float32) + noise.astype(jnp.float32) * 2.0**-spare) * 2.0**-bits


def change_of_variables(log_pz: Float[ArrayLike, '*B'], log_det: Float[ArrayLike, '*B']) -> Float32[Array, '*B']:
  """Computes the log-density of the data in nats, per example: log p(z) + log |det dz/dx|.

  Args:
    log_pz: [...] log-density of the base variable z = f(x) in nats.
    log_det: [...] log-determinant of the Jacobian of f at x, the sum over all layers.

  Returns:
    [...] nats, float32; to be maximised.

  Raises:
    ValueError: the shapes differ.

  Reference: Dinh et al. 2017, arXiv:1605.08803, equation 3.
  """
  log_pz, log_det = shapes.float32('log_pz[...] log_det[...]', log_pz, log_det)
  return log_pz + log_det


def logit_transform(
  x: Float[ArrayLike, '*B D'], *, alpha: float = 0.05
) -> tuple[Float32[Array, '*B D'], Float32[Array, '*B']]:
  """Maps [0, 1] to the real line, y = logit(alpha + (1 - 2 alpha) x), with its log-determinant in nats.

  Args:
    x: [..., D] in [0, 1], dequantized.
    alpha: margin that keeps the ends finite: 0.05 for RealNVP, 1e-6 for MAF on MNIST.

  Returns:
    y [..., D] and log |det dy/dx| [...] in nats, summed over the last axis; float32.

  Raises:
    ValueError: alpha is not in (0, 1/2), or x has no axis.

  Reference: Dinh et al. 2017, arXiv:1605.08803, section 4.1 (both ends shrunk, as in its program).
  """
  _check_alpha(alpha)
  (x,) = shapes.float32('x[..., D]', x)
  # From both ends, so that 1 - x is precise near 1.
  log_inside = jnp.log(alpha + (1 - 2 * alpha) * x)
  log_outside = jnp.log(alpha + (1 - 2 * alpha) * (1 - x))
  return log_inside - log_outside, jnp.sum(math.log(1 - 2 * alpha) - log_inside - log_outside, -1)


def logit_transform_inverse(y: Float[ArrayLike, '*S'], *, alpha: float = 0.05) -> Float32[Array, '*S']:
  """Inverts `logit_transform`, on every axis.

  Args:
    y: [...] real; values beyond the margin are clipped to [0, 1].
    alpha: the margin of `logit_transform`.

  Returns:
    [...] in [0, 1], float32.

  Raises:
    ValueError: alpha is not in (0, 1/2).

  Reference: Dinh et al. 2017, arXiv:1605.08803, section 4.1.
  """
  _check_alpha(alpha)
  return jnp.clip((jax.nn.sigmoid(jnp.asarray(y, jnp.float32)) - alpha) / (1 - 2 * alpha), 0.0, 1.0)


def _check_alpha(alpha: float) -> None:
  if not 0 < alpha < 0.5:
    raise ValueError(f'alpha: got {alpha}, expected a margin between 0 and 1/2')
