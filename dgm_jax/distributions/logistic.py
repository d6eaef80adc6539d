"""Logistic distributions, continuous, discretized to pixel values and mixed; one event axis, the last."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Float32, Key

from dgm_jax.distributions import stable
from dgm_jax.internal import shapes

__all__ = [
  'LogisticMixture', 'discretized_logistic_log_prob', 'discretized_logistic_sample', 'logistic_entropy',
  'logistic_log_prob', 'logistic_mixture_log_prob', 'logistic_mixture_sample', 'logistic_mixture_split',
  'logistic_sample',
]  # fmt: skip

# Beyond these, a logistic on [-1, 1] in float32 equals a step, or a constant.
_LOWEST_LOG_SCALE = -30.0
_LEAST_WIDTH = 1e-15
_OUT_OF_REACH = 1e30
# The least log-scale of a component of PixelCNN++.
_MIXTURE_LOG_SCALE_FLOOR = -7.0


class LogisticMixture(NamedTuple):
  """The parameters of a mixture of K discretized logistics over pixels of C channels."""

  logits: jax.Array  # [..., K] unnormalised log-weights of the components
  means: jax.Array  # [..., C, K] on the scale of x, before the coupling
  log_scales: jax.Array  # [..., C, K]
  coefficients: jax.Array  # [..., C (C - 1) / 2, K], of channel 1 on 0, 2 on 0, 2 on 1, ...


def logistic_log_prob(
  x: Float[ArrayLike, '*#B #D'], mean: Float[ArrayLike, '*#B #D'], log_scale: Float[ArrayLike, '*#B #D']
) -> Float32[Array, '*B']:
  """Computes the log-density in nats of independent logistics, summed over the last axis.

  Args:
    x: [..., D].
    mean: [..., D].
    log_scale: [..., D].

  Returns:
    [...] nats, float32.

  Raises:
    ValueError: the arguments do not broadcast at one rank.

  Reference: Dinh et al. 2015, arXiv:1410.8516, section 3.4.
  """
  x, mean, log_scale = shapes.events(x=x, mean=mean, log_scale=log_scale)
  z = (x - mean) * jnp.exp(-log_scale)
  return -jnp.sum(z + log_scale + 2 * stable.softplus(-z), -1)


def logistic_sample(
  key: Key[Array, ''], mean: Float[ArrayLike, '*#B #D'], log_scale: Float[ArrayLike, '*#B #D']
) -> Float32[Array, '*B D']:
  """Samples mean + exp(log_scale) * noise; differentiable in mean and log_scale.

  Args:
    key: random key.
    mean: [..., D].
    log_scale: [..., D].

  Returns:
    [..., D], float32.

  Raises:
    ValueError: the arguments do not broadcast at one rank.

  Reference: Dinh et al. 2015, arXiv:1410.8516, section 3.4.
  """
  mean, log_scale = shapes.events(mean=mean, log_scale=log_scale)
  noise = jax.random.logistic(key, jnp.broadcast_shapes(mean.shape, log_scale.shape))
  return mean + jnp.exp(log_scale) * noise


def logistic_entropy(log_scale: Float[ArrayLike, '*B D']) -> Float32[Array, '*B']:
  """Computes the entropy in nats of independent logistics, summed over the last axis: log scale + 2 each.

  Args:
    log_scale: [..., D].

  Returns:
    [...] nats, float32.

  Raises:
    ValueError: log_scale has no axis.

  Reference: Balakrishnan 1991, Handbook of the Logistic Distribution.
  """
  (log_scale,) = shapes.events(log_scale=log_scale)
  return jnp.sum(log_scale + 2, -1)


def discretized_logistic_log_prob(
  x: Float[ArrayLike, '*#B #D'],
  mean: Float[ArrayLike, '*#B #D'],
  log_scale: Float[ArrayLike, '*#B #D'],
  levels: int = 256,
) -> Float32[Array, '*B']:
  """Computes the log-probability in nats of pixel values under logistics integrated over each bin.

  It is summed over the last axis. P(v) = s(b) - s(a) with the sigmoid s at the bin's edges a < b. The first bin extends
  to -inf and the last one to +inf, so that the probabilities sum to one.

  Args:
    x: [..., D] in [-1, 1], the value v of 0..levels-1 at 2 v / (levels - 1) - 1.
    mean: [..., D] on the scale of x.
    log_scale: [..., D] on the scale of x; floored at -30.
    levels: number of values.

  Returns:
    [...] nats, float32.

  Raises:
    ValueError: the arguments do not broadcast at one rank.

  Reference: Salimans et al. 2017, arXiv:1701.05517, equation 2.
  """
  x, mean, log_scale = shapes.events(x=x, mean=mean, log_scale=log_scale)
  return jnp.sum(_log_bin(x, mean, log_scale, levels), -1)


def discretized_logistic_sample(
  key: Key[Array, ''], mean: Float[ArrayLike, '*#B #D'], log_scale: Float[ArrayLike, '*#B #D'], levels: int = 256
) -> Float32[Array, '*B D']:
  """Samples pixel values from logistics integrated over each bin.

  Args:
    key: random key.
    mean: [..., D] on the scale of the result.
    log_scale: [..., D] on the scale of the result.
    levels: number of values.

  Returns:
    [..., D] on the grid of `levels` values in [-1, 1], float32; passes no gradient.

  Raises:
    ValueError: the arguments do not broadcast at one rank.

  Reference: Salimans et al. 2017, arXiv:1701.05517, equation 2.
  """
  return _to_grid(logistic_sample(key, mean, log_scale), levels)


def logistic_mixture_split(parameters: Float[ArrayLike, '*B P'], channels: int = 3) -> LogisticMixture:
  """Splits a network's output into the parameters of a mixture of discretized logistics.

  The last axis contains K logits, C K means, C K log-scales and C (C - 1) K / 2 coefficients: 10 K parameters for three
  channels, 3 K for one. Log-scales are floored at -7, coefficients squashed by tanh.

  Args:
    parameters: [..., P].
    channels: C.

  Returns:
    logits [..., K], means [..., C, K], log_scales [..., C, K], coefficients [..., C (C - 1) / 2, K], float32.

  Raises:
    ValueError: P is no multiple of 1 + 2 C + C (C - 1) / 2.

  Reference: Salimans et al. 2017, arXiv:1701.05517, equations 1 to 3.
  """
  (parameters,) = shapes.events(parameters=parameters)
  rows = 1 + 2 * channels + channels * (channels - 1) // 2
  size = parameters.shape[-1]
  if not size or size % rows:
    raise ValueError(f'parameters: got shape {parameters.shape}, expected a last axis that {rows} divides')
  table = parameters.reshape(*parameters.shape[:-1], rows, size // rows)
  # Every row is split off on its own, here and where the rows are used: XLA removes the concatenations between, and the
  # gradient of the table is one concatenation of rows. With larger pieces loss and gradient are half as fast.
  every = _rows(table)
  means, log_scales, coefficients = (
    every[1 : 1 + channels],
    every[1 + channels : 1 + 2 * channels],
    every[1 + 2 * channels :],
  )
  log_scales = [jnp.maximum(row, _MIXTURE_LOG_SCALE_FLOOR) for row in log_scales]
  coefficients = [jnp.tanh(row) for row in coefficients]
  pairs = jnp.concatenate(coefficients, -2) if coefficients else table[..., :0, :]
  return LogisticMixture(every[0][..., 0, :], jnp.concatenate(means, -2), jnp.concatenate(log_scales, -2), pairs)


def logistic_mixture_log_prob(
  x: Float[ArrayLike, '*B C'], mixture: LogisticMixture, levels: int = 256
) -> Float32[Array, '*B']:
  """Computes the log-probability in nats of pixels under a mixture of discretized logistics, joint over the channels.

  Channels are the last axis. A pixel has one component for all of its channels. In component k the mean of channel c is
  m_ck + sum_{c' < c} coefficient_cc'k x_c', with the true values x_c'.

  Args:
    x: [..., C] in [-1, 1], the value v of 0..levels-1 at 2 v / (levels - 1) - 1.
    mixture: logits [..., K], means and log_scales [..., C, K], coefficients [..., C (C - 1) / 2, K].
    levels: number of values.

  Returns:
    [...] nats a pixel, float32; sum over the pixels for that of an image.

  Raises:
    ValueError: the axes of x and of the parameters differ.

  Reference: Salimans et al. 2017, arXiv:1701.05517, equations 1 to 3.
  """
  x, (logits, means, log_scales, coefficients) = _checked_mixture(x, mixture)
  values, pairs = _rows(x[..., None]), _rows(coefficients)
  # Weights are normalised first: added to a logit of 1e9, the rest would have no digits.
  total = jax.nn.log_softmax(logits)[..., None, :]
  for c, (value, mean, log_scale) in enumerate(zip(values, _rows(means), _rows(log_scales), strict=True)):
    total = total + _log_bin(value, mean + _shift(values, pairs, c), log_scale, levels)
  return jax.nn.logsumexp(total[..., 0, :], -1)


def logistic_mixture_sample(key: Key[Array, ''], mixture: LogisticMixture, levels: int = 256) -> Float32[Array, '*B C']:
  """Samples pixels from a mixture of discretized logistics, channel by channel.

  Every channel is rounded to the grid before the next one depends on it, so that the pixels follow
  `logistic_mixture_log_prob` exactly. (PixelCNN++ itself clips, but does not round.)

  Args:
    key: random key.
    mixture: logits [..., K], means and log_scales [..., C, K], coefficients [..., C (C - 1) / 2, K].
    levels: number of values.

  Returns:
    [..., C] on the grid of `levels` values in [-1, 1], float32; passes no gradient.

  Raises:
    ValueError: the axes of the parameters differ.

  Reference: Salimans et al. 2017, arXiv:1701.05517, equations 1 to 3.
  """
  channels = jnp.shape(mixture.means)[-2]
  x = jnp.zeros((*jnp.shape(mixture.logits)[:-1], channels))
  x, (logits, *rest) = _checked_mixture(x, mixture)
  component_key, noise_key = jax.random.split(key)
  component = jax.random.categorical(component_key, logits)[..., None, None]
  means, log_scales, coefficients = (jnp.take_along_axis(a, component, -1) for a in rest)
  noise = jnp.exp(log_scales[..., 0]) * jax.random.logistic(noise_key, x.shape)
  pairs, values = _rows(coefficients), []
  for c, (mean, unit) in enumerate(zip(_rows(means), _rows(noise[..., None]), strict=True)):
    values.append(_to_grid(mean + _shift(values, pairs, c) + unit, levels))
  return jnp.concatenate(values, -2)[..., 0]


def _checked_mixture(x: ArrayLike, mixture: LogisticMixture) -> tuple[Array, LogisticMixture]:
  channels = jnp.shape(x)[-1] if jnp.ndim(x) else 0
  pairs = channels * (channels - 1) // 2
  pattern = f'x[..., C] logits[..., K] means[..., C, K] log_scales[..., C, K] coefficients[..., {pairs}, K]'
  x, *parameters = shapes.float32(pattern, x, *mixture)
  return x, LogisticMixture(*parameters)


def _rows(table: Array) -> list[Array]:
  """Splits [..., R, K] into R arrays [..., 1, K]."""
  return jnp.split(table, table.shape[-2], -2) if table.shape[-2] else []


def _shift(values: list[Array], pairs: list[Array], channel: int) -> Array | float:
  """Returns the part of a channel's means from earlier channels, [..., 1, K].

  Args:
    values: of each channel, [..., 1, 1].
    pairs: the coefficients [..., 1, K] of each pair of channels.
    channel: the channel.
  """
  first = channel * (channel - 1) // 2
  return sum((pairs[first + c] * values[c] for c in range(channel)), 0.0)


def _to_grid(x: Array, levels: int) -> Array:
  """Rounds to the nearest of `levels` values in [-1, 1]."""
  half = (levels - 1) / 2
  return jnp.clip(jnp.round(x * half + half), 0, levels - 1) / half - 1


@functools.partial(jax.custom_jvp, nondiff_argnums=(3,))
def _log_bin(x: Array, mean: Array, log_scale: Array, levels: int) -> Array:
  """Computes the log-probability of each value, by four exponentials and one logarithm.

  With the bin's edges a < b in scales from the mean and s the sigmoid, s(b) - s(a) = s(b) s(-a) (1 - exp(a - b)), a
  form without cancellation. There are no selections, because XLA does not fuse those with the sum that follows: this is
  one pass over the arguments.
  """
  a, b, width, inner = _edges(x, mean, log_scale, levels)
  within = 1 - inner - jnp.expm1(-width) * inner
  sigmoids = (1 + jnp.exp(-jnp.abs(a))) * (1 + jnp.exp(-jnp.abs(b)))
  return jnp.log(within / sigmoids) - jnp.maximum(a, 0.0) - jnp.maximum(-b, 0.0)


@_log_bin.defjvp
def _log_bin_jvp(levels: int, primals: tuple[Array, Array, Array], tangents: tuple):
  """Computes the slopes in closed form, from the arguments alone; autodiff would store eight arrays of their size.

  d/d mean = (s(a) - s(-b)) half width and d/d log_scale = a s(a) - b s(-b) - width / (exp(width) - 1), the last term
  only if the bin has two edges. A value is one of a grid: it has no slope.
  """
  log_scale = primals[2]
  a, b, width, inner = _edges(*primals, levels)
  below, above = jax.nn.sigmoid(a), jax.nn.sigmoid(-b)
  in_mean = (below - above) * width * ((levels - 1) / 2)
  gap = -jnp.expm1(-width)  # also a part of the value
  in_scale = (a * below - b * above - inner * width * (1 - gap) / gap) * (log_scale > _LOWEST_LOG_SCALE)
  return _log_bin(*primals, levels), in_mean * tangents[1] + in_scale * tangents[2]


def _edges(x: Array, mean: Array, log_scale: Array, levels: int) -> tuple[Array, Array, Array, Array]:
  """Returns both edges of each value's bin, its width in scales, and 1 for a bin between two others, 0 for an open one.

  The outer edge of an open bin is at about infinity.
  """
  half = (levels - 1) / 2
  # In units of one bin the edges are exact, so that neighbours share theirs to the last digit.
  value, mean = jnp.round(x * half + half), mean * half + half
  width = jnp.exp(-jnp.maximum(log_scale, _LOWEST_LOG_SCALE)) / half + _LEAST_WIDTH
  bottom, top = jnp.maximum(1 - value, 0.0), jnp.maximum(value - (levels - 2), 0.0)  # 1 or 0
  a = (value - 0.5 - mean) * width - bottom * _OUT_OF_REACH
  b = (value + 0.5 - mean) * width + top * _OUT_OF_REACH
  return a, b, width, 1 - bottom - top
