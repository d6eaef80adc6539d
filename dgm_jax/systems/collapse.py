"""Posterior collapse in a linear-Gaussian autoencoder, whose optimum is known, and the common remedies.

With a decoder of full covariance the latents are unused. With a diagonal covariance they carry the dependence of the
dimensions. The systems differ in their objective.

Axes: B batch, D dimensions, Z latents.
"""

import math

import jax.numpy as jnp
from ml_collections import ConfigDict

from dgm_jax import config as experiment
from dgm_jax import distributions
from dgm_jax.core import System
from dgm_jax.models import linear
from dgm_jax.systems.parts import bounds, likelihoods, posteriors

__all__ = ['annealing', 'capacity', 'elbo', 'free_bits']


def elbo(config: ConfigDict) -> System:
  """Builds the system that maximises the evidence lower bound.

  Reference: Lucas et al. 2019, arXiv:1911.02469, section 4.
  """
  return _system(config, bounds.elbo)


def annealing(config: ConfigDict) -> System:
  """Builds the system that weights the divergence from 0 to 1 over `config.model.warmup` steps.

  Reference: Bowman et al. 2016, arXiv:1511.06349, section 3.1.
  """
  return _system(config, bounds.beta(bounds.ramp(config, 'warmup')))


def free_bits(config: ConfigDict) -> System:
  """Builds the system that does not penalise the first `config.model.floor` nats of each latent.

  Reference: Kingma et al. 2016, arXiv:1606.04934, equation 15.
  """
  experiment.require(config.model.floor >= 0, f'config.model.floor must not be negative, got {config.model.floor}')
  return _system(config, bounds.free_bits(config.model.floor))


def capacity(config: ConfigDict) -> System:
  """Builds the system that penalises the distance of the divergence from `config.model.capacity` nats.

  The weight is `config.model.gamma`.

  Reference: Burgess et al. 2018, arXiv:1804.03599, equation 8.
  """
  return _system(config, bounds.capacity(lambda state: config.model.capacity, config.model.gamma))


def _system(config: ConfigDict, bound: bounds.Bound) -> System:
  """Returns the System that trains the linear-Gaussian model on a bound."""
  experiment.one_of('config.model.decoder', config.model.decoder, linear.DECODERS)
  latents, encoder = config.model.latents, linear.LinearEncoder(config.model.latents)

  def init(key, x):
    return encoder.init(key, _flat(x[:1]))['params']

  def encode(key, state, x):
    del key
    return encoder.apply({'params': state.params['encoder']}, _flat(x))

  posterior = posteriors.chain(init, encode, (latents,))
  decoder = _decoder(config, linear.DECODERS[config.model.decoder](math.prod(config.data.shape)))
  model = bounds.compose(posterior, posteriors.standard(latents), decoder)
  bound = bounds.with_metrics(bound, kl_nats=lambda terms, state: terms.kl.mean())
  bits = lambda terms: {'bits_per_dim': decoder.bits(-bounds.elbo(terms, None)[0])}
  return bounds.system(config, model, bound, bits)


def _decoder(config: ConfigDict, network) -> bounds.Decoder:
  """Returns the normal p(x|z), whose covariance is the same for all z."""
  shape, dims = tuple(config.data.shape), math.prod(config.data.shape)

  def normal(state, z):
    return network.apply({'params': state.params['decoder']}, z)

  def init(key, x):
    x = _flat(x)
    params = network.init(key, jnp.zeros((1, config.model.latents)))['params']
    params['mean']['bias'], params['log_std'] = x.mean(0), 0.5 * jnp.log(x.var(0) + 1e-2)
    return params

  def log_prob(key, state, x, z):
    del key
    x = _flat(x) if z.ndim == 2 else _flat(x)[:, None]
    return distributions.multivariate_normal_log_prob(x, *normal(state, z))

  def mean(key, state, z):
    del key
    return normal(state, z)[0].reshape(-1, *shape)

  def sample(key, state, z):
    return distributions.multivariate_normal_sample(key, *normal(state, z)).reshape(-1, *shape)

  def bits(nats):
    return likelihoods.gaussian(config.data.levels).bits(nats, dims)

  return bounds.Decoder(init=init, log_prob=log_prob, mean=mean, sample=sample, bits=bits)


def _flat(x):
  return x.reshape(x.shape[0], -1)
