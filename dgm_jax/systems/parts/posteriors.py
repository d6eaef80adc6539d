"""What an encoder's numbers mean: q(z|x) and its prior, for latents that are continuous or discrete.

Axes: B batch, k samples, Z latents.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from dgm_jax import distributions
from dgm_jax.internal.noise import standard_normal
from dgm_jax.models.binary import BinaryEncoder
from dgm_jax.models.vae import Encoder
from dgm_jax.views import Prior

__all__ = ['POSTERIORS', 'Posterior', 'bernoulli', 'normal', 'standard']


class Posterior(NamedTuple):
  """A family q(z|x) with its prior p(z), as functions of the numbers that the encoder gives, [B, Z] each."""

  encode: Callable  # (params, x) -> numbers
  init: Callable  # (key, x) -> params
  sample: Callable  # (key, numbers, k) -> z [B, k, Z]
  log_prob: Callable  # (z, numbers) -> [B, k] nats
  log_prior: Callable  # z -> [B, k] nats
  kl: Callable  # numbers -> [B] nats, from the prior
  square_score: Callable  # (z, numbers) -> [B, k] squared length of d log q / d numbers
  code: Callable  # numbers -> [B, Z] means
  prior_sample: Callable  # (key, n) -> [n, Z]
  reparametrized: bool  # whether samples pass gradients


def standard(latents: int) -> Prior:
  """The prior N(0, I) of so many latents."""
  return Prior(
    sample=lambda key, state, n: standard_normal(key, (n, latents)),
    log_prob=lambda key, state, z: distributions.standard_normal_log_prob(z),
    normal=True,
  )


def normal(config: ConfigDict) -> Posterior:
  """Diagonal normals from the prior N(0, I); the numbers are mean and log-variance."""
  model = config.model
  encoder = Encoder((tuple(model.hidden),), (model.latents,), activation=model.activation, dtype=config.dtype)

  def square_score(z, numbers):
    mean, logvar = _per_sample(numbers)
    squared = jnp.square(z - mean) * jnp.exp(-logvar)
    return jnp.sum(squared * jnp.exp(-logvar) + 0.25 * jnp.square(squared - 1), -1)

  def sample(key, numbers, k):
    mean, logvar = _per_sample(numbers)
    return mean + jnp.exp(0.5 * logvar) * jax.random.normal(key, (mean.shape[0], k, mean.shape[-1]))

  return Posterior(
    lambda params, x: encoder.apply({'params': params}, x)[0],
    lambda key, x: encoder.init(key, x)['params'],
    sample,
    lambda z, numbers: distributions.normal_log_prob(z, *_per_sample(numbers)),
    distributions.standard_normal_log_prob,
    lambda numbers: distributions.gaussian_kl_standard(*numbers),
    square_score,
    lambda numbers: numbers[0],
    lambda key, n: jax.random.normal(key, (n, model.latents)),
    True,
  )


def bernoulli(config: ConfigDict) -> Posterior:
  """Independent bits, from fair ones; the number is the logit. Their samples pass no gradient."""
  model = config.model
  encoder = BinaryEncoder(tuple(model.hidden), model.latents, model.activation, config.dtype)

  def sample(key, numbers, k):
    (logits,) = _per_sample(numbers)
    return distributions.bernoulli_sample(key, jnp.broadcast_to(logits, (logits.shape[0], k, logits.shape[-1])))

  def square_score(z, numbers):
    return jnp.sum(jnp.square(z - jax.nn.sigmoid(_per_sample(numbers)[0])), -1)

  return Posterior(
    lambda params, x: (encoder.apply({'params': params}, x),),
    lambda key, x: encoder.init(key, x)['params'],
    sample,
    lambda z, numbers: distributions.bernoulli_log_prob(z, *_per_sample(numbers)),
    lambda z: jnp.full(z.shape[:-1], -model.latents * jnp.log(2.0)),
    lambda numbers: model.latents * jnp.log(2.0) - distributions.bernoulli_entropy(numbers[0]),
    square_score,
    lambda numbers: jax.nn.sigmoid(numbers[0]),
    lambda key, n: distributions.bernoulli_sample(key, jnp.zeros((n, model.latents))),
    False,
  )


def _per_sample(numbers):
  """[B, Z] -> [B, 1, Z] each."""
  return tuple(number[:, None] for number in numbers)


POSTERIORS = {'bernoulli': bernoulli, 'normal': normal}
