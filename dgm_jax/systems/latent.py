"""Mixtures: the latent is the index of a component.

Axes: B batch, D pixels, K components, F features.
"""

import math

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from dgm_jax import config as experiment
from dgm_jax import distributions, optim
from dgm_jax.classical import em, mixture
from dgm_jax.core import Batch, Key, Metrics, Player, State, System, descend, system
from dgm_jax.internal import matrices
from dgm_jax.models.deep_mixture import DeepMixture
from dgm_jax.systems.parts import likelihoods
from dgm_jax.systems.parts.moves import without_optimizer

__all__ = ['deep_gmm', 'gmm']

COVARIANCES = {
  'full': mixture.full, 'tied': mixture.tied, 'diagonal': mixture.diagonal, 'spherical': mixture.spherical
}  # fmt: skip


def gmm(config: ConfigDict) -> System:
  """Builds a mixture of normals trained by EM; an EM step is a Move.

  Step t weighs the statistics of its batch with the rate (t + 1)^-power, and all earlier ones with the rest. With power
  0 and a batch that is the whole training split it is EM. With a power in (1/2, 1] it is stepwise EM.

  Reference: Dempster et al. 1977; Cappe & Moulines 2009, arXiv:0712.4273, equations 7 and 8.
  """
  model, pixels = config.model, math.prod(config.data.shape)
  experiment.require(model.components >= 1, f'config.model.components must be at least 1, got {model.components}')
  experiment.require(0 <= model.power <= 1, f'config.model.power must be in [0, 1], got {model.power}')
  structure = experiment.choose('config.model.covariance', model.covariance, COVARIANCES)()

  def centred(state, x):
    return _flat(x) - state.extra['centre'][None]

  def apply(key: Key, state: State, batch: Batch) -> tuple[State, Metrics]:
    del key
    x, current = centred(state, batch['x']), _mixture(state)
    statistics, log_likelihood = mixture.respond(structure, mixture.natural(structure, current), x)
    rate = (state.step + 1).astype(jnp.float32) ** -model.power
    sums = (1 - rate) * state.extra['sums'] + rate * statistics.sums / x.shape[0]
    new = em.maximise(structure, statistics._replace(sums=sums), pixels, model.regularization)
    state = state.replace(params={'mixture': new._asdict()}, extra=state.extra | {'sums': sums})
    return state, {'nll_nats': -log_likelihood / x.shape[0]}

  def evaluate(key: Key, state: State, batch: Batch) -> Metrics:
    return _densities(mixture.log_prob(structure, _mixture(state), centred(state, batch['x'])), config)

  def sample(key: Key, state: State, n: int) -> jax.Array:
    x = mixture.sample(structure, _mixture(state), key, n) + state.extra['centre'][None]
    return x.reshape(n, *config.data.shape)

  def networks(key: Key, batch: Batch):
    return _init_mixture(structure, model, key, _flat(batch['x']))

  return system(networks, without_optimizer(apply), evaluate, sample)


def _init_mixture(structure: mixture.Structure, model: ConfigDict, key: Key, x: jax.Array):
  """Returns components at random examples, each with the variances of all data, which every structure can represent."""
  centre = x.mean(0)
  x = x - centre[None]
  index = jax.random.randint(key, (model.components,), 0, x.shape[0])
  statistics = mixture.statistics(structure, x, jnp.full((x.shape[0], model.components), 1 / model.components))
  whole = em.maximise(structure, statistics, x.shape[1], model.regularization)
  first = mixture.Mixture(whole.weights, x[index], whole.covariances)
  return {'mixture': first._asdict()}, {'centre': centre, 'sums': jnp.zeros_like(statistics.sums)}


def _mixture(state: State) -> mixture.Mixture:
  return mixture.Mixture(**state.params['mixture'])


def deep_gmm(config: ConfigDict) -> System:
  """Builds a deep mixture of normals, whose exact likelihood is maximised by gradient, summed over all paths.

  At the responsibilities of the E-step the gradient of the likelihood is that of the M-step's objective. So this is EM
  with a gradient step as its M-step, as in the paper, which also guesses the paths.

  Reference: van den Oord & Schrauwen 2014, Factoring variations in natural images with deep Gaussian mixture models.
  """
  pixels = math.prod(config.data.shape)
  experiment.require(
    all(size >= 1 for size in config.model.components) and len(config.model.components) >= 1,
    f'config.model.components must list the sizes of the layers, got {config.model.components}',
  )
  start = experiment.choose('config.model.start', config.model.get('start', 'scaled'), STARTS)
  network = DeepMixture(tuple(config.model.components), pixels)

  def log_prob(state, x):
    tops, log_weights = network.apply({'params': state.params['mixture']}, _flat(x))
    return jax.nn.logsumexp(log_weights[None] + distributions.standard_normal_log_prob(tops), 1)

  def loss(key: Key, state: State, batch: Batch):
    return -log_prob(state, batch['x']).mean(), ({}, {})

  def evaluate(key: Key, state: State, batch: Batch) -> Metrics:
    return _densities(log_prob(state, batch['x']), config)

  def sample(key: Key, state: State, n: int) -> jax.Array:
    for_top, *keys = jax.random.split(key, 1 + len(network.components))
    variables = {'params': state.params['mixture']}
    layers = network.apply(variables, method='weights')
    path = [jax.random.categorical(k, logits, shape=(n,)) for k, logits in zip(keys, layers, strict=True)]
    top = jax.random.normal(for_top, (n, pixels))
    return network.apply(variables, top, path, method='generate').reshape(n, *config.data.shape)

  def networks(key, batch):
    x = _flat(batch['x'])
    params = network.init(key, x[:1])['params']
    params['kernel_0'] = start(params['kernel_0'], x)  # so that the first layer centres the data, too
    params['bias_0'] = params['bias_0'] - (params['kernel_0'] @ x.mean(0)[:, None])[..., 0]
    return {'mixture': params}, {}

  move = descend(model=Player(loss, optim.make(config, 'model'), ('mixture',)))
  return system(networks, move, evaluate, sample)


def _scaled(kernels: jax.Array, x: jax.Array) -> jax.Array:
  """Returns first kernels [K, D, D] that scale every dimension, with a floor for dimensions that hardly vary."""
  scale = 1 / jnp.sqrt(x.var(0) + 1e-3)
  return kernels * scale[None, None]


def _whitened(kernels: jax.Array, x: jax.Array) -> jax.Array:
  """Returns first kernels [K, D, D] that whiten the data."""
  _, axes, variances = matrices.spectrum(x)
  return kernels @ jnp.matmul(axes / jnp.sqrt(variances)[None], axes.T, precision='highest')[None]


STARTS = {'scaled': _scaled, 'whitened': _whitened}  # of a deep mixture's first layer


def _flat(x: jax.Array) -> jax.Array:
  return x.reshape(x.shape[0], -1)


def _densities(log_prob: jax.Array, config: ConfigDict) -> Metrics:
  """Returns the metrics of a density of dequantized pixels in [0, 1], which bounds the probability of the levels."""
  bits = likelihoods.gaussian(config.data.levels).bits(-log_prob, math.prod(config.data.shape))
  return {'nll_nats': -log_prob, 'bits_per_dim': bits}
