"""Whether a trained autoregressive network looks ahead: a likelihood that is too good may be a leak."""

import math

import jax
import numpy as np

from dgm_jax.evals import mean
from dgm_jax.runs.subject import Subject
from dgm_jax.views import needs

__all__ = ['causality', 'prior']

EXAMPLES = 4  # of the prior's latents: a Jacobian each


@needs('causality')
def causality(seed: int, subject: Subject) -> dict[str, float]:
  """Measures the largest gradient of the outputs up to each variable by any input from that variable on.

  It is exactly zero if the model is causal. Every variable of an image is taken in turn, each on another image of the
  split. What `prior` measures is added if the latents have an autoregressive prior.
  """
  config, view, gradients = subject.config, jax.jit(subject.system.views.causality), []
  variables = math.prod(config.data.shape)
  images = mean.images(subject.split, config, variables)
  labels = subject.split.arrays.get('y', np.zeros(len(images), np.int32))[: len(images)]
  batch = min(config.eval_batch_size, variables)
  for start in range(0, variables, batch):
    first = np.arange(start, start + batch, dtype=np.int32)
    row, key = first % len(images), jax.random.fold_in(jax.random.key(seed), start)
    gradients.append(jax.device_get(view(key, subject.state, images[row], first, labels[row])))
  worst = {name: float(max(part[name].max() for part in gradients)) for name in ('later', 'earlier')}
  measured = {'gradient_by_later_pixels': worst['later'], 'gradient_by_earlier_pixels': worst['earlier']}
  return measured | (prior(seed, subject) if subject.system.views.prior_leak else {})


@needs('prior_leak')
def prior(seed: int, subject: Subject) -> dict[str, float]:
  """Measures whether the prior of the latents is a density, at latents of a few images.

  `prior_log_det_error_nats` of a flow is the largest difference of its log-determinant from that of its Jacobian by
  automatic differentiation: so much is its density wrong. It is rounding. `prior_gradient_by_later_latents` of a
  network that draws a map of latents is the largest gradient at a position by any from that position on. It is exactly
  zero.
  """
  x = mean.images(subject.split, subject.config, min(EXAMPLES, subject.split.size))
  measured = jax.device_get(jax.jit(subject.system.views.prior_leak)(jax.random.key(seed), subject.state, x))
  return {f'prior_{name}': float(np.abs(values).max()) for name, values in measured.items()}
