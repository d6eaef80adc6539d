"""Restricted Boltzmann machines: energies, block Gibbs sampling, and the normalizer, exactly or by annealing.

The units are bits in two halves. Given one half, the units of the other are independent.

Axes: L units on the left, R on the right, N = L + R, C chains, ... any leading axes.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, Num

from dgm_jax.distributions import stable
from dgm_jax.internal.noise import uniform

__all__ = [
  'LIMIT', 'Machine', 'annealed', 'annealed_back', 'energy', 'free_energy', 'gibbs', 'independent', 'log_normalizer',
  'lower_bound', 'swapped', 'upper_bound',
]  # fmt: skip

LIMIT = 24  # most bits of the smaller half that are enumerated
CHUNK = 12  # bits whose states are held in memory at a time


class Machine(NamedTuple):
  """The machine p(z) = exp(-E(z)) / Z with -E = left . z_left + right . z_right + z_left . weights z_right, in nats."""

  left: jax.Array  # [L] biases
  right: jax.Array  # [R]
  weights: jax.Array  # [L, R]


def swapped(machine: Machine) -> Machine:
  """Returns the same machine with its halves exchanged."""
  return Machine(machine.right, machine.left, machine.weights.T)


def independent(machine: Machine) -> Float[Array, '']:
  """Computes the log-normalizer of the machine without its weights, [] nats."""
  return stable.softplus(machine.left).sum() + stable.softplus(machine.right).sum()


def energy(machine: Machine, states: Num[Array, '*B N']) -> Float[Array, '*B']:
  """Computes the energy E(z) of states, the left half first.

  Returns:
    [...] nats.

  Reference: Rolfe 2017, arXiv:1609.02200, equation 5.
  """
  left, right = _halves(machine, states)
  return -(left @ machine.left + right @ machine.right + ((left @ machine.weights) * right).sum(-1))


def free_energy(machine: Machine, left: Float[Array, '*B L']) -> Float[Array, '*B']:
  """Computes the free energy -log sum_(z_right) exp(-E(z)) of the left halves of states.

  Returns:
    [...] nats.

  Reference: Salakhutdinov & Murray 2008, On the quantitative analysis of deep belief networks, equation 4.
  """
  return -(left @ machine.left + stable.softplus(_fields(machine, left)).sum(-1))


def gibbs(key: Key[Array, ''], machine: Machine, states: Num[Array, 'C N'], sweeps: int) -> Num[Array, 'C N']:
  """Moves chains by block Gibbs sampling: in each sweep the right half given the left one, then the left one anew.

  Args:
    key: random key.
    machine: the distribution, which the sweeps leave as it is.
    states: [C, N] bits, the left half first.
    sweeps: number of sweeps.

  Returns:
    [C, N] bits, of the type of the states.

  Reference: Hinton 2002, doi:10.1162/089976602760128018, section 3.
  """
  left, right = _halves(machine, states)

  def turn(number, halves):
    return _sweep(jax.random.fold_in(key, number), machine, halves[0])

  left, right = jax.lax.fori_loop(0, sweeps, turn, (left, right))
  return jnp.concatenate([left, right], -1).astype(states.dtype)


def log_normalizer(machine: Machine) -> Float[Array, '']:
  """Computes log Z by enumerating the states of the smaller half, [] nats. Its gradient by a bias is a unit's mean.

  Raises:
    ValueError: the smaller half has more than 24 bits.
  """
  machine = swapped(machine) if machine.left.size > machine.right.size else machine
  count = machine.left.size
  if count > LIMIT:
    raise ValueError(f'the smaller half has {count} bits, and at most {LIMIT} can be enumerated: use `annealed`')
  low = min(count, CHUNK)
  bits = lambda numbers, width: ((numbers[:, None] >> jnp.arange(width)[None]) & 1).astype(machine.left.dtype)
  table = bits(jnp.arange(2**low), low)

  def turn(total, number):
    above = jnp.broadcast_to(bits(number[None], count - low), (2**low, count - low))
    states = jnp.concatenate([table, above], -1)
    return jnp.logaddexp(total, jax.nn.logsumexp(-free_energy(machine, states))), None

  start = jnp.full((), -jnp.inf, machine.left.dtype)
  return jax.lax.scan(turn, start, jnp.arange(2 ** (count - low)))[0]


def annealed(key: Key[Array, ''], machine: Machine, temperatures: int, chains: int) -> Float[Array, 'C']:
  """Computes log weights of annealed chains, from independent units to the machine; their exponential's mean is Z.

  Between both, the weights of the machine are multiplied by a number that rises from 0 to 1 in equal steps.

  Args:
    key: random key.
    machine: the distribution.
    temperatures: number of steps, a sweep each.
    chains: C.

  Returns:
    [C] nats; `lower_bound` of them is on average below log Z.

  Reference: Neal 2001, Annealed importance sampling; Salakhutdinov & Murray 2008, On the quantitative analysis of deep
  belief networks, section 4.
  """
  for_start, for_sweeps = jax.random.split(key)
  fields = jnp.broadcast_to(machine.left[None], (chains, machine.left.size))
  start = _sample(uniform(for_start, fields.shape), fields)

  def turn(carry, at):
    left, log_weight = carry
    own, before, beta = at
    log_weight = log_weight + free_energy(_scaled(machine, before), left) - free_energy(_scaled(machine, beta), left)
    return (_sweep(own, _scaled(machine, beta), left)[0], log_weight), None

  at = _path(for_sweeps, temperatures, machine)
  log_weights = jnp.broadcast_to(independent(machine), (chains,))
  return jax.lax.scan(turn, (start, log_weights), at)[0][1]


def annealed_back(
  key: Key[Array, ''], machine: Machine, left: Num[Array, 'C L'], temperatures: int
) -> Float[Array, 'C']:
  """Computes log weights of chains from samples of the machine back to independent units.

  They are those of `annealed` in the reverse order: the mean of exp(-log weight) is 1 / Z.

  Args:
    key: random key.
    machine: the distribution.
    left: [C, L] left halves of samples of it.
    temperatures: number of steps, a sweep each.

  Returns:
    [C] nats; `upper_bound` of them is on average above log Z.

  Reference: Grosse et al. 2015, arXiv:1511.02543, section 3.1.
  """

  def turn(carry, at):
    left, log_weight = carry
    own, before, beta = at
    left = _sweep(own, _scaled(machine, beta), left)[0]
    step = free_energy(_scaled(machine, before), left) - free_energy(_scaled(machine, beta), left)
    return (left, log_weight + step), None

  at = _path(key, temperatures, machine)
  start = left.astype(machine.left.dtype), jnp.broadcast_to(independent(machine), left.shape[:1])
  return jax.lax.scan(turn, start, at, reverse=True)[0][1]


def lower_bound(log_weights: Float[Array, 'C']) -> Float[Array, '']:
  """Estimates log Z by the weights of `annealed`, [] nats."""
  return jax.nn.logsumexp(log_weights) - jnp.log(log_weights.size)


def upper_bound(log_weights: Float[Array, 'C']) -> Float[Array, '']:
  """Estimates log Z by the weights of `annealed_back`, [] nats."""
  return -lower_bound(-log_weights)


def _path(key: jax.Array, temperatures: int, machine: Machine) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Returns for each step a key, and the number that weights are multiplied by before and after it."""
  betas = jnp.linspace(0, 1, temperatures + 1, dtype=machine.left.dtype)
  return jax.random.split(key, temperatures), betas[:-1], betas[1:]


def _scaled(machine: Machine, beta: jax.Array) -> Machine:
  return machine._replace(weights=beta * machine.weights)


def _halves(machine: Machine, states: Array) -> tuple[Array, Array]:
  """Splits states into their halves, in the type of the machine."""
  left, right = jnp.split(states.astype(machine.left.dtype), [machine.left.size], -1)
  return left, right


def _fields(machine: Machine, left: Array) -> Array:
  """Computes the log-odds of the units on the right, [..., R]."""
  return left @ machine.weights + machine.right.reshape(*[1] * (left.ndim - 1), -1)


def _sweep(key: jax.Array, machine: Machine, left: Array) -> tuple[Array, Array]:
  """Samples the right half given the left one [C, L], then the left one given the right one."""
  noise = uniform(key, (left.shape[0], machine.left.size + machine.right.size))
  right = _sample(noise[:, machine.left.size :], _fields(machine, left))
  return _sample(noise[:, : machine.left.size], _fields(swapped(machine), right)), right


def _sample(noise: Array, fields: Array) -> Array:
  """Samples bits of these log-odds by uniform noise: 1 where noise < sigmoid(field), without a division."""
  return (noise * (1 + jnp.exp(-fields)) < 1).astype(fields.dtype)
