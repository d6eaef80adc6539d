"""Normalizing flows, trained on their exact likelihood.

Images are dequantized pixels in [0, 1) (preprocess: dequantize), points of a plane are unchanged (identity).

Axes: B batch, D dimensions of an example.
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


class Base(NamedTuple):
  """The base distribution of a flow, with independent dimensions."""

  log_prob: Callable  # [B, D] -> [B] nats
  sample: Callable  # (key, shape) -> array


def _standard_logistic_log_prob(z: jax.Array) -> jax.Array:
  """Computes the log-density of the standard logistic distribution, [B, D] -> [B] nats."""
  return distributions.logistic_log_prob(z, jnp.zeros_like(z), jnp.zeros_like(z))


BASES = {
  'normal': Base(log_prob=distributions.standard_normal_log_prob, sample=jax.random.normal),
  'logistic': Base(log_prob=_standard_logistic_log_prob, sample=jax.random.logistic),
}


class FlowParts(NamedTuple):
  """The preprocessing, the flow, its base distribution, and the data that they model."""

  preprocessing: Bijection  # maps the data's interval to the line; no parameters
  flow: Bijection
  base: Base
  shape: tuple[int, ...]
  dequantizer: Dequantizer | None


def nice(config: ConfigDict) -> System:
  """Builds NICE: additive couplings and one scaling.

  Reference: Dinh et al. 2014, arXiv:1410.8516.
  """
  return _system(config, flows.nice)


def realnvp(config: ConfigDict) -> System:
  """Builds RealNVP: affine couplings of checkerboards and channels at several scales.

  Reference: Dinh et al. 2017, arXiv:1605.08803.
  """
  return _system(config, flows.realnvp)


def realnvp_dense(config: ConfigDict) -> System:
  """Builds affine or spline couplings of the halves of a vector.

  Reference: Dinh et al. 2017, arXiv:1605.08803, section 3.
  """
  return _system(config, flows.realnvp_dense)


def glow(config: ConfigDict) -> System:
  """Builds Glow: actnorm, 1x1 convolutions and affine couplings at several levels.

  Reference: Kingma & Dhariwal 2018, arXiv:1807.03039.
  """
  return _system(config, flows.glow)


def maf(config: ConfigDict) -> System:
  """Builds a masked autoregressive flow.

  Reference: Papamakarios et al. 2017, arXiv:1705.07057.
  """
  return _system(config, flows.maf)


def iaf(config: ConfigDict) -> System:
  """Builds an inverse autoregressive flow, trained on its likelihood.

  Each density takes as many evaluations of the networks as there are dimensions.

  Reference: Kingma et al. 2016, arXiv:1606.04934, section 3.
  """
  return _system(config, flows.iaf)


def planar(config: ConfigDict) -> System:
  """Builds a planar flow.

  Reference: Rezende & Mohamed 2015, arXiv:1505.05770.
  """
  return _system(config, flows.planar)


def build_parts(config: ConfigDict, build: Callable) -> FlowParts:
  """Builds the flow that `config.model.network` describes, for the data of the experiment.

  Raises:
    UserError: the flow has no such setting, or a setting is out of range.
  """
  model, shape = config.model, tuple(config.data.shape)
  settings = model.network.to_dict()
  for name, allowed in CHOICES.items():
    if name in settings:
      experiment.one_of(f'config.model.network.{name}', settings[name], allowed)
  experiment.one_of('config.model.noise', model.noise, BASES)
  experiment.one_of('config.model.dequantization', model.dequantization, ('uniform', 'variational'))
  experiment.require(0 <= model.alpha < 0.5, f'config.model.alpha must be in [0, 0.5), got {model.alpha}')
  experiment.require(0 <= model.momentum < 1, f'config.model.momentum must be in [0, 1), got {model.momentum}')
  experiment.require(0 <= average_of(model) < 1, f'config.model.average must be in [0, 1), got {average_of(model)}')
  images = len(shape) == 3
  experiment.require(
    images or not (model.alpha or model.dequantization == 'variational'),
    'config.model.alpha and .dequantization=variational are for pixels in [0, 1), not for points of a plane',
  )
  if images:  # bits per dimension and the variational dequantizer assume these units
    experiment.one_of('config.data.preprocess of a flow of images', config.data.preprocess, DEQUANTIZED)
  preprocessing = bijections.logit(model.alpha) if model.alpha else rev.chain()
  variational = model.dequantization == 'variational'
  dequantizer = Dequantizer(model.dequantizer_width, config.data.levels, dtype=config.dtype) if variational else None
  flow = models.build('config.model.network', build, settings, shape=shape, dtype=config.dtype)
  return FlowParts(preprocessing, flow, BASES[model.noise], shape, dequantizer)


STATISTICS = {'flow': ('stats',)}  # entries of `State.extra`, by network
DEQUANTIZED = ('dequantize', 'static_dequantize')
CHOICES = {
  'start': flows.STARTS, 'memory': flows.MEMORY, 'geometry': flows.GEOMETRIES, 'elementwise': flows.ELEMENTWISE,
  'edge': flows.EDGES,
}  # fmt: skip


def average_of(model: ConfigDict) -> float:
  """Returns the decay of the parameters' average, which is evaluated and sampled; 0: no average."""
  return model.get('average', 0.0)


