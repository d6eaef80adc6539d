"""Losses of the players of a game: an objective, and terms that are added to it.

Axes: B batch, n generated examples, Z latents, F features.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from dgm_jax import config as experiment
from dgm_jax import losses
from dgm_jax.core import Batch, Key, Metrics, State
from dgm_jax.systems.parts import games
from dgm_jax.systems.parts.games import GENERATED, REAL, Game, forward, generate, ties_examples, update_statistics

__all__ = [
  'CLASS_LOSSES', 'OBJECTIVES', 'REGULARISERS', 'GameBatch', 'Objective', 'Score', 'Term', 'choose_objective',
  'classification', 'commitment', 'critic_loss', 'generator_loss', 'historical', 'regularised_generator',
  'regularisers', 'score',
]  # fmt: skip


class Score(NamedTuple):
  """The outputs of a critic for a batch of examples."""

  value: jax.Array  # [B]
  features: jax.Array  # [B, F]
  logits: jax.Array | None = None  # [B, K] of a classifier
  twin: jax.Array | None = None  # [B, K] of the classifier of generated examples
  commitment: jax.Array | None = None  # [B] of quantized features to their codes, all layers together


class Objective(NamedTuple):
  """The losses of two players, as functions from `losses`."""

  critic: Callable[[jax.Array, jax.Array], jax.Array]  # (values of real examples, of generated ones) -> [B]
  generator: Callable[[Score, Callable[[], Score]], jax.Array]  # (of generated ones, () -> of real ones) -> [n] or []
  middle: float | None  # the value between real and generated; None: there is none


class GameBatch(NamedTuple):
  """One batch of a game, the argument of a player's terms."""

  state: State
  z: Any  # [n, Z], or a pair with labels [n]
  labels: jax.Array | None  # [B] of the real examples
  real: jax.Array | None  # [B, ...]; None in the generator's loss
  fake: jax.Array  # [n, ...]
  real_score: Score | None
  fake_score: Score
  critic: Callable[[jax.Array], jax.Array]  # examples [B, ...] -> values [B]


# (key, game_batch) -> (summand of the loss, entries of State.extra, metrics)
Term = Callable[[Key, GameBatch], tuple[jax.Array, dict[str, Any], Metrics]]


def _of_values(loss: Callable) -> Callable:
  """Returns the generator's loss that depends on the values of generated examples alone."""

  def generator(fake: Score, real: Callable[[], Score]) -> jax.Array:
    del real
    return loss(fake.value)

  return generator


def _of_features(fake: Score, real: Callable[[], Score]) -> jax.Array:
  """Computes feature matching by the mean over features, as the released code does; the paper's norm sums them."""
  return losses.feature_matching(real().features, fake.features) / fake.features.shape[-1]


def _gradient_penalty(key: Key, game_batch: GameBatch) -> jax.Array:
  return losses.gradient_penalty(game_batch.critic, game_batch.real, game_batch.fake, key)


def _r1(key: Key, game_batch: GameBatch) -> jax.Array:
  del key
  return losses.r1_penalty(game_batch.critic, game_batch.real)


def _orthogonal(key: Key, game_batch: GameBatch) -> jax.Array:
  del key
  return losses.orthogonal_regularization(game_batch.state.params['critic'])


def _drift(key: Key, game_batch: GameBatch) -> jax.Array:
  """Computes the squared values of real examples, which keep a critic without a middle near zero."""
  del key
  return jnp.square(game_batch.real_score.value)


def _objective(critic: Callable, generator: Callable, middle: float | None) -> Objective:
  """Returns the objective of a generator's loss that depends on values alone."""
  return Objective(critic=critic, generator=_of_values(generator), middle=middle)


