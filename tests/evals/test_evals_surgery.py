"""ELBO surgery on arrays with a known decomposition, and on a trained autoencoder."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from dgm_jax import config as experiment
from dgm_jax import data, errors, systems
from dgm_jax import distributions as dist
from dgm_jax.evals import measuring, surgery
from dgm_jax.runs.subject import Subject
from dgm_jax.runtime import parallel

MEAN, SD = np.array([[-1.5], [0.2], [1.0]]), np.array([[0.3], [0.5], [0.4]])


def test_the_golden_decomposition_is_exact():
  parts = surgery.exact(MEAN, 2 * np.log(SD), 200)
  np.testing.assert_allclose(parts['average_kl_nats'], 1.06947024, atol=1e-8)
  np.testing.assert_allclose(parts['marginal_kl_nats'], 0.27188020, atol=2e-6)
  np.testing.assert_allclose(parts['mutual_information_nats'], 0.79759004, atol=2e-6)
  assert abs(parts['surgery_residual_nats']) < 1e-12
  assert parts['mutual_information_nats'] < parts['log_n_nats'] == np.log(3)


def test_samples_agree_with_quadrature_in_two_dimensions():
  random = np.random.default_rng(0)
  mean, logvar = random.normal(size=(15, 2)), random.normal(-1, 0.5, size=(15, 2))
  truth, estimate = surgery.exact(mean, logvar), surgery.sampled(1, mean.astype('f4'), logvar.astype('f4'), 20_000)
  for name in ('marginal_kl', 'mutual_information', 'surgery_residual'):
    error = estimate[f'{name}_standard_error_nats']
    assert 0 < error < 0.02
    assert abs(estimate[f'{name}_nats'] - truth[f'{name}_nats']) < 4 * error
  np.testing.assert_allclose(estimate['average_kl_nats'], truth['average_kl_nats'], rtol=1e-6)


def test_copies_carry_no_information_and_separate_codes_all_of_it():
  same = surgery.exact(np.full((5, 1), 0.7), np.zeros((5, 1)))
  assert abs(same['mutual_information_nats']) < 1e-12
  apart = surgery.exact(100 * np.arange(6.0)[:, None], np.zeros((6, 1)))
  np.testing.assert_allclose(apart['mutual_information_nats'], np.log(6), rtol=1e-12)
  far = surgery.sampled(0, 100 * np.arange(6, dtype='f4')[:, None], np.zeros((6, 1), 'f4'), 60)
  np.testing.assert_allclose(far['mutual_information_nats'], np.log(6), rtol=1e-5)


def subject(changes):
  """A few hundred digits and an untrained system of one of the families."""
  config = experiment.defaults()
  experiment.shrink(config)
  config.data.preprocess = 'dynamic_binarize'
  config.update(changes)
  config.model = {
    'hidden': ((8,),), 'latents': (2,), 'channels': (), 'activation': 'tanh', 'likelihood': 'bernoulli', 'samples': 1,
  }  # fmt: skip
  config.model.update(changes['model'])
  config.optimizer = {'model': experiment.optimizer()}
  split = data.load(config.data, 'valid')
  with config.unlocked():
    config.data.shape = (8, 8, 1)
  system = systems.build(config)
  x = jnp.asarray(split.arrays['x'][:8], jnp.float32) / 255
  return Subject(config, system, system.init(jax.random.key(0), {'x': x}), split, parallel.mesh(1))


def test_a_workdirs_posterior_is_cut_exactly_where_it_is_small():
  parts = surgery.surgery(0, subject({'system': 'vae.vae', 'model': {}}))
  assert abs(parts['surgery_residual_nats']) < 1e-5
  assert 'mutual_information_standard_error_nats' not in parts
  assert 0 < parts['mutual_information_nats'] < parts['log_n_nats'] == np.log(100)


def test_many_latents_are_sampled():
  parts = surgery.surgery(0, subject({'system': 'vae.vae', 'model': {'latents': (6,)}}))
  assert abs(parts['surgery_residual_nats']) < 5 * parts['surgery_residual_standard_error_nats']


def test_a_system_without_a_normal_posterior_is_refused():
  two = {'latents': (2, 2), 'hidden': ((8,), (8,))}
  with pytest.raises(errors.UserError, match='has no view posterior, which surgery'):
    measuring.measure(subject({'system': 'vae.vae', 'model': two}), ('surgery.surgery',))


def test_the_density_is_the_normal_one():
  z, mean, logvar = np.array([0.3, -1.0]), np.array([0.1, 0.4]), np.array([0.5, -0.7])
  expected = stats.norm.logpdf(z, mean, np.exp(0.5 * logvar)).sum()
  np.testing.assert_allclose(surgery._normal(z, mean, logvar), expected, rtol=1e-12)


@pytest.mark.parametrize('cut', [surgery.exact, lambda *args, **kwargs: surgery.sampled(0, *args, **kwargs)])
def test_another_prior_moves_the_marginal_divergence_alone(cut):
  """Under N(m, I) in place of N(0, I) it changes by |m|^2 / 2 - m E[z]."""
  random = np.random.default_rng(0)
  mean, logvar, centre = random.normal(size=(50, 1)), random.normal(size=(50, 1)), 0.7
  shifted = lambda z: dist.standard_normal_log_prob(jnp.asarray(z) - centre)
  plain, moved = cut(mean, logvar), cut(mean, logvar, prior=lambda z: np.asarray(shifted(z), np.float64))
  error = moved.get('marginal_kl_standard_error_nats', 0.0)
  change = moved['marginal_kl_nats'] - plain['marginal_kl_nats']
  assert change == pytest.approx(centre**2 / 2 - centre * mean.mean(), abs=5 * error + 1e-4)
  assert moved['mutual_information_nats'] == plain['mutual_information_nats']
  assert moved['average_kl_nats'] == moved['marginal_kl_nats'] + moved['mutual_information_nats']
  assert not any('residual' in name for name in moved)
