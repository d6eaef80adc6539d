"""Exact likelihoods: units, changes of variables and dequantization."""

import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Float32, Key, Num

# Significant bits of float32: with value and noise on this grid their sum is exact.
_MANTISSA = 24


def bits_per_dim(nats: Float[ArrayLike, '*B'], dims: int) -> Float32[Array, '*B']:
  """Negative log-likelihood in bits per dimension, per example: nats / (dims ln 2).

  For a density over data scaled to [0, 1] from 2^n values, the likelihood of one value is the density
  divided by 2^n: add n to the result.

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


def dequantize(key: Key[Array, ''], x: Num[ArrayLike, '*S'], bits: int = 8) -> Float32[Array, '*S']:
  """Spreads integer values uniformly over their bins: (x + u) / 2^bits, u in [0, 1), on every axis.

  floor(2^bits y) = x exactly: the noise has just the digits that float32 has left, so that no sum rounds
  up into the next bin.

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
