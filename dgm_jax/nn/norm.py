"""Normalisation by the batch, by a reference batch, and by the example; and of weights.

Axes: B batch, R reference examples, ... positions, C channels.
"""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Array, Float

__all__ = ['BatchNorm', 'LayerNorm', 'VirtualBatchNorm', 'directions', 'running', 'spectral']


SMALL = 1e-12  # beneath a norm that may be zero


class BatchNorm(nn.Module):
  """Normalises by the batch where the collection 'batch_stats' may be written, and writes what it has seen there.

  Where it is only read, what is read is used. No average is kept here: a layer that is evaluated twice in one step,
  to recompute activations, must not be counted twice.

  Reference: Ioffe & Szegedy 2015, arXiv:1502.03167, algorithm 1.
  """

  epsilon: float = 1e-5
  scale: bool = True
  scale_init: Callable = nn.initializers.ones
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
      factor = factor * self.param('scale', self.scale_init, features)
    bias = self.param('bias', nn.initializers.zeros, features)
    wide = lambda values: values.reshape(*[1] * (x.ndim - 1), -1)
    y = (seen - wide(mean.value)) * wide(factor) + wide(bias)
    return y.astype(self.dtype or x.dtype)


def running(old: dict, seen: dict, momentum: float) -> dict:
  """The moving average of statistics after one more batch: momentum old + (1 - momentum) seen."""
  return jax.tree.map(lambda a, b: momentum * a + (1 - momentum) * b.astype(a.dtype), old, seen)


class VirtualBatchNorm(nn.Module):
  """Normalises each example by the statistics of R reference examples and itself: no example sees its neighbours.

  The first R rows are the reference; they are normalised by their own statistics, as a batch of their own.

  Reference: Salimans et al. 2016, arXiv:1606.03498, section 3.5.
  """

  references: int
  epsilon: float = 1e-5
  scale_init: Callable = nn.initializers.ones
  dtype: jnp.dtype | str | None = None

  @nn.compact
  def __call__(self, x: Float[Array, 'B *S C']) -> Float[Array, 'B *S C']:
    count, wide = self.references, (1,) * (x.ndim - 1)
    seen = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    reference, live = seen[:count], seen[count:]
    mean = reference.mean(tuple(range(x.ndim - 1)), keepdims=True)
    variance = reference.var(tuple(range(x.ndim - 1)), keepdims=True)
    # Moments about the reference's mean: the difference of raw ones would cancel.
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
  """Normalises each example over all its positions and channels; gain and shift of each channel are learned.

  Fit for critics with a penalty on their slope, since no example sees another.

  Reference: Ba et al. 2016, arXiv:1607.06450, equation 4; Gulrajani et al. 2017, arXiv:1704.00028, section 4.
  """

  epsilon: float = 1e-5
  dtype: jnp.dtype | str | None = None

  @nn.compact
  def __call__(self, x: Float[Array, 'B *S C']) -> Float[Array, 'B *S C']:
    seen = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    axes, wide = tuple(range(1, x.ndim)), (1,) * (x.ndim - 1)
    scale = self.param('scale', nn.initializers.ones, x.shape[-1:]).reshape(*wide, -1)
    bias = self.param('bias', nn.initializers.zeros, x.shape[-1:]).reshape(*wide, -1)
    centred = seen - seen.mean(axes, keepdims=True)
    factor = jax.lax.rsqrt(seen.var(axes, keepdims=True) + self.epsilon)
    return (centred * factor * scale + bias).astype(self.dtype or x.dtype)


def directions(key: Array, params: dict) -> dict:
  """Random unit vectors, [outputs] for each kernel of a network's parameters, that `spectral` starts from."""
  kernels = {path: leaf for path, leaf in flatten_dict(params).items() if path[-1] == 'kernel'}
  keys = jax.random.split(key, len(kernels))
  return unflatten_dict(
    {path: _unit(jax.random.normal(k, leaf.shape[-1:])) for k, (path, leaf) in zip(keys, kernels.items(), strict=True)}
  )


def spectral(params: dict, directions: dict, bound: float) -> tuple[dict, dict]:
  """Scales every kernel [..., outputs] so that its largest singular value, as a matrix, is `bound`.

  The value is estimated by one turn of the power method from `directions`, through which no gradient passes.

  Returns:
    the parameters, and the directions for the next step.

  Reference: Miyato et al. 2018, arXiv:1802.05957, equations 8 to 11 and algorithm 1.
  """
  scaled, found = flatten_dict(params), {}
  for path, direction in flatten_dict(directions).items():
    kernel = scaled[path].reshape(-1, scaled[path].shape[-1]).astype(jnp.float32)
    constant = jax.lax.stop_gradient(kernel)
    left = _unit(constant @ direction)
    found[path] = _unit(left @ constant)
    largest = jnp.maximum(left @ kernel @ found[path], SMALL)
    scaled[path] = (scaled[path] * (bound / largest)).astype(scaled[path].dtype)
  return unflatten_dict(scaled), unflatten_dict(found)


def _unit(vector: Array) -> Array:
  return vector * jax.lax.rsqrt(jnp.maximum(jnp.square(vector).sum(), SMALL**2))
