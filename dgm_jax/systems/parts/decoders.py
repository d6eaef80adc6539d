"""Decoders p(x|z) of autoencoders: pixels that are independent given z, or that an autoregressive network draws.

Both are made of a map from the latents to features of each pixel, chosen by `config.model.map`. The network 'decoder'
has the parts 'map' and 'pixels'. With `config.model.map.name = 'none'`, the vector z itself is the condition.

Axes: B batch, k samples, n images, Z latents, H height, W width, C channels, F features.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from dgm_jax import config as experiment
from dgm_jax import losses, models
from dgm_jax.errors import UserError
from dgm_jax.internal.noise import standard_normal
from dgm_jax.models import latent_maps, pixel_vae
from dgm_jax.models.local_pixelcnn import WindowPixelCNN, window_taps
from dgm_jax.systems.parts import raster, sensitivity
from dgm_jax.systems.parts.bounds import Decoder
from dgm_jax.systems.parts.likelihoods import LIKELIHOODS
from dgm_jax.systems.parts.pixels import PIXELS, Pixel

__all__ = ['DECODERS', 'PixelDecoder', 'build', 'factorised', 'pixel_network', 'pixels']

MAPS = {
  'dense': pixel_vae.DenseMap, 'pairs': pixel_vae.PairMap, 'maps': latent_maps.MapDecoder,
  'resnet': pixel_vae.ResNetMap,
}  # fmt: skip


STARTS = 256  # samples of N(0, I) that a data-dependent start is made from


class PixelDecoder(NamedTuple):
  """The network of pixels, the distribution of a pixel, and the map that conditions them."""

  network: nn.Module
  pixel: Pixel
  shape: tuple[int, int, int]
  mapping: nn.Module | None  # None: z is the condition


def build(config: ConfigDict, latents: int) -> Decoder:
  """Returns the decoder that `config.model.decoder` names."""
  return experiment.choose('config.model.decoder', config.model.decoder, DECODERS)(config, latents)


def factorised(config: ConfigDict, latents: int) -> Decoder:
  """Returns the decoder whose pixels are independent given z; the map computes their parameters."""
  model, shape = config.model, tuple(config.data.shape)
  likelihood = experiment.choose('config.model.likelihood', model.likelihood, LIKELIHOODS)(config.data.levels)
  count = likelihood.num_parameters
  mapping = build_map(config, features=shape[-1] * count)
  experiment.require(
    mapping is not None,
    "config.model.map.name='none' gives no parameters to config.model.decoder='factorised': take another map",
  )

  def params(state, z):
    outputs = mapping.apply({'params': state.params['decoder']['map']}, z.reshape(-1, z.shape[-1])).astype(jnp.float32)
    return tuple(part.reshape(*z.shape[:-1], -1) for part in jnp.split(outputs, count, -1))

  def init(key, x):
    del x
    z = standard_normal(jax.random.fold_in(key, 1), (STARTS, latents))  # which a data-dependent start needs
    with experiment.naming('config.model.map'):
      return {'map': mapping.init(key, z)['params']}

  def log_prob(key, state, x, z):
    del key
    x = x.reshape(x.shape[0], *(1,) * (z.ndim - 2), -1)
    return likelihood.log_prob(x, params(state, z))

  def mean(key, state, z):
    del key
    return likelihood.mean(params(state, z)).reshape(-1, *shape)

  def sample(key, state, z):
    return likelihood.sample(key, params(state, z)).reshape(-1, *shape)

  def bits(nats):
    return likelihood.bits(nats, math.prod(shape))

  return Decoder(init=init, log_prob=log_prob, mean=mean, sample=sample, bits=bits)


def pixels(config: ConfigDict, latents: int) -> Decoder:
  """Returns the decoder whose pixels an autoregressive network draws given z.

  Its 'mean' is a sample, because a mean over images is no image.
  """
  parts = pixel_network(config)

  def init(key, x):
    for_map, for_z, for_pixels = jax.random.split(key, 3)
    z, params = jax.random.normal(for_z, (x.shape[0], latents)), {}
    if parts.mapping is not None:
      with experiment.naming('config.model.map'):
        params['map'] = parts.mapping.init(for_map, z)['params']
    inputs, condition = parts.pixel.inputs(x), condition_of(parts, params, z)
    with experiment.naming('config.model.network'):
      return params | {'pixels': parts.network.init(for_pixels, inputs, condition)['params']}

  def log_prob(key, state, x, z):
    del key
    own, axes = state.params['decoder'], z.shape[:-1]
    x = jnp.broadcast_to(x.reshape(x.shape[0], *(1,) * (len(axes) - 1), *parts.shape), (*axes, *parts.shape))
    return log_prob_map(parts, own, x.reshape(-1, *parts.shape), z.reshape(-1, z.shape[-1])).sum((1, 2)).reshape(axes)

  def sample(key, state, z):
    empty = jnp.zeros((z.shape[0], *parts.shape))
    pixel_model = model_of(parts, state.params['decoder'], z)
    return raster.sample_incremental(key, pixel_model, empty, jnp.zeros(empty.shape[:3], bool))

  def bits(nats):
    return losses.bits_per_dim(nats, math.prod(parts.shape))

  return Decoder(init=init, log_prob=log_prob, mean=sample, sample=sample, bits=bits)


def log_prob_map(parts: PixelDecoder, params: Any, x: jax.Array, z: jax.Array) -> jax.Array:
  """Computes log p(x_i | x_<i, z) of each pixel of x [n, H, W, C] given z [n, Z], [n, H, W] nats."""
  inputs, condition = parts.pixel.inputs(x), condition_of(parts, params, z)
  return parts.pixel.log_prob(x, parts.network.apply({'params': params['pixels']}, inputs, condition))


def condition_of(parts: PixelDecoder, params: Any, z: jax.Array) -> jax.Array:
  """Computes the condition of the network of pixels: z [n, Z], or its map [n, H, W, F]."""
  return z if parts.mapping is None else parts.mapping.apply({'params': params['map']}, z)


def model_of(parts: PixelDecoder, params: Any, z: jax.Array) -> raster.PixelModel:
  """Returns the model that samplers take, conditioned on z [n, Z]."""
  return raster.PixelModel(parts.network, params['pixels'], parts.pixel, condition_of(parts, params, z))


def causality(parts: PixelDecoder, encode: Callable) -> Callable:
  """Returns the view that measures whether pixels depend on later ones, given the codes that `encode` computes."""

  def view(key, state, x, first, labels=None):
    del labels
    own, z = state.params['decoder'], jax.lax.stop_gradient(encode(key, state, x))
    condition = condition_of(parts, own, z)
    return sensitivity.gradients(key, parts.network, own['pixels'], parts.pixel, x, first, condition)

  return view


def pixel_network(config: ConfigDict) -> PixelDecoder:
  """Builds the network that `config.model.network` describes, and the map of `config.model.map`.

  Raises:
    UserError: there is no such network, likelihood or map, or they do not fit together or the data.
  """
  model, shape = config.model, tuple(config.data.shape)
  pixel = experiment.choose('config.model.likelihood', model.likelihood, PIXELS)(shape[-1], model, config.data.levels)
  settings = model.network.to_dict()
  name = settings.pop('name', None)
  function = experiment.choose('config.model.network.name', name, models.AUTOREGRESSIVE)
  joint = name in models.WHOLE_PIXELS
  experiment.require(
    shape[-1] == 1 or model.likelihood != 'bernoulli',
    f"config.model.likelihood='bernoulli' takes binary images of one channel, config.data has {shape[-1]}: use"
    + (" 'logistic_mixture'" if joint else " 'categorical'"),
  )
  experiment.require(
    pixel.groups == 1 or not joint,
    f'config.model.likelihood={model.likelihood} orders the {pixel.groups} channels of config.data, which'
    f" {function.__name__} draws at once; use 'logistic_mixture'",
  )
  if function is WindowPixelCNN:
    _check_window(settings, shape)
  filled = {'num_parameters': pixel.num_parameters, 'groups': pixel.groups, 'dtype': config.dtype}
  network = models.build('config.model.network', function, settings, **filled)
  return PixelDecoder(network, pixel, shape, build_map(config))


def _check_window(settings: dict, shape: tuple[int, ...]) -> None:
  """Refuses a window that is empty, or wider or higher than the image."""
  wide, high = (settings.get(name, getattr(WindowPixelCNN, name)) for name in ('wide', 'high'))
  try:
    window_taps(wide, high)
  except ValueError as error:
    raise UserError(f'config.model.network: {error}') from error
  experiment.require(
    wide <= shape[1] and high <= shape[0],
    f'config.model.network has a window of {wide}x{high} pixels, more than the image of {shape[1]}x{shape[0]}: lower'
    ' wide and high',
  )


def build_map(
  config: ConfigDict, key: str = 'map', size: tuple[int, int] | None = None, features: int | None = None
) -> nn.Module | None:
  """Builds the map `config.model.<key>`, of the size of the image by default; None if its name is 'none'.

  Args:
    config: the experiment.
    key: the name of the settings.
    size: height and width.
    features: the number of features, if the experiment may not set it.
  """
  settings = getattr(config.model, key).to_dict()
  name = settings.pop('name', None)
  experiment.one_of(f'config.model.{key}.name', name, (*MAPS, 'none'))
  if name == 'none':
    return None
  filled = {'size': size or tuple(config.data.shape[:2]), 'dtype': config.dtype}
  if features is not None:
    settings['features'] = features
  return models.build(f'config.model.{key}', MAPS[name], settings, **filled)


DECODERS = {'factorised': factorised, 'pixels': pixels}
