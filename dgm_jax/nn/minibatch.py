"""Features of how similar the examples of a batch are: minibatch discrimination, and deviations within groups.

Axes: B batch, F features, K kernels, D dimensions of a kernel, H height, W width, C channels.
"""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

__all__ = ['MinibatchDeviation', 'MinibatchDiscrimination', 'deviations', 'similarity']

EPSILON = 1e-8


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


def deviations(x: Float[Array, 'B *S'], group: int) -> Float[Array, ' G']:
  """Computes the deviation of each number over a group of examples, averaged over the numbers of an example.

  Groups are contiguous rows of the whole batch, so that the result does not depend on the number of devices. The
  released program takes every (B / group)th row, of each device.

  Args:
    x: [B, ...].
    group: examples of a group; it divides B.

  Returns:
    [B / group], at least 1e-4.

  Raises:
    ValueError: the group does not divide the batch.

  Reference: Karras et al. 2018, arXiv:1710.10196, section 3.
  """
  if x.shape[0] % group:
    raise ValueError(f'deviations over groups of {group} need a batch that {group} divides, got {x.shape[0]}')
  h = x.reshape(-1, group, *x.shape[1:]).astype(jnp.promote_types(x.dtype, jnp.float32))
  return jnp.sqrt(h.var(1) + EPSILON).reshape(h.shape[0], -1).mean(1)


class MinibatchDeviation(nn.Module):
  """A layer that appends a channel with the deviation of each example's group: [B, H, W, C] -> [B, H, W, C + 1].

  Like a batch normalisation it writes the mean deviation of the batch to the collection 'batch_stats' if that is
  mutable. If it is immutable, every example gets the deviation in it, whatever the others are.
  """

  group: int = 4

  @nn.compact
  def __call__(self, x: Float[Array, 'B H W C']) -> Float[Array, 'B H W D']:
    typical = self.variable('batch_stats', 'deviation', lambda: jnp.zeros(()))
    if self.is_mutable_collection('batch_stats'):
      whole = self.is_initializing() and x.shape[0] % self.group  # a start may be made of any number of examples
      by_group = deviations(x, x.shape[0] if whole else self.group)
      typical.value = by_group.mean()
      each = jnp.broadcast_to(by_group[:, None], (len(by_group), x.shape[0] // len(by_group))).reshape(-1)
    else:
      each = jnp.broadcast_to(typical.value, x.shape[:1])
    channel = jnp.broadcast_to(each.astype(x.dtype)[:, None, None, None], (*x.shape[:3], 1))
    return jnp.concatenate([x, channel], -1)


def _distances(projected: Array) -> Array:
  """Computes the L1 distances of all pairs, [B, B, K]; infinity from an example to itself."""
  apart = jnp.abs(projected[:, None] - projected[None]).sum(-1)
  return jnp.where(jnp.eye(len(projected), dtype=bool)[..., None], jnp.inf, apart)


def _log_half_nearest(projected: Array) -> Array:
  """Computes the logarithm of half the mean distance of an example from its nearest neighbour, [K]."""
  nearest = jnp.where(len(projected) > 1, _distances(projected).min(1), 2.0)
  return jnp.log(jnp.maximum(0.5 * nearest.mean(0), 1e-6))
