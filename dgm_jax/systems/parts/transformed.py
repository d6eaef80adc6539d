"""Posteriors whose samples a flow moves: planar, radial, Sylvester, inverse autoregressive; and that without a flow.

The encoder computes the flow's parameters for each example, or a context that a network of the flow reads.

Axes: B batch, k samples, Z latents, F numbers of the context.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from ml_collections import ConfigDict

from dgm_jax import config as experiment
from dgm_jax import distributions
from dgm_jax.internal.noise import standard_normal
from dgm_jax.models import resnet_vae, vae
from dgm_jax.nn import bijections, coupling, made
from dgm_jax.nn import reversible as rev
from dgm_jax.nn.blocks import ACTIVATIONS
from dgm_jax.nn.reversible import Bijection
from dgm_jax.systems.parts import likelihoods, posteriors
from dgm_jax.systems.parts.latents import Decoder, Latent, Posterior

__all__ = ['POSTERIORS', 'Motion', 'amortized', 'by_name', 'conditioned', 'decoder', 'diagonal', 'iaf', 'planar']
__all__ += ['posterior', 'radial', 'sylvester']

KERNELS = 0.1  # initial factor of the amortised parameters that depend on the example


class Motion(NamedTuple):
  """How samples of a normal posterior are moved, given a context [B, F]."""

  size: int  # F
  init: Callable  # key -> parameters of its own, kept in the network 'encoder'
  start: Callable  # (key, parameters of the context's layer) -> those that it starts with
  move: Callable  # (parameters, z [B, k, Z], context) -> (z [B, k, Z], log-determinant [B, k] nats)


def posterior(network: Callable[[int], nn.Module], latents: int, motion: Motion) -> Posterior:
  """Returns the posterior of moved samples of a diagonal normal.

  Args:
    network: F -> a module, x -> mean [B, Z], logvar [B, Z] and context [B, F], the last from its layer 'context'.
    latents: Z.
    motion: how they are moved.
  """
  module = network(motion.size)

  def init(key, x):
    for_network, for_start, for_flow = jax.random.split(key, 3)
    params = module.init(for_network, x[:STARTS])['params']
    params['context'] = motion.start(for_start, params['context'])
    return {'network': params, 'flow': motion.init(for_flow)}

  def encode(state, x) -> Any:
    return module.apply({'params': state.params['encoder']['network']}, x)

  def draw_path(key, state, x, k):
    mean, logvar, context = encode(state, x)
    mean, logvar = mean[:, None], logvar[:, None]
    noise = standard_normal(key, (x.shape[0], k or 1, latents))
    base = mean + jnp.exp(0.5 * logvar) * noise
    return base, mean, logvar, *motion.move(state.params['encoder']['flow'], base, context)

  def draw(key, state, x, k):
    base, mean, logvar, z, log_det = draw_path(key, state, x, k)
    log_q = distributions.normal_log_prob(base, mean, logvar) - log_det
    return [Latent(z, None, log_q) if k else Latent(z[:, 0], None, log_q[:, 0])]

  def means(key, state, x):
    del key
    mean, _, context = encode(state, x)
    return [motion.move(state.params['encoder']['flow'], mean[:, None], context)[0][:, 0]]

  def flow_samples(key, state, x, n):
    base, _, _, z, _ = draw_path(key, state, x, n)
    return base, z

  path = flow_samples if latents > 1 else None
  return Posterior(init=init, draw=draw, means=means, flow_samples=path, closed=False)


STARTS = 256  # examples that a data-dependent start is made from


def amortized(flow: Bijection, latents: int) -> Motion:
  """Returns the motion by a flow whose parameters are the context, different for each example.

  The bias of the context's layer starts at parameters of the flow's own start.
  """
  like = jax.eval_shape(lambda key: flow.init(key, jnp.zeros((2, latents))), jax.random.key(0))
  flat, restore = ravel_pytree(jax.tree.map(jnp.zeros_like, like))

  def start(key, params):
    own, _ = ravel_pytree(flow.init(key, jnp.zeros((2, latents))))
    return {'kernel': KERNELS * params['kernel'], 'bias': own}

  def move(params, z, context):
    del params
    one = lambda numbers, z: flow.forward(restore(numbers), {}, z)[:2]
    return jax.vmap(one)(context.astype(flat.dtype), z)

  return Motion(size=flat.size, init=lambda key: {}, start=start, move=move)


def conditioned(flow: Bijection, latents: int, context: int) -> Motion:
  """Returns the motion by a flow of the pair (z, context)."""

  def init(key):
    return flow.init(key, (jnp.zeros((1, latents)), jnp.zeros((1, context))))

  def start(key, params):
    del key
    return params

  def move(params, z, context):
    def of_sample(z):
      (z, _), log_det, _ = flow.forward(params, {}, (z, context))
      return z, log_det

    return jax.vmap(of_sample, 1, 1)(z)  # what depends on the context alone is computed once

  return Motion(size=context, init=init, start=start, move=move)


def by_name(config: ConfigDict) -> Posterior:
  """Returns the posterior `config.model.posterior`, 'diagonal' if there is no such key.

  A flow has the settings `config.model.flow`. With 0 layers the posterior is diagonal.

  Raises:
    UserError: there is no such posterior, or a setting is missing or out of range.
  """
  model = config.model
  experiment.require(
    len(model.latents) == len(model.hidden) == 1,
    f'config.model.latents and .hidden must be of one level, got {model.latents} and {model.hidden}',
  )
  build = experiment.choose('config.model.posterior', model.get('posterior', 'diagonal'), POSTERIORS)
  if build is diagonal:
    return diagonal(config)
  settings, allowed = model.get('flow', {}), SETTINGS[model.posterior]
  for name in settings:
    experiment.one_of(f'a key of config.model.flow ({model.posterior})', name, allowed)
  for name in allowed:
    experiment.require(
      name in settings, f'config.model.flow.{name} is missing, which posterior={model.posterior} needs: add it'
    )
  layers = settings['layers']
  experiment.require(layers >= 0, f'config.model.flow.layers must not be negative, got {layers}')
  return build(config, settings) if layers else diagonal(config)


def diagonal(config: ConfigDict) -> Posterior:
  """Returns the diagonal normals."""
  model = config.model
  if _residual(config):
    module = _network(config)(0)

    def init(key, x):
      return module.init(key, x[:STARTS])['params']

    def first(key, state, x):
      del key
      return module.apply({'params': state.params['encoder']}, x)

    return posteriors.chain(init, first, tuple(model.latents))
  return posteriors.encoder(config, tuple(map(tuple, model.hidden)), tuple(model.latents), model.activation)


def planar(config: ConfigDict, settings: Mapping[str, Any]) -> Posterior:
  """Returns normals moved by planar maps.

  Reference: Rezende & Mohamed 2015, arXiv:1505.05770, section 4.1.
  """
  return _amortized(config, bijections.planar(START), settings['layers'])


def radial(config: ConfigDict, settings: Mapping[str, Any]) -> Posterior:
  """Returns normals moved by radial maps.

  Reference: Rezende & Mohamed 2015, arXiv:1505.05770, section 4.1.
  """
  return _amortized(config, bijections.radial(START), settings['layers'])


def sylvester(config: ConfigDict, settings: Mapping[str, Any]) -> Posterior:
  """Returns normals moved by Sylvester maps with Householder reflections.

  Reference: van den Berg et al. 2018, arXiv:1803.05649, section 3.
  """
  count = settings['reflections']
  experiment.require(count >= 1, f'config.model.flow.reflections must be at least 1, got {count}')
  return _amortized(config, bijections.sylvester(count, START), settings['layers'])


START = 0.01  # of the flows' parameters, so that the flow is nearly the identity


def _amortized(config: ConfigDict, layer: Bijection, layers: int) -> Posterior:
  """Returns normals moved by layers whose parameters the encoder computes."""
  (latents,) = config.model.latents
  return posterior(_network(config), latents, amortized(rev.repeat(layers, layer), latents))


def iaf(config: ConfigDict, settings: Mapping[str, Any]) -> Posterior:
  """Returns normals moved by inverse autoregressive steps, with the order reversed after each step.

  Reference: Kingma et al. 2016, arXiv:1606.04934, section 3 and algorithm 1.
  """
  (latents,), context = config.model.latents, settings['context']
  experiment.one_of('config.model.flow.activation', settings['activation'], ACTIVATIONS)
  experiment.require(context >= 1, f'config.model.flow.context must be at least 1, got {context}')
  experiment.require(
    min(settings['hidden'], default=0) >= 1, f'config.model.flow.hidden must list widths, got {settings["hidden"]}'
  )
  network = lambda numbers: made.MADE(tuple(settings['hidden']), numbers, settings['activation'], config.dtype)
  step = rev.chain(made.conditioned(network, coupling.gated()), rev.on(0, bijections.reverse()))
  flow = rev.repeat(settings['layers'], step, unroll=settings['layers'])
  return posterior(_network(config), latents, conditioned(flow, latents, context))


def _network(config: ConfigDict) -> Callable[[int], nn.Module]:
  """Returns the function that creates the encoder by the size of its context."""
  model, ((hidden,), (latents,)) = config.model, (config.model.hidden, config.model.latents)
  posteriors.check_network(config, (latents,), model.activation)
  settings = {'channels': tuple(model.channels), 'activation': model.activation, 'dtype': config.dtype}
  if _residual(config):
    return lambda context: resnet_vae.Encoder(hidden=hidden[0], latents=latents, context=context, **settings)
  return lambda context: vae.ContextEncoder(tuple(hidden), latents, context, **settings)


def _residual(config: ConfigDict) -> bool:
  """Returns whether `config.model.network` is 'resnet' and not 'dense', the default."""
  model = config.model
  experiment.one_of('config.model.network', model.get('network', 'dense'), NETWORKS)
  residual = model.get('network', 'dense') == 'resnet'
  experiment.require(
    not residual or (len(model.channels) >= 1 and len(model.hidden[0]) == 1 and model.activation in ACTIVATIONS),
    'config.model.network=resnet needs channels of each scale, one width in hidden, and an activation of'
    f' {", ".join(ACTIVATIONS)}, got {model.channels}, {model.hidden}, {model.activation}',
  )
  return residual


def decoder(config: ConfigDict) -> Decoder:
  """Returns the decoder of the network `config.model.network`, with independent pixels."""
  if _residual(config):
    return likelihoods.residual_decoder(config)
  model = config.model
  return likelihoods.decoder(config, tuple(map(tuple, model.hidden)), tuple(model.latents), model.activation)


NETWORKS = ('dense', 'resnet')
POSTERIORS = {'diagonal': diagonal, 'planar': planar, 'radial': radial, 'sylvester': sylvester, 'iaf': iaf}
SETTINGS = {
  'planar': ('layers',), 'radial': ('layers',), 'sylvester': ('layers', 'reflections'),
  'iaf': ('layers', 'hidden', 'activation', 'context'),
}  # fmt: skip
