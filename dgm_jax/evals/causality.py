"""Whether a trained autoregressive network looks ahead: a likelihood that is too good may be a leak."""

import math

import jax
import numpy as np

from dgm_jax.evals import mean
from dgm_jax.runs.subject import Subject
from dgm_jax.views import needs

__all__ = ['causality']


@needs('causality')
def causality(seed: int, subject: Subject) -> dict[str, float]:
  """Measures the largest gradient of the outputs up to each variable by any input from that variable on.

  It is exactly zero if the model is causal. Every variable of an image is taken in turn, each on another image of the
  split.
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
  return {'gradient_by_later_pixels': worst['later'], 'gradient_by_earlier_pixels': worst['earlier']}
