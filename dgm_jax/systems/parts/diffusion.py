"""Diffusion with kernels of one family: the terms of its bound, the steps at which they are taken, the reverse chain.

A network computes K numbers for each dimension of x_t, from x_t and t. Steps are t = 1 ... T. The sampler's steps
k = 1 ... S end and begin at the steps t = 0, T / S, 2 T / S ...; each is one step of a schedule of its own.

Axes: B batch, ... axes of an example, K outputs of a dimension.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dgm_jax import distributions, losses
from dgm_jax.internal.noise import standard_normal
from dgm_jax.losses import DiffusionSchedule

__all__ = [
  'PREDICTIONS', 'SPREADS', 'TARGETS', 'VARIANCES', 'Chain', 'Kernels', 'Reverse', 'binomial', 'normal', 'reverse',
  'squared_error', 'times', 'transition',
]  # fmt: skip


class Kernels(NamedTuple):
  """One family of kernels; `outputs` [B, ..., K] are a network's of x_t and t."""

  count: int  # K
  diffuse: Callable  # (key, x_0, t [B]) -> x_t
  prior: Callable  # x_0 -> the divergence of q(x_T|x_0) from p(x_T), [B] nats
  divergence: Callable  # (outputs, x_0, x_t, t) -> KL(q(x_{t-1}|x_t, x_0) || p(x_{t-1}|x_t)), [B] nats, 0 at t = 1
  first: Callable  # (outputs, x_0, x_1) -> -log p(x_0|x_1), [B] nats
  offset: float  # nats of a dimension that -log p(x_0|x_1) is near
  start: Callable  # (key, shape, temperature) -> x_T
  step: Callable  # (key, outputs, x, k, temperature) -> the x at which step k of the sampler ends
  left: np.ndarray | None = None  # [S + 1] alpha_bar of the sampler's steps, of normal kernels


class Chain(NamedTuple):
  """A network with its kernels."""

  apply: Callable  # (params, x_t, t, rngs) -> outputs
  kernels: Kernels
  steps: int  # S of the sampler
  stride: int  # T / S


# What the first output is: (output, x, sqrt(alpha_bar), sqrt(1 - alpha_bar), sqrt(alpha / beta)) -> noise.
PREDICTIONS: dict[str, Callable] = {
  # The mean of p(x_{t-1}|x_t) is sqrt(alpha) x + sqrt(beta) output: Sohl-Dickstein et al.'s program.
  'mean': lambda output, x, left, noise, ratio: noise * (x - ratio * output),
  'noise': lambda output, x, left, noise, ratio: output,
  # sqrt(alpha_bar) noise - sqrt(1 - alpha_bar) x_0: Salimans & Ho 2022, arXiv:2202.00512, appendix D.
  'velocity': lambda output, x, left, noise, ratio: left * output + noise * x,
}
VARIANCES = ('learned', 'forward', 'posterior')  # sigmoid(logit(beta) + output), beta, or that of q(x_{t-1}|x_t, x_0)
SPREADS: dict[str, Callable] = {
  # (u in [0, 1), number of steps) -> step from 1 on, and one over its probability.
  'uniform': lambda u, count: (1 + jnp.floor(u * count), jnp.full(u.shape, float(count))),
  'logarithmic': lambda u, count: _logarithmic(u, count),
}


def _logarithmic(u: jax.Array, count: int) -> tuple[jax.Array, jax.Array]:
  """Draws step r with the probability log(1 + 1 / r) / log(count + 1)."""
  step = jnp.floor(jnp.exp(u * math.log(count + 1)))
  return step, math.log(count + 1) / jnp.log1p(1 / jnp.clip(step, 1, count))


def times(u: jax.Array, spread: str, first: int, last: int) -> tuple[jax.Array, jax.Array]:
  """Draws steps from first ... last by numbers u in [0, 1).

  Returns:
    Steps, int32, and one over the probability of each, float32, both of the shape of u.
  """
  count = last - first + 1
  step, weight = SPREADS[spread](u, count)
  return first - 1 + jnp.clip(step, 1, count).astype(jnp.int32), weight


