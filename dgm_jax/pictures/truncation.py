"""Samples of a generator whose latents are truncated more and more, with statistics settled at each truncation.

Reference: Brock et al. 2019, arXiv:1809.11096, section 3.1 and figure 2.
"""

import math

import jax
import numpy as np

from dgm_jax.core import Key, State, System
from dgm_jax.evals import standing
from dgm_jax.views import needs

__all__ = ['BOUNDS', 'truncations']

BOUNDS = (math.inf, 2.0, 1.0, 0.5, 0.04)


@needs('settle', 'draw')
def truncations(key: Key, system: System, state: State, columns: int = 10) -> np.ndarray:
  """Samples a row of `columns` images for each of BOUNDS, in data space: [rows columns, ...].

  A column has the same random numbers and, where the system is told labels, the same class.
  """
  labels = np.arange(columns, dtype='i4') % count if (count := _classes(system, key, state)) else None
  program = jax.jit(system.views.draw, static_argnums=2, out_shardings=state.step.sharding)
  rows = []
  for bound in BOUNDS:
    settled = standing.settled_state(key, system, state, standing.BATCHES, bound)
    rows.append(np.asarray(program(key, settled, columns, labels)))
  return np.concatenate(rows)


def _classes(system: System, key: Key, state: State) -> int:
  """Returns the number of classes of a system, 0 if it is told no labels."""
  if system.views.classes is None:
    return 0
  return jax.eval_shape(lambda key, state: system.views.classes(key, state, 1), key, state).shape[0]
