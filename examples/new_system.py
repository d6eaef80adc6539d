"""Makes a new system, a denoising autoencoder, and trains it with the library's step: python examples/new_system.py."""

import sys

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from sklearn.datasets import load_digits

from dgm_jax.core import Player, descend, system

NETWORK = nn.Sequential([nn.Dense(128), nn.relu, nn.Dense(64)])


def denoiser(noise=0.3):
  restore = lambda state, x: NETWORK.apply({'params': state.params['network']}, x)

  def networks(key, batch):
    return {'network': NETWORK.init(key, batch['x'])['params']}, {}

  def loss(key, state, batch):
    noisy = batch['x'] + noise * jax.random.normal(key, batch['x'].shape)
    return jnp.square(restore(state, noisy) - batch['x']).sum(-1).mean(), ({}, {})

  evaluate = lambda _, state, b: {'squared_error': jnp.square(restore(state, b['x']) - b['x']).sum(-1)}  # [B]
  return system(networks, descend(model=Player(loss, optax.adam(1e-3), ('network',))), evaluate, None)


def main(steps=500):
  mine, batch = denoiser(), {'x': jnp.asarray(load_digits().data / 16, jnp.float32)}
  state, step = mine.init(jax.random.key(0), batch), jax.jit(mine.step)
  for number in range(int(steps)):
    state, metrics = step(jax.random.key(number), state, batch)
  error = mine.evaluate(jax.random.key(0), state, batch)['squared_error'].mean()
  print(f'loss {metrics["model/loss"]:.2f}, squared error of clean images {error:.2f} after {steps} steps')


if __name__ == '__main__':
  main(*sys.argv[1:])