OBJECTIVES = {
  'minimax': _objective(losses.minimax_discriminator, losses.minimax_generator, 0.0),
  'nonsaturating': _objective(losses.minimax_discriminator, losses.nonsaturating_generator, 0.0),
  'feature_matching': Objective(critic=losses.minimax_discriminator, generator=_of_features, middle=0.0),
  'least_squares': _objective(losses.least_squares_discriminator, losses.least_squares_generator, 0.5),
  'hinge': _objective(losses.hinge_discriminator, losses.hinge_generator, 0.0),
  'wasserstein': _objective(losses.wasserstein_critic, losses.wasserstein_generator, None),
}
# (key, game_batch) -> [B] or []; times its weight each is a term of the critic's loss.
REGULARISERS = {'gradient_penalty': _gradient_penalty, 'r1': _r1, 'orthogonal': _orthogonal, 'drift': _drift}
# Losses of a classifier: (as it learns, as the generator is told).
CLASS_LOSSES = {
  'cross_entropy': (losses.auxiliary_classifier, losses.auxiliary_classifier),
  'multi_hinge': (losses.multi_hinge, functools.partial(losses.multi_hinge, clamp=False)),
}
SLOPE_PENALTIES = ('gradient_penalty', 'r1')


def choose_objective(model: ConfigDict) -> Objective:
  """Returns the objective `model.objective` with the real label `model.real_label`.

  Raises:
    UserError: there is no such objective, or a label is set and the objective has none.
  """
  name = model.get('objective', 'nonsaturating')
  objective = experiment.choose('config.model.objective', name, OBJECTIVES)
  label = model.get('real_label', 1.0)
  if label == 1.0:
    return objective
  experiment.require(
    objective.critic is losses.minimax_discriminator,
    f'config.model.real_label={label} is for minimax, nonsaturating and feature_matching, not for {name}: set it to 1',
  )

  def critic(real: jax.Array, fake: jax.Array) -> jax.Array:
    return losses.minimax_discriminator(real, fake, real_label=label)

  return objective._replace(critic=critic)


def regularisers(model: ConfigDict, times: float = 1.0) -> list[Term]:
  """Returns the terms `model.critic.regularisers`, {name: weight}, of the critic's loss.

  The metric `penalty` is their sum.

  Args:
    model: `config.model`.
    times: factor of each weight; 0 means no term.

  Raises:
    UserError: there is no such regulariser, or one penalises slopes while examples of a batch depend on one another.
  """
  weights = dict(model.critic.get('regularisers', {}))
  for name, weight in weights.items():
    experiment.one_of('a key of config.model.critic.regularisers', name, REGULARISERS)
    experiment.require(weight >= 0, f'config.model.critic.regularisers.{name} must not be negative, got {weight}')
    experiment.require(
      name not in SLOPE_PENALTIES or not ties_examples(model),
      f'config.model.critic has norm={model.critic.get("norm", "none")} and kernels={model.critic.get("kernels", 0)},'
      f" which tie the examples of a batch together; {name} on each one's slope forbids that: take norm layer or none,"
      ' and no kernels',
    )

  def term(key: Key, game_batch: GameBatch):
    penalties = [(times * weight * REGULARISERS[name](key, game_batch)).mean() for name, weight in weights.items()]
    return sum(penalties[1:], penalties[0]), {}, {'penalty': sum(penalties[1:], penalties[0])}

  return [term] if weights and times else []


def regularised_generator(model: ConfigDict) -> list[Term]:
  """Returns the term of `model.generator.regularisers`, of which `orthogonal` is the only one; none if it is not set.

  Raises:
    UserError: there is another one, or a weight is negative.
  """
  weights = dict(model.generator.get('regularisers', {}))
  for name, weight in weights.items():
    experiment.one_of('a key of config.model.generator.regularisers', name, ('orthogonal',))
    experiment.require(weight >= 0, f'config.model.generator.regularisers.{name} must not be negative, got {weight}')

  def term(key: Key, game_batch: GameBatch):
    del key
    params = {name: part for name, part in game_batch.state.params['generator'].items() if name != 'shared'}
    penalty = weights['orthogonal'] * losses.orthogonal_regularization(params)
    return penalty, {}, {'penalty': penalty}

  return [term] if weights else []


