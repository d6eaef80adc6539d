"""A model of two levels of latents: a vector z_1, and a map z_0 whose prior given z_1 is an autoregressive network.

The networks are 'encoder', 'decoder' and 'prior', the last that of the map.

Axes: B batch, k samples, Z_l latents of level l. [...] is [B] or [B, k].

Reference: Gulrajani et al. 2017, arXiv:1611.05013, section 3.2.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from dgm_jax import config as experiment
from dgm_jax import distributions, models
from dgm_jax.core import Batch, Key, State
from dgm_jax.internal.noise import standard_normal
from dgm_jax.models.latent_maps import LadderEncoder
from dgm_jax.systems.parts import decoders, priors, raster, sensitivity
from dgm_jax.systems.parts.bounds import Decoder, Latent, Model, Posterior, Terms
from dgm_jax.systems.parts.decoders import PixelDecoder
from dgm_jax.systems.parts.noise_views import decompression, variation
from dgm_jax.systems.parts.pixels import normal

__all__ = ['map_prior', 'two_levels']


def two_levels(config: ConfigDict) -> Model:
  """Builds the model of `config.model.latents` = (Z_0, Z_1).

  Both posteriors are computed from the image. The prior of the map is `config.model.latent_network`, conditioned on the
  map `config.model.latent_map` of z_1.
  """
  sizes = tuple(config.model.latents)
  posterior, decoder, between = _posterior(config), decoders.build(config, sizes[0]), map_prior(config)
  top = priors.standard(sizes[1])
  levels = _levels(between, decoder, top)

  def networks(key: Key, batch: Batch):
    for_encoder, for_decoder, for_prior = jax.random.split(key, 3)
    x = batch['x']
    params = {'encoder': posterior.init(for_encoder, x), 'decoder': decoder.init(for_decoder, x)}
    for_z, for_params = jax.random.split(for_prior)
    z = jax.random.normal(for_z, (x.shape[0], sum(sizes)))
    return params | {'prior': _init_prior(between, for_params, *jnp.split(z, [sizes[0]], -1))}, {}

  def draw(key: Key, state: State, x: jax.Array, k: int | None = None, training: bool = False) -> Terms:
    del training
    latents = posterior.draw(key, state, x, k)
    low, high = latents
    log_px_z = decoder.log_prob(jax.random.fold_in(key, 1), state, x, low.z)
    log_q = [distributions.normal_log_prob(own.z, *own.params) for own in latents]
    log_p = _log_prior(between, state, low.z, high.z)
    kls = [(log_q[0] - log_p)[..., None], top.kl(key, state, *high.params)]
    log_p_top = top.view.log_prob(key, state, high.z)
    return Terms(log_px_z=log_px_z, log_q=log_q[0] - log_p + log_q[1], log_p=log_p_top, kls=kls, latents=latents)

  def sample(key: Key, state: State, n: int) -> jax.Array:
    for_data, for_map, for_top = jax.random.split(key, 3)
    return decoder.sample(for_data, state, levels[1](for_map, state, top.view.sample(for_top, state, n)))

  views = _views(posterior, decoder, top, levels[1]) | {'variations': variation(levels)}
  views['prior_leak'] = _leak(posterior, between)
  owns = ('encoder', 'decoder', 'prior')
  return Model(networks, draw=draw, sample=sample, owns=owns, views=views, means=posterior.means, levels=2)


def map_prior(config: ConfigDict) -> PixelDecoder:
  """Builds the prior of the map given z_1: at each position independent normals, given the positions before it.

  Raises:
    UserError: there is no such network or map, or the latents are no map of this size.
  """
  model = config.model
  size = tuple(model.latent_size)
  experiment.require(
    len(size) == 2 and model.latents[0] % (size[0] * size[1]) == 0,
    f'config.model.latent_size={size} must be height and width of the map of {model.latents[0]} latents',
  )
  pixel = normal(model.latents[0] // (size[0] * size[1]))
  settings = model.latent_network.to_dict()
  function = experiment.choose('config.model.latent_network.name', settings.pop('name', None), models.AUTOREGRESSIVE)
  filled = {'num_parameters': pixel.num_parameters, 'groups': 1, 'dtype': config.dtype}
  network = models.build('config.model.latent_network', function, settings, **filled)
  mapping = decoders.build_map(config, 'latent_map', size)
  return PixelDecoder(network, pixel, (*size, model.latents[0] // (size[0] * size[1])), mapping)


def _posterior(config: ConfigDict) -> Posterior:
  """Returns the diagonal normals q(z_0|x) and q(z_1|x), of one network."""
  settings = config.model.encoder.to_dict()
  experiment.one_of('config.model.encoder.name', settings.pop('name', None), ('ladder',))
  filled = {'latents': tuple(config.model.latents), 'dtype': config.dtype}
  network = models.build('config.model.encoder', LadderEncoder, settings, **filled)

  def init(key, x):
    with experiment.naming('config.model.encoder'):
      return network.init(key, x)['params']

  def params(state, x):
    return network.apply({'params': state.params['encoder']}, x)

  def draw(key, state, x, k):
    axes = (x.shape[0],) if k is None else (x.shape[0], k)
    latents = []
    for (mean, logvar), own in zip(params(state, x), jax.random.split(key), strict=True):
      mean, logvar = (mean, logvar) if k is None else (mean[:, None], logvar[:, None])
      z = mean + jnp.exp(0.5 * logvar) * standard_normal(own, (*axes, mean.shape[-1]))
      latents.append(Latent(z, (mean, logvar)))
    return latents

  def means(key, state, x):
    del key
    return [mean for mean, _ in params(state, x)]

  return Posterior(init=init, draw=draw, means=means)


def _init_prior(between: PixelDecoder, key: Key, low: jax.Array, high: jax.Array) -> dict:
  """Returns initial parameters of the map's prior, from latents [B, Z_0] and [B, Z_1]."""
  for_map, for_network = jax.random.split(key)
  with experiment.naming('config.model.latent_map'):
    params = {} if between.mapping is None else {'map': between.mapping.init(for_map, high)['params']}
  condition = decoders.condition_of(between, params, high)
  with experiment.naming('config.model.latent_network'):
    return params | {'pixels': between.network.init(for_network, low.reshape(-1, *between.shape), condition)['params']}


