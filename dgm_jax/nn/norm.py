"""Batch normalisation whose statistics are the caller's: seen in training, given in evaluation.

Axes: B batch, ... positions, C channels.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


class BatchNorm(nn.Module):
  """Normalises by the batch where the collection 'batch_stats' may be written, and writes what it has seen there.

  Where it is only read, what is read is used. No average is kept here: a layer that is evaluated twice in one step,
  to recompute activations, must not be counted twice.

  Reference: Ioffe & Szegedy 2015, arXiv:1502.03167, algorithm 1.
  """

  epsilon: float = 1e-5
  scale: bool = True
  dtype: jnp.dtype | str | None = None

  @nn.compact
  def __call__(self, x: Float[Array, '*S C']) -> Float[Array, '*S C']:
    axes, features = tuple(range(x.ndim - 1)), x.shape[-1:]
    seen = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    start = lambda: jnp.zeros(features, seen.dtype)
    mean, variance = (self.variable('batch_stats', name, start) for name in ('mean', 'variance'))
    if self.is_mutable_collection('batch_stats'):
      mean.value, variance.value = seen.mean(axes), seen.var(axes)
    factor = jax.lax.rsqrt(variance.value + self.epsilon)
    if self.scale:
      factor = factor * self.param('scale', nn.initializers.ones, features)
    bias = self.param('bias', nn.initializers.zeros, features)
    wide = lambda values: values.reshape(*[1] * (x.ndim - 1), -1)
    y = (seen - wide(mean.value)) * wide(factor) + wide(bias)
    return y.astype(self.dtype or x.dtype)


def running(old: dict, seen: dict, momentum: float) -> dict:
  """The moving average of statistics after one more batch: momentum old + (1 - momentum) seen."""
  return jax.tree.map(lambda a, b: momentum * a + (1 - momentum) * b.astype(a.dtype), old, seen)