def commitment(model: ConfigDict) -> list[Term]:
  """Returns the term of quantized features, mean distances of real and of generated examples from their codes.

  There is none without `model.quantize`.

  Reference: Zhao et al. 2020, arXiv:2004.02088, equations 8 and 9.
  """

  def term(key: Key, game_batch: GameBatch):
    del key
    scores = (game_batch.real_score, game_batch.fake_score)
    paid = [score.commitment.mean() for score in scores if score is not None]
    return sum(paid[1:], paid[0]), {}, {'commitment': sum(paid[1:], paid[0])}

  return [term] if model.get('quantize') else []


def classification(model: ConfigDict, twin: bool) -> tuple[list[Term], list[Term]]:
  """Returns the terms of classifiers, of the critic's player and of the generator, `model.class_weight` times.

  The critic's classifier learns real examples, its twin generated ones. The generator is told what the first says of
  its examples, and the opposite of what the twin says.

  Args:
    model: `config.model`; `class_loss` is a key of CLASS_LOSSES.
    twin: whether there is a second classifier.

  Reference: Odena et al. 2017, arXiv:1610.09585, equations 2 and 3 (the classifier learns real examples alone); Gong
  et al. 2019, arXiv:1907.02690, equation 6.
  """
  weight = model.class_weight
  experiment.require(weight >= 0, f'config.model.class_weight must not be negative, got {weight}')
  learn, tell = experiment.choose('config.model.class_loss', model.class_loss, CLASS_LOSSES)

  def critic(key: Key, game_batch: GameBatch):
    del key
    logits, labels = game_batch.real_score.logits, game_batch.labels
    value, accuracy = learn(logits, labels).mean(), (logits.argmax(1) == labels).mean()
    if twin:
      value = value + learn(game_batch.fake_score.twin, game_batch.z[1]).mean()
    return weight * value, {}, {'classes': value, 'class_accuracy': accuracy}

  def generator(key: Key, game_batch: GameBatch):
    del key
    labels, said = game_batch.z[1], game_batch.fake_score
    value = tell(said.logits, labels).mean() - (tell(said.twin, labels).mean() if twin else 0.0)
    return weight * value, {}, {'classes': value}

  return [critic], [generator]


def historical(model: ConfigDict, name: str) -> list[Term]:
  """Returns the term of historical averaging, with the weight `model.historical`; none if it is 0.

  The term is the squared distance of a network's weights from their mean over time.

  Reference: Salimans et al. 2016, arXiv:1606.03498, section 3.3.
  """

  def term(key: Key, game_batch: GameBatch):
    state = game_batch.state
    return weight * losses.historical_averaging(state.params[name], state.extra['history'][name]), {}, {}

  weight = model.get('historical', 0.0)
  return [term] if weight else []


def critic_loss(
  game: Game, objective: Objective, terms: list[Term], joint: bool = False, of_batch: bool = False
) -> Callable:
  """Returns the loss of the player that owns the critic.

  Args:
    game: the game.
    objective: the objective.
    terms: what is added to it.
    joint: whether real and generated examples share one pass of the critic, which is 10 % faster. It requires a critic
      whose examples are independent and that has no noise.
    of_batch: whether generated examples have the labels of the batch, in another order.
  """

  def loss(key: Key, state: State, batch: Batch):
    for_z, for_fake, for_real, last = jax.random.split(key, 4)
    z = games.latents(game, for_z, batch['x'].shape[0], batch if of_batch else None)
    fake, own = generate(game, state, z, for_fake)
    real, labels = games.examples(game, batch), batch['y'] if game.classes else None
    score = _score_jointly if joint else _score_separately
    real_score, fake_score, extra = score(game, state, real, games.like(z, fake), for_real, last)
    value = objective.critic(real_score.value, fake_score.value).mean()
    critic = lambda x: forward(game, 'critic', state, games.like(real, x), for_real)[0][0]
    # `last` may serve the terms, too: networks fold their layers' names into the key of their noise.
    game_batch = GameBatch(state, z, labels, batch['x'], fake, real_score, fake_score, critic)
    metrics = _metrics(objective, real_score, fake_score)
    extra |= games.moved_by_others(game, 'generator', state, own)
    return _with_terms(value, extra, metrics, terms, last, game_batch)

  return loss


