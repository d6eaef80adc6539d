"""Autoregressive models of images: each pixel's distribution given those before it, trained by maximum likelihood.

Axes: B batch, H height, W width, C channels, D condition.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from dgm_jax import config as experiment
from dgm_jax import losses, models, optim
from dgm_jax.core import Batch, Key, Metrics, Player, State, System, average, averages, chain, descend, system
from dgm_jax.internal.metrics import GIVEN
from dgm_jax.models.pixelcnn import GatedPixelCNN, PixelCNN
from dgm_jax.models.pixelcnn_pp import PixelCNNpp
from dgm_jax.models.pixelrnn import PixelRNN
from dgm_jax.models.pixelsnail import PixelSNAIL
from dgm_jax.nn.recurrent import LAYERS
from dgm_jax.systems.parts import raster, sensitivity
from dgm_jax.systems.parts.labels import by_rows, drawn, told
from dgm_jax.systems.parts.pixels import PIXELS, Pixel

__all__ = ['gated_pixelcnn', 'pixelcnn', 'pixelcnn_pp', 'pixelrnn', 'pixelsnail']
CONDITIONAL = __all__


class Parts(NamedTuple):
  """The network, what its numbers mean, and the images that it is about."""

  network: nn.Module
  pixel: Pixel
  shape: tuple[int, int, int]
  classes: int  # of the labels it is told; 0: none
  shares: tuple[float, ...]  # of the classes in the training set
  average: float  # decay of the parameters' average, which is then what is measured and drawn from; 0: none


def pixelcnn(config: ConfigDict) -> System:
  """Masked convolutions.

  Reference: van den Oord et al. 2016, arXiv:1601.06759.
  """
  return _system(config, PixelCNN)


def pixelrnn(config: ConfigDict) -> System:
  """Recurrent layers over rows or along both diagonals.

  Reference: van den Oord et al. 2016, arXiv:1601.06759.
  """
  experiment.one_of('config.model.network.layer', config.model.network.layer, list(LAYERS))
  return _system(config, PixelRNN)


def gated_pixelcnn(config: ConfigDict) -> System:
  """A vertical and a horizontal stack of gated layers.

  Reference: van den Oord et al. 2016, arXiv:1606.05328.
  """
  return _system(config, GatedPixelCNN)


def pixelcnn_pp(config: ConfigDict) -> System:
  """Two streams of gated residual blocks at several resolutions.

  Reference: Salimans et al. 2017, arXiv:1701.05517.
  """
  return _system(config, PixelCNNpp)


def pixelsnail(config: ConfigDict) -> System:
  """Gated residual blocks and attention over all previous pixels.

  Reference: Chen et al. 2018, arXiv:1712.09763.
  """
  return _system(config, PixelSNAIL)


def network_of(config: ConfigDict) -> Callable:
  """The class of the network that a system of this file trains."""
  return models.AUTOREGRESSIVE[config.system.rpartition('.')[2]]


def parts(config: ConfigDict, network: Callable) -> Parts:
  """The network that `config.model.network` describes, for the likelihood and the data of the experiment.

  Raises:
    UserError: the network has no such setting, or there is no such likelihood.
  """
  model, shape = config.model, tuple(config.data.shape)
  pixel = experiment.choose('config.model.likelihood', model.likelihood, PIXELS)(shape[-1], model, config.data.levels)
  experiment.require(0 <= model.average < 1, f'config.model.average must be in [0, 1), got {model.average}')
  joint = network in (PixelCNNpp, PixelSNAIL)
  experiment.require(
    pixel.groups == 1 or not joint,
    f'config.model.likelihood={model.likelihood} orders the {pixel.groups} channels of config.data, which'
    f" {network.__name__} draws at once; use 'logistic_mixture'",
  )
  filled = {'numbers': pixel.numbers, 'groups': pixel.groups, 'dtype': config.dtype}
  module = models.build('config.model.network', network, model.network.to_dict(), **filled)
  classes, shares = model.classes if config.conditional else 0, tuple(config.data.get('class_shares', ()))
  return Parts(module, pixel, shape, classes, shares, model.average)


def _system(config: ConfigDict, network: Callable) -> System:
  made = parts(config, network)

  def networks(key: Key, batch: Batch):
    x = made.pixel.inputs(batch['x'])
    params = made.network.init(key, x, told(made.classes, batch))['params']
    return {'model': params}, averages({'model': params}, {}, ('model',)) if made.average else {}

  def loss(key: Key, state: State, batch: Batch):
    nats = log_prob_map(made, state.params['model'], batch['x'], told(made.classes, batch), {'dropout': key})
    return -nats.sum((1, 2)).mean(), ({}, {})

  def evaluate(key: Key, state: State, batch: Batch) -> Metrics:
    del key
    nats = -log_prob_map(made, state.params['model'], batch['x'], told(made.classes, batch)).sum((1, 2))
    given = GIVEN if made.classes else ''
    return {f'nll_nats{given}': nats, f'bits_per_dim{given}': losses.bits_per_dim(nats, math.prod(made.shape))}

  move = descend(model=Player(loss, optim.make(config, 'model'), ('model',)))
  move = chain(move, average('model', made.average)) if made.average else move
  return system(networks, move, evaluate, _sample(made), **_views(made))


def log_prob_map(made: Parts, params, x: jax.Array, condition=None, rngs: dict | None = None) -> jax.Array:
  """The log-probability of each pixel given those before it, nats.

  Args:
    x: [B, H, W, C] in data space.
    condition: [B, D], [B, H, W, D] or None.
    rngs: of dropout, in training.

  Returns: [B, H, W]; their sum is that of the image.
  """
  numbers = made.network.apply({'params': params}, made.pixel.inputs(x), condition, rngs=rngs)
  return made.pixel.log_prob(x, numbers)


def _sample(made: Parts) -> Callable:
  def sample(key: Key, state: State, n: int, labels=None, temperature=1.0) -> jax.Array:
    given = jnp.zeros((n, *made.shape))
    return _complete(made, key, state, given, jnp.zeros(given.shape[:3], bool), labels, temperature)

  return sample


def _complete(made: Parts, key: Key, state: State, given, known, labels=None, temperature=1.0) -> jax.Array:
  """Draws what is not known [B, H, W] of given [B, H, W, C]; labels [B] that are not given are drawn, too."""
  condition = None
  if made.classes:
    if labels is None:
      for_labels, key = jax.random.split(key)
      labels = drawn(for_labels, given.shape[0], made.classes, made.shares)
    condition = jax.nn.one_hot(labels, made.classes)
  drawing = raster.Drawing(made.network, state.params['model'], made.pixel, condition, temperature)
  return raster.incremental(key, drawing, given, known)


def _views(made: Parts) -> dict[str, Callable]:
  def log_prob(key, state, x, labels=None):
    return log_prob_pixels(key, state, x, labels).sum((1, 2))

  def log_prob_pixels(key, state, x, labels=None):
    del key
    condition = jax.nn.one_hot(labels, made.classes) if made.classes else None
    return log_prob_map(made, state.params['model'], x, condition)

  def complete(key, state, given, known, labels=None, temperature=1.0):
    return _complete(made, key, state, given, known, labels, temperature)

  def causality(key, state, x, first, labels=None):
    condition = jax.nn.one_hot(labels, made.classes) if made.classes else None
    return sensitivity.gradients(key, made.network, state.params['model'], made.pixel, x, first, condition)

  views = {
    'draw': _sample(made), 'log_prob': log_prob, 'log_prob_pixels': log_prob_pixels, 'complete': complete,
    'causality': causality,
  }  # fmt: skip
  return views | (_class_views(made, log_prob) if made.classes else {})


def _class_views(made: Parts, log_prob: Callable) -> dict[str, Callable]:
  draw = _sample(made)

  def classes(key, state, columns):
    return draw(key, state, made.classes * columns, jnp.repeat(jnp.arange(made.classes), columns))

  def row_sample(key, state, n):
    return draw(key, state, n, by_rows(n, made.classes))

  def log_prob_classes(key, state, x):
    given = lambda label: log_prob(key, state, x, jnp.full(x.shape[:1], label))
    return jax.lax.map(given, jnp.arange(made.classes)).T

  return {'classes': classes, 'row_sample': row_sample, 'log_prob_classes': log_prob_classes}
