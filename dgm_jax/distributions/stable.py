"""Elementary functions that are precise in float32 far into the tails, and lookups that check their range."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

__all__ = ['bernoulli', 'expectation', 'inside', 'softplus', 'take']


@jax.custom_jvp
def softplus(x: jax.Array) -> jax.Array:
  """Computes log(1 + exp(x)) by one exponential; only x is stored for its gradient."""
  return jnp.maximum(x, 0.0) + jnp.log1p(jnp.exp(-jnp.abs(x)))


softplus.defjvps(lambda tangent, _, x: tangent * jax.nn.sigmoid(x))


@jax.custom_jvp
def bernoulli(x: jax.Array, logits: jax.Array) -> jax.Array:
  """Computes x l - softplus(l), precisely also if x l nearly cancels the softplus; l is finite."""
  return x * logits - jnp.maximum(logits, 0.0) - jnp.log1p(jnp.exp(-jnp.abs(logits)))


bernoulli.defjvps(
  lambda tangent, _, x, logits: tangent * logits,
  lambda tangent, _, x, logits: tangent * (x - jax.nn.sigmoid(logits)),
)


def inside(index: ArrayLike, size: int) -> jax.Array:
  """Returns the index, or `size` if it is no whole number in [0, size): JAX would take -1 for the last."""
  index = jnp.asarray(index)
  whole = index.astype(jnp.int32)
  within = (whole >= 0) & (whole < size)
  if jnp.issubdtype(index.dtype, jnp.floating):
    within &= index == whole
  return jnp.where(within, whole, size)


def take(values: jax.Array, index: ArrayLike) -> jax.Array:
  """Takes values [..., K] at an index [...]; the result is NaN if it is no whole number in [0, K)."""
  within = inside(index, values.shape[-1])[..., None]
  return jnp.take_along_axis(values, within, -1, mode='fill', fill_value=jnp.nan)[..., 0]


def expectation(log_probs: jax.Array, values: jax.Array) -> jax.Array:
  """Sums p_k v_k over the last axis; terms with p_k = 0 are 0, whatever v_k."""
  probs = jnp.exp(log_probs)
  return jnp.sum(probs * jnp.where(probs > 0, values, 0.0), -1)
