"""Variational autoencoders: trained on the ELBO (`vae`) or on the importance-weighted bound (`iwae`).

Axes: B batch, k samples, D pixels, Z_l latents of layer l (layer 0 next to the data).
"""

import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from dgm_jax import config as experiment
from dgm_jax import distributions, losses, optim
from dgm_jax.core import Batch, Key, Metrics, Player, State, System, descend, system
from dgm_jax.internal.noise import standard_normal
from dgm_jax.models.vae import Decoder, Encoder
from dgm_jax.nn.blocks import ACTIVATIONS
from dgm_jax.systems.parts import posteriors
from dgm_jax.systems.parts.likelihoods import LIKELIHOODS, Likelihood

__all__ = ['iwae', 'vae']


class Parts(NamedTuple):
  """The two networks, what the decoder's numbers mean, and how many samples the bound takes."""

  encoder: Encoder
  decoder: Decoder
  likelihood: Likelihood
  samples: int


class Terms(NamedTuple):
  """What every bound is made of, for k samples of each example."""

  log_px_z: jax.Array  # [B, k] nats
  log_ratio: jax.Array  # [B, k] log q(z|x) - log p(z), all layers
  kl: jax.Array  # [B, k] the same, the top layer's in closed form
  layers: list[tuple[jax.Array, jax.Array]]  # (mean, logvar) of q, [B, 1 or k, Z_l]
  kl_per_dim: list[jax.Array]  # [B, k, Z_l]; the top layer's in closed form


def vae(config: ConfigDict) -> System:
  """Trained on the mean over k samples of the ELBO, the top layer's divergence in closed form.

  Reference: Kingma & Welling 2014, arXiv:1312.6114, equation 10.
  """
  return _system(config, lambda terms: losses.elbo(terms.log_px_z, terms.kl).mean(1))


def iwae(config: ConfigDict) -> System:
  """Trained on the importance-weighted bound of k samples.

  Reference: Burda et al. 2016, arXiv:1509.00519, equation 8.
  """
  return _system(config, lambda terms: losses.importance_weighted_bound(terms.log_px_z - terms.log_ratio, axis=1))


def _system(config: ConfigDict, bound: Callable[[Terms], jax.Array]) -> System:
  parts = _parts(config)

  def loss(key: Key, state: State, batch: Batch):
    return -bound(draw(parts, key, state, batch['x'], parts.samples)).mean(), ({}, {})

  def evaluate(key: Key, state: State, batch: Batch) -> Metrics:
    terms = draw(parts, key, state, batch['x'], parts.samples)
    weights = terms.log_px_z - terms.log_ratio
    return {
      'neg_elbo_nats': -losses.elbo(terms.log_px_z, terms.kl).mean(1),
      'neg_bound_nats': -losses.importance_weighted_bound(weights, axis=1),
      'reconstruction_nats': -terms.log_px_z.mean(1),
      'kl_nats': terms.kl.mean(1),
    }

  move = descend(model=Player(loss, optim.make(config, 'model'), ('encoder', 'decoder')))
  return system(
    lambda key, batch: networks(parts, key, batch), move, evaluate, sampler(parts), **views(parts, config.nll)
  )


def _parts(config: ConfigDict) -> Parts:
  model = config.model
  experiment.one_of('config.model.activation', model.activation, ACTIVATIONS)
  experiment.require(model.samples >= 1, f'config.model.samples must be at least 1, got {model.samples}')
  experiment.require(
    len(model.hidden) == len(model.latents) >= 1,
    f'config.model.hidden={model.hidden} must list the layers of as many networks as there are stochastic layers in'
    f' config.model.latents={model.latents}',
  )
  likelihood = experiment.choose('config.model.likelihood', model.likelihood, LIKELIHOODS)(config.data.levels)
  common = {
    'hidden': tuple(map(tuple, model.hidden)), 'latents': tuple(model.latents), 'channels': tuple(model.channels),
    'activation': model.activation, 'dtype': config.dtype,
  }  # fmt: skip
  decoder = Decoder(shape=tuple(config.data.shape), parameters=likelihood.parameters, **common)
  return Parts(Encoder(**common), decoder, likelihood, model.samples)


