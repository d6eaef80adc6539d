"""Training in one's own program."""

import os
import tempfile
from pathlib import Path

from ml_collections import ConfigDict

from dgm_jax import config as experiment
from dgm_jax import training
from dgm_jax.api.model import Model, load

__all__ = ['fit']


def fit(config: ConfigDict | str, steps: int = 0, workdir: str | os.PathLike | None = None) -> Model:
  """Trains an experiment, and returns the trained model.

  Args:
    config: an experiment, as the `get_config` of a config file returns it, or the name of one, such as
      'vae_mnist:small'.
    steps: length of the run; 0 for that of the experiment.
    workdir: folder of the run, which `load` and the commands open later, and which a second call goes on with; None to
      keep nothing.

  Raises:
    UserError: there is a mistake in the experiment, its data or the folder.
    Halt: the training has diverged.
  """
  config = experiment.named_config(config) if isinstance(config, str) else config.copy_and_resolve_references()
  if steps:
    with config.unlocked():
      config.update({'steps': steps, 'epochs': 0.0, 'stage_epochs': (), 'budget': 0})
      config.steps_per_call = min(config.steps_per_call, steps)
      for key in ('log_every', 'eval_every', 'save_every', 'picture_every'):
        config[key] -= config[key] % config.steps_per_call
  experiment.check(config)
  if workdir is not None:
    training.fit(config, Path(workdir))
    return load(workdir)
  with tempfile.TemporaryDirectory() as folder:
    training.fit(config, Path(folder))
    return load(folder)
