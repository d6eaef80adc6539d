"""Smoothings of bits against quadrature and the inverse of their mixtures by bisection, in NumPy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, optimize

from dgm_jax.distributions import smoothing
from dgm_jax.internal.noise import uniform

BETA = {'spike_exponential': 3.0, 'exponential': 6.0, 'power': 4.0}
LOGITS = (-3.0, 0.4, 5.0)
KEY, ONE = jax.random.key(2), jnp.ones(())


def density(name, zeta, z):
  """Rolfe 2017, section 2.1; Vahdat et al. 2018, arXiv:1802.04920, section 3.1, and arXiv:1805.07445, section 4."""
  beta = BETA[name]
  if name == 'spike_exponential':
    return beta * np.exp(beta * zeta) / (np.exp(beta) - 1) if z else 0.0
  distance = 1 - zeta if z else zeta
  if name == 'exponential':
    return beta * np.exp(-beta * distance) / (1 - np.exp(-beta))
  return distance ** (1 / beta - 1) / beta


@functools.cache
def cdf(name, zeta, z):
  """By quadrature; of the power function by its own, whose density has no bound."""
  if name == 'power':
    return 1 - (1 - zeta) ** (1 / BETA[name]) if z else zeta ** (1 / BETA[name])
  if name == 'spike_exponential' and not z:
    return 1.0
  return integrate.quad(lambda at: density(name, at, z), 0, zeta)[0]


def mixture(name, zeta, logits):
  q = 1 / (1 + np.exp(-logits))
  return (1 - q) * cdf(name, zeta, 0) + q * cdf(name, zeta, 1)


def inverted(name, rho, logits):
  if mixture(name, 0.0, logits) >= rho:
    return 0.0
  return optimize.brentq(lambda zeta: mixture(name, float(zeta), logits) - rho, 0, 1, xtol=1e-13)


def test_golden_inverse_of_the_spike_and_exponential():
  made = smoothing.spike_exponential(3.0)
  zeta = made.inverse(jnp.asarray([0.2, 0.5, 0.9]), jnp.full(3, np.log(0.7 / 0.3)))
  np.testing.assert_allclose(zeta, [0, 0.6215155913, 0.9513709757], rtol=1e-6)
  assert float(made.mean(ONE)) == pytest.approx(0.7190623632, rel=1e-6)
  assert float(made.mean(0 * ONE)) == 0


@pytest.mark.parametrize('name', BETA)
def test_the_inverse_and_its_gradient(name):
  made, rho = smoothing.SMOOTHINGS[name](BETA[name]), np.array([0.03, 0.2, 0.5, 0.8, 0.97])
  place = [(at, logits) for logits in LOGITS for at in rho]
  expected = [inverted(name, at, logits) for at, logits in place]
  step = 1e-5
  slopes, by_rho = [], []
  for at, logits in place:
    ends = [inverted(name, at, logits + way) for way in (-step, step)]
    slopes.append((ends[1] - ends[0]) / (2 * step))
    ends = [inverted(name, at + way, logits) for way in (-step, step)]
    by_rho.append((ends[1] - ends[0]) / (2 * step))
  at, logits = (jnp.asarray(part, 'f4') for part in zip(*place, strict=True))
  one = jnp.ones_like(at)
  zeta, slope = jax.jvp(lambda logits: made.inverse(at, logits), (logits,), (one,))
  np.testing.assert_allclose(zeta, expected, rtol=1e-4, atol=2e-6)
  np.testing.assert_allclose(slope, slopes, rtol=2e-3, atol=2e-5)
  np.testing.assert_allclose(
    jax.jvp(lambda at: made.inverse(at, logits), (at,), (one,))[1], by_rho, rtol=2e-3, atol=2e-5
  )
  spikes = np.array(expected) == 0
  assert spikes.any() == (name == 'spike_exponential') and not np.asarray(slope)[spikes].any()


@pytest.mark.parametrize('name', BETA)
def test_densities_conditionals_and_means(name):
  made, zeta = smoothing.SMOOTHINGS[name](BETA[name]), np.array([0.1, 0.5, 0.8])
  for z in (0, 1):
    ones = jnp.full(3, float(z))
    np.testing.assert_allclose(made.density(jnp.asarray(zeta, 'f4'), ones), density(name, zeta, z), rtol=1e-5)
    if z or name != 'spike_exponential':
      rho = jnp.asarray([cdf(name, float(at), z) for at in zeta], 'f4')
      np.testing.assert_allclose(made.conditional(rho, ones), zeta, rtol=2e-4)
      mean = 1 - integrate.quad(lambda at, z=z: cdf(name, float(at), z), 0, 1, epsabs=1e-9)[0]
      assert float(made.mean(z * ONE)) == pytest.approx(mean, abs=1e-6)
    else:
      assert not np.asarray(made.conditional(jnp.asarray(zeta, 'f4'), ones)).any()
  assert float(made.mean(0.3 * ONE)) == pytest.approx(
    0.7 * float(made.mean(0 * ONE)) + 0.3 * float(made.mean(ONE)), rel=1e-6
  )
  if made.log_odds:
    expected = np.log(density(name, zeta, 1) / density(name, zeta, 0))
    np.testing.assert_allclose(made.log_odds(jnp.asarray(zeta, 'f4')), expected, rtol=1e-5)


@pytest.mark.parametrize('name', BETA)
def test_samples_are_of_the_joint_distribution(name):
  """Bits have their probability, and smoothed ones the density given the bit: first moments of both."""
  made, n = smoothing.SMOOTHINGS[name](BETA[name]), 40_000
  rho, other = (uniform(key, (n,)) for key in jax.random.split(KEY))
  logits = jnp.full(n, 0.8)
  found = jax.tree.map(np.asarray, smoothing.draw(made, rho, other, logits))
  q = 1 / (1 + np.exp(-0.8))
  assert set(np.unique(found.bits)) == {0, 1}
  assert found.bits.mean() == pytest.approx(q, abs=4 * np.sqrt(q * (1 - q) / n))
  assert found.expected.mean() == pytest.approx(q, abs=4 * np.sqrt(q * (1 - q) / n))
  for z in (0, 1):
    own = found.zeta[found.bits == z]
    assert own.mean() == pytest.approx(float(made.mean(z * ONE)), abs=4 * 0.5 / np.sqrt(len(own)))
    assert found.zeta[found.bits == z].std() > 0 or name == 'spike_exponential'
  if made.log_odds is None:
    np.testing.assert_array_equal(found.bits, found.zeta > 0)
    np.testing.assert_array_equal(found.bits, found.expected)


@pytest.mark.parametrize('name', BETA)
def test_extreme_odds_stay_finite(name):
  made = smoothing.SMOOTHINGS[name](BETA[name])
  rho, logits = jnp.asarray([1e-7, 0.5, 1 - 1e-7] * 2), jnp.asarray([-90.0] * 3 + [90.0] * 3)
  zeta, slope = jax.jvp(lambda logits: made.inverse(rho, logits), (logits,), (jnp.ones_like(logits),))
  assert np.isfinite(zeta).all() and np.isfinite(slope).all()
  assert (np.asarray(zeta) >= 0).all() and (np.asarray(zeta) <= 1).all()
  if made.log_odds:
    assert np.isfinite(made.log_odds(zeta)).all()
