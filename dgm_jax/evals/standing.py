"""What is estimated anew before a run is measured or sampled: batch statistics of generators, normalizers of priors.

Latents may be truncated when batch statistics are taken.
"""

import math

import jax
import numpy as np

from dgm_jax import config as experiment
from dgm_jax.core import Key, State, System
from dgm_jax.runs.subject import Subject
from dgm_jax.views import require

__all__ = ['BATCHES', 'chosen', 'normalized', 'settled', 'settled_state']

BATCHES = 16
STREAM = 2**31  # of keys that no chunk of samples has, so that samples are no examples of their statistics


def settled(seed: int, subject: Subject) -> Subject:
  """Returns the run with statistics of `config.model.standing` batches; unchanged if there are none."""
  batches = subject.config.model.get('standing', 0)
  if not batches or not subject.system.views.settle:
    return subject
  return subject._replace(state=settled_state(_key(seed), subject.system, subject.state, batches))


def settled_state(key: Key, system: System, state: State, batches: int, truncation: float = math.inf) -> State:
  """Returns the state whose batch statistics are means over so many batches, sampled at a truncation from then on."""
  program = jax.jit(system.views.settle, out_shardings=state.step.sharding)
  for number in range(batches):
    state = program(jax.random.fold_in(key, number), state, np.int32(number), np.float32(truncation))
  return state


def chosen(seed: int, subject: Subject, statistics: str, truncation: float | None) -> Subject:
  """Returns the run as a command line asks to sample it.

  Args:
    seed: of the latents.
    subject: the run.
    statistics: 'standing' or 'running'; '' for what the config says.
    truncation: greatest latent, > 0; None for none.

  Raises:
    UserError: the system cannot settle statistics, or latents are to be truncated without settled ones.
  """
  if truncation is None and statistics != 'standing':
    return subject if statistics else settled(seed, subject)
  called = subject.config.system
  require(subject.system, called, ('settle',), '--truncation or --statistics=standing')
  if truncation is not None:
    experiment.within('--truncation', truncation, '(0, inf)')
  experiment.require(
    statistics != 'running',
    f'--truncation={truncation} needs batch statistics that are settled at it: leave out --statistics=running',
  )
  batches = subject.config.model.get('standing', 0) or BATCHES
  bound = math.inf if truncation is None else truncation
  return subject._replace(state=settled_state(_key(seed), subject.system, subject.state, batches, bound))


def normalized(seed: int, system: System, state: State) -> State:
  """Returns the state with the log-normalizer of the prior estimated anew, or unchanged if it is known."""
  if not system.views.normalizer:
    return state
  entries = jax.jit(system.views.normalizer, out_shardings=state.step.sharding)(_key(seed), state)
  return state.replace(extra=state.extra | entries)


def _key(seed: int) -> Key:
  return jax.random.fold_in(jax.random.key(seed), STREAM)
