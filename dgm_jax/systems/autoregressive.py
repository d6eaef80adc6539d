"""Autoregressive models of images, trained by maximum likelihood: the distribution of each pixel given those before.

Axes: B batch, H height, W width, C channels, D condition.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from dgm_jax import config as experiment
from dgm_jax import losses, models, optim
from dgm_jax.core import Batch, Key, Metrics, Player, State, System, average, averages, chain, descend, system
from dgm_jax.internal.metrics import GIVEN
from dgm_jax.models.local_pixelcnn import LocalPixelCNN
from dgm_jax.models.pixelcnn import GatedPixelCNN, PixelCNN
from dgm_jax.models.pixelcnn_pp import PixelCNNpp
from dgm_jax.models.pixelrnn import PixelRNN
from dgm_jax.models.pixelsnail import PixelSNAIL
from dgm_jax.nn.recurrent import LAYERS
from dgm_jax.systems.parts import raster, sensitivity
from dgm_jax.systems.parts.labels import condition_of, labels_by_row, sample_labels
from dgm_jax.systems.parts.pixels import PIXELS, Pixel

__all__ = ['gated_pixelcnn', 'local_pixelcnn', 'pixelcnn', 'pixelcnn_pp', 'pixelrnn', 'pixelsnail']
CONDITIONAL = __all__


class AutoregressiveParts(NamedTuple):
  """The network, the distribution of a pixel, and the images that they model."""

  network: nn.Module
  pixel: Pixel
  shape: tuple[int, int, int]
  classes: int  # of the labels it is conditioned on; 0: none
  shares: tuple[float, ...]  # of the classes in the training set
  average: float  # decay of the parameters' average, which is evaluated and sampled; 0: none


def pixelcnn(config: ConfigDict) -> System:
  """Builds a PixelCNN: masked convolutions.

  Reference: van den Oord et al. 2016, arXiv:1601.06759.
  """
  return _system(config, PixelCNN)


def pixelrnn(config: ConfigDict) -> System:
  """Builds a PixelRNN: recurrent layers over rows or along both diagonals.

  Reference: van den Oord et al. 2016, arXiv:1601.06759.
  """
  experiment.one_of('config.model.network.layer', config.model.network.layer, list(LAYERS))
  return _system(config, PixelRNN)


def gated_pixelcnn(config: ConfigDict) -> System:
  """Builds a GatedPixelCNN: a vertical and a horizontal stack of gated layers.

  Reference: van den Oord et al. 2016, arXiv:1606.05328.
  """
  return _system(config, GatedPixelCNN)


def local_pixelcnn(config: ConfigDict) -> System:
  """Builds a LocalPixelCNN: a few masked convolutions with tied weights, which see only pixels near by.

  Reference: Chen et al. 2017, arXiv:1611.02731, appendices A and D.
  """
  return _system(config, LocalPixelCNN)


def pixelcnn_pp(config: ConfigDict) -> System:
  """Builds a PixelCNN++: two streams of gated residual blocks at several resolutions.

  Reference: Salimans et al. 2017, arXiv:1701.05517.
  """
  return _system(config, PixelCNNpp)


def pixelsnail(config: ConfigDict) -> System:
  """Builds a PixelSNAIL: gated residual blocks and attention over all previous pixels.

  Reference: Chen et al. 2018, arXiv:1712.09763.
  """
  return _system(config, PixelSNAIL)


def network_of(config: ConfigDict) -> Callable:
  """Returns the class of the network that a system of this file trains."""
  return models.AUTOREGRESSIVE[config.system.rpartition('.')[2]]


def build_parts(config: ConfigDict, network: Callable) -> AutoregressiveParts:
  """Builds the network that `config.model.network` describes, for the likelihood and the data of the experiment.

  Raises:
    UserError: the network has no such setting, or there is no such likelihood.
  """
  model, shape = config.model, tuple(config.data.shape)
  pixel = experiment.choose('config.model.likelihood', model.likelihood, PIXELS)(shape[-1], model, config.data.levels)
  experiment.require(0 <= model.average < 1, f'config.model.average must be in [0, 1), got {model.average}')
  joint = network in [models.AUTOREGRESSIVE[name] for name in models.WHOLE_PIXELS]
  experiment.require(
    pixel.groups == 1 or not joint,
    f'config.model.likelihood={model.likelihood} orders the {pixel.groups} channels of config.data, which'
    f" {network.__name__} draws at once; use 'logistic_mixture'",
  )
  filled = {'num_parameters': pixel.num_parameters, 'groups': pixel.groups, 'dtype': config.dtype}
  module = models.build('config.model.network', network, model.network.to_dict(), **filled)
  classes, shares = model.classes if config.conditional else 0, tuple(config.data.get('class_shares', ()))
  return AutoregressiveParts(module, pixel, shape, classes, shares, average=model.average)


def _system(config: ConfigDict, network: Callable) -> System:
  parts = build_parts(config, network)

  def networks(key: Key, batch: Batch):
    x = parts.pixel.inputs(batch['x'])
    params = parts.network.init(key, x, condition_of(parts.classes, batch))['params']
    return {'model': params}, averages({'model': params}, {}, ('model',)) if parts.average else {}

  suffix = GIVEN if parts.classes else ''

  def loss(key: Key, state: State, batch: Batch):
    nats = log_prob_map(parts, state.params['model'], batch['x'], condition_of(parts.classes, batch), {'dropout': key})
    mean = -nats.sum((1, 2)).mean()
    return mean, ({}, {f'nll_nats{suffix}': mean})

  def evaluate(key: Key, state: State, batch: Batch) -> Metrics:
    del key
    nats = -log_prob_map(parts, state.params['model'], batch['x'], condition_of(parts.classes, batch)).sum((1, 2))
    return {f'nll_nats{suffix}': nats, f'bits_per_dim{suffix}': losses.bits_per_dim(nats, math.prod(parts.shape))}

  move = descend(model=Player(loss, optim.make(config, 'model'), ('model',)))
  move = chain(move, average('model', parts.average)) if parts.average else move
  return system(networks, move, evaluate, _sample(parts), **_views(parts))


def log_prob_map(
  parts: AutoregressiveParts, params: Any, x: jax.Array, condition: Any = None, rngs: dict | None = None
) -> jax.Array:
  """Computes the log-probability of each pixel given those before it.

  Args:
    parts: the network and the distribution of a pixel.
    params: of the network.
    x: [B, H, W, C] in data space.
    condition: [B, D], [B, H, W, D] or None.
    rngs: of dropout, in training.

  Returns:
    [B, H, W] nats; their sum is that of the image.
  """
  outputs = parts.network.apply({'params': params}, parts.pixel.inputs(x), condition, rngs=rngs)
  return parts.pixel.log_prob(x, outputs)


def _sample(parts: AutoregressiveParts) -> Callable:
  def sample(key: Key, state: State, n: int, labels=None, temperature=1.0) -> jax.Array:
    empty = jnp.zeros((n, *parts.shape))
    return _complete(parts, key, state, empty, jnp.zeros(empty.shape[:3], bool), labels, temperature)

  return sample


def _complete(
  parts: AutoregressiveParts, key: Key, state: State, image, mask, labels=None, temperature=1.0
) -> jax.Array:
  """Samples the pixels of an image [B, H, W, C] outside the mask [B, H, W], and the labels [B] if they are None."""
  condition = None
  if parts.classes:
    if labels is None:
      for_labels, key = jax.random.split(key)
      labels = sample_labels(for_labels, image.shape[0], parts.classes, parts.shares)
    condition = jax.nn.one_hot(labels, parts.classes)
  pixel_model = raster.PixelModel(parts.network, state.params['model'], parts.pixel, condition, temperature)
  return raster.sample_incremental(key, pixel_model, image, mask)


def _views(parts: AutoregressiveParts) -> dict[str, Callable]:
  def log_prob(key, state, x, labels=None):
    return log_prob_pixels(key, state, x, labels).sum((1, 2))

  def log_prob_pixels(key, state, x, labels=None):
    del key
    condition = jax.nn.one_hot(labels, parts.classes) if parts.classes else None
    return log_prob_map(parts, state.params['model'], x, condition)

  def complete(key, state, image, mask, labels=None, temperature=1.0):
    return _complete(parts, key, state, image, mask, labels, temperature)

  def causality(key, state, x, first, labels=None):
    condition = jax.nn.one_hot(labels, parts.classes) if parts.classes else None
    return sensitivity.gradients(key, parts.network, state.params['model'], parts.pixel, x, first, condition)

  views = {
    'draw': _sample(parts), 'log_prob': log_prob, 'log_prob_pixels': log_prob_pixels, 'complete': complete,
    'causality': causality,
  }  # fmt: skip
  return views | (_class_views(parts, log_prob) if parts.classes else {})


def _class_views(parts: AutoregressiveParts, log_prob: Callable) -> dict[str, Callable]:
  draw = _sample(parts)

  def classes(key, state, columns):
    return draw(key, state, parts.classes * columns, jnp.repeat(jnp.arange(parts.classes), columns))

  def row_sample(key, state, n):
    return draw(key, state, n, labels_by_row(n, parts.classes))

  def log_prob_classes(key, state, x):
    of_class = lambda label: log_prob(key, state, x, jnp.full(x.shape[:1], label))
    return jax.lax.map(of_class, jnp.arange(parts.classes)).T

  return {'classes': classes, 'row_sample': row_sample, 'log_prob_classes': log_prob_classes}
