"""Linear-Gaussian encoder and decoders: the smallest autoencoder whose latents can be unused.

Axes: B batch, D dimensions, Z latents.
"""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

__all__ = ['DECODERS', 'DiagonalDecoder', 'FullDecoder', 'LinearEncoder', 'small']

small = nn.initializers.normal(0.1)


class LinearEncoder(nn.Module):
  """The posterior q(z|x) = N(V x + v, diag s): the mean is linear in x, the variances are the same for all x."""

  latents: int

  @nn.compact
  def __call__(self, x: Float[Array, 'B D']) -> tuple[Float[Array, 'B Z'], Float[Array, 'B Z']]:
    """Computes mean and log-variance."""
    mean = nn.Dense(self.latents, kernel_init=small)(x)
    return mean, jnp.broadcast_to(self.param('logvar', nn.initializers.zeros, (self.latents,)), mean.shape)


class DiagonalDecoder(nn.Module):
  """The likelihood p(x|z) = N(W z + mean, diag): given z, the dimensions are independent."""

  dims: int

  @nn.compact
  def __call__(self, z: Float[Array, '*B Z']) -> tuple[Float[Array, '*B D'], Float[Array, 'D D']]:
    """Computes the mean, and the lower triangular factor L of the covariance L L^T."""
    mean = nn.Dense(self.dims, kernel_init=small, name='mean')(z)
    return mean, jnp.diag(jnp.exp(self.param('log_std', nn.initializers.zeros, (self.dims,))))


class FullDecoder(nn.Module):
  """The likelihood p(x|z) = N(W z + mean, L L^T), which can represent dependent dimensions without z."""

  dims: int

  @nn.compact
  def __call__(self, z: Float[Array, '*B Z']) -> tuple[Float[Array, '*B D'], Float[Array, 'D D']]:
    """Computes the mean, and the lower triangular factor L of the covariance L L^T."""
    mean = nn.Dense(self.dims, kernel_init=small, name='mean')(z)
    below = jnp.tril(self.param('below', nn.initializers.zeros, (self.dims, self.dims)), -1)
    log_std = self.param('log_std', nn.initializers.zeros, (self.dims,))
    # Each row is in units of its own scale, so that gradients have one magnitude.
    return mean, jnp.exp(log_std)[:, None] * (below + jnp.eye(self.dims))


DECODERS = {'diagonal': DiagonalDecoder, 'full': FullDecoder}
