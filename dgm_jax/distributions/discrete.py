"""Bernoulli, categorical and Gumbel-softmax distributions as pure functions."""

import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Float32, Int32, Key, Num, Shaped

from dgm_jax.distributions import stable
from dgm_jax.internal import shapes

__all__ = [
  'bernoulli_entropy', 'bernoulli_log_prob', 'bernoulli_sample', 'categorical_entropy', 'categorical_kl',
  'categorical_log_prob', 'categorical_sample', 'gumbel_softmax_log_prob', 'gumbel_softmax_sample',
]  # fmt: skip


def bernoulli_log_prob(x: Shaped[ArrayLike, '*#B #D'], logits: Float[ArrayLike, '*#B #D']) -> Float32[Array, '*B']:
  """Computes the log-probability in nats of binary x under independent Bernoullis, summed over the last axis.

  It is sum_d x_d l_d - softplus(l_d), in one pass.

  Args:
    x: [..., D] values in {0, 1}. Values between are accepted; the sum is then a cross-entropy, not a likelihood.
    logits: [..., D], log p / (1 - p), finite: +-1e9 for a certain value.

  Returns:
    [...] nats, float32.

  Raises:
    ValueError: x and logits do not broadcast at one rank.

  Reference: Kingma & Welling 2014, arXiv:1312.6114, appendix C.1.
  """
  x, logits = shapes.events(x=x, logits=logits)
  return jnp.sum(stable.bernoulli(x, logits), -1)


def bernoulli_sample(key: Key[Array, ''], logits: Float[ArrayLike, '*S']) -> Float32[Array, '*S']:
  """Samples binary values, 1 with probability sigmoid(logits).

  Args:
    key: random key.
    logits: [...], log p / (1 - p).

  Returns:
    [...] of 0 and 1, float32; passes no gradient.

  Reference: Kingma & Welling 2014, arXiv:1312.6114, appendix C.1.
  """
  logits = jnp.asarray(logits, jnp.float32)
  return (jax.random.logistic(key, logits.shape) < logits).astype(jnp.float32)


def bernoulli_entropy(logits: Float[ArrayLike, '*B D']) -> Float32[Array, '*B']:
  """Computes the entropy in nats of independent Bernoullis, summed over the last axis.

  Args:
    logits: [..., D], log p / (1 - p); +-inf for a certain value.

  Returns:
    [...] nats, float32.

  Raises:
    ValueError: logits has no axis.

  Reference: Cover & Thomas 2006, Elements of Information Theory, equation 2.5.
  """
  (logits,) = shapes.events(logits=logits)
  surprise = jnp.abs(logits)  # of the less likely value, over the other's
  # Beyond 1e9 the product underflows to 0; infinity times 0 would be NaN.
  return jnp.sum(stable.softplus(-surprise) + jnp.minimum(surprise, 1e9) * jax.nn.sigmoid(-surprise), -1)


def categorical_log_prob(x: Num[ArrayLike, '*B D'], logits: Float[ArrayLike, '*B D K']) -> Float32[Array, '*B']:
  """Computes the log-probability in nats of D independent categorical values, summed over the axis before the classes.

  Args:
    x: [..., D] integers in [0, K); 256-way for pixels. Others give NaN.
    logits: [..., D, K] unnormalised log-probabilities.

  Returns:
    [...] nats, float32.

  Raises:
    ValueError: the axes of x are not those of logits before the last.

  Reference: van den Oord et al. 2016, arXiv:1601.06759, section 2.2.
  """
  shapes.check('x[..., D] logits[..., D, K]', x, logits)
  logits = jnp.asarray(logits, jnp.float32)
  return jnp.sum(stable.take(logits, x) - jax.nn.logsumexp(logits, -1), -1)


def categorical_sample(key: Key[Array, ''], logits: Float[ArrayLike, '*B K']) -> Int32[Array, '*B']:
  """Samples a class from every distribution on the last axis.

  Args:
    key: random key.
    logits: [..., K] unnormalised log-probabilities.

  Returns:
    [...] classes in [0, K), int32.

  Raises:
    ValueError: logits has no axis.

  Reference: Maddison et al. 2014, arXiv:1411.0030, section 2 (the Gumbel-max method).
  """
  (logits,) = shapes.events(logits=logits)
  return jax.random.categorical(key, logits).astype(jnp.int32)


