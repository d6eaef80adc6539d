"""Dependence between latent dimensions: total correlation, covariance penalties, distances of samples."""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Float32, Key, Num

from dgm_jax import distributions as dist
from dgm_jax.distributions import stable
from dgm_jax.internal import shapes

__all__ = [
  'Kernel', 'LatentDivergence', 'aggregate_covariance', 'covariance_of_means', 'dip_penalty', 'gaussian_kernel',
  'minibatch_total_correlation', 'minibatch_weights', 'mmd', 'permute_latents', 'polynomial_kernel',
  'stratified_weights', 'total_correlation', 'total_correlation_discriminator',
]  # fmt: skip

Kernel = Callable[[Array, Array], Float[Array, 'N M']]


class LatentDivergence(NamedTuple):
  """The parts of log q(z|x) - log p(z), whose mean is the divergence of the posterior from the prior."""

  mutual_information: jax.Array  # [B] log q(z|x) - log q(z): index-code information
  total_correlation: jax.Array  # [B] log q(z) - sum_d log q(z_d)
  dimension_wise_kl: jax.Array  # [B] sum_d log q(z_d) - log p(z_d)


def total_correlation(joint_logits: Float[ArrayLike, ' B']) -> Float32[Array, ' B']:
  """Returns the total correlation by the density ratio in nats, per sample: log D / (1 - D), the discriminator's logit.

  Args:
    joint_logits: [B] logits that z comes from q(z) rather than from the product of its marginals.

  Returns:
    [B] nats, float32; its mean over q(z) is KL(q(z) || prod_d q(z_d)) if the discriminator is optimal.

  Raises:
    ValueError: joint_logits is not [B].

  Reference: Kim & Mnih 2018, arXiv:1802.05983, equation 3.
  """
  (joint_logits,) = shapes.float32('joint_logits[B]', joint_logits)
  return joint_logits


def total_correlation_discriminator(
  joint_logits: Float[ArrayLike, ' B'], permuted_logits: Float[ArrayLike, ' B']
) -> Float32[Array, ' B']:
  """Computes the cross-entropy between latents and permuted latents in nats, the mean of each pair.

  Args:
    joint_logits: [B] logits of latents from q(z).
    permuted_logits: [B] logits of latents from `permute_latents`.

  Returns:
    [B] nats, float32; ln 2 - JSD at the optimum.

  Raises:
    ValueError: the arguments are not [B] both.

  Reference: Kim & Mnih 2018, arXiv:1802.05983, algorithm 2.
  """
  joint, permuted = shapes.float32('joint_logits[B] permuted_logits[B]', joint_logits, permuted_logits)
  return 0.5 * (stable.softplus(-joint) + stable.softplus(permuted))


def permute_latents(key: Key[Array, ''], z: Num[ArrayLike, 'B D']) -> Num[Array, 'B D']:
  """Permutes every latent dimension over the batch on its own: a sample of the product of the marginals.

  Args:
    key: random key.
    z: [B, D].

  Returns:
    [B, D], of the same type.

  Raises:
    ValueError: z is not [B, D].

  Reference: Kim & Mnih 2018, arXiv:1802.05983, algorithm 1.
  """
  shapes.check('z[B, D]', z)
  return jax.random.permutation(key, jnp.asarray(z), axis=0, independent=True)


def minibatch_weights(batch: int, dataset_size: int) -> np.ndarray:
  """Returns the log-weights of minibatch weighted sampling: ln 1 / (N M) for every pair.

  The bias of log q(z) is -ln N, that of the total correlation (D - 1) ln N: use them for gradients, not as a figure.

  Args:
    batch: M.
    dataset_size: N.

  Returns:
    [M, M].

  Raises:
    ValueError: the batch is empty or larger than the data set.

  Reference: Chen et al. 2018, arXiv:1802.04942, equation S4.
  """
  _check_sizes(batch, dataset_size, least=1)
  return np.full((batch, batch), -math.log(batch * dataset_size), np.float32)


