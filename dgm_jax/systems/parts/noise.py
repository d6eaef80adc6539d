"""Latents of games, by name."""

import jax

from dgm_jax.core import Key

__all__ = ['PRIORS', 'normal', 'uniform', 'wide_uniform']


def uniform(key: Key, n: int, size: int) -> jax.Array:
  """Samples latents [n, size], uniform on (-1, 1)."""
  return jax.random.uniform(key, (n, size), minval=-1.0)


def normal(key: Key, n: int, size: int) -> jax.Array:
  """Samples latents [n, size], standard normal."""
  return jax.random.normal(key, (n, size))


def wide_uniform(key: Key, n: int, size: int) -> jax.Array:
  """Samples latents [n, size], uniform with unit variance."""
  return 3**0.5 * uniform(key, n, size)


PRIORS = {'uniform': uniform, 'normal': normal, 'wide_uniform': wide_uniform}
