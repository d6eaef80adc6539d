"""Divergences of smoothed bits from a Boltzmann machine: exact gradients by quadrature and enumeration, in NumPy."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dgm_jax import losses
from dgm_jax.distributions import boltzmann, smoothing

KEY = jax.random.key(4)
# Two bits: biases -.4 and .2, weight 1.3, q_1 = sigmoid(.3), q_2 = sigmoid(-.5 + 2 zeta_1).
TWO = boltzmann.Machine(np.array([-0.4]), np.array([0.2]), np.array([[1.3]]))
LOGIT, START, SLOPE = 0.3, -0.5, 2.0
LOG_Z = np.log(1 + np.exp(-0.4) + np.exp(0.2) + np.exp(-0.4 + 0.2 + 1.3))


def nodes(q, count=50):
  """Uniform noise rho, in two parts that meet where the bit jumps, and weights."""
  at, weights = np.polynomial.legendre.leggauss(count)
  parts = [((at + 1) / 2 * (1 - q), weights / 2 * (1 - q)), (1 - q + (at + 1) / 2 * q, weights / 2 * q)]
  return tuple(np.concatenate(each) for each in zip(*parts, strict=True))


def of_two_bits(name, beta, divergence):
  """(divergence, its gradient in the first logit) by quadrature over rho_1; the second bit counts by its mean."""
  made = smoothing.SMOOTHINGS[name](beta)
  rho, weights = nodes(1 / (1 + np.exp(-LOGIT)))

  def value(logit):
    first = jnp.full((len(rho), 1), logit)
    own = smoothing.draw(made, jnp.asarray(rho)[:, None], jnp.full((len(rho), 1), 0.5), first)
    logits = jnp.concatenate([first, START + SLOPE * own.zeta], 1)
    bits = own.bits if name == 'spike_exponential' else own.expected
    chains = jnp.zeros((1, 2))
    return weights @ divergence(logits, jnp.concatenate([bits, bits], 1), TWO, chains, log_z=LOG_Z)

  return jax.jit(jax.value_and_grad(value))(LOGIT)


def exact(name, beta, logit):
  """The divergence in NumPy, by quadrature over zeta_1 given each value of z_1."""
  q, total = 1 / (1 + np.exp(-logit)), LOG_Z
  total += q * np.log(q) + (1 - q) * np.log(1 - q) + 0.4 * q
  made = smoothing.SMOOTHINGS[name](beta)
  at, weights = np.polynomial.legendre.leggauss(50)
  for z, p in ((0, 1 - q), (1, q)):
    zeta = np.asarray(made.conditional(jnp.asarray((at + 1) / 2), jnp.full(50, float(z))))
    r = 1 / (1 + np.exp(-START - SLOPE * zeta))
    total += p * weights / 2 @ (r * np.log(r) + (1 - r) * np.log(1 - r) - 0.2 * r - 1.3 * z * r)
  return total


def test_golden_divergence_of_two_bits_and_its_gradient():
  with jax.enable_x64(True):
    value, slope = of_two_bits('spike_exponential', 3.0, losses.boltzmann_divergence)
    assert float(value) == pytest.approx(0.0638251685, abs=1e-9)
    assert float(slope) == pytest.approx(-0.0500963860, abs=1e-9)
    step = 1e-5
    central = exact('spike_exponential', 3.0, LOGIT + step) - exact('spike_exponential', 3.0, LOGIT - step)
    assert float(value) == pytest.approx(exact('spike_exponential', 3.0, LOGIT), abs=1e-9)
    assert float(slope) == pytest.approx(central / (2 * step), abs=1e-8)


def test_without_the_factor_the_gradient_is_another():
  """Equation 12 with z W dq alone, bits given: what the factor (1 - z) / (1 - q) is there for."""

  def plain(logits, bits, machine, chains, *, log_z):
    q = jax.nn.sigmoid(logits)
    value = losses.overlapping_divergence(logits, bits, machine, chains, log_z=log_z)
    fields = jax.lax.stop_gradient(1.3 * q[:, 1])
    return value - fields * (q[:, 0] - jax.lax.stop_gradient(q[:, 0]))

  with jax.enable_x64(True):
    assert float(of_two_bits('spike_exponential', 3.0, plain)[1]) == pytest.approx(-0.1108557685, abs=1e-9)


@pytest.mark.parametrize(('name', 'beta'), [('exponential', 6.0)])
def test_overlapping_smoothings_need_no_factor(name, beta):
  with jax.enable_x64(True):
    value, slope = of_two_bits(name, beta, losses.overlapping_divergence)
    step = 1e-4
    central = (exact(name, beta, LOGIT + step) - exact(name, beta, LOGIT - step)) / (2 * step)
    assert float(value) == pytest.approx(exact(name, beta, LOGIT), abs=1e-7)
    assert float(slope) == pytest.approx(central, abs=1e-6)


RANDOM = np.random.RandomState(7)
SIX = boltzmann.Machine(*(0.6 * RANDOM.randn(*shape) for shape in ((3,), (3,), (3, 3))))
OWN, CROSS = RANDOM.randn(6), RANDOM.randn(2, 4)  # logits of all bits; the first two bits move those of the others


def many(logits, count):
  """The mean of the surrogate over noise, for three groups of two bits in a row: groups straddle the halves."""
  made = smoothing.spike_exponential(3.0)
  rho = jnp.asarray(np.random.default_rng(3).uniform(size=(count, 6)))
  wide = jnp.broadcast_to(logits[None], (count, 6))
  first = smoothing.draw(made, rho[:, :2], rho[:, :2], wide[:, :2])
  others = wide[:, 2:] + first.zeta @ CROSS
  rest = smoothing.draw(made, rho[:, 2:], rho[:, 2:], others)
  bits = jnp.concatenate([first.bits, rest.bits], 1)
  everything = jnp.concatenate([wide[:, :2], others], 1)
  return losses.boltzmann_divergence(everything, bits, SIX, jnp.zeros((1, 6)), log_z=0.0)


def exact_of_six(logits):
  """The same by quadrature over the first group and enumeration of the others."""
  q = 1 / (1 + np.exp(-logits[:2]))
  at, weights = np.polynomial.legendre.leggauss(24)
  zeta, total = np.log1p((at + 1) / 2 * np.expm1(3.0)) / 3, 0.0
  states = np.array(list(itertools.product([0.0, 1.0], repeat=4)))
  for first in itertools.product([0.0, 1.0], repeat=2):
    grid = np.array(list(itertools.product(*[zeta if z else [0.0] for z in first])))
    weight = np.prod(list(itertools.product(*[weights / 2 if z else [1.0] for z in first])), 1)
    others = logits[2:] + grid @ CROSS
    r = 1 / (1 + np.exp(-others))
    log_r = np.log(r) @ states.T + np.log1p(-r) @ (1 - states).T  # [nodes, states]
    own = np.log(np.where(np.array(first) > 0, q, 1 - q)).sum()
    z = np.concatenate([np.broadcast_to(first, (16, 2)), states], 1)
    plus = z[:, :3] @ SIX.left + z[:, 3:] @ SIX.right + np.einsum('ni,ij,nj->n', z[:, :3], SIX.weights, z[:, 3:])
    total += np.exp(own) * (weight @ (np.exp(log_r) * (own + log_r - plus[None]))).sum()
  return total


def test_six_bits_whose_groups_straddle_the_halves():
  """Value and gradient are those of the enumeration within 4 standard errors, equations 11 and 12."""
  count = 40_000
  with jax.enable_x64(True):
    values = np.asarray(jax.jit(many, static_argnums=1)(jnp.asarray(OWN), count))
    slopes = np.asarray(jax.jit(jax.jacfwd(many), static_argnums=1)(jnp.asarray(OWN), count))
  assert abs(values.mean() - exact_of_six(OWN)) < 4 * values.std() / np.sqrt(count)
  step = 1e-5
  central = [(exact_of_six(OWN + step * e) - exact_of_six(OWN - step * e)) / (2 * step) for e in np.eye(6)]
  assert (np.abs(slopes.mean(0) - central) < 4 * slopes.std(0) / np.sqrt(count) + 1e-8).all()


def test_without_weights_and_biases_it_is_the_divergence_from_fair_bits():
  logits, bits = jnp.asarray([[0.3, -2.0, 1.0, 4.0]]), jnp.asarray([[1.0, 0, 0, 1]])
  q = 1 / (1 + np.exp(-np.asarray(logits)))
  fair = (q * np.log(2 * q) + (1 - q) * np.log(2 * (1 - q))).sum()
  machine = boltzmann.Machine(jnp.zeros(2), jnp.zeros(2), jnp.zeros((2, 2)))
  for divergence in (losses.boltzmann_divergence, losses.overlapping_divergence):
    call = lambda logits, d=divergence: d(logits, bits, machine, bits, log_z=4 * np.log(2))[0]
    value, slope = jax.value_and_grad(call)(logits)
    assert float(value) == pytest.approx(fair, rel=1e-5)
    np.testing.assert_allclose(slope, q * (1 - q) * np.asarray(logits), rtol=1e-5)


def test_boltzmann_divergence_by_hand():
  """In the machine: minus the mean energy's gradient under q, plus that of the chains. Bits pass no gradient."""
  logits, bits = jnp.asarray([[0.3, -1.0, 0.5]]), jnp.asarray([[1.0, 0, 1]])
  machine = boltzmann.Machine(jnp.asarray([0.2]), jnp.asarray([-0.3, 0.4]), jnp.asarray([[0.7, -0.2]]))
  chains = jnp.asarray([[1, 1, 0], [1, 0, 1]], jnp.int8)
  q = 1 / (1 + np.exp(-np.asarray(logits[0])))
  found = jax.grad(lambda machine: losses.boltzmann_divergence(logits, bits, machine, chains, log_z=2.0)[0])(machine)
  np.testing.assert_allclose(found.left, 1 - q[:1], rtol=1e-5)
  np.testing.assert_allclose(found.right, [0.5, 0.5] - q[1:], rtol=1e-5)
  np.testing.assert_allclose(found.weights[0], [0.5, 0.5] - q[1:], rtol=1e-5)  # z_left is 1
  by_bits = jax.grad(lambda bits: losses.boltzmann_divergence(logits, bits, machine, chains, log_z=2.0)[0])(bits)
  by_log_z = jax.grad(lambda log_z: losses.boltzmann_divergence(logits, bits, machine, chains, log_z=log_z)[0])(2.0)
  assert not by_bits.any() and not by_log_z


def test_overlapping_divergence_by_hand():
  """Its gradient passes the expected bits of the left half alone; that of the machine has the chains'."""
  logits, expected = jnp.asarray([[0.3, -1.0]]), jnp.asarray([[0.6, 0.4]])
  machine = boltzmann.Machine(jnp.asarray([0.2]), jnp.asarray([-0.3]), jnp.asarray([[0.7]]))
  chains = jnp.asarray([[1, 1]], jnp.int8)
  value = lambda expected, machine: losses.overlapping_divergence(logits, expected, machine, chains, log_z=2.0)[0]
  q = 1 / (1 + np.exp(-np.asarray(logits[0])))
  by_expected, by_machine = jax.grad(value, (0, 1))(expected, machine)
  np.testing.assert_allclose(by_expected, [[-0.7 * q[1], 0]], rtol=1e-5)
  np.testing.assert_allclose(by_machine.weights, [[1 - 0.6 * q[1]]], rtol=1e-5)
