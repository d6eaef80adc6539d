"""Gradients of an expectation: exact variances, exact means, and an autoencoder trained by each estimator."""

import itertools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from dgm_jax import config as experiment
from dgm_jax import losses
from dgm_jax.pages.topics import short_runs
from dgm_jax.pages.topics.page import Figures, Row, Topic

__all__ = ['estimators']

DRAWS = 400_000
STEPS = 1500
KINDS = ('reparametrized', 'score', 'constant_baseline', 'optimal_baseline', 'leave_one_out', 'vimco')


def estimators() -> Topic:
  """Measures the variances of the estimators of d/dm E_N(m, 1)[z^2] at m = 1.

  Unbiasedness by enumeration, and training, follow.
  """
  trained = {f'{kind}': _train(kind, 'normal') for kind in KINDS}
  trained |= {f'discrete {kind}': _train(kind, 'bernoulli') for kind in ('score', 'leave_one_out', 'vimco')}
  rows = [
    [name.replace('_', ' '), short_runs.means(run)['neg_elbo_nats'], _noise(run)] for name, run in trained.items()
  ]  # fmt: skip
  curves = {name: run.curves['model/loss'] for name, run in trained.items()}
  normal = {name: curves[name] for name in ('score', 'optimal_baseline', 'leave_one_out', 'reparametrized')}
  discrete = {name.removeprefix('discrete '): line for name, line in curves.items() if name.startswith('discrete')}
  return Topic(
    'Gradient estimators',
    'The log-derivative trick is unbiased and its variance huge; a baseline takes most of it away, and'
    ' reparametrization what is left. Below, one autoencoder trained on digits by each, four samples an image; the'
    ' variance is that of the gradient of the encoder at the end of training, all parameters added up.',
    rows=[*_variances(), *_unbiased()],
    figures=[Figures(f'after {STEPS} steps', ('estimator', 'test -ELBO', 'variance of the encoder gradient'), rows)],
    charts={'-ELBO in training, normal latents': normal, '-ELBO (VIMCO: bound), Bernoulli latents': discrete},
  )


def _variances() -> list[Row]:
  """Compares Monte Carlo with the closed forms. The tolerance is 3 %."""
  z = 1 + jax.random.normal(jax.random.key(0), (DRAWS, 4))
  reward = jnp.square(z)
  score = lambda baseline: (reward - baseline) * (z - 1)
  alone, pairs = reward[:, :2], losses.leave_one_out_baseline(reward[:, :2], axis=1)
  estimates = {
    ('reparametrization', 4.0): 2 * z,
    ('log-derivative trick', 30.0): score(0.0),
    ('baseline E f = 2', 18.0): score(2.0),
    ('optimal baseline 4', 14.0): score(4.0),
    ('leave-one-out, 2 samples', 14.0): ((alone - pairs) * (z[:, :2] - 1)).mean(1),
    ('leave-one-out, 4 samples', 16 / 3): score(losses.leave_one_out_baseline(reward, axis=1)).mean(1),
  }
  return [
    Row(f'variance, {name}', value, float(np.var(np.asarray(draws, np.float64))), 0.03 * value)
    for (name, value), draws in estimates.items()
  ]


def _unbiased() -> list[Row]:
  """Computes the largest error of the mean over all configurations of Bernoulli samples, in float64."""
  with jax.enable_x64(True):
    bits = jnp.asarray(list(itertools.product([0.0, 1.0], repeat=4)))
    logits, table = jnp.asarray([0.3, -0.7, 1.1, 0.2]), jax.random.normal(jax.random.key(1), (16,))
    score, loo = losses.score_function_surrogate, losses.leave_one_out_baseline
    single = lambda log_q, f: score(log_q, f, 1.7).sum(1)
    paired = lambda log_q, f: score(log_q, f, loo(f, axis=1)).mean(1)
    bound = lambda log_q, f: losses.vimco_surrogate(f - log_q, log_q, axis=1)
    multi = lambda log_q, f: jax.nn.logsumexp(f - log_q, 1) - jnp.log(log_q.shape[1])
    mean = lambda log_q, f: f.mean(1)
    cases = {
      'log-derivative, any baseline': (single, mean, 1),
      'leave-one-out, 2 samples': (paired, mean, 2),
      'VIMCO, 2 samples': (bound, multi, 2),
      'VIMCO, 3 samples': (bound, multi, 3),
    }
    return [
      Row(f'bias over all configurations, {name}', 0.0, _bias(bits, logits, table, *case), 1e-12)
      for name, case in cases.items()
    ]


def _bias(bits, logits, table, surrogate: Callable, objective: Callable, samples: int) -> float:
  """Computes the largest entry of |E[gradient of the surrogate] - gradient of E[objective]|, by enumeration."""
  index = jnp.asarray(list(itertools.product(range(len(bits)), repeat=samples)))
  log_q = lambda logits: jnp.sum(bits * logits[None] - jax.nn.softplus(logits)[None], 1)[index]
  weight = jnp.exp(log_q(logits).sum(1))
  estimate = jax.grad(lambda logits: jnp.vdot(weight, surrogate(log_q(logits), table[index])))(logits)

  def expected(logits):
    return jnp.vdot(jnp.exp(log_q(logits).sum(1)), objective(log_q(logits), table[index]))

  return float(jnp.abs(estimate - jax.grad(expected)(logits)).max())


def _train(kind: str, posterior: str) -> short_runs.Run:
  config = experiment.defaults()
  config.system = f'estimators.{kind}'
  config.data.update({'name': 'digits', 'preprocess': 'dynamic_binarize', 'valid_size': 100})
  config.model = {
    'posterior': posterior, 'likelihood': 'bernoulli', 'hidden': (100,), 'latents': 8, 'samples': 4,
    'activation': 'tanh',
  }  # fmt: skip
  config.optimizer = {'model': experiment.optimizer(learning_rate=2e-3)}
  config.update({'batch_size': 64})
  return short_runs.digits(config, STEPS)


def _noise(run: short_runs.Run) -> float:
  """Measures the variance of the encoder's gradient over the estimator's own noise, for a fixed batch."""
  x = {'x': run.test['x'][:64]}

  gradient = lambda key: run.system.views.gradient(key, run.state, x)
  variance = jax.jit(losses.estimator_variance, static_argnums=(0, 2))(gradient, jax.random.key(3), 200)
  return sum(float(leaf.sum()) for leaf in jax.tree.leaves(variance))
