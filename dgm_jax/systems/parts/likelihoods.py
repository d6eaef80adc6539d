"""Likelihoods p(x|z) for each kind of data, and the decoder that computes their parameters.

Axes: ... any leading axes, D pixels, flattened.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from dgm_jax import config as experiment
from dgm_jax import distributions
from dgm_jax.internal.noise import standard_normal
from dgm_jax.models import resnet_vae, vae
from dgm_jax.systems.parts.bounds import Decoder
from dgm_jax.systems.parts.pixels import Pixel

__all__ = [
  'LIKELIHOODS', 'Likelihood', 'bernoulli', 'decoder', 'discretized_logistic', 'from_network', 'gaussian',
  'logistic_mixture', 'residual_decoder',
]  # fmt: skip


class Likelihood(NamedTuple):
  """A family of densities of x with `num_parameters` parameters a pixel.

  `params` is a tuple of that many arrays [..., D].
  """

  num_parameters: int
  log_prob: Callable  # (x, params) -> [...] nats
  mean: Callable  # params -> [..., D] in data space
  sample: Callable  # (key, params) -> [..., D] in data space
  init_bias: Callable  # mean of the training data [...] -> bias of the output [num_parameters, ...]
  bits: Callable  # (nats, D) -> bits per dimension of 8-bit pixels


def bits_per_dim(nats: jax.Array, dims: int) -> jax.Array:
  """Converts nats of an example to bits per dimension."""
  return nats / (dims * math.log(2))


def bernoulli(levels: int = 256) -> Likelihood:
  """Returns the likelihood of binary pixels in {0, 1}; the parameter is the logit."""
  del levels  # of the data before it is binarized

  def log_prob(x, params):
    return distributions.bernoulli_log_prob(x, params[0])

  def mean(params):
    return jax.nn.sigmoid(params[0])

  def sample(key, params):
    return jax.random.bernoulli(key, mean(params)).astype(jnp.float32)

  def init_bias(data_mean):
    data_mean = jnp.clip(data_mean, 0.001, 0.999)  # Burda et al. 2016, appendix C
    return (jnp.log(data_mean) - jnp.log1p(-data_mean))[None]

  return Likelihood(
    num_parameters=1, log_prob=log_prob, mean=mean, sample=sample, init_bias=init_bias, bits=bits_per_dim
  )


def gaussian(levels: int = 256) -> Likelihood:
  """Returns the likelihood of dequantized pixels in [0, 1]; the parameters are mean and log-variance."""

  def log_prob(x, params):
    return distributions.normal_log_prob(x, *params)

  def mean(params):
    return params[0]

  def sample(key, params):
    return distributions.normal_sample(key, *params)

  def init_bias(data_mean):
    return jnp.stack([data_mean, jnp.full_like(data_mean, 2 * math.log(0.25))])

  def bits(nats, dims):
    # The density is over [0, 1]; a level is a bin of width 1 / levels, hence log2(levels) bits more per dimension.
    return bits_per_dim(nats, dims) + math.log2(levels)

  return Likelihood(num_parameters=2, log_prob=log_prob, mean=mean, sample=sample, init_bias=init_bias, bits=bits)


def discretized_logistic(levels: int = 256) -> Likelihood:
  """Returns the likelihood of pixels with `levels` values in [-1, 1]; the parameters are mean and log-scale."""
  half = (levels - 1) / 2

  def log_prob(x, params):
    return distributions.discretized_logistic_log_prob(x, *params, levels)

  def mean(params):
    return jnp.clip(params[0], -1, 1)

  def sample(key, params):
    location, log_scale = params
    x = location + jnp.exp(log_scale) * jax.random.logistic(key, location.shape)
    return jnp.clip(jnp.round(x * half + half), 0, levels - 1) / half - 1

  def init_bias(data_mean):
    return jnp.stack([data_mean, jnp.full_like(data_mean, math.log(0.25))])

  return Likelihood(
    num_parameters=2, log_prob=log_prob, mean=mean, sample=sample, init_bias=init_bias, bits=bits_per_dim
  )


def logistic_mixture(shape: Sequence[int], pixel: Pixel) -> Likelihood:
  """Returns the likelihood of images whose channels are a mixture of discretized logistics at each pixel.

  The one parameter is a flattened map of those of each pixel; its mean is that of the logistics before they are
  rounded and cut.

  Args:
    shape: H, W and C of the images.
    pixel: `pixels.logistic_mixture`, whose outputs are `num_parameters` a pixel.
  """
  height, width, channels = shape

  def mapped(params):
    return params[0].reshape(*params[0].shape[:-1], height, width, pixel.num_parameters)

  def log_prob(x, params):
    params = mapped(params)
    x = jnp.broadcast_to(x.reshape(*x.shape[:-1], *shape), (*params.shape[:-1], channels))
    return pixel.log_prob(x, params).sum((-2, -1))

  def mean(params):
    mixture = distributions.logistic_mixture_split(mapped(params), channels)
    means, pairs = [], 0
    for channel in range(channels):
      shifts = (mixture.coefficients[..., pairs + c, :] * means[c] for c in range(channel))
      means.append(sum(shifts, mixture.means[..., channel, :]))
      pairs += channel
    weights = jax.nn.softmax(mixture.logits)
    return jnp.clip(jnp.stack([(weights * own).sum(-1) for own in means], -1), -1, 1).reshape(*params[0].shape[:-1], -1)

  def sample(key, params):
    return pixel.sample(key, mapped(params), 1.0).reshape(*params[0].shape[:-1], -1)

  def init_bias(data_mean):
    return jnp.zeros((*data_mean.shape[:-1], pixel.num_parameters))

  return Likelihood(
    num_parameters=1, log_prob=log_prob, mean=mean, sample=sample, init_bias=init_bias, bits=bits_per_dim
  )


LIKELIHOODS = {'bernoulli': bernoulli, 'discretized_logistic': discretized_logistic, 'gaussian': gaussian}


def decoder(config: ConfigDict, hidden: Sequence, latents: Sequence[int], activation: str) -> Decoder:
  """Returns the decoder with the likelihood `config.model.likelihood` and the priors of the lower levels.

  Pixels are independent given z.

  Args:
    config: the experiment; `config.model.channels`, if it exists, are those of transposed convolutions.
    hidden: sizes of the hidden layers, for each level.
    latents: Z_l of each level.
    activation: the name of the hidden layers' activation.
  """
  model, shape = config.model, tuple(config.data.shape)
  likelihood = experiment.choose('config.model.likelihood', model.likelihood, LIKELIHOODS)(config.data.levels)
  channels = tuple(model.get('channels', ()))
  network = vae.Decoder(hidden, latents, shape, likelihood.num_parameters, channels, activation, config.dtype)
  output = ('output', 'output') if channels else ('output',)
  return from_network(config, network, jnp.zeros((1, latents[-1])), output, bool(channels), len(latents))


def residual_decoder(config: ConfigDict) -> Decoder:
  """Returns the decoder of residual blocks with the likelihood `config.model.likelihood`; pixels are independent."""
  model = config.model
  likelihood = experiment.choose('config.model.likelihood', model.likelihood, LIKELIHOODS)(config.data.levels)
  ((hidden,),), (latents,), channels = model.hidden, model.latents, tuple(model.channels)
  network = resnet_vae.Decoder(
    channels, hidden, tuple(config.data.shape), likelihood.num_parameters, model.activation, config.dtype
  )
  return from_network(config, network, standard_normal(jax.random.key(0), (STARTS, latents)), ('output',), True)


STARTS = 256  # samples of N(0, I) that a data-dependent start is made from


def from_network(
  config: ConfigDict, network: nn.Module, start: jax.Array, output: Sequence[str], channels: bool, levels: int = 1
) -> Decoder:
  """Returns the decoder of a network with the likelihood `config.model.likelihood`.

  Args:
    config: the experiment.
    network: a module with the method `pixels` and, if there are more levels, `below`.
    start: latents [n, Z] of the top level that it is initialised with.
    output: where its last layer is in its parameters.
    channels: whether the bias of that layer is that of channels, not of pixels.
    levels: the number of levels.
  """
  shape = tuple(config.data.shape)
  likelihood = LIKELIHOODS[config.model.likelihood](config.data.levels)

  def at(method, *level):
    return lambda key, state, z: network.apply({'params': state.params['decoder']}, z, *level, method=method)

  pixel_params, shaped = at('pixels'), lambda x: x.reshape(-1, *shape)

  def log_prob(key, state, x, z):
    x, params = x.reshape(x.shape[0], -1), pixel_params(key, state, z)
    if z.ndim == 2 or z.shape[1] > 1:
      return likelihood.log_prob(x if z.ndim == 2 else x[:, None], params)
    # x stays [B, D], as in the encoder: with x[:, None] XLA would fuse, and so repeat, the binarization.
    return likelihood.log_prob(x, tuple(param[:, 0] for param in params))[:, None]

  def init(key, x):
    """Returns initial parameters; the bias of the output gives the mean of the data."""
    params = network.init(key, start)['params']
    layer = functools.reduce(lambda inner, name: inner[name], output, params)
    layer['bias'] = likelihood.init_bias(x.mean((0, 1, 2)) if channels else x.mean(0).ravel()).ravel()
    return params

  def mean(key, state, z):
    return shaped(likelihood.mean(pixel_params(key, state, z)))

  def sample(key, state, z):
    return shaped(likelihood.sample(key, pixel_params(key, state, z)))

  def bits(nats):
    return likelihood.bits(nats, math.prod(shape))

  below = tuple(at('below', level) for level in range(1, levels))
  return Decoder(init=init, log_prob=log_prob, mean=mean, sample=sample, bits=bits, below=below)
