"""Draws of given classes, at a temperature, and the best of several by a classifier."""

import math

import jax
import numpy as np

from dgm_jax import config as experiment
from dgm_jax.data import preprocess
from dgm_jax.evals import generated
from dgm_jax.runs.subject import Subject
from dgm_jax.views import require

__all__ = ['draw']


def draw(
  seed: int, subject: Subject, n: int, label: int | None = None, temperature: float = 1.0, best_of: int = 1,
  judge: str = '',
) -> np.ndarray:  # fmt: skip
  """Draws images of a class, or of all in turn by rows of a grid, [n, H, W, C] in data space.

  Args:
    seed: of the noise.
    subject: with the view `draw(key, state, n, labels, temperature)`.
    n: how many.
    label: their class; None for all in turn.
    temperature: below 1, likely images become likelier.
    best_of: number of draws of each image. The one is kept whose class has the greatest probability by the judge.
      If the system has no classes, it is the one with the judge's greatest probability of any class.
    judge: a classifier's workdir; '' for config.judge.

  Raises:
    UserError: the system has no such view, no labels or no such label, or there is no judge.
  """
  config, view = subject.config, subject.system.views.draw
  classes = config.model.get('classes', 0) if config.conditional else 0
  require(subject.system, config.system, ('draw',), 'a choice by --class, --temperature or --best_of')
  experiment.require(
    label is None or 0 <= label < classes,
    f'--class={label}: the run is told {f"labels from 0 to {classes - 1}" if classes else "no labels"}',
  )
  rows = np.arange(n, dtype='i4') // math.ceil(math.sqrt(n)) % max(classes, 1)
  labels = rows if label is None else np.full(n, label, 'i4')
  program = jax.jit(lambda key, state, labels: view(key, state, n, labels if classes else None, temperature))
  key = jax.random.key(seed)
  if best_of == 1:
    return np.asarray(program(key, subject.state, labels))
  seer = generated.judge_of(config, judge)
  pixels = preprocess.pixels(config.data)
  sure = jax.jit(lambda state, x: jax.nn.softmax(seer.see(state, pixels(x))[0]))
  kept, best = None, np.full(n, -1.0)
  for turn in range(best_of):
    x = program(jax.random.fold_in(key, turn), subject.state, labels)
    p = np.asarray(sure(seer.state, x))
    value = p[np.arange(n), labels] if classes else p.max(1)
    better = value > best
    kept = np.asarray(x) if kept is None else np.where(better[:, None, None, None], x, kept)
    best = np.maximum(best, value)
  return kept
