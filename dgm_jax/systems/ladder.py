"""Hierarchical variational autoencoders: a ladder of levels, and three orders in which they are inferred."""

import math
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from dgm_jax import config as experiment
from dgm_jax import models
from dgm_jax.core import System
from dgm_jax.models import conv_ladder, deep_ladder, iaf_ladder
from dgm_jax.models import ladder as networks
from dgm_jax.nn.blocks import VARIANCES
from dgm_jax.systems.parts import bounds, ladders, likelihoods, pixels, posteriors
from dgm_jax.systems.parts.likelihoods import LIKELIHOODS, Likelihood

__all__ = ['bottom_up', 'factorised', 'iaf', 'top_down', 'vdvae']


def factorised(config: ConfigDict) -> System:
  """Builds the system whose posterior is a product over levels, each computed from x alone.

  With levels 1 to L its bound is E log p(x|z_1) less the sum over l of E KL(q(z_l|x) || p(z_l|z_(l+1))), where the top
  level has the prior p(z_L).

  Reference: Gulrajani et al. 2017, arXiv:1611.05013, section 3.2, of posteriors that do not depend on one another.
  """
  return _dense(config, 'factorised')


def bottom_up(config: ConfigDict) -> System:
  """Builds the system whose posterior samples each level given the level below.

  Reference: Burda et al. 2016, arXiv:1509.00519, equation 1.
  """
  return _dense(config, 'bottom_up')


def top_down(config: ConfigDict) -> System:
  """Builds the system whose posterior samples each level given x and the level above.

  `config.model.merge` says how what x tells of a level is merged with the prior given the level above. With
  `config.model.network` the levels are maps, and a network merges them.

  Reference: Sonderby et al. 2016, arXiv:1602.02282, equations 13 to 18.
  """
  return _gated(config) if 'network' in config.model else _dense(config, 'top_down')


