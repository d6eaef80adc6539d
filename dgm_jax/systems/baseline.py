"""What a table of likelihoods begins with: densities without latents and without gradients, fitted in one pass.

`uniform` and the histograms are over whole levels of 8-bit pixels (preprocess: scale), `gaussian` over dequantized ones
(preprocess: dequantize). Axes: B batch, D pixels, L levels.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from dgm_jax import config as experiment
from dgm_jax import distributions
from dgm_jax.core import Batch, Key, Metrics, Move, State, System, system
from dgm_jax.systems.parts import likelihoods

__all__ = ['gaussian', 'histogram', 'position_histogram', 'uniform']


def uniform(config: ConfigDict) -> System:
  """Every level of every pixel alike: log2 L bits per dimension, 8 for 256 levels."""
  shape, levels = tuple(config.data.shape), _levels(config)
  nats = math.prod(shape) * math.log(levels)

  def apply(key: Key, state: State, batch: Batch) -> tuple[State, Metrics]:
    del key, batch
    return state, {'nll_nats': jnp.float32(nats)}

  def evaluate(key: Key, state: State, batch: Batch) -> Metrics:
    return _figures(jnp.full(batch['x'].shape[0], -nats, jnp.float32), math.prod(shape))

  def sample(key: Key, state: State, n: int) -> jax.Array:
    return jax.random.randint(key, (n, *shape), 0, levels).astype(jnp.float32) / (levels - 1)

  return system(lambda key, batch: ({}, {}), Move(lambda params: {}, apply), evaluate, sample)


def histogram(config: ConfigDict) -> System:
  """One histogram of levels for all pixels together, each count begun at one."""
  return _histograms(config, 1)


def position_histogram(config: ConfigDict) -> System:
  """A histogram of levels for each pixel and channel, each count begun at one."""
  return _histograms(config, math.prod(config.data.shape))


def _histograms(config: ConfigDict, rows: int) -> System:
  shape, levels = tuple(config.data.shape), _levels(config)
  pixels = math.prod(shape)
  row = np.arange(pixels) % rows  # which histogram a pixel belongs to

  def read(x):
    return jnp.round(x.reshape(x.shape[0], -1) * (levels - 1)).astype(jnp.int32)

  def log_probs(state):
    counts = (state.params['histogram']['counts'] + 1).astype(jnp.float32)
    return jnp.log(counts) - jnp.log(counts.sum(1, keepdims=True))

  def log_prob(state, x):
    return log_probs(state)[jnp.broadcast_to(row, (x.shape[0], pixels)), read(x)].sum(1)

  def apply(key: Key, state: State, batch: Batch) -> tuple[State, Metrics]:
    del key
    x, counts = batch['x'], state.params['histogram']['counts']
    nll = -log_prob(state, x).mean()  # before these examples are counted
    counts = counts.at[jnp.broadcast_to(row, (x.shape[0], pixels)), read(x)].add(1)
    return state.replace(params={'histogram': {'counts': counts}}), {'nll_nats': nll}

  def evaluate(key: Key, state: State, batch: Batch) -> Metrics:
    return _figures(log_prob(state, batch['x']), pixels)

  def sample(key: Key, state: State, n: int) -> jax.Array:
    drawn = jax.random.categorical(key, log_probs(state)[row], shape=(n, pixels))
    return drawn.reshape(n, *shape).astype(jnp.float32) / (levels - 1)

  start = lambda key, batch: ({'histogram': {'counts': jnp.zeros((rows, levels), jnp.int32)}}, {})
  return system(start, Move(lambda params: {}, apply), evaluate, sample)


def gaussian(config: ConfigDict) -> System:
  """One normal with a full covariance, by maximum likelihood: mean and covariance of all examples seen.

  They are those of the images' cosine transforms, an orthogonal basis that changes no density but in which the
  variances, not the correlations, carry most of the spectrum: float32 then has the digits for 3072 dimensions.
  `config.model.ridge` is added to every variance, in squared levels of an 8-bit pixel.

  Reference: van den Oord et al. 2016, arXiv:1601.06759, the baselines of the CIFAR-10 table.
  """
  shape = tuple(config.data.shape)
  pixels = math.prod(shape)
  experiment.require(config.model.ridge >= 0, f'config.model.ridge must not be negative, got {config.model.ridge}')
  ridge = config.model.ridge / 256**2
  turn, back = _cosines(shape)

  def apply(key: Key, state: State, batch: Batch) -> tuple[State, Metrics]:
    del key
    x, (mean, covariance) = turn(batch['x']), _normal(state)
    centre = x.mean(0)
    own = jnp.matmul((x - centre[None]).T, x - centre[None], precision='highest') / x.shape[0]
    rate = 1 / (state.step + 1).astype(jnp.float32)  # all batches weigh the same
    shift = centre - mean
    covariance = (1 - rate) * covariance + rate * own + rate * (1 - rate) * jnp.outer(shift, shift)
    new = {'mean': mean + rate * shift, 'covariance': covariance}
    return state.replace(params={'gaussian': new}), {'variance': jnp.trace(covariance) / pixels}

  def scale_tril(state):
    mean, covariance = _normal(state)
    return mean, jnp.linalg.cholesky(covariance + ridge * jnp.eye(pixels))

  def evaluate(key: Key, state: State, batch: Batch) -> Metrics:
    mean, tril = scale_tril(state)
    return _densities(distributions.multivariate_normal_log_prob(turn(batch['x']), mean[None], tril), config)

  def sample(key: Key, state: State, n: int) -> jax.Array:
    mean, tril = scale_tril(state)
    return back(distributions.multivariate_normal_sample(key, jnp.broadcast_to(mean, (n, pixels)), tril))

  start = lambda key, batch: ({'gaussian': {'mean': jnp.zeros(pixels), 'covariance': jnp.eye(pixels)}}, {})
  return system(start, Move(lambda params: {}, apply), evaluate, sample)


def _normal(state: State) -> tuple[jax.Array, jax.Array]:
  return state.params['gaussian']['mean'], state.params['gaussian']['covariance']


def _cosines(shape: tuple[int, int, int]):
  """The orthogonal cosine transform of images [B, H, W, C] as rows [B, D], and its inverse."""
  height, width = (jnp.asarray(_cosine_basis(n), jnp.float32) for n in shape[:2])

  def turn(x):
    return jnp.einsum('bhwc,ih,jw->bijc', x, height, width, precision='highest').reshape(x.shape[0], -1)

  def back(x):
    return jnp.einsum('bijc,ih,jw->bhwc', x.reshape(x.shape[0], *shape), height, width, precision='highest')

  return turn, back


def _cosine_basis(n: int) -> np.ndarray:
  """[n, n], its rows orthonormal: constant, half a period, one period, ...; the DCT-II."""
  waves = np.cos(np.pi * np.arange(n)[:, None] * (np.arange(n) + 0.5) / n)
  return waves / np.linalg.norm(waves, axis=1, keepdims=True)


def _levels(config: ConfigDict) -> int:
  """Of the experiment, or of the data where it has fewer."""
  experiment.require(config.model.levels >= 2, f'config.model.levels must be at least 2, got {config.model.levels}')
  return min(config.model.levels, config.data.levels)


def _figures(log_prob: jax.Array, pixels: int) -> Metrics:
  """Of a probability of whole levels."""
  return {'nll_nats': -log_prob, 'bits_per_dim': -log_prob / (pixels * math.log(2))}


def _densities(log_prob: jax.Array, config: ConfigDict) -> Metrics:
  """Of a density of dequantized pixels in [0, 1]: a bound on the probability of the levels."""
  bits = likelihoods.gaussian(config.data.levels).bits(-log_prob, math.prod(config.data.shape))
  return {'nll_nats': -log_prob, 'bits_per_dim': bits}
