"""Autoencoders whose decoder draws pixels one after another, so that the latents hold what is left: VLAE and PixelVAE.

Axes: B batch, k samples, Z_l latents of level l; level 0 is next to the data. [...] is [B] or [B, k].
"""

import math

from ml_collections import ConfigDict

from dgm_jax import config as experiment
from dgm_jax import models
from dgm_jax.core import System
from dgm_jax.models import latent_maps
from dgm_jax.models import pixel_vae as pixel_vae_networks
from dgm_jax.nn import made
from dgm_jax.nn import reversible as rev
from dgm_jax.nn.bijections import reverse
from dgm_jax.nn.coupling import additive
from dgm_jax.systems.parts import bounds, decoders, posteriors, priors
from dgm_jax.systems.parts.bounds import Model, Posterior, Prior
from dgm_jax.systems.parts.noise_views import decompression, variation
from dgm_jax.systems.parts.two_levels import two_levels

__all__ = ['pixel_vae', 'vlae']

ENCODERS = {
  'dense': pixel_vae_networks.DenseEncoder, 'pairs': pixel_vae_networks.PairEncoder, 'maps': latent_maps.MapEncoder,
  'resnet': pixel_vae_networks.ResNetEncoder,
}  # fmt: skip


def vlae(config: ConfigDict) -> System:
  """Builds a variational lossy autoencoder: a decoder that sees few pixels, and an autoregressive prior.

  The prior is `config.model.prior`, the bound `config.model.bound`.

  Reference: Chen et al. 2017, arXiv:1611.02731, sections 3.1 and 3.2.
  """
  return _system(config, _one_level(config), 'free_bits')


def pixel_vae(config: ConfigDict) -> System:
  """Builds a PixelVAE: a decoder that is a shallow PixelCNN conditioned on the latents.

  With two numbers in `config.model.latents`, the first are a map with a PixelCNN prior given the second. The bound is
  `config.model.bound`.

  Reference: Gulrajani et al. 2017, arXiv:1611.05013, equations 1 and 2.
  """
  levels = len(config.model.latents)
  experiment.require(levels in (1, 2), f'config.model.latents must be of one or two levels, got {config.model.latents}')
  model = _one_level(config) if levels == 1 else two_levels(config)
  return _system(config, model, 'warm_up')


def _system(config: ConfigDict, model: Model, bound: str) -> System:
  """Returns the System of a model and its views of single levels of noise."""

  def bits_per_dim(terms):
    bits = model.views['bits'](None, None, -bounds.elbo(terms, None)[0])
    return {'bits_per_dim': bits}

  more = {}
  if config.model.decoder == 'pixels':
    more['causality'] = decoders.causality(decoders.pixel_network(config), lambda *args: model.means(*args)[0])
  return bounds.system(config, model, bound, bits_per_dim, **more)


def _one_level(config: ConfigDict) -> Model:
  """Builds the model with one level of latents."""
  experiment.require(
    len(config.model.latents) == 1, f'config.model.latents must be of one level, got {config.model.latents}'
  )
  (latents,) = config.model.latents
  posterior, decoder = image_posterior(config, latents), decoders.build(config, latents)
  map_prior = config.model.get('prior') == 'flow' and config.model.get('prior_flow') == 'map'
  prior = _map_prior(config, latents) if map_prior else priors.by_name(config, latents, posterior)
  model = bounds.compose(posterior, prior, decoder)

  def top(key, state, above):
    del above
    return prior.view.sample(key, state, 1)

  views = {'variations': variation([top, decoder.sample]), 'decompress': decompression(posterior, decoder)}
  return model._replace(views=model.views | views)


def image_posterior(config: ConfigDict, latents: int) -> Posterior:
  """Returns the diagonal normals whose parameters `config.model.encoder` computes from images."""
  settings = config.model.encoder.to_dict()
  function = experiment.choose('config.model.encoder.name', settings.pop('name', None), ENCODERS)
  network = models.build('config.model.encoder', function, settings, latents=latents, dtype=config.dtype)

  def init(key, x):
    with experiment.naming('config.model.encoder'):
      return network.init(key, x)['params']

  def first(key, state, x):
    del key
    return network.apply({'params': state.params['encoder']}, x)

  return posteriors.chain(init, first, (latents,))


def _map_prior(config: ConfigDict, latents: int) -> Prior:
  """Returns the mean-only autoregressive prior of a map of latents, the order reversed after each step.

  Reference: Chen et al. 2017, arXiv:1611.02731, appendix B.
  """
  settings = config.model.prior_network.to_dict()
  size, layers = tuple(settings.get('size', ())), settings.get('layers', 1)
  experiment.require(
    len(size) == 3 and math.prod(size) == latents,
    f'config.model.prior_network.size={size} must be height, width and channels of the {latents} latents',
  )
  experiment.require(layers >= 1, f'config.model.prior_network.layers must be at least 1, got {layers}')

  def network(count):
    return latent_maps.MaskedMap(size, count, tuple(settings.get('hidden', (128, 128))), config.dtype)

  step = rev.chain(made.autoregressive(network, additive(), by_fixed_point=True), reverse())
  return priors.from_flow(rev.repeat(layers, step, unroll=layers), latents)
