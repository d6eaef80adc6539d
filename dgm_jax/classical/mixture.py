"""Mixtures of normals as exponential families, for EM and mean field.

log pi_k N(x; m_k, S_k) is a product of features of x and natural parameters of component k. So all responsibilities are
one matrix product [N, F] x [F, K], and all statistics of them one product [K, N] x [N, F]. Centre the data: features
are powers of x.

Axes: N examples, D dimensions, K components, F features.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dgm_jax.internal import matrices

__all__ = [
  'LOG_TWO_PI', 'Mixture', 'Responsibilities', 'Structure', 'diagonal', 'full', 'log_prob', 'natural', 'respond',
  'sample', 'spherical', 'split', 'statistics', 'tied',
]  # fmt: skip

LOG_TWO_PI = 1.8378770664093453
CHUNK = 1024  # number of examples whose features fit in a processor's caches


class Mixture(NamedTuple):
  """A mixture of normals."""

  weights: jax.Array  # [K], sum to one
  means: jax.Array  # [K, D]
  covariances: jax.Array  # [K, D, D], or [K, D] of diagonal ones


class Structure(NamedTuple):
  """A family of covariances."""

  features: Callable  # x [N, D] -> [N, F], of which the first are 1 and x
  natural: Callable  # (log_weights [K], means [K, D], precisions, log_dets [K]) -> [K, F]
  moments: Callable  # quadratic features' means [K, F - 1 - D], means [K, D] -> covariances
  share: Callable  # (counts [K], covariances) -> covariances that satisfy the family's constraint
  precisions: Callable  # covariances -> (precisions, their log-determinants [K])
  regularize: Callable  # (covariances, float) -> covariances, the float added to every variance
  colour: Callable  # (covariances, component [n], noise [n, D]) -> [n, D] noise of the components' covariances


class Responsibilities(NamedTuple):
  """The statistics of q(z) for a whole data set that the other factors need."""

  sums: jax.Array  # [K, F] sum_n q(z_n = k) features(x_n)
  entropy: jax.Array  # [] nats


def _features_full(x):
  rows, columns = np.triu_indices(x.shape[-1])
  return jnp.concatenate([jnp.ones_like(x[:, :1]), x, x[:, rows] * x[:, columns]], 1)


def _features_diagonal(x):
  return jnp.concatenate([jnp.ones_like(x[:, :1]), x, jnp.square(x)], 1)


def _natural(log_weights, log_dets, means, linear, quadratic):
  """Returns [K, F] from precision-weighted means [K, D] and the coefficients of the quadratic features."""
  inner = jnp.sum(means * linear, -1)
  constant = log_weights + 0.5 * (log_dets - means.shape[-1] * LOG_TWO_PI - inner)
  return jnp.concatenate([constant[:, None], linear, quadratic], 1)


def _natural_full(log_weights, means, precisions, log_dets):
  rows, columns = np.triu_indices(means.shape[-1])
  twice = jnp.asarray(np.where(rows == columns, 0.5, 1.0), means.dtype)  # x_i x_j stands for x_j x_i, too
  linear = jnp.einsum('kde,ke->kd', precisions, means, precision='highest')
  return _natural(log_weights, log_dets, means, linear, -twice[None] * precisions[:, rows, columns])


def _natural_diagonal(log_weights, means, precisions, log_dets):
  return _natural(log_weights, log_dets, means, precisions * means, -0.5 * precisions)


def _moments_full(quadratic, means):
  rows, columns = np.triu_indices(means.shape[-1])
  upper = jnp.zeros((*means.shape, means.shape[-1]), means.dtype).at[:, rows, columns].set(quadratic)
  second = upper.at[:, columns, rows].set(quadratic)
  return second - means[:, :, None] * means[:, None, :]


def _moments_diagonal(quadratic, means):
  return quadratic - jnp.square(means)


def _precisions_full(covariances):
  scale_trils = matrices.each(jnp.linalg.cholesky, covariances)
  eye = jnp.eye(covariances.shape[-1], dtype=covariances.dtype)
  inverses = matrices.each(lambda tril: jax.scipy.linalg.solve_triangular(tril, eye, lower=True), scale_trils)
  precisions = jnp.einsum('kfd,kfe->kde', inverses, inverses, precision='highest')
  return precisions, -2 * jnp.sum(jnp.log(jnp.diagonal(scale_trils, axis1=1, axis2=2)), -1)


def _precisions_diagonal(covariances):
  return 1 / covariances, -jnp.sum(jnp.log(covariances), -1)


def _regularize_full(covariances, amount):
  return covariances + amount * jnp.eye(covariances.shape[-1], dtype=covariances.dtype)[None]


def _regularize_diagonal(covariances, amount):
  return covariances + amount


def _colour_full(covariances, component, noise):
  scale_trils = matrices.each(jnp.linalg.cholesky, covariances)
  return jnp.einsum('nde,ne->nd', scale_trils[component], noise, precision='highest')


def _colour_diagonal(covariances, component, noise):
  return jnp.sqrt(covariances)[component] * noise


def _each(counts, covariances):
  """Returns a covariance of its own for every component."""
  del counts
  return covariances


def _tied(counts, covariances):
  """Returns one covariance for all components: the mean over the examples."""
  mean = jnp.einsum('k,kde->de', counts / counts.sum(), covariances, precision='highest')
  return jnp.broadcast_to(mean, covariances.shape)


def _spherical(counts, covariances):
  """Returns one variance a component."""
  del counts
  return jnp.broadcast_to(covariances.mean(-1, keepdims=True), covariances.shape)


def full() -> Structure:
  """Returns the structure with a covariance for each component, [K, D, D]."""
  return Structure(
    features=_features_full,
    natural=_natural_full,
    moments=_moments_full,
    share=_each,
    precisions=_precisions_full,
    regularize=_regularize_full,
    colour=_colour_full,
  )


def tied() -> Structure:
  """Returns the structure with one covariance for all components, repeated: [K, D, D]."""
  return full()._replace(share=_tied)


def diagonal() -> Structure:
  """Returns the structure with a variance for each component and dimension, [K, D]."""
  return Structure(
    features=_features_diagonal,
    natural=_natural_diagonal,
    moments=_moments_diagonal,
    share=_each,
    precisions=_precisions_diagonal,
    regularize=_regularize_diagonal,
    colour=_colour_diagonal,
  )


def spherical() -> Structure:
  """Returns the structure with one variance for each component, repeated: [K, D]."""
  return diagonal()._replace(share=_spherical)


def natural(structure: Structure, mixture: Mixture) -> jax.Array:
  """Computes natural parameters [K, F]: features(x) @ natural.T is log pi_k N(x; m_k, S_k), [N, K] nats."""
  precisions, log_dets = structure.precisions(mixture.covariances)
  return structure.natural(jnp.log(mixture.weights), mixture.means, precisions, log_dets)


def log_prob(structure: Structure, mixture: Mixture, x: jax.Array) -> jax.Array:
  """Computes the log-density of every example x [N, D] in nats, [N].

  Reference: Bishop 2006, Pattern Recognition and Machine Learning, equation 9.14.
  """
  return jax.nn.logsumexp(_joint(structure, natural(structure, mixture), x), -1)


def respond(structure: Structure, parameters: jax.Array, x: jax.Array) -> tuple[Responsibilities, jax.Array]:
  """Computes q(z_n = k) proportional to exp features(x_n) . parameters_k, in one pass over the data.

  Args:
    structure: the family of covariances.
    parameters: [K, F] natural parameters, or their expectations.
    x: [N, D].

  Returns:
    the statistics of all responsibilities, and sum_n log sum_k exp features(x_n) . parameters_k in nats, [].

  Reference: Bishop 2006, Pattern Recognition and Machine Learning, equations 9.23 and 10.49.
  """

  def one(x):
    features = structure.features(x)
    joint = jnp.matmul(features, parameters.T, precision='highest')
    evidence = jax.nn.logsumexp(joint, 1, keepdims=True)
    return jnp.matmul(jnp.exp(joint - evidence).T, features, precision='highest'), evidence.sum()

  def add(total, x):
    return jax.tree.map(jnp.add, total, one(x)), None

  chunks = x.shape[0] // CHUNK
  total = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(one, x[:1]))
  total, _ = jax.lax.scan(add, total, x[: chunks * CHUNK].reshape(chunks, CHUNK, x.shape[1]))
  if x.shape[0] % CHUNK:
    total, _ = add(total, x[chunks * CHUNK :])
  sums, evidence = total
  return Responsibilities(sums, evidence - jnp.vdot(parameters, sums, precision='highest')), evidence


def statistics(structure: Structure, x: jax.Array, responsibilities: jax.Array) -> Responsibilities:
  """Computes the statistics of responsibilities [N, K], such as the initial ones of a fit."""
  sums = jnp.matmul(responsibilities.T, structure.features(x), precision='highest')
  return Responsibilities(sums, -jnp.sum(jax.scipy.special.xlogy(responsibilities, responsibilities)))


def split(structure: Structure, sums: jax.Array, dims: int) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Splits the components' sums [K, F] into counts [K], means [K, D] and covariances.

  An empty component has a count of ten times the precision, not zero.
  """
  counts = sums[:, 0] + 10 * jnp.finfo(sums.dtype).eps
  means = sums[:, 1 : 1 + dims] / counts[:, None]
  return counts, means, structure.moments(sums[:, 1 + dims :] / counts[:, None], means)


def sample(structure: Structure, mixture: Mixture, key: jax.Array, n: int) -> jax.Array:
  """Samples n points, [n, D].

  Reference: Bishop 2006, Pattern Recognition and Machine Learning, section 9.2.
  """
  for_component, for_noise = jax.random.split(key)
  component = jax.random.categorical(for_component, jnp.log(mixture.weights), shape=(n,))
  noise = jax.random.normal(for_noise, (n, mixture.means.shape[1]), mixture.means.dtype)
  return mixture.means[component] + structure.colour(mixture.covariances, component, noise)


def _joint(structure: Structure, parameters: jax.Array, x: jax.Array) -> jax.Array:
  return jnp.matmul(structure.features(x), parameters.T, precision='highest')
