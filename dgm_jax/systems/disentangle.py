"""Autoencoders for disentangled latents: beta-VAE, controlled capacity, FactorVAE, beta-TCVAE, DIP-VAE.

They differ in the penalty that is added to the bound. Its weights come from `config.model`. Each system also takes them
as arguments, so that one program trains many weights by `jax.vmap` (`python -m dgm_jax.study`).

Axes: B batch, D pixels, Z latents.
"""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from dgm_jax import config as experiment
from dgm_jax import losses, optim
from dgm_jax.core import Batch, Key, Player, State, System, descend
from dgm_jax.models.disentangle import LatentDiscriminator
from dgm_jax.nn.blocks import ACTIVATIONS
from dgm_jax.systems.parts import bounds, likelihoods, posteriors
from dgm_jax.systems.parts.bounds import Bound, Model, Terms

__all__ = ['beta_vae', 'capacity_vae', 'dip_vae', 'factor_vae', 'tc_vae']

WEIGHTS = {'minibatch': losses.minibatch_weights, 'stratified': losses.stratified_weights}
DIVERGENCES = ('closed', 'sampled')
COVARIANCES = ('means', 'aggregate')


def _reconstruction(terms: Terms, state: State) -> jax.Array:
  del state
  return -terms.log_px_z.mean()


def _kl(terms: Terms, state: State) -> jax.Array:
  del state
  return terms.kl.mean()


PARTS = {'reconstruction_nats': _reconstruction, 'kl_nats': _kl}  # metrics of all systems, by name
Weight = jax.Array | float | None


def beta_vae(config: ConfigDict, beta: Weight = None) -> System:
  """Builds the system whose divergence from the prior has the weight `config.model.beta`.

  Reference: Higgins et al. 2017, beta-VAE, equation 4.
  """
  return _system(config, bounds.beta(_weight(config, 'beta', beta)))


def capacity_vae(config: ConfigDict, gamma: Weight = None) -> System:
  """Builds the system that penalises the distance of the mean divergence from a capacity.

  The capacity rises from 0 to `config.model.capacity` nats over `capacity_steps`. The weight is `gamma`.

  Reference: Burgess et al. 2018, arXiv:1804.03599, equation 8.
  """
  limit, gamma = bounds.ramp(config, 'capacity_steps', _weight(config, 'capacity')), _weight(config, 'gamma', gamma)
  return _system(config, bounds.capacity(limit, gamma), capacity_nats=lambda terms, state: limit(state))


def tc_vae(config: ConfigDict, beta: Weight = None) -> System:
  """Builds the system that weights the total correlation, a part of the divergence, by `beta`.

  The total correlation is estimated from the batch. With `config.model.divergence` = 'closed', beta - 1 total
  correlations are added to the closed divergence (Locatello et al. 2019). With 'sampled', one of the three parts of a
  sample's divergence is weighted (Chen et al. 2018). `config.model.estimator` = 'minibatch' is that of both papers,
  'stratified' is unbiased. The metric is always the stratified one.

  Reference: Chen et al. 2018, arXiv:1802.04942, equation 4; Locatello et al. 2019, arXiv:1811.12359, appendix.
  """
  beta, model = _weight(config, 'beta', beta), config.model
  experiment.one_of('config.model.estimator', model.estimator, WEIGHTS)
  experiment.one_of('config.model.divergence', model.divergence, DIVERGENCES)

  def bound(terms: Terms, state: State):
    del state
    z, mean, logvar = _codes(terms)
    size = max(config.data.examples, z.shape[0])
    split = lambda weights: losses.minibatch_total_correlation(z, mean, logvar, dataset_size=size, log_weights=weights)
    parts, correlation = split(WEIGHTS[model.estimator]), split(losses.stratified_weights).total_correlation
    if model.divergence == 'closed':
      divergence = terms.kl + (beta - 1) * parts.total_correlation
    else:
      divergence = parts.mutual_information + beta * parts.total_correlation + parts.dimension_wise_kl
    return terms.log_px_z - divergence, ({}, {'total_correlation_nats': correlation.mean()})

  return _system(config, bound)