class Likelihood(NamedTuple):
  """The log-likelihood of a batch under a flow."""

  log_prob: jax.Array  # [B] nats, of the data in its own units
  preprocessed: jax.Array  # [B] nats, of the data after the preprocessing
  statistics: Any  # of the batch


def likelihood(parts: FlowParts, params: Any, stats: Any, x: jax.Array) -> Likelihood:
  """Computes log p(x) of data in its own space, [B, ...]; with the batch's own statistics if `stats` is None."""
  y, log_det_preprocessing, _ = parts.preprocessing.forward({}, stats, x)
  z, log_det, statistics = parts.flow.forward(params, stats, y)
  preprocessed = losses.change_of_variables(base_log_prob(parts.base, z), log_det)
  log_prob = losses.change_of_variables(preprocessed, log_det_preprocessing)
  return Likelihood(log_prob=log_prob, preprocessed=preprocessed, statistics=statistics)


def base_log_prob(base: Base, z: Any) -> jax.Array:
  """Computes the log-density of a tree of latents under the base distribution, [B] nats."""
  return sum(base.log_prob(leaf.reshape(leaf.shape[0], -1)) for leaf in jax.tree.leaves(z))


def _system(config: ConfigDict, build: Callable) -> System:
  parts, momentum, decay = build_parts(config, build), config.model.momentum, config.model.l2
  names, mean = ('flow', 'dequantizer') if parts.dequantizer else ('flow',), average_of(config.model)

  def networks(key: Key, batch: Batch):
    for_flow, for_dequantizer = jax.random.split(key)
    params = {}
    if parts.dequantizer:
      params['dequantizer'] = parts.dequantizer.init(for_dequantizer, batch['x'][:1], for_dequantizer)['params']
    y = parts.preprocessing.forward({}, None, batch['x'])[0]
    params['flow'] = parts.flow.init(for_flow, y)
    statistics = parts.flow.forward(params['flow'], None, y)[2]
    extra = {'stats': jax.tree.map(lambda leaf: leaf.astype(jnp.float32), statistics)}
    return params, averages(params, extra, names, 'stats') if mean else extra

  def loss(key: Key, state: State, batch: Batch):
    x, log_q = _dequantized(parts, key, state, batch['x'])
    fit = likelihood(parts, state.params['flow'], None, x)
    stats = running(state.extra['stats'], fit.statistics, momentum)
    bound = (fit.log_prob - log_q).mean()
    return -bound + decay * _gains(state.params['flow']), ({'stats': stats}, {'nll_nats': -bound})

  def evaluate(key: Key, state: State, batch: Batch) -> Metrics:
    x, log_q = _dequantized(parts, key, state, batch['x'])
    fit = likelihood(parts, state.params['flow'], state.extra['stats'], x)
    metrics = {'nll_nats': log_q - fit.log_prob}
    if len(parts.shape) == 3:
      bits = losses.bits_per_dim(metrics['nll_nats'], math.prod(parts.shape))
      metrics['bits_per_dim'] = bits + math.log2(config.data.levels)
    return metrics | ({'nll_logit_nats': log_q - fit.preprocessed} if config.model.alpha else {})

  move = descend(model=Player(loss, optim.make(config, 'model'), names))
  move = chain(move, *(average(name, mean, *STATISTICS.get(name, ())) for name in names)) if mean else move

  def sample(key: Key, state: State, n: int) -> jax.Array:
    return _draw(parts, key, state, n, config.model.temperature)

  return system(networks, move, evaluate, sample, **_views(parts))


