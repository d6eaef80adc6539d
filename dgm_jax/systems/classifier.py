"""Classifiers of images: `resnet`, `revnet` and `irevnet` show what reversibility costs, `classifier` judges samples.

Images are pixels in [0, 1] (preprocess: scale) with labels. Axes: B batch, H height, W width, C channels, K classes.
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

__all__ = ['classifier', 'irevnet', 'resnet', 'revnet']

LABELLED = __all__


class Parts(NamedTuple):
  """The network and how it is trained."""

  network: networks.Classifier
  decay: float  # of half the squares of what decays
  momentum: float  # of the running statistics
  reach: int  # pixels that images are moved by at most
  flip: Callable  # (key, x) -> x


def resnet(config: ConfigDict) -> System:
  """Residual network.

  Reference: He et al. 2016, arXiv:1603.05027.
  """
  return _system(config, networks.resnet)


def revnet(config: ConfigDict) -> System:
  """Reversible residual network.

  Reference: Gomez et al. 2017, arXiv:1707.04585.
  """
  return _system(config, networks.revnet)


def irevnet(config: ConfigDict) -> System:
  """Network that can be inverted up to its last features; it draws images from features.

  Reference: Jacobsen et al. 2018, arXiv:1802.07088.
  """
  return _system(config, networks.irevnet)


def classifier(config: ConfigDict) -> System:
  """Trained on the cross-entropy of its labels; `extra` keeps the average of its parameters, which is what judges."""
  network = models.build('config.model.network', Classifier, config.model.network.to_dict(), dtype=config.dtype)

  def loss(key: Key, state: State, batch: Batch):
    logits, _ = network.apply({'params': state.params['classifier']}, batch['x'], rngs={'dropout': key})
    return losses.auxiliary_classifier(logits, batch['y']).mean(), ({}, {})

  def judge(key: Key, state: State, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    del key
    return network.apply({'params': state.params['classifier']}, x)

  def evaluate(key: Key, state: State, batch: Batch) -> Metrics:
    logits, _ = judge(key, state, batch['x'])
    return _judged(logits, batch['y'])

  def start(key: Key, batch: Batch):
    params = {'classifier': network.init(key, batch['x'][:1])['params']}
    return params, averages(params, {}, ('classifier',))

  move = descend(model=Player(loss, optim.make(config, 'model'), ('classifier',)))
  move = chain(move, average('classifier', config.model.average))
  return system(start, move, evaluate, None, judge=judge)


def _judged(logits: jax.Array, labels: jax.Array) -> Metrics:
  wrong = (logits.argmax(1) != labels).astype(jnp.float32)
  return {'cross_entropy_nats': losses.auxiliary_classifier(logits, labels), 'error_percent': 100 * wrong}


def parts(config: ConfigDict, build: Callable) -> Parts:
  """The network that `config.model.network` describes.

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
  filled = {'shape': tuple(config.data.shape), 'classes': model.classes, 'dtype': config.dtype}
  network = models.build('config.model.network', build, settings, **filled)
  return Parts(network, model.l2, model.momentum, model.reach, FLIPS[model.flip])


def _mirrored(key: Key, x: jax.Array) -> jax.Array:
  """A half of the images, each at random, from right to left."""
  return jnp.where(jax.random.bernoulli(key, shape=(x.shape[0], 1, 1, 1)), x[:, :, ::-1], x)


FLIPS = {'none': lambda key, x: x, 'horizontal': _mirrored}


def moved(key: Key, x: jax.Array, reach: int) -> jax.Array:
  """Each image moved by up to `reach` pixels along each axis, zeros where nothing is left."""
  padded = jnp.pad(x, [(0, 0), (reach, reach), (reach, reach), (0, 0)])
  corner = jax.random.randint(key, (x.shape[0], 2), 0, 2 * reach + 1)
  cut = lambda image, at: jax.lax.dynamic_slice(image, (at[0], at[1], 0), x.shape[1:])
  return jax.vmap(cut)(padded, corner)


def _system(config: ConfigDict, build: Callable) -> System:
  made, squares = parts(config, build), DECAYS[config.model.get('decays', 'kernels')]

  def start(key: Key, batch: Batch):
    mean = batch['x'].mean(0)
    x, keys = batch['x'] - mean[None], jax.random.split(key)
    params = {'features': made.network.features.init(keys[0], x)}
    h = made.network.features.forward(params['features'], None, x)[0]
    params['head'] = made.network.head.init(keys[1], h)
    seen = networks.logits(made.network, params, None, x)[1]
    return {'classifier': params}, {'mean': mean, 'stats': seen}

  def loss(key: Key, state: State, batch: Batch):
    for_place, for_flip = jax.random.split(key)
    x = made.flip(for_flip, moved(for_place, batch['x'] - state.extra['mean'][None], made.reach))
    y, seen = networks.logits(made.network, state.params['classifier'], None, x)
    nats = optax.softmax_cross_entropy_with_integer_labels(y, batch['y']).mean()
    stats = running(state.extra['stats'], seen, made.momentum)
    error = 100 * (y.argmax(1) != batch['y']).mean()
    value = nats + made.decay * squares(state.params['classifier'])
    return value, ({'stats': stats}, {'cross_entropy_nats': nats, 'error_percent': error})

  def evaluate(key: Key, state: State, batch: Batch) -> Metrics:
    del key
    return _judged(_logits(made, state, batch['x']), batch['y'])

  move = descend(model=Player(loss, optim.make(config, 'model'), ('classifier',)))
  invertible = build is networks.irevnet
  return system(start, move, evaluate, None, reconstruct=functools.partial(_reconstruct, made) if invertible else None)


def _logits(made: Parts, state: State, x: jax.Array) -> jax.Array:
  x = x - state.extra['mean'][None]
  return networks.logits(made.network, state.params['classifier'], state.extra['stats'], x)[0]


def features(made: Parts, state: State, x: jax.Array) -> jax.Array:
  """Returns the last features of images that a network which can be inverted has."""
  params, stats = state.params['classifier']['features'], state.extra['stats']['features']
  return made.network.features.forward(params, stats, x - state.extra['mean'][None])[0]


def image(made: Parts, state: State, h: jax.Array) -> jax.Array:
  """Finds images again from their last features."""
  params, stats = state.params['classifier']['features'], state.extra['stats']['features']
  return made.network.features.inverse(params, stats, h)[0] + state.extra['mean'][None]


def _reconstruct(made: Parts, key: Key, state: State, x: jax.Array) -> jax.Array:
  del key
  return image(made, state, features(made, state, x))


def _weights(params) -> jax.Array:
  """Sums half the squares of the weights of convolutions and of the last layer, also where layers are stacked."""
  leaves = jax.tree_util.tree_leaves_with_path(params)
  return 0.5 * sum(jnp.square(leaf).sum() for path, leaf in leaves if path[-1].key == 'kernel')


def _all(params) -> jax.Array:
  """Sums half the squares of all parameters, gains and biases too."""
  return 0.5 * sum(jnp.square(leaf).sum() for leaf in jax.tree.leaves(params))


# What decays: RevNet's program takes kernels alone, i-RevNet's all parameters.
DECAYS = {'kernels': _weights, 'all': _all}
