"""Objectives as pure functions of arrays: per example, in nats, float32; nothing here imports flax."""

from dgm_jax.losses.likelihood import bits_per_dim, dequantize
from dgm_jax.losses.variational import active_units, beta_elbo, elbo, free_bits, importance_weighted_bound

__all__ = [
  'active_units',
  'beta_elbo',
  'bits_per_dim',
  'dequantize',
  'elbo',
  'free_bits',
  'importance_weighted_bound',
]