def generator_loss(
  game: Game, objective: Objective, terms: list[Term], steps: int = 1, ratio: int = 1, of_batch: bool = False
) -> Callable:
  """Returns the loss of the player that owns the generator.

  It generates `ratio` examples for each of a batch's B / steps. Its key is split as the critic's is, so that players
  that move at once share the generated examples.
  """

  def loss(key: Key, state: State, batch: Batch):
    for_z, for_fake, for_real, last = jax.random.split(key, 4)
    z = games.latents(game, for_z, batch['x'].shape[0] // steps * ratio, batch if of_batch else None)
    fake, statistics = generate(game, state, z, for_fake)
    critic = lambda x: score(game, state, games.like(z, x), last)[0].value
    fake_score, of_critic = score(game, state, games.like(z, fake), last)
    real = lambda: score(game, state, games.examples(game, batch), for_real)[0]
    value = objective.generator(fake_score, real).mean()
    game_batch = GameBatch(state, z, None, None, fake, None, fake_score, critic)
    extra = update_statistics(game, 'generator', state, batch=statistics)
    extra |= games.moved_by_others(game, 'critic', state, of_critic)
    return _with_terms(value, extra, {}, terms, last, game_batch)

  return loss


def score(game: Game, state: State, inputs: Any, key: Key) -> tuple[Score, dict]:
  """Applies the critic in training; returns its score of a batch, and its statistics."""
  out, statistics = forward(game, 'critic', state, inputs, key)
  commitment = jax.tree.leaves(statistics.pop('commitment', None))
  return Score(*out)._replace(commitment=sum(commitment[1:], commitment[0]) if commitment else None), statistics


def _with_terms(value: jax.Array, extra: dict, metrics: Metrics, terms: list[Term], key: Key, game_batch: GameBatch):
  """Returns a player's loss with its terms added, and their entries and metrics."""
  for term in terms:
    more, entries, measured = term(key, game_batch)
    value, extra, metrics = value + more, extra | entries, metrics | measured
  return value, (extra, metrics)


def _score_separately(game: Game, state: State, real: Any, fake: Any, for_real: Key, for_fake: Key):
  """Returns (score of real examples, of generated ones, entries of State.extra), from one pass for each kind."""
  real_score, real_statistics = score(game, state, real, for_real)
  fake_score, fake_statistics = score(game, state, fake, for_fake)
  kinds = {REAL: real_statistics, GENERATED: fake_statistics}
  return real_score, fake_score, update_statistics(game, 'critic', state, **kinds)


def _score_jointly(game: Game, state: State, real: Any, fake: Any, for_both: Key, unused: Key):
  """Returns what `_score_separately` does, from one pass for both kinds.

  Real and generated examples alternate, so that a batch that is spread over devices stays where it is.
  """
  del unused
  both = jax.tree.map(lambda a, b: jnp.stack([a, b], 1).reshape(-1, *a.shape[1:]), real, fake)
  scores, statistics = score(game, state, both, for_both)
  real_score, fake_score = (jax.tree.map(lambda leaf, kind=kind: leaf[kind::2], scores) for kind in range(2))
  return real_score, fake_score, update_statistics(game, 'critic', state, batch=statistics)


def _metrics(objective: Objective, real_score: Score, fake_score: Score) -> Metrics:
  if objective.middle is None:
    return {'distance': (real_score.value - fake_score.value).mean()}
  right = real_score.value > objective.middle, fake_score.value < objective.middle
  return {'real_accuracy': right[0].mean(), 'fake_accuracy': right[1].mean()}
