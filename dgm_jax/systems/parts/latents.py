"""Variational autoencoders as values: a posterior, a prior and a decoder, composed to a `Model`.

Parts that depend on one another, such as a posterior that is merged with the prior, are a `Model` of their own. All
functions are of (key, state, ...). Those without randomness ignore the key. A part with dropout or batch statistics has
a function `train` for the steps, and keeps its statistics in the entry `<network>_statistics` of `State.extra`.

Axes: B batch, k samples, Z_l latents of level l; level 0 is next to the data. [...] is [B, k]. If k is None, there is
one sample and [...] is [B].
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dgm_jax import distributions, views
from dgm_jax.core import Batch, Key, State

__all__ = [
  'Decoder', 'Latent', 'Model', 'Posterior', 'Prior', 'Terms', 'compose', 'log_normal', 'no_entries'
]  # fmt: skip


class Latent(NamedTuple):
  """One level of latents, sampled for each example.

  `params` are those of q itself, for a divergence in closed form, never those of a base that a flow transforms.
  """

  z: jax.Array  # [..., Z]
  params: tuple[jax.Array, ...] | None  # of q: mean and logvar if it is normal, [..., Z] or [B, 1, Z]; None: unlike any
  log_q: jax.Array | None = None  # [...] nats; None: that of the diagonal normal with these params


class Terms(NamedTuple):
  """The terms of every bound, for samples from the posterior of each example."""

  log_px_z: jax.Array  # [...] nats
  log_q: jax.Array  # [...] nats, log q(z|x) of all levels, less log p(z_l|z_(l+1)) of those below the top
  log_p: jax.Array  # [...] nats, of the top level
  kls: list[jax.Array]  # nats of each level, [..., Z_l] or in closed form [B, 1, Z_l]; [..., 1] under a joint prior
  latents: list[Latent]
  extra: dict[str, Any] = {}  # noqa: RUF012  entries of `State.extra` that the networks have updated
  # In training of a single normal level alone: z -> log weights [...], with the parameters of q constant.
  weigh: Callable | None = None

  @property
  def kl(self) -> jax.Array:
    """The divergence summed over all levels, [...] nats."""
    return sum((kl.sum(-1) for kl in self.kls), jnp.zeros(self.log_px_z.shape))

  @property
  def log_weights(self) -> jax.Array:
    """The log importance weights log p(x, z) - log q(z|x), [...] nats."""
    return self.log_px_z - (self.log_q - self.log_p)


def no_entries(key: Key, x: jax.Array) -> dict[str, Any]:
  """Returns no networks, and no entries of the state."""
  del key, x
  return {}


class Posterior(NamedTuple):
  """The posterior q(z|x), with the parameters of the network 'encoder'."""

  init: Callable  # (key, x) -> parameters of the encoder
  draw: Callable  # (key, state, x, k) -> a Latent for each level; k may be None
  means: Callable  # (key, state, x) -> codes [B, Z_l] of each level, without noise
  normal: Callable | None = None  # (key, state, x) -> mean and logvar [B, Z] of a single level that is normal
  flow_samples: Callable | None = None  # (key, state, x, n) -> z [B, n, Z] before and after the flow that moves it
  closed: bool = True  # whether the Latent of the top level has params
  train: Callable | None = None  # in a step: (key, state, x, k) -> what `draw` returns, and entries of `State.extra`
  extra: Callable = no_entries  # (key, x) -> initial entries of `State.extra`
  top_down: bool = False  # whether no level depends on samples of those below it, so that closed divergences are exact


class Prior(NamedTuple):
  """The prior p(z) of the top level."""

  view: views.Prior
  kl: Callable | None = None  # (key, state, *params of q) -> divergence [..., Z] nats; None: it is taken at the sample
  init: Callable = no_entries  # (key, x) -> networks of its own, by name
  owns: tuple[str, ...] = ()  # their names
  train: Callable | None = None  # in a step: (key, state, z [..., Z]) -> [...] nats, and entries of `State.extra`
  extra: Callable = no_entries  # (key, x) -> initial entries of `State.extra`
  leak: Callable | None = None  # (key, state, z [B, Z]) -> figures by name, [B], far from 0 if `log_prob` is no density


class Decoder(NamedTuple):
  """The likelihood p(x|z_0) and, if there are more levels, normal p(z_(l-1)|z_l): the network 'decoder'."""

  init: Callable  # (key, x) -> parameters
  log_prob: Callable  # (key, state, x, z [..., Z_0]) -> [...] nats
  mean: Callable  # (key, state, z [n, Z_0]) -> [n, ...] in data space
  sample: Callable  # (key, state, z [n, Z_0]) -> [n, ...] in data space
  bits: Callable  # nats -> bits per dimension
  below: tuple[Callable, ...] = ()  # (key, state, z_l) -> mean and logvar of the level below, from level 1 upwards
  train: Callable | None = None  # in a step: (key, state, x, z) -> [...] nats, and entries of `State.extra`
  extra: Callable = no_entries  # (key, x) -> initial entries of `State.extra`


class Model(NamedTuple):
  """A variational autoencoder as functions for bounds and measurements."""

  networks: Callable  # (key, batch) -> (params, extra)
  draw: Callable  # (key, state, x, k=None, training=False) -> Terms
  sample: Callable  # (key, state, n) -> [n, ...] in data space
  owns: tuple[str, ...]  # the networks that the player 'model' trains
  views: dict[str, Any]
  means: Callable  # (key, state, x) -> codes [B, Z_l] of each level, without noise
  levels: int = 1


def compose(posterior: Posterior, prior: Prior, decoder: Decoder) -> Model:
  """Composes a model of its three parts."""

  def networks(key: Key, batch: Batch):
    for_encoder, for_decoder = jax.random.split(key)
    x, for_prior = batch['x'], jax.random.fold_in(key, 2)
    params = {'encoder': posterior.init(for_encoder, x), 'decoder': decoder.init(for_decoder, x)}
    extra = posterior.extra(for_encoder, x) | decoder.extra(for_decoder, x) | prior.extra(for_prior, x)
    return params | prior.init(for_prior, x), extra

  def draw(key: Key, state: State, x: jax.Array, k: int | None = None, training: bool = False) -> Terms:
    latents, used = _either(posterior.draw, posterior.train, training)(key, state, x, k)
    for_decoder, for_prior = jax.random.split(jax.random.fold_in(key, 1))

    def weigh(latents: list[Latent]) -> Terms:
      log_px_z, of_decoder = _either(decoder.log_prob, decoder.train, training)(for_decoder, state, x, latents[0].z)
      of_top = _either(prior.view.log_prob, prior.train, training)
      terms = _weigh(posterior, prior, of_top, decoder.below, for_prior, state, log_px_z, latents)
      return terms._replace(extra=used | of_decoder | terms.extra)

    def weigh_sample(z: jax.Array) -> jax.Array:
      return weigh([Latent(z, jax.lax.stop_gradient(latents[0].params))]).log_weights

    terms = weigh(latents)
    return terms._replace(weigh=weigh_sample) if training and posterior.normal else terms

  def ancestral(key: Key, state: State, n: int) -> jax.Array:
    first, *keys = jax.random.split(key, 1 + len(decoder.below))
    z = prior.view.sample(first, state, n)
    for own, below in zip(keys, reversed(decoder.below), strict=True):
      z = distributions.normal_sample(own, *below(own, state, z))
    return z

  def sample(key: Key, state: State, n: int) -> jax.Array:
    for_data, for_latents = jax.random.split(key)
    return decoder.sample(for_data, state, ancestral(for_latents, state, n))

  owns = ('encoder', 'decoder', *prior.owns)
  model_views = _views(posterior, prior, decoder, ancestral)
  levels = 1 + len(decoder.below)
  return Model(networks, draw=draw, sample=sample, owns=owns, views=model_views, means=posterior.means, levels=levels)


def _either(plain: Callable, train: Callable | None, training: bool) -> Callable:
  """Returns `train` in training if there is one, else `plain` with no entries of the state beside its value."""
  return train if training and train else lambda *args: (plain(*args), {})


def _weigh(posterior: Posterior, prior: Prior, of_top: Callable, below, key, state, log_px_z, latents) -> Terms:
  """Computes the terms: each sample weighed by the priors of all levels; `of_top` also returns entries of the state."""
  top, kls, ratios = latents[-1], [], []
  for level, (own, above, down) in enumerate(zip(latents[:-1], latents[1:], below, strict=True), 1):
    params = down(jax.random.fold_in(key, level), state, above.z)
    log_p = log_normal(own.z, *params)
    if own.log_q is None:
      ratios.append(log_normal(own.z, *own.params) - log_p)
    else:
      ratios.append((own.log_q - log_p.sum(-1))[..., None])
    closed = posterior.top_down and own.log_q is None
    kls.append(distributions.gaussian_kl_per_dim(*own.params, *params) if closed else ratios[-1])
  ratio = sum((one.sum(-1) for one in ratios), jnp.zeros(log_px_z.shape))
  closed = [prior.kl(key, state, *top.params)] if prior.kl and top.params else []
  log_q = distributions.normal_log_prob(top.z, *top.params) if top.log_q is None else top.log_q
  log_p, entries = of_top(key, state, top.z)
  kls += closed or [(log_q - log_p)[..., None]]
  return Terms(log_px_z=log_px_z, log_q=ratio + log_q, log_p=log_p, kls=kls, latents=latents, extra=entries)


def log_normal(z: jax.Array, mean: jax.Array, logvar: jax.Array) -> jax.Array:
  """Computes the log-density of each coordinate on its own, [..., Z] nats."""
  return distributions.normal_log_prob(z[..., None], mean[..., None], logvar[..., None])


def _views(posterior: Posterior, prior: Prior, decoder: Decoder, ancestral: Callable) -> dict[str, Any]:
  """Returns the views that the parts have, by name."""

  def encode(key, state, x):
    return posterior.means(key, state, x)[-1]

  def decode(key, state, z):
    for below in reversed(decoder.below):
      z = below(key, state, z)[0]
    return decoder.mean(key, state, z)

  def reconstruct(key, state, x):
    return decoder.mean(key, state, posterior.means(key, state, x)[0])

  def mean_sample(key, state, n):
    return decoder.mean(key, state, ancestral(key, state, n))

  def bits(key, state, nats):
    del key, state
    return decoder.bits(nats)

  def log_likelihood(key, state, x, z):
    return decoder.log_prob(key, state, x, z)

  def emit(key, state, z):
    return decoder.sample(key, state, z)

  def prior_leak(key, state, x):
    return prior.leak(key, state, posterior.draw(key, state, x, None)[-1].z)

  own = {} if decoder.below else {'log_likelihood': log_likelihood, 'emit': emit}
  own |= {'encode': encode, 'decode': decode, 'posterior': posterior.normal, 'prior': prior.view}
  own |= {'flow_samples': posterior.flow_samples, 'prior_leak': prior_leak if prior.leak else None}
  own |= {'reconstruct': reconstruct, 'mean_sample': mean_sample, 'bits': bits}
  return own if prior.kl and posterior.closed else own | {'kl_per_dim': None}
