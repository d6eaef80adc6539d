"""Networks: pure linen modules, one architecture family a file; no loss, no optimizer.

The tables list the networks that an experiment may choose.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from dgm_jax import config as experiment
from dgm_jax.errors import UserError
from dgm_jax.models import (
  adversary,
  biggan,
  class_dense,
  dcgan,
  denoiser,
  local_pixelcnn,
  pixelcnn,
  pixelcnn_pp,
  pixelrnn,
  pixelsnail,
  resnet_gan,
  stylegan,
  unet,
)

__all__ = ['AUTOREGRESSIVE', 'CRITICS', 'DENOISERS', 'GENERATORS', 'WHOLE_PIXELS', 'build']

AUTOREGRESSIVE = {
  'pixelcnn': pixelcnn.PixelCNN, 'pixelrnn': pixelrnn.PixelRNN, 'gated_pixelcnn': pixelcnn.GatedPixelCNN,
  'pixelcnn_pp': pixelcnn_pp.PixelCNNpp, 'pixelsnail': pixelsnail.PixelSNAIL,
  'local_pixelcnn': local_pixelcnn.LocalPixelCNN, 'window_pixelcnn': local_pixelcnn.WindowPixelCNN,
}  # fmt: skip
# They draw whole pixels, so that the likelihood of their channels must be joint.
WHOLE_PIXELS = ('local_pixelcnn', 'pixelcnn_pp', 'pixelsnail', 'window_pixelcnn')
GENERATORS = {
  'dense': adversary.DenseGenerator, 'dcgan': dcgan.Generator, 'resnet': resnet_gan.Generator,
  'biggan': biggan.Generator, 'dense_classes': class_dense.Generator, 'style': stylegan.Generator,
  'traditional': stylegan.Traditional,
}  # fmt: skip
CRITICS = {
  'dense': adversary.DenseCritic, 'maxout': adversary.MaxoutCritic, 'dcgan': dcgan.Critic, 'resnet': resnet_gan.Critic,
  'biggan': biggan.Critic, 'dense_classes': class_dense.Critic, 'style': stylegan.Critic,
}  # fmt: skip
DENOISERS = {
  'dense': denoiser.Dense, 'radial': denoiser.Radial, 'multi_scale': denoiser.MultiScale, 'unet': unet.UNet
}  # fmt: skip
CODE_ARGUMENTS = ('act', 'norm', 'dtype', 'parent', 'name', 'fade', 'quantize')  # set by code, never by an experiment


def build(path: str, function: Callable, settings: Mapping, **filled) -> Any:
  """Builds the network that an experiment describes.

  Args:
    path: the config key of the settings, such as 'config.model.network'.
    function: a linen module, or a function that returns a network.
    settings: its arguments from the experiment.
    **filled: the arguments that the experiment may not set.

  Raises:
    UserError: the function has no such setting, lacks one, or refuses its value.
  """
  settable = [name for name in inspect.signature(function).parameters if name not in (*filled, *CODE_ARGUMENTS)]
  for name in settings:
    experiment.one_of(f'a key of {path} ({function.__name__})', name, settable)
    if name == 'features' and isinstance(settings[name], int):
      experiment.require(settings[name] >= 1, f'{path}.features must be at least 1, got {settings[name]}')
  try:
    return function(**settings, **filled)
  except TypeError as error:
    reason = ' '.join(str(error).split())
    raise UserError(f'{path} does not make a network {function.__name__}: {reason}') from error
