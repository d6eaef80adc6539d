"""One small autoencoder on digits, trained once for the topics that look into it."""

import functools

from dgm_jax import config as experiment
from dgm_jax.pages.topics import short_runs

__all__ = ['trained']


@functools.cache
def trained(latents: int, steps: int = 2000) -> short_runs.Run:
  """Trains a Bernoulli autoencoder with `latents` normal latents."""
  config = experiment.defaults()
  config.system = 'vae.vae'
  config.data.update({'name': 'digits', 'preprocess': 'dynamic_binarize', 'valid_size': 100})
  config.model = {
    'hidden': ((100,),), 'latents': (latents,), 'channels': (), 'activation': 'tanh', 'likelihood': 'bernoulli',
    'samples': 1,
  }  # fmt: skip
  config.optimizer = {'model': experiment.optimizer(learning_rate=2e-3, schedule='cosine')}
  config.update({'batch_size': 96})
  return short_runs.digits(config, steps)
