"""Posterior collapse where everything is known: a linear-Gaussian autoencoder, and the remedies that are spoken of.

With a decoder of full covariance the latents are left unused; with a diagonal one they carry the dependence of the
dimensions. What differs between the systems is the objective. Axes: B batch, D dimensions, Z latents.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from dgm_jax import config as experiment
from dgm_jax import distributions, losses, optim
from dgm_jax.core import Batch, Key, Metrics, Player, State, System, descend, system
from dgm_jax.models import linear
from dgm_jax.systems.parts import likelihoods, posteriors

__all__ = ['annealing', 'capacity', 'elbo', 'free_bits']


def elbo(config: ConfigDict) -> System:
  """The evidence lower bound itself.

  Reference: Lucas et al. 2019, arXiv:1911.02469, section 4.
  """
  return _system(config, lambda log_px_z, kl, step: losses.elbo(log_px_z, kl.sum(-1)))


def annealing(config: ConfigDict) -> System:
  """The divergence is weighted from 0 to 1 over `config.model.warmup` steps.

  Reference: Bowman et al. 2016, arXiv:1511.06349, section 3.1.
  """
  experiment.require(config.model.warmup >= 1, f'config.model.warmup must be at least 1, got {config.model.warmup}')

  def objective(log_px_z, kl, step):
    return losses.beta_elbo(log_px_z, kl.sum(-1), beta=jnp.minimum(1.0, step / config.model.warmup))

  return _system(config, objective)


def free_bits(config: ConfigDict) -> System:
  """Each latent has an allowance of `config.model.floor` nats.

  Reference: Kingma et al. 2016, arXiv:1606.04934, equation 15.
  """
  experiment.require(config.model.floor >= 0, f'config.model.floor must not be negative, got {config.model.floor}')
  return _system(
    config, lambda log_px_z, kl, step: losses.elbo(log_px_z, losses.free_bits(kl, floor=config.model.floor))
  )


def capacity(config: ConfigDict) -> System:
  """The divergence is drawn to a capacity of `config.model.capacity` nats with the weight `config.model.gamma`.

  Reference: Burgess et al. 2018, arXiv:1804.03599, equation 8.
  """

  def objective(log_px_z, kl, step):
    # Of the batch's mean, so that single examples are free to take more and less.
    mean = jnp.broadcast_to(kl.sum(-1).mean(), log_px_z.shape)
    return losses.capacity_elbo(log_px_z, mean, capacity=config.model.capacity, gamma=config.model.gamma)

  return _system(config, objective)


def _system(config: ConfigDict, objective: Callable) -> System:
  """`objective(log_px_z [B], kl [B, Z], step) -> [B]`, to be maximised."""
  shape = tuple(config.data.shape)
  dims = math.prod(shape)
  experiment.one_of('config.model.decoder', config.model.decoder, linear.DECODERS)
  encoder, decoder = linear.LinearEncoder(config.model.latents), linear.DECODERS[config.model.decoder](dims)

  def numbers(state, x):
    return encoder.apply({'params': state.params['encoder']}, x.reshape(x.shape[0], -1))

  def decode(state, z):
    return decoder.apply({'params': state.params['decoder']}, z)

  def terms(key, state, x):
    mean, logvar = numbers(state, x)
    means, scale_tril = decode(state, distributions.normal_sample(key, mean, logvar))
    log_px_z = distributions.multivariate_normal_log_prob(x.reshape(x.shape[0], -1), means, scale_tril)
    return log_px_z, distributions.gaussian_kl_standard_per_dim(mean, logvar)

  def loss(key: Key, state: State, batch: Batch):
    log_px_z, kl = terms(key, state, batch['x'])
    return -objective(log_px_z, kl, state.step.astype(jnp.float32)).mean(), ({}, {'kl_nats': kl.sum(-1).mean()})

  def evaluate(key: Key, state: State, batch: Batch) -> Metrics:
    log_px_z, kl = terms(key, state, batch['x'])
    bound = losses.elbo(log_px_z, kl.sum(-1))
    return {
      'neg_elbo_nats': -bound, 'reconstruction_nats': -log_px_z, 'kl_nats': kl.sum(-1),
      'bits_per_dim': likelihoods.gaussian(config.data.levels).bits(-bound, dims),
    }  # fmt: skip

  def sample(key: Key, state: State, n: int) -> jax.Array:
    for_latents, for_pixels = jax.random.split(key)
    mean, scale_tril = decode(state, jax.random.normal(for_latents, (n, config.model.latents)))
    return distributions.multivariate_normal_sample(for_pixels, mean, scale_tril).reshape(n, *shape)

  def networks(key, batch):
    for_encoder, for_decoder = jax.random.split(key)
    x = batch['x'].reshape(batch['x'].shape[0], -1)
    params = decoder.init(for_decoder, jnp.zeros((1, config.model.latents)))['params']
    params['mean']['bias'], params['log_std'] = x.mean(0), 0.5 * jnp.log(x.var(0) + 1e-2)
    return {'encoder': encoder.init(for_encoder, x[:1])['params'], 'decoder': params}, {}

  image = lambda key, state, z: decode(state, z)[0].reshape(z.shape[0], *shape)
  views = {
    'encode': lambda key, state, x: numbers(state, x)[0],
    'decode': image,
    'posterior': lambda key, state, x: numbers(state, x),
    'prior': posteriors.standard(config.model.latents),
    'reconstruct': lambda key, state, x: image(key, state, numbers(state, x)[0]),
  }
  move = descend(model=Player(loss, optim.make(config, 'model'), ('encoder', 'decoder')))
  return system(networks, move, evaluate, sample, **views)
