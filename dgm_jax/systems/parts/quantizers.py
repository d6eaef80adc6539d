"""Quantization of a critic's features: `config.model.quantize`.

Its keys are `layers`, the names of the critic's layers after which features are quantized; `codes`, of each layer;
`commitment` and `decay`; `feed`, whether the codes go on in place of the features; `start`, the count that a code
begins with; `deviation` of the first codes; and `both`, whether a move of the generator moves the codebooks, too.
"""

import functools

import flax.linen as nn
from ml_collections import ConfigDict

from dgm_jax import config as experiment
from dgm_jax import losses
from dgm_jax.nn.quantize import FeatureQuantizer

__all__ = ['quantized', 'settings']

PATH = 'config.model.quantize'


def settings(**changes) -> dict:
  """Returns a complete `config.model.quantize`, as plain data."""
  base = {
    'layers': (), 'codes': 1024, 'commitment': 1.0, 'decay': 0.8, 'feed': False, 'start': 1.0, 'deviation': 1.0,
    'both': False,
  }  # fmt: skip
  return base | changes


def quantized(critic: nn.Module, quantize: ConfigDict) -> nn.Module:
  """Returns a critic whose features are quantized.

  Raises:
    UserError: it cannot quantize, it has no such layer, or a setting is missing, unknown or out of range.
  """
  layers = getattr(critic, 'layers', ())
  experiment.require(
    bool(layers), f'{PATH} is for critics whose layers have names: take config.model.critic.network=biggan'
  )
  for name in quantize:
    experiment.one_of(f'a key of {PATH}', name, settings())
  for name in settings():
    experiment.require(name in quantize, f'{PATH} lacks {name}: set {PATH}.{name}={settings()[name]}')
  experiment.require(len(quantize.layers) > 0, f'{PATH}.layers is empty: name one or more of {", ".join(layers)}')
  for name in quantize.to_dict()['layers']:
    experiment.one_of(f'an element of {PATH}.layers', name, layers)
  for name, interval in {'codes': '[1, inf)', 'commitment': '[0, inf)', 'decay': '[0, 1)', 'start': '[0, inf)'}.items():
    experiment.within(f'{PATH}.{name}', quantize[name], interval)
  return critic.clone(quantize=functools.partial(_layer, quantize.to_dict()))


def _layer(quantize: dict, name: str) -> FeatureQuantizer | None:
  if name not in quantize['layers']:
    return None
  options = {key: quantize[key] for key in ('codes', 'commitment', 'feed', 'start', 'deviation')}
  return FeatureQuantizer(**options, vectors=losses.codebook_vectors, name=f'quantize_{name}')
