"""ELBO surgery: the golden decomposition, codes whose information is known, and a trained autoencoder."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from dgm_jax.evals import surgery as cut
from dgm_jax.pages.topics import autoencoder
from dgm_jax.pages.topics.page import Figures, Row, Topic

__all__ = ['surgery']


def surgery() -> Topic:
  """Checks that average KL = marginal KL + index-code information.

  The figures are exact if codes are few; otherwise they have standard errors.
  """
  golden = cut.exact(np.array([[-1.5], [0.2], [1.0]]), 2 * np.log([[0.3], [0.5], [0.4]]), 200)
  two, eight = (_posterior(latents) for latents in (2, 8))
  small, large = cut.exact(*(array[:200] for array in two)), cut.sampled(0, *eight)
  names = ('average_kl', 'marginal_kl', 'mutual_information', 'log_n')
  table = [
    [name.replace('_', ' '), small[f'{name}_nats'], large[f'{name}_nats'], _error(large, name)] for name in names
  ]
  residual, error = large['surgery_residual_nats'], large['surgery_residual_standard_error_nats']
  return Topic(
    'ELBO surgery',
    'The mean divergence of the posteriors from the prior is that of the aggregated posterior plus the information'
    ' between code and index of the example, which is at most ln n. A trained autoencoder spends most of it on'
    ' telling the examples apart.',
    rows=[
      Row('golden mean KL', 1.06947024, golden['average_kl_nats'], 1e-8),
      Row('golden marginal KL', 0.27188020, golden['marginal_kl_nats'], 2e-6),
      Row('golden information', 0.79759004, golden['mutual_information_nats'], 2e-6),
      *_closed_forms(),
      Row('autoencoder, 2 latents: residual of the identity', 0.0, small['surgery_residual_nats'], 1e-5),
      Row('autoencoder, 8 latents: residual, 4 errors', 0.0, residual, 4 * error),
    ],
    figures=[Figures('digits, nats', ('', '2 latents, 200 images, exact', '8 latents, 400 images', '+-'), table)],
  )


def _closed_forms() -> list[Row]:
  """Compares with closed forms for codes N(m_i, s^2) with m_i ~ N(0, 1 - s^2).

  The information tends to log (1 / s), the marginal KL to 0.
  """
  rows = []
  for s in (0.3, 0.05):
    mean = np.random.default_rng(0).normal(size=(1000, 1)) * math.sqrt(1 - s**2)
    parts = cut.exact(mean, np.full((1000, 1), 2 * math.log(s)), 60)
    rows.append(
      Row(f'1000 codes of width {s}: information, limit', -math.log(s), parts['mutual_information_nats'], 0.06)
    )
    rows.append(Row(f'1000 codes of width {s}: marginal KL, limit', 0.0, parts['marginal_kl_nats'], 0.04))
  copies = cut.exact(np.full((5, 1), 0.7), np.zeros((5, 1)))
  apart = cut.exact(100 * np.arange(6.0)[:, None], np.zeros((6, 1)))
  return [
    *rows,
    Row('five copies of one posterior: information', 0.0, copies['mutual_information_nats'], 1e-12),
    Row('six posteriors far apart: information = ln 6', math.log(6), apart['mutual_information_nats'], 1e-9),
  ]


def _posterior(latents: int) -> tuple[np.ndarray, np.ndarray]:
  run = autoencoder.trained(latents)
  return tuple(
    np.asarray(a) for a in run.system.views.posterior(jax.random.key(0), run.state, jnp.asarray(run.test['x']))
  )


def _error(page: dict, name: str) -> float:
  return page.get(f'{name}_standard_error_nats', 0.0)
