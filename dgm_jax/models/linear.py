"""Linear-Gaussian encoder and decoder: the smallest autoencoder in which latents can be left unused.

Axes: B batch, D dimensions, Z latents.
"""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

__all__ = ['DECODERS', 'DiagonalDecoder', 'FullDecoder', 'LinearEncoder', 'small']

small = nn.initializers.normal(0.1)


class LinearEncoder(nn.Module):
  """q(z|x) = N(V x + v, diag s): the mean linear in x, the variances the same for all x."""

  latents: int

  @nn.compact
  def __call__(self, x: Float[Array, 'B D']) -> tuple[Float[Array, 'B Z'], Float[Array, 'B Z']]:
    """Mean and log-variance."""
    mean = nn.Dense(self.latents, kernel_init=small)(x)
    return mean, jnp.broadcast_to(self.param('logvar', nn.initializers.zeros, (self.latents,)), mean.shape)


class DiagonalDecoder(nn.Module):
  """p(x|z) = N(W z + mean, diag): given z, the dimensions are independent."""

  dims: int

  @nn.compact
  def __call__(self, z: Float[Array, '*B Z']) -> tuple[Float[Array, '*B D'], Float[Array, 'D D']]:
    """Mean, and the lower triangular factor L of the covariance L L^T."""
    mean = nn.Dense(self.dims, kernel_init=small, name='mean')(z)
    return mean, jnp.diag(jnp.exp(self.param('log_std', nn.initializers.zeros, (self.dims,))))


class FullDecoder(nn.Module):
  """p(x|z) = N(W z + mean, L L^T): can represent the dependence of the dimensions without z."""

  dims: int

  @nn.compact
  def __call__(self, z: Float[Array, '*B Z']) -> tuple[Float[Array, '*B D'], Float[Array, 'D D']]:
    """Mean, and the lower triangular factor L of the covariance L L^T."""
    mean = nn.Dense(self.dims, kernel_init=small, name='mean')(z)
    below = jnp.tril(self.param('below', nn.initializers.zeros, (self.dims, self.dims)), -1)
    log_std = self.param('log_std', nn.initializers.zeros, (self.dims,))
    # Each row in units of its own scale: the gradients are then of one size.
    return mean, jnp.exp(log_std)[:, None] * (below + jnp.eye(self.dims))


DECODERS = {'diagonal': DiagonalDecoder, 'full': FullDecoder}