def _log_prior(between: PixelDecoder, state: State, low: jax.Array, high: jax.Array) -> jax.Array:
  """Computes log p(z_0|z_1) of latents [..., Z_0] and [..., Z_1], [...] nats."""
  x, condition = low.reshape(-1, *between.shape), high.reshape(-1, high.shape[-1])
  return decoders.log_prob_map(between, state.params['prior'], x, condition).sum((1, 2)).reshape(low.shape[:-1])


def _leak(posterior: Posterior, between: PixelDecoder) -> Callable:
  """Returns the view that measures whether the parameters of the map's positions depend on later positions."""

  def view(key, state, x):
    low, high = posterior.draw(key, state, x, None)
    first = jnp.arange(between.shape[0] * between.shape[1])
    rows, own = first % x.shape[0], state.params['prior']
    condition = decoders.condition_of(between, own, high.z)[rows]
    maps = low.z.reshape(-1, *between.shape)[rows]
    sizes = sensitivity.gradients(key, between.network, own['pixels'], between.pixel, maps, first, condition)
    return {f'gradient_by_{name}_latents': size.max() for name, size in sizes.items()}

  return view


def _levels(between: PixelDecoder, decoder: Decoder, top: priors.Prior) -> list[Callable]:
  """Returns the samplers of z_1, of z_0 given z_1, and of images given z_0."""

  def vector(key, state, above):
    del above
    return top.view.sample(key, state, 1)

  def latent_map(key, state, above):
    empty = jnp.zeros((above.shape[0], *between.shape))
    pixel_model = decoders.model_of(between, state.params['prior'], above)
    z = raster.sample_incremental(key, pixel_model, empty, jnp.zeros(empty.shape[:3], bool))
    return z.reshape(above.shape[0], -1)

  return [vector, latent_map, decoder.sample]


def _views(posterior: Posterior, decoder: Decoder, top: priors.Prior, draw_map: Callable) -> dict[str, Callable]:
  """Returns the views; the codes are those of the upper level."""

  def encode(key, state, x):
    return posterior.means(key, state, x)[1]

  def decode(key, state, z):
    for_map, for_data = jax.random.split(key)
    return decoder.mean(for_data, state, draw_map(for_map, state, z))

  def reconstruct(key, state, x):
    return decoder.mean(key, state, posterior.means(key, state, x)[0])

  def bits(key, state, nats):
    del key, state
    return decoder.bits(nats)

  return {
    'encode': encode, 'decode': decode, 'posterior': None, 'prior': top.view, 'reconstruct': reconstruct, 'bits': bits,
    'decompress': decompression(posterior, decoder),
  }  # fmt: skip
