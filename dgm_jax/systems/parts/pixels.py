"""Distributions of a pixel given those before it, p(x_i | x_<i), for each kind of data.

Axes: ... any leading axes, C channels of a pixel, P parameters of its distribution.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp

from dgm_jax import config as experiment
from dgm_jax import distributions

__all__ = ['PIXELS', 'Pixel', 'bernoulli', 'categorical', 'logistic_mixture', 'normal']


class Pixel(NamedTuple):
  """The distribution of one pixel's channels, given P parameters that a network computes."""

  num_parameters: int  # P
  groups: int  # autoregressive groups within a pixel: C if channels are sampled one by one, 1 if together
  inputs: Callable  # x [..., C] in data space -> the input of the network
  log_prob: Callable  # (x [..., C], params [..., P]) -> [...] nats, all channels
  sample: Callable  # (key, params [..., P], temperature) -> [..., C] in data space


def _identity(x):
  """Returns x; such networks take pixels as they are in data space."""
  return x


def bernoulli(channels: int, model: Any, levels: int = 256) -> Pixel:
  """Returns binary channels in {0, 1} with logits as parameters.

  The network's inputs are -1 and 1, so that the zeros of the padding are neither.
  """
  del model, levels

  def inputs(x):
    return 2 * x - 1

  def sample(key, params, temperature):
    return distributions.bernoulli_sample(key, params / temperature)

  log_prob = distributions.bernoulli_log_prob
  return Pixel(num_parameters=channels, groups=channels, inputs=inputs, log_prob=log_prob, sample=sample)


def categorical(channels: int, model: Any, levels: int = 256) -> Pixel:
  """Returns channels with `model.levels` values spread evenly over [-1, 1].

  The parameters are the logits of the values, channel by channel.

  Reference: van den Oord et al. 2016, arXiv:1601.06759, section 3.3.
  """
  del levels  # those of the data are among model.levels
  levels, half = model.levels, (model.levels - 1) / 2

  def logits(params):
    return params.reshape(*params.shape[:-1], channels, levels)

  def log_prob(x, params):
    return distributions.categorical_log_prob(jnp.round(x * half + half).astype(jnp.int32), logits(params))

  def sample(key, params, temperature):
    index = distributions.categorical_sample(key, logits(params) / temperature).astype(jnp.float32)
    # Compilers divide by multiplying with the reciprocal, so that the last level would exceed 1.
    return jnp.clip(index / half - 1, -1, 1)

  count = channels * levels
  return Pixel(num_parameters=count, groups=channels, inputs=_identity, log_prob=log_prob, sample=sample)


def logistic_mixture(channels: int, model: Any, levels: int = 256) -> Pixel:
  """Returns joint channels with `levels` values over [-1, 1]: a mixture of `model.components` discretized logistics.

  The temperature divides the logits of the components and multiplies their scales.

  Reference: Salimans et al. 2017, arXiv:1701.05517, section 2.1.
  """

  def split(params):
    return distributions.logistic_mixture_split(params, channels)

  def log_prob(x, params):
    return distributions.logistic_mixture_log_prob(x, split(params), levels)

  def sample(key, params, temperature):
    mixture = split(params)
    cooled = mixture._replace(logits=mixture.logits / temperature, log_scales=mixture.log_scales + jnp.log(temperature))
    return distributions.logistic_mixture_sample(key, cooled, levels)

  experiment.require(model.components >= 1, f'config.model.components must be at least 1, got {model.components}')
  count = model.components * (1 + 2 * channels + channels * (channels - 1) // 2)
  return Pixel(num_parameters=count, groups=1, inputs=_identity, log_prob=log_prob, sample=sample)


def normal(channels: int) -> Pixel:
  """Returns real channels, independent normals at each position; the parameters are means and log-variances.

  It is for maps of latents, whose values have no levels. The temperature multiplies the standard deviations.
  """

  def log_prob(x, params):
    return distributions.normal_log_prob(x, *jnp.split(params, 2, -1))

  def sample(key, params, temperature):
    mean, logvar = jnp.split(params, 2, -1)
    return distributions.normal_sample(key, mean, logvar + 2 * jnp.log(temperature))

  return Pixel(num_parameters=2 * channels, groups=1, inputs=_identity, log_prob=log_prob, sample=sample)


PIXELS = {'bernoulli': bernoulli, 'categorical': categorical, 'logistic_mixture': logistic_mixture}