def categorical_entropy(logits: Float[ArrayLike, '*B K']) -> Float32[Array, '*B']:
  """Computes the entropy in nats of categorical distributions on the last axis.

  Args:
    logits: [..., K] unnormalised log-probabilities; -inf for a class of probability 0.

  Returns:
    [...] nats, float32, in [0, ln K].

  Raises:
    ValueError: logits has no axis.

  Reference: Cover & Thomas 2006, Elements of Information Theory, equation 2.1.
  """
  (logits,) = shapes.events(logits=logits)
  log_probs = jax.nn.log_softmax(logits)
  return -stable.expectation(log_probs, log_probs)


def categorical_kl(logits_q: Float[ArrayLike, '*#B #K'], logits_p: Float[ArrayLike, '*#B #K']) -> Float32[Array, '*B']:
  """Computes KL(q || p) in nats of categorical distributions on the last axis.

  Args:
    logits_q: [..., K] unnormalised log-probabilities; -inf for a class of probability 0.
    logits_p: [..., K] unnormalised log-probabilities, likewise.

  Returns:
    [...] nats, float32; inf if a class of q has probability 0 under p.

  Raises:
    ValueError: the arguments do not broadcast at one rank.

  Reference: Jang et al. 2017, arXiv:1611.01144, section 3.
  """
  logits_q, logits_p = shapes.events(logits_q=logits_q, logits_p=logits_p)
  log_q, log_p = jax.nn.log_softmax(logits_q), jax.nn.log_softmax(logits_p)
  return stable.expectation(*jnp.broadcast_arrays(log_q, log_q - log_p))


def gumbel_softmax_sample(
  key: Key[Array, ''], logits: Float[ArrayLike, '*B K'], temperature: Num[ArrayLike, '']
) -> Float32[Array, '*B K']:
  """Samples a point of the simplex that tends to a one-hot class as the temperature falls; differentiable in logits.

  It is softmax((logits + Gumbel noise) / temperature).

  Args:
    key: random key.
    logits: [..., K] unnormalised log-probabilities.
    temperature: [] > 0.

  Returns:
    [..., K] >= 0 that sum to one, float32.

  Raises:
    ValueError: logits has no axis, or temperature is no scalar.

  Reference: Jang et al. 2017, arXiv:1611.01144, equation 2.
  """
  logits, temperature = shapes.float32('logits[..., K] temperature[]', logits, temperature)
  return jax.nn.softmax((logits + jax.random.gumbel(key, logits.shape)) / temperature)


def gumbel_softmax_log_prob(
  log_x: Float[ArrayLike, '*B K'], logits: Float[ArrayLike, '*B K'], temperature: Num[ArrayLike, '']
) -> Float32[Array, '*B']:
  """Computes the log-density in nats of the Gumbel-softmax on the simplex, for its first K - 1 coordinates.

  It is log (K-1)! + (K-1) log t + sum_k (l_k - (t+1) log x_k) - K logsumexp_k (l_k - t log x_k).

  Args:
    log_x: [..., K] logarithm of the point: at low temperatures the point itself underflows.
    logits: [..., K] unnormalised log-probabilities.
    temperature: [] t > 0.

  Returns:
    [...] nats, float32.

  Raises:
    ValueError: the shapes differ, or temperature is no scalar.

  Reference: Maddison et al. 2017, arXiv:1611.00712, equation 6; Jang et al. 2017, arXiv:1611.01144, appendix B.
  """
  log_x, logits, t = shapes.float32('log_x[..., K] logits[..., K] temperature[]', log_x, logits, temperature)
  classes = logits.shape[-1]
  scores = logits - t * log_x
  constant = math.lgamma(classes) + (classes - 1) * jnp.log(t)
  return constant + jnp.sum(scores - log_x, -1) - classes * jax.nn.logsumexp(scores, -1)