def vdvae(config: ConfigDict) -> System:
  """Builds the very deep ladder of maps, whose blocks are `config.model.down` and levels `config.model.up`.

  Reference: Child 2021, arXiv:2011.10650.
  """
  model: Any = config.model
  shape = tuple(config.data.shape)
  likelihood, outputs = _of_maps(config)
  for key in ('features', 'middle', 'latents'):
    experiment.require(model[key] >= 1, f'config.model.{key} must be at least 1, got {model[key]}')
  with experiment.naming('config.model.down'):
    sides = {side // divisor for side, divisor in deep_ladder.parse_down(model.down)}
    first = deep_ladder.parse_down(model.down)[0][0]
  with experiment.naming('config.model.up'):
    levels = [side for side, _ in deep_ladder.parse_up(model.up)]
  experiment.require(
    shape[:2] == (first, first) and levels[-1] == first,
    f"config.model.down='{model.down}' and .up='{model.up}' are of images of side {first} and {levels[-1]}, config.data"
    f' has {shape}',
  )
  experiment.require(
    set(levels) <= sides | {first},
    f"config.model.up='{model.up}' has levels of sides that config.model.down='{model.down}' never comes to",
  )
  widths = {'features': model.features, 'middle': model.middle, 'dtype': config.dtype}
  encoder = deep_ladder.DeepEncoder(model.down, model.up, **widths)
  decoder = deep_ladder.DeepDecoder(model.up, outputs, likelihood.num_parameters, model.latents, **widths)
  shapes = [(side, side, model.latents) for side in reversed(levels)]
  return _maps(config, encoder, decoder, shapes, likelihood)


def iaf(config: ConfigDict) -> System:
  """Builds the residual ladder whose posteriors have an inverse autoregressive step in each of `config.model.blocks`.

  Reference: Kingma et al. 2016, arXiv:1606.04934, section 5.
  """
  model: Any = config.model
  shape = tuple(config.data.shape)
  for key in ('blocks', 'features', 'latents'):
    experiment.require(model[key] >= 1, f'config.model.{key} must be at least 1, got {model[key]}')
  experiment.require(
    model.features % model.latents == 0,
    f'config.model.features={model.features} must be a multiple of config.model.latents={model.latents}, whose order'
    ' the layers of a step keep',
  )
  experiment.require(
    shape[0] % 2 == shape[1] % 2 == 0,
    f'config.data has images of {shape}, whose sides a stride of 2 must divide: set'
    f' --config.data.size={shape[0] + shape[0] % 2}',
  )
  experiment.one_of('config.model.likelihood', model.likelihood, ('discretized_logistic',))
  widths = {'blocks': model.blocks, 'features': model.features, 'latents': model.latents, 'dtype': config.dtype}
  module = conv_ladder.Tower(iaf_ladder.Encoder(**widths), iaf_ladder.Decoder(shape, **widths))
  shapes = [(shape[0] // 2, shape[1] // 2, model.latents)] * model.blocks
  likelihood = LIKELIHOODS[model.likelihood](config.data.levels)

  def set_bias(params, x):
    del x
    return params  # the output starts from data

  return _system(config, ladders.Ladder(module, shapes, likelihood, shape, set_bias, standard=False))


def _dense(config: ConfigDict, order: str) -> System:
  """Returns the System of dense layers for an order of inference."""
  model, shape = config.model, tuple(config.data.shape)
  _check(config, order)
  likelihood = experiment.choose('config.model.likelihood', model.likelihood, LIKELIHOODS)(config.data.levels)
  module = networks.Ladder(
    tuple(map(tuple, model.hidden)), tuple(model.latents), shape, likelihood.num_parameters, order,
    model.get('merge', 'precision'), model.activation, model.norm, model.variance, config.dtype,
  )  # fmt: skip

  def set_bias(decoder, x):
    bias = likelihood.init_bias(x.mean(0).ravel()).ravel()
    return decoder | {'output': decoder['output'] | {'bias': bias}}

  shapes = [(size,) for size in model.latents]
  return _system(config, ladders.Ladder(module, shapes, likelihood, shape, set_bias, order != 'bottom_up'))


def _system(config: ConfigDict, ladder: ladders.Ladder) -> System:
  """Returns the System of a ladder, which also measures the divergence of each level."""
  in_bits = config.model.likelihood != 'bernoulli'

  def figures(terms):
    bits = ladder.likelihood.bits(-bounds.elbo(terms, None)[0], math.prod(ladder.shape))
    return bounds.neg_bound(terms) | ladders.kl_by_level(terms) | ({'bits_per_dim': bits} if in_bits else {})

  return bounds.system(config, ladders.compose(ladder), 'elbo', figures)


def _of_maps(config: ConfigDict) -> tuple[Likelihood, int]:
  """Returns the likelihood of a map, and its number of parameters a pixel."""
  model, shape = config.model, tuple(config.data.shape)
  allowed = (*LIKELIHOODS, 'logistic_mixture')
  experiment.one_of('config.model.likelihood', model.likelihood, allowed)
  if model.likelihood != 'logistic_mixture':
    likelihood = LIKELIHOODS[model.likelihood](config.data.levels)
    return likelihood, likelihood.num_parameters * shape[-1]
  pixel = pixels.logistic_mixture(shape[-1], model, config.data.levels)
  return likelihoods.logistic_mixture(shape, pixel), pixel.num_parameters


def _gated(config: ConfigDict) -> System:
  """Returns the System of maps that gated residual blocks connect.

  Raises:
    UserError: a setting of `config.model.network` is missing or out of range.
  """
  path, settings, shape = 'config.model.network', config.model.network.to_dict(), tuple(config.data.shape)
  experiment.require(len(shape) == 3, f'{path} takes images, config.data has {shape}')
  experiment.one_of(f'{path}.name', settings.pop('name', None), ('gated',))
  down = tuple(settings.get('down', ()))
  experiment.require(
    len(down) >= 1 and min(down) >= 0 and max(down) <= settings.get('blocks', 1),
    f'{path}.down={down} must list the halvings below each level, at most as many as {path}.blocks',
  )
  for key in ('blocks', 'features', 'latents'):
    experiment.require(settings.get(key, 1) >= 1, f'{path}.{key} must be at least 1, got {settings.get(key)}')
  dropout = settings.get('dropout', 0.0)
  experiment.require(0 <= dropout < 1, f'{path}.dropout must be in [0, 1), got {dropout}')
  likelihood, outputs = _of_maps(config)
  of_maps: dict[str, Any] = {key: value for key, value in settings.items() if key != 'latents'}
  encoder = models.build(path, conv_ladder.GatedEncoder, of_maps, dtype=config.dtype)
  filled: Mapping = {'shape': shape, 'outputs': outputs, 'parts': likelihood.num_parameters, 'dtype': config.dtype}
  decoder = models.build(path, conv_ladder.GatedDecoder, settings, **filled)
  return _maps(config, encoder, decoder, conv_ladder.gated_shapes(shape, down, decoder.latents), likelihood)


def _maps(config: ConfigDict, encoder, decoder, shapes, likelihood: Likelihood) -> System:
  """Returns the System of a tower of maps."""

  def set_bias(params, x):
    bias = likelihood.init_bias(x.mean((0, 1, 2))).ravel()
    return params | {'output': params['output'] | {'bias': params['output']['bias'] + bias}}  # outputs start at mean 0

  module, shape = conv_ladder.Tower(encoder, decoder), tuple(config.data.shape)
  return _system(config, ladders.Ladder(module, shapes, likelihood, shape, set_bias, standard=False))


def _check(config: ConfigDict, order: str) -> None:
  """Refuses levels and widths of different length, and parts that do not exist.

  Raises:
    UserError: it names the setting.
  """
  model = config.model
  experiment.require(
    len(model.hidden) == len(model.latents) >= 1,
    f'config.model.hidden={model.hidden} must list the widths of as many levels as config.model.latents='
    f'{model.latents} has',
  )
  posteriors.check_network(config, model.latents, model.activation)
  experiment.one_of('config.model.variance', model.variance, VARIANCES)
  experiment.require(isinstance(model.norm, bool), f'config.model.norm must be True or False, got {model.norm!r}')
  experiment.require(
    not model.norm or model.activation not in ('gated', 'maxout'),
    f'config.model.activation={model.activation} is without batch normalisation: set config.model.norm=False',
  )
  experiment.require(
    ('merge' in model) == (order == 'top_down'),
    f'config.model.merge is of ladder.top_down alone, and ladder.top_down needs it: {", ".join(networks.MERGES)}',
  )
  if order == 'top_down':
    experiment.one_of('config.model.merge', model.merge, networks.MERGES)
