"""Gradients of expectations: surrogates whose gradient, not whose value, is the estimate.

They preserve float64 if JAX has it enabled, so that tests can verify exact identities.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Key, Num

from dgm_jax.internal import shapes

__all__ = ['estimator_variance', 'leave_one_out_baseline', 'score_function_surrogate', 'vimco_surrogate']

# Number of samples of an estimator that are computed at a time.
_CHUNK = 256


def score_function_surrogate(
  log_q: Float[ArrayLike, '*B'], reward: Float[ArrayLike, '*B'], baseline: Num[ArrayLike, '*#B'] = 0.0
) -> Float[Array, '*B']:
  """Returns the reward, per sample, with the gradient (reward - baseline) d log q(z) + d reward.

  The gradient of E_q[reward] is unbiased for any baseline that does not depend on the sample. Parameters of the reward
  itself, such as a decoder's, have their gradient, too.

  Args:
    log_q: [...] log-probability of the samples in nats, differentiable in the parameters of q.
    reward: [...] reward of the samples, such as log p(x|z).
    baseline: [...] or a scalar; no gradient passes.

  Returns:
    [...] in the unit of the reward, float32; to be maximised.

  Raises:
    ValueError: the shapes differ.

  Reference: Williams 1992, doi:10.1007/BF00992696, equation 3; Mnih & Gregor 2014, arXiv:1402.0030, equation 8.
  """
  log_q, reward = shapes.floats('log_q[...] reward[...]', log_q, reward)
  if jnp.ndim(baseline):
    log_q, reward, baseline = shapes.floats('log_q[...] reward[...] baseline[...]', log_q, reward, baseline)
  signal = jax.lax.stop_gradient(reward - baseline)
  return reward + signal * _zero_with_gradient(log_q)


def leave_one_out_baseline(rewards: Float[ArrayLike, '*S'], axis: int = 0) -> Float[Array, '*S']:
  """Computes, for every sample on `axis`, the mean reward of the others, in the unit of the reward.

  Args:
    rewards: [K, ...], the samples on `axis`.
    axis: the axis of the samples.

  Returns:
    [K, ...], float32: a baseline for `score_function_surrogate`.

  Raises:
    ValueError: there are fewer than two samples, or no such axis.

  Reference: Kool et al. 2019, Buy 4 REINFORCE samples, get a baseline for free, equation 8.
  """
  count = _samples('rewards', rewards, axis)
  (rewards,) = shapes.floats('rewards[...]', rewards)
  return (jnp.sum(rewards, axis, keepdims=True) - rewards) / (count - 1)


def vimco_surrogate(
  log_weights: Float[ArrayLike, '*S'], log_q: Float[ArrayLike, '*S'], axis: int = 0
) -> Float[Array, '...']:
  """Computes the importance-weighted bound in nats, the samples on `axis`, with a gradient for discrete latents.

  The gradient is sum_k (L - L_-k) d log q(z_k) + sum_k w_k d log_weights_k. L_-k is the bound with weight k replaced by
  the geometric mean of the others, and w are the normalised weights.

  Args:
    log_weights: [K, ...] log p(x, z_k) - log q(z_k|x) in nats, the samples on `axis`.
    log_q: [K, ...] log q(z_k|x) in nats.
    axis: the axis of the samples.

  Returns:
    [...] nats, float32; to be maximised.

  Raises:
    ValueError: there are fewer than two samples, no such axis, or the shapes differ.

  Reference: Mnih & Rezende 2016, arXiv:1602.06725, equations 8 to 10.
  """
  count = _samples('log_weights', log_weights, axis)
  log_weights, log_q = shapes.floats('log_weights[...] log_q[...]', log_weights, log_q)
  log_weights, log_q = jnp.moveaxis(log_weights, axis, 0), jnp.moveaxis(log_q, axis, 0)
  bound = jax.nn.logsumexp(log_weights, 0) - math.log(count)
  own = jnp.eye(count, dtype=bool).reshape(count, count, *(1,) * (log_weights.ndim - 1))
  others_mean = leave_one_out_baseline(log_weights)
  replaced = jnp.where(own, others_mean[None], log_weights[None])
  without = jax.nn.logsumexp(replaced, 1) - math.log(count)
  signal = jax.lax.stop_gradient(bound[None] - without)
  return bound + jnp.sum(signal * _zero_with_gradient(log_q), 0)


def estimator_variance(estimator: Callable[[Array], Any], key: Key[Array, ''], n: int) -> Any:
  """Estimates the variance of every element of an estimator from n samples, in the estimator's unit squared.

  Args:
    estimator: key -> tree of arrays, such as the gradient of a surrogate.
    key: random key.
    n: the number of samples.

  Returns:
    the estimator's tree with its variances (divisor n - 1), float32.

  Raises:
    ValueError: n is less than 2.

  Reference: Mohamed et al. 2020, arXiv:1906.10652, section 3.2.
  """
  if n < 2:
    raise ValueError(f'n: got {n}, expected two draws or more')
  draws = jax.lax.map(estimator, jax.random.split(key, n), batch_size=min(n, _CHUNK))
  return jax.tree.map(lambda draw: jnp.var(draw.astype(jnp.float32), axis=0, ddof=1), draws)


def _zero_with_gradient(x: Array) -> Array:
  """Returns 0, with the gradient of x."""
  return x - jax.lax.stop_gradient(x)


def _samples(name: str, array: ArrayLike, axis: int) -> int:
  """Returns the number of samples on an axis, two or more."""
  shapes.enough(2, 'samples', axis, **{name: array})
  return jnp.shape(array)[axis]
