"""Diffusion models: a chain of steps that add noise, and a network that reverses them.

Axes: B batch, ... axes of an example, D their number of dimensions, K outputs of a network for a dimension.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from dgm_jax import config as experiment
from dgm_jax import losses, models, optim
from dgm_jax.core import Batch, Key, Metrics, Player, State, System, average, averages, chain, descend, system
from dgm_jax.models import denoiser
from dgm_jax.nn.blocks import ACTIVATIONS
from dgm_jax.systems.parts import diffusion
from dgm_jax.systems.parts.diffusion import Chain, Kernels

__all__ = ['ddpm', 'deep_diffusion']
POINTS = ('deep_diffusion',)

DENSITIES = ('dequantize', 'static_dequantize')  # preprocessing of pixels that have a density
BITS = ('threshold', 'dynamic_binarize', 'static_binarize')
CHOICES = {'spacing': denoiser.SPACINGS, 'activation': ACTIVATIONS}  # settings of networks
LEFT = 0.2  # most of the data's variance that may be left at the end
COLUMNS = 5  # times of the view `chains`


class DiffusionParts(NamedTuple):
  """The network with its kernels, and the data that they model."""

  network: nn.Module
  chain: Chain  # of evaluation and sampling
  training: Kernels
  steps: int  # T
  shape: tuple[int, ...]
  density: bool  # whether the data are standardised, and have a density
  levels: int  # of the pixels of a density; 0: it is of points, or of no pixels
  spread: str  # of the steps at which the bound is taken, a name in diffusion.SPREADS
  evaluated: int  # steps at which `evaluate` takes it, besides the first


def deep_diffusion(config: ConfigDict) -> System:
  """Builds the system of Sohl-Dickstein et al., trained on one step of the bound for each example.

  With `config.model.likelihood` = 'normal' the data are points or dequantized pixels, standardised by one mean and one
  deviation, and the network gives mean and variance of each step. With 'bernoulli' they are bits.

  Reference: Sohl-Dickstein et al. 2015, arXiv:1503.03585.

  Raises:
    UserError: pixels are not dequantized or bits, or a setting is out of range.
  """
  parts = build_parts(config)
  return _system(config, parts, functools.partial(_bound_of_a_step, parts))


def ddpm(config: ConfigDict) -> System:
  """Builds the system of Ho et al., of pixels of whole levels in [-1, 1].

  With `config.model.weights` = 'simple' it is trained on the squared error of the noise, or of the velocity; with
  'bound' on one step of the bound for each example. p(x_0|x_1) is a normal integrated over the bin of each level. In
  evaluation and samples the x_0 that the network predicts is clipped to [-1, 1].

  Reference: Ho et al. 2020, arXiv:2006.11239; Song et al. 2021, arXiv:2010.02502 (the sampler with
    `config.model.sampler.eta` = 0).

  Raises:
    UserError: the data are not pixels in [-1, 1], or a setting is out of range.
  """
  model, parts = config.model, build_parts(config)
  experiment.one_of('config.model.weights', model.weights, ('simple', 'bound'))
  if model.weights == 'bound':
    return _system(config, parts, functools.partial(_bound_of_a_step, parts))
  experiment.require(
    model.predicts in diffusion.TARGETS and model.variance != 'learned',
    f"config.model.weights='simple' trains a network that predicts {' or '.join(diffusion.TARGETS)} and no variance,"
    f" got {model.predicts} and the variance {model.variance}: change these, or take weights='bound'",
  )
  own = _reverse(model, _schedule(model), False)
  return _system(config, parts, functools.partial(_squared_error, parts, own))


def build_parts(config: ConfigDict) -> DiffusionParts:
  """Builds the network and the kernels of an experiment of either system.

  Raises:
    UserError: there is no such network, or a setting is out of range.
  """
  return _deep_parts(config) if config.system == 'diffusion.deep_diffusion' else _ddpm_parts(config)


def _deep_parts(config: ConfigDict) -> DiffusionParts:
  """Builds the parts of `deep_diffusion`."""
  model, data = config.model, config.data
  experiment.one_of('config.model.likelihood', model.likelihood, ('normal', 'bernoulli'))
  density, images = model.likelihood == 'normal', len(data.shape) == 3
  if images:
    kinds = DENSITIES if density else BITS
    where = f'config.data.preprocess of diffusion.deep_diffusion with config.model.likelihood={model.likelihood}'
    experiment.one_of(where, data.preprocess, kinds)
  schedule, stride = _schedule(model), _stride(model)
  if density:
    kernels = diffusion.normal(_reverse(model, schedule, False), stride, eta=model.sampler.eta)
  else:
    experiment.require(
      model.sampler.eta == 1, f'config.model.sampler.eta={model.sampler.eta} must be 1 for bits, which are drawn'
    )
    kernels = diffusion.binomial(schedule, stride)
  return _parts(config, kernels, kernels, density=density, levels=data.levels if density and images else 0)


def _ddpm_parts(config: ConfigDict) -> DiffusionParts:
  """Builds the parts of `ddpm`."""
  model, data = config.model, config.data
  experiment.one_of('config.model.likelihood of diffusion.ddpm', model.likelihood, ('discretized_normal',))
  experiment.one_of('config.data.preprocess of diffusion.ddpm', data.preprocess, ('scale_symmetric',))
  schedule, stride = _schedule(model), _stride(model)
  kernels, training = (
    diffusion.normal(_reverse(model, schedule, clip), stride, eta=model.sampler.eta, levels=data.levels)
    for clip in (True, False)
  )
  return _parts(config, kernels, training, density=False, levels=0)


def _schedule(model: ConfigDict) -> losses.DiffusionSchedule:
  """Builds the schedule of the forward process."""
  experiment.one_of('config.model.schedule', model.schedule, ('fraction', 'linear', 'cosine'))
  experiment.require(model.steps >= 2, f'config.model.steps must be at least 2, got {model.steps}')
  rates = tuple(model.rates)
  experiment.require(
    len(rates) == 2 and min(rates) > 0,
    f'config.model.rates={rates} must be two numbers above 0, of the first step and the last',
  )
  schedule = losses.diffusion_schedule(model.steps, name=model.schedule, rates=rates)
  left = schedule.alpha_bar[-1]
  experiment.require(
    left <= LEFT,
    f'the schedule {model.schedule} of config.model.steps={model.steps} leaves alpha_bar_T = {left:.3g} of the variance'
    f' of the data, more than {LEFT}: x_T would not be noise. Take more steps or greater config.model.rates',
  )
  return schedule


def _stride(model: ConfigDict) -> int:
  """Returns the number of steps that the sampler makes at once."""
  number = model.sampler.steps
  experiment.require(
    1 <= number <= model.steps and model.steps % number == 0,
    f'config.model.sampler.steps={number} must divide config.model.steps={model.steps}',
  )
  experiment.within('config.model.sampler.eta', model.sampler.eta, '[0, 1]')
  return model.steps // number


def _reverse(model: ConfigDict, schedule: losses.DiffusionSchedule, clip: bool) -> diffusion.Reverse:
  """Builds the normal kernels of the reverse process."""
  experiment.one_of('config.model.predicts', model.predicts, diffusion.PREDICTIONS)
  experiment.one_of('config.model.variance', model.variance, diffusion.VARIANCES)
  return diffusion.Reverse(schedule=schedule, predicts=model.predicts, variance=model.variance, clip=clip)


def _parts(config: ConfigDict, kernels: Kernels, training: Kernels, *, density: bool, levels: int) -> DiffusionParts:
  """Builds the network and puts all together."""
  model, shape = config.model, tuple(config.data.shape)
  experiment.one_of('config.model.times', model.times, diffusion.SPREADS)
  experiment.require(model.evaluated >= 1, f'config.model.evaluated must be at least 1, got {model.evaluated}')
  settings = model.to_dict()['denoiser']
  for name, allowed in CHOICES.items():
    if name in settings:
      experiment.one_of(f'config.model.denoiser.{name}', settings[name], allowed)
  count = settings.get('bumps', 2)
  experiment.require(count >= 2, f'config.model.denoiser.bumps must be at least 2, got {count}')
  build = experiment.choose('config.model.denoiser.network', settings.pop('network'), models.DENOISERS)
  filled = {'outputs': kernels.count, 'steps': model.steps, 'dtype': config.dtype}
  network = models.build('config.model.denoiser', build, settings, **filled)

  def apply(params: Any, x: jax.Array, t: jax.Array, rngs: dict | None) -> jax.Array:
    return network.apply({'params': params}, x, t, rngs=rngs)

  return DiffusionParts(
    network=network, chain=Chain(apply, kernels, model.sampler.steps, model.steps // model.sampler.steps),
    training=training, steps=model.steps, shape=shape, density=density, levels=levels, spread=model.times,
    evaluated=model.evaluated,
  )  # fmt: skip


def _system(config: ConfigDict, parts: DiffusionParts, objective: Callable) -> System:
  """Returns the System of one network; `objective(key, state, x) -> [B]` is minimised."""
  decay, images = config.model.average, len(parts.shape) == 3
  experiment.require(0 <= decay < 1, f'config.model.average must be in [0, 1), got {decay}')

  def networks(key: Key, batch: Batch):
    x = batch['x']
    with experiment.naming('config.model.denoiser'):
      params = parts.network.init(key, x[:1], jnp.ones(1, jnp.int32))['params']
    deviation = x.std()
    units = {'mean': x.mean(), 'scale': jnp.where(deviation > 0, deviation, 1.0)}
    extra = {'model_units': units} if parts.density else {}
    return {'model': params}, averages({'model': params}, extra, ('model',)) if decay else extra

  def loss(key: Key, state: State, batch: Batch):
    return objective(key, state, _standardised(state, batch['x'])).mean(), ({}, {})

  def evaluate(key: Key, state: State, batch: Batch) -> Metrics:
    for_times, for_noise = jax.random.split(key)
    t, weight = _strided_times(parts, for_times, batch['x'].shape[0], parts.evaluated, parts.spread)
    nats, terms = _bound(parts, for_noise, state, batch['x'], t, weight)
    name, in_bits = ('bits_per_dim', _bits_per_dim(parts, nats)) if images else ('neg_elbo_bits', nats / math.log(2))
    return {'neg_elbo_nats': nats, name: in_bits} | terms

  move = descend(model=Player(loss, optim.make(config, 'model'), ('model',)))
  move = chain(move, average('model', decay)) if decay else move
  sample = functools.partial(_draw, parts)
  return system(networks, move, evaluate, lambda key, state, n: sample(key, state, n), **_views(config, parts))


def _standardised(state: State, x: jax.Array) -> jax.Array:
  """Returns data of mean 0 and variance 1, if they have a density."""
  units = state.extra.get('model_units')
  return (x - units['mean']) / units['scale'] if units else x


def _restored(state: State, x: jax.Array) -> jax.Array:
  """Computes the inverse of `_standardised`."""
  units = state.extra.get('model_units')
  return units['mean'] + units['scale'] * x if units else x


def _bound_of_a_step(parts: DiffusionParts, key: Key, state: State, x: jax.Array) -> jax.Array:
  """Estimates minus the bound of standardised data from one step for each example, [B] nats.

  The steps are evenly spread over the batch. What -log p(x_0|x_1) is near is counted at every step, so that the
  estimates are alike.

  Reference: Sohl-Dickstein et al. 2015, arXiv:1503.03585, equation 14.
  """
  for_times, for_noise, for_dropout = jax.random.split(key, 3)
  kernels = parts.training
  t, weight = _times_of_a_batch(parts, for_times, x.shape[0])
  x_t = kernels.diffuse(for_noise, x, t)
  outputs = parts.chain.apply(state.params['model'], x_t, t, {'dropout': for_dropout})
  offset = kernels.offset * math.prod(parts.shape)
  term = jnp.where(t == 1, kernels.first(outputs, x, x_t) - offset, kernels.divergence(outputs, x, x_t, t))
  return kernels.prior(x) + offset + weight * term


def _squared_error(parts: DiffusionParts, own: diffusion.Reverse, key: Key, state: State, x: jax.Array) -> jax.Array:
  """Computes the squared error at one step for each example, [B]. The steps are evenly spread over the batch."""
  for_times, for_noise, for_dropout = jax.random.split(key, 3)
  t, weight = _times_of_a_batch(parts, for_times, x.shape[0])

  def apply(x_t: jax.Array, t: jax.Array) -> jax.Array:
    return parts.chain.apply(state.params['model'], x_t, t, {'dropout': for_dropout})

  return weight / parts.steps * diffusion.squared_error(own, apply, for_noise, x, t)


def _times_of_a_batch(parts: DiffusionParts, key: Key, n: int) -> tuple[jax.Array, jax.Array]:
  """Draws a step for each of n examples, evenly spread over the batch, and one over its probability."""
  u = (jax.random.uniform(key) + jnp.arange(n) / n) % 1
  return diffusion.times(u, parts.spread, 1, parts.steps)


def _bound(
  parts: DiffusionParts, key: Key, state: State, x: jax.Array, t: jax.Array, weight: jax.Array
) -> tuple[jax.Array, Metrics]:
  """Computes minus the bound of data x, [B] nats, and its parts.

  Args:
    parts: the system's.
    key: of the noise.
    state: the trained state.
    x: [B, ...] in data space.
    t: [n, B] steps from 2 on.
    weight: [n, B] of their divergences in the sum.
  """
  kernels, params = parts.chain.kernels, state.params['model']
  y, ones = _standardised(state, x), jnp.ones(x.shape[0], jnp.int32)
  for_first, for_others = jax.random.split(key)
  x_1 = kernels.diffuse(for_first, y, ones)
  first = kernels.first(parts.chain.apply(params, x_1, ones, None), y, x_1)
  if parts.density:
    first = first + math.prod(parts.shape) * jnp.log(state.extra['model_units']['scale'])

  def add(total, each):
    key, t, weight = each
    x_t = kernels.diffuse(key, y, t)
    return total + weight * kernels.divergence(parts.chain.apply(params, x_t, t, None), y, x_t, t), None

  others, _ = jax.lax.scan(add, jnp.zeros(x.shape[0]), (jax.random.split(for_others, t.shape[0]), t, weight))
  prior = kernels.prior(y)
  return prior + others + first, {'first_step_nats': first, 'prior_nats': prior}


def _strided_times(parts: DiffusionParts, key: Key, n: int, count: int, spread: str) -> tuple[jax.Array, jax.Array]:
  """Draws `count` steps from 2 on for each of n examples, evenly strided, and their weights in the sum, [count, n]."""
  u = (jax.random.uniform(key, (n,))[None] + jnp.arange(count)[:, None]) / count
  t, weight = diffusion.times(u, spread, 2, parts.steps)
  return t, weight / count


def _bits_per_dim(parts: DiffusionParts, nats: jax.Array) -> jax.Array:
  """Converts nats of an example to bits per dimension, of whole levels if these are the data's."""
  bits = losses.bits_per_dim(nats, math.prod(parts.shape))
  return bits + math.log2(parts.levels) if parts.levels else bits


