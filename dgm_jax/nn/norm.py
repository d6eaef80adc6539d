"""Normalisation by the batch, by a reference batch, by the example, and of weights.

Axes: B batch, R reference examples, ... positions, C channels, E size of a condition.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Array, Float

__all__ = [
  'BatchNorm', 'ConditionalBatchNorm', 'LayerNorm', 'VirtualBatchNorm', 'directions', 'running', 'spectral'
]  # fmt: skip


SMALL = 1e-12  # least norm, for norms that may be zero


class BatchNorm(nn.Module):
  """A batch normalisation that writes the batch's statistics to the collection 'batch_stats' if it is mutable.

  If the collection is immutable, its statistics are used. There is no average here: a layer that is evaluated twice in
  a step, to recompute activations, would be averaged twice.

  Reference: Ioffe & Szegedy 2015, arXiv:1502.03167, algorithm 1.
  """

  epsilon: float = 1e-5
  scale: bool = True
  bias: bool = True
  scale_init: Callable = nn.initializers.ones
  dtype: jnp.dtype | str | None = None

  @nn.compact
  def __call__(self, x: Float[Array, '*S C']) -> Float[Array, '*S C']:
    axes, features = tuple(range(x.ndim - 1)), x.shape[-1:]
    h = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    zeros = lambda: jnp.zeros(features, h.dtype)
    mean, variance = (self.variable('batch_stats', name, zeros) for name in ('mean', 'variance'))
    if self.is_mutable_collection('batch_stats'):
      mean.value, variance.value = h.mean(axes), h.var(axes)
    factor = jax.lax.rsqrt(variance.value + self.epsilon)
    if self.scale:
      factor = factor * self.param('scale', self.scale_init, features)
    wide = lambda values: values.reshape(*[1] * (x.ndim - 1), -1)
    y = (h - wide(mean.value)) * wide(factor)
    if self.bias:
      y = y + wide(self.param('bias', nn.initializers.zeros, features))
    return y.astype(self.dtype or x.dtype)


class ConditionalBatchNorm(nn.Module):
  """A batch normalisation whose gain, around one, and shift are functions of a condition of each example.

  The condition is a label, int [B], which has a vector of its own among `classes`, or a vector, float [B, E], of which
  gain and shift are linear functions without a bias.

  Reference: Dumoulin et al. 2017, arXiv:1610.07629, equation 5; Brock et al. 2019, arXiv:1809.11096, appendix B.
  """

  classes: int = 0
  epsilon: float = 1e-5
  kernel_init: Callable = nn.initializers.normal(0.02)
  dtype: jnp.dtype | str | None = None

  @nn.compact
  def __call__(self, x: Float[Array, 'B *S C'], condition: Array) -> Float[Array, 'B *S C']:
    normal = BatchNorm(self.epsilon, scale=False, bias=False, dtype='float32')(x)

    def of_condition(name: str) -> Array:
      if jnp.issubdtype(condition.dtype, jnp.integer):
        table = nn.Embed(self.classes, x.shape[-1], embedding_init=self.kernel_init, name=name)(condition)
      else:
        dense = nn.Dense(x.shape[-1], use_bias=False, kernel_init=self.kernel_init, name=name)
        table = dense(condition.astype(jnp.float32))
      return table.reshape(x.shape[0], *[1] * (x.ndim - 2), -1)

    return (normal * (1 + of_condition('gain')) + of_condition('shift')).astype(self.dtype or x.dtype)


def running(old: dict, new: dict, momentum: float | Array) -> dict:
  """Averages statistics with those of one more batch: momentum old + (1 - momentum) new."""
  return jax.tree.map(lambda a, b: momentum * a + (1 - momentum) * b.astype(a.dtype), old, new)


class VirtualBatchNorm(nn.Module):
  """A normalisation of each example by the statistics of R reference examples and itself.

  No example depends on others of the batch. The first R rows are the reference; they are normalised by their own
  statistics.

  Reference: Salimans et al. 2016, arXiv:1606.03498, section 3.5.
  """

  references: int
  epsilon: float = 1e-5
  scale_init: Callable = nn.initializers.ones
  dtype: jnp.dtype | str | None = None

  @nn.compact
  def __call__(self, x: Float[Array, 'B *S C']) -> Float[Array, 'B *S C']:
    count, wide = self.references, (1,) * (x.ndim - 1)
    h = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    reference, live = h[:count], h[count:]
    mean = reference.mean(tuple(range(x.ndim - 1)), keepdims=True)
    variance = reference.var(tuple(range(x.ndim - 1)), keepdims=True)
    # Moments are about the reference's mean, since the difference of raw moments would cancel.
    apart, positions = live - mean, tuple(range(1, x.ndim - 1))
    first, second = (jnp.mean(power, positions, keepdims=True) / (count + 1) for power in (apart, jnp.square(apart)))
    own = second + variance * (count / (count + 1)) - jnp.square(first)
    normal = jnp.concatenate(
      [(reference - mean) * jax.lax.rsqrt(variance + self.epsilon), (apart - first) * jax.lax.rsqrt(own + self.epsilon)]
    )
    scale = self.param('scale', self.scale_init, x.shape[-1:]).reshape(*wide, -1)
    bias = self.param('bias', nn.initializers.zeros, x.shape[-1:]).reshape(*wide, -1)
    return (normal * scale + bias).astype(self.dtype or x.dtype)


class LayerNorm(nn.Module):
  """A normalisation of each example over all its positions and channels, with a trained gain and shift of each channel.

  It suits critics with a penalty on their slope, since no example depends on another.

  Reference: Ba et al. 2016, arXiv:1607.06450, equation 4; Gulrajani et al. 2017, arXiv:1704.00028, section 4.
  """

  epsilon: float = 1e-5
  dtype: jnp.dtype | str | None = None

  @nn.compact
  def __call__(self, x: Float[Array, 'B *S C']) -> Float[Array, 'B *S C']:
    h = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    axes, wide = tuple(range(1, x.ndim)), (1,) * (x.ndim - 1)
    scale = self.param('scale', nn.initializers.ones, x.shape[-1:]).reshape(*wide, -1)
    bias = self.param('bias', nn.initializers.zeros, x.shape[-1:]).reshape(*wide, -1)
    centred = h - h.mean(axes, keepdims=True)
    factor = jax.lax.rsqrt(h.var(axes, keepdims=True) + self.epsilon)
    return (centred * factor * scale + bias).astype(self.dtype or x.dtype)


def directions(key: Array, params: dict, free: tuple[str, ...] = ()) -> dict:
  """Returns random unit vectors, the initial state of `spectral`: [outputs] for each kernel of the parameters.

  Layers whose names are in `free` have none, so that their kernels stay as they are.
  """
  leaves: dict[Any, Any] = flatten_dict(params)
  kernels = {path: leaf for path, leaf in leaves.items() if path[-1] == 'kernel' and not set(path) & set(free)}
  keys = jax.random.split(key, len(kernels))
  return unflatten_dict(
    {path: _unit(jax.random.normal(k, leaf.shape[-1:])) for k, (path, leaf) in zip(keys, kernels.items(), strict=True)}
  )


def spectral(params: dict, directions: dict, bound: float, steps: int = 1) -> tuple[dict, dict]:
  """Scales every kernel [..., outputs] so that its largest singular value, as a matrix, is `bound`.

  The value is estimated by `steps` steps of the power method from `directions`, which have no gradient.

  Returns:
    the parameters, and the directions for the next step.

  Reference: Miyato et al. 2018, arXiv:1802.05957, equations 8 to 11 and algorithm 1.
  """
  scaled: dict[Any, Any] = flatten_dict(params)
  rights = {}
  for path, direction in flatten_dict(directions).items():
    kernel = scaled[path].reshape(-1, scaled[path].shape[-1])
    kernel = kernel.astype(jnp.promote_types(kernel.dtype, jnp.float32))
    constant, right = jax.lax.stop_gradient(kernel), direction
    for _ in range(steps):
      left = _unit(constant @ right)
      right = _unit(left @ constant)
    rights[path] = right
    largest = jnp.maximum(left @ kernel @ right, SMALL)
    scaled[path] = (scaled[path] * (bound / largest)).astype(scaled[path].dtype)
  return unflatten_dict(scaled), unflatten_dict(rights)


def _unit(vector: Array) -> Array:
  return vector * jax.lax.rsqrt(jnp.maximum(jnp.square(vector).sum(), SMALL**2))
