"""Posterior collapse on the deck's toy: normals in two dimensions, one latent, two kinds of decoders."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from dgm_jax import config as experiment
from dgm_jax import systems
from dgm_jax.pages.topics import drawing, short_runs
from dgm_jax.pages.topics.page import Figures, Row, Topic

__all__ = ['collapse']

STEPS, BATCH, TEST = 2500, 256, 400_000
REMEDY = {'capacity': {'capacity': 0.7, 'gamma': 2.0}, 'free_bits': {'floor': 0.5}, 'annealing': {'warmup': 1000}}


def collapse() -> Topic:
  """Measures bound and divergence of every case beside their closed forms."""
  rho = 0.8
  used, full = _run(rho, 'diagonal', 'elbo'), _run(rho, 'full', 'elbo')
  settings = {'capacity': 0.0, 'gamma': 100.0}
  annealed, idle = _run(rho, 'full', 'annealing'), _run(rho, 'full', 'capacity', settings)
  independent = _run(0.0, 'diagonal', 'elbo')
  unused = _run(rho, 'diagonal', 'capacity', settings)
  rows = [
    *_rows('correlated, diagonal decoder', used, _entropy(rho), 0.5 * math.log((1 + rho) / (1 - rho)), 0.05),
    *_rows('correlated, z held unused', unused, _entropy(0.0), 0.0, 0.01),
    *_rows('independent, diagonal decoder', independent, _entropy(0.0), 0.0, 0.15),
    *_rows('full decoder, z held unused', idle, _entropy(rho), 0.0, 0.01),
    _rows('full decoder', full, _entropy(rho), 0.0, 0.0)[0],
    _rows('full decoder, annealing', annealed, _entropy(rho), 0.0, 0.0)[0],
    *_rows('full decoder, free bits of 0.5', _run(rho, 'full', 'free_bits'), _entropy(rho), 0.5, 0.15),
    *_rows('full decoder, capacity of 0.7', _run(rho, 'full', 'capacity'), _entropy(rho), 0.7, 0.05),
  ]
  cases = {'correlated, diagonal decoder: used': used, 'independent: unused': independent, 'full: held unused': idle}
  loose = [
    [name, short_runs.means(run)['kl_nats']] for name, run in (('full decoder', full), ('with annealing', annealed))
  ]
  return Topic(
    'Posterior collapse',
    'Where the dimensions depend on each other and the decoder cannot say so, the latent must: its divergence is the'
    ' information that they share. Where they are independent, or the decoder has a full covariance, the bound is as'
    ' high without it. What the latent then carries the bound leaves open, being as high at any divergence; noise early'
    ' in training, and remedies, decide. The pictures have the data, coloured by the mean of its code.',
    rows=rows,
    figures=[Figures('what the bound leaves open', ('', 'KL, nats'), loose)],
    pictures={name: _picture(run) for name, run in cases.items()},
  )


def _entropy(rho: float) -> float:
  """Returns the bound's maximum, minus the entropy of the data."""
  return -(1 + math.log(2 * math.pi)) - 0.5 * math.log(1 - rho**2)


def _rows(name: str, run: short_runs.Run, bound: float, kl: float, tolerance: float) -> list[Row]:
  measured = short_runs.means(run)
  return [
    Row(f'{name}: ELBO', bound, -measured['neg_elbo_nats'], 0.01),
    Row(f'{name}: KL', kl, measured['kl_nats'], tolerance),
  ]


def _run(rho: float, decoder: str, objective: str, changes: dict | None = None) -> short_runs.Run:
  config = experiment.defaults()
  config.system = f'collapse.{objective}'
  config.model = {'latents': 1, 'decoder': decoder} | (changes or REMEDY.get(objective, {}))
  config.optimizer = {'model': experiment.optimizer(learning_rate=1e-2, schedule='cosine')}
  config.update({'steps': STEPS, 'batch_size': BATCH})
  with config.unlocked():
    config.data.shape = (1, 2, 1)
  system = systems.build(config)
  batch = lambda key: {'x': _draw(key, rho, BATCH)}
  state, curves = short_runs.loop(system, batch, batch(jax.random.key(1)), STEPS)
  return short_runs.Run(system, state, curves, {'x': _draw(jax.random.key(2), rho, TEST)}, batch(jax.random.key(1)))


def _draw(key: jax.Array, rho: float, n: int) -> jax.Array:
  """Draws [n, 1, 2, 1] with unit variances and correlation rho."""
  noise = jax.random.normal(key, (2, n))
  return jnp.stack([noise[0], rho * noise[0] + math.sqrt(1 - rho**2) * noise[1]], 1).reshape(n, 1, 2, 1)


def _picture(run: short_runs.Run) -> np.ndarray:
  x = run.test['x'][:3000]
  code = np.asarray(run.system.views.encode(jax.random.key(0), run.state, x))[:, 0]
  return drawing.scatter(np.asarray(x).reshape(-1, 2), 0.5 + code / 4, -4, 4)