def stratified_weights(batch: int, dataset_size: int) -> np.ndarray:
  """Returns the log-weights of minibatch stratified sampling, unbiased for q(z).

  The example's own posterior has the weight 1 / N. One other represents the examples outside the batch, with
  (N - M + 1) / (N (M - 1)). The rest have 1 / (M - 1) each.

  Args:
    batch: M.
    dataset_size: N.

  Returns:
    [M, M].

  Raises:
    ValueError: the batch has less than two examples or is larger than the data set.

  Reference: Chen et al. 2018, arXiv:1802.04942, equation S6.
  """
  _check_sizes(batch, dataset_size, least=2)
  others = batch - 1
  weights = np.full((batch, batch), 1 / others, np.float32)
  own = np.arange(batch)
  weights[own, own] = 1 / dataset_size
  weights[own, (own + 1) % batch] = (dataset_size - others) / (dataset_size * others)
  return np.log(weights)


def minibatch_total_correlation(
  z: Float[ArrayLike, 'B D'],
  means: Float[ArrayLike, 'B D'],
  logvars: Float[ArrayLike, 'B D'],
  *,
  dataset_size: int,
  log_weights: Callable[[int, int], np.ndarray] = stratified_weights,
) -> LatentDivergence:
  """Splits a sample's divergence from the prior N(0, I) in nats, per example, by the posteriors of a batch.

  log q(z_i) is estimated by logsumexp_j (w_ij + log q(z_i|x_j)), and every marginal likewise.

  Args:
    z: [B, D] sample of each posterior.
    means: [B, D] posterior means.
    logvars: [B, D] posterior log-variances.
    dataset_size: N, the number of examples that the batch is sampled from.
    log_weights: (batch, dataset_size) -> [B, B], `stratified_weights` or `minibatch_weights`.

  Returns:
    mutual_information, total_correlation and dimension_wise_kl, [B] nats each, float32. They add up to
    log q(z|x) - log p(z).

  Raises:
    ValueError: the shapes differ, or the weights do not allow these sizes.

  Reference: Chen et al. 2018, arXiv:1802.04942, equation 2 and appendix C.
  """
  z, means, logvars = shapes.float32('z[B, D] means[B, D] logvars[B, D]', z, means, logvars)
  weights = jnp.asarray(log_weights(z.shape[0], dataset_size))
  # [B, B, D, 1]: a trailing axis of one, so that every latent dimension is an event of its own.
  by_dim = dist.normal_log_prob(z[:, None, :, None], means[None, :, :, None], logvars[None, :, :, None])
  log_qz_x = dist.normal_log_prob(z, means, logvars)
  log_qz = jax.nn.logsumexp(weights + by_dim.sum(-1), 1)
  log_marginals = jax.nn.logsumexp(weights[..., None] + by_dim, 1).sum(-1)
  log_prior = dist.standard_normal_log_prob(z)
  return LatentDivergence(log_qz_x - log_qz, log_qz - log_marginals, log_marginals - log_prior)


def covariance_of_means(means: Float[ArrayLike, 'B D']) -> Float32[Array, 'D D']:
  """Computes the covariance of the posterior means over the first axis (divisor B), for DIP-VAE of type I.

  Args:
    means: [B, D] posterior means.

  Returns:
    [D, D], float32.

  Raises:
    ValueError: means is not [B, D], or is empty.

  Reference: Kumar et al. 2018, arXiv:1711.00848, equation 5.
  """
  (means,) = shapes.float32('means[B, D]', means)
  shapes.enough(1, 'example', means=means)
  centred = means - means.mean(0, keepdims=True)
  return jnp.matmul(centred.T, centred, precision='highest') / means.shape[0]


def aggregate_covariance(means: Float[ArrayLike, 'B D'], logvars: Float[ArrayLike, 'B D']) -> Float32[Array, 'D D']:
  """Computes the covariance of the aggregated posterior over the first axis (divisor B), for DIP-VAE of type II.

  Args:
    means: [B, D] posterior means.
    logvars: [B, D] posterior log-variances.

  Returns:
    [D, D], float32.

  Raises:
    ValueError: the shapes differ, or the batch is empty.

  Reference: Kumar et al. 2018, arXiv:1711.00848, equation 4.
  """
  means, logvars = shapes.float32('means[B, D] logvars[B, D]', means, logvars)
  return covariance_of_means(means) + jnp.diag(jnp.exp(logvars).mean(0))


