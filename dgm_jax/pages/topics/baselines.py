"""The densities that tables begin with, on the built-in digits: bits per dimension of held-out images."""

import math

import jax
import numpy as np

from dgm_jax import config as experiment
from dgm_jax.data import preprocess
from dgm_jax.data.digits import LEVELS
from dgm_jax.pages.topics import short_runs
from dgm_jax.pages.topics.page import Figures, Row, Topic
from dgm_jax.pictures import gallery

__all__ = ['baselines']

RIDGE = 100.0  # squared levels: a pixel in the corner of a digit never varies


def baselines() -> Topic:
  """Compares uniform, histograms, one normal, a mixture by EM and a deep mixture.

  The normal stands beside its closed form.
  """
  trained = {
    'uniform': _run('baseline.uniform', {'levels': 256}, 'scale', 8),
    'one histogram': _run('baseline.histogram', {'levels': 256}, 'scale', 13),
    'a histogram for each pixel': _run('baseline.position_histogram', {'levels': 256}, 'scale', 13),
    'one normal': _run('baseline.gaussian', {'ridge': RIDGE}, 'static_dequantize', 1, 1296),
    'mixture of 10 normals, EM': _run('latent.gmm', _gmm(10), 'static_dequantize', 40, 1296),
    'mixture of 1 normal, EM': _run('latent.gmm', _gmm(1), 'static_dequantize', 2, 1296),
    'deep mixture, 3 x 3 paths': _run('latent.deep_gmm', {'components': (3, 3)}, 'dequantize', 600),
  }
  bits = {name: short_runs.means(run)['bits_per_dim'] for name, run in trained.items()}
  return Topic(
    'Baselines',
    'Every system trained for seconds on 1296 digits of 8 x 8 pixels. Histograms are exact probabilities of levels,'
    ' the others densities of dequantized pixels, hence bounds. On CIFAR-10: configs/baselines.py.',
    rows=[
      Row('uniform over the 17 levels', math.log2(LEVELS), bits['uniform'], 1e-6),
      Row('one normal, closed form in float64', _closed_form(trained['one normal']), bits['one normal'], 1e-3),
      Row('mixture of one normal = one normal', bits['one normal'], bits['mixture of 1 normal, EM'], 1e-3),
    ],
    figures=[Figures('test, bits per dimension', ('', 'bits'), [[name, value] for name, value in bits.items()])],
    charts={'mixture of 10 normals: nats in EM': {'train': trained['mixture of 10 normals, EM'].curves['nll_nats']}},
    pictures={f'samples, {name}': _samples(run) for name, run in trained.items()},
  )


def _gmm(components: int) -> dict:
  regularization = RIDGE / 256**2
  return {'components': components, 'covariance': 'full', 'power': 0.0, 'regularization': regularization}


def _run(name: str, model: dict, prepare: str, steps: int, batch: int = 96) -> short_runs.Run:
  config = experiment.defaults()
  config.system = name
  config.data.update({'name': 'digits', 'preprocess': prepare, 'valid_size': 101})
  config.model = model
  config.optimizer = {'model': experiment.optimizer(learning_rate=3e-3, schedule='cosine')}
  config.update({'batch_size': batch})
  return short_runs.digits(config, steps, min(steps, 30))


def _closed_form(run: short_runs.Run) -> float:
  """Computes bits per dimension of test images under the normal with the training images' moments, in float64."""
  x, test = (np.asarray(a['x'], np.float64).reshape(len(a['x']), -1) for a in (run.train, run.test))
  covariance = np.cov(x.T, bias=True) + RIDGE / 256**2 * np.eye(x.shape[1])
  offset = test - x.mean(0)
  square = (offset * np.linalg.solve(covariance, offset.T).T).sum(1)
  nats = 0.5 * (square + np.linalg.slogdet(covariance)[1] + x.shape[1] * math.log(2 * math.pi))
  return float(nats.mean() / (x.shape[1] * math.log(2)) + math.log2(LEVELS))


def _samples(run: short_runs.Run) -> np.ndarray:
  draws = jax.jit(run.system.sample, static_argnums=2)(jax.random.key(0), run.state, 16)
  return gallery.grid(np.asarray(preprocess.to_uint8('scale', draws)), scale=4)
