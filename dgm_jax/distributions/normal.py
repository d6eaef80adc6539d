"""Normal distributions and their divergences as pure functions; one event axis, the last."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Float32, Key

from dgm_jax.internal import shapes
from dgm_jax.internal.noise import standard_normal

__all__ = [
  'discretized_normal_log_prob', 'gaussian_kl', 'gaussian_kl_per_dim', 'gaussian_kl_standard',
  'gaussian_kl_standard_per_dim',
  'multivariate_normal_entropy', 'multivariate_normal_log_prob', 'multivariate_normal_sample', 'normal_entropy',
  'normal_log_prob', 'normal_mixture_log_prob', 'normal_mixture_sample', 'normal_sample', 'standard_normal_log_prob',
]  # fmt: skip

LOG_TWO_PI = 1.8378770664093453
OUTSIDE = 1e4  # deviations to the edge of a bin that has none


def normal_log_prob(
  x: Float[ArrayLike, '*#B #D'], mean: Float[ArrayLike, '*#B #D'], logvar: Float[ArrayLike, '*#B #D']
) -> Float32[Array, '*B']:
  """Computes the log-density in nats of a normal with diagonal covariance, summed over the last axis.

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


def discretized_normal_log_prob(
  x: Float[ArrayLike, '*#B #D'],
  mean: Float[ArrayLike, '*#B #D'],
  logvar: Float[ArrayLike, '*#B #D'],
  levels: int = 256,
) -> Float32[Array, '*B']:
  """Computes the log-probability in nats of pixel values under normals integrated over each bin.

  It is summed over the last axis. The first bin extends to -inf and the last one to +inf, so that the probabilities sum
  to one.

  Args:
    x: [..., D] in [-1, 1], the value v of 0..levels-1 at 2 v / (levels - 1) - 1.
    mean: [..., D] on the scale of x.
    logvar: [..., D] log-variance.
    levels: number of values.

  Returns:
    [...] nats, float32; finite up to 1e4 deviations from the mean.

  Raises:
    ValueError: the arguments do not broadcast at one rank.

  Reference: Ho et al. 2020, arXiv:2006.11239, equation 13.
  """
  x, mean, logvar = shapes.events(x=x, mean=mean, logvar=logvar)
  half, per_deviation = (levels - 1) / 2, jnp.exp(-0.5 * logvar)
  value, centre = jnp.round(x * half + half), mean * half + half  # in bins, whose edges are then exact
  low = jnp.where(value > 0, (value - 0.5 - centre) * per_deviation / half, -OUTSIDE)
  high = jnp.where(value < levels - 1, (value + 0.5 - centre) * per_deviation / half, OUTSIDE)
  mirror = low + high > 0  # the lower tail is precise, so that bins above the mean are taken at their mirror image
  low, high = jnp.where(mirror, -high, low), jnp.where(mirror, -low, high)
  below = jax.scipy.stats.norm.logcdf(high)
  return jnp.sum(below + jnp.log(-jnp.expm1(jax.scipy.stats.norm.logcdf(low) - below)), -1)


def normal_sample(
  key: Key[Array, ''], mean: Float[ArrayLike, '*#B #D'], logvar: Float[ArrayLike, '*#B #D']
) -> Float32[Array, '*B D']:
  """Samples mean + exp(logvar / 2) * noise; differentiable in mean and logvar.

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
  noise = standard_normal(key, jnp.broadcast_shapes(mean.shape, logvar.shape))
  return mean + jnp.exp(0.5 * logvar) * noise


def normal_entropy(logvar: Float[ArrayLike, '*B D']) -> Float32[Array, '*B']:
  """Computes the entropy in nats of a normal with diagonal covariance, summed over the last axis.

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
  """Computes the log-density in nats of N(0, I), summed over the last axis.

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
  """Computes KL(q || p) in nats of diagonal normals, one term a dimension.

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
  # expm1(r) - r, unlike exp(r) - 1 - r, is precise, and not negative, if q is nearly p.
  return 0.5 * (jnp.expm1(log_ratio) - log_ratio + jnp.square(mean_q - mean_p) * jnp.exp(-logvar_p))