def dip_penalty(
  covariance: Float[ArrayLike, 'D D'], *, off_diagonal: Num[ArrayLike, ''], diagonal: Num[ArrayLike, '']
) -> Float32[Array, '']:
  """Computes the squared distance of a covariance from the identity, summed over the matrix with two weights.

  It is off_diagonal sum_{i != j} C_ij^2 + diagonal sum_i (C_ii - 1)^2.

  Args:
    covariance: [D, D] from `covariance_of_means` (type I) or `aggregate_covariance` (type II).
    off_diagonal: [] weight.
    diagonal: [] weight.

  Returns:
    [], float32.

  Raises:
    ValueError: covariance is not square, or a weight is no scalar.

  Reference: Kumar et al. 2018, arXiv:1711.00848, equations 6 and 7.
  """
  pattern = 'covariance[D, D] off_diagonal[] diagonal[]'
  covariance, off_diagonal, diagonal = shapes.float32(pattern, covariance, off_diagonal, diagonal)
  eye = jnp.eye(covariance.shape[0])
  excess = jnp.square(covariance - eye)
  return jnp.sum(jnp.where(eye > 0, diagonal, off_diagonal) * excess)


def gaussian_kernel(
  x: Float[ArrayLike, 'N D'], y: Float[ArrayLike, 'M D'], *, bandwidth: Num[ArrayLike, ''] = 1.0
) -> Float32[Array, 'N M']:
  """Computes exp(-|x - y|^2 / (2 bandwidth^2)) of every pair, the distance summed over the last axis.

  Args:
    x: [N, D].
    y: [M, D].
    bandwidth: [] > 0.

  Returns:
    [N, M], float32.

  Raises:
    ValueError: D differs, or bandwidth is no scalar.

  Reference: Gretton et al. 2012, A kernel two-sample test, section 2.
  """
  x, y, bandwidth = shapes.float32('x[N, D] y[M, D] bandwidth[]', x, y, bandwidth)
  squares = jnp.sum(jnp.square(x[:, None] - y[None]), -1)
  return jnp.exp(-0.5 * squares / jnp.square(bandwidth))


def polynomial_kernel(x: Float[ArrayLike, 'N D'], y: Float[ArrayLike, 'M D']) -> Float32[Array, 'N M']:
  """Computes (x . y / D + 1)^3 of every pair, the product summed over the last axis.

  Args:
    x: [N, D].
    y: [M, D].

  Returns:
    [N, M], float32.

  Raises:
    ValueError: D differs.

  Reference: Binkowski et al. 2018, arXiv:1801.01401, section 4.
  """
  x, y = shapes.float32('x[N, D] y[M, D]', x, y)
  return (jnp.matmul(x, y.T, precision='highest') / x.shape[1] + 1) ** 3


def mmd(
  x: Float[ArrayLike, 'N D'], y: Float[ArrayLike, 'M D'], *, kernel: Kernel = gaussian_kernel
) -> Float32[Array, '']:
  """Computes the squared maximum mean discrepancy of two samples, without bias.

  It may be below zero if their distributions agree.

  Args:
    x: [N, D].
    y: [M, D].
    kernel: ([N, D], [M, D]) -> [N, M]; bind a bandwidth by functools.partial.

  Returns:
    [], float32.

  Raises:
    ValueError: D differs, or a sample has less than two points.

  Reference: Gretton et al. 2012, A kernel two-sample test, equation 3.
  """
  x, y = shapes.float32('x[N, D] y[M, D]', x, y)
  shapes.enough(2, 'points', x=x, y=y)
  return _mean_of_pairs(kernel(x, x)) + _mean_of_pairs(kernel(y, y)) - 2 * kernel(x, y).mean()


def _mean_of_pairs(matrix: Array) -> Array:
  """Averages a square matrix off its diagonal."""
  n = matrix.shape[0]
  return jnp.sum(jnp.where(jnp.eye(n, dtype=bool), 0.0, matrix)) / (n * (n - 1))


def _check_sizes(batch: int, dataset_size: int, least: int) -> None:
  if not least <= batch <= dataset_size:
    raise ValueError(f'batch: got {batch} examples of a data set of {dataset_size}, expected {least} to all of them')
