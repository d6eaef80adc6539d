"""Elementary functions whose value and slope hold in float32 far into the tails, and choices that are in range."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

__all__ = ['bernoulli', 'chosen', 'expectation', 'inside', 'softplus']


@jax.custom_jvp
def softplus(x: jax.Array) -> jax.Array:
  """log(1 + exp(x)), by one exponential; of its gradient's residuals only x is kept."""
  return jnp.maximum(x, 0.0) + jnp.log1p(jnp.exp(-jnp.abs(x)))


softplus.defjvps(lambda tangent, _, x: tangent * jax.nn.sigmoid(x))


@jax.custom_jvp
def bernoulli(x: jax.Array, logits: jax.Array) -> jax.Array:
  """x l - softplus(l), whose digits hold where the guess is right and x l cancels the softplus; l is finite."""
  return x * logits - jnp.maximum(logits, 0.0) - jnp.log1p(jnp.exp(-jnp.abs(logits)))


bernoulli.defjvps(
  lambda tangent, _, x, logits: tangent * logits,
  lambda tangent, _, x, logits: tangent * (x - jax.nn.sigmoid(logits)),
)


def inside(index: ArrayLike, size: int) -> jax.Array:
  """Puts `size`, beyond the end, where the index is no whole number in [0, size): JAX counts -1 as the last."""
  index = jnp.asarray(index)
  whole = index.astype(jnp.int32)
  within = (whole >= 0) & (whole < size)
  if jnp.issubdtype(index.dtype, jnp.floating):
    within &= index == whole
  return jnp.where(within, whole, size)


def chosen(values: jax.Array, index: ArrayLike) -> jax.Array:
  """Takes values [..., K] at an index [...]; NaN where it is no whole number in [0, K)."""
  within = inside(index, values.shape[-1])[..., None]
  return jnp.take_along_axis(values, within, -1, mode='fill', fill_value=jnp.nan)[..., 0]


def expectation(log_probs: jax.Array, values: jax.Array) -> jax.Array:
  """Sums p_k v_k over the last axis, nothing where p_k is 0, whatever v_k."""
  probs = jnp.exp(log_probs)
  return jnp.sum(probs * jnp.where(probs > 0, values, 0.0), -1)
