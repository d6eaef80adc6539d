"""Samples as a user asks for them: of a class, at a temperature, truncated, the best of several."""

import jax

from dgm_jax import config as experiment
from dgm_jax.evals import rejection, standing
from dgm_jax.runs.subject import Subject
from dgm_jax.views import find

__all__ = ['draw', 'settle']


def settle(seed: int, subject: Subject, statistics: str = '', truncation: float | None = None) -> Subject:
  """Returns the run with the batch statistics and the truncation of latents that its samples shall have.

  Args:
    seed: of the latents.
    subject: the run.
    statistics: 'standing' or 'running'; '' for what the config says.
    truncation: greatest latent, > 0; None for none. The factor of styles is left to `draw`.

  Raises:
    UserError: as `standing.chosen`.
  """
  return standing.chosen(seed, subject, statistics, None if find(subject.system, 'truncated') else truncation)


def draw(
  seed: int, subject: Subject, n: int, label: int | None = None, temperature: float = 1.0,
  truncation: float | None = None, best_of: int = 1, judge: str = '',
) -> jax.Array:  # fmt: skip
  """Draws examples from a run that `settle` has returned, [n, ...] in data space.

  Args:
    seed: of the noise.
    subject: the run.
    n: how many.
    label: their class; None for the shares of the training set.
    temperature: of the distributions that are drawn from.
    truncation: the factor of styles, for systems with the view `truncated`; None for none.
    best_of: draws for each image, of which the judge keeps one.
    judge: a classifier's workdir; '' for config.judge.

  Raises:
    UserError: the system cannot draw so.
  """
  by_class = label is not None or temperature != 1 or best_of > 1
  if truncation is not None and find(subject.system, 'truncated'):
    experiment.require(not by_class, '--truncation goes with none of --class, --temperature and --best_of')
    experiment.within('--truncation', truncation, '(-inf, inf)')
    view = jax.jit(subject.system.views.truncated, static_argnums=2)
    return view(jax.random.key(seed), subject.state, n, truncation)
  if by_class:
    return rejection.draw(seed, subject, n, label, temperature, best_of, judge)
  return jax.jit(subject.system.sample, static_argnums=2)(jax.random.key(seed), subject.state, n)
