"""Games of players in turn: the moves of a step, from `config.model`.

Axes: B batch.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from flax.traverse_util import flatten_dict
from ml_collections import ConfigDict

from dgm_jax import config as experiment
from dgm_jax import optim
from dgm_jax.core import Batch, Key, Move, Params, Player, System, average, chain, descend, repeat, system, turns
from dgm_jax.systems.parts import games
from dgm_jax.systems.parts.games import Game
from dgm_jax.systems.parts.objectives import (
  Term,
  choose_objective,
  commitment,
  critic_loss,
  generator_loss,
  historical,
  regularised_generator,
  regularisers,
)

__all__ = [
  'Variant', 'after', 'averaging', 'close', 'count', 'critic_player', 'generator_player', 'in_turn', 'past'
]  # fmt: skip


class Variant(NamedTuple):
  """The differences of a system from the game of two networks."""

  critic_player: str = 'discriminator'  # the player that owns the critic
  owns: tuple[str, ...] = ('critic',)  # the networks of this player
  terms: tuple[Sequence[Term], Sequence[Term]] = ((), ())  # added to the loss of this player, and of the generator
  joint: bool = False  # whether real and generated examples share one pass of the critic
  labels_of_batch: bool = False  # whether generated examples have the labels of the batch, in another order


def in_turn(config: ConfigDict, game: Game, variant: Variant) -> Move:
  """Returns the move of a step: `lazy` turns, each of `critic_steps` moves of the critic and one of the generator.

  Penalties are in the first turn alone, `lazy` times as large.

  Raises:
    UserError: the batch cannot be divided into the moves, or a count does not fit.
  """
  steps, lazy, moves = count(config, 'critic_steps'), count(config, 'lazy'), past(config)
  experiment.require(
    not moves or lazy == 1, f'config.model.historical counts steps, not turns: set config.model.lazy={lazy} to 1'
  )
  parts = steps * lazy * config.accumulate
  experiment.require(
    config.batch_size % parts == 0,
    f'config.batch_size={config.batch_size} must be a multiple of {parts}, the product of critic_steps, lazy and'
    f' accumulate: try --config.batch_size={max(1, config.batch_size // parts) * parts}',
  )
  # steps_per_call = 1 asks for a program without loops, since convolutions in loops are slow on a CPU.
  unroll = steps if config.steps_per_call == 1 else 1

  def turn(times: float) -> Move:
    critic = after(descend(**critic_player(config, game, variant, times)), *games.projections(game, 'critic'))
    generator = after(descend(**generator_player(config, game, variant)), *games.projections(game, 'generator'))
    return averaging(config, chain(repeat(steps, critic, unroll), generator, *moves))

  return turns(lazy, turn(lazy), turn(0.0))


def critic_player(config: ConfigDict, game: Game, variant: Variant, times: float = 1.0) -> dict[str, Player]:
  """Returns the player of the critic, by name; `times` multiplies the weights of penalties, 0 leaves them out."""
  model, moves = config.model, count(config, 'critic_steps') * count(config, 'lazy')
  terms = [*historical(model, 'critic'), *regularisers(model, times), *commitment(model), *variant.terms[0]]
  loss = critic_loss(game, choose_objective(model), terms, variant.joint, variant.labels_of_batch)
  return {variant.critic_player: Player(loss, optim.make(config, variant.critic_player, moves), variant.owns)}


def generator_player(config: ConfigDict, game: Game, variant: Variant) -> dict[str, Player]:
  """Returns the player of the generator, by name."""
  model, steps, ratio = config.model, count(config, 'critic_steps'), count(config, 'ratio')
  terms = [*historical(model, 'generator'), *regularised_generator(model), *commitment(model), *variant.terms[1]]
  loss = generator_loss(game, choose_objective(model), terms, steps, ratio, variant.labels_of_batch)
  return {'generator': Player(loss, optim.make(config, 'generator', count(config, 'lazy')), ('generator',))}


def count(config: ConfigDict, name: str) -> int:
  """Returns the whole number `config.model.<name>`, 1 if it is not set.

  Raises:
    UserError: it is no whole number, or less than 1.
  """
  number = config.model.get(name, 1)
  experiment.require(
    isinstance(number, int) and number >= 1, f'config.model.{name} must be a whole number, at least 1, got {number}'
  )
  return number


def past(config: ConfigDict) -> list[Move]:
  """Returns the move that averages weights over all steps, if the model asks for historical averaging."""
  return [games.update_history('critic', 'generator')] if config.model.get('historical', 0.0) else []


def after(move: Move, *others: Move) -> Move:
  """Returns the move, followed by the others if there are any."""
  return chain(move, *others) if others else move


def averaging(config: ConfigDict, move: Move) -> Move:
  """Returns the move, followed by that of the generator's average, from step `model.average_start` on."""
  decay, start = config.model.average, config.model.get('average_start', 0)
  return after(move, *([average('generator', decay, *games.AVERAGED_EXTRAS, start=start)] if decay else []))


def close(config: ConfigDict, game: Game, move: Move, sample: Callable | None = None, **views: Any) -> System:
  """Closes a move into the system of a game.

  Args:
    config: the experiment.
    game: the game.
    move: the step.
    sample: `System.sample`; None for that of every game.
    **views: those that differ from those of every game.
  """
  model = config.model

  def networks(key: Key, batch: Batch):
    params, extra = games.init_networks(game, key, batch)
    _check_free(game, params)
    return params, games.with_averages(extra, params, model)

  views = games.views(game, model.prior == 'normal') | views
  return system(networks, move, games.values(game), sample or games.sampler(game), **views)


def _check_free(game: Game, params: Params) -> None:
  """Refuses layers without a norm of their weights that no network has."""
  names = {str(part) for path in flatten_dict(params) for part in path}
  for name in game.free:
    experiment.one_of('an element of config.model.spectral.free', name, sorted(names))
