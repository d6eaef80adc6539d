"""What a network's numbers mean, pixel by pixel: p(x_i | x_<i) for each kind of data, and how it is drawn.

Axes: ... any leading axes, C channels of a pixel, P numbers of its distribution.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp

from dgm_jax import distributions

__all__ = ['PIXELS', 'Pixel', 'bernoulli', 'categorical', 'logistic_mixture']


class Pixel(NamedTuple):
  """The distribution of one pixel's channels, given P numbers."""

  numbers: int  # P
  groups: int  # channels that the network must order, since their numbers are not joint; 1: all are drawn at once
  inputs: Callable  # x [..., C] in data space -> what the network reads
  log_prob: Callable  # (x [..., C], numbers [..., P]) -> [...] nats, all channels
  sample: Callable  # (key, numbers [..., P], temperature) -> [..., C] in data space


def bernoulli(channels: int, model, levels: int = 256) -> Pixel:
  """Binary channels in {0, 1}; the numbers are logits. The network reads -1 and 1, so that an edge is neither."""
  del model, levels
  return Pixel(
    channels,
    channels,
    lambda x: 2 * x - 1,
    distributions.bernoulli_log_prob,
    lambda key, numbers, temperature: distributions.bernoulli_sample(key, numbers / temperature),
  )


def categorical(channels: int, model, levels: int = 256) -> Pixel:
  """Channels of `model.levels` values evenly spread over [-1, 1]; the numbers are their logits, channel by channel.

  Reference: van den Oord et al. 2016, arXiv:1601.06759, section 3.3.
  """
  del levels  # those of the data are among them
  levels, half = model.levels, (model.levels - 1) / 2
  logits = lambda numbers: numbers.reshape(*numbers.shape[:-1], channels, levels)
  return Pixel(
    channels * levels,
    channels,
    lambda x: x,
    lambda x, numbers: distributions.categorical_log_prob(
      jnp.round(x * half + half).astype(jnp.int32), logits(numbers)
    ),
    # Compilers divide by multiplying with the reciprocal, by which the last level would exceed 1.
    lambda key, numbers, temperature: jnp.clip(
      distributions.categorical_sample(key, logits(numbers) / temperature).astype(jnp.float32) / half - 1, -1, 1
    ),
  )


def logistic_mixture(channels: int, model, levels: int = 256) -> Pixel:
  """Channels of so many values over [-1, 1], joint: a mixture of `model.components` discretized logistics.

  A temperature divides the components' logits and multiplies their scales.

  Reference: Salimans et al. 2017, arXiv:1701.05517, section 2.1.
  """
  split = lambda numbers: distributions.logistic_mixture_split(numbers, channels)

  def sample(key, numbers, temperature):
    mixture = split(numbers)
    cooled = mixture._replace(logits=mixture.logits / temperature, log_scales=mixture.log_scales + jnp.log(temperature))
    return distributions.logistic_mixture_sample(key, cooled, levels)

  return Pixel(
    model.components * (1 + 2 * channels + channels * (channels - 1) // 2),
    1,
    lambda x: x,
    lambda x, numbers: distributions.logistic_mixture_log_prob(x, split(numbers), levels),
    sample,
  )


PIXELS = {'bernoulli': bernoulli, 'categorical': categorical, 'logistic_mixture': logistic_mixture}
