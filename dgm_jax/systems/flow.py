"""Normalizing flows, trained on their exact likelihood.

Images are dequantized pixels in [0, 1) (preprocess: dequantize), points of a plane are what they are (identity). Axes:
B batch, D dimensions of an example.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from ml_collections import ConfigDict

from dgm_jax import config as experiment
from dgm_jax import distributions, losses, models, optim
from dgm_jax.core import Batch, Key, Metrics, Player, State, System, average, averages, chain, descend, system
from dgm_jax.models import flow as flows
from dgm_jax.models.dequantize import Dequantizer
from dgm_jax.nn import bijections
from dgm_jax.nn import reversible as rev
from dgm_jax.nn.norm import running
from dgm_jax.nn.reversible import Bijection
from dgm_jax.views import Prior

__all__ = ['glow', 'iaf', 'maf', 'nice', 'planar', 'realnvp', 'realnvp_dense']
POINTS = __all__


class Noise(NamedTuple):
  """A density of independent numbers that the data is turned into."""

  log_prob: Callable  # [B, D] -> [B] nats
  sample: Callable  # (key, shape) -> array


NOISES = {
  'normal': Noise(distributions.standard_normal_log_prob, jax.random.normal),
  'logistic': Noise(
    lambda z: distributions.logistic_log_prob(z, jnp.zeros_like(z), jnp.zeros_like(z)), jax.random.logistic
  ),
}


class Parts(NamedTuple):
  """What is in front of the flow, the flow, its noise, and the data that it is about."""

  opening: Bijection  # the data's interval to the line; no parameters
  flow: Bijection
  noise: Noise
  shape: tuple[int, ...]
  dequantizer: Dequantizer | None


def nice(config: ConfigDict) -> System:
  """Additive couplings and one scaling.

  Reference: Dinh et al. 2014, arXiv:1410.8516.
  """
  return _system(config, flows.nice)


def realnvp(config: ConfigDict) -> System:
  """Affine couplings of checkerboards and channels at several scales.

  Reference: Dinh et al. 2017, arXiv:1605.08803.
  """
  return _system(config, flows.realnvp)


def realnvp_dense(config: ConfigDict) -> System:
  """Affine or spline couplings of the halves of a vector.

  Reference: Dinh et al. 2017, arXiv:1605.08803, section 3.
  """
  return _system(config, flows.realnvp_dense)


def glow(config: ConfigDict) -> System:
  """Actnorm, 1x1 convolutions and affine couplings at several levels.

  Reference: Kingma & Dhariwal 2018, arXiv:1807.03039.
  """
  return _system(config, flows.glow)


def maf(config: ConfigDict) -> System:
  """Masked autoregressive flow.

  Reference: Papamakarios et al. 2017, arXiv:1705.07057.
  """
  return _system(config, flows.maf)


def iaf(config: ConfigDict) -> System:
  """Inverse autoregressive flow, by its likelihood: each density takes as many turns as there are dimensions.

  Reference: Kingma et al. 2016, arXiv:1606.04934, section 3.
  """
  return _system(config, flows.iaf)


def planar(config: ConfigDict) -> System:
  """Planar flow.

  Reference: Rezende & Mohamed 2015, arXiv:1505.05770.
  """
  return _system(config, flows.planar)


def parts(config: ConfigDict, build: Callable) -> Parts:
  """The flow that `config.model.network` describes, for the data of the experiment.

  Raises:
    UserError: the flow has no such setting, or a setting is out of range.
  """
  model, shape = config.model, tuple(config.data.shape)
  settings = model.network.to_dict()
  for name, allowed in CHOICES.items():
    if name in settings:
      experiment.one_of(f'config.model.network.{name}', settings[name], allowed)
  experiment.one_of('config.model.noise', model.noise, NOISES)
  experiment.one_of('config.model.dequantization', model.dequantization, ('uniform', 'variational'))
  experiment.require(0 <= model.alpha < 0.5, f'config.model.alpha must be in [0, 0.5), got {model.alpha}')
  experiment.require(0 <= model.momentum < 1, f'config.model.momentum must be in [0, 1), got {model.momentum}')
  experiment.require(0 <= average_of(model) < 1, f'config.model.average must be in [0, 1), got {average_of(model)}')
  images = len(shape) == 3
  experiment.require(
    images or not (model.alpha or model.dequantization == 'variational'),
    'config.model.alpha and .dequantization=variational are for pixels in [0, 1), not for points of a plane',
  )
  if images:  # whose bits are counted, and whose levels are found again, in these units
    experiment.one_of('config.data.preprocess of a flow of images', config.data.preprocess, DEQUANTIZED)
  opening = bijections.logit(model.alpha) if model.alpha else rev.chain()
  variational = model.dequantization == 'variational'
  dequantizer = Dequantizer(model.dequantizer_width, config.data.levels, dtype=config.dtype) if variational else None
  flow = models.build('config.model.network', build, settings, shape=shape, dtype=config.dtype)
  return Parts(opening, flow, NOISES[model.noise], shape, dequantizer)


STATISTICS = {'flow': ('stats',)}  # entries of `State.extra`, by network
DEQUANTIZED = ('dequantize', 'static_dequantize')
CHOICES = {
  'start': flows.STARTS, 'memory': flows.MEMORY, 'geometry': flows.GEOMETRIES, 'elementwise': flows.ELEMENTWISE,
  'edge': flows.EDGES,
}  # fmt: skip


def average_of(model: ConfigDict) -> float:
  """The decay of the parameters' average, which is then what is measured and drawn from; 0: none."""
  return model.get('average', 0.0)


