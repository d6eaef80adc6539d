"""Classifiers of images: `classifier` evaluates samples; the others show the costs of reversibility.

Images are pixels in [0, 1] (preprocess: scale) with labels.

Axes: B batch, H height, W width, C channels, K classes.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from dgm_jax import config as experiment
from dgm_jax import losses, models, optim
from dgm_jax.core import Batch, Key, Metrics, Player, State, System, average, averages, chain, descend, system
from dgm_jax.models import resnet as networks
from dgm_jax.models.classifier import Classifier
from dgm_jax.nn.norm import running
from dgm_jax.systems.parts import augmentations

__all__ = ['classifier', 'irevnet', 'resnet', 'revnet']

LABELLED = __all__


class ClassifierParts(NamedTuple):
  """The network and its training."""

  network: networks.Classifier
  decay: float  # weight of half the squares of the parameters that decay
  momentum: float  # of the running statistics
  reach: int  # largest shift of an image, in pixels
  flip: Callable  # (key, x) -> x
  crop: int = 0  # the side of random boxes that are resized, and of the middle that is evaluated; 0: whole images
  colours: bool = False  # whether colours change at random


def resnet(config: ConfigDict) -> System:
  """Builds a residual network.

  Reference: He et al. 2016, arXiv:1603.05027.
  """
  return _system(config, networks.resnet)


def revnet(config: ConfigDict) -> System:
  """Builds a reversible residual network.

  Reference: Gomez et al. 2017, arXiv:1707.04585.
  """
  return _system(config, networks.revnet)


def irevnet(config: ConfigDict) -> System:
  """Builds a network that is invertible up to its last features; its view `reconstruct` inverts them.

  Reference: Jacobsen et al. 2018, arXiv:1802.07088.
  """
  return _system(config, networks.irevnet)


def classifier(config: ConfigDict) -> System:
  """Builds a classifier that is trained by cross-entropy; the average of its parameters evaluates samples."""
  network = models.build('config.model.network', Classifier, config.model.network.to_dict(), dtype=config.dtype)

  def loss(key: Key, state: State, batch: Batch):
    logits, _ = network.apply({'params': state.params['classifier']}, batch['x'], rngs={'dropout': key})
    return losses.auxiliary_classifier(logits, batch['y']).mean(), ({}, {})

  def classify(key: Key, state: State, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    del key
    return network.apply({'params': state.params['classifier']}, x)

  def evaluate(key: Key, state: State, batch: Batch) -> Metrics:
    logits, _ = classify(key, state, batch['x'])
    return _metrics(logits, batch['y'])

  def init_networks(key: Key, batch: Batch):
    params = {'classifier': network.init(key, batch['x'][:1])['params']}
    return params, averages(params, {}, ('classifier',))

  move = descend(model=Player(loss, optim.make(config, 'model'), ('classifier',)))
  move = chain(move, average('classifier', config.model.average))
  return system(init_networks, move, evaluate, None, judge=classify)


def _metrics(logits: jax.Array, labels: jax.Array) -> Metrics:
  wrong = (logits.argmax(1) != labels).astype(jnp.float32)
  return {'cross_entropy_nats': losses.auxiliary_classifier(logits, labels), 'error_percent': 100 * wrong}


def build_parts(config: ConfigDict, build: Callable) -> ClassifierParts:
  """Builds the network that `config.model.network` describes, and reads the settings of its training.

  Raises:
    UserError: the network has no such setting, or a setting is out of range.
  """
  model = config.model
  settings = model.network.to_dict()
  experiment.one_of('config.model.network.memory', settings.get('memory', 'plain'), networks.MEMORY)
  experiment.one_of('config.model.flip', model.flip, FLIPS)
  experiment.one_of('config.model.decays', model.get('decays', 'kernels'), DECAYS)
  experiment.require(0 <= model.momentum < 1, f'config.model.momentum must be in [0, 1), got {model.momentum}')
  experiment.require(model.reach >= 0, f'config.model.reach must not be negative, got {model.reach}')
  crop, colours = model.get('crop', 0), model.get('colours', False)
  least = min(config.data.shape[:2])
  experiment.require(0 <= crop <= least, f'config.model.crop must be in [0, {least}], the side of the data, got {crop}')
  experiment.require(
    not colours or config.data.shape[-1] == 3,
    f'config.model.colours=True needs images of 3 channels, got {config.data.shape[-1]}',
  )
  filled = {'shape': tuple(config.data.shape), 'classes': model.classes, 'dtype': config.dtype}
  network = models.build('config.model.network', build, settings, **filled)
  return ClassifierParts(network, model.l2, model.momentum, model.reach, FLIPS[model.flip], crop, colours)


FLIPS = {'none': augmentations.keep, 'horizontal': augmentations.mirror}


def _augmented(parts: ClassifierParts, mean: jax.Array, key: Key, x: jax.Array) -> jax.Array:
  """Changes the images of a training step at random, and subtracts the mean."""
  for_place, for_flip = jax.random.split(key)
  if parts.crop:
    x = augmentations.resized_crop(for_place, x, parts.crop)
  if parts.colours:
    x = augmentations.colours(jax.random.fold_in(for_flip, 1), x)
  x = x - mean[None]
  return parts.flip(for_flip, x if parts.crop else augmentations.shift(for_place, x, parts.reach))


def _mean(parts: ClassifierParts, x: jax.Array) -> jax.Array:
  """Returns what is subtracted from images: their mean, [H, W, C], or that of each channel where sizes differ."""
  return x.mean((0, 1, 2))[None, None] if parts.crop else x.mean(0)


def _system(config: ConfigDict, build: Callable) -> System:
  parts, squares = build_parts(config, build), DECAYS[config.model.get('decays', 'kernels')]

  def init_networks(key: Key, batch: Batch):
    mean = _mean(parts, batch['x'])
    x, keys = augmentations.middle(batch['x'], parts.crop) - mean[None], jax.random.split(key)
    params = {'features': parts.network.features.init(keys[0], x)}
    h = parts.network.features.forward(params['features'], None, x)[0]
    params['head'] = parts.network.head.init(keys[1], h)
    statistics = networks.logits(parts.network, params, None, x)[1]
    return {'classifier': params}, {'mean': mean, 'stats': statistics}

  def loss(key: Key, state: State, batch: Batch):
    x = _augmented(parts, state.extra['mean'], key, batch['x'])
    y, statistics = networks.logits(parts.network, state.params['classifier'], None, x)
    nats = optax.softmax_cross_entropy_with_integer_labels(y, batch['y']).mean()
    stats = running(state.extra['stats'], statistics, parts.momentum)
    error = 100 * (y.argmax(1) != batch['y']).mean()
    value = nats + parts.decay * squares(state.params['classifier'])
    return value, ({'stats': stats}, {'cross_entropy_nats': nats, 'error_percent': error})

  def evaluate(key: Key, state: State, batch: Batch) -> Metrics:
    del key
    return _metrics(_logits(parts, state, batch['x']), batch['y'])

  move = descend(model=Player(loss, optim.make(config, 'model'), ('classifier',)))
  invertible = build is networks.irevnet
  reconstruct = functools.partial(_reconstruct, parts) if invertible else None
  return system(init_networks, move, evaluate, None, reconstruct=reconstruct)


def _logits(parts: ClassifierParts, state: State, x: jax.Array) -> jax.Array:
  x = augmentations.middle(x, parts.crop) - state.extra['mean'][None]
  return networks.logits(parts.network, state.params['classifier'], state.extra['stats'], x)[0]


def features(parts: ClassifierParts, state: State, x: jax.Array) -> jax.Array:
  """Computes the last features of images by an invertible network."""
  params, stats = state.params['classifier']['features'], state.extra['stats']['features']
  return parts.network.features.forward(params, stats, x - state.extra['mean'][None])[0]


def image(parts: ClassifierParts, state: State, h: jax.Array) -> jax.Array:
  """Inverts the network: returns the images of last features."""
  params, stats = state.params['classifier']['features'], state.extra['stats']['features']
  return parts.network.features.inverse(params, stats, h)[0] + state.extra['mean'][None]


def _reconstruct(parts: ClassifierParts, key: Key, state: State, x: jax.Array) -> jax.Array:
  del key
  return image(parts, state, features(parts, state, x))


def _weights(params) -> jax.Array:
  """Sums half the squares of the weights of convolutions and of the last layer, stacked layers included."""
  leaves = jax.tree_util.tree_leaves_with_path(params)
  return 0.5 * sum(jnp.square(leaf).sum() for path, leaf in leaves if path[-1].key == 'kernel')


def _all(params) -> jax.Array:
  """Sums half the squares of all parameters, including gains and biases."""
  return 0.5 * sum(jnp.square(leaf).sum() for leaf in jax.tree.leaves(params))


# Parameters that decay: RevNet's program has kernels alone, i-RevNet's all parameters.
DECAYS = {'kernels': _weights, 'all': _all}