def _draw(parts: DiffusionParts, key: Key, state: State, n: int, labels=None, temperature=1.0) -> jax.Array:
  """Samples n examples."""
  del labels
  for_start, for_steps = jax.random.split(key)
  x = parts.chain.kernels.start(for_start, (n, *parts.shape), temperature)
  steps, params = parts.chain.steps, state.params['model']
  return _restored(state, diffusion.reverse(for_steps, parts.chain, params, x, steps, steps, temperature))


def _views(config: ConfigDict, parts: DiffusionParts) -> dict[str, Any]:
  samples, steps, kernels = config.nll.samples, parts.chain.steps, parts.chain.kernels

  def log_prob(key, state, x, labels=None):
    """Computes the bound: all of its steps, or `config.nll.samples` of them, evenly strided, if these are fewer."""
    del labels
    for_times, for_noise = jax.random.split(key)
    if samples >= parts.steps - 1:
      t = jnp.broadcast_to(jnp.arange(2, parts.steps + 1)[:, None], (parts.steps - 1, x.shape[0]))
      weight = jnp.ones(t.shape)
    else:
      t, weight = _strided_times(parts, for_times, x.shape[0], samples, 'uniform')
    return -_bound(parts, for_noise, state, x, t, weight)[0]

  def bits(key, state, nats):
    del key, state
    return _bits_per_dim(parts, nats)

  def chains(key, state, x):
    for_start, for_steps = jax.random.split(key)
    marks = jnp.asarray([round(i * steps / (COLUMNS - 1)) for i in range(COLUMNS)])
    at = lambda k: jnp.full(x.shape[0], k * parts.chain.stride, jnp.int32)
    forward = jax.vmap(lambda k: kernels.diffuse(for_start, _standardised(state, x), at(k)))(marks)

    def part(x, ends):
      last, first = ends
      x = diffusion.reverse(for_steps, parts.chain, state.params['model'], x, first, first - last)
      return x, x

    start = kernels.start(for_start, x.shape, 1.0)
    _, backward = jax.lax.scan(part, start, (marks[:-1], marks[1:]), reverse=True)
    return _restored(state, jnp.stack([forward, jnp.concatenate([backward, start[None]])]))

  own = {'log_prob': log_prob, 'bits': bits, 'draw': functools.partial(_draw, parts), 'chains': chains}
  if len(parts.shape) == 3:
    own |= {'complete': _complete(parts)} | ({'denoise': _denoise(parts)} if kernels.left is not None else {})
  return own


