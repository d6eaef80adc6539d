"""Annealed importance sampling by Hamiltonian Monte Carlo: a bracket of the evidence of a latent-variable model.

The densities between prior and posterior are p(z) p(x|z)^beta. Chains from the prior upwards give on average a lower
bound of log p(x), chains from an exact posterior sample downwards an upper bound.

Axes: N chains, Z latents, T temperatures.

Reference: Neal 2001, Annealed importance sampling; Grosse et al. 2015, arXiv:1511.02543; Wu et al. 2017,
arXiv:1611.04273.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

__all__ = ['Chains', 'backward', 'forward', 'hamiltonian', 'temperatures', 'tune']

ACCEPTED = 0.65  # the share of proposals that step sizes are tuned for
START = 0.1  # the first step size


class Chains(NamedTuple):
  """The densities of N chains."""

  log_prior: Callable  # z [N, Z] -> [N] nats
  log_likelihood: Callable  # z [N, Z] -> [N] nats, of each chain's own x
  leapfrogs: int = 10  # steps of each proposal


def temperatures(count: int) -> jax.Array:
  """Returns `count` + 1 temperatures from 0 to 1, equally spaced on the scale of a sigmoid from -4 to 4."""
  line = jax.nn.sigmoid(jnp.linspace(-4, 4, count + 1))
  return (line - line[0]) / (line[-1] - line[0])


def hamiltonian(key: jax.Array, chains: Chains, z: jax.Array, beta: jax.Array, step: jax.Array):
  """Moves each chain by one proposal of Hamiltonian dynamics, which leaves p(z) p(x|z)^beta as it is.

  Args:
    key: of the momenta and of the acceptance.
    chains: the densities.
    z: [N, Z].
    beta: [].
    step: [] size of the leapfrog steps.

  Returns:
    z [N, Z], and whether each proposal was accepted [N].
  """
  for_momentum, for_acceptance = jax.random.split(key)

  def density(z):
    return chains.log_prior(z) + beta * chains.log_likelihood(z)

  slope = jax.grad(lambda z: density(z).sum())
  momentum = jax.random.normal(for_momentum, z.shape, z.dtype)

  def leapfrog(_, carry):
    z, momentum = carry
    z = z + step * momentum
    return z, momentum + step * slope(z)

  # Half a step of the momentum before, and half a step too many taken back after.
  moved, kept = jax.lax.fori_loop(0, chains.leapfrogs, leapfrog, (z, momentum + 0.5 * step * slope(z)))
  kept = kept - 0.5 * step * slope(moved)
  energy = lambda z, momentum: density(z) - 0.5 * jnp.square(momentum).sum(1)
  log_ratio = energy(moved, kept) - energy(z, momentum)
  accepted = jnp.log(jax.random.uniform(for_acceptance, log_ratio.shape)) < log_ratio
  return jnp.where(accepted[:, None], moved, z), accepted


def tune(key: jax.Array, chains: Chains, z: jax.Array, betas: jax.Array) -> jax.Array:
  """Returns a step size for each temperature after the first, [T].

  They are those of chains of their own, so that the chains that are weighed do not choose their own steps.
  """

  def turn(carry, at):
    z, step = carry
    z, accepted = hamiltonian(at[0], chains, z, at[1], step)
    share = accepted.mean()
    return (z, jnp.clip(step * jnp.where(share > ACCEPTED, 1.05, 0.95), 1e-4, 2.0)), step

  keys = jax.random.split(key, len(betas) - 1)
  return jax.lax.scan(turn, (z, jnp.asarray(START, z.dtype)), (keys, betas[1:]))[1]


def forward(key: jax.Array, chains: Chains, z: jax.Array, betas: jax.Array, steps: jax.Array) -> jax.Array:
  """Computes log weights [N] of chains from samples z of the prior; the mean of their exponential is p(x)."""

  def turn(carry, at):
    z, log_weight = carry
    key, before, beta, step = at
    log_weight = log_weight + (beta - before) * chains.log_likelihood(z)
    return (hamiltonian(key, chains, z, beta, step)[0], log_weight), None

  keys = jax.random.split(key, len(steps))
  start = z, jnp.zeros(z.shape[0], z.dtype)
  return jax.lax.scan(turn, start, (keys, betas[:-1], betas[1:], steps))[0][1]


def backward(key: jax.Array, chains: Chains, z: jax.Array, betas: jax.Array, steps: jax.Array) -> jax.Array:
  """Computes log weights [N] of chains from samples z of the posterior; the mean of their exponential is 1 / p(x).

  They are `forward` in the reverse order, and take the same step sizes.
  """

  def turn(carry, at):
    z, log_weight = carry
    key, before, beta, step = at
    z = hamiltonian(key, chains, z, beta, step)[0]
    return (z, log_weight - (beta - before) * chains.log_likelihood(z)), None

  keys = jax.random.split(key, len(steps))
  start = z, jnp.zeros(z.shape[0], z.dtype)
  return jax.lax.scan(turn, start, (keys, betas[:-1], betas[1:], steps), reverse=True)[0][1]
