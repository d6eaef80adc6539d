"""Logistic distributions, continuous and discretized to pixel values; one event axis, the last."""

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Float32

from dgm_jax import shapes
from dgm_jax.distributions import stable

# Beyond this |log scale|, float32 cannot tell a logistic on [-1, 1] from its limit.
_LOG_SCALE_BOUND = 30.0


def discretized_logistic_log_prob(
  x: Float[ArrayLike, '*#B #D'],
  mean: Float[ArrayLike, '*#B #D'],
  log_scale: Float[ArrayLike, '*#B #D'],
  levels: int = 256,
) -> Float32[Array, '*B']:
  """Log-probability in nats of pixel values under logistics integrated over each bin, summed over the last axis.

  P(v) = s(b) - s(a) with the sigmoid s at the bin's edges a < b; the first bin reaches down to -inf, the
  last one up to +inf. Evaluated as log s(b) + log s(-a) + log(1 - exp(a - b)), which never cancels.

  Args:
    x: [..., D] in [-1, 1], the value v of 0..levels-1 at 2 v / (levels - 1) - 1; rounded to the nearest.
    mean: [..., D] on the scale of x.
    log_scale: [..., D] on the scale of x; clipped to [-30, 30].
    levels: number of values.

  Returns:
    [...] nats, float32.

  Raises:
    ValueError: the arguments do not broadcast at one rank.

  Reference: Salimans et al. 2017, arXiv:1701.05517, equation 2.
  """
  x, mean, log_scale = shapes.events(x=x, mean=mean, log_scale=log_scale)
  return jnp.sum(_discretized(x, mean, log_scale, levels), -1)


def _discretized(x: Array, mean: Array, log_scale: Array, levels: int) -> Array:
  """The log-probability of each value."""
  # In units of one bin the edges are exact and shared by neighbours: the sum over all values telescopes to one.
  half = (levels - 1) / 2
  value, mean = jnp.round(x * half + half), mean * half + half
  width = jnp.exp(-jnp.clip(log_scale, -_LOG_SCALE_BOUND, _LOG_SCALE_BOUND)) / half
  below = jnp.where(value <= 0, 0.0, stable.softplus((value - 0.5 - mean) * width))
  above = jnp.where(value >= levels - 1, 0.0, stable.softplus((mean - value - 0.5) * width))
  inside = jnp.where((value <= 0) | (value >= levels - 1), 0.0, jnp.log(-jnp.expm1(-width)))
  return inside - below - above
