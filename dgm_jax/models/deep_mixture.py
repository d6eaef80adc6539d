"""Deep Gaussian mixtures: layers of mixtures, each component an affine map.

Axes: B batch, D dimensions, K components of a layer, P paths through the layers.
"""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dgm_jax.internal import matrices

__all__ = ['DeepMixture']


class DeepMixture(nn.Module):
  """A standard normal variable mapped by one of K affine maps a layer, from the top down to the data.

  The parameters are those of the inverse maps, from the data upwards: u = kernel x + bias. Each path is a normal
  distribution, and the prod K of them share the layers' parameters.

  Reference: van den Oord & Schrauwen 2014, Factoring variations in natural images with deep Gaussian mixture models.
  """

  components: Sequence[int]  # of each layer, the one next to the data first
  dims: int

  def setup(self):
    shapes = [(size, self.dims) for size in self.components]
    self.kernels = [self.param(f'kernel_{i}', _near_identity, (*shape, self.dims)) for i, shape in enumerate(shapes)]
    normal = nn.initializers.normal(0.5)
    self.biases = [self.param(f'bias_{i}', normal, shape) for i, shape in enumerate(shapes)]
    self.logits = [self.param(f'logits_{i}', nn.initializers.zeros, shape[:1]) for i, shape in enumerate(shapes)]

  def __call__(self, x: Float[Array, 'B D']) -> tuple[Float[Array, 'B P D'], Float[Array, ' P']]:
    """Maps x to the top of every path, and returns the paths' log-weights with their log-determinants, in nats.

    The density of x is the sum over the paths of exp(log-weight) N(top; 0, I).
    """
    tops, log_weights = x[:, None], jnp.zeros(1, x.dtype)
    for kernel, bias, logits in zip(self.kernels, self.biases, self.logits, strict=True):
      tops = jnp.einsum('bpd,ked->bpke', tops, kernel, precision='highest') + bias[None, None]
      tops = tops.reshape(x.shape[0], -1, self.dims)
      own = jax.nn.log_softmax(logits) + matrices.each(lambda k: jnp.linalg.slogdet(k)[1], kernel)
      log_weights = (log_weights[:, None] + own[None]).reshape(-1)
    return tops, log_weights

  def generate(self, top: Float[Array, 'B D'], path: Sequence[Int[Array, ' B']]) -> Float[Array, 'B D']:
    """Maps a normal variable `top` to data along a path, one component a layer, the data's layer first."""
    layers = list(zip(self.kernels, self.biases, path, strict=True))
    for kernel, bias, component in layers[::-1]:
      inverses = matrices.each(jnp.linalg.inv, kernel)[component]
      top = jnp.einsum('bed,bd->be', inverses, top - bias[component], precision='highest')
    return top

  def weights(self) -> list[Float[Array, ' K']]:
    """Returns the logits of every layer's components, the data's layer first."""
    return list(self.logits)


def _near_identity(key: Array, shape: tuple[int, int, int], dtype=jnp.float32) -> Array:
  noise = jax.random.normal(key, shape, dtype) * 0.1 / shape[-1] ** 0.5
  return jnp.eye(shape[-1], dtype=dtype)[None] + noise
