"""Wiring: one file a family, one function a system, each `config -> System`."""

from ml_collections import ConfigDict

from dgm_jax import config as experiment
from dgm_jax.core import System

__all__ = [
  'autoregressive', 'baseline', 'build', 'classifier', 'collapse', 'disentangle', 'estimators', 'flow', 'gan', 'latent',
  'semi_supervised', 'vae', 'vq',
]  # fmt: skip


def build(config: ConfigDict) -> System:
  """The system that `config.system` names: 'vae.iwae' is `dgm_jax.systems.vae.iwae(config)`.

  Raises:
    UserError: there is no such system.
  """
  return experiment.by_path('dgm_jax.systems', config.system)(config)