class Likelihood(NamedTuple):
  """What a flow says of a batch."""

  log_prob: jax.Array  # [B] nats, of the data in its own units
  opened: jax.Array  # [B] nats, of what lies behind the opening
  seen: Any  # statistics of the batch


def likelihood(made: Parts, params, stats, x: jax.Array) -> Likelihood:
  """log p(x) of data in its own space, [B, ...]; with the batch's own statistics where `stats` is None."""
  y, log_det_opening, _ = made.opening.forward({}, stats, x)
  z, log_det, seen = made.flow.forward(params, stats, y)
  opened = losses.change_of_variables(noise_log_prob(made.noise, z), log_det)
  return Likelihood(losses.change_of_variables(opened, log_det_opening), opened, seen)


def noise_log_prob(noise: Noise, z) -> jax.Array:
  """Of a tree of latents, [B] nats."""
  return sum(noise.log_prob(leaf.reshape(leaf.shape[0], -1)) for leaf in jax.tree.leaves(z))


def _system(config: ConfigDict, build: Callable) -> System:
  made, momentum, decay = parts(config, build), config.model.momentum, config.model.l2
  names, mean = ('flow', 'dequantizer') if made.dequantizer else ('flow',), average_of(config.model)

  def networks(key: Key, batch: Batch):
    for_flow, for_dequantizer = jax.random.split(key)
    params = {}
    if made.dequantizer:
      params['dequantizer'] = made.dequantizer.init(for_dequantizer, batch['x'][:1], for_dequantizer)['params']
    y = made.opening.forward({}, None, batch['x'])[0]
    params['flow'] = made.flow.init(for_flow, y)
    seen = made.flow.forward(params['flow'], None, y)[2]
    extra = {'stats': jax.tree.map(lambda leaf: leaf.astype(jnp.float32), seen)}
    return params, averages(params, extra, names, 'stats') if mean else extra

  def loss(key: Key, state: State, batch: Batch):
    x, log_q = _dequantized(made, key, state, batch['x'])
    found = likelihood(made, state.params['flow'], None, x)
    stats = running(state.extra['stats'], found.seen, momentum)
    bound = (found.log_prob - log_q).mean()
    return -bound + decay * _gains(state.params['flow']), ({'stats': stats}, {'nll_nats': -bound})

  def evaluate(key: Key, state: State, batch: Batch) -> Metrics:
    x, log_q = _dequantized(made, key, state, batch['x'])
    found = likelihood(made, state.params['flow'], state.extra['stats'], x)
    metrics = {'nll_nats': log_q - found.log_prob}
    if len(made.shape) == 3:
      bits = losses.bits_per_dim(metrics['nll_nats'], math.prod(made.shape))
      metrics['bits_per_dim'] = bits + math.log2(config.data.levels)
    return metrics | ({'nll_logit_nats': log_q - found.opened} if config.model.alpha else {})

  move = descend(model=Player(loss, optim.make(config, 'model'), names))
  move = chain(move, *(average(name, mean, *STATISTICS.get(name, ())) for name in names)) if mean else move
  sample = lambda key, state, n: _draw(made, key, state, n, config.model.temperature)
  return system(networks, move, evaluate, sample, **_views(made))


