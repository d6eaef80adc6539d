"""Trains a network of your own, here of Flax NNX, on a loss of the library: python examples/loss_in_your_loop.py."""

import sys

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from sklearn.datasets import load_digits

from dgm_jax import distributions, losses

SAMPLES, LATENTS = 5, 8


def bound(networks, key, x):
  """Returns the importance-weighted bound on log p(x) for each image of x [B, D], [B] nats."""
  mean, logvar = jnp.split(networks['encoder'](x), 2, axis=-1)  # [B, Z] each
  mean, logvar = (jnp.broadcast_to(part, (SAMPLES, *part.shape)) for part in (mean, logvar))
  z = distributions.normal_sample(key, mean, logvar)  # [K, B, Z]
  log_px_z = distributions.bernoulli_log_prob(x[None], networks['decoder'](z))
  log_ratio = distributions.normal_log_prob(z, mean, logvar) - distributions.standard_normal_log_prob(z)
  return losses.importance_weighted_bound(log_px_z - log_ratio, axis=0)


def main(steps=500):
  x = jnp.asarray(load_digits().data > 8, jnp.float32)  # [1797, 64], binary
  encoder, decoder = nnx.Linear(64, 2 * LATENTS, rngs=nnx.Rngs(0)), nnx.Linear(LATENTS, 64, rngs=nnx.Rngs(1))
  networks = nnx.Dict(encoder=encoder, decoder=decoder)
  optimizer = nnx.Optimizer(networks, optax.adam(1e-2), wrt=nnx.Param)
  gradient = nnx.jit(nnx.value_and_grad(lambda networks, key: -bound(networks, key, x).mean()))
  for step in range(int(steps)):
    nats, grads = gradient(networks, jax.random.key(step))
    optimizer.update(networks, grads)
  print(f'{nats:.2f} nats after {steps} steps')


if __name__ == '__main__':
  main(*sys.argv[1:])
