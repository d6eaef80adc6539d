"""Divergences of smoothed bits from a Boltzmann machine: values in nats, whose gradients are estimates.

They preserve float64 if JAX has it enabled, so that tests can verify exact identities.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Num

from dgm_jax.distributions import boltzmann, stable
from dgm_jax.internal import shapes

__all__ = ['boltzmann_divergence', 'overlapping_divergence']


def boltzmann_divergence(
  logits: Float[ArrayLike, '*B N'],
  bits: Num[ArrayLike, '*B N'],
  machine: boltzmann.Machine,
  chains: Num[ArrayLike, 'C N'],
  *,
  log_z: Num[ArrayLike, ''],
) -> Float[Array, '*B']:
  """Estimates KL(q(z|x) || p(z)) in nats, per sample, of bits with a spike-and-exponential smoothing.

  The left half of the bits comes first, and a bit's log-odds may depend on the smoothed bits before it. Each bit is
  smoothed to 0 if, and only if, it is 0. In the parameters of q the gradient is (g - b) dq - z W ((1 - z) / (1 - q)) dq
  with the log-odds g. It is total: log-odds have a gradient in the smoothed bits before. The factor is 1 on average for
  bits that no later one is coupled to, and is left out there. In those of the machine the gradient is that of the
  energy, its mean over q less its mean over the chains.

  Args:
    logits: [..., N] log-odds of each bit given those before it, differentiable.
    bits: [..., N] sampled bits; no gradient passes.
    machine: the prior p, whose halves have N bits together.
    chains: [C, N] samples of the machine.
    log_z: [] log-normalizer of the machine in nats; no gradient passes.

  Returns:
    [...] nats; to be minimised.

  Raises:
    ValueError: the shapes do not fit together.

  Reference: Rolfe 2017, arXiv:1609.02200, equations 11 and 12.
  """
  bits = jax.lax.stop_gradient(jnp.asarray(bits))
  logits, bits = shapes.floats('logits[..., N] bits[..., N]', logits, bits)
  left, half = bits[..., : machine.left.size], logits[..., : machine.left.size]
  value, coupled = _divergence(logits, left, machine, chains, log_z)
  # A bit of 0 becomes 1 at zeta = 0, where all later bits are as they are for the bit 0.
  risen = jax.lax.stop_gradient((1 - left) * jax.nn.sigmoid(half) * coupled)
  return value - (risen * (half - jax.lax.stop_gradient(half))).sum(-1)


def overlapping_divergence(
  logits: Float[ArrayLike, '*B N'],
  expected: Float[ArrayLike, '*B N'],
  machine: boltzmann.Machine,
  chains: Num[ArrayLike, 'C N'],
  *,
  log_z: Num[ArrayLike, ''],
) -> Float[Array, '*B']:
  """Estimates KL(q(z|x) || p(z)) in nats, per sample, of bits whose smoothings overlap.

  The left half of the bits comes first, and a bit's log-odds may depend on the smoothed bits before it. The gradient in
  the parameters of q is that of the value. In those of the machine it is as in `boltzmann_divergence`.

  Args:
    logits: [..., N] log-odds of each bit given the smoothed bits before it, differentiable.
    expected: [..., N] mean of each bit given its smoothed value, too, differentiable.
    machine: the prior p, whose halves have N bits together.
    chains: [C, N] samples of the machine.
    log_z: [] log-normalizer of the machine in nats; no gradient passes.

  Returns:
    [...] nats; to be minimised.

  Raises:
    ValueError: the shapes do not fit together.

  Reference: Vahdat et al. 2018, arXiv:1802.04920, section 4.
  """
  logits, expected = shapes.floats('logits[..., N] expected[..., N]', logits, expected)
  return _divergence(logits, expected[..., : machine.left.size], machine, chains, log_z)[0]


def _divergence(
  logits: Array, left: Array, machine: boltzmann.Machine, chains: ArrayLike, log_z: ArrayLike
) -> tuple[Array, Array]:
  """Computes the divergence with the bits `left` of the left half, and the fields weights q_right that they are in."""
  log_z = jax.lax.stop_gradient(jnp.asarray(log_z))
  shapes.check('logits[..., N] left[L] right[R] weights[L, R] chains[C, N] log_z[]', logits, *machine, chains, log_z)
  if machine.left.size + machine.right.size != logits.shape[-1]:
    raise ValueError(
      f'machine: got halves of {machine.left.size} and {machine.right.size} bits, expected {logits.shape[-1]} in all'
    )
  q = jax.nn.sigmoid(logits)
  own, other = jnp.split(q, [machine.left.size], -1)
  coupled = other @ machine.weights.T
  linear = own @ machine.left + other @ machine.right
  negative_entropy = (q * logits - stable.softplus(logits)).sum(-1)
  sampled = -boltzmann.energy(
    machine, jax.lax.stop_gradient(jnp.asarray(chains))
  ).mean()  # its gradient is that of log Z
  normalizer = log_z + sampled - jax.lax.stop_gradient(sampled)
  return negative_entropy - linear - (left * coupled).sum(-1) + normalizer, coupled
