"""Elementary functions whose value and slope hold in float32 far into the tails."""

import jax
import jax.numpy as jnp


@jax.custom_jvp
def softplus_excess(x: jax.Array) -> jax.Array:
  """softplus(x) - max(x, 0) = log(1 + exp(-|x|)); of its gradient's residuals only x is kept."""
  return jnp.log1p(jnp.exp(-jnp.abs(x)))


softplus_excess.defjvps(lambda tangent, _, x: -tangent * jnp.sign(x) * jax.nn.sigmoid(-jnp.abs(x)))


@jax.custom_jvp
def softplus(x: jax.Array) -> jax.Array:
  """log(1 + exp(x)), by one exponential; of its gradient's residuals only x is kept."""
  return jnp.maximum(x, 0.0) + jnp.log1p(jnp.exp(-jnp.abs(x)))


softplus.defjvps(lambda tangent, _, x: tangent * jax.nn.sigmoid(x))
