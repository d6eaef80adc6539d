"""Priors over the codes of a vector-quantized autoencoder: one autoregressive network a level, told the levels above.

Codes are whole numbers [B, h, w, 1] as float32, where they are drawn; levels are listed from the top.

Axes: B batch, h, w of a level, K codes, E features of an embedding, D condition.
"""

import math
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from dgm_jax import config as experiment
from dgm_jax import distributions, models
from dgm_jax.core import Key
from dgm_jax.models.code_prior import Conditioner
from dgm_jax.models.vqvae import VQVAE, level_names, level_sizes
from dgm_jax.systems.parts import raster
from dgm_jax.systems.parts.pixels import Pixel

__all__ = ['Prior', 'bits', 'draw', 'log_prob', 'priors', 'random', 'start']


class Prior(NamedTuple):
  """p(codes of a level | codes above, label)."""

  network: nn.Module  # autoregressive: embedded codes [B, h, w, E] -> logits [B, h, w, K]
  conditioner: nn.Module | None  # None at the top
  codes: int  # K
  embedding: int  # E
  size: tuple[int, int]
  above: tuple[str, ...]  # the levels that it is told, from the top


def priors(config: ConfigDict, autoencoder: VQVAE) -> dict[str, Prior]:
  """The priors that `config.model` describes, level -> prior.

  Raises:
    UserError: a level is missing, a network has no such setting, or a place has several codes.
  """
  names, model = level_names(len(autoencoder.strides)), config.model
  experiment.require(
    autoencoder.per_place == 1,
    f'config.model.vqvae.per_place={autoencoder.per_place}: priors are over one code a place, set it to 1',
  )
  sizes = level_sizes(tuple(config.data.shape[:2]), autoencoder.strides)
  made = {}
  for name, (size, *_) in zip(names, sizes, strict=True):
    settings = model.get(name, ConfigDict()).to_dict()
    network = experiment.choose(f'config.model.{name}.network', settings.pop('network', None), models.AUTOREGRESSIVE)
    filled = {'numbers': autoencoder.codes, 'groups': 1, 'dtype': config.dtype}
    network = models.build(f'config.model.{name}', network, settings, **filled)
    filled = {'codes': autoencoder.codes, 'size': size, 'dtype': config.dtype}
    conditioner = models.build('config.model.conditioner', Conditioner, model.conditioner.to_dict(), **filled)
    conditioner = conditioner if made else None
    made[name] = Prior(network, conditioner, autoencoder.codes, model.embedding, size, tuple(made))
  return made


def random(made: dict[str, Prior], key: Key, n: int) -> dict[str, jax.Array]:
  """Uniform codes of all levels, level -> [n, h, w] int32."""
  keys = jax.random.split(key, len(made))
  return {
    name: jax.random.randint(k, (n, *one.size), 0, one.codes) for k, (name, one) in zip(keys, made.items(), strict=True)
  }


def start(prior: Prior, key: Key, found: dict[str, jax.Array], label: jax.Array | None, name: str):
  """Fresh parameters of the prior over a level, from codes of all levels."""
  for_embedding, for_conditioner, for_network = jax.random.split(key, 3)
  params = {'embedding': jax.random.normal(for_embedding, (prior.codes, prior.embedding))}
  above = [found[level] for level in prior.above]
  if above:
    params['conditioner'] = prior.conditioner.init(for_conditioner, above)['params']
  condition = told(prior, params, above, label)
  read = params['embedding'][found[name]]
  params['network'] = prior.network.init(for_network, read, condition)['params']
  return params


def told(prior: Prior, params, above: list[jax.Array], label: jax.Array | None) -> jax.Array | None:
  """What a network is conditioned on: nothing, the label [B, D], or, with codes above, [B, h, w, D] from all of it."""
  if not above:
    return label
  seen = prior.conditioner.apply({'params': params['conditioner']}, above)
  if label is None:
    return seen
  spread = jnp.broadcast_to(label[:, None, None], (*seen.shape[:3], label.shape[-1]))
  return jnp.concatenate([seen, spread.astype(seen.dtype)], -1)


def log_prob(prior: Prior, params, found: dict[str, jax.Array], label, name: str, rngs: dict | None = None):
  """Log-probability of the codes of a level given those above, [B] nats."""
  condition = told(prior, params, [found[level] for level in prior.above], label)
  logits = prior.network.apply({'params': params['network']}, params['embedding'][found[name]], condition, rngs=rngs)
  return distributions.categorical_log_prob(found[name], logits).sum(1)


def draw(made: dict[str, Prior], key: Key, params, n: int, label: jax.Array | None, temperature) -> dict:
  """Codes of all levels, level -> [n, h, w] int32, each position of the network computed once."""
  found = {}
  for (name, prior), for_level in zip(made.items(), jax.random.split(key, len(made)), strict=True):
    condition = told(prior, params[name], [found[level] for level in prior.above], label)
    pixel = _pixel(params[name]['embedding'])
    drawing = raster.Drawing(prior.network, params[name]['network'], pixel, condition, temperature)
    given = jnp.zeros((n, *prior.size, 1))
    x = raster.incremental(for_level, drawing, given, jnp.zeros(given.shape[:3], bool))
    found[name] = x[..., 0].astype(jnp.int32)
  return found


def bits(nats: jax.Array, prior: Prior) -> jax.Array:
  """Nats of a level's codes as bits a code."""
  return nats / (math.prod(prior.size) * math.log(2))


def _pixel(embedding: jax.Array) -> Pixel:
  """A position's code: the network reads its embedding, and its numbers are the codes' logits."""
  code = lambda x: x[..., 0].astype(jnp.int32)
  return Pixel(
    embedding.shape[0],
    1,
    lambda x: embedding[code(x)],
    lambda x, logits: distributions.categorical_log_prob(code(x)[..., None], logits[..., None, :]),
    lambda key, logits, temperature: distributions.categorical_sample(key, logits / temperature)[..., None].astype(
      jnp.float32
    ),
  )
