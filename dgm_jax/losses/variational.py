"""Bounds on log p(x): per example, in nats, to be maximised."""

import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Float32, Int32, Num

from dgm_jax import shapes


def elbo(log_px_z: Float[ArrayLike, '*B'], kl: Float[ArrayLike, '*B']) -> Float32[Array, '*B']:
  """Evidence lower bound in nats, per example: log p(x|z) - KL(q(z|x) || p(z)).

  Args:
    log_px_z: [...] reconstruction term in nats.
    kl: [...] divergence of the posterior from the prior in nats.

  Returns:
    [...] nats, float32; to be maximised.

  Raises:
    ValueError: the shapes differ.

  Reference: Kingma & Welling 2014, arXiv:1312.6114, equation 3.
  """
  return beta_elbo(log_px_z, kl, 1.0)


def beta_elbo(
  log_px_z: Float[ArrayLike, '*B'], kl: Float[ArrayLike, '*B'], beta: Num[ArrayLike, '']
) -> Float32[Array, '*B']:
  """Evidence lower bound with a weighted divergence in nats, per example: log p(x|z) - beta KL.

  Args:
    log_px_z: [...] reconstruction term in nats.
    kl: [...] divergence of the posterior from the prior in nats.
    beta: [] weight; a warm-up passes an array that grows from 0 to 1.

  Returns:
    [...] nats, float32; to be maximised.

  Raises:
    ValueError: the shapes differ, or beta is no scalar.

  Reference: Higgins et al. 2017, beta-VAE, equation 4.
  """
  log_px_z, kl, beta = shapes.float32('log_px_z[...] kl[...] beta[]', log_px_z, kl, beta)
  return log_px_z - beta * kl


def importance_weighted_bound(log_weights: Float[ArrayLike, '...'], axis: int = 0) -> Float32[Array, '...']:
  """Importance-weighted bound in nats, the samples on `axis`: log (1/k) sum_k exp(log_weights).

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
  shape = jnp.shape(log_weights)
  if not -len(shape) <= axis < len(shape) or not shape[axis]:
    raise ValueError(f'log_weights: got shape {shape}, expected one sample or more on axis {axis}')
  log_weights = jnp.asarray(log_weights, jnp.float32)
  return jax.nn.logsumexp(log_weights, axis) - math.log(shape[axis])


def free_bits(kl_per_dim: Float[ArrayLike, 'B *D'], floor: Num[ArrayLike, '']) -> Float32[Array, ' B']:
  """Divergence in nats with a free allowance of `floor` nats a dimension, per example, summed over the dimensions.

  A dimension whose mean over the batch is below the floor counts as the floor and passes no gradient; any
  other counts as it is. The mean of the result is sum_d max(floor, mean_b kl[b, d]): batch mean first, then
  maximum.

  Args:
    kl_per_dim: [B, ...] nats, one term a dimension (or a group of them).
    floor: [] nats.

  Returns:
    [B] nats, float32; takes the place of the divergence in `elbo`.

  Raises:
    ValueError: kl_per_dim has no batch axis or is an empty batch, or floor is no scalar.

  Reference: Kingma et al. 2016, arXiv:1606.04934, equation 15.
  """
  kl, floor = shapes.float32('kl_per_dim[B, ...] floor[]', kl_per_dim, floor)
  if not kl.shape[0]:
    raise ValueError(f'kl_per_dim: got shape {kl.shape}, expected one example or more, since the batch mean decides')
  spent = kl.mean(0, keepdims=True) > floor
  return jnp.where(spent, kl, floor).reshape(kl.shape[0], -1).sum(-1)


def active_units(posterior_means: Float[ArrayLike, 'N *D'], threshold: float = 0.01) -> Int32[Array, '']:
  """Number of latent dimensions that depend on the data: Var_x(E_q[z_d|x]) > threshold, over the first axis.

  Args:
    posterior_means: [N, ...] posterior means of N examples.
    threshold: variance above which a unit is active.

  Returns:
    [] int32 count.

  Raises:
    ValueError: posterior_means has no example.

  Reference: Burda et al. 2016, arXiv:1509.00519, section 5.2.
  """
  (means,) = shapes.float32('posterior_means[N, ...]', posterior_means)
  if not means.shape[0]:
    raise ValueError(f'posterior_means: got shape {means.shape}, expected one example or more')
  return jnp.sum(means.var(0) > threshold, dtype=jnp.int32)
