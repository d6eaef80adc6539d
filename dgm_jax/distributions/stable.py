"""Elementary functions whose value and slope hold in float32 far into the tails."""

import jax
import jax.numpy as jnp


@jax.custom_jvp
def softplus(x: jax.Array) -> jax.Array:
  """log(1 + exp(x)), by one exponential; of its gradient's residuals only x is kept."""
  return jnp.maximum(x, 0.0) + jnp.log1p(jnp.exp(-jnp.abs(x)))


softplus.defjvps(lambda tangent, _, x: tangent * jax.nn.sigmoid(x))


@jax.custom_jvp
def bernoulli(x: jax.Array, logits: jax.Array) -> jax.Array:
  """x l - softplus(l), whose digits hold where the guess is right and x l cancels the softplus."""
  return x * logits - jnp.maximum(logits, 0.0) - jnp.log1p(jnp.exp(-jnp.abs(logits)))


bernoulli.defjvps(
  lambda tangent, _, x, logits: tangent * logits,
  lambda tangent, _, x, logits: tangent * (x - jax.nn.sigmoid(logits)),
)
