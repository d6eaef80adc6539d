"""Priors over the codes of a vector-quantized autoencoder: one autoregressive network a level.

Each network is conditioned on the levels above. Codes are whole numbers [B, h, w, 1] as float32 while they are sampled.
Levels are listed from the top.

Axes: B batch, h, w of a level, K codes, E features of an embedding, D condition.
"""

import math
from typing import Any, NamedTuple

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

__all__ = ['CodePrior', 'bits', 'build_priors', 'condition_of', 'init_prior', 'log_prob', 'random_codes', 'sample']


class CodePrior(NamedTuple):
  """The prior p(codes of a level | codes above, label)."""

  network: nn.Module  # autoregressive: embedded codes [B, h, w, E] -> logits [B, h, w, K]
  conditioner: nn.Module | None  # None at the top
  codes: int  # K
  embedding: int  # E
  size: tuple[int, int]
  above: tuple[str, ...]  # the levels that it is conditioned on, from the top


def build_priors(config: ConfigDict, autoencoder: VQVAE) -> dict[str, CodePrior]:
  """Builds the priors that `config.model` describes, level -> prior.

  Raises:
    UserError: a level is missing, a network has no such setting, or a place has several codes.
  """
  names, model = level_names(len(autoencoder.strides)), config.model
  experiment.require(
    autoencoder.per_place == 1,
    f'config.model.vqvae.per_place={autoencoder.per_place}: priors are over one code a place, set it to 1',
  )
  sizes = level_sizes(tuple(config.data.shape[:2]), autoencoder.strides)
  priors = {}
  for name, (size, *_) in zip(names, sizes, strict=True):
    settings = model.get(name, ConfigDict()).to_dict()
    network = experiment.choose(f'config.model.{name}.network', settings.pop('network', None), models.AUTOREGRESSIVE)
    filled = {'num_parameters': autoencoder.codes, 'groups': 1, 'dtype': config.dtype}
    network = models.build(f'config.model.{name}', network, settings, **filled)
    filled = {'codes': autoencoder.codes, 'size': size, 'dtype': config.dtype}
    conditioner = models.build('config.model.conditioner', Conditioner, model.conditioner.to_dict(), **filled)
    conditioner = conditioner if priors else None
    priors[name] = CodePrior(network, conditioner, autoencoder.codes, model.embedding, size, tuple(priors))
  return priors


def random_codes(priors: dict[str, CodePrior], key: Key, n: int) -> dict[str, jax.Array]:
  """Samples uniform codes of all levels, level -> [n, h, w] int32."""
  keys = jax.random.split(key, len(priors))
  return {
    name: jax.random.randint(k, (n, *one.size), 0, one.codes)
    for k, (name, one) in zip(keys, priors.items(), strict=True)
  }


def init_prior(prior: CodePrior, key: Key, codes: dict[str, jax.Array], label: jax.Array | None, name: str) -> Any:
  """Returns initial parameters of the prior over a level, from codes of all levels."""
  for_embedding, for_conditioner, for_network = jax.random.split(key, 3)
  params = {'embedding': jax.random.normal(for_embedding, (prior.codes, prior.embedding))}
  above = [codes[level] for level in prior.above]
  if above:
    params['conditioner'] = prior.conditioner.init(for_conditioner, above)['params']
  condition = condition_of(prior, params, above, label)
  embedded = params['embedding'][codes[name]]
  params['network'] = prior.network.init(for_network, embedded, condition)['params']
  return params


def condition_of(prior: CodePrior, params: Any, above: list[jax.Array], label: jax.Array | None) -> jax.Array | None:
  """Returns the condition of a network.

  It is the label [B, D] at the top, None without labels. Below the top it is [B, h, w, D], from the codes above and
  the label.
  """
  if not above:
    return label
  features = prior.conditioner.apply({'params': params['conditioner']}, above)
  if label is None:
    return features
  spread = jnp.broadcast_to(label[:, None, None], (*features.shape[:3], label.shape[-1]))
  return jnp.concatenate([features, spread.astype(features.dtype)], -1)


def log_prob(
  prior: CodePrior, params: Any, codes: dict[str, jax.Array], label: Any, name: str, rngs: dict | None = None
) -> Any:
  """Computes the log-probability of the codes of a level given those above, [B] nats."""
  condition = condition_of(prior, params, [codes[level] for level in prior.above], label)
  logits = prior.network.apply({'params': params['network']}, params['embedding'][codes[name]], condition, rngs=rngs)
  return distributions.categorical_log_prob(codes[name], logits).sum(1)


def sample(
  priors: dict[str, CodePrior], key: Key, params: Any, n: int, label: jax.Array | None, temperature: float
) -> dict:
  """Samples codes of all levels, level -> [n, h, w] int32; each position of a network is computed once."""
  codes = {}
  for (name, prior), for_level in zip(priors.items(), jax.random.split(key, len(priors)), strict=True):
    condition = condition_of(prior, params[name], [codes[level] for level in prior.above], label)
    pixel = _pixel(params[name]['embedding'])
    pixel_model = raster.PixelModel(prior.network, params[name]['network'], pixel, condition, temperature)
    empty = jnp.zeros((n, *prior.size, 1))
    x = raster.sample_incremental(for_level, pixel_model, empty, jnp.zeros(empty.shape[:3], bool))
    codes[name] = x[..., 0].astype(jnp.int32)
  return codes


def bits(nats: jax.Array, prior: CodePrior) -> jax.Array:
  """Converts nats of a level's codes to bits a code."""
  return nats / (math.prod(prior.size) * math.log(2))


def _pixel(embedding: jax.Array) -> Pixel:
  """Returns the distribution of a position's code: embedded for the network, whose outputs are the codes' logits."""

  def index(x):
    return x[..., 0].astype(jnp.int32)

  def inputs(x):
    return embedding[index(x)]

  def log_prob(x, logits):
    return distributions.categorical_log_prob(index(x)[..., None], logits[..., None, :])

  def sample(key, logits, temperature):
    return distributions.categorical_sample(key, logits / temperature)[..., None].astype(jnp.float32)

  return Pixel(num_parameters=embedding.shape[0], groups=1, inputs=inputs, log_prob=log_prob, sample=sample)
