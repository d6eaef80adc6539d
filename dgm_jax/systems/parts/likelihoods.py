"""What a decoder's numbers mean: p(x|z) for each kind of data.

Axes: ... any leading axes, D pixels, flattened.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from dgm_jax import config as experiment
from dgm_jax import distributions
from dgm_jax.models import vae
from dgm_jax.systems.parts.bounds import Decoder

__all__ = ['LIKELIHOODS', 'Likelihood', 'bernoulli', 'decoder', 'discretized_logistic', 'gaussian']


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


def decoder(config: ConfigDict, hidden: Sequence, latents: Sequence[int], activation: str) -> Decoder:
  """Returns p(x|z) of `config.model.likelihood`, the pixels independent given z, and the priors of lower levels.

  Args:
    config: the experiment; `config.model.channels` are those of transposed convolutions, where there is such a key.
    hidden: sizes of the hidden layers, for each level.
    latents: Z_l of each level.
    activation: of the hidden layers.
  """
  model, shape = config.model, tuple(config.data.shape)
  likelihood = experiment.choose('config.model.likelihood', model.likelihood, LIKELIHOODS)(config.data.levels)
  channels = tuple(model.get('channels', ()))
  network = vae.Decoder(hidden, latents, shape, likelihood.parameters, channels, activation, config.dtype)

  def at(method, *level):
    return lambda key, state, z: network.apply({'params': state.params['decoder']}, z, *level, method=method)

  numbers, shaped = at('pixels'), lambda x: x.reshape(-1, *shape)

  def log_prob(key, state, x, z):
    x, found = x.reshape(x.shape[0], -1), numbers(key, state, z)
    if z.ndim == 2 or z.shape[1] > 1:
      return likelihood.log_prob(x if z.ndim == 2 else x[:, None], found)
    # The encoder's own x, on two axes: XLA would binarize another shape of it a second time.
    return likelihood.log_prob(x, tuple(n[:, 0] for n in found))[:, None]

  def init(key, x):
    """Fresh parameters; the output's bias is set so that the first guess is the mean of the data."""
    params = network.init(key, jnp.zeros((1, latents[-1])))['params']
    layer = params['output']['output'] if channels else params['output']
    layer['bias'] = likelihood.start(x.mean((0, 1, 2)) if channels else x.mean(0).ravel()).ravel()
    return params

  return Decoder(
    init=init,
    log_prob=log_prob,
    mean=lambda key, state, z: shaped(likelihood.mean(numbers(key, state, z))),
    sample=lambda key, state, z: shaped(likelihood.sample(key, numbers(key, state, z))),
    bits=lambda nats: likelihood.bits(nats, math.prod(shape)),
    below=tuple(at('below', level) for level in range(1, len(latents))),
  )
