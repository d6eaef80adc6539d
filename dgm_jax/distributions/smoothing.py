"""Smoothings of bits: distributions r(zeta|z) of numbers zeta in [0, 1] given a bit z, whose mixture can be inverted.

For a bit of probability q, zeta is the inverse at rho, uniform in (0, 1), of the distribution function of the mixture
(1 - q) r(zeta|0) + q r(zeta|1). So zeta has a gradient in q. The bits are given by their log-odds, q = sigmoid(logits).

Axes: ... any axes, the same for all arguments of a function.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Num

__all__ = ['SMOOTHINGS', 'Sample', 'Smoothing', 'draw', 'exponential', 'power', 'spike_exponential']

HALVINGS = 24  # of the interval that holds an inverse without a closed form
LEAST = 1e-7  # numbers of the power function keep this distance from 0 and 1, where its densities have no bound


class Smoothing(NamedTuple):
  """A smoothing as functions of arrays [...]."""

  inverse: Callable  # (rho, logits) -> zeta
  conditional: Callable  # (rho, z) -> zeta of the bit z
  density: Callable  # (zeta, z) -> density of zeta given the bit z; a spike at 0 has none
  mean: Callable  # z, or its probability -> mean of zeta
  log_odds: Callable | None  # zeta -> log r(zeta|1) - log r(zeta|0); None: zeta is 0 if, and only if, the bit is


class Sample(NamedTuple):
  """Smoothed bits, with the bits."""

  zeta: jax.Array  # [...], with a gradient in the logits
  bits: jax.Array  # [...] of 0 and 1, without one
  expected: jax.Array  # [...] mean of the bit given zeta: with a gradient if the densities overlap, else the bits


def draw(
  smoothing: Smoothing, rho: Float[Array, '*S'], other: Float[Array, '*S'], logits: Float[Array, '*S']
) -> Sample:
  """Samples smoothed bits of these log-odds.

  Args:
    smoothing: the smoothing.
    rho: [...] uniform noise.
    other: [...] uniform noise of the bits given zeta, if the densities overlap.
    logits: [...] log-odds of the bits.

  Returns:
    zeta, bits and the bits' means given zeta.

  Reference: Vahdat et al. 2018, arXiv:1802.04920, section 3.
  """
  zeta = smoothing.inverse(rho, logits)
  if smoothing.log_odds is None:
    bits = jax.lax.stop_gradient((rho > jax.nn.sigmoid(-logits)).astype(zeta.dtype))
    return Sample(zeta, bits, bits)
  expected = jax.nn.sigmoid(logits + smoothing.log_odds(zeta))
  return Sample(zeta, jax.lax.stop_gradient((other < expected).astype(zeta.dtype)), expected)


def spike_exponential(beta: float) -> Smoothing:
  """Returns the spike-and-exponential smoothing: zeta = 0 for the bit 0, else of density b e^(b zeta) / (e^b - 1).

  Args:
    beta: b > 0; the greater, the closer to 1 is zeta.

  Reference: Rolfe 2017, arXiv:1609.02200, section 2.1.
  """
  scale = jnp.expm1(beta)

  @jax.custom_jvp
  def inverse(rho: Float[Array, '*S'], logits: Float[Array, '*S']) -> Float[Array, '*S']:
    q, rest = jax.nn.sigmoid(logits), jax.nn.sigmoid(-logits)
    return conditional(jnp.maximum(rho - rest, 0) / jnp.maximum(q, jnp.finfo(q.dtype).tiny), jnp.ones_like(q))

  @inverse.defjvp
  def _(primals, tangents):
    (rho, logits), (along_rho, along_logits) = primals, tangents
    zeta, q, rest = inverse(rho, logits), jax.nn.sigmoid(logits), jax.nn.sigmoid(-logits)
    by_logits = rest * jnp.expm1(beta * (1 - zeta)) / beta
    by_rho = scale * jnp.exp(-beta * zeta) / (beta * q)
    return zeta, jnp.where(rho > rest, by_logits * along_logits + by_rho * along_rho, 0)

  def conditional(rho: Num[Array, '*S'], z: Num[Array, '*S']) -> Num[Array, '*S']:
    return z * jnp.minimum(jnp.log1p(rho * scale) / beta, 1)

  def density(zeta: Num[Array, '*S'], z: Num[Array, '*S']) -> Num[Array, '*S']:
    return jnp.where(z > 0, beta * jnp.exp(beta * zeta) / scale, 0)

  def mean(z: Num[Array, '*S']) -> Num[Array, '*S']:
    return z * (-1 / jnp.expm1(-beta) - 1 / beta)

  return Smoothing(inverse=inverse, conditional=conditional, density=density, mean=mean, log_odds=None)


def exponential(beta: float) -> Smoothing:
  """Returns the overlapping exponential smoothing: densities of e^(-b zeta) and e^(b (zeta - 1)) on [0, 1].

  Args:
    beta: b > 0; the greater, the closer to the bit is zeta.

  Reference: Vahdat et al. 2018, arXiv:1802.04920, section 3.1.
  """
  least = jnp.exp(-beta)
  scale = -jnp.expm1(-beta)

  def solve(rho: Array, q: Array, rest: Array) -> Array:
    # m = e^(-b zeta) is the positive root of rest m^2 + half m - q e^-b, by the form without cancellation.
    half = q * least + rho * scale - rest
    root = jnp.sqrt(jnp.square(half) + 4 * rest * q * least)
    tiny = jnp.finfo(q.dtype).tiny
    m = jnp.where(half > 0, 2 * q * least / jnp.maximum(half + root, tiny), (root - half) / jnp.maximum(2 * rest, tiny))
    return jnp.clip(-jnp.log(jnp.clip(m, least, 1)) / beta, 0, 1)

  def density(zeta: Num[Array, '*S'], z: Num[Array, '*S']) -> Num[Array, '*S']:
    return beta * jnp.exp(-beta * jnp.where(z > 0, 1 - zeta, zeta)) / scale

  def cdf(zeta: Array) -> tuple[Array, Array]:
    return -jnp.expm1(-beta * zeta) / scale, least * jnp.expm1(beta * zeta) / scale

  def conditional(rho: Num[Array, '*S'], z: Num[Array, '*S']) -> Num[Array, '*S']:
    return jnp.where(z > 0, 1 + jnp.log(least + rho * scale) / beta, -jnp.log1p(-rho * scale) / beta)

  def mean(z: Num[Array, '*S']) -> Num[Array, '*S']:
    high = 1 / scale - 1 / beta
    return z * high + (1 - z) * (1 - high)

  def log_odds(zeta: Num[Array, '*S']) -> Num[Array, '*S']:
    return beta * (2 * zeta - 1)

  return Smoothing(_mixture(solve, cdf, density), conditional, density, mean, log_odds)


def power(beta: float) -> Smoothing:
  """Returns the overlapping power smoothing: densities zeta^(1/b - 1) / b and (1 - zeta)^(1/b - 1) / b on [0, 1].

  The mixture's inverse has no closed form. It is found by halving the interval, its gradient by the densities.

  Args:
    beta: b > 1; the greater, the closer to the bit is zeta.

  Reference: Vahdat et al. 2018, arXiv:1805.07445, section 4.
  """
  slope = 1 / beta

  def cdf(zeta: Array) -> tuple[Array, Array]:
    return zeta**slope, 1 - (1 - zeta) ** slope

  def solve(rho: Array, q: Array, rest: Array) -> Array:
    def turn(_, ends):
      low, high = ends
      middle = (low + high) / 2
      below, above = cdf(middle)
      under = rest * below + q * above < rho
      return jnp.where(under, middle, low), jnp.where(under, high, middle)

    low, high = jax.lax.fori_loop(0, HALVINGS, turn, (jnp.zeros_like(rho), jnp.ones_like(rho)))
    return jnp.clip((low + high) / 2, LEAST, 1 - LEAST)

  def density(zeta: Num[Array, '*S'], z: Num[Array, '*S']) -> Num[Array, '*S']:
    return slope * jnp.where(z > 0, 1 - zeta, zeta) ** (slope - 1)

  def conditional(rho: Num[Array, '*S'], z: Num[Array, '*S']) -> Num[Array, '*S']:
    return jnp.clip(jnp.where(z > 0, 1 - (1 - rho) ** beta, rho**beta), LEAST, 1 - LEAST)

  def mean(z: Num[Array, '*S']) -> Num[Array, '*S']:
    low = slope / (1 + slope)
    return z * (1 - low) + (1 - z) * low

  def log_odds(zeta: Num[Array, '*S']) -> Num[Array, '*S']:
    return (slope - 1) * (jnp.log1p(-zeta) - jnp.log(zeta))

  return Smoothing(_mixture(solve, cdf, density), conditional, density, mean, log_odds)


def _mixture(solve: Callable, cdf: Callable, density: Callable) -> Callable:
  """Returns the inverse of the mixture's distribution function, with the gradient that the densities give.

  Args:
    solve: (rho, q, 1 - q) -> zeta.
    cdf: zeta -> distribution functions given the bits 0 and 1.
    density: of `Smoothing`.
  """

  @jax.custom_jvp
  def inverse(rho: Float[Array, '*S'], logits: Float[Array, '*S']) -> Float[Array, '*S']:
    return solve(rho, jax.nn.sigmoid(logits), jax.nn.sigmoid(-logits))

  @inverse.defjvp
  def _(primals, tangents):
    (rho, logits), (along_rho, along_logits) = primals, tangents
    zeta, q, rest = inverse(rho, logits), jax.nn.sigmoid(logits), jax.nn.sigmoid(-logits)
    below, above = cdf(zeta)
    whole = rest * density(zeta, jnp.zeros_like(zeta)) + q * density(zeta, jnp.ones_like(zeta))
    return zeta, (along_rho + (below - above) * q * rest * along_logits) / whole

  return inverse


SMOOTHINGS = {'spike_exponential': spike_exponential, 'exponential': exponential, 'power': power}
