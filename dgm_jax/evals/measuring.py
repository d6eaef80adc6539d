"""Measurements by name, as experiments and command lines list them."""

from collections.abc import Callable

from dgm_jax import config as experiment
from dgm_jax import views
from dgm_jax.runs.subject import Subject

__all__ = ['find', 'measure']


def find(subject: Subject, names: tuple[str, ...]) -> dict[str, Callable]:
  """Finds the named functions of `dgm_jax.evals`.

  Raises:
    UserError: there is no such function, or the system lacks a view that it needs.
  """
  functions = {name: experiment.by_path('dgm_jax.evals', name) for name in names}
  for name, function in functions.items():
    views.require(subject.system, subject.config.system, function.needs, name)
  return functions


def measure(subject: Subject, names: tuple[str, ...]) -> dict:
  """Returns all figures that the named functions of `dgm_jax.evals` give for a subject.

  Raises:
    UserError: as `find`, or a measurement lacks something.
  """
  metrics = {}
  for function in find(subject, names).values():
    metrics |= function(subject.config.seed, subject)
  return metrics
