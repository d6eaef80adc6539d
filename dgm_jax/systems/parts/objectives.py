"""What the players of a game minimise: an objective, and terms that are added to it.

Axes: B batch, n generated examples, Z latents, F features.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from dgm_jax import config as experiment
from dgm_jax import losses
from dgm_jax.core import Batch, Key, Metrics, State
from dgm_jax.systems.parts.games import GENERATED, REAL, Game, fakes, forward, noted, ties_examples

__all__ = [
  'OBJECTIVES', 'REGULARISERS', 'Objective', 'Played', 'Score', 'Term', 'chosen', 'critic_loss', 'generator_loss',
  'historical', 'regularisers',
]  # fmt: skip


class Score(NamedTuple):
  """What a critic says of examples."""

  value: jax.Array  # [B]
  features: jax.Array  # [B, F]


class Objective(NamedTuple):
  """What two players minimise, as functions from `losses`."""

  critic: Callable[[jax.Array, jax.Array], jax.Array]  # (values of real examples, of generated ones) -> [B]
  generator: Callable[[Score, Callable[[], Score]], jax.Array]  # (of generated ones, () -> of real ones) -> [n] or []
  middle: float | None  # the value of an example that the critic cannot tell; None: there is none


class Played(NamedTuple):
  """One batch of a game, as a player's terms see it."""

  state: State
  z: jax.Array  # [n, Z]
  real: jax.Array | None  # [B, ...], to the critic only
  fake: jax.Array  # [n, ...]
  of_real: Score | None
  of_fake: Score
  critic: Callable[[jax.Array], jax.Array]  # examples [B, ...] -> values [B]


# (key, played) -> (what is added to the loss, entries of State.extra, metrics)
Term = Callable[[Key, Played], tuple[jax.Array, dict[str, Any], Metrics]]


def _of_values(loss: Callable) -> Callable:
  return lambda fake, real: loss(fake.value)


def _of_features(fake: Score, real: Callable[[], Score]) -> jax.Array:
  """Feature matching by the mean over features, as released: the paper's norm sums them."""
  return losses.feature_matching(real().features, fake.features) / fake.features.shape[-1]


OBJECTIVES = {
  'minimax': Objective(losses.minimax_discriminator, _of_values(losses.minimax_generator), 0.0),
  'nonsaturating': Objective(losses.minimax_discriminator, _of_values(losses.nonsaturating_generator), 0.0),
  'feature_matching': Objective(losses.minimax_discriminator, _of_features, 0.0),
  'least_squares': Objective(losses.least_squares_discriminator, _of_values(losses.least_squares_generator), 0.5),
  'hinge': Objective(losses.hinge_discriminator, _of_values(losses.hinge_generator), 0.0),
  'wasserstein': Objective(losses.wasserstein_critic, _of_values(losses.wasserstein_generator), None),
}
# (key, played) -> [B] or []; times a weight each is a term of the critic's loss.
REGULARISERS = {
  'gradient_penalty': lambda key, played: losses.gradient_penalty(played.critic, played.real, played.fake, key),
  'r1': lambda key, played: losses.r1_penalty(played.critic, played.real),
  'orthogonal': lambda key, played: losses.orthogonal_regularization(played.state.params['critic']),
}
OF_SLOPES = ('gradient_penalty', 'r1')


