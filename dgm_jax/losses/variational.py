"""Bounds on log p(x): per example, in nats, to be maximised."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Float32, Int32, Key, Num

from dgm_jax import distributions as dist
from dgm_jax.internal import shapes

__all__ = [
  'ElboSurgery', 'active_units', 'beta_elbo', 'capacity_elbo', 'doubly_reparametrized_surrogate', 'elbo',
  'elbo_from_energy', 'elbo_from_evidence', 'elbo_surgery', 'free_bits', 'hierarchical_elbo',
  'importance_weighted_bound', 'soft_free_bits', 'sticking_the_landing',
]  # fmt: skip

# Number of samples whose distances to all posteriors are in memory at a time.
_CHUNK = 128


class ElboSurgery(NamedTuple):
  """The parts average_kl = marginal_kl + mutual_information, up to the sampling error of the last two."""

  average_kl: jax.Array  # [] mean over the data of KL(q(z|x) || p(z))
  marginal_kl: jax.Array  # [] KL(q(z) || p(z)) of the aggregated posterior
  mutual_information: jax.Array  # [] between code and index of the example, in [0, ln N]


def elbo(log_px_z: Float[ArrayLike, '*B'], kl: Float[ArrayLike, '*B']) -> Float32[Array, '*B']:
  """Computes the evidence lower bound in nats, per example: log p(x|z) - KL(q(z|x) || p(z)).

  Args:
    log_px_z: [...] reconstruction term in nats.
    kl: [...] divergence of the posterior from the prior in nats.

  Returns:
    [...] nats, float32; to be maximised.

  Raises:
    ValueError: the shapes differ.

  Reference: Kingma & Welling 2014, arXiv:1312.6114, equation 3.
  """
  return beta_elbo(log_px_z, kl, beta=1.0)


def elbo_from_evidence(log_px: Float[ArrayLike, '*B'], kl_posterior: Float[ArrayLike, '*B']) -> Float32[Array, '*B']:
  """Computes the evidence lower bound in nats, per example: log p(x) - KL(q(z|x) || p(z|x)).

  Args:
    log_px: [...] evidence in nats.
    kl_posterior: [...] divergence of q from the true posterior in nats: the gap of the bound.

  Returns:
    [...] nats, float32; to be maximised.

  Raises:
    ValueError: the shapes differ.

  Reference: Hoffman & Johnson 2016, ELBO surgery, section 1.1.
  """
  log_px, kl_posterior = shapes.float32('log_px[...] kl_posterior[...]', log_px, kl_posterior)
  return log_px - kl_posterior


def elbo_from_energy(log_joint: Float[ArrayLike, '*B'], entropy: Float[ArrayLike, '*B']) -> Float32[Array, '*B']:
  """Computes the evidence lower bound in nats, per example: log p(x, z) plus the entropy of q(z|x).

  Args:
    log_joint: [...] average negative energy log p(x, z) in nats, with z sampled from q(z|x).
    entropy: [...] entropy of q(z|x) in nats.

  Returns:
    [...] nats, float32; to be maximised.

  Raises:
    ValueError: the shapes differ.

  Reference: Hoffman & Johnson 2016, ELBO surgery, section 1.2.
  """
  log_joint, entropy = shapes.float32('log_joint[...] entropy[...]', log_joint, entropy)
  return log_joint + entropy


def beta_elbo(
  log_px_z: Float[ArrayLike, '*B'], kl: Float[ArrayLike, '*B'], *, beta: Num[ArrayLike, '']
) -> Float32[Array, '*B']:
  """Computes the evidence lower bound with a weighted divergence in nats, per example: log p(x|z) - beta KL.

  Args:
    log_px_z: [...] reconstruction term in nats.
    kl: [...] divergence of the posterior from the prior in nats.
    beta: [] weight; for a warm-up, an array that grows from 0 to 1.

  Returns:
    [...] nats, float32; to be maximised.

  Raises:
    ValueError: the shapes differ, or beta is no scalar.

  Reference: Higgins et al. 2017, beta-VAE, equation 4.
  """
  log_px_z, kl, beta = shapes.float32('log_px_z[...] kl[...] beta[]', log_px_z, kl, beta)
  return log_px_z - beta * kl


def capacity_elbo(
  log_px_z: Float[ArrayLike, '*B'],
  kl: Float[ArrayLike, '*B'],
  *,
  capacity: Num[ArrayLike, ''],
  gamma: Num[ArrayLike, ''],
) -> Float32[Array, '*B']:
  """Computes log p(x|z) - gamma |KL - C| in nats, per example: the bound with a target for the divergence.

  Args:
    log_px_z: [...] reconstruction term in nats.
    kl: [...] divergence of the posterior from the prior in nats.
    capacity: [] C in nats, which increases in the course of training.
    gamma: [] weight, about 1000.

  Returns:
    [...] nats, float32; to be maximised.

  Raises:
    ValueError: the shapes of log_px_z and kl differ, or a weight is no scalar.

  Reference: Burgess et al. 2018, arXiv:1804.03599, equation 8.
  """
  pattern = 'log_px_z[...] kl[...] capacity[] gamma[]'
  log_px_z, kl, capacity, gamma = shapes.float32(pattern, log_px_z, kl, capacity, gamma)
  return log_px_z - gamma * jnp.abs(kl - capacity)


def hierarchical_elbo(log_px_z: Float[ArrayLike, '*B'], kls: Sequence[Float[ArrayLike, '*B']]) -> Float32[Array, '*B']:
  """Computes the evidence lower bound of a chain of latents in nats, per example.

  It is log p(x|z_1) - sum_l KL(q(z_l|x) || p(z_l|z_l+1)).

  Args:
    log_px_z: [...] reconstruction term in nats.
    kls: one [...] divergence in nats a level; that of level l at a sample of level l + 1.

  Returns:
    [...] nats, float32; to be maximised.

  Raises:
    ValueError: the shapes differ.

  Reference: Gulrajani et al. 2017, arXiv:1611.05013, equation 2.
  """
  pattern = ' '.join(['log_px_z[...]', *(f'kl_{level}[...]' for level in range(1, len(kls) + 1))])
  log_px_z, *kls = shapes.float32(pattern, log_px_z, *kls)
  return log_px_z - sum(kls)


def importance_weighted_bound(log_weights: Float[ArrayLike, '...'], axis: int = 0) -> Float32[Array, '...']:
  """Computes the importance-weighted bound in nats, the samples on `axis`: log (1/k) sum_k exp(log_weights).

  Its gradient is that of the weights normalised over the samples; with k = 1 it is the ELBO's.

  Args:
    log_weights: [k, ...] log p(x, z_k) - log q(z_k|x), the samples on `axis`.
    axis: the axis of the samples.

  Returns:
    [...] nats, float32; to be maximised.

  Raises:
    ValueError: there is no sample, or no such axis.

  Reference: Burda et al. 2016, arXiv:1509.00519, equation 8.
  """
  log_weights = jnp.asarray(log_weights, jnp.float32)
  shapes.enough(1, 'sample', axis, log_weights=log_weights)
  return jax.nn.logsumexp(log_weights, axis) - math.log(log_weights.shape[axis])


def doubly_reparametrized_surrogate(
  log_weight: Callable[[Array], Float[Array, '...']], z: Float[ArrayLike, '...'], axis: int = 0
) -> Float32[Array, '...']:
  """Computes the importance-weighted bound in nats, with a low-variance gradient for the encoder.

  The samples are on `axis`. The gradient through z is sum_k w_k^2 d log_weight_k / dz, all others are sum_k w_k d
  log_weight_k, with the normalised weights w. It is unbiased if the parameters of q are constant in `log_weight`, as in
  `sticking_the_landing`, so that the encoder's gradient passes z alone. `log_weight` is called twice with the same
  argument; under jit that is one computation.

  Args:
    log_weight: z -> [k, ...] log p(x, z_k) - log q(z_k|x).
    z: [k, ..., D] reparametrised samples, or with any number of axes after those of `log_weight(z)`.
    axis: the axis of the samples in `log_weight(z)`.

  Returns:
    [...] nats, float32; to be maximised.

  Raises:
    ValueError: there is no sample, no such axis, or the first axes of z are not those of `log_weight(z)`.

  Reference: Tucker et al. 2019, arXiv:1810.04152, equation 8.
  """
  z = jnp.asarray(z, jnp.float32)
  detached = jax.lax.stop_gradient(jnp.asarray(log_weight(z), jnp.float32))
  bound = importance_weighted_bound(detached, axis)
  if z.shape[: detached.ndim] != detached.shape:
    raise ValueError(
      f'z: got shape {z.shape}, expected the axes of log_weight(z), {detached.shape}, and any after them'
    )
  weights = jax.nn.softmax(detached, axis)
  scale = weights.reshape(weights.shape + (1,) * (z.ndim - weights.ndim))
  log_weights = jnp.asarray(log_weight(_scale_gradient(z, scale)), jnp.float32)
  return bound + jnp.sum(weights * (log_weights - detached), axis)


@jax.custom_jvp
def _scale_gradient(z: Array, scale: Array) -> Array:
  """Returns z, with its gradient multiplied by `scale`."""
  del scale
  return z


_scale_gradient.defjvps(lambda tangent, _, z, scale: tangent * scale, None)


def sticking_the_landing(
  log_prob: Callable[..., Float[Array, '...']], z: Float[ArrayLike, '...'], *parameters: Float[ArrayLike, '...']
) -> Float[Array, '...']:
  """Computes the log-density of a sample in nats, per example, with the density's own parameters constant.

  The score, whose mean is zero, is excluded. The gradient of log q(z|x) passes z alone, and the gradient of the bound
  vanishes if q is the true posterior.

  Args:
    log_prob: (z, *parameters) -> [...], such as `distributions.normal_log_prob`.
    z: [..., D] reparametrised sample.
    *parameters: [..., D] each, such as mean and logvar.

  Returns:
    [...] nats.

  Reference: Roeder et al. 2017, arXiv:1703.09194, equation 8.
  """
  return log_prob(z, *jax.lax.stop_gradient(parameters))


def free_bits(kl_per_dim: Float[ArrayLike, 'B *D'], *, floor: Num[ArrayLike, '']) -> Float32[Array, ' B']:
  """Computes the divergence in nats with a free allowance of `floor` nats a dimension, per example.

  If the mean of a dimension over the batch is below the floor, it counts as the floor and passes no gradient. Otherwise
  it counts as it is. The mean of the result, summed over the dimensions, is sum_d max(floor, mean_b kl[b, d]): first
  the batch mean, then the maximum.

  Args:
    kl_per_dim: [B, ...] nats, one term a dimension (or a group of them).
    floor: [] nats.

  Returns:
    [B] nats, float32; replaces the divergence in `elbo`.

  Raises:
    ValueError: kl_per_dim has no batch axis or is an empty batch, or floor is no scalar.

  Reference: Kingma et al. 2016, arXiv:1606.04934, equation 15.
  """
  kl, floor = shapes.float32('kl_per_dim[B, ...] floor[]', kl_per_dim, floor)
  shapes.enough(1, 'example', why=', since the batch mean decides', kl_per_dim=kl)
  spent = kl.mean(0, keepdims=True) > floor
  return jnp.where(spent, kl, floor).reshape(kl.shape[0], -1).sum(-1)


def soft_free_bits(
  gamma: Float[ArrayLike, ''],
  kl: Float[ArrayLike, ''],
  *,
  floor: Num[ArrayLike, ''],
  tolerance: Num[ArrayLike, ''] = 0.05,
  factor: Num[ArrayLike, ''] = 0.1,
) -> Float32[Array, '']:
  """Computes the next weight of the divergence, which keeps it between `floor` and (1 + tolerance) `floor` nats.

  A divergence above both makes the weight larger, up to 1, one below both makes it smaller, and one between them keeps
  it. The objective is log p(x|z) - gamma KL.

  Args:
    gamma: [] weight, in (0, 1].
    kl: [] nats, the mean divergence of the batch.
    floor: [] nats.
    tolerance: [] share of the floor.
    factor: [] share by which the weight changes in a step.

  Returns:
    [] weight, float32, at least 1e-6.

  Raises:
    ValueError: an argument is no scalar.

  Reference: Chen et al. 2017, arXiv:1611.02731, appendix C.
  """
  pattern = 'gamma[] kl[] floor[] tolerance[] factor[]'
  gamma, kl, floor, tolerance, factor = shapes.float32(pattern, gamma, kl, floor, tolerance, factor)
  step = jnp.where(kl > (1 + tolerance) * floor, 1 + factor, jnp.where(kl < floor, 1 - factor, 1.0))
  return jnp.clip(gamma * step, 1e-6, 1.0)


def active_units(posterior_means: Float[ArrayLike, 'N *D'], *, threshold: float = 0.01) -> Int32[Array, '']:
  """Counts the latent dimensions that depend on the data: Var_x(E_q[z_d|x]) > threshold, over the first axis.

  Args:
    posterior_means: [N, ...] posterior means of N examples.
    threshold: least variance of an active unit.

  Returns:
    [] int32 count.

  Raises:
    ValueError: posterior_means has no example.

  Reference: Burda et al. 2016, arXiv:1509.00519, section 5.2.
  """
  (means,) = shapes.float32('posterior_means[N, ...]', posterior_means)
  shapes.enough(1, 'example', posterior_means=means)
  return jnp.sum(means.var(0) > threshold, dtype=jnp.int32)


def elbo_surgery(
  means: Float[ArrayLike, 'N D'], logvars: Float[ArrayLike, 'N D'], key: Key[Array, ''], n: int
) -> ElboSurgery:
  """Splits the mean divergence from the prior N(0, I) into that of the aggregated posterior and index-code information.

  The aggregated posterior is the mixture of all N posteriors. With a part of the data set, the information is bounded
  by the logarithm of that part's size. All are in nats, summed over the last axis.

  Args:
    means: [N, D] posterior means of the whole data set.
    logvars: [N, D] posterior log-variances.
    key: random key.
    n: number of samples; the examples take turns, so that a multiple of N has the least noise.

  Returns:
    average_kl (in closed form), marginal_kl, mutual_information: [] nats each, float32.

  Raises:
    ValueError: the shapes differ, or there is no example or no sample.

  Reference: Hoffman & Johnson 2016, ELBO surgery, equations 6 to 8.
  """
  means, logvars = shapes.float32('means[N, D] logvars[N, D]', means, logvars)
  if n < 1 or not means.shape[0]:
    raise ValueError(f'n: got {n} samples of {means.shape[0]} examples, expected one or more of each')
  order_key, noise_key = jax.random.split(key)
  index = jnp.resize(jax.random.permutation(order_key, means.shape[0]), (n,))
  z = dist.normal_sample(noise_key, means[index], logvars[index])
  log_qz_x = dist.normal_log_prob(z, means[index], logvars[index])
  uniform = jnp.zeros(means.shape[0])
  log_qz = jax.lax.map(lambda z: dist.normal_mixture_log_prob(z, uniform, means, logvars), z, batch_size=_CHUNK)
  return ElboSurgery(
    average_kl=jnp.mean(dist.gaussian_kl_standard(means, logvars)),
    marginal_kl=jnp.mean(log_qz - dist.standard_normal_log_prob(z)),
    mutual_information=jnp.mean(log_qz_x - log_qz),
  )
