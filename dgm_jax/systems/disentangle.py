"""Autoencoders whose latents are to be factors: beta-VAE, controlled capacity, FactorVAE, beta-TCVAE, DIP-VAE.

They differ in what is added to the bound. The numbers that weigh it come from `config.model`; each system also takes
them as arguments, so that many weights can be trained in one program by `jax.vmap` over them (`python -m
dgm_jax.study`).

Axes: B batch, D pixels, Z latents.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from dgm_jax import config as experiment
from dgm_jax import distributions, losses, optim
from dgm_jax.core import Batch, Key, Metrics, Player, State, System, descend, system
from dgm_jax.internal.noise import standard_normal
from dgm_jax.models.disentangle import LatentDiscriminator
from dgm_jax.models.vae import Decoder, Encoder
from dgm_jax.nn.blocks import ACTIVATIONS
from dgm_jax.systems import vae
from dgm_jax.systems.parts.likelihoods import LIKELIHOODS

__all__ = ['beta_vae', 'capacity_vae', 'dip_vae', 'factor_vae', 'tc_vae']

WEIGHTS = {'minibatch': losses.minibatch_weights, 'stratified': losses.stratified_weights}
DIVERGENCES = ('closed', 'sampled')
COVARIANCES = ('means', 'aggregate')
Weight = jax.Array | float | None


class Pass(NamedTuple):
  """Images through encoder and decoder, one draw each."""

  log_px_z: jax.Array  # [B] nats
  kl: jax.Array  # [B, Z] nats, from N(0, 1)
  z: jax.Array  # [B, Z]
  mean: jax.Array  # [B, Z]
  logvar: jax.Array  # [B, Z]


def beta_vae(config: ConfigDict, beta: Weight = None) -> System:
  """The divergence from the prior weighed by `config.model.beta`.

  Reference: Higgins et al. 2017, beta-VAE, equation 4.
  """
  beta = _weight(config, 'beta') if beta is None else beta

  def loss(state: State, seen: Pass):
    del state
    return -losses.beta_elbo(seen.log_px_z, seen.kl.sum(1), beta=beta).mean(), {}

  return _alone(config, loss)


def capacity_vae(config: ConfigDict, gamma: Weight = None) -> System:
  """The mean divergence held at a capacity, which rises from 0 to `config.model.capacity` nats over `capacity_steps`.

  Reference: Burgess et al. 2018, arXiv:1804.03599, equation 8.
  """
  gamma = _weight(config, 'gamma') if gamma is None else gamma
  most, steps = _weight(config, 'capacity'), config.model.capacity_steps
  experiment.require(steps >= 1, f'config.model.capacity_steps must be at least 1, got {steps}')

  def loss(state: State, seen: Pass):
    capacity = most * jnp.minimum(1.0, state.step.astype(jnp.float32) / steps)
    # The absolute value is that of the batch's mean: each example is free to take its own share.
    bound = losses.capacity_elbo(seen.log_px_z.mean(), seen.kl.sum(1).mean(), capacity=capacity, gamma=gamma)
    return -bound, {'capacity_nats': capacity}

  return _alone(config, loss)


def tc_vae(config: ConfigDict, beta: Weight = None) -> System:
  """The bound whose divergence has its total correlation, estimated from the batch, weighed by `beta`.

  `config.model.divergence`: 'closed' adds beta - 1 total correlations to the closed divergence (Locatello et al.
  2019), 'sampled' weighs one of the three parts of a draw's divergence (Chen et al. 2018). `config.model.estimator`:
  'minibatch' is what both have, 'stratified' is without bias. The metric is the stratified one of either.

  Reference: Chen et al. 2018, arXiv:1802.04942, equation 4; Locatello et al. 2019, arXiv:1811.12359, appendix.
  """
  beta, model = _weight(config, 'beta') if beta is None else beta, config.model
  experiment.one_of('config.model.estimator', model.estimator, WEIGHTS)
  experiment.one_of('config.model.divergence', model.divergence, DIVERGENCES)

  def loss(state: State, seen: Pass):
    del state
    size = max(config.data.examples, seen.z.shape[0])
    split = lambda weights: losses.minibatch_total_correlation(
      seen.z, seen.mean, seen.logvar, dataset_size=size, log_weights=weights
    )
    parts, correlation = split(WEIGHTS[model.estimator]), split(losses.stratified_weights).total_correlation
    if model.divergence == 'closed':
      divergence = seen.kl.sum(1) + (beta - 1) * parts.total_correlation
    else:
      divergence = parts.mutual_information + beta * parts.total_correlation + parts.dimension_wise_kl
    return (divergence - seen.log_px_z).mean(), {'total_correlation_nats': correlation.mean()}

  return _alone(config, loss)


def dip_vae(config: ConfigDict, off_diagonal: Weight = None) -> System:
  """The covariance of the means (type I) or of the aggregated posterior (type II) drawn to the identity.

  Off the diagonal by `config.model.off_diagonal`, on it by `diagonal_ratio` times as much.

  Reference: Kumar et al. 2018, arXiv:1711.00848, equations 6 and 7.
  """
  off_diagonal = _weight(config, 'off_diagonal') if off_diagonal is None else off_diagonal
  ratio, covariance = _weight(config, 'diagonal_ratio'), config.model.covariance
  experiment.one_of('config.model.covariance', covariance, COVARIANCES)

  def loss(state: State, seen: Pass):
    del state
    if covariance == 'means':
      matrix = losses.covariance_of_means(seen.mean)
    else:
      matrix = losses.aggregate_covariance(seen.mean, seen.logvar)
    penalty = losses.dip_penalty(matrix, off_diagonal=off_diagonal, diagonal=off_diagonal * ratio)
    return penalty - losses.elbo(seen.log_px_z, seen.kl.sum(1)).mean(), {'penalty': penalty}

  return _alone(config, loss)


def factor_vae(config: ConfigDict, gamma: Weight = None) -> System:
  """The total correlation, estimated by a discriminator, weighed by `gamma`; both players move at once.

  The batch's first half is the autoencoder's, and the discriminator's for latents as they are; the second half's
  latents are shuffled.

  Reference: Kim & Mnih 2018, arXiv:1802.05983, algorithm 2.
  """
  gamma = _weight(config, 'gamma') if gamma is None else gamma
  parts, judge = _parts(config), LatentDiscriminator(tuple(config.model.discriminator), config.dtype)
  logit = lambda state, z: judge.apply({'params': state.params['discriminator']}, z)

  def model_loss(key: Key, state: State, batch: Batch):
    seen = _through(parts, key, state, _halves(batch['x'])[0])
    correlation = losses.total_correlation(logit(state, seen.z)).mean()
    loss = gamma * correlation - losses.elbo(seen.log_px_z, seen.kl.sum(1)).mean()
    return loss, ({}, _reported(seen) | {'total_correlation_nats': correlation})

  def judge_loss(key: Key, state: State, batch: Batch):
    first, second = _halves(batch['x'])
    joint = _through(parts, key, state, first).z  # what the other player's loss has made, too
    for_noise, for_shuffle = jax.random.split(jax.random.fold_in(key, 1))
    apart = losses.permute_latents(for_shuffle, _draw(parts, for_noise, state, second)[0])
    return losses.total_correlation_discriminator(logit(state, joint), logit(state, apart)).mean(), ({}, {})

  def networks(key: Key, batch: Batch):
    for_model, for_judge = jax.random.split(key)
    params, extra = vae.networks(parts, for_model, batch)
    start = judge.init(for_judge, jnp.zeros((1, config.model.latents)))['params']
    return params | {'discriminator': start}, extra

  move = descend(
    model=Player(model_loss, optim.make(config, 'model'), ('encoder', 'decoder')),
    discriminator=Player(judge_loss, optim.make(config, 'discriminator'), ('discriminator',)),
  )
  return system(networks, move, _evaluate(parts), vae.sampler(parts), **vae.views(parts, config.nll))


def _alone(config: ConfigDict, loss: Callable[[State, Pass], tuple[jax.Array, Metrics]]) -> System:
  """A system of one player, whose loss is a function of what came out of the two networks."""
  parts = _parts(config)

  def total(key: Key, state: State, batch: Batch):
    seen = _through(parts, key, state, batch['x'])
    value, more = loss(state, seen)
    return value, ({}, _reported(seen) | more)

  move = descend(model=Player(total, optim.make(config, 'model'), ('encoder', 'decoder')))
  networks = lambda key, batch: vae.networks(parts, key, batch)
  return system(networks, move, _evaluate(parts), vae.sampler(parts), **vae.views(parts, config.nll))


def _parts(config: ConfigDict) -> vae.Parts:
  """Encoder and decoder after `config.model.encoder` and `.decoder`, {'hidden', 'activation'} each."""
  model = config.model
  for name in ('encoder', 'decoder'):
    experiment.one_of(f'config.model.{name}.activation', getattr(model, name).activation, ACTIVATIONS)
  experiment.require(model.latents >= 1, f'config.model.latents must be at least 1, got {model.latents}')
  likelihood = experiment.choose('config.model.likelihood', model.likelihood, LIKELIHOODS)(config.data.levels)
  settings = lambda name: {
    'hidden': (tuple(getattr(model, name).hidden),), 'activation': getattr(model, name).activation,
    'latents': (model.latents,), 'channels': tuple(model.channels), 'dtype': config.dtype,
  }  # fmt: skip
  decoder = Decoder(shape=tuple(config.data.shape), parameters=likelihood.parameters, **settings('decoder'))
  return vae.Parts(Encoder(**settings('encoder')), decoder, likelihood, 1)


def _draw(parts: vae.Parts, key: Key, state: State, x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
  """z, mean and logvar [B, Z] of images [B, H, W, C]."""
  mean, logvar = parts.encoder.apply({'params': state.params['encoder']}, x, method='first')
  return mean + jnp.exp(0.5 * logvar) * standard_normal(key, mean.shape), mean, logvar


def _through(parts: vae.Parts, key: Key, state: State, x: jax.Array) -> Pass:
  z, mean, logvar = _draw(parts, key, state, x)
  numbers = parts.decoder.apply({'params': state.params['decoder']}, z, method='pixels')
  log_px_z = parts.likelihood.log_prob(x.reshape(x.shape[0], -1), numbers)
  return Pass(log_px_z, distributions.gaussian_kl_standard_per_dim(mean, logvar), z, mean, logvar)


def _reported(seen: Pass) -> Metrics:
  return {'reconstruction_nats': -seen.log_px_z.mean(), 'kl_nats': seen.kl.sum(1).mean()}


def _evaluate(parts: vae.Parts) -> Callable[[Key, State, Batch], Metrics]:
  def evaluate(key: Key, state: State, batch: Batch) -> Metrics:
    seen = _through(parts, key, state, batch['x'])
    kl = seen.kl.sum(1)
    elbo = losses.elbo(seen.log_px_z, kl)
    return {'neg_elbo_nats': -elbo, 'reconstruction_nats': -seen.log_px_z, 'kl_nats': kl}

  return evaluate


def _halves(x: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Every other example, and those between: with a stride, so that a batch that is spread over devices stays there."""
  experiment.require(x.shape[0] % 2 == 0, f'config.batch_size must be even for two players, got {x.shape[0]}')
  pairs = x.reshape(-1, 2, *x.shape[1:])
  return pairs[:, 0], pairs[:, 1]


def _weight(config: ConfigDict, name: str) -> float:
  value = float(getattr(config.model, name))
  experiment.require(value >= 0, f'config.model.{name} must not be negative, got {value}')
  return value
