"""The bounds that variational autoencoders are trained on, and the System that a `Model` and a bound make.

`by_name` chooses the bound that the experiment names. `system` trains any Model on any bound. The parts of a Model, and
their composition, are in `dgm_jax.systems.parts.latents`; their names are listed here, too.

Axes: B batch, k samples, Z_l latents of level l; level 0 is next to the data. [...] is [B, k]. If k is None, there is
one sample and [...] is [B].
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from dgm_jax import config as experiment
from dgm_jax import core, losses, optim
from dgm_jax.core import Batch, Key, Metrics, Move, Player, State, System, descend
from dgm_jax.systems.parts.latents import Decoder, Latent, Model, Posterior, Prior, Terms, compose

__all__ = [
  'BOUNDS', 'Bound', 'Decoder', 'Latent', 'Model', 'Posterior', 'Prior', 'Terms', 'beta', 'by_name', 'capacity',
  'close', 'compose', 'doubly_reparametrized', 'elbo', 'free_bits', 'iwae', 'joint', 'log_prob', 'neg_bound',
  'per_example', 'player', 'ramp', 'samples_of', 'soft_free_bits', 'sticking_the_landing', 'system', 'with_metrics',
]  # fmt: skip

# (terms, state) -> (the objective to maximise, [B] or [], (entries of `State.extra`, metrics)).
Bound = Callable[[Terms, State], tuple[jax.Array, tuple[dict[str, Any], Metrics]]]


def system(
  config: ConfigDict,
  model: Model,
  bound: Bound | str,
  figures: Callable = lambda terms: {},
  around: Callable[[Move], Move] = lambda move: move,
  **more,
) -> System:
  """Returns the System that trains a model on a bound, by one player that owns all of its networks.

  Args:
    config: the experiment. `config.model.samples`, if it exists, is the number of samples, and `config.model.average`
      the decay of the parameters' average, which is evaluated and sampled.
    model: the model.
    bound: one of those below, or another; a name is that of the bound if the experiment has no `config.model.bound`.
    figures: terms -> further metrics of `evaluate`, [B] each.
    around: the player's descent -> the move that is made in its place.
    **more: further views.
  """
  bound, entries = by_name(config, model, bound) if isinstance(bound, str) else (bound, {})
  decay, move = config.model.get('average', 0.0), around(descend(model=player(config, model, bound)))
  experiment.require(0 <= decay < 1, f'config.model.average must be in [0, 1), got {decay}')
  statistics = tuple(f'{name}_statistics' for name in model.owns)

  def networks(key: Key, batch: Batch):
    params, extra = model.networks(key, batch)
    extra = extra | {name: jnp.asarray(value, jnp.float32) for name, value in entries.items()}
    return params, core.averages(params, extra, model.owns, *statistics) if decay else extra

  if decay:
    kept = zip(model.owns, statistics, strict=True)
    move = core.chain(move, *(core.average(name, decay, entry) for name, entry in kept))
  return close(config, model._replace(networks=networks), move, figures, **more)


def by_name(config: ConfigDict, model: Model, default: str = 'elbo') -> tuple[Bound, dict[str, float]]:
  """Returns the bound `config.model.bound`, and the initial entries of `State.extra` that it needs.

  Raises:
    UserError: there is no such bound, one of its settings is missing or out of range, or the posterior does not fit.
  """
  name = config.model.get('bound', default)
  return experiment.choose('config.model.bound', name, BOUNDS)(config, model)


def player(config: ConfigDict, model: Model, bound: Bound, rows: Callable = lambda x: x) -> Player:
  """Returns the player 'model', which maximises the bound on the `rows` of the batch."""
  samples = samples_of(config)

  def loss(key: Key, state: State, batch: Batch):
    terms = model.draw(key, state, rows(batch['x']), samples, True)
    value, (extra, metrics) = bound(terms, state)
    means = {name: figure.mean() for name, figure in _figures(terms, state).items()}
    return -value.mean(), (terms.extra | extra, means | metrics)

  return Player(loss, optim.make(config, 'model'), model.owns)


def _figures(terms: Terms, state: State) -> Metrics:
  """Returns the metrics of training and of evaluation, [B] each."""
  return {
    'neg_elbo_nats': -elbo(terms, state)[0], 'reconstruction_nats': -per_example(terms.log_px_z),
    'kl_nats': per_example(terms.kl),
  }  # fmt: skip


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
    return _figures(terms, state) | figures(terms)

  def layers(key, state, x):
    # A mean given one sample of another level would vary with that sample, and count a unit that says nothing of x.
    return list(zip(model.means(key, state, x), model.draw(key, state, x).kls, strict=True))

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
  weights = terms.log_weights
  return {'neg_bound_nats': -losses.importance_weighted_bound(weights, axis=1) if weights.ndim > 1 else -weights}


def beta(weight: Callable | jax.Array | float) -> Bound:
  """Returns the bound whose divergence is multiplied by a weight.

  Args:
    weight: a number, or a function of the state.
  """

  def bound(terms: Terms, state: State):
    now = weight(state) if callable(weight) else weight
    return per_example(losses.beta_elbo(terms.log_px_z, terms.kl, beta=now)), ({}, {})

  return bound


def joint(weight: Callable[[State], jax.Array]) -> Bound:
  """Returns the bound whose log p(x|z) + log p(z) of the top level is multiplied by a function of the state.

  Reference: Rezende & Mohamed 2015, arXiv:1505.05770, equation 20.
  """

  def bound(terms: Terms, state: State):
    return per_example(weight(state) * (terms.log_px_z + terms.log_p) - terms.log_q), ({}, {})

  return bound


def ramp(config: ConfigDict, name: str, most: float = 1.0, least: float = 0.0) -> Callable[[State], jax.Array]:
  """Returns a function of the state that rises from `least` over `config.model.<name>` steps, and stops at `most`.

  It rises by `most` in those steps.
  """
  steps = getattr(config.model, name)
  experiment.require(steps >= 1, f'config.model.{name} must be at least 1, got {steps}')
  if not least:
    return lambda state: most * jnp.minimum(1.0, state.step.astype(jnp.float32) / steps)
  return lambda state: jnp.minimum(most, least + most * state.step.astype(jnp.float32) / steps)


def free_bits(floor: float | Sequence[float], groups: int = 0) -> Bound:
  """Returns the bound that does not penalise the first nats of each group of latents of each level.

  A group counts max(floor, the mean of its divergence over the batch). With `config.accumulate` > 1, or pmap, it is the
  mean over each slice, which is above the floor more often: take slices of dozens of examples.

  Args:
    floor: nats of a group, one number or one for each level.
    groups: the number of groups of a level, of latents side by side; 0: each latent is a group of its own.
  """

  def bound(terms: Terms, state: State):
    del state
    floors = tuple(floor) if isinstance(floor, Sequence) else (floor,) * len(terms.kls)
    spread = terms.log_px_z.ndim > 1
    kls = [_grouped(kl.mean(1) if spread else kl, groups) for kl in terms.kls]
    divergence = sum(losses.free_bits(kl, floor=least) for kl, least in zip(kls, floors, strict=True))
    return losses.elbo(per_example(terms.log_px_z), divergence), ({}, {})

  return bound


def _grouped(kl: jax.Array, groups: int) -> jax.Array:
  """Sums the divergences [B, Z] of each group; one joint divergence [B, 1] is a group of its own."""
  if not groups or kl.shape[1] == 1:
    return kl
  experiment.require(
    kl.shape[1] % groups == 0,
    f'config.model.groups={groups} does not divide the {kl.shape[1]} latents of a level: take a divisor, or 0',
  )
  return kl.reshape(kl.shape[0], groups, -1).sum(-1)


def soft_free_bits(floor: float, tolerance: float = 0.05, factor: float = 0.1) -> Bound:
  """Returns the bound whose divergence has the weight `gamma` of `State.extra`, which keeps it above the floor.

  Reference: Chen et al. 2017, arXiv:1611.02731, appendix C.
  """

  def bound(terms: Terms, state: State):
    gamma = state.extra['gamma']
    divergence = jax.lax.stop_gradient(terms.kl.mean())
    new = losses.soft_free_bits(gamma, divergence, floor=floor, tolerance=tolerance, factor=factor)
    return per_example(losses.beta_elbo(terms.log_px_z, terms.kl, beta=gamma)), ({'gamma': new}, {'gamma': gamma})

  return bound


def sticking_the_landing(terms: Terms, state: State) -> Any:
  """Computes the evidence lower bound at the samples, with the parameters of q constant in log q, [B] nats.

  Reference: Roeder et al. 2017, arXiv:1703.09194, equation 8.
  """
  del state
  return per_example(terms.weigh(terms.latents[0].z)), ({}, {})


def doubly_reparametrized(terms: Terms, state: State) -> Any:
  """Computes the importance-weighted bound, with a gradient of less variance for the encoder, [B] nats.

  Reference: Tucker et al. 2019, arXiv:1810.04152, equation 8.
  """
  del state
  return losses.doubly_reparametrized_surrogate(terms.weigh, terms.latents[0].z, axis=1), ({}, {})


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


def _setting(config: ConfigDict, name: str) -> Any:
  """Returns a setting of the bound.

  Raises:
    UserError: it is missing.
  """
  model: Any = config.model
  experiment.require(name in model, f'config.model.{name} is missing, which bound={model.get("bound")} needs: add it')
  return model[name]


def _floors(config: ConfigDict) -> float | tuple[float, ...]:
  """Returns the nats `config.model.free_bits`, which must not be negative."""
  floor = _setting(config, 'free_bits')
  floors = floor if isinstance(floor, Sequence) else (floor,)
  experiment.require(
    len(floors) > 0 and min(floors) >= 0, f'config.model.free_bits must not be negative, got {floor}: set nats'
  )
  return floor


def _warm_up(config: ConfigDict, model: Model):
  """Returns the bound whose divergence, or whose log p(x, z), gains weight over `config.model.warm_up` steps."""
  _setting(config, 'warm_up')
  start, of = config.model.get('warm_up_from', 0.0), config.model.get('warm_up_of', 'divergence')
  experiment.require(0 <= start <= 1, f'config.model.warm_up_from must be in [0, 1], got {start}')
  kind = experiment.choose('config.model.warm_up_of', of, {'divergence': beta, 'joint': joint})
  experiment.require(
    kind is beta or model.levels == 1,
    f'config.model.warm_up_of=joint weighs the prior of one level of latents, got {model.levels} levels: set'
    " config.model.warm_up_of='divergence'",
  )
  return kind(ramp(config, 'warm_up', 1.0, start)), {}


def _free_bits(config: ConfigDict, model: Model):
  """Returns the bound with `config.model.free_bits` nats for each of `config.model.groups` groups of latents."""
  floors, groups = _floors(config), config.model.get('groups', 0)
  experiment.require(groups >= 0, f'config.model.groups must not be negative, got {groups}: 0 means each latent')
  experiment.require(
    not isinstance(floors, Sequence) or len(floors) == model.levels,
    f'config.model.free_bits={floors} must be one number, or one for each of {model.levels} levels',
  )
  return free_bits(floors, groups), {}


def _soft_free_bits(config: ConfigDict, model: Model):
  """Returns the bound with a weight that keeps the divergence at `config.model.free_bits` nats, initially 1."""
  del model
  floor, tolerance = _floors(config), config.model.get('tolerance', 0.05)
  experiment.require(
    not isinstance(floor, Sequence), f'config.model.free_bits must be one number for soft_free_bits, got {floor}'
  )
  experiment.require(tolerance > 0, f'config.model.tolerance must be positive, got {tolerance}')
  return soft_free_bits(floor, tolerance), {'gamma': 1.0}


def _plain(bound: Bound) -> Callable:
  """Returns the function of (config, model) that returns a bound without settings."""
  return lambda config, model: (bound, {})


def _of_samples(bound: Bound, normal: bool = True) -> Callable:
  """Returns the function of (config, model) that returns a bound of the samples' weights."""

  def build(config: ConfigDict, model: Model):
    name = config.model.get('bound')
    experiment.require(
      model.views['posterior'] is not None or not normal,
      f'config.model.bound={name} needs a normal posterior of one level: take it, or another bound',
    )
    several = samples_of(config) is not None or bound is sticking_the_landing
    experiment.require(several, f'config.model.samples is missing, which config.model.bound={name} needs: set it')
    return bound, {}

  return build


BOUNDS = {
  'elbo': _plain(elbo), 'warm_up': _warm_up, 'free_bits': _free_bits, 'soft_free_bits': _soft_free_bits,
  'iwae': _of_samples(iwae, False), 'sticking_the_landing': _of_samples(sticking_the_landing),
  'doubly_reparametrized': _of_samples(doubly_reparametrized),
}  # fmt: skip