def dip_vae(config: ConfigDict, off_diagonal: Weight = None) -> System:
  """Builds the system that penalises the distance of the latents' covariance from the identity.

  The covariance is that of the means (type I) or of the aggregated posterior (type II). The weight of entries off the
  diagonal is `config.model.off_diagonal`; those on it weigh `diagonal_ratio` times as much.

  Reference: Kumar et al. 2018, arXiv:1711.00848, equations 6 and 7.
  """
  off_diagonal = _weight(config, 'off_diagonal', off_diagonal)
  ratio, covariance = _weight(config, 'diagonal_ratio'), config.model.covariance
  experiment.one_of('config.model.covariance', covariance, COVARIANCES)

  def bound(terms: Terms, state: State):
    _, mean, logvar = _codes(terms)
    matrix = losses.covariance_of_means(mean) if covariance == 'means' else losses.aggregate_covariance(mean, logvar)
    penalty = losses.dip_penalty(matrix, off_diagonal=off_diagonal, diagonal=off_diagonal * ratio)
    return bounds.elbo(terms, state)[0].mean() - penalty, ({}, {'penalty': penalty})

  return _system(config, bound)


def factor_vae(config: ConfigDict, gamma: Weight = None) -> System:
  """Builds the system that penalises the total correlation, estimated by a discriminator, with the weight `gamma`.

  Both players move at once. The first half of the batch trains the autoencoder and gives the discriminator latents of
  the joint distribution; the latents of the second half are permuted.

  Reference: Kim & Mnih 2018, arXiv:1802.05983, algorithm 2.
  """
  gamma = _weight(config, 'gamma', gamma)
  model, discriminator = _model(config), LatentDiscriminator(tuple(config.model.discriminator), config.dtype)
  logit = lambda state, z: discriminator.apply({'params': state.params['discriminator']}, z)

  def bound(terms: Terms, state: State):
    correlation = losses.total_correlation(logit(state, _codes(terms)[0])).mean()
    value = bounds.elbo(terms, state)[0].mean() - gamma * correlation
    return value, ({}, {'total_correlation_nats': correlation})

  def discriminator_loss(key: Key, state: State, batch: Batch):
    first, second = _halves(batch['x'])
    joint = _codes(model.draw(key, state, first))[0]  # shared with the other player's loss: same key
    for_noise, for_shuffle = jax.random.split(jax.random.fold_in(key, 1))
    permuted = losses.permute_latents(for_shuffle, _codes(model.draw(for_noise, state, second))[0])
    return losses.total_correlation_discriminator(logit(state, joint), logit(state, permuted)).mean(), ({}, {})

  def networks(key: Key, batch: Batch):
    for_model, for_discriminator = jax.random.split(key)
    params, extra = model.networks(for_model, batch)
    init = discriminator.init(for_discriminator, jnp.zeros((1, config.model.latents)))['params']
    return params | {'discriminator': init}, extra

  move = descend(
    model=bounds.player(config, model, bounds.with_metrics(bound, **PARTS), lambda x: _halves(x)[0]),
    discriminator=Player(discriminator_loss, optim.make(config, 'discriminator'), ('discriminator',)),
  )
  return bounds.close(config, model._replace(networks=networks), move)


def _system(config: ConfigDict, bound: Bound, **metrics) -> System:
  return bounds.system(config, _model(config), bounds.with_metrics(bound, **PARTS, **metrics))


def _model(config: ConfigDict) -> Model:
  """Builds encoder and decoder after `config.model.encoder` and `.decoder`, {'hidden', 'activation'} each."""
  model = config.model
  for name in ('encoder', 'decoder'):
    experiment.one_of(f'config.model.{name}.activation', getattr(model, name).activation, ACTIVATIONS)
  experiment.require(model.latents >= 1, f'config.model.latents must be at least 1, got {model.latents}')
  settings = lambda part: ((tuple(part.hidden),), (model.latents,), part.activation)
  posterior = posteriors.encoder(config, *settings(model.encoder))
  decoder = likelihoods.decoder(config, *settings(model.decoder))
  return bounds.compose(posterior, posteriors.standard(model.latents), decoder)


def _codes(terms: Terms) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Returns z, mean and logvar, [B, Z] each."""
  return terms.latents[0].z, *terms.latents[0].params


def _halves(x: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Splits a batch into even and odd examples; with this stride a batch that is spread over devices stays there."""
  experiment.require(x.shape[0] % 2 == 0, f'config.batch_size must be even for two players, got {x.shape[0]}')
  pairs = x.reshape(-1, 2, *x.shape[1:])
  return pairs[:, 0], pairs[:, 1]


def _weight(config: ConfigDict, name: str, value: Weight = None) -> jax.Array | float:
  """Returns the value if it is not None, else that of the config."""
  if value is not None:
    return value
  value = float(getattr(config.model, name))
  experiment.require(value >= 0, f'config.model.{name} must not be negative, got {value}')
  return value
