"""Variational autoencoders as values: a posterior, a prior and a decoder, and the bounds that they are trained on.

`compose` makes a `Model` of the three. Parts that depend on one another, such as a posterior that is merged with the
prior, are a `Model` of their own. `system` trains any Model on any bound. All functions are of (key, state, ...), and
those that draw nothing ignore the key.

Axes: B batch, k samples, Z_l latents of level l, of which level 0 is next to the data. [...] is [B, k], or [B] where k
is None and one sample is drawn.
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
  """One level of latents, drawn for each example."""

  z: jax.Array  # [..., Z]
  numbers: tuple[jax.Array, ...] | None  # q's parameters, mean and logvar if it is normal, [..., Z] or [B, 1, Z]
  log_q: jax.Array | None = None  # [...] nats; None: that of the diagonal normal of the numbers


class Terms(NamedTuple):
  """What every bound is made of, for draws from the posterior of each example."""

  log_px_z: jax.Array  # [...] nats
  log_q: jax.Array  # [...] nats, log q(z|x) of all levels, less log p(z_l|z_(l+1)) of those below the top
  log_p: jax.Array  # [...] nats, of the top level
  kls: list[jax.Array]  # nats of each level, [..., Z_l] or in closed form [B, 1, Z_l]; [..., 1] under a joint prior
  latents: list[Latent]
  extra: dict[str, Any] = {}  # noqa: RUF012  entries of `State.extra` that the networks have brought up to date

  @property
  def kl(self) -> jax.Array:
    """The divergence of all levels, [...] nats."""
    return sum((kl.sum(-1) for kl in self.kls), jnp.zeros(self.log_px_z.shape))

  @property
  def log_weights(self) -> jax.Array:
    """log p(x, z) - log q(z|x), [...] nats."""
    return self.log_px_z - (self.log_q - self.log_p)


# What is maximised, a number for each example or one for the batch; then entries of `State.extra`, and metrics.
Bound = Callable[[Terms, State], tuple[jax.Array, tuple[dict[str, Any], Metrics]]]


class Posterior(NamedTuple):
  """q(z|x), with the parameters of the network 'encoder'."""

  init: Callable  # (key, x) -> parameters
  draw: Callable  # (key, state, x, k) -> a Latent for each level; k may be None
  means: Callable  # (key, state, x) -> codes [B, Z_l] of each level, without noise
  normal: Callable | None = None  # (key, state, x) -> mean and logvar [B, Z] of a single level that is normal


class Prior(NamedTuple):
  """p(z) of the top level."""

  view: views.Prior
  kl: Callable | None = None  # numbers of q -> divergence from the prior [..., Z] nats; None: it is taken at the draw
  init: Callable = lambda key, x: {}  # -> networks of its own, by name
  owns: tuple[str, ...] = ()  # their names


class Decoder(NamedTuple):
  """p(x|z_0), and normal p(z_(l-1)|z_l) if there are more levels, with the parameters of the network 'decoder'."""

  init: Callable  # (key, x) -> parameters
  log_prob: Callable  # (key, state, x, z [..., Z_0]) -> [...] nats
  mean: Callable  # (key, state, z [n, Z_0]) -> [n, ...] in data space
  sample: Callable  # (key, state, z [n, Z_0]) -> [n, ...] in data space
  bits: Callable  # nats -> bits per dimension
  below: tuple[Callable, ...] = ()  # (key, state, z_l) -> mean and logvar of the level below, from level 1 upwards


class Model(NamedTuple):
  """A variational autoencoder, as far as bounds and measurements ask."""

  networks: Callable  # (key, batch) -> (params, extra)
  draw: Callable  # (key, state, x, k=None) -> Terms
  sample: Callable  # (key, state, n) -> [n, ...] in data space
  owns: tuple[str, ...]  # the networks, which the player 'model' moves
  views: dict[str, Any]


def compose(posterior: Posterior, prior: Prior, decoder: Decoder) -> Model:
  """Puts a model together from its three parts."""

  def networks(key: Key, batch: Batch):
    for_encoder, for_decoder = jax.random.split(key)
    params = {'encoder': posterior.init(for_encoder, batch['x']), 'decoder': decoder.init(for_decoder, batch['x'])}
    return params | prior.init(jax.random.fold_in(key, 2), batch['x']), {}

  def draw(key: Key, state: State, x: jax.Array, k: int | None = None) -> Terms:
    latents, for_rest = posterior.draw(key, state, x, k), jax.random.fold_in(key, 1)
    log_px_z = decoder.log_prob(for_rest, state, x, latents[0].z)
    return _weigh(prior, decoder.below, for_rest, state, log_px_z, latents)

  def ancestral(key: Key, state: State, n: int) -> jax.Array:
    first, *keys = jax.random.split(key, 1 + len(decoder.below))
    z = prior.view.sample(first, state, n)
    for own, below in zip(keys, reversed(decoder.below), strict=True):
      z = distributions.normal_sample(own, *below(own, state, z))
    return z

  def sample(key: Key, state: State, n: int) -> jax.Array:
    for_pixels, for_latents = jax.random.split(key)
    return decoder.sample(for_pixels, state, ancestral(for_latents, state, n))

  owns = ('encoder', 'decoder', *prior.owns)
  return Model(networks, draw, sample, owns, _views(posterior, prior, decoder, ancestral))


def _weigh(prior: Prior, below: tuple, key: Key, state: State, log_px_z: jax.Array, latents: list[Latent]) -> Terms:
  """Weighs the draws by the priors of all levels."""
  top, kls = latents[-1], []
  for own, above, down in zip(latents[:-1], latents[1:], below, strict=True):
    kls.append(_log_normal(own.z, *own.numbers) - _log_normal(own.z, *down(key, state, above.z)))
  ratio = sum((kl.sum(-1) for kl in kls), jnp.zeros(log_px_z.shape))
  closed = [prior.kl(*top.numbers)] if prior.kl and top.numbers else []
  log_q = distributions.normal_log_prob(top.z, *top.numbers) if top.log_q is None else top.log_q
  log_p = prior.view.log_prob(key, state, top.z)
  return Terms(log_px_z, ratio + log_q, log_p, kls + (closed or [(log_q - log_p)[..., None]]), latents)


def _log_normal(z: jax.Array, mean: jax.Array, logvar: jax.Array) -> jax.Array:
  """Log-density of each coordinate on its own, [..., Z]."""
  return distributions.normal_log_prob(z[..., None], mean[..., None], logvar[..., None])


def _views(posterior: Posterior, prior: Prior, decoder: Decoder, ancestral: Callable) -> dict[str, Any]:
  """Returns what the parts answer."""

  def decode(key, state, z):
    for below in reversed(decoder.below):
      z = below(key, state, z)[0]
    return decoder.mean(key, state, z)

  return {
    'encode': lambda key, state, x: posterior.means(key, state, x)[-1],
    'decode': decode,
    'posterior': posterior.normal,
    'prior': prior.view,
    'reconstruct': lambda key, state, x: decoder.mean(key, state, posterior.means(key, state, x)[0]),
    'mean_sample': lambda key, state, n: decoder.mean(key, state, ancestral(key, state, n)),
    'bits': lambda key, state, nats: decoder.bits(nats),
  } | ({} if prior.kl else {'kl_per_dim': None})


def system(config: ConfigDict, model: Model, bound: Bound, figures: Callable = lambda terms: {}) -> System:
  """Trains a model on a bound, by one player that owns all of its networks.

  Args:
    config: the experiment; `config.model.samples` is the number of samples, where there is such a key.
    model: the model.
    bound: one of those below, or another.
    figures: terms -> what is measured besides the bound and its parts, [B] each.
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
  """Returns the number of samples that the bound takes of each example; None: one, without an axis of its own."""
  samples = config.model.get('samples')
  experiment.require(samples is None or samples >= 1, f'config.model.samples must be at least 1, got {samples}')
  return samples