def networks(parts: Parts, key: Key, batch: Batch):
  """Fresh parameters; the output's bias is set so that the first guess is the mean of the data."""
  for_encoder, for_decoder = jax.random.split(key)
  x = batch['x']
  encoder = parts.encoder.init(for_encoder, x[:1])['params']
  decoder = parts.decoder.init(for_decoder, jnp.zeros((1, parts.decoder.latents[-1])))['params']
  conv = bool(parts.decoder.channels)
  mean = x.mean((0, 1, 2)) if conv else x.mean(0).ravel()
  layer = decoder['output']['output'] if conv else decoder['output']
  layer['bias'] = parts.likelihood.start(mean).ravel()
  return {'encoder': encoder, 'decoder': decoder}, {}


def draw(parts: Parts, key: Key, state: State, x: jax.Array, k: int) -> Terms:
  """Draws k latents for each image and weighs them.

  Args:
    x: [B, H, W, C] in the likelihood's space.

  Returns: the terms of any bound, [B, k].
  """
  encoder, decoder = _bind(parts, state)
  layers, latents = [], []
  sizes = parts.encoder.latents
  noise = jnp.split(standard_normal(key, (x.shape[0], k, sum(sizes))), list(itertools.accumulate(sizes))[:-1], -1)
  for level, own in enumerate(noise):
    mean, logvar = encoder(latents[-1], level, method='above') if level else _per_sample(encoder(x, method='first'))
    layers.append((mean, logvar))
    latents.append(mean + jnp.exp(0.5 * logvar) * own)
  log_px_z = _log_likelihood(parts, _flat(x), decoder(latents[0], method='pixels'))
  priors = [decoder(z, level + 1, method='below') for level, z in enumerate(latents[1:])]
  return _weigh(log_px_z, layers, latents, priors)


def _log_likelihood(parts: Parts, x: jax.Array, numbers) -> jax.Array:
  """log p(x|z) in nats of x [B, D] for k latents each, [B, k]."""
  if numbers[0].shape[1] > 1:
    return parts.likelihood.log_prob(x[:, None], numbers)
  # The encoder's own x, on two axes: a second shape of it would be binarized a second time.
  return parts.likelihood.log_prob(x, tuple(n[:, 0] for n in numbers))[:, None]


def _weigh(log_px_z, layers, latents, priors) -> Terms:
  top = latents[-1]
  lower = [
    _log_normal(z, *q) - _log_normal(z, *p) for z, q, p in zip(latents[:-1], layers[:-1], priors, strict=True)
  ]  # [B, k, Z_l]
  top_kl = distributions.gaussian_kl_standard_per_dim(*layers[-1])
  below = sum((ratio.sum(-1) for ratio in lower), jnp.zeros(log_px_z.shape))
  log_ratio = below + distributions.normal_log_prob(top, *layers[-1]) - distributions.standard_normal_log_prob(top)
  per_dim = [*lower, jnp.broadcast_to(top_kl, top.shape)]
  return Terms(log_px_z, log_ratio, below + top_kl.sum(-1), layers, per_dim)


def _log_normal(z, mean, logvar) -> jax.Array:
  """Log-density of each coordinate on its own, [B, k, Z]."""
  return distributions.normal_log_prob(z[..., None], mean[..., None], logvar[..., None])


def sampler(parts: Parts) -> Callable[[Key, State, int], jax.Array]:
  """`System.sample`: draws from the model, pixels included."""

  def sample(key: Key, state: State, n: int) -> jax.Array:
    _, decoder = _bind(parts, state)
    for_pixels, for_latents = jax.random.split(key)
    z = _ancestral(parts, decoder, for_latents, n)
    return _shaped(parts, parts.likelihood.sample(for_pixels, decoder(z, method='pixels')))

  return sample