class Reverse(NamedTuple):
  """How normal kernels p(x_{t-1}|x_t) are read off a network's outputs."""

  schedule: DiffusionSchedule  # of T steps
  predicts: str  # what the first output is, a name in PREDICTIONS
  variance: str  # one of VARIANCES; if it is learned, there is a second output
  clip: bool  # whether the x_0 that is predicted is clipped to [-1, 1]


def normal(own: Reverse, stride: int, *, eta: float = 1.0, levels: int = 0) -> Kernels:
  """Returns normal kernels.

  Args:
    own: p(x_{t-1}|x_t).
    stride: steps that the sampler makes at once.
    eta: factor of the deviation of the sampler's noise; 0: none, the deterministic sampler of Song et al.
    levels: of pixels in [-1, 1], over whose bins p(x_0|x_1) is integrated; 0: p(x_0|x_1) is a density.

  Reference: Sohl-Dickstein et al. 2015, arXiv:1503.03585, section 2; Ho et al. 2020, arXiv:2006.11239, section 3.
  """
  schedule = own.schedule

  def diffuse(key: jax.Array, x_0: jax.Array, t: jax.Array) -> jax.Array:
    return losses.diffusion(x_0, _standard(key, x_0.shape), t, schedule)

  def prior(x_0: jax.Array) -> jax.Array:
    return losses.diffusion_prior_divergence(x_0, schedule)

  def divergence(outputs: jax.Array, x_0: jax.Array, x_t: jax.Array, t: jax.Array) -> jax.Array:
    return losses.diffusion_divergence(x_0, x_t, t, *transition(own, outputs, x_t, t), schedule)

  def first(outputs: jax.Array, x_0: jax.Array, x_1: jax.Array) -> jax.Array:
    mean, logvar = transition(own, outputs, x_1, jnp.ones(x_1.shape[0], jnp.int32))
    flat = [array.reshape(array.shape[0], -1) for array in (x_0, mean, logvar)]
    if levels:
      return -distributions.discretized_normal_log_prob(*flat, levels)
    return -distributions.normal_log_prob(*flat)

  def start(key: jax.Array, shape: tuple[int, ...], temperature: float | jax.Array) -> jax.Array:
    return temperature * _standard(key, shape)

  count, offset = (2 if own.variance == 'learned' else 1), 0.5 * math.log(2 * math.pi * math.e * schedule.beta[1])
  return Kernels(
    count=count, diffuse=diffuse, prior=prior, divergence=divergence, first=first, offset=0.0 if levels else offset,
    start=start, step=_normal_step(own, stride, eta, exact=not levels and stride == 1),
    left=schedule.alpha_bar[::stride],
  )  # fmt: skip


def _normal_step(own: Reverse, stride: int, eta: float, exact: bool) -> Callable:
  """Returns a step of the sampler. The last one ends at the mean or, if `exact`, at a sample of p(x_0|x_1).

  Reference: Song et al. 2021, arXiv:2010.02502, equations 12 and 16.
  """
  strided = losses.strided_schedule(own.schedule, stride)
  left, before = strided.alpha_bar, np.concatenate([[1.0], strided.alpha_bar[:-1]])
  spread = np.where(left < 1, 1 - left, 1.0)
  kept = np.sqrt(np.maximum(1 - before - eta**2 * (1 - before) / spread * strided.beta, 0.0))

  def step(key: jax.Array, outputs: jax.Array, x: jax.Array, k: jax.Array, temperature: Any) -> jax.Array:
    said = _estimate(own, outputs, x, k * stride)
    mean = _at(np.sqrt(before), k, x) * said.x_0 + _at(kept, k, x) * said.noise
    deviation = jnp.exp(0.5 * _logvar(own.variance, strided, said.shift, k, x))
    if not exact:
      deviation = jnp.where(k.reshape(-1, *[1] * (x.ndim - 1)) > 1, deviation, 0.0)
    return mean + temperature * eta * deviation * _standard(key, x.shape)

  return step


