"""Diffusion models: schedules of noise, the forward process, its posterior, and the terms of the bound.

The data are x_0, step t = 1 ... T adds noise to x_{t-1}, and alpha_t = 1 - beta_t. A bound is the divergence of x_T
from its prior, those of steps T ... 2, and -log p(x_0|x_1). Kernels are normal, or binomial for bits.

Axes: B batch, ... the axes of an example; t is [B], a step for each example.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Float32, Int, Num

from dgm_jax.internal import shapes

__all__ = [
  'DiffusionSchedule', 'binomial_diffusion', 'binomial_divergence', 'binomial_flip', 'binomial_prior_divergence',
  'diffusion', 'diffusion_divergence', 'diffusion_posterior', 'diffusion_prior_divergence', 'diffusion_schedule',
  'strided_schedule',
]  # fmt: skip

MOST = 0.999  # a step destroys at most this share of the variance
OFFSET = 0.008  # of 'cosine', which keeps its first steps from vanishing
REFERENCE = 1000  # steps that the rates of 'linear' are of


class DiffusionSchedule(NamedTuple):
  """What each step destroys; entry t of a table is of step t, entry 0 of the data. float64."""

  beta: np.ndarray  # [T + 1] variance of the noise that step t adds; beta_0 = 0
  alpha_bar: np.ndarray  # [T + 1] product of alpha_1 ... alpha_t: the share of the data's variance that is left

  @property
  def steps(self) -> int:
    """The number T of steps."""
    return len(self.beta) - 1


def diffusion_schedule(
  steps: int, *, name: str = 'linear', rates: tuple[float, float] = (1e-4, 0.02)
) -> DiffusionSchedule:
  """Computes the schedule of a name.

  'fraction' has beta_t = 1 / linspace(T, 2, T): each step destroys about one T-th of the data's variance. 'linear' has
  beta_t from the first of the rates to the second, both times 1000 / T. 'cosine' has
  alpha_bar_t = cos^2(pi / 2 (t / T + s) / (1 + s)), normalised by its value at 0, with s = 0.008. No beta_t exceeds
  0.999.

  Args:
    steps: T, at least 2.
    name: of the schedule.
    rates: of 'linear', for a thousand steps.

  Returns:
    Two tables of T + 1 numbers, float64.

  Raises:
    ValueError: there are fewer than 2 steps, or there is no such schedule.

  Reference: Sohl-Dickstein et al. 2015, arXiv:1503.03585, section 2.4.1; Ho et al. 2020, arXiv:2006.11239, section 4;
    Nichol & Dhariwal 2021, arXiv:2102.09672, equation 17.
  """
  if steps < 2:
    raise ValueError(f'steps: got {steps}, expected at least 2')
  if name == 'fraction':
    beta = 1 / np.linspace(steps, 2, steps)
  elif name == 'linear':
    beta = np.linspace(*rates, steps) * REFERENCE / steps
  elif name == 'cosine':
    left = np.cos(0.5 * math.pi * (np.arange(steps + 1) / steps + OFFSET) / (1 + OFFSET)) ** 2
    beta = 1 - left[1:] / left[:-1]
  else:
    raise ValueError(f'name: got {name!r}, expected fraction, linear or cosine')
  beta = np.concatenate([[0.0], np.minimum(beta, MOST)])
  return DiffusionSchedule(beta=beta, alpha_bar=np.cumprod(1 - beta))


def strided_schedule(schedule: DiffusionSchedule, stride: int) -> DiffusionSchedule:
  """Computes the schedule whose step k makes `stride` steps of another at once: it ends at step k stride of that.

  Args:
    schedule: of T steps.
    stride: a divisor of T.

  Returns:
    The schedule of T / stride steps.

  Raises:
    ValueError: the stride does not divide T.

  Reference: Nichol & Dhariwal 2021, arXiv:2102.09672, equation 19.
  """
  if stride < 1 or schedule.steps % stride:
    raise ValueError(f'stride: got {stride}, expected a divisor of the {schedule.steps} steps')
  alpha_bar = schedule.alpha_bar[::stride]
  return DiffusionSchedule(beta=np.concatenate([[0.0], 1 - alpha_bar[1:] / alpha_bar[:-1]]), alpha_bar=alpha_bar)


def diffusion(
  x_0: Float[ArrayLike, 'B *S'], noise: Float[ArrayLike, 'B *S'], t: Int[ArrayLike, ' B'], schedule: DiffusionSchedule
) -> Float32[Array, 'B *S']:
  """Computes x_t of q(x_t|x_0) from noise of N(0, I): sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) noise.

  Args:
    x_0: [B, ...] data.
    noise: [B, ...] of N(0, I).
    t: [B] in 0 ... T.
    schedule: of T steps.

  Returns:
    [B, ...], float32.

  Raises:
    ValueError: noise or t does not fit x_0.

  Reference: Ho et al. 2020, arXiv:2006.11239, equation 4.
  """
  x_0, noise = _examples(t, x_0=x_0, noise=noise)
  return _at(np.sqrt(schedule.alpha_bar), t, x_0) * x_0 + _at(np.sqrt(1 - schedule.alpha_bar), t, x_0) * noise


def diffusion_posterior(
  x_0: Float[ArrayLike, 'B *S'], x_t: Float[ArrayLike, 'B *S'], t: Int[ArrayLike, ' B'], schedule: DiffusionSchedule
) -> tuple[Float32[Array, 'B *S'], Float32[Array, ' B']]:
  """Computes mean and variance of q(x_{t-1}|x_t, x_0).

  Args:
    x_0: [B, ...] data.
    x_t: [B, ...].
    t: [B] in 1 ... T.
    schedule: of T steps.

  Returns:
    [B, ...] means, and [B] variances of every dimension, which are 0 at t = 1; float32.

  Raises:
    ValueError: x_t or t does not fit x_0.

  Reference: Ho et al. 2020, arXiv:2006.11239, equations 6 and 7.
  """
  x_0, x_t = _examples(t, x_0=x_0, x_t=x_t)
  beta, noise, before = _tables(schedule)
  of_data = _at(np.sqrt(1 - before) * beta / noise, t, x_0)
  of_x_t = _at(np.sqrt(1 - beta) * before / noise, t, x_0)
  return of_data * x_0 + of_x_t * x_t, _at(beta * before / noise, t)


def diffusion_divergence(
  x_0: Float[ArrayLike, 'B *S'],
  x_t: Float[ArrayLike, 'B *S'],
  t: Int[ArrayLike, ' B'],
  mean: Float[ArrayLike, 'B *S'],
  logvar: Float[ArrayLike, 'B *S'],
  schedule: DiffusionSchedule,
) -> Float32[Array, ' B']:
  """Computes KL(q(x_{t-1}|x_t, x_0) || N(mean, e^logvar)) in nats, and 0 at t = 1.

  The term of the first step is -log p(x_0|x_1), by any density.

  Args:
    x_0: [B, ...] data.
    x_t: [B, ...].
    t: [B] in 1 ... T.
    mean: [B, ...] of p(x_{t-1}|x_t).
    logvar: [B, ...] its log-variance.
    schedule: of T steps.

  Returns:
    [B] nats, float32, each >= 0.

  Raises:
    ValueError: an argument does not fit x_0.

  Reference: Sohl-Dickstein et al. 2015, arXiv:1503.03585, equation 14.
  """
  x_0, x_t, mean, logvar = _examples(t, x_0=x_0, x_t=x_t, mean=mean, logvar=logvar)
  beta, noise, before = _tables(schedule)
  variance = beta * before / noise
  variance[:2] = variance[2]  # any number: the term is 0
  log_ratio = _at(np.log(variance), t, x_0) - logvar
  apart = diffusion_posterior(x_0, x_t, t, schedule)[0] - mean
  nats = 0.5 * (jnp.expm1(log_ratio) - log_ratio + jnp.square(apart) * jnp.exp(-logvar))
  return jnp.where(jnp.asarray(t) > 1, nats.reshape(nats.shape[0], -1).sum(1), 0.0)


def diffusion_prior_divergence(x_0: Float[ArrayLike, 'B *S'], schedule: DiffusionSchedule) -> Float32[Array, ' B']:
  """Computes KL(q(x_T|x_0) || N(0, I)) in nats.

  Args:
    x_0: [B, ...] data.
    schedule: of T steps.

  Returns:
    [B] nats, float32.

  Raises:
    ValueError: x_0 has no axis of examples.

  Reference: Ho et al. 2020, arXiv:2006.11239, equation 5.
  """
  (x_0,) = _examples(None, x_0=x_0)
  left = schedule.alpha_bar[-1]
  constant = np.float32(-left - np.log1p(-left))
  return 0.5 * (np.float32(left) * jnp.square(x_0) + constant).reshape(x_0.shape[0], -1).sum(1)


def binomial_diffusion(
  x_0: Num[ArrayLike, 'B *S'], t: Int[ArrayLike, ' B'], schedule: DiffusionSchedule
) -> Float32[Array, 'B *S']:
  """Computes the probability of x_t = 1 under q(x_t|x_0) of bits: each step replaces a share beta_t by fair bits.

  Args:
    x_0: [B, ...] bits, or probabilities of ones.
    t: [B] in 0 ... T.
    schedule: of T steps.

  Returns:
    [B, ...] probabilities, float32.

  Raises:
    ValueError: t does not fit x_0.

  Reference: Sohl-Dickstein et al. 2015, arXiv:1503.03585, table C.1.
  """
  (x_0,) = _examples(t, x_0=x_0)
  return 0.5 + _at(schedule.alpha_bar, t, x_0) * (x_0 - 0.5)


def binomial_flip(
  x_0: Num[ArrayLike, 'B *S'], x_t: Num[ArrayLike, 'B *S'], t: Int[ArrayLike, ' B'], schedule: DiffusionSchedule
) -> Float32[Array, 'B *S']:
  """Computes the probability that x_{t-1} differs from x_t, which is small where that of a one would round to 1.

  With bits x_0 it is that of q(x_{t-1}|x_t, x_0), with probabilities of ones its mean over x_0, which is
  p(x_{t-1}|x_t).

  Args:
    x_0: [B, ...] bits, or probabilities of ones.
    x_t: [B, ...] bits.
    t: [B] in 1 ... T.
    schedule: of T steps.

  Returns:
    [B, ...] probabilities, float32.

  Raises:
    ValueError: x_t or t does not fit x_0.

  Reference: Sohl-Dickstein et al. 2015, arXiv:1503.03585, table C.1.
  """
  x_0, x_t = _examples(t, x_0=x_0, x_t=x_t)
  beta, _, before = _tables(schedule)
  other, like = before / 2 * beta / 2, (1 - before / 2) * (1 - beta / 2)  # of x_{t-1} that is not x_0 and x_t, and is
  away, back = (1 - before / 2) * beta / 2, before / 2 * (1 - beta / 2)
  differs = x_t + x_0 - 2 * x_t * x_0  # the probability that x_0 is not x_t
  return _at(other / (other + like), t, x_0) * (1 - differs) + _at(away / (away + back), t, x_0) * differs


def binomial_divergence(
  x_0: Num[ArrayLike, 'B *S'],
  x_t: Num[ArrayLike, 'B *S'],
  t: Int[ArrayLike, ' B'],
  logits: Float[ArrayLike, 'B *S'],
  schedule: DiffusionSchedule,
) -> Float32[Array, ' B']:
  """Computes KL(q(x_{t-1}|x_t, x_0) || p(x_{t-1}|x_t)) of bits in nats, and 0 at t = 1.

  p(x_{t-1}|x_t) is the mean of q(x_{t-1}|x_t, x_0) over the x_0 whose bits have the logits. The term of the first step
  is -log p(x_0|x_1), by the logits alone.

  Args:
    x_0: [B, ...] bits.
    x_t: [B, ...] bits.
    t: [B] in 1 ... T.
    logits: [B, ...] of p(x_0|x_t).
    schedule: of T steps.

  Returns:
    [B] nats, float32, each >= 0 up to rounding.

  Raises:
    ValueError: an argument does not fit x_0.

  Reference: Sohl-Dickstein et al. 2015, arXiv:1503.03585, equation 14 and table C.1; the mean over x_0: Austin et al.
    2021, arXiv:2107.03006, equation 4.
  """
  x_0, x_t, logits = _examples(t, x_0=x_0, x_t=x_t, logits=logits)
  later = jnp.maximum(jnp.asarray(t, jnp.int32), 2)  # at t = 1 the probabilities are 0 or 1
  q = binomial_flip(x_0, x_t, later, schedule)
  p = binomial_flip(jax.nn.sigmoid(logits), x_t, later, schedule)
  nats = q * jnp.log(q / p) + (1 - q) * (jnp.log1p(-q) - jnp.log1p(-p))
  return jnp.where(jnp.asarray(t) > 1, nats.reshape(nats.shape[0], -1).sum(1), 0.0)


def binomial_prior_divergence(x_0: Num[ArrayLike, 'B *S'], schedule: DiffusionSchedule) -> Float32[Array, ' B']:
  """Computes the divergence of q(x_T|x_0) of bits from fair bits, in nats.

  Args:
    x_0: [B, ...] bits.
    schedule: of T steps.

  Returns:
    [B] nats, float32; the same number for every x_0.

  Raises:
    ValueError: x_0 has no axis of examples.

  Reference: Sohl-Dickstein et al. 2015, arXiv:1503.03585, equation 14 and table C.1.
  """
  (x_0,) = _examples(None, x_0=x_0)
  left = schedule.alpha_bar[-1]
  nats = 0.5 * ((1 + left) * np.log1p(left) + (1 - left) * np.log1p(-left))
  return jnp.full(x_0.shape[0], np.float32(nats * math.prod(x_0.shape[1:])))


def _tables(schedule: DiffusionSchedule) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Returns beta_t, 1 - alpha_bar_t and 1 - alpha_bar_{t-1}, [T + 1] each; the first entries only avoid 0 / 0."""
  left = 1 - schedule.alpha_bar
  return schedule.beta, np.concatenate([[1.0], left[1:]]), np.concatenate([[1.0], left[:-1]])


def _at(table: np.ndarray, t: ArrayLike, like: jax.Array | None = None) -> jax.Array:
  """Takes the entries of a table at t [B], with as many axes as the array `like`."""
  entries = jnp.asarray(table, jnp.float32)[jnp.asarray(t)]
  return entries if like is None else entries.reshape(-1, *[1] * (like.ndim - 1))


def _examples(t: ArrayLike | None, **arrays: ArrayLike) -> tuple[jax.Array, ...]:
  """Returns arrays of one shape [B, ...] as float32, after checking them and t [B]."""
  pattern = ' '.join(f'{name}[B, ...]' for name in arrays)
  if t is not None:
    shapes.check(f'{pattern} t[B]', *arrays.values(), t)
  return shapes.float32(pattern, *arrays.values())
