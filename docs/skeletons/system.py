"""A system to copy: a linear autoencoder. Put it into dgm_jax/systems/, and its config into configs/."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from dgm_jax import config as experiment
from dgm_jax import optim
from dgm_jax.core import Batch, Key, Metrics, Player, State, System, descend, system

__all__ = ['linear']


def linear(config: ConfigDict) -> System:
  """Trained on the squared error of images [B, H, W, C] from `model.latents` linear codes.

  Reference: Baldi & Hornik 1989, Neural networks and principal component analysis.
  """
  model, shape = config.model, tuple(config.data.shape)
  experiment.require(model.latents >= 1, f'config.model.latents must be at least 1, got {model.latents}')
  encoder, decoder = nn.Dense(model.latents), nn.Dense(int(jnp.prod(jnp.asarray(shape))))

  def networks(key: Key, batch: Batch):
    for_encoder, for_decoder = jax.random.split(key)
    x = batch['x'].reshape(batch['x'].shape[0], -1)
    params = {
      'encoder': encoder.init(for_encoder, x[:1])['params'],
      'decoder': decoder.init(for_decoder, jnp.zeros((1, model.latents)))['params'],
    }
    return params, {}  # parameters by network, and what else the state holds

  def encode(key: Key, state: State, x: jax.Array) -> jax.Array:
    del key
    return encoder.apply({'params': state.params['encoder']}, x.reshape(x.shape[0], -1))

  def decode(key: Key, state: State, z: jax.Array) -> jax.Array:
    del key
    return decoder.apply({'params': state.params['decoder']}, z).reshape(-1, *shape)

  def evaluate(key: Key, state: State, batch: Batch) -> Metrics:
    apart = decode(key, state, encode(key, state, batch['x'])) - batch['x']
    return {'squared_error': jnp.square(apart).sum((1, 2, 3))}  # [B]

  def loss(key: Key, state: State, batch: Batch):
    return evaluate(key, state, batch)['squared_error'].mean(), ({}, {})  # scalar, (entries of extra, metrics)

  move = descend(model=Player(loss, optim.make(config, 'model'), ('encoder', 'decoder')))
  return system(networks, move, evaluate, None, encode=encode, decode=decode)