def close(config: ConfigDict, model: Model, move: Move, figures: Callable = lambda terms: {}, **more) -> System:
  """Makes the System of a model that a move trains, as `system` does; `more` are views."""
  samples, nll = samples_of(config), config.nll

  def evaluate(key: Key, state: State, batch: Batch) -> Metrics:
    terms = model.draw(key, state, batch['x'], samples)
    return {
      'neg_elbo_nats': -elbo(terms, state)[0], 'reconstruction_nats': -per_example(terms.log_px_z),
      'kl_nats': per_example(terms.kl),
    } | figures(terms)  # fmt: skip

  def layers(key, state, x):
    terms = model.draw(key, state, x)
    means = [own.numbers[0] if own.numbers else own.z for own in terms.latents]
    return list(zip(means, terms.kls, strict=True))

  found = {
    'layers': layers, 'kl_per_dim': lambda key, state, x: layers(key, state, x)[-1][1],
    'log_prob': lambda key, state, x, labels=None: log_prob(model, key, state, x, nll.samples, nll.rows),
  }  # fmt: skip
  return core.system(model.networks, move, evaluate, model.sample, **found | model.views | more)


def log_prob(model: Model, key: Key, state: State, x: jax.Array, samples: int, rows: int) -> jax.Array:
  """Estimates log p(x) by importance sampling, [B] nats; about `rows` decoded images are held at a time."""
  fitting = [k for k in range(1, samples + 1) if samples % k == 0 and k * x.shape[0] <= max(rows, x.shape[0])]

  def add(total, key):
    terms = model.draw(key, state, x, fitting[-1])
    return jnp.logaddexp(total, jax.nn.logsumexp(terms.log_weights, 1)), None

  start = jnp.full(x.shape[0], -jnp.inf)
  total, _ = jax.lax.scan(add, start, jax.random.split(key, samples // fitting[-1]))
  return total - jnp.log(samples)


def per_example(x: jax.Array) -> jax.Array:
  """Averages over the samples, [...] -> [B]."""
  return x if x.ndim == 1 else x.mean(1)


def elbo(terms: Terms, state: State):
  """Computes the evidence lower bound, averaged over the samples."""
  del state
  return per_example(losses.elbo(terms.log_px_z, terms.kl)), ({}, {})


def iwae(terms: Terms, state: State):
  """Computes the importance-weighted bound of all samples."""
  del state
  return losses.importance_weighted_bound(terms.log_weights, axis=1), ({}, {})


def neg_bound(terms: Terms) -> Metrics:
  """Measures the importance-weighted bound."""
  return {'neg_bound_nats': -losses.importance_weighted_bound(terms.log_weights, axis=1)}


def beta(weight: Callable | jax.Array | float) -> Bound:
  """Returns the bound whose divergence has a weight, which is a number or a function of the state."""

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
  """Returns the bound in which each latent of each level has an allowance of `floor` nats."""

  def bound(terms: Terms, state: State):
    del state
    spread = terms.log_px_z.ndim > 1
    divergence = sum(losses.free_bits(kl.mean(1) if spread else kl, floor=floor) for kl in terms.kls)
    return losses.elbo(per_example(terms.log_px_z), divergence), ({}, {})

  return bound


def capacity(limit: Callable[[State], jax.Array], gamma: jax.Array | float) -> Bound:
  """Returns the bound that draws the divergence, averaged over the batch, to a limit in nats with the weight `gamma`.

  Each example is free to take more or less than the limit.
  """

  def bound(terms: Terms, state: State):
    mean = jnp.broadcast_to(terms.kl.mean(), terms.log_px_z.shape)
    return losses.capacity_elbo(terms.log_px_z, mean, capacity=limit(state), gamma=gamma), ({}, {})

  return bound


def with_metrics(bound: Bound, **metrics: Callable[[Terms, State], jax.Array]) -> Bound:
  """Returns the bound with more metrics, functions of the terms and the state."""

  def call(terms: Terms, state: State):
    value, (extra, found) = bound(terms, state)
    return value, (extra, found | {name: metric(terms, state) for name, metric in metrics.items()})

  return call
