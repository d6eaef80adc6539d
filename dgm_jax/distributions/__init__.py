"""Log-densities, samplers, entropies and divergences as pure functions: `[..., event] -> [...]`, nats, float32.

The event is the last axis; images are flattened by the caller. Arguments may have axes of size 1 that broadcast, but
all of one call have one rank.
"""

from dgm_jax.distributions.discrete import (
  bernoulli_entropy,
  bernoulli_log_prob,
  bernoulli_sample,
  categorical_entropy,
  categorical_kl,
  categorical_log_prob,
  categorical_sample,
  gumbel_softmax_log_prob,
  gumbel_softmax_sample,
)
from dgm_jax.distributions.logistic import (
  LogisticMixture,
  discretized_logistic_log_prob,
  discretized_logistic_sample,
  logistic_entropy,
  logistic_log_prob,
  logistic_mixture_log_prob,
  logistic_mixture_sample,
  logistic_mixture_split,
  logistic_sample,
)
from dgm_jax.distributions.normal import (
  discretized_normal_log_prob,
  gaussian_kl,
  gaussian_kl_per_dim,
  gaussian_kl_standard,
  gaussian_kl_standard_per_dim,
  multivariate_normal_entropy,
  multivariate_normal_log_prob,
  multivariate_normal_sample,
  normal_entropy,
  normal_log_prob,
  normal_mixture_log_prob,
  normal_mixture_sample,
  normal_sample,
  standard_normal_log_prob,
)

__all__ = [
  'LogisticMixture',
  'bernoulli_entropy',
  'bernoulli_log_prob',
  'bernoulli_sample',
  'categorical_entropy',
  'categorical_kl',
  'categorical_log_prob',
  'categorical_sample',
  'discretized_logistic_log_prob',
  'discretized_logistic_sample',
  'discretized_normal_log_prob',
  'gaussian_kl',
  'gaussian_kl_per_dim',
  'gaussian_kl_standard',
  'gaussian_kl_standard_per_dim',
  'gumbel_softmax_log_prob',
  'gumbel_softmax_sample',
  'logistic_entropy',
  'logistic_log_prob',
  'logistic_mixture_log_prob',
  'logistic_mixture_sample',
  'logistic_mixture_split',
  'logistic_sample',
  'multivariate_normal_entropy',
  'multivariate_normal_log_prob',
  'multivariate_normal_sample',
  'normal_entropy',
  'normal_log_prob',
  'normal_mixture_log_prob',
  'normal_mixture_sample',
  'normal_sample',
  'standard_normal_log_prob',
]