def _dequantized(parts: FlowParts, key: Key, state: State, x: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Returns x in [0, 1) and the log-density of its noise, [B] nats a bin; 0 for the data's own uniform noise."""
  if parts.dequantizer is None:
    return x, jnp.zeros(x.shape[0])
  noise, log_q = parts.dequantizer.apply({'params': state.params['dequantizer']}, x, key)
  levels = parts.dequantizer.levels
  pixels = jnp.floor(levels * x)
  return jnp.minimum((pixels + noise) / levels, jnp.nextafter((pixels + 1) / levels, jnp.float32(0))), log_q


def _gains(params) -> jax.Array:
  """Sums the squared gains of weight-normalised convolutions and of tanh."""
  leaves = jax.tree_util.tree_leaves_with_path(params)
  gains = [leaf for path, leaf in leaves if path[-1].key.rpartition('/')[2] == 'scale']
  return sum((jnp.square(leaf).sum() for leaf in gains), jnp.zeros(()))


def _inverse(parts: FlowParts, state: State, z) -> jax.Array:
  y, _ = parts.flow.inverse(state.params['flow'], state.extra['stats'], z)
  return parts.preprocessing.inverse({}, {}, y)[0]


def _shapes(parts: FlowParts, state: State, n: int):
  return flows.latent_shapes(parts.flow, state.params['flow'], state.extra['stats'], parts.shape, n)


def _draw(parts: FlowParts, key: Key, state: State, n: int, temperature: float) -> jax.Array:
  """Samples n examples; the deviation of the noise is `temperature` times that of the base distribution."""
  shapes, tree = jax.tree.flatten(_shapes(parts, state, n))
  keys = jax.random.split(key, len(shapes))
  noise = [temperature * parts.base.sample(key, leaf.shape) for key, leaf in zip(keys, shapes, strict=True)]
  return _inverse(parts, state, jax.tree.unflatten(tree, noise))


def _views(parts: FlowParts) -> dict[str, Any]:
  def log_prob(key, state, x, labels=None):
    del key, labels
    return likelihood(parts, state.params['flow'], state.extra['stats'], x).log_prob

  def encode(key, state, x):
    del key
    y = parts.preprocessing.forward({}, {}, x)[0]
    z = parts.flow.forward(state.params['flow'], state.extra['stats'], y)[0]
    return jnp.concatenate([leaf.reshape(leaf.shape[0], -1) for leaf in jax.tree.leaves(z)], 1)

  def decode(key, state, z):
    del key
    one = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape[1:], leaf.dtype), _shapes(parts, state, 1))
    return _inverse(parts, state, jax.vmap(ravel_pytree(one)[1])(z))

  def draw(key, state, n, labels=None, temperature=1.0):
    del labels
    return _draw(parts, key, state, n, temperature)

  def sample_latents(key, state, n):
    del state
    return parts.base.sample(key, (n, math.prod(parts.shape)))

  def latent_log_prob(key, state, z):
    del key, state
    return parts.base.log_prob(z)

  prior = Prior(sample=sample_latents, log_prob=latent_log_prob, normal=parts.base is BASES['normal'])
  images = {'encode': encode, 'decode': decode, 'prior': prior} if len(parts.shape) == 3 else {}
  return {'log_prob': log_prob, 'draw': draw, **images}
