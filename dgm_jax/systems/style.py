"""The system of style-based generators; `gan.stylegan` is its name in experiments.

It is a game of `systems.gan` whose networks grow from run to run (`config.graft`) and fade in within a run.
"""

import jax
from ml_collections import ConfigDict

from dgm_jax import optim
from dgm_jax.core import Batch, Key, Metrics, Move, Player, State, System, average, chain, descend, system, turns
from dgm_jax.systems.parts import games, style
from dgm_jax.systems.parts.objectives import choose_objective, commitment, critic_loss, generator_loss, regularisers
from dgm_jax.systems.parts.style import Growing

__all__ = ['stylegan']


def stylegan(config: ConfigDict) -> System:
  """Builds the game of a critic and of a generator that is controlled by a style in each layer.

  Players move in turn. Styles of two latents are mixed in training (`model.generator.mixing`), and their mean is kept
  for truncation. The objective is `nonsaturating` with `regularisers.r1`, or `wasserstein` with `gradient_penalty` and
  `drift`. With `lazy` = m a step is m turns; the penalties are in the first alone, m times as large. The average of the
  generator loses half its weight in `model.half_life` images.

  The crossover of styles is drawn for each example. The released program draws one for the whole batch.

  Reference: Karras et al. 2019, arXiv:1812.04948.
  """
  config = config.copy_and_resolve_references()
  with config.unlocked():
    config.model.average = style.decay(config)
  growing, lazy = style.build(config), config.model.lazy
  move = turns(lazy, _turn(config, growing, lazy), _turn(config, growing, 0.0))

  def networks(key: Key, batch: Batch):
    params, extra = games.init_networks(growing.game, key, batch)
    extra = style.initial(growing, jax.random.fold_in(key, 0), params, extra)
    return params, games.with_averages(extra, params, config.model)

  def evaluate(key: Key, state: State, batch: Batch) -> Metrics:
    faded = batch | {'x': style.shown(growing, state, batch['x'])}
    return style.late(growing, games.values)(key, state, faded)

  return system(networks, move, evaluate, style.sampler(growing), **style.views(growing))


def _turn(config: ConfigDict, growing: Growing, times: float) -> Move:
  """Returns a move of the critic, one of the generator, and their averages; `times` multiplies the penalties."""
  objective, lazy, decay = choose_objective(config.model), config.model.lazy, config.model.average
  paid = commitment(config.model)
  terms = [*regularisers(config.model, times), *paid]
  of_critic = style.late(growing, lambda game: critic_loss(game, objective, terms))
  of_generator = style.late(growing, lambda game: generator_loss(game, objective, paid))

  def loss_of_critic(key: Key, state: State, batch: Batch):
    return of_critic(key, state, style.trained_on(growing, jax.random.fold_in(key, 4), state, batch))

  critic = Player(loss_of_critic, optim.make(config, 'discriminator', lazy), ('critic',))
  generator = Player(of_generator, optim.make(config, 'generator', lazy), ('generator',))
  averaging = [average('generator', decay, *games.AVERAGED_EXTRAS)] if decay else []
  return chain(
    descend(discriminator=critic), *games.projections(growing.game, 'critic'),
    descend(generator=generator), *games.projections(growing.game, 'generator'), *averaging,
  )  # fmt: skip