def transition(own: Reverse, outputs: jax.Array, x: jax.Array, t: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Computes mean and log-variance of p(x_{t-1}|x_t), [B, ...] each.

  Reference: Ho et al. 2020, arXiv:2006.11239, equation 11.
  """
  said = _estimate(own, outputs, x, t)
  beta, left = own.schedule
  of_noise = beta / np.sqrt(1 - beta) / np.sqrt(np.where(left < 1, 1 - left, 1.0))
  mean = _at(1 / np.sqrt(1 - beta), t, x) * x - _at(of_noise, t, x) * said.noise
  return mean, jnp.broadcast_to(_logvar(own.variance, own.schedule, said.shift, t, x), x.shape)


class Estimate(NamedTuple):
  """What a network says of x_t, [B, ...] each."""

  noise: jax.Array
  x_0: jax.Array
  shift: jax.Array | None  # of the logit of a learned variance


def _estimate(own: Reverse, outputs: jax.Array, x: jax.Array, t: jax.Array) -> Estimate:
  """Reads a network's outputs for x_t."""
  beta = np.concatenate([[0.5], own.schedule.beta[1:]])  # step 0 is none
  left, spread = _roots(own.schedule, t, x)
  noise = PREDICTIONS[own.predicts](outputs[..., 0], x, left, spread, _at(np.sqrt((1 - beta) / beta), t, x))
  x_0 = (x - spread * noise) / left
  if own.clip:
    x_0 = jnp.clip(x_0, -1, 1)
    noise = (x - left * x_0) / spread
  return Estimate(noise=noise, x_0=x_0, shift=outputs[..., 1] if own.variance == 'learned' else None)


# What the first output is to be, of x_0 and the noise: (x_0, noise, sqrt(alpha_bar), sqrt(1 - alpha_bar)) -> target.
TARGETS: dict[str, Callable] = {
  'noise': lambda x_0, noise, left, spread: noise,
  'velocity': lambda x_0, noise, left, spread: left * noise - spread * x_0,
}


def squared_error(own: Reverse, apply: Callable, key: jax.Array, x_0: jax.Array, t: jax.Array) -> jax.Array:
  """Computes the squared error of the first output at x_t, summed over dimensions, [B].

  Args:
    own: p(x_{t-1}|x_t).
    apply: (x_t, t) -> outputs [B, ..., K].
    key: of the noise.
    x_0: [B, ...] data.
    t: [B] in 1 ... T.

  Reference: Ho et al. 2020, arXiv:2006.11239, equation 14.
  """
  noise = _standard(key, x_0.shape)
  output = apply(losses.diffusion(x_0, noise, t, own.schedule), t)[..., 0]
  left, spread = _roots(own.schedule, t, x_0)
  error = jnp.square(output - TARGETS[own.predicts](x_0, noise, left, spread))
  return error.reshape(error.shape[0], -1).sum(1)


def binomial(schedule: DiffusionSchedule, stride: int) -> Kernels:
  """Returns kernels of bits; the output is the logit of x_0 = 1 given x_t. The temperature divides it.

  Reference: Sohl-Dickstein et al. 2015, arXiv:1503.03585, table C.1; Austin et al. 2021, arXiv:2107.03006, section 3.3.
  """
  strided = losses.strided_schedule(schedule, stride)

  def diffuse(key: jax.Array, x_0: jax.Array, t: jax.Array) -> jax.Array:
    return jax.random.bernoulli(key, losses.binomial_diffusion(x_0, t, schedule)).astype(jnp.float32)

  def divergence(outputs: jax.Array, x_0: jax.Array, x_t: jax.Array, t: jax.Array) -> jax.Array:
    return losses.binomial_divergence(x_0, x_t, t, outputs[..., 0], schedule)

  def first(outputs: jax.Array, x_0: jax.Array, x_1: jax.Array) -> jax.Array:
    flat = lambda array: array.reshape(x_1.shape[0], -1)
    return -distributions.bernoulli_log_prob(flat(x_0), flat(outputs[..., 0]))

  def start(key: jax.Array, shape: tuple[int, ...], temperature: float | jax.Array) -> jax.Array:
    del temperature
    return jax.random.bernoulli(key, 0.5, shape).astype(jnp.float32)

  def step(key: jax.Array, outputs: jax.Array, x: jax.Array, k: jax.Array, temperature: Any) -> jax.Array:
    flip = losses.binomial_flip(jax.nn.sigmoid(outputs[..., 0] / temperature), x, k, strided)
    return jnp.abs(x - jax.random.bernoulli(key, flip).astype(jnp.float32))

  return Kernels(
    count=1, diffuse=diffuse, prior=lambda x_0: losses.binomial_prior_divergence(x_0, schedule),
    divergence=divergence, first=first, offset=0.0, start=start, step=step,
  )  # fmt: skip


def reverse(
  key: jax.Array,
  chain: Chain,
  params: Any,
  x: jax.Array,
  first: int | jax.Array,
  count: int | jax.Array,
  temperature: float | jax.Array = 1.0,
  fixed: tuple[jax.Array, jax.Array] | None = None,
) -> jax.Array:
  """Makes steps of the sampler. One program serves all numbers of steps.

  The noise of a step is a function of the key and its number, so that a chain in pieces is the whole chain.

  Args:
    key: random key.
    chain: the network with its kernels.
    params: of the network.
    x: [B, ...] at which step `first` begins.
    first: k of the first step, at most S.
    count: the number of steps, at most `first`.
    temperature: factor of the deviation of the noise.
    fixed: an image [B, H, W, C] and a mask [B, H, W]; at each step, pixels in the mask are those of q(x_t|image).

  Returns:
    [B, ...] at which the last step ends.

  Reference: Sohl-Dickstein et al. 2015, arXiv:1503.03585, section 2.5; Song et al. 2021, arXiv:2011.13456,
    appendix I.2.
  """

  def body(i: jax.Array, x: jax.Array) -> jax.Array:
    k = jnp.full(x.shape[0], first - i, jnp.int32)
    for_fixed, for_step = jax.random.split(jax.random.fold_in(key, first - i))
    if fixed is not None:
      x = jnp.where(fixed[1][..., None], chain.kernels.diffuse(for_fixed, fixed[0], k * chain.stride), x)
    return chain.kernels.step(for_step, chain.apply(params, x, k * chain.stride, None), x, k, temperature)

  return jax.lax.fori_loop(0, count, body, x)


def _standard(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
  return standard_normal(key, (shape[0], math.prod(shape[1:]))).reshape(shape)


def _at(table: np.ndarray, t: jax.Array, like: jax.Array) -> jax.Array:
  """Takes the entries of a table at t [B], with as many axes as an array."""
  return jnp.asarray(table, jnp.float32)[t].reshape(-1, *[1] * (like.ndim - 1))


def _roots(schedule: DiffusionSchedule, t: jax.Array, like: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Returns sqrt(alpha_bar_t) and sqrt(1 - alpha_bar_t), with as many axes as an array."""
  return _at(np.sqrt(schedule.alpha_bar), t, like), _at(np.sqrt(1 - schedule.alpha_bar), t, like)


def _logvar(
  variance: str, schedule: DiffusionSchedule, shift: jax.Array | None, t: jax.Array, like: jax.Array
) -> jax.Array:
  """Computes the log-variance of p(x_{t-1}|x_t), [B, ...] or [B, 1, ...].

  That of the posterior is 0 at t = 1, where it is taken from t = 2.
  """
  beta = np.concatenate([[0.5], schedule.beta[1:]])  # step 0 is none
  if variance == 'learned':
    return jax.nn.log_sigmoid(_at(np.log(beta) - np.log1p(-beta), t, like) + shift)
  if variance == 'forward':
    return _at(np.log(beta), t, like)
  noise = 1 - schedule.alpha_bar
  own = beta[2:] * noise[1:-1] / noise[2:]
  return _at(np.log(np.concatenate([np.full(2, own[0] if len(own) else beta[1]), own])), t, like)