def _ancestral(parts: Parts, decoder: Callable, key: Key, n: int) -> jax.Array:
  """z_0 of n draws from the prior, [n, Z_0]."""
  first, *keys = jax.random.split(key, len(parts.decoder.latents))
  z = standard_normal(first, (n, parts.decoder.latents[-1]))
  for level, key in zip(range(len(keys), 0, -1), keys, strict=True):
    z = distributions.normal_sample(key, *decoder(z, level, method='below'))
  return z


def views(parts: Parts, nll: ConfigDict) -> dict[str, Any]:
  """Makes `System.views`; `posterior`, the one layer's (mean, logvar), where there is one layer.

  Args:
    parts: of the autoencoder.
    nll: settings of the likelihood's estimate, `config.nll`.
  """
  latents, dims = parts.encoder.latents, math.prod(parts.decoder.shape)

  def encode(key, state, x):
    del key  # the means need no noise
    return parts.encoder.apply({'params': state.params['encoder']}, x)[-1][0]

  def decode(key, state, z):
    del key
    return _shaped(parts, parts.likelihood.mean(_bind(parts, state)[1](z)))

  def reconstruct(key, state, x):
    del key
    encoder, decoder = _bind(parts, state)
    return _shaped(parts, parts.likelihood.mean(decoder(encoder(x, method='first')[0], method='pixels')))

  def mean_sample(key, state, n):
    decoder = _bind(parts, state)[1]
    return _shaped(parts, parts.likelihood.mean(decoder(_ancestral(parts, decoder, key, n), method='pixels')))

  def posterior(key, state, x):
    del key
    return parts.encoder.apply({'params': state.params['encoder']}, x, method='first')

  def layers(key, state, x):
    terms = draw(parts, key, state, x, 1)
    return [(mean[:, 0], kl[:, 0]) for (mean, _), kl in zip(terms.layers, terms.kl_per_dim, strict=True)]

  return {
    'encode': encode, 'decode': decode, 'reconstruct': reconstruct, 'mean_sample': mean_sample, 'layers': layers,
    'kl_per_dim': lambda key, state, x: layers(key, state, x)[-1][1], 'prior': posteriors.standard(latents[-1]),
    'log_prob': lambda key, state, x, labels=None: _log_prob(parts, key, state, x, nll.samples, nll.rows),
    'bits': lambda key, state, nats: parts.likelihood.bits(nats, dims),
    'posterior': posterior if len(parts.encoder.latents) == 1 else None,
  }  # fmt: skip


def _log_prob(parts: Parts, key: Key, state: State, x: jax.Array, samples: int, rows: int) -> jax.Array:
  """log p(x) by importance sampling, [B] nats; at most about `rows` decoded images are held at a time."""
  fitting = [k for k in range(1, samples + 1) if samples % k == 0 and k * x.shape[0] <= max(rows, x.shape[0])]

  def add(total, key):
    terms = draw(parts, key, state, x, fitting[-1])
    chunk = jax.nn.logsumexp(terms.log_px_z - terms.log_ratio, 1)
    return jnp.logaddexp(total, chunk), None

  start = jnp.full(x.shape[0], -jnp.inf)
  total, _ = jax.lax.scan(add, start, jax.random.split(key, samples // fitting[-1]))
  return total - jnp.log(samples)


def _bind(parts: Parts, state: State) -> tuple[Callable, Callable]:
  def bound(module, name):
    return lambda *args, method=None: module.apply({'params': state.params[name]}, *args, method=method)

  return bound(parts.encoder, 'encoder'), bound(parts.decoder, 'decoder')


def _per_sample(layer):
  """[B, Z] -> [B, 1, Z]."""
  return jax.tree.map(lambda a: a[:, None], layer)


def _flat(x: jax.Array) -> jax.Array:
  return x.reshape(x.shape[0], -1)


def _shaped(parts: Parts, x: jax.Array) -> jax.Array:
  return x.reshape(x.shape[0], *parts.decoder.shape)
