"""Block Gibbs sampling of a restricted Boltzmann machine: dgm_jax's chains against PyTorch in eager mode.

Usage: python benchmarks/gibbs_vs_torch.py --torch_python=PATH [--rounds=5] [--seconds=5] [--threads=2] [--record]

A step is what a training step of configs/dvae_mnist.py:small does with its chains: 100 chains of 64+64 units make 20
sweeps, the right half given the left one and the left one anew, from and to states of one byte a unit. PyTorch has the
same sweep as one writes it there: `addmm`, `sigmoid`, and a comparison with uniform numbers, without gradients. Both
sides keep the states that the last step left.
"""

import sys

import in_turn

CHAINS, UNITS, SWEEPS = 100, 64, 20
CONFIG = 'configs/dvae_mnist.py:small'
WHAT = f'{CHAINS} chains x {SWEEPS} block Gibbs sweeps of {UNITS}+{UNITS} units, steps/s, both sides in turn'


def _weights():
  """Biases of both halves and weights, of a size that leaves the chains moving."""
  import numpy as np

  random = np.random.default_rng(0)
  sizes = (UNITS,), (UNITS,), (UNITS, UNITS)
  return [(0.3 * random.normal(size=size)).astype('f4') for size in sizes]


def _jax(args):
  """The library's chains, one jitted call a step."""
  del args
  sys.path.insert(0, str(in_turn.ROOT))
  import jax
  import jax.numpy as jnp

  from dgm_jax.distributions import boltzmann
  from dgm_jax.runtime import cluster

  cluster.start()
  machine = boltzmann.Machine(*map(jnp.asarray, _weights()))

  @jax.jit
  def sweep(number, states):
    return boltzmann.gibbs(jax.random.fold_in(jax.random.key(0), number), machine, states, SWEEPS)

  number, states = 0, jnp.zeros((CHAINS, 2 * UNITS), jnp.int8)

  def step():
    nonlocal number, states
    number, states = number + 1, sweep(number, states)
    return states

  return in_turn.whereabouts(), lambda seconds: in_turn.rate(step, seconds, jax.block_until_ready)


def _torch(args):
  """The same sweeps as one writes them in PyTorch."""
  import torch

  torch.set_num_threads(args.threads or torch.get_num_threads())
  left_bias, right_bias, weights = map(torch.from_numpy, _weights())
  states = torch.zeros(CHAINS, 2 * UNITS, dtype=torch.int8)

  def sample(bias, units, weights):
    return (torch.rand(CHAINS, UNITS) < torch.sigmoid(torch.addmm(bias, units, weights))).float()

  @torch.no_grad()
  def step():
    nonlocal states
    left = states[:, :UNITS].float()
    for _ in range(SWEEPS):
      right = sample(right_bias, left, weights)
      left = sample(left_bias, right, weights.T)
    states = torch.cat([left, right], 1).to(torch.int8)

  return {'versions': {'torch': torch.__version__}, 'device': 'cpu'}, lambda seconds: in_turn.rate(step, seconds)


if __name__ == '__main__':
  in_turn.run(__file__, {'what': WHAT, 'config': CONFIG}, __doc__, {'jax': _jax, 'torch': _torch})
