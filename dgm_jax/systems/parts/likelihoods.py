"""What a decoder's numbers mean: p(x|z) for each kind of data.

Axes: ... any leading axes, D pixels, flattened.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from dgm_jax import distributions

__all__ = ['LIKELIHOODS', 'Likelihood', 'bernoulli', 'discretized_logistic', 'gaussian']


class Likelihood(NamedTuple):
  """A family of densities of x, given `parameters` numbers a pixel (one array [..., D] for each)."""

  parameters: int
  log_prob: Callable  # (x, numbers) -> [...] nats
  mean: Callable  # numbers -> [..., D] in data space
  sample: Callable  # (key, numbers) -> [..., D] in data space
  start: Callable  # mean of the training data [...] -> output bias [n, ...], one row for each number
  bits: Callable  # (nats, D) -> bits per dimension of 8-bit pixels


def bernoulli(levels: int = 256) -> Likelihood:
  """Binary pixels in {0, 1}, of whatever levels they were made; the number is the logit."""
  del levels

  def start(mean):
    mean = jnp.clip(mean, 0.001, 0.999)  # Burda et al. 2016, appendix C
    return (jnp.log(mean) - jnp.log1p(-mean))[None]

  return Likelihood(
    1,
    lambda x, numbers: distributions.bernoulli_log_prob(x, numbers[0]),
    lambda numbers: jax.nn.sigmoid(numbers[0]),
    lambda key, numbers: jax.random.bernoulli(key, jax.nn.sigmoid(numbers[0])).astype(jnp.float32),
    start,
    lambda nats, dims: nats / (dims * math.log(2)),
  )


def gaussian(levels: int = 256) -> Likelihood:
  """Pixels in [0, 1], dequantized; the numbers are mean and log-variance."""
  return Likelihood(
    2,
    lambda x, numbers: distributions.normal_log_prob(x, *numbers),
    lambda numbers: numbers[0],
    lambda key, numbers: distributions.normal_sample(key, *numbers),
    lambda mean: jnp.stack([mean, jnp.full_like(mean, 2 * math.log(0.25))]),
    # A density over [0, 1] is one over bins of width 1 / levels: of 256, each pixel is 8 bits finer than its bin.
    lambda nats, dims: nats / (dims * math.log(2)) + math.log2(levels),
  )


def discretized_logistic(levels: int = 256) -> Likelihood:
  """Pixels in [-1, 1], of so many levels; the numbers are mean and logarithm of the scale."""
  half = (levels - 1) / 2

  def sample(key, numbers):
    mean, log_scale = numbers
    x = mean + jnp.exp(log_scale) * jax.random.logistic(key, mean.shape)
    return jnp.clip(jnp.round(x * half + half), 0, levels - 1) / half - 1

  return Likelihood(
    2,
    lambda x, numbers: distributions.discretized_logistic_log_prob(x, *numbers, levels),
    lambda numbers: jnp.clip(numbers[0], -1, 1),
    sample,
    lambda mean: jnp.stack([mean, jnp.full_like(mean, math.log(0.25))]),
    lambda nats, dims: nats / (dims * math.log(2)),
  )


LIKELIHOODS = {'bernoulli': bernoulli, 'discretized_logistic': discretized_logistic, 'gaussian': gaussian}
