"""Variational autoencoders as values: a posterior, a prior and a decoder, and the bounds that they are trained on.

`compose` makes a `Model` of the three. Parts that depend on one another, such as a posterior that is merged with the
prior, are a `Model` of their own. `system` trains any Model on any bound. All functions are of (key, state, ...). Those
without randomness ignore the key.

Axes: B batch, k samples, Z_l latents of level l; level 0 is next to the data. [...] is [B, k]. If k is None, there is
one sample and [...] is [B].
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from dgm_jax import config as experiment
from dgm_jax import core, distributions, losses, optim, views
from dgm_jax.core import Batch, Key, Metrics, Move, Player, State, System, descend

__all__ = [
  'Bound', 'Decoder', 'Latent', 'Model', 'Posterior', 'Prior', 'Terms', 'beta', 'capacity', 'close', 'compose', 'elbo',
  'free_bits', 'iwae', 'log_prob', 'neg_bound', 'per_example', 'player', 'ramp', 'samples_of', 'system', 'with_metrics',
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

  @property
  def kl(self) -> jax.Array:
    """The divergence summed over all levels, [...] nats."""
    return sum((kl.sum(-1) for kl in self.kls), jnp.zeros(self.log_px_z.shape))

  @property
  def log_weights(self) -> jax.Array:
    """The log importance weights log p(x, z) - log q(z|x), [...] nats."""
    return self.log_px_z - (self.log_q - self.log_p)


# (terms, state) -> (the objective to maximise, [B] or [], (entries of `State.extra`, metrics)).
Bound = Callable[[Terms, State], tuple[jax.Array, tuple[dict[str, Any], Metrics]]]


class Posterior(NamedTuple):
  """The posterior q(z|x), with the parameters of the network 'encoder'."""

  init: Callable  # (key, x) -> parameters of the encoder
  draw: Callable  # (key, state, x, k) -> a Latent for each level; k may be None
  means: Callable  # (key, state, x) -> codes [B, Z_l] of each level, without noise
  normal: Callable | None = None  # (key, state, x) -> mean and logvar [B, Z] of a single level that is normal
  closed: bool = True  # whether the Latent of the top level has params


def _no_networks(key: Key, x: jax.Array) -> dict[str, Any]:
  """Returns no networks."""
  del key, x
  return {}


class Prior(NamedTuple):
  """The prior p(z) of the top level."""

  view: views.Prior
  kl: Callable | None = None  # (key, state, *params of q) -> divergence [..., Z] nats; None: it is taken at the sample
  init: Callable = _no_networks  # (key, x) -> networks of its own, by name
  owns: tuple[str, ...] = ()  # their names


class Decoder(NamedTuple):
  """The likelihood p(x|z_0) and, if there are more levels, normal p(z_(l-1)|z_l): the network 'decoder'."""

  init: Callable  # (key, x) -> parameters
  log_prob: Callable  # (key, state, x, z [..., Z_0]) -> [...] nats
  mean: Callable  # (key, state, z [n, Z_0]) -> [n, ...] in data space
  sample: Callable  # (key, state, z [n, Z_0]) -> [n, ...] in data space
  bits: Callable  # nats -> bits per dimension
  below: tuple[Callable, ...] = ()  # (key, state, z_l) -> mean and logvar of the level below, from level 1 upwards


class Model(NamedTuple):
  """A variational autoencoder as functions for bounds and measurements."""

  networks: Callable  # (key, batch) -> (params, extra)
  draw: Callable  # (key, state, x, k=None) -> Terms
  sample: Callable  # (key, state, n) -> [n, ...] in data space
  owns: tuple[str, ...]  # the networks that the player 'model' trains
  views: dict[str, Any]
  means: Callable  # (key, state, x) -> codes [B, Z_l] of each level, without noise


def compose(posterior: Posterior, prior: Prior, decoder: Decoder) -> Model:
  """Composes a model of its three parts."""

  def networks(key: Key, batch: Batch):
    for_encoder, for_decoder = jax.random.split(key)
    params = {'encoder': posterior.init(for_encoder, batch['x']), 'decoder': decoder.init(for_decoder, batch['x'])}
    return params | prior.init(jax.random.fold_in(key, 2), batch['x']), {}

  def draw(key: Key, state: State, x: jax.Array, k: int | None = None) -> Terms:
    latents, (for_decoder, for_prior) = posterior.draw(key, state, x, k), jax.random.split(jax.random.fold_in(key, 1))
    log_px_z = decoder.log_prob(for_decoder, state, x, latents[0].z)
    return _weigh(prior, decoder.below, for_prior, state, log_px_z, latents)

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
  return Model(networks=networks, draw=draw, sample=sample, owns=owns, views=model_views, means=posterior.means)


def _weigh(prior: Prior, below: tuple, key: Key, state: State, log_px_z: jax.Array, latents: list[Latent]) -> Terms:
  """Computes the terms: each sample weighed by the priors of all levels."""
  top, kls = latents[-1], []
  for level, (own, above, down) in enumerate(zip(latents[:-1], latents[1:], below, strict=True), 1):
    log_p = _log_normal(own.z, *down(jax.random.fold_in(key, level), state, above.z))
    if own.log_q is None:
      kls.append(_log_normal(own.z, *own.params) - log_p)
    else:
      kls.append((own.log_q - log_p.sum(-1))[..., None])
  ratio = sum((kl.sum(-1) for kl in kls), jnp.zeros(log_px_z.shape))
  closed = [prior.kl(key, state, *top.params)] if prior.kl and top.params else []
  log_q = distributions.normal_log_prob(top.z, *top.params) if top.log_q is None else top.log_q
  log_p = prior.view.log_prob(key, state, top.z)
  kls += closed or [(log_q - log_p)[..., None]]
  return Terms(log_px_z=log_px_z, log_q=ratio + log_q, log_p=log_p, kls=kls, latents=latents)


def _log_normal(z: jax.Array, mean: jax.Array, logvar: jax.Array) -> jax.Array:
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

  own = {'encode': encode, 'decode': decode, 'posterior': posterior.normal, 'prior': prior.view}
  own |= {'reconstruct': reconstruct, 'mean_sample': mean_sample, 'bits': bits}
  return own if prior.kl and posterior.closed else own | {'kl_per_dim': None}


def system(config: ConfigDict, model: Model, bound: Bound, figures: Callable = lambda terms: {}) -> System:
  """Returns the System that trains a model on a bound, by one player that owns all of its networks.

  Args:
    config: the experiment; `config.model.samples`, if it exists, is the number of samples.
    model: the model.
    bound: one of those below, or another.
    figures: terms -> further metrics of `evaluate`, [B] each.
  """
  return close(config, model, descend(model=player(config, model, bound)), figures)


def player(config: ConfigDict, model: Model, bound: Bound, rows: Callable = lambda x: x) -> Player:
  """Returns the player 'model', which maximises the bound on the `rows` of the batch."""
  samples = samples_of(config)

  def loss(key: Key, state: State, batch: Batch):
    terms = model.draw(key, state, rows(batch['x']), samples)
    value, (extra, metrics) = bound(terms, state)
    return -value.mean(), (terms.extra | extra, metrics)

  return Player(loss, optim.make(config, 'model'), model.owns)


def samples_of(config: ConfigDict) -> int | None:
  """Returns the number of samples per example; None means one sample without an axis of its own."""
  samples = config.model.get('samples')
  experiment.require(samples is None or samples >= 1, f'config.model.samples must be at least 1, got {samples}')
  return samples


def close(config: ConfigDict, model: Model, move: Move, figures: Callable = lambda terms: {}, **more) -> System:
  """Returns the System of a model that a move trains; `more` are views."""
  samples, nll = samples_of(config), config.nll

  def evaluate(key: Key, state: State, batch: Batch) -> Metrics:
    terms = model.draw(key, state, batch['x'], samples)
    return {
      'neg_elbo_nats': -elbo(terms, state)[0], 'reconstruction_nats': -per_example(terms.log_px_z),
      'kl_nats': per_example(terms.kl),
    } | figures(terms)  # fmt: skip

  def layers(key, state, x):
    terms, codes = model.draw(key, state, x), model.means(key, state, x)
    means = [own.params[0] if own.params else code for own, code in zip(terms.latents, codes, strict=True)]
    return list(zip(means, terms.kls, strict=True))

  def kl_per_dim(key, state, x):
    return layers(key, state, x)[-1][1]

  def estimate(key, state, x, labels=None):
    del labels
    return log_prob(model, key, state, x, nll.samples, nll.rows)

  own = {'layers': layers, 'kl_per_dim': kl_per_dim, 'log_prob': estimate}
  return core.system(model.networks, move, evaluate, model.sample, **own | model.views | more)


def log_prob(model: Model, key: Key, state: State, x: jax.Array, samples: int, rows: int) -> jax.Array:
  """Estimates log p(x) by importance sampling, [B] nats, with about `rows` decoded images in memory at a time."""
  fitting = [k for k in range(1, samples + 1) if samples % k == 0 and k * x.shape[0] <= max(rows, x.shape[0])]

  def add(total, key):
    terms = model.draw(key, state, x, fitting[-1])
    return jnp.logaddexp(total, jax.nn.logsumexp(terms.log_weights, 1)), None

  start = jnp.full(x.shape[0], -jnp.inf)
  total, _ = jax.lax.scan(add, start, jax.random.split(key, samples // fitting[-1]))
  return total - jnp.log(samples)


def per_example(x: jax.Array) -> jax.Array:
  """Averages over the samples, [B, k] -> [B]; leaves [B] unchanged."""
  return x if x.ndim == 1 else x.mean(1)


def elbo(terms: Terms, state: State) -> Any:
  """Computes the evidence lower bound, averaged over the samples, [B] nats."""
  del state
  return per_example(losses.elbo(terms.log_px_z, terms.kl)), ({}, {})


def iwae(terms: Terms, state: State) -> Any:
  """Computes the importance-weighted bound of all samples, [B] nats."""
  del state
  return losses.importance_weighted_bound(terms.log_weights, axis=1), ({}, {})


def neg_bound(terms: Terms) -> Metrics:
  """Returns the metric `neg_bound_nats`, minus the importance-weighted bound, [B]."""
  return {'neg_bound_nats': -losses.importance_weighted_bound(terms.log_weights, axis=1)}


def beta(weight: Callable | jax.Array | float) -> Bound:
  """Returns the bound whose divergence is multiplied by a weight.

  Args:
    weight: a number, or a function of the state.
  """

  def bound(terms: Terms, state: State):
    now = weight(state) if callable(weight) else weight
    return per_example(losses.beta_elbo(terms.log_px_z, terms.kl, beta=now)), ({}, {})

  return bound


def ramp(config: ConfigDict, name: str, most: float = 1.0) -> Callable[[State], jax.Array]:
  """Returns a function of the state that rises from 0 to `most` over `config.model.<name>` steps."""
  steps = getattr(config.model, name)
  experiment.require(steps >= 1, f'config.model.{name} must be at least 1, got {steps}')
  return lambda state: most * jnp.minimum(1.0, state.step.astype(jnp.float32) / steps)


def free_bits(floor: float) -> Bound:
  """Returns the bound that does not penalise the first `floor` nats of each latent of each level."""

  def bound(terms: Terms, state: State):
    del state
    spread = terms.log_px_z.ndim > 1
    divergence = sum(losses.free_bits(kl.mean(1) if spread else kl, floor=floor) for kl in terms.kls)
    return losses.elbo(per_example(terms.log_px_z), divergence), ({}, {})

  return bound


def capacity(limit: Callable[[State], jax.Array], gamma: jax.Array | float) -> Bound:
  """Returns the bound that penalises the distance of the mean divergence from a limit.

  The mean is over the batch, so that single examples may have more or less.

  Args:
    limit: state -> nats.
    gamma: the weight of the absolute difference.
  """

  def bound(terms: Terms, state: State):
    mean = jnp.broadcast_to(terms.kl.mean(), terms.log_px_z.shape)
    return losses.capacity_elbo(terms.log_px_z, mean, capacity=limit(state), gamma=gamma), ({}, {})

  return bound


def with_metrics(bound: Bound, **metrics: Callable[[Terms, State], jax.Array]) -> Bound:
  """Returns the bound with further metrics, each a function of the terms and the state."""

  def extended(terms: Terms, state: State):
    value, (extra, measured) = bound(terms, state)
    return value, (extra, measured | {name: metric(terms, state) for name, metric in metrics.items()})

  return extended
