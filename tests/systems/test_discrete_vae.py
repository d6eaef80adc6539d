"""The discrete variational autoencoder against its exact likelihood, its chains, and settings that are refused."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden import dense
from parameters import at_random
from playing import KEY, begun, doubles, settings_of
from scipy import special

from dgm_jax import core, data, systems
from dgm_jax.distributions import boltzmann
from dgm_jax.errors import UserError
from dgm_jax.evals import latent, likelihood, mean, standing
from dgm_jax.runs.subject import Subject
from dgm_jax.runtime import parallel
from dgm_jax.systems.parts import bits

TOY, TINY = 'dvae_toy:', 'dvae_mnist:tiny'
NODES = 3  # of the quadrature over each smoothed bit that is not 0


def quadrature(beta, count=NODES):
  """Nodes and weights of Gauss for the density of a smoothed bit of 1, by its moments."""
  at, weights = np.polynomial.legendre.leggauss(40)
  at = (at + 1) / 2
  weights = weights / 2 * beta * np.exp(beta * at) / math.expm1(beta)
  before, now, norm, alphas, betas = np.zeros(40), np.ones(40), 1.0, [], []
  for _ in range(count):  # orthogonal polynomials by their recurrence
    size = weights @ now**2
    alphas.append(weights @ (at * now**2) / size)
    betas.append(size / norm)
    before, now, norm = now, (at - alphas[-1]) * now - betas[-1] * before, size
  matrix = np.diag(alphas) + np.diag(np.sqrt(betas[1:]), 1) + np.diag(np.sqrt(betas[1:]), -1)
  nodes, vectors = np.linalg.eigh(matrix)
  return nodes, vectors[0] ** 2


def exact(state, x, beta, count=NODES):
  """log p(x) of images [B, D] by all states of the machine and quadrature over zeta; pixels without hidden layers."""
  prior, output = doubles(state.params['prior']), doubles(state.params['decoder']['output'])
  bits = len(prior['bias'])
  nodes, weights = quadrature(beta, count)
  at, one = np.concatenate([[0.0], nodes]), np.concatenate([[1.0], weights])
  index = np.array(list(itertools.product(range(count + 1), repeat=bits)))
  z, zeta = (index > 0).astype(float), at[index]
  log_p = z @ prior['bias'] + np.einsum('ni,ij,nj->n', z[:, : bits // 2], prior['kernel'], z[:, bits // 2 :])
  log_weight = log_p + np.log(one[index]).sum(1)
  log_weight -= special.logsumexp(log_weight)  # the weights of the nodes add up to 1
  logits = dense(output, zeta)
  log_px = x @ logits.T - np.logaddexp(0, logits).sum(1)
  return special.logsumexp(log_px + log_weight, axis=1)


@pytest.fixture(scope='module')
def toy():
  """(system, state, all images of six pixels) of 4+4 bits with a machine and networks at random."""
  settings = settings_of(TOY, (2, 3, 1))
  system, state, batch = begun(settings)
  params = at_random(jax.eval_shape(system.init, KEY, batch).params)
  params['prior'] = {'bias': 0.7 * params['prior']['bias'], 'kernel': 2 * params['prior']['kernel']}
  params['encoder'] = jax.tree.map(lambda leaf: 0.4 * leaf, params['encoder'])  # far from certain
  params['decoder']['output']['kernel'] = 2 * params['decoder']['output']['kernel']
  state = state.replace(params=jax.tree.map(jnp.asarray, params))
  state = standing.normalized(0, system, state)
  images = np.array(list(itertools.product([0.0, 1.0], repeat=6)))
  return system, state, images


def test_probabilities_of_all_images_sum_to_one_and_bounds_are_below(toy):
  system, state, images = toy
  expected = exact(state, images, 3.0)
  assert np.exp(expected).sum() == pytest.approx(1, abs=1e-9)
  np.testing.assert_allclose(exact(state, images[:5], 3.0, 2), expected[:5], atol=2e-2)  # nodes are enough
  batch = {'x': jnp.asarray(images.reshape(-1, 2, 3, 1), jnp.float32)}
  evaluate = jax.jit(system.evaluate)
  bounds = np.mean([evaluate(key, state, batch)['neg_elbo_nats'] for key in jax.random.split(KEY, 50)], 0)
  gaps = expected + bounds
  assert gaps.min() > -0.02 and gaps.mean() > 0.01
  estimate = np.asarray(jax.jit(system.views.log_prob)(KEY, state, batch['x']))
  np.testing.assert_allclose(estimate, expected, atol=0.3)  # by 5000 samples, 0.06 each
  assert abs((estimate - expected).mean()) < 0.04


def test_samples_have_the_probabilities_of_the_images(toy):
  system, state, images = toy
  x = np.asarray(jax.jit(system.sample, static_argnums=2)(KEY, state, 8000)).reshape(8000, 6)
  share = np.bincount((x @ 2 ** np.arange(6)[::-1]).astype(int), minlength=64) / 8000
  p = np.exp(exact(state, images, 3.0))
  assert (np.abs(share - p) < 5 * np.sqrt(p * (1 - p) / 8000) + 1e-4).all()
  mean = np.asarray(jax.jit(system.views.mean_sample, static_argnums=2)(KEY, state, 8000)).reshape(8000, 6)
  np.testing.assert_allclose(mean.mean(0), p @ images, atol=0.03)


def test_the_normalizer_is_exact_or_annealed(toy):
  system, state, _ = toy
  prior = doubles(state.params['prior'])
  z = np.array(list(itertools.product([0.0, 1.0], repeat=8)))
  plus = z @ prior['bias'] + np.einsum('ni,ij,nj->n', z[:, :4], prior['kernel'], z[:, 4:])
  log_z = special.logsumexp(plus)
  assert float(state.extra['log_z']) == pytest.approx(log_z, abs=1e-4)
  annealing = systems.build(settings_of(TOY, (2, 3, 1), log_z='ais', temperatures=3, ais_chains=20_000))
  found = standing.normalized(1, annealing, state)
  assert float(found.extra['log_z']) == pytest.approx(log_z, abs=0.03)
  assert found.extra['log_z'] != state.extra['log_z']
  del system


def test_the_bound_with_a_free_machine_is_that_of_fair_bits():
  system, state, batch = begun(settings_of(TINY))
  zeros = jax.tree.map(jnp.zeros_like, state.params['prior'])
  state = standing.normalized(0, system, state.replace(params=state.params | {'prior': zeros}))
  assert float(state.extra['log_z']) == pytest.approx(6 * math.log(2), rel=1e-6)
  measured = jax.jit(system.evaluate)(KEY, state, batch)
  ((_, kl),) = jax.jit(system.views.layers)(KEY, state, batch['x'])
  assert (
    kl.shape == (4, 1) and (np.asarray(kl) >= 0).all() and (np.asarray(measured['kl_nats']) <= 6 * math.log(2)).all()
  )


def test_the_normalizer_is_followed_from_step_to_step(monkeypatch):
  """A machine that moves far in 150 steps: what is followed, or estimated at step 100, stays near the enumeration."""
  settings = settings_of(TOY, (2, 3, 1), chains=400, sweeps=5)
  for refresh in (1000, 100):
    monkeypatch.setattr(bits, 'REFRESH', refresh)
    system, _, batch = begun(settings)

    def steps(state, system=system, batch=batch):
      turn = lambda state, key: (system.step(key, state, batch)[0], None)
      return jax.lax.scan(turn, state, jax.random.split(KEY, 150))[0]

    state = jax.jit(lambda steps=steps, system=system, batch=batch: steps(system.init(KEY, batch)))()
    exact_z = float(standing.normalized(0, system, state).extra['log_z'])
    assert abs(exact_z - 8 * math.log(2)) > 0.1
    assert float(state.extra['log_z']) == pytest.approx(exact_z, abs=0.05)


def test_a_step_estimates_the_normalizer_anew_every_hundred_steps():
  system, _, batch = begun(settings_of(TOY, (2, 3, 1)))
  state = jax.jit(system.init)(KEY, batch)
  wrong = state.replace(extra=state.extra | {'log_z': jnp.float32(99.0)})
  step = jax.jit(system.step)
  for number, anew in ((0, True), (1, False), (100, True)):
    found = step(KEY, wrong.replace(step=jnp.int32(number)), batch)[0].extra['log_z']
    assert (abs(float(found) - 99) > 50) == anew


def test_chains_are_swept_by_the_machine_before_the_step():
  settings = settings_of(TOY, (2, 3, 1), chains=1000, sweeps=1)
  settings.optimizer.model.learning_rate = 2.0  # so that the machine after it is another
  system, _, batch = begun(settings)
  state = jax.jit(system.init)(KEY, batch)
  after, metrics = jax.jit(system.step)(KEY, state, batch)
  zeros = boltzmann.Machine(jnp.zeros(4), jnp.zeros(4), jnp.zeros((4, 4)))
  sweep = jax.jit(boltzmann.gibbs, static_argnums=3)
  expected = sweep(jax.random.split(KEY)[1], zeros, state.extra['chains'], 1)
  np.testing.assert_array_equal(after.extra['chains'], expected)
  moved = (np.asarray(expected) != np.asarray(state.extra['chains'])).any(1).mean()
  assert float(metrics['chains/moved']) == pytest.approx(moved) and 0.9 < moved < 1


def test_figures_estimate_the_normalizer_once():
  """A state whose log-normalizer is wrong has the same figures as one whose is right; training goes on with its own."""
  settings = settings_of(TINY, (8, 8, 1), log_z='exact')
  settings.nll.update({'samples': 20, 'rows': 100, 'examples': 8})
  system, state, _ = begun(settings)
  split = data.load(settings.data, 'test')
  wrong = state.replace(extra=state.extra | {'log_z': jnp.float32(1000.0)})
  seen = []
  for each in (state, wrong):
    subject = Subject(settings, system, each, split._replace(size=16), parallel.mesh(1))
    found = mean.metrics(0, subject) | likelihood.nll(0, subject) | latent.units(0, subject)
    seen.append([found[name] for name in ('neg_elbo_nats', 'nll_nats', 'kl_per_dimension_nats')])
  assert seen[0] == seen[1]
  assert float(wrong.extra['log_z']) == 1000


def test_a_machine_without_weights_keeps_its_zeros():
  system, _, batch = begun(settings_of(TINY, coupled=False))
  state = jax.jit(system.init)(KEY, batch)
  after, metrics = jax.jit(system.step)(KEY, state, batch)
  assert not np.asarray(after.params['prior']['kernel']).any() and np.asarray(after.params['prior']['bias']).all()
  expected = np.logaddexp(0, after.params['prior']['bias']).sum()
  assert float(metrics['chains/log_z_nats']) == pytest.approx(expected, rel=1e-5)
  assert float(standing.normalized(0, system, after).extra['log_z']) == pytest.approx(expected, rel=1e-5)


def test_the_start_is_fair_and_pixels_begin_at_their_mean():
  settings = settings_of(TINY)
  system, _, batch = begun(settings)
  state = jax.jit(system.init)(KEY, batch)
  assert not any(np.asarray(leaf).any() for leaf in jax.tree.leaves(state.params['prior']))
  assert float(state.extra['log_z']) == pytest.approx(6 * math.log(2), rel=1e-6)
  assert state.extra['chains'].dtype == jnp.int8 and state.extra['chains'].shape == (12, 6)
  assert 0.2 < float(state.extra['chains'].mean(dtype='float32')) < 0.8
  mean = np.clip(np.asarray(batch['x']).mean(0).ravel(), 0.001, 0.999)
  np.testing.assert_allclose(state.params['decoder']['output']['bias'], np.log(mean / (1 - mean)), rtol=1e-4)


def test_rows_of_the_picture_are_sweeps_apart_and_their_images_have_one_state(toy):
  """With a machine frozen in one state, all images are of it; else states change from row to row."""
  system, state, _ = toy
  prior = state.params['prior']
  frozen = {'bias': jnp.where(jnp.arange(8) % 2, 30.0, -30.0), 'kernel': jnp.zeros_like(prior['kernel'])}
  still = state.replace(params=state.params | {'prior': frozen})
  draw = jax.jit(system.views.gibbs, static_argnums=2)
  images = np.asarray(draw(KEY, still, 400))
  assert images.shape == (5, 400, 2, 3, 1)
  np.testing.assert_allclose(images.mean((0, 1)), images[0].mean(0), atol=0.05)
  assert np.abs(np.diff(np.asarray(draw(KEY, state, 400)).mean(1), axis=0)).max() > 0.05
  assert images[0].std(0).max() > 0.01  # smoothed anew in each image


def test_accumulated_gradients_leave_chains_whole():
  settings = settings_of(TINY)
  settings.update({'batch_size': 4, 'accumulate': 2})
  system, state, batch = begun(settings)
  after, _ = jax.jit(system.step)(KEY, state, batch)
  assert after.extra['chains'].dtype == jnp.int8
  assert set(np.unique(after.extra['chains'])) <= {0, 1}
  assert isinstance(after, core.State)


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'bit_groups': 9}, r'config.model.bit_groups=9 is more than config.model.bits=8'),
    ({'bits': 1}, r'config.model.bits=1 must be at least 2'),
    ({'smoothing': 'gaussian'}, r'config.model.smoothing must be one of spike_exponential, exponential, power'),
    ({'bits': 50}, r'config.model.log_z=exact enumerates the 25 bits of a half, and at most 24 can be: set'),
    ({'log_z': 'guess'}, r'config.model.log_z must be one of ais, exact'),
    ({'beta': 0.0}, r'config.model.beta=0.0 must be greater than 0 for config.model.smoothing=spike_exponential'),
    ({'smoothing': 'power', 'beta': 1.0}, r'config.model.beta=1.0 must be greater than 1'),
    ({'chains': 0}, r'config.model.chains must be at least 1, got 0'),
    ({'sweeps': 0}, r'config.model.sweeps must be at least 1, got 0'),
    ({'layers': -1}, r'config.model.layers=-1 continuous layers'),
    ({'layers': 1, 'latents': 0}, r'config.model.layers=1 continuous layers of config.model.latents=0'),
    ({'activation': 'maxout'}, r'config.model.activation must be one of'),
    ({'likelihood': 'poisson'}, r'config.model.likelihood must be one of'),
  ],
)
def test_settings_that_are_refused(changes, message):
  with pytest.raises(UserError, match=message):
    systems.build(settings_of(TOY, **changes))


def test_chains_and_pmap_are_refused_in_one_line():
  settings = settings_of(TOY)
  settings.parallel = 'pmap'
  with pytest.raises(UserError, match=r"config.parallel='pmap' would give each device chains of its own") as error:
    systems.build(settings)
  assert '\n' not in str(error.value)


def test_the_limit_of_an_enumeration_is_that_of_the_machine():
  assert systems.build(settings_of(TOY, bits=48)) and boltzmann.LIMIT == 24
