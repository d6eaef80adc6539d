"""Baselines of a table of likelihoods: densities without latents and without gradients, fitted in one pass.

`uniform` and the histograms are over whole levels of 8-bit pixels (preprocess: scale), `gaussian` over dequantized ones
(preprocess: dequantize).

Axes: B batch, D pixels, L levels.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from dgm_jax import config as experiment
from dgm_jax import distributions
from dgm_jax.core import Batch, Key, Metrics, State, System, system
from dgm_jax.systems.parts import likelihoods
from dgm_jax.systems.parts.moves import without_optimizer

__all__ = ['gaussian', 'histogram', 'position_histogram', 'uniform']


def uniform(config: ConfigDict) -> System:
  """Builds the uniform distribution over the levels of every pixel: log2 L bits per dimension, 8 for 256 levels."""
  shape, levels = tuple(config.data.shape), _levels(config)
  nats = math.prod(shape) * math.log(levels)

  def apply(key: Key, state: State, batch: Batch) -> tuple[State, Metrics]:
    del key, batch
    return state, {'nll_nats': jnp.float32(nats)}

  def evaluate(key: Key, state: State, batch: Batch) -> Metrics:
    return _figures(jnp.full(batch['x'].shape[0], -nats, jnp.float32), math.prod(shape))

  def sample(key: Key, state: State, n: int) -> jax.Array:
    return jax.random.randint(key, (n, *shape), 0, levels).astype(jnp.float32) / (levels - 1)

  def networks(key: Key, batch: Batch):
    del key, batch
    return {}, {}

  return system(networks, without_optimizer(apply), evaluate, sample)


def histogram(config: ConfigDict) -> System:
  """Builds one histogram of levels for all pixels together; each count starts at one."""
  return _histograms(config, 1)


def position_histogram(config: ConfigDict) -> System:
  """Builds a histogram of levels for each pixel and channel; each count starts at one."""
  return _histograms(config, math.prod(config.data.shape))


def _histograms(config: ConfigDict, rows: int) -> System:
  shape, levels = tuple(config.data.shape), _levels(config)
  pixels = math.prod(shape)
  row = np.arange(pixels) % rows  # the histogram of each pixel

  def levels_of(x):
    return jnp.round(x.reshape(x.shape[0], -1) * (levels - 1)).astype(jnp.int32)

  def log_probs(state):
    counts = (state.params['histogram']['counts'] + 1).astype(jnp.float32)
    return jnp.log(counts) - jnp.log(counts.sum(1, keepdims=True))

  def log_prob(state, x):
    return log_probs(state)[jnp.broadcast_to(row, (x.shape[0], pixels)), levels_of(x)].sum(1)

  def apply(key: Key, state: State, batch: Batch) -> tuple[State, Metrics]:
    del key
    x, counts = batch['x'], state.params['histogram']['counts']
    nll = -log_prob(state, x).mean()  # before these examples are counted
    counts = counts.at[jnp.broadcast_to(row, (x.shape[0], pixels)), levels_of(x)].add(1)
    return state.replace(params={'histogram': {'counts': counts}}), {'nll_nats': nll}

  def evaluate(key: Key, state: State, batch: Batch) -> Metrics:
    return _figures(log_prob(state, batch['x']), pixels)

  def sample(key: Key, state: State, n: int) -> jax.Array:
    x = jax.random.categorical(key, log_probs(state)[row], shape=(n, pixels))
    return x.reshape(n, *shape).astype(jnp.float32) / (levels - 1)

  def networks(key: Key, batch: Batch):
    del key, batch
    return {'histogram': {'counts': jnp.zeros((rows, levels), jnp.int32)}}, {}

  return system(networks, without_optimizer(apply), evaluate, sample)


def gaussian(config: ConfigDict) -> System:
  """Builds one normal with full covariance, fitted by maximum likelihood to all examples so far.

  Mean and covariance are those of the images' cosine transforms. This orthogonal basis changes no density, but its
  variances, not its correlations, carry most of the spectrum: float32 then has enough digits for 3072 dimensions.
  `config.model.ridge` is added to every variance, in squared levels of an 8-bit pixel.

  Reference: van den Oord et al. 2016, arXiv:1601.06759, the baselines of the CIFAR-10 table.
  """
  shape = tuple(config.data.shape)
  pixels = math.prod(shape)
  experiment.require(config.model.ridge >= 0, f'config.model.ridge must not be negative, got {config.model.ridge}')
  ridge = config.model.ridge / 256**2
  transform, inverse = _cosines(shape)

  def apply(key: Key, state: State, batch: Batch) -> tuple[State, Metrics]:
    del key
    x, (mean, covariance) = transform(batch['x']), _normal(state)
    centre = x.mean(0)
    own = jnp.matmul((x - centre[None]).T, x - centre[None], precision='highest') / x.shape[0]
    rate = 1 / (state.step + 1).astype(jnp.float32)  # the weight of every batch is the same
    shift = centre - mean
    covariance = (1 - rate) * covariance + rate * own + rate * (1 - rate) * jnp.outer(shift, shift)
    new = {'mean': mean + rate * shift, 'covariance': covariance}
    return state.replace(params={'gaussian': new}), {'variance': jnp.trace(covariance) / pixels}

  def scale_tril(state):
    mean, covariance = _normal(state)
    return mean, jnp.linalg.cholesky(covariance + ridge * jnp.eye(pixels))

  def evaluate(key: Key, state: State, batch: Batch) -> Metrics:
    mean, tril = scale_tril(state)
    return _densities(distributions.multivariate_normal_log_prob(transform(batch['x']), mean[None], tril), config)

  def sample(key: Key, state: State, n: int) -> jax.Array:
    mean, tril = scale_tril(state)
    return inverse(distributions.multivariate_normal_sample(key, jnp.broadcast_to(mean, (n, pixels)), tril))

  def networks(key: Key, batch: Batch):
    del key, batch
    return {'gaussian': {'mean': jnp.zeros(pixels), 'covariance': jnp.eye(pixels)}}, {}

  return system(networks, without_optimizer(apply), evaluate, sample)


def _normal(state: State) -> tuple[jax.Array, jax.Array]:
  return state.params['gaussian']['mean'], state.params['gaussian']['covariance']


def _cosines(shape: tuple[int, int, int]):
  """Returns the orthogonal cosine transform of images [B, H, W, C] as rows [B, D], and its inverse."""
  height, width = (jnp.asarray(_cosine_basis(n), jnp.float32) for n in shape[:2])

  def transform(x):
    return jnp.einsum('bhwc,ih,jw->bijc', x, height, width, precision='highest').reshape(x.shape[0], -1)

  def inverse(x):
    return jnp.einsum('bijc,ih,jw->bhwc', x.reshape(x.shape[0], *shape), height, width, precision='highest')

  return transform, inverse


def _cosine_basis(n: int) -> np.ndarray:
  """Returns the DCT-II basis [n, n]; its orthonormal rows are constant, half a period, one period, ..."""
  waves = np.cos(np.pi * np.arange(n)[:, None] * (np.arange(n) + 0.5) / n)
  return waves / np.linalg.norm(waves, axis=1, keepdims=True)


def _levels(config: ConfigDict) -> int:
  """Returns the number of levels of the experiment, or of the data if that is smaller."""
  experiment.require(config.model.levels >= 2, f'config.model.levels must be at least 2, got {config.model.levels}')
  return min(config.model.levels, config.data.levels)


def _figures(log_prob: jax.Array, pixels: int) -> Metrics:
  """Returns the metrics of a probability of whole levels."""
  return {'nll_nats': -log_prob, 'bits_per_dim': -log_prob / (pixels * math.log(2))}


def _densities(log_prob: jax.Array, config: ConfigDict) -> Metrics:
  """Returns the metrics of a density of dequantized pixels in [0, 1], which bounds the probability of the levels."""
  bits = likelihoods.gaussian(config.data.levels).bits(-log_prob, math.prod(config.data.shape))
  return {'nll_nats': -log_prob, 'bits_per_dim': bits}