def _complete(parts: DiffusionParts) -> Callable:
  """Returns the view `complete`, whose known pixels are noisy at each step and exact at the end."""

  def complete(key, state, image, mask, labels=None, temperature=1.0):
    del labels
    for_start, for_steps = jax.random.split(key)
    x, steps = parts.chain.kernels.start(for_start, image.shape, temperature), parts.chain.steps
    fixed, params = (_standardised(state, image), mask), state.params['model']
    x = diffusion.reverse(for_steps, parts.chain, params, x, steps, steps, temperature, fixed)
    return jnp.where(mask[..., None], image, _restored(state, x))

  return complete


def _denoise(parts: DiffusionParts) -> Callable:
  """Returns the view `denoise`, of normal kernels: the chain begins at the first step that is noisy enough.

  Reference: Sohl-Dickstein et al. 2015, arXiv:1503.03585, section 2.5 and figure 3.
  """
  left = jnp.asarray(parts.chain.kernels.left, jnp.float32)  # of the sampler's steps

  def denoise(key, state, x, deviation):
    for_noise, for_steps = jax.random.split(key)
    units = state.extra.get('model_units')
    variance = jnp.square(jnp.asarray(deviation, jnp.float32) / (units['scale'] if units else 1.0))
    k = jnp.minimum((1 - left < left * variance).sum(), parts.chain.steps)
    more = jnp.maximum(1 - left[k] - left[k] * variance, 0.0)  # variance that x_t of step k has besides
    noise = jax.random.normal(for_noise, x.shape)
    x = jnp.sqrt(left[k]) * _standardised(state, x) + jnp.sqrt(more) * noise
    return _restored(state, diffusion.reverse(for_steps, parts.chain, state.params['model'], x, k, k))

  return denoise
