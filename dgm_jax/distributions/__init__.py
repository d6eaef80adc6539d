"""Log-densities, samplers, entropies and divergences as pure functions: `[..., event] -> [...]`, nats, float32.

The event is the last axis; images are flattened by the caller. Arguments may have axes of size 1 that
broadcast, but all of one call have one rank.
"""

from dgm_jax.distributions.discrete import bernoulli_log_prob
from dgm_jax.distributions.logistic import discretized_logistic_log_prob
from dgm_jax.distributions.normal import (
  gaussian_kl,
  gaussian_kl_per_dim,
  gaussian_kl_standard,
  gaussian_kl_standard_per_dim,
  normal_entropy,
  normal_log_prob,
  normal_sample,
  standard_normal_log_prob,
)

__all__ = [
  'bernoulli_log_prob',
  'discretized_logistic_log_prob',
  'gaussian_kl',
  'gaussian_kl_per_dim',
  'gaussian_kl_standard',
  'gaussian_kl_standard_per_dim',
  'normal_entropy',
  'normal_log_prob',
  'normal_sample',
  'standard_normal_log_prob',
]
