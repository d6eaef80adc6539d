"""Expectation maximisation for mixtures of normals: mean field whose factor over the parameters is a point.

Axes: N examples, D dimensions, K components.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from dgm_jax.classical.mixture import Mixture, Responsibilities, Structure, natural, respond, split

__all__ = ['fit', 'maximise']


def maximise(structure: Structure, statistics: Responsibilities, dims: int, regularization: float = 0.0) -> Mixture:
  """Computes the M-step: argmax over the parameters of E_q log p(x, z | parameters).

  Args:
    structure: the family of covariances.
    statistics: those of the E-step.
    dims: D.
    regularization: added to every variance; with 0 the likelihood never falls.

  Reference: Bishop 2006, Pattern Recognition and Machine Learning, equations 9.24 to 9.26.
  """
  counts, means, covariances = split(structure, statistics.sums, dims)
  covariances = structure.regularize(structure.share(counts, covariances), regularization)
  return Mixture(counts / counts.sum(), means, covariances)


def step(
  structure: Structure, x: jax.Array, mixture: Mixture, regularization: float = 0.0
) -> tuple[Mixture, jax.Array]:
  """Computes one E-step and one M-step; also returns the log-likelihood in nats, [], of the mixture before them."""
  statistics, log_likelihood = respond(structure, natural(structure, mixture), x)
  return maximise(structure, statistics, x.shape[1], regularization), log_likelihood


def fit(
  structure: Structure,
  x: jax.Array,
  start: Mixture,
  steps: int,
  tolerance: float = 0.0,
  regularization: float = 0.0,
) -> tuple[Mixture, jax.Array]:
  """Runs EM until a step gains no more than `tolerance` nats an example, in one compiled loop.

  Args:
    structure: the family of covariances.
    x: [N, D].
    start: the initial mixture.
    steps: most steps.
    tolerance: nats an example; if negative, all steps are run.
    regularization: added to every variance in each M-step.

  Returns:
    the mixture, and [steps] the mean log-likelihood in nats of the mixture before each step, NaN for steps that did not
    run.

  Reference: Dempster et al. 1977, Maximum likelihood from incomplete data via the EM algorithm; Bishop 2006, Pattern
  Recognition and Machine Learning, section 9.2.2.
  """
  centre = x.mean(0, keepdims=True)
  centred = start._replace(means=start.means - centre)
  one = lambda mixture: step(structure, x - centre, mixture, regularization)
  mixture, trace = _loop(one, centred, steps, tolerance * x.shape[0])
  return mixture._replace(means=mixture.means + centre), trace / x.shape[0]


def _loop(one: Callable, start, steps: int, tolerance: float):
  """Applies `one(parameters) -> (parameters, log-likelihood)` while it gains; the trace is that of its arguments."""
  kind = jax.eval_shape(one, start)[1].dtype

  def body(carry):
    parameters, trace, i, last, _ = carry
    parameters, value = one(parameters)
    return parameters, trace.at[i].set(value), i + 1, value, value - last

  low = jnp.asarray(-jnp.inf, kind)
  carry = (start, jnp.full(steps, jnp.nan, kind), jnp.zeros((), jnp.int32), low, -low)
  parameters, trace, *_ = jax.lax.while_loop(lambda c: (c[2] < steps) & (c[4] > tolerance), body, carry)
  return parameters, trace
