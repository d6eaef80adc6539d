"""Boltzmann machines against all states of small ones, in NumPy."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dgm_jax import losses
from dgm_jax.distributions import boltzmann

KEY = jax.random.key(3)
RANDOM = np.random.RandomState(0)
WEIGHTS, LEFT, RIGHT = 0.5 * RANDOM.randn(8, 8), 0.3 * RANDOM.randn(8), 0.3 * RANDOM.randn(8)
LOG_Z = 12.9095881986
MEANS = (0.91232425, 0.7296694, 0.31641099, 0.85041561, 0.43201295, 0.3525389, 0.29104423, 0.24044208)
MACHINE = boltzmann.Machine(*(jnp.asarray(part, 'f4') for part in (LEFT, RIGHT, WEIGHTS)))


def states(count):
  return np.array(list(itertools.product([0, 1], repeat=count)), float)


def minus_energy(left, right):
  """[2^L, 2^R] nats of all pairs of halves."""
  return (left @ LEFT)[:, None] + (right @ RIGHT)[None] + left @ WEIGHTS @ right.T


@pytest.fixture(scope='module')
def joint():
  """The probabilities of all states, [2^8, 2^8]."""
  log_p = minus_energy(states(8), states(8))
  assert np.log(np.exp(log_p).sum()) == pytest.approx(LOG_Z, abs=1e-9)  # all 2^16 states
  return np.exp(log_p - LOG_Z)


@pytest.fixture(scope='module')
def samples(joint):
  """Exact samples [2000, 16]."""
  chosen = np.random.default_rng(5).choice(2**16, 2000, p=joint.ravel())
  both = states(8)[chosen // 2**8], states(8)[chosen % 2**8]
  return jnp.asarray(np.concatenate(both, 1), jnp.int8)


def test_log_normalizer_by_either_half_and_its_slopes():
  with jax.enable_x64(True):
    machine = boltzmann.Machine(*map(jnp.asarray, (LEFT, RIGHT, WEIGHTS)))
    value, slopes = jax.jit(jax.value_and_grad(boltzmann.log_normalizer))(machine)
    other = jax.jit(boltzmann.log_normalizer)(boltzmann.swapped(machine))
    assert float(value) == pytest.approx(LOG_Z, abs=1e-10)
    assert float(other) == pytest.approx(LOG_Z, abs=1e-10)
    np.testing.assert_allclose(slopes.left, MEANS, atol=1e-8)


def test_halves_of_different_size_and_more_states_than_are_held_at_a_time(monkeypatch):
  monkeypatch.setattr(boltzmann, 'CHUNK', 2)
  machine = boltzmann.Machine(MACHINE.left[:5], MACHINE.right[:7], MACHINE.weights[:5, :7])
  log_p = (states(5) @ LEFT[:5])[:, None] + (states(7) @ RIGHT[:7])[None] + states(5) @ WEIGHTS[:5, :7] @ states(7).T
  for each in (machine, boltzmann.swapped(machine)):
    assert float(boltzmann.log_normalizer(each)) == pytest.approx(np.log(np.exp(log_p).sum()), rel=1e-6)


def test_more_than_24_bits_are_not_enumerated():
  machine = boltzmann.Machine(jnp.zeros(26), jnp.zeros(25), jnp.zeros((26, 25)))
  with pytest.raises(ValueError, match='the smaller half has 25 bits, and at most 24 can be enumerated'):
    boltzmann.log_normalizer(machine)


def test_energies():
  both = jnp.asarray(states(16)[::257], jnp.int8)
  left, right = np.split(np.asarray(both, float), 2, 1)
  expected = [-float(minus_energy(a[None], b[None])[0, 0]) for a, b in zip(left, right, strict=True)]
  np.testing.assert_allclose(boltzmann.energy(MACHINE, both), expected, rtol=1e-5, atol=1e-5)
  marginal = -np.log(np.exp(minus_energy(left, states(8))).sum(1))
  np.testing.assert_allclose(boltzmann.free_energy(MACHINE, jnp.asarray(left, 'f4')), marginal, rtol=1e-5)


def test_without_weights_units_are_independent():
  free = MACHINE._replace(weights=jnp.zeros((8, 8)))
  expected = np.logaddexp(0, LEFT).sum() + np.logaddexp(0, RIGHT).sum()
  assert float(boltzmann.independent(MACHINE)) == pytest.approx(expected, rel=1e-6)
  assert float(boltzmann.log_normalizer(free)) == pytest.approx(expected, rel=1e-6)
  np.testing.assert_allclose(boltzmann.annealed(KEY, free, 3, 4), expected, rtol=1e-6)


def test_chains_reach_the_means_and_the_correlations(joint):
  start = jnp.zeros((4000, 16), jnp.int8)
  ended = boltzmann.gibbs(KEY, MACHINE, start, 100)
  assert ended.dtype == jnp.int8 and set(np.unique(ended)) == {0, 1}
  left, right = np.split(np.asarray(ended, float), 2, 1)
  spread = np.sqrt(np.array(MEANS) * (1 - np.array(MEANS)) / 4000)
  assert (np.abs(left.mean(0) - MEANS) < 4 * spread).all()
  both = states(8).T @ joint @ states(8)  # E[z_i z_j] of a unit on the left and one on the right
  assert (np.abs(left.T @ right / 4000 - both) < 4.5 * np.sqrt(both * (1 - both) / 4000)).all()


def test_a_sweep_leaves_the_distribution_as_it_is(samples, joint):
  """One sweep of exact samples: chains that forget nothing would show a wrong transition at once."""
  left = np.asarray(boltzmann.gibbs(KEY, MACHINE, samples, 1), float)[:, :8]
  assert (np.abs(left.mean(0) - MEANS) < 4.5 * np.sqrt(np.array(MEANS) * (1 - np.array(MEANS)) / 2000)).all()
  kept = (left == np.asarray(samples)[:, :8]).mean(0)
  given = 1 / (1 + np.exp(-(states(8) @ WEIGHTS.T + LEFT)))  # P(left = 1 | right)
  stays = joint.sum(0) @ (given**2 + (1 - given) ** 2)  # before and after, left is a sample given the same right
  assert (np.abs(kept - stays) < 4.5 * np.sqrt(stays * (1 - stays) / 2000)).all()


def test_annealing_up_and_down_brackets_log_z(samples):
  up = boltzmann.annealed(KEY, MACHINE, 1000, 500)
  down = boltzmann.annealed_back(KEY, MACHINE, samples[:500, :8], 1000)
  assert float(boltzmann.lower_bound(up)) == pytest.approx(LOG_Z, abs=0.02)
  assert float(boltzmann.upper_bound(down)) == pytest.approx(LOG_Z, abs=0.02)
  few, back = boltzmann.annealed(KEY, MACHINE, 10, 500), boltzmann.annealed_back(KEY, MACHINE, samples[:500, :8], 10)
  assert few.mean() < LOG_Z < back.mean()
  assert few.mean() < up.mean() and down.mean() < back.mean()  # the slower, the closer


def test_weights_of_a_few_steps_are_unbiased(samples):
  """Three steps: the mean of exp(log weight - log Z) is 1, and that of the inverse of the weights downwards."""
  tilted = MACHINE._replace(left=MACHINE.left + 1.5)
  for machine in (MACHINE, tilted):
    log_z = float(boltzmann.log_normalizer(machine))
    up = np.exp(np.asarray(boltzmann.annealed(KEY, machine, 3, 20_000), float) - log_z)
    assert up.std() > 0.2 and abs(up.mean() - 1) < 4 * up.std() / np.sqrt(len(up))
  down = np.exp(LOG_Z - np.asarray(boltzmann.annealed_back(KEY, MACHINE, samples[:, :8], 3), float))
  assert down.std() > 0.2 and abs(down.mean() - 1) < 4 * down.std() / np.sqrt(len(down))


def test_the_persistent_gradient_agrees_with_the_exact_one(samples):
  """The divergence from fixed bits: its gradient in the machine, by exact samples and by enumeration."""
  bits, logits = samples[:7].astype('f4'), jnp.where(samples[:7] > 0, 9.0, -9.0)

  def estimated(machine, chains):
    return losses.boltzmann_divergence(logits, bits, machine, chains, log_z=LOG_Z).mean()

  chains = boltzmann.gibbs(KEY, MACHINE, samples, 5)
  found = jax.grad(estimated)(MACHINE, chains)
  positive = jax.grad(lambda machine: estimated(machine, chains) + boltzmann.energy(machine, chains).mean())(MACHINE)
  exact = jax.tree.map(jnp.add, positive, jax.grad(boltzmann.log_normalizer)(MACHINE))
  for one, other in zip(found, exact, strict=True):
    assert np.abs(one - other).max() < 4.5 * 0.5 / np.sqrt(2000)
  assert np.abs(exact.weights - positive.weights).max() > 0.2  # without the negative phase it would not
