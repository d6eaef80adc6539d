"""Posteriors q(z|x), continuous or discrete.

Axes: B batch, k samples, Z latents.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from dgm_jax import config as experiment
from dgm_jax import distributions
from dgm_jax.internal.noise import standard_normal
from dgm_jax.models.binary import BinaryEncoder
from dgm_jax.models.vae import Encoder
from dgm_jax.nn.blocks import ACTIVATIONS
from dgm_jax.systems.parts.latents import Latent, Posterior, Prior
from dgm_jax.systems.parts.priors import fair_bits, pseudo_inputs, standard

__all__ = [
  'FAMILIES', 'Family', 'bernoulli', 'chain', 'check_network', 'encoder', 'fair_bits', 'from_family', 'normal',
  'pseudo_inputs', 'standard',
]  # fmt: skip


class Family(NamedTuple):
  """A family of posteriors q(z|x) with its prior.

  `params` is the tuple of the family's parameters, which the encoder computes, [..., Z] each.
  """

  init: Callable  # (key, x) -> weights of the encoder
  encode: Callable  # (weights, x) -> params [B, Z]
  sample: Callable  # (key, params [B, 1, Z], k) -> z [B, k, Z]; it passes gradients if the prior is normal
  log_prob: Callable  # (z, *params) -> [...] nats
  square_score: Callable  # (z, *params) -> [...] squared length of d log q / d params
  mean: Callable  # params -> [..., Z]
  prior: Prior


def chain(init: Callable, first: Callable, sizes: Sequence[int], above: Sequence[Callable] = ()) -> Posterior:
  """Returns the posterior of diagonal normals q(z_0|x), q(z_1|z_0), ...

  Args:
    init: (key, x) -> parameters of the encoder.
    first: (key, state, x) -> mean and logvar [B, Z_0] of the level next to the data.
    sizes: Z_l of each level.
    above: (key, state, z) -> mean and logvar [..., Z_l] of each other level; z is of the level below.
  """

  def draw(key, state, x, k):
    latents, axes = [], (x.shape[0],) if k is None else (x.shape[0], k)
    noise = jnp.split(standard_normal(key, (*axes, sum(sizes))), list(itertools.accumulate(sizes))[:-1], -1)
    for level, own in enumerate(noise):
      params = above[level - 1](key, state, latents[-1].z) if level else first(key, state, x)
      params = params if level or k is None else _per_sample(params)
      latents.append(Latent(params[0] + jnp.exp(0.5 * params[1]) * own, params))
    return latents

  def means(key, state, x):
    codes = [first(key, state, x)[0]]
    for up in above:
      codes.append(up(key, state, codes[-1])[0])
    return codes

  return Posterior(init=init, draw=draw, means=means, normal=None if above else first)


def encoder(config: ConfigDict, hidden: Sequence, latents: Sequence[int], activation: str) -> Posterior:
  """Returns the posterior of diagonal normals that an `Encoder` computes.

  Args:
    config: the experiment; `config.model.channels` are those of strided convolutions.
    hidden: sizes of the hidden layers, for each level.
    latents: Z_l of each level.
    activation: the name of the hidden layers' activation.
  """
  check_network(config, latents, activation)
  network = Encoder(hidden, latents, tuple(config.model.channels), activation, config.dtype)

  def at(method, *level):
    return lambda key, state, x: network.apply({'params': state.params['encoder']}, x, *level, method=method)

  above = [at('above', level) for level in range(1, len(latents))]
  return chain(lambda key, x: network.init(key, x[:1])['params'], at('first'), latents, above)


def check_network(config: ConfigDict, latents: Sequence[int], activation: str) -> None:
  """Refuses an activation that does not exist, and a level without latents.

  Raises:
    UserError: it names the setting.
  """
  experiment.one_of('config.model.activation', activation, (*ACTIVATIONS, 'gated', 'maxout'))
  experiment.require(all(size >= 1 for size in latents), f'config.model.latents must be at least 1, got {latents}')


def normal(config: ConfigDict) -> Family:
  """Returns the diagonal normals with the prior N(0, I); the parameters are mean and log-variance."""
  model = config.model
  check_network(config, (model.latents,), model.activation)
  network = Encoder((tuple(model.hidden),), (model.latents,), activation=model.activation, dtype=config.dtype)

  def init(key, x):
    return network.init(key, x)['params']

  def encode(weights, x):
    return network.apply({'params': weights}, x)[0]

  def sample(key, params, k):
    mean, logvar = params
    return mean + jnp.exp(0.5 * logvar) * jax.random.normal(key, (mean.shape[0], k, mean.shape[-1]))

  def square_score(z, mean, logvar):
    squared = jnp.square(z - mean) * jnp.exp(-logvar)
    return jnp.sum(squared * jnp.exp(-logvar) + 0.25 * jnp.square(squared - 1), -1)

  def mean(params):
    return params[0]

  return Family(
    init=init,
    encode=encode,
    sample=sample,
    log_prob=distributions.normal_log_prob,
    square_score=square_score,
    mean=mean,
    prior=standard(model.latents),
  )


def bernoulli(config: ConfigDict) -> Family:
  """Returns independent bits with a prior of fair bits; the parameter is the logit. Samples pass no gradient."""
  model = config.model
  check_network(config, (model.latents,), model.activation)
  network = BinaryEncoder(tuple(model.hidden), model.latents, model.activation, config.dtype)

  def init(key, x):
    return network.init(key, x)['params']

  def encode(weights, x):
    return (network.apply({'params': weights}, x),)

  def sample(key, params, k):
    (logits,) = params
    return distributions.bernoulli_sample(key, jnp.broadcast_to(logits, (logits.shape[0], k, logits.shape[-1])))

  def square_score(z, logits):
    return jnp.sum(jnp.square(z - jax.nn.sigmoid(logits)), -1)

  def mean(params):
    return jax.nn.sigmoid(params[0])

  return Family(
    init=init,
    encode=encode,
    sample=sample,
    log_prob=distributions.bernoulli_log_prob,
    square_score=square_score,
    mean=mean,
    prior=fair_bits(model.latents),
  )


def from_family(family: Family, detach: Callable) -> Posterior:
  """Returns the posterior of a family; `detach` is applied to its samples."""

  def encode(key, state, x):
    del key
    return family.encode(state.params['encoder'], x)

  def draw(key, state, x, k):
    params = encode(key, state, x)
    z = detach(family.sample(key, _per_sample(params), k))
    return [Latent(z, _per_sample(params), family.log_prob(z, *_per_sample(params)))]

  def means(key, state, x):
    return [family.mean(encode(key, state, x))]

  normal_encode = encode if family.prior.view.normal else None
  return Posterior(init=family.init, draw=draw, means=means, normal=normal_encode)


def _per_sample(params):
  """Inserts the axis of samples: [B, Z] -> [B, 1, Z] each."""
  return tuple(param[:, None] for param in params)


FAMILIES = {'bernoulli': bernoulli, 'normal': normal}
