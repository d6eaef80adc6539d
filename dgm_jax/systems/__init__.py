"""The systems: one file a family, one function `config -> System` a system.

A file lists in CONDITIONAL the systems that can be conditioned on labels, and in POINTS those of data that are points.
"""

import sys

from ml_collections import ConfigDict

from dgm_jax import config as experiment
from dgm_jax.core import System

__all__ = [
  'autoregressive', 'baseline', 'build', 'classifier', 'collapse', 'disentangle', 'estimators', 'flow', 'gan', 'latent',
  'semi_supervised', 'vae', 'vq',
]  # fmt: skip


def build(config: ConfigDict) -> System:
  """Builds the system that `config.system` names: 'vae.iwae' is `dgm_jax.systems.vae.iwae(config)`.

  Raises:
    UserError: there is no such system, or it has no labels and `config.conditional` is set, or the data are points.
  """
  function = experiment.by_path('dgm_jax.systems', config.system)
  listed = lambda table: function.__name__ in getattr(sys.modules[function.__module__], table, ())
  experiment.require(
    len(config.data.shape) != 1 or listed('POINTS'),
    f'{config.system} takes images; config.data has points of {tuple(config.data.shape)} (for flow.* and gan.*)',
  )
  experiment.require(
    not config.conditional or listed('CONDITIONAL'),
    'config.conditional=True is for systems that can be told a label (autoregressive.*, vq.prior),'
    f' not {config.system}',
  )
  return function(config)
