"""The systems: one file a family, one function `config -> System` a system.

A file lists in CONDITIONAL the systems that can be conditioned on labels, in LABELLED those that cannot do without, and
in POINTS those of data that are points.
"""

import sys
from collections.abc import Callable

from ml_collections import ConfigDict

from dgm_jax import config as experiment
from dgm_jax.core import System

__all__ = [
  'autoregressive', 'baseline', 'build', 'classes', 'classifier', 'collapse', 'data_range', 'diffusion', 'discrete',
  'disentangle', 'draw', 'estimators', 'flow', 'flow_posteriors', 'gan', 'ladder', 'latent', 'pixel_latents',
  'semi_supervised', 'vae', 'vq',
]  # fmt: skip


# The range of the data, by the likelihood of a pixel or the output function of a generator.
RANGES = {
  'bernoulli': (0, 1), 'sigmoid': (0, 1), 'discretized_logistic': (-1, 1), 'logistic_mixture': (-1, 1),
  'categorical': (-1, 1), 'discretized_normal': (-1, 1), 'tanh': (-1, 1),
}  # fmt: skip


def build(config: ConfigDict) -> System:
  """Builds the system that `config.system` names: 'vae.iwae' is `dgm_jax.systems.vae.iwae(config)`.

  Raises:
    UserError: there is no such system, or it has no labels and `config.conditional` is set, or the data are points.
  """
  function = experiment.by_path('dgm_jax.systems', config.system)
  listed = lambda table: _listed(function, table)
  experiment.require(
    len(config.data.shape) != 1 or listed('POINTS'),
    f'{config.system} takes images; config.data has points of {tuple(config.data.shape)} (for flow.*, gan.* and'
    ' diffusion.deep_diffusion)',
  )
  experiment.require(
    not config.conditional or listed('CONDITIONAL'),
    'config.conditional=True is for systems that can be conditioned on labels (autoregressive.*, vq.prior, gan.sngan,'
    ' gan.biggan, gan.acgan, gan.tac_gan),'
    f' not {config.system}',
  )
  return function(config)


def classes(config: ConfigDict) -> int:
  """Returns the number of classes that the labels of a run's data must be below, 0 if it uses no labels."""
  if not (config.conditional or _listed(experiment.by_path('dgm_jax.systems', config.system), 'LABELLED')):
    return 0
  return config.model.get('classes', 0) or config.model.get('network', {}).get('classes', 0)


def data_range(config: ConfigDict) -> tuple[float, float] | None:
  """Returns the least and the greatest value of the data that a run's model describes, None if it has no limits."""
  output = config.model.get('generator', {}).get('output', '')
  return RANGES.get(config.model.get('likelihood', output))


def _listed(function: Callable, table: str) -> bool:
  return function.__name__ in getattr(sys.modules[function.__module__], table, ())
