"""Models whose networks are a ladder: one module of an encoder and a decoder, which samples all levels.

A map of latents is a vector of Z_l = C H W numbers to the rest of the house, channel by channel.

Axes: B batch, k samples, N = B k rows, Z_l latents of level l; level 0 is next to the data. [...] is [B] or [B, k].
"""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from dgm_jax import config as experiment
from dgm_jax import distributions, views
from dgm_jax.core import Batch, Key, Metrics, State
from dgm_jax.internal.noise import standard_normal
from dgm_jax.models.ladder import Rung
from dgm_jax.nn.norm import running
from dgm_jax.systems.parts.latents import Latent, Model, Terms, log_normal
from dgm_jax.systems.parts.likelihoods import Likelihood

__all__ = ['NETWORKS', 'STARTS', 'Ladder', 'apply', 'compose', 'kl_by_level', 'log_likelihood']

NETWORKS = ('encoder', 'decoder')
STARTS = 256  # examples that batch statistics and data-dependent starts are made from
MOMENTUM = 0.99  # of batch statistics
ROWS = 8  # most rows of the view `levels`


class Ladder(NamedTuple):
  """A ladder as a value."""

  module: nn.Module  # with the methods __call__, generate and top_prior, and the submodules 'encoder' and 'decoder'
  shapes: Sequence[tuple[int, ...]]  # of z of each level, from the data up: (Z,) or (H, W, C)
  likelihood: Likelihood
  shape: tuple[int, int, int]  # of the data
  set_bias: Callable  # (params of the decoder, x) -> those with which the output starts at the data's mean
  closed: bool = True  # whether the posterior of a level below the top is one given the level above
  standard: bool = True  # whether the prior of the top level is N(0, I)


def compose(ladder: Ladder) -> Model:
  """Returns the model of a ladder, with the networks 'encoder' and 'decoder'."""
  sizes = [math.prod(shape) for shape in ladder.shapes]

  def noise_of(key: Key, rows: tuple[int, ...]) -> list[jax.Array]:
    return _split(ladder, standard_normal(key, (*rows, sum(sizes))).reshape(math.prod(rows), -1))

  def networks(key: Key, batch: Batch):
    x = batch['x'][:STARTS]
    with experiment.naming('config.model'):
      variables = ladder.module.init(key, x, noise_of(jax.random.fold_in(key, 1), x.shape[:1]))
    params, statistics = variables['params'], variables.get('batch_stats', {})
    params = params | {'decoder': ladder.set_bias(params['decoder'], batch['x'])}
    return params, {f'{name}_statistics': part for name, part in statistics.items()}

  def draw(key: Key, state: State, x: jax.Array, k: int | None = None, training: bool = False) -> Terms:
    axes = (x.shape[0],) if k is None else (x.shape[0], k)
    for_dropout = jax.random.fold_in(key, 1) if training else None
    (rungs, params), entries = apply(ladder.module, state, for_dropout, x, noise_of(key, axes))
    return _terms(ladder, axes, x, rungs, params)._replace(extra=entries)

  def means(key, state, x):
    del key
    (rungs, _), _ = apply(ladder.module, state, None, x, _zeros(ladder, x.shape[0]))
    return [_flat(rung.z, x.shape[:1]) for rung in rungs]

  def generate(state: State, noise: list[jax.Array], top: Sequence[jax.Array] = ()):
    return apply(ladder.module, state, None, noise, top, method='generate')[0]

  def sample(key: Key, state: State, n: int) -> jax.Array:
    for_data, for_latents = jax.random.split(key)
    params = generate(state, noise_of(for_latents, (n,)))
    return ladder.likelihood.sample(for_data, params).reshape(n, *ladder.shape)

  views = _views(ladder, generate, noise_of, means)
  return Model(networks, draw=draw, sample=sample, owns=NETWORKS, views=views, means=means, levels=len(sizes))


def kl_by_level(terms: Terms) -> Metrics:
  """Returns the metrics `kl_nats_layer_1` and so on, from the data up, [B]."""
  per_example = lambda kl: kl.sum(-1) if kl.ndim == 2 else kl.sum(-1).mean(1)
  return {f'kl_nats_layer_{level}': per_example(kl) for level, kl in enumerate(terms.kls, 1)}


def apply(module: nn.Module, state: State, dropout: Key | None, *args, **options) -> tuple[Any, dict[str, Any]]:
  """Applies a module of the networks 'encoder' and 'decoder', with the batch statistics of the state.

  In training, with a key for dropout, it also returns new batch statistics, entries of `State.extra`.
  """
  names = [name for name in NETWORKS if f'{name}_statistics' in state.extra]
  variables = {'params': {name: state.params[name] for name in NETWORKS}}
  variables['batch_stats'] = {name: state.extra[f'{name}_statistics'] for name in names}
  if dropout is None:
    return module.apply(variables, *args, **options), {}
  value, new = module.apply(variables, *args, mutable=['batch_stats'], rngs={'dropout': dropout}, **options)
  if not names:
    return value, {}
  old, new = variables['batch_stats'], jax.lax.stop_gradient(new['batch_stats'])
  return value, {f'{name}_statistics': running(old[name], new[name], MOMENTUM) for name in names}


