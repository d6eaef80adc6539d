"""Variational autoencoders whose prior is a Boltzmann machine of bits."""

import functools
from typing import Any

import jax
from ml_collections import ConfigDict

from dgm_jax import config as experiment
from dgm_jax.core import Key, System
from dgm_jax.distributions import boltzmann, smoothing
from dgm_jax.models.discrete_vae import DiscreteVAE
from dgm_jax.nn.blocks import ACTIVATIONS
from dgm_jax.systems.parts import bits, bounds, ladders
from dgm_jax.systems.parts.likelihoods import LIKELIHOODS

__all__ = ['discrete_vae']

COUNTS = ('bits', 'bit_groups', 'chains', 'sweeps', 'temperatures', 'ais_chains')  # keys of at least 1
NORMALIZERS = ('ais', 'exact')
FOLLOWED = 100  # most temperatures and chains of an estimate of the log-normalizer in training


def discrete_vae(config: ConfigDict) -> System:
  """Builds the system of groups of bits under a restricted Boltzmann machine, smoothed, with continuous layers below.

  The gradient of the machine has its negative phase from persistent chains, whole numbers in `State.extra`.

  Reference: Rolfe 2017, arXiv:1609.02200; for overlapping smoothings, Vahdat et al. 2018, arXiv:1802.04920.

  Raises:
    UserError: a setting of `config.model` is out of range, or `config.parallel` is 'pmap'.
  """
  model: Any = config.model
  _check(config)
  likelihood = experiment.choose('config.model.likelihood', model.likelihood, LIKELIHOODS)(config.data.levels)
  smooth = experiment.choose('config.model.smoothing', model.smoothing, smoothing.SMOOTHINGS)(model.beta)
  module = DiscreteVAE(
    tuple(config.data.shape), likelihood.num_parameters, model.bits, model.bit_groups, smooth, tuple(model.hidden),
    tuple(model.pixel_hidden), tuple(model.prior_hidden), model.layers, model.latents, model.shared, model.activation,
    model.norm, config.dtype,
  )  # fmt: skip
  normalize = follow = _exact
  if model.log_z == 'ais':
    normalize = functools.partial(_anneal, model.temperatures, model.ais_chains)
    follow = functools.partial(_anneal, min(model.temperatures, FOLLOWED), min(model.ais_chains, FOLLOWED))
  value = bits.Bits(module, likelihood, model.chains, model.sweeps, model.coupled, normalize, follow)

  def figures(terms):
    return bounds.neg_bound(terms) | (ladders.kl_by_level(terms) if model.layers else {})

  around = functools.partial(bits.persistent, value)
  return bounds.system(config, bits.compose(value), 'elbo', figures, around)


def _exact(key: Key, machine: boltzmann.Machine) -> jax.Array:
  """Computes the log-normalizer by enumeration."""
  del key
  return boltzmann.log_normalizer(machine)


def _anneal(temperatures: int, chains: int, key: Key, machine: boltzmann.Machine) -> jax.Array:
  """Estimates the log-normalizer by annealed importance sampling."""
  return boltzmann.lower_bound(boltzmann.annealed(key, machine, temperatures, chains))


def _check(config: ConfigDict) -> None:
  """Refuses settings out of range.

  Raises:
    UserError: names the setting.
  """
  model: Any = config.model
  experiment.require(
    config.parallel != 'pmap',
    f"config.parallel='pmap' would give each device chains of its own, which cannot be averaged, and {config.system}"
    " has chains: set config.parallel='jit'",
  )
  for key in COUNTS:
    experiment.require(model[key] >= 1, f'config.model.{key} must be at least 1, got {model[key]}')
  experiment.require(model.bits >= 2, f'config.model.bits={model.bits} must be at least 2, one for each half')
  experiment.require(
    model.bit_groups <= model.bits,
    f'config.model.bit_groups={model.bit_groups} is more than config.model.bits={model.bits}: take fewer groups',
  )
  experiment.require(
    model.layers >= 0 and (model.layers == 0 or model.latents >= 1),
    f'config.model.layers={model.layers} continuous layers of config.model.latents={model.latents} latents: take 0 or'
    ' more layers, of 1 or more latents',
  )
  experiment.one_of('config.model.smoothing', model.smoothing, smoothing.SMOOTHINGS)
  least = 1 if model.smoothing == 'power' else 0
  experiment.require(
    model.beta > least,
    f'config.model.beta={model.beta} must be greater than {least} for config.model.smoothing={model.smoothing}',
  )
  experiment.one_of('config.model.activation', model.activation, ACTIVATIONS)
  experiment.one_of('config.model.log_z', model.log_z, NORMALIZERS)
  half = model.bits // 2
  experiment.require(
    model.log_z != 'exact' or half <= boltzmann.LIMIT,
    f'config.model.log_z=exact enumerates the {half} bits of a half, and at most {boltzmann.LIMIT} can be: set'
    " config.model.log_z='ais', or fewer config.model.bits",
  )