def gaussian_kl(
  mean_q: Float[ArrayLike, '*#B #D'],
  logvar_q: Float[ArrayLike, '*#B #D'],
  mean_p: Float[ArrayLike, '*#B #D'],
  logvar_p: Float[ArrayLike, '*#B #D'],
) -> Float32[Array, '*B']:
  """Computes KL(q || p) in nats of diagonal normals, summed over the last axis.

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
  """Computes KL(N(mean, exp(logvar)) || N(0, 1)) in nats, one term a dimension.

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
  """Computes KL(N(mean, exp(logvar)) || N(0, I)) in nats, summed over the last axis.

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


def multivariate_normal_log_prob(
  x: Float[ArrayLike, '*#B D'], mean: Float[ArrayLike, '*#B D'], scale_tril: Float[ArrayLike, 'D D']
) -> Float32[Array, '*B']:
  """Computes the log-density in nats of normals with one common full covariance, joint over the last axis.

  Args:
    x: [..., D].
    mean: [..., D].
    scale_tril: [D, D] lower triangular L, the covariance being L L^T; vmap for one covariance an example.

  Returns:
    [...] nats, float32.

  Raises:
    ValueError: x and mean do not broadcast at one rank, or scale_tril is not [D, D].

  Reference: Bishop 2006, Pattern Recognition and Machine Learning, equation 2.43.
  """
  x, mean = shapes.events(x=x, mean=mean)
  shapes.check('x[..., D] scale_tril[D, D]', x, scale_tril)
  scale_tril = jnp.asarray(scale_tril, jnp.float32)
  offsets = x - mean
  # All examples are right-hand sides of one triangular solve.
  columns = offsets.reshape(-1, offsets.shape[-1]).T
  white = jax.scipy.linalg.solve_triangular(scale_tril, columns, lower=True).T.reshape(offsets.shape)
  return standard_normal_log_prob(white) - _log_det(scale_tril)


def multivariate_normal_sample(
  key: Key[Array, ''], mean: Float[ArrayLike, '*B D'], scale_tril: Float[ArrayLike, 'D D']
) -> Float32[Array, '*B D']:
  """Samples mean + L noise; differentiable in mean and L.

  Args:
    key: random key.
    mean: [..., D].
    scale_tril: [D, D] lower triangular L, the covariance being L L^T.

  Returns:
    [..., D], float32.

  Raises:
    ValueError: scale_tril is not [D, D].

  Reference: Bishop 2006, Pattern Recognition and Machine Learning, section 11.1.1.
  """
  mean, scale_tril = shapes.float32('mean[..., D] scale_tril[D, D]', mean, scale_tril)
  noise = standard_normal(key, mean.shape)
  return mean + jnp.einsum('...j,ij->...i', noise, jnp.tril(scale_tril), precision='highest')


def multivariate_normal_entropy(scale_tril: Float[ArrayLike, 'D D']) -> Float32[Array, '']:
  """Computes the entropy in nats of a normal with a full covariance.

  Args:
    scale_tril: [D, D] lower triangular L, the covariance being L L^T.

  Returns:
    [] nats, float32.

  Raises:
    ValueError: scale_tril is not square.

  Reference: Bishop 2006, Pattern Recognition and Machine Learning, exercise 2.15.
  """
  (scale_tril,) = shapes.float32('scale_tril[D, D]', scale_tril)
  return 0.5 * scale_tril.shape[0] * (1 + LOG_TWO_PI) + _log_det(scale_tril)


def normal_mixture_log_prob(
  x: Float[ArrayLike, '*B D'],
  logits: Float[ArrayLike, ' K'],
  means: Float[ArrayLike, 'K D'],
  logvars: Float[ArrayLike, 'K D'],
) -> Float32[Array, '*B']:
  """Computes the log-density in nats of a mixture of normals with diagonal covariances, joint over the last axis.

  With equal logits and the posteriors of a data set as components, this is the aggregated posterior.

  Args:
    x: [..., D].
    logits: [K] unnormalised log-weights.
    means: [K, D].
    logvars: [K, D] log-variances.

  Returns:
    [...] nats, float32.

  Raises:
    ValueError: the sizes D or K differ.

  Reference: Bishop 2006, Pattern Recognition and Machine Learning, equation 9.7.
  """
  pattern = 'x[..., D] logits[K] means[K, D] logvars[K, D]'
  x, logits, means, logvars = shapes.float32(pattern, x, logits, means, logvars)
  one_each = (1,) * (x.ndim - 1)
  means, logvars = (a.reshape(*one_each, *a.shape) for a in (means, logvars))
  log_weights = jax.nn.log_softmax(logits).reshape(*one_each, -1)
  return jax.nn.logsumexp(log_weights + normal_log_prob(x[..., None, :], means, logvars), -1)


def normal_mixture_sample(
  key: Key[Array, ''],
  logits: Float[ArrayLike, ' K'],
  means: Float[ArrayLike, 'K D'],
  logvars: Float[ArrayLike, 'K D'],
  n: int,
) -> Float32[Array, 'n D']:
  """Samples n points from a mixture of normals with diagonal covariances.

  Args:
    key: random key.
    logits: [K] unnormalised log-weights.
    means: [K, D].
    logvars: [K, D] log-variances.
    n: number of points.

  Returns:
    [n, D], float32.

  Raises:
    ValueError: the sizes D or K differ.

  Reference: Bishop 2006, Pattern Recognition and Machine Learning, section 9.2.
  """
  logits, means, logvars = shapes.float32('logits[K] means[K, D] logvars[K, D]', logits, means, logvars)
  component_key, noise_key = jax.random.split(key)
  component = jax.random.categorical(component_key, logits, shape=(n,))
  return normal_sample(noise_key, means[component], logvars[component])


def _log_det(scale_tril: Array) -> Array:
  """Computes the log-determinant of L, half that of the covariance."""
  return jnp.sum(jnp.log(jnp.diagonal(scale_tril)))
