"""Minibatch discrimination: features of how similar the examples of a batch are.

Axes: B batch, F features, K kernels, D dimensions of a kernel.
"""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

__all__ = ['MinibatchDiscrimination', 'similarity']


def similarity(projected: Float[Array, 'B K D']) -> Float[Array, 'B K']:
  """Sums exp(-L1 distance) over the other examples, for each kernel; an example is not compared with itself.

  Args:
    projected: [B, K, D].

  Returns:
    [B, K] in [0, B - 1].

  Reference: Salimans et al. 2016, arXiv:1606.03498, section 3.2.
  """
  return jnp.exp(-_distances(projected)).sum(1)


class MinibatchDiscrimination(nn.Module):
  """A layer that appends to each example's features its similarity to the others: [B, F] -> [B, F + K].

  Kernels have columns of unit length times a trained scale. The first batch sets scales and shifts: an example's
  nearest neighbour is then at a distance of about two, and responses have mean zero.
  """

  kernels: int = 100
  dims: int = 5

  @nn.compact
  def __call__(self, h: Float[Array, 'B F']) -> Float[Array, 'B G']:
    features = h.astype(jnp.float32)
    shape = (h.shape[-1], self.kernels, self.dims)
    theta = self.param('theta', nn.initializers.normal(0.05), shape)
    unit = theta / jnp.linalg.norm(theta, axis=0, keepdims=True)
    directions = jnp.einsum('bf,fkd->bkd', features, unit)
    log_scale = self.param('log_scale', lambda key: -_log_half_nearest(directions))
    response = similarity(directions * jnp.exp(log_scale)[None, :, None])
    bias = self.param('bias', lambda key: -response.mean(0))
    return jnp.concatenate([features, response + bias[None]], -1)


def _distances(projected: Array) -> Array:
  """Computes the L1 distances of all pairs, [B, B, K]; infinity from an example to itself."""
  apart = jnp.abs(projected[:, None] - projected[None]).sum(-1)
  return jnp.where(jnp.eye(len(projected), dtype=bool)[..., None], jnp.inf, apart)


def _log_half_nearest(projected: Array) -> Array:
  """Computes the logarithm of half the mean distance of an example from its nearest neighbour, [K]."""
  nearest = jnp.where(len(projected) > 1, _distances(projected).min(1), 2.0)
  return jnp.log(jnp.maximum(0.5 * nearest.mean(0), 1e-6))
