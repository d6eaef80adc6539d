"""What the latents of a variational autoencoder carry."""

import jax
import numpy as np

from dgm_jax import losses
from dgm_jax.evals import standing
from dgm_jax.evals.mean import per_example
from dgm_jax.runs.subject import Subject
from dgm_jax.views import needs

__all__ = ['units']


@needs('layers')
def units(seed: int, subject: Subject) -> dict[str, float | list[float]]:
  """Computes active units and the divergence of each dimension in nats, layer by layer from the data upwards.

  A unit is active if the variance over the split of its posterior mean exceeds 0.01. If the prior does not factorise,
  the divergence is one number for a layer.

  Reference: Burda et al. 2016, arXiv:1509.00519, section 5.2.
  """

  def layers(key, state, batch):
    measured = subject.system.views.layers(key, state, batch['x'])
    return {str(i): {'mean': mean, 'kl': kl} for i, (mean, kl) in enumerate(measured, 1)}

  run = per_example(layers, subject.split, subject.config, subject.mesh)
  measured = run(seed, standing.normalized(seed, subject.system, subject.state))
  results: dict[str, float | list[float]] = {}
  for level, arrays in measured.items():
    suffix = f'_layer_{level}' if len(measured) > 1 else ''
    results[f'active_units{suffix}'] = float(jax.jit(losses.active_units)(arrays['mean']))
    kl = arrays['kl'].mean(0, dtype=np.float64)
    results[f'kl_per_dimension_nats{suffix}'] = sorted(map(float, kl), reverse=True)
  return results