def _dequantized(made: Parts, key: Key, state: State, x: jax.Array) -> tuple[jax.Array, jax.Array]:
  """x in [0, 1) and the log-density of its noise, [B] nats a bin: 0 for the uniform noise that the data came with."""
  if made.dequantizer is None:
    return x, jnp.zeros(x.shape[0])
  noise, log_q = made.dequantizer.apply({'params': state.params['dequantizer']}, x, key)
  levels = made.dequantizer.levels
  pixels = jnp.floor(levels * x)
  return jnp.minimum((pixels + noise) / levels, jnp.nextafter((pixels + 1) / levels, jnp.float32(0))), log_q


def _gains(params) -> jax.Array:
  """The squares of the gains of weight-normalised convolutions and of those of tanh, summed."""
  leaves = jax.tree_util.tree_leaves_with_path(params)
  gains = [leaf for path, leaf in leaves if path[-1].key.rpartition('/')[2] == 'scale']
  return sum((jnp.square(leaf).sum() for leaf in gains), jnp.zeros(()))


def _inverse(made: Parts, state: State, z) -> jax.Array:
  y, _ = made.flow.inverse(state.params['flow'], state.extra['stats'], z)
  return made.opening.inverse({}, {}, y)[0]


def _shapes(made: Parts, state: State, n: int):
  return flows.latent_shapes(made.flow, state.params['flow'], state.extra['stats'], made.shape, n)


def _draw(made: Parts, key: Key, state: State, n: int, temperature: float) -> jax.Array:
  """n draws, with noise whose deviation is `temperature` times that of the likelihood."""
  shapes, tree = jax.tree.flatten(_shapes(made, state, n))
  keys = jax.random.split(key, len(shapes))
  noise = [temperature * made.noise.sample(key, leaf.shape) for key, leaf in zip(keys, shapes, strict=True)]
  return _inverse(made, state, jax.tree.unflatten(tree, noise))


def _views(made: Parts) -> dict[str, Any]:
  def log_prob(key, state, x, labels=None):
    del key, labels
    return likelihood(made, state.params['flow'], state.extra['stats'], x).log_prob

  def encode(key, state, x):
    del key
    y = made.opening.forward({}, {}, x)[0]
    z = made.flow.forward(state.params['flow'], state.extra['stats'], y)[0]
    return jnp.concatenate([leaf.reshape(leaf.shape[0], -1) for leaf in jax.tree.leaves(z)], 1)

  def decode(key, state, z):
    del key
    one = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape[1:], leaf.dtype), _shapes(made, state, 1))
    return _inverse(made, state, jax.vmap(ravel_pytree(one)[1])(z))

  def draw(key, state, n, labels=None, temperature=1.0):
    del labels
    return _draw(made, key, state, n, temperature)

  prior = Prior(
    sample=lambda key, state, n: made.noise.sample(key, (n, math.prod(made.shape))),
    log_prob=lambda key, state, z: made.noise.log_prob(z),
    normal=made.noise is NOISES['normal'],
  )
  images = {'encode': encode, 'decode': decode, 'prior': prior} if len(made.shape) == 3 else {}
  return {'log_prob': log_prob, 'draw': draw, **images}