def chosen(model: ConfigDict) -> Objective:
  """The objective `model.objective`, its real label `model.real_label`.

  Raises:
    UserError: there is no such objective, or it has no labels and is given one.
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
  critic = lambda real, fake: losses.minimax_discriminator(real, fake, real_label=label)
  return objective._replace(critic=critic)


def regularisers(model: ConfigDict, times: float = 1.0) -> list[Term]:
  """The terms `model.critic.regularisers`, {name: weight}, of the critic's loss; one metric, `penalty`, has their sum.

  Args:
    times: how often each weight counts; 0: no term.

  Raises:
    UserError: there is no such regulariser, or one of slopes where examples are tied together.
  """
  weights = dict(model.critic.get('regularisers', {}))
  for name, weight in weights.items():
    experiment.one_of('a key of config.model.critic.regularisers', name, REGULARISERS)
    experiment.require(weight >= 0, f'config.model.critic.regularisers.{name} must not be negative, got {weight}')
    experiment.require(
      name not in OF_SLOPES or not ties_examples(model),
      f'config.model.critic has norm={model.critic.get("norm", "none")} and kernels={model.critic.get("kernels", 0)},'
      f" which tie the examples of a batch together; {name} on each one's slope forbids that: take norm layer or none,"
      ' and no kernels',
    )

  def term(key: Key, played: Played):
    found = [(times * weight * REGULARISERS[name](key, played)).mean() for name, weight in weights.items()]
    return sum(found[1:], found[0]), {}, {'penalty': sum(found[1:], found[0])}

  return [term] if weights and times else []


def historical(model: ConfigDict, name: str) -> list[Term]:
  """`model.historical` times the squared distance of a network's weights from their mean over time; none at 0.

  Reference: Salimans et al. 2016, arXiv:1606.03498, section 3.3.
  """

  def term(key: Key, played: Played):
    state = played.state
    return weight * losses.historical_averaging(state.params[name], state.extra['history'][name]), {}, {}

  weight = model.get('historical', 0.0)
  return [term] if weight else []


def critic_loss(game: Game, objective: Objective, terms: list[Term], joint: bool = False) -> Callable:
  """The loss of the player who judges.

  Args:
    joint: whether real and generated examples go through the critic in one pass, whose products are larger and a tenth
      faster; for critics that neither tie examples together nor draw noise.
  """

  def loss(key: Key, state: State, batch: Batch):
    for_z, for_fake, for_real, last = jax.random.split(key, 4)
    z = game.prior(for_z, batch['x'].shape[0])
    fake, _ = fakes(game, state, z, for_fake)
    score = _together if joint else _apart
    of_real, of_fake, extra = score(game, state, batch['x'], fake, for_real, last)
    value, metrics = objective.critic(of_real.value, of_fake.value).mean(), _metrics(objective, of_real, of_fake)
    critic = lambda x: forward(game, 'critic', state, x, for_real)[0][0]
    # Networks fold their layers' names into the key of their noise, so that terms may draw from it, too.
    played = Played(state, z, batch['x'], fake, of_real, of_fake, critic)
    return _added(value, extra, metrics, terms, last, played)

  return loss


def generator_loss(game: Game, objective: Objective, terms: list[Term], steps: int = 1, ratio: int = 1) -> Callable:
  """The loss of the player who generates `ratio` examples for each of a batch's B / steps.

  Its key is split as the critic's is: where both move at once, they see the same generated examples.
  """

  def loss(key: Key, state: State, batch: Batch):
    for_z, for_fake, for_real, last = jax.random.split(key, 4)
    z = game.prior(for_z, batch['x'].shape[0] // steps * ratio)
    fake, seen = fakes(game, state, z, for_fake)
    judge = lambda x, key: Score(*forward(game, 'critic', state, x, key)[0])
    of_fake = judge(fake, last)
    value = objective.generator(of_fake, lambda: judge(batch['x'], for_real)).mean()
    played = Played(state, z, None, fake, None, of_fake, lambda x: judge(x, last).value)
    return _added(value, noted(game, 'generator', state, seen=seen), {}, terms, last, played)

  return loss


def _added(value: jax.Array, extra: dict, metrics: Metrics, terms: list[Term], key: Key, played: Played):
  """A player's loss with its terms."""
  for term in terms:
    more, entries, measured = term(key, played)
    value, extra, metrics = value + more, extra | entries, metrics | measured
  return value, (extra, metrics)


def _apart(game: Game, state: State, real: jax.Array, fake: jax.Array, for_real: Key, for_fake: Key):
  """(score of real examples, of generated ones, entries of State.extra), each kind in a pass of its own."""
  of_real, seen_real = forward(game, 'critic', state, real, for_real)
  of_fake, seen_fake = forward(game, 'critic', state, fake, for_fake)
  return Score(*of_real), Score(*of_fake), noted(game, 'critic', state, **{REAL: seen_real, GENERATED: seen_fake})


def _together(game: Game, state: State, real: jax.Array, fake: jax.Array, for_both: Key, unused: Key):
  """The same in one pass, in which both kinds take turns: halves of a batch over devices would have to be moved."""
  del unused
  both = jnp.stack([real, fake], 1).reshape(-1, *real.shape[1:])
  scores, seen = forward(game, 'critic', state, both, for_both)
  of_real, of_fake = (Score(*(leaf[kind::2] for leaf in scores)) for kind in range(2))
  return of_real, of_fake, noted(game, 'critic', state, seen=seen)


def _metrics(objective: Objective, of_real: Score, of_fake: Score) -> Metrics:
  if objective.middle is None:
    return {'distance': (of_real.value - of_fake.value).mean()}
  right = of_real.value > objective.middle, of_fake.value < objective.middle
  return {'real_accuracy': right[0].mean(), 'fake_accuracy': right[1].mean()}
