"""Recurrent variational autoencoders, which paint an image in steps."""

from typing import Any

from ml_collections import ConfigDict

from dgm_jax import config as experiment
from dgm_jax.core import System
from dgm_jax.models.conv_draw import STRIDE, ConvDrawCell
from dgm_jax.models.draw import DrawCell
from dgm_jax.systems.parts import bounds, painting

__all__ = ['conv_draw', 'draw']


def draw(config: ConfigDict) -> System:
  """Builds the system that reads images and writes on a canvas by LSTMs, through windows or as a whole.

  `config.model.read` and `config.model.write` are rows and columns of the windows, 0 for the whole image.

  Reference: Gregor et al. 2015, arXiv:1502.04623, equations 3 to 12.

  Raises:
    UserError: there is no step, a window is larger than the image, or a size is out of range.
  """
  model, shape = config.model, tuple(config.data.shape)
  for key, side in {'read': model.read, 'write': model.write}.items():
    _check_window(key, side, shape)
  for key, number in {'hidden': model.hidden, 'steps': model.steps}.items():
    experiment.require(number >= 1, f'config.model.{key} must be at least 1, got {number}')
  cell = DrawCell(
    shape, model.hidden, _latents(config), model.read, model.write, painting.image_of(config), config.dtype
  )
  return _system(config, cell)


def conv_draw(config: ConfigDict) -> System:
  """Builds the system whose LSTMs are convolutional, and whose prior of a step depends on the steps before.

  Reference: Gregor et al. 2016, arXiv:1604.08772, section 2.

  Raises:
    UserError: there is no step, a side of the image is odd, or a size is out of range.
  """
  model, shape = config.model, tuple(config.data.shape)
  experiment.require(
    shape[0] % STRIDE == shape[1] % STRIDE == 0,
    f'draw.conv_draw takes images of even sides, got config.data.shape={shape}: set config.data.size',
  )
  for key, number in {'features': model.features, 'steps': model.steps, 'kernel': model.kernel}.items():
    experiment.require(number >= 1, f'config.model.{key} must be at least 1, got {number}')
  cell = ConvDrawCell(shape, model.features, model.kernel, _latents(config), painting.image_of(config), config.dtype)
  return _system(config, cell)


def _system(config: ConfigDict, cell: Any) -> System:
  """Returns the System of steps of a cell; it is evaluated in bits per dimension, too."""
  model = painting.build(config, cell)

  def figures(terms):
    bits = model.views['bits'](None, None, -bounds.elbo(terms, None)[0])
    return bounds.neg_bound(terms) | {'bits_per_dim': bits}

  return bounds.system(config, model, 'elbo', figures)


def _check_window(key: str, side: int, shape: tuple[int, ...]) -> None:
  """Refuses a window that the image does not hold, or that has no stride."""
  height, width = shape[:2]
  experiment.require(
    side == 0 or 2 <= side <= min(height, width),
    f'config.model.{key}={side} is no window of images of {height}x{width}: give 2 to {min(height, width)} pixels a'
    ' side, or 0 for the whole image',
  )


def _latents(config: ConfigDict) -> int:
  """Returns the number of latents of a step, or of the maps of them."""
  latents = tuple(config.model.latents)
  experiment.require(
    len(latents) == 1 and latents[0] >= 1,
    f'config.model.latents={latents} must be one number, the same at each step',
  )
  return latents[0]
