"""Discrete distributions as pure functions; one event axis, the last."""

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Float32, Shaped

from dgm_jax import shapes
from dgm_jax.distributions import stable


def bernoulli_log_prob(x: Shaped[ArrayLike, '*#B #D'], logits: Float[ArrayLike, '*#B #D']) -> Float32[Array, '*B']:
  """Log-probability in nats of binary x under independent Bernoullis, summed over the last axis.

  sum_d x_d l_d - softplus(l_d): one pass, exact at any logit.

  Args:
    x: [..., D] values in {0, 1}. Values between are accepted; the sum is then a cross-entropy, not a likelihood.
    logits: [..., D], log p/(1-p).

  Returns:
    [...] nats, float32.

  Raises:
    ValueError: x and logits do not broadcast at one rank.

  Reference: Kingma & Welling 2014, arXiv:1312.6114, appendix C.1.
  """
  x, logits = shapes.events(x=x, logits=logits)
  # x l - max(l, 0) is 0 where the guess is right, so that the excess keeps its digits there.
  return jnp.sum(x * logits - jnp.maximum(logits, 0.0) - stable.softplus_excess(logits), -1)
