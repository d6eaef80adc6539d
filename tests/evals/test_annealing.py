"""Annealed importance sampling where the evidence is known: linear-Gaussian models."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from playing import begun, doubles, flat, settings_of
from scipy import stats

from dgm_jax import data
from dgm_jax.evals import annealing, likelihood
from dgm_jax.runs.subject import Subject
from dgm_jax.runtime import parallel

KEY = jax.random.key(3)
W, NOISE = np.array([[1.0, -0.5], [0.3, 0.8], [-0.7, 0.2]]), 0.4


def model(x, chains):
  """p(z) = N(0, I), p(x|z) = N(W z, 0.4^2 I), for `chains` chains of each x [B, 3]."""
  rows = jnp.repeat(jnp.asarray(x, jnp.float32), chains, 0)
  normal = lambda apart, deviation: -0.5 * (jnp.square(apart / deviation) + np.log(2 * np.pi * deviation**2)).sum(1)
  return annealing.Chains(
    log_prior=lambda z: normal(z, 1.0),
    log_likelihood=lambda z: normal(rows - z @ jnp.asarray(W.T, jnp.float32), NOISE),
    leapfrogs=5,
  )


def exact(x):
  return stats.multivariate_normal(np.zeros(3), W @ W.T + NOISE**2 * np.eye(3)).logpdf(x)


def mean(log_weights, count):
  return np.asarray(jax.nn.logsumexp(log_weights.reshape(count, -1), 1) - np.log(log_weights.size / count))


def test_temperatures_rise_from_0_to_1():
  betas = np.asarray(annealing.temperatures(20))
  assert (betas[0], betas[-1], len(betas)) == (0, 1, 21) and (np.diff(betas) > 0).all()
  np.testing.assert_allclose(betas + betas[::-1], 1, atol=1e-6)


@pytest.mark.parametrize('beta', [0.0, 0.3, 1.0])
def test_a_proposal_leaves_the_density_as_it_is(beta):
  """Of N(0, I) and a linear likelihood the density at a temperature is normal; samples of it stay samples of it."""
  x, count = np.array([[0.5, -1.0, 0.8]]), 40_000
  precision = np.eye(2) + beta * W.T @ W / NOISE**2
  center = np.linalg.solve(precision, beta * W.T @ x[0] / NOISE**2)
  random = np.random.default_rng(0)
  z = random.multivariate_normal(center, np.linalg.inv(precision), count)
  for step in (0.1, 0.25):
    run = jax.jit(lambda key, z, step=step: annealing.hamiltonian(key, model(x, count), z, beta, step))
    moved, accepted = run(KEY, jnp.asarray(z, jnp.float32))
    assert 0.2 < accepted.mean() <= 1 and np.abs(moved - z).max(1).mean() > 0.1
    spread = np.sqrt(np.diag(np.linalg.inv(precision)))
    assert (np.abs(np.asarray(moved).mean(0) - center) < 5 * spread / np.sqrt(count)).all()
    apart = np.abs(np.cov(np.asarray(moved).T) - np.linalg.inv(precision))
    assert (apart < 7 * np.outer(spread, spread) / np.sqrt(count)).all()


def test_chains_both_ways_bracket_the_exact_evidence():
  random, chains = np.random.default_rng(1), 500
  z = random.normal(size=(8, 2))
  x = z @ W.T + NOISE * random.normal(size=(8, 3))
  own, start = model(x, chains), jnp.asarray(random.normal(size=(8 * chains, 2)), jnp.float32)
  repeated = jnp.asarray(np.repeat(z, chains, 0), jnp.float32)

  def run(count):
    betas = annealing.temperatures(count)
    steps = annealing.tune(KEY, own, start, betas)
    up = annealing.forward(jax.random.key(1), own, start, betas, steps)
    return up, annealing.backward(jax.random.key(2), own, repeated, betas, steps)

  few, many = (jax.jit(run, static_argnums=0)(count) for count in (10, 200))
  np.testing.assert_allclose(mean(many[0], 8), exact(x), atol=0.12)  # a weight's deviation is 0.6, of 500 weights
  np.testing.assert_allclose(-mean(many[1], 8), exact(x), atol=0.12)
  # Single chains bound it from both sides, the tighter the more temperatures there are.
  for up, down in (few, many):
    assert up.mean() < exact(x).mean() < -down.mean()
  assert -few[1].mean() - few[0].mean() > -many[1].mean() - many[0].mean() > 0


def test_weights_without_moves_are_those_of_simple_importance_sampling():
  """With steps of 0 a chain stays where it began, and its weight is the likelihood of that place."""
  x, z = np.array([[0.5, -1.0, 0.8]]), jax.random.normal(KEY, (6, 2))
  own, betas = model(x, 6), annealing.temperatures(7)
  up = annealing.forward(KEY, own, z, betas, jnp.zeros(7))
  np.testing.assert_allclose(up, own.log_likelihood(z), rtol=1e-5)
  np.testing.assert_allclose(annealing.backward(KEY, own, z, betas, jnp.zeros(7)), -up, rtol=1e-5)


def test_a_trained_system_is_bracketed():
  """The linear-Gaussian model of configs/collapse.py, whose evidence is that of a normal."""
  settings = settings_of('collapse:tiny', (2, 2, 1), latents=1)
  settings.ais.update({'temperatures': 100, 'chains': 32, 'leapfrogs': 5, 'examples': 20})
  settings.data.preprocess = 'scale'
  system, state, _ = begun(settings)
  p = doubles(state.params['decoder'])
  w, b, scale = p['mean']['kernel'][0], p['mean']['bias'], np.exp(p['log_std'])
  tril = scale[:, None] * (np.tril(p['below'], -1) + np.eye(4))
  pixels = np.random.default_rng(0).integers(0, 256, (40, 2, 2, 1), np.uint8)
  split = data.Split('pixels:test', 40, {'x': pixels})
  figures = likelihood.ais(0, Subject(settings, system, state, split, parallel.mesh(1)))
  expected = -stats.multivariate_normal(b, np.outer(w, w) + tril @ tril.T).logpdf(flat(pixels[::2] / 255)).mean()
  assert figures['ais_nll_nats'] == pytest.approx(expected, abs=0.03)
  assert abs(figures['ais_gap_nats']) < 0.03
  assert figures['ais_gap_nats'] == figures['ais_simulated_upper_nats'] - figures['ais_simulated_lower_nats']
