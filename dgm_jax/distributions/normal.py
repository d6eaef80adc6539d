"""Normal distributions and their divergences as pure functions; one event axis, the last."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Float32, Key

from dgm_jax import shapes

LOG_TWO_PI = 1.8378770664093453


def normal_log_prob(
  x: Float[ArrayLike, '*#B #D'], mean: Float[ArrayLike, '*#B #D'], logvar: Float[ArrayLike, '*#B #D']
) -> Float32[Array, '*B']:
  """Log-density in nats of a normal with diagonal covariance, summed over the last axis.

  Args:
    x: [..., D].
    mean: [..., D].
    logvar: [..., D] log-variance.

  Returns:
    [...] nats, float32.

  Raises:
    ValueError: the arguments do not broadcast at one rank.

  Reference: Kingma & Welling 2014, arXiv:1312.6114, appendix C.2.
  """
  x, mean, logvar = shapes.events(x=x, mean=mean, logvar=logvar)
  return -0.5 * jnp.sum(LOG_TWO_PI + logvar + jnp.square(x - mean) * jnp.exp(-logvar), -1)


def normal_sample(
  key: Key[Array, ''], mean: Float[ArrayLike, '*#B #D'], logvar: Float[ArrayLike, '*#B #D']
) -> Float32[Array, '*B D']:
  """Draws mean + exp(logvar / 2) * noise; differentiable in mean and logvar.

  Args:
    key: random key.
    mean: [..., D].
    logvar: [..., D] log-variance.

  Returns:
    [..., D], float32.

  Raises:
    ValueError: the arguments do not broadcast at one rank.

  Reference: Kingma & Welling 2014, arXiv:1312.6114, section 2.4.
  """
  mean, logvar = shapes.events(mean=mean, logvar=logvar)
  noise = jax.random.normal(key, jnp.broadcast_shapes(mean.shape, logvar.shape))
  return mean + jnp.exp(0.5 * logvar) * noise


def normal_entropy(logvar: Float[ArrayLike, '*B D']) -> Float32[Array, '*B']:
  """Entropy in nats of a normal with diagonal covariance, summed over the last axis.

  Args:
    logvar: [..., D] log-variance.

  Returns:
    [...] nats, float32.

  Raises:
    ValueError: logvar has no axis.

  Reference: Kingma & Welling 2014, arXiv:1312.6114, appendix B.
  """
  (logvar,) = shapes.events(logvar=logvar)
  return 0.5 * jnp.sum(1 + LOG_TWO_PI + logvar, -1)


def standard_normal_log_prob(x: Float[ArrayLike, '*B D']) -> Float32[Array, '*B']:
  """Log-density in nats of N(0, I), summed over the last axis.

  Args:
    x: [..., D].

  Returns:
    [...] nats, float32.

  Raises:
    ValueError: x has no axis.

  Reference: Kingma & Welling 2014, arXiv:1312.6114, appendix B.
  """
  (x,) = shapes.events(x=x)
  return -0.5 * jnp.sum(LOG_TWO_PI + jnp.square(x), -1)


def gaussian_kl_per_dim(
  mean_q: Float[ArrayLike, '*#B #D'],
  logvar_q: Float[ArrayLike, '*#B #D'],
  mean_p: Float[ArrayLike, '*#B #D'],
  logvar_p: Float[ArrayLike, '*#B #D'],
) -> Float32[Array, '*B D']:
  """KL(q || p) in nats of diagonal normals, one term a dimension.

  Args:
    mean_q: [..., D].
    logvar_q: [..., D] log-variance.
    mean_p: [..., D].
    logvar_p: [..., D] log-variance.

  Returns:
    [..., D] nats, float32, each >= 0.

  Raises:
    ValueError: the arguments do not broadcast at one rank.

  Reference: Kingma & Welling 2014, arXiv:1312.6114, appendix B.
  """
  mean_q, logvar_q, mean_p, logvar_p = shapes.events(mean_q=mean_q, logvar_q=logvar_q, mean_p=mean_p, logvar_p=logvar_p)
  log_ratio = logvar_q - logvar_p
  # expm1(r) - r, unlike exp(r) - 1 - r, keeps its digits, and its sign, where q is nearly p.
  return 0.5 * (jnp.expm1(log_ratio) - log_ratio + jnp.square(mean_q - mean_p) * jnp.exp(-logvar_p))


def gaussian_kl(
  mean_q: Float[ArrayLike, '*#B #D'],
  logvar_q: Float[ArrayLike, '*#B #D'],
  mean_p: Float[ArrayLike, '*#B #D'],
  logvar_p: Float[ArrayLike, '*#B #D'],
) -> Float32[Array, '*B']:
  """KL(q || p) in nats of diagonal normals, summed over the last axis.

  Args:
    mean_q: [..., D].
    logvar_q: [..., D] log-variance.
    mean_p: [..., D].
    logvar_p: [..., D] log-variance.

  Returns:
    [...] nats, float32.

  Raises:
    ValueError: the arguments do not broadcast at one rank.

  Reference: Kingma & Welling 2014, arXiv:1312.6114, appendix B.
  """
  return jnp.sum(gaussian_kl_per_dim(mean_q, logvar_q, mean_p, logvar_p), -1)


def gaussian_kl_standard_per_dim(
  mean: Float[ArrayLike, '*#B #D'], logvar: Float[ArrayLike, '*#B #D']
) -> Float32[Array, '*B D']:
  """KL(N(mean, exp(logvar)) || N(0, 1)) in nats, one term a dimension.

  Args:
    mean: [..., D].
    logvar: [..., D] log-variance.

  Returns:
    [..., D] nats, float32, each >= 0.

  Raises:
    ValueError: mean and logvar do not broadcast at one rank.

  Reference: Kingma & Welling 2014, arXiv:1312.6114, appendix B.
  """
  mean, logvar = shapes.events(mean=mean, logvar=logvar)
  return 0.5 * (jnp.square(mean) + jnp.expm1(logvar) - logvar)


def gaussian_kl_standard(mean: Float[ArrayLike, '*#B #D'], logvar: Float[ArrayLike, '*#B #D']) -> Float32[Array, '*B']:
  """KL(N(mean, exp(logvar)) || N(0, I)) in nats, summed over the last axis.

  Args:
    mean: [..., D].
    logvar: [..., D] log-variance.

  Returns:
    [...] nats, float32.

  Raises:
    ValueError: mean and logvar do not broadcast at one rank.

  Reference: Kingma & Welling 2014, arXiv:1312.6114, appendix B.
  """
  return jnp.sum(gaussian_kl_standard_per_dim(mean, logvar), -1)
