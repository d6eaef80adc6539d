"""What the number of steps and the variance of the reverse kernel cost a diffusion model of normal data.

The mean of each reverse step is the true one, and so is all of the first step.
"""

import math
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from dgm_jax import distributions, losses
from dgm_jax.losses import DiffusionSchedule
from dgm_jax.pages.topics.page import Figures, Row, Topic

__all__ = ['diffusion']

VARIANCE = 0.25  # of the data
STEPS = (10, 30, 100, 300, 1000)
KINDS = {'forward': 'beta_t', 'optimal': 'that of q(x_{t-1}|x_t)', 'posterior': 'that of q(x_{t-1}|x_t, x_0)'}
DECADES = ((2, 10), (10, 100), (100, 1001))
SCHEDULES = ('fraction', 'linear', 'cosine')
NODES, WEIGHTS = np.array([-math.sqrt(3), 0.0, math.sqrt(3)]), np.array([1, 4, 1]) / 6  # exact for squares


def diffusion() -> Topic:
  """Compares the bound of normal data with their entropy, by the number of steps and the choice of variance."""
  rows = [Row('data N(0, 1), variance beta_t, T = 10: the entropy', entropy(1.0), measured(10, 1.0, 'forward'), 2e-6)]
  excess = {kind: [predicted(steps, VARIANCE, kind) - entropy(VARIANCE) for steps in STEPS] for kind in KINDS}
  for kind, steps in (('forward', 10), ('forward', 1000), ('optimal', 10), ('posterior', 1000)):
    above = measured(steps, VARIANCE, kind) - entropy(VARIANCE)
    name = f'data N(0, {VARIANCE}), variance {KINDS[kind]}, T = {steps}: above the entropy'
    rows.append(Row(name, excess[kind][STEPS.index(steps)], above, 1e-6 + 2e-8 * steps))
  table = [[str(steps), *(excess[kind][i] for kind in KINDS)] for i, steps in enumerate(STEPS)]
  spent = {name: by_step(losses.diffusion_schedule(1000, name=name)) for name in SCHEDULES}
  shares = [[name, *(float(nats[low:high].sum()) for low, high in DECADES)] for name, nats in spent.items()]
  return Topic(
    'Diffusion: what steps and variances cost',
    'Data of one normal, so that every reverse step has a closed form. With the variance beta_t of the forward kernel'
    ' the bound comes to the entropy as 1 / T, with the variance of q(x_{t-1}|x_t) faster. With that of'
    ' q(x_{t-1}|x_t, x_0), right for data of a single point, it does not: each step is too narrow by a part that does'
    ' not fall with T.'
    ' Of a thousand steps the first few cost most, by every schedule: step t costs about 1 / (2 t) nats of a dimension'
    ' by 1 / linspace(T, 2, T), and about twice as much by the others.',
    rows=rows,
    figures=[
      Figures(f'nats above the entropy, data N(0, {VARIANCE}), schedule 1 / linspace(T, 2, T)', ('T', *KINDS), table),
      Figures('nats of the steps t of 1000 by their best kernel', ('schedule', '2-9', '10-99', '100-1000'), shares),
    ],
    charts={
      'nats above the entropy by log10 T': {
        kind: [(math.log10(steps), value) for steps, value in zip(STEPS, values, strict=True)]
        for kind, values in excess.items()
      },
      'nats of the steps up to t by log10 t': {
        name: [(math.log10(t), float(nats[: t + 1].sum())) for t in np.unique(np.geomspace(2, 1000, 40).astype(int))]
        for name, nats in spent.items()
      },
    },
  )


class Step(NamedTuple):
  """The true reverse step of normal data, for each t; entry 0 is none."""

  slope: np.ndarray  # of the mean of q(x_{t-1}|x_t) in x_t
  optimal: np.ndarray  # variance of q(x_{t-1}|x_t)
  posterior: np.ndarray  # variance of q(x_{t-1}|x_t, x_0)


def steps_of(schedule: DiffusionSchedule, variance: float) -> Step:
  """Computes the reverse steps of data N(0, variance), [T + 1] each."""
  beta, left = schedule.beta[1:], schedule.alpha_bar
  of = left * variance + 1 - left  # the variance of x_t
  slope = np.sqrt(1 - beta) * of[:-1] / of[1:]
  optimal, posterior = of[:-1] - slope**2 * of[1:], beta * (1 - left[:-1]) / (1 - left[1:])
  return Step(*(np.concatenate([[1.0], part]) for part in (slope, optimal, posterior)))


def chosen(schedule: DiffusionSchedule, step: Step, kind: str) -> np.ndarray:
  """Returns the variances of a kind, [T + 1]; that of the first step is the true one."""
  variances = {'forward': schedule.beta, 'optimal': step.optimal, 'posterior': step.posterior}[kind].copy()
  variances[:2] = step.optimal[:2]
  return variances


def entropy(variance: float) -> float:
  """Computes the entropy of N(0, variance) in nats."""
  return 0.5 * math.log(2 * math.pi * math.e * variance)


def predicted(steps: int, variance: float, kind: str) -> float:
  """Computes minus the bound in closed form, in nats."""
  schedule = losses.diffusion_schedule(steps, name='fraction')
  step, left = steps_of(schedule, variance), schedule.alpha_bar[-1]
  own = chosen(schedule, step, kind)[2:]
  inside = 0.5 * (np.log(own / step.posterior[2:]) + step.optimal[2:] / own - 1)
  prior = 0.5 * (left * variance - left - math.log1p(-left))
  return float(prior + inside.sum() + entropy(step.optimal[1]))


def by_step(schedule: DiffusionSchedule) -> np.ndarray:
  """Computes the divergence of each step by the best kernel for data N(0, 1), in nats; entries 0 and 1 are 0."""
  step = steps_of(schedule, 1.0)
  return np.concatenate([[0.0, 0.0], 0.5 * np.log(step.optimal[2:] / step.posterior[2:])])


def measured(steps: int, variance: float, kind: str) -> float:
  """Computes minus the bound by the functions of `losses`, its expectations by three points an axis, in nats."""
  schedule = losses.diffusion_schedule(steps, name='fraction')
  a, b = (axis.ravel() for axis in np.meshgrid(NODES, NODES, indexing='ij'))
  mass, n = np.outer(WEIGHTS, WEIGHTS).ravel(), len(a)
  t, rows = np.repeat(np.arange(1, steps + 1), n), lambda array: jnp.asarray(np.tile(array, steps), jnp.float32)
  step = steps_of(schedule, variance)
  x_0 = rows(math.sqrt(variance) * a)
  x_t = losses.diffusion(x_0, rows(b), jnp.asarray(t), schedule)
  mean = jnp.asarray(step.slope[t] * np.asarray(x_t, np.float64), jnp.float32)
  logvar = jnp.asarray(np.log(chosen(schedule, step, kind)[t]), jnp.float32)
  inside = losses.diffusion_divergence(x_0, x_t, jnp.asarray(t), mean, logvar, schedule)
  first = -distributions.normal_log_prob(x_0[:n, None], mean[:n, None], logvar[:n, None])
  prior = losses.diffusion_prior_divergence(x_0[:n], schedule)
  total = np.asarray(inside, np.float64).reshape(steps, n).sum(0) + np.asarray(first + prior, np.float64)
  return float(total @ mass)