def _terms(ladder: Ladder, axes, x: jax.Array, rungs: Sequence[Rung], params) -> Terms:
  """Returns the terms of samples of all levels, from rows to `axes`."""
  shaped = lambda array: _flat(array, axes)
  latents, kls, log_qs, log_ps = [], [], [], []
  for level, rung in enumerate(rungs):
    z, q, p = shaped(rung.z), tuple(map(shaped, rung.q)), tuple(map(shaped, rung.p))
    log_p = log_normal(z, *p)
    log_q = log_normal(z, *q) if rung.log_q is None else shaped(rung.log_q)
    exact = rung.log_q is None and (ladder.closed or level == len(rungs) - 1)
    kls.append(distributions.gaussian_kl_per_dim(*q, *p) if exact else log_q - log_p)
    latents.append(Latent(z, q if rung.log_q is None else None, None if rung.log_q is None else log_q.sum(-1)))
    log_qs.append(log_q.sum(-1))
    log_ps.append(log_p.sum(-1))
  log_px_z = log_likelihood(ladder.likelihood, axes, x, params)
  log_q = sum(log_qs, jnp.zeros(axes)) - sum(log_ps[:-1], jnp.zeros(axes))
  return Terms(log_px_z=log_px_z, log_q=log_q, log_p=log_ps[-1], kls=kls, latents=latents)


def log_likelihood(
  likelihood: Likelihood, axes: tuple[int, ...], x: jax.Array, params: Sequence[jax.Array]
) -> jax.Array:
  """Computes log p(x|z) of images x [B, ...], [*axes] nats, by parameters [N, D] of their samples."""
  pixels, params = x.reshape(x.shape[0], -1), tuple(param.reshape(*axes, -1) for param in params)
  if len(axes) == 2 and axes[1] == 1:
    # x stays [B, D], as in the encoder: with x[:, None] XLA would fuse, and so repeat, the binarization.
    return likelihood.log_prob(pixels, tuple(param[:, 0] for param in params))[:, None]
  return likelihood.log_prob(pixels if len(axes) == 1 else pixels[:, None], params)


def _flat(array: jax.Array, axes: tuple[int, ...]) -> jax.Array:
  """Reshapes rows of vectors or maps, [N, ...] -> [*axes, Z]."""
  return (array.transpose(0, 3, 1, 2) if array.ndim == 4 else array).reshape(*axes, -1)


def _maps(z: jax.Array, shape: tuple[int, ...]) -> jax.Array:
  """Computes the inverse of `_flat`, [N, Z] -> [N, *shape]."""
  return z.reshape(-1, shape[2], *shape[:2]).transpose(0, 2, 3, 1) if len(shape) == 3 else z


def _split(ladder: Ladder, z: jax.Array) -> list[jax.Array]:
  """Splits latents of all levels side by side, [N, Z] -> [N, ...] of each level."""
  ends = list(itertools.accumulate(math.prod(shape) for shape in ladder.shapes))
  parts = jnp.split(z, ends[:-1], -1)
  return [_maps(part, shape) for part, shape in zip(parts, ladder.shapes, strict=True)]


def _zeros(ladder: Ladder, rows: int) -> list[jax.Array]:
  """Returns the noise of means."""
  return [jnp.zeros((rows, *shape)) for shape in ladder.shapes]


def _views(ladder: Ladder, generate: Callable, noise_of: Callable, means: Callable) -> dict[str, Any]:
  """Returns the views. The codes are those of the top level."""
  images = lambda params: ladder.likelihood.mean(params).reshape(-1, *ladder.shape)

  def encode(key, state, x):
    return means(key, state, x)[-1]

  def decode(key, state, z):
    del key
    return images(generate(state, _zeros(ladder, z.shape[0]), [_maps(z, ladder.shapes[-1])]))

  def reconstruct(key, state, x):
    del key
    return images(apply(ladder.module, state, None, x, _zeros(ladder, x.shape[0]))[0][1])

  def mean_sample(key, state, n):
    return images(generate(state, noise_of(key, (n,))))

  def levels(key, state, x):
    """Returns images of the posterior's samples of the upper levels and the prior's means of those below."""
    (rungs, _), _ = apply(ladder.module, state, None, x, noise_of(key, x.shape[:1]))
    top, count = [rung.z for rung in reversed(rungs)], len(rungs)
    rows = min(count, ROWS)
    depths = [1 + round(row * (count - 1) / max(rows - 1, 1)) for row in range(rows)]
    return jnp.stack([images(generate(state, _zeros(ladder, x.shape[0]), top[:depth])) for depth in depths])

  def bits(key, state, nats):
    del key, state
    return ladder.likelihood.bits(nats, math.prod(ladder.shape))

  return {
    'encode': encode, 'decode': decode, 'posterior': None, 'prior': _prior(ladder), 'reconstruct': reconstruct,
    'mean_sample': mean_sample, 'levels': levels, 'bits': bits,
  }  # fmt: skip


def _prior(ladder: Ladder) -> views.Prior:
  """Returns the prior of the top level."""

  def params(state, rows):
    top = apply(ladder.module, state, None, method='top_prior')[0]
    return tuple(jnp.broadcast_to(_flat(param, (1,)), (rows, param.size)) for param in top)

  def sample(key, state, n):
    mean, logvar = params(state, n)
    return mean + jnp.exp(0.5 * logvar) * standard_normal(key, mean.shape)

  def log_prob(key, state, z):
    del key
    return distributions.normal_log_prob(z, *params(state, z.shape[0]))

  return views.Prior(sample=sample, log_prob=log_prob, normal=ladder.standard)
