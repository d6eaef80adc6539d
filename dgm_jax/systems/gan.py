"""Generative adversarial networks: two players, each with a loss of its own, and moves in turn or at once.

The objective is `config.model.objective`, or fixed by the system. `config.model` may contain penalties
(`critic.regularisers`, {name: weight}), bounds on weights (`generator.constraints` and `critic.constraints`, {name:
bound}) and `historical` averaging.

If the critic moves n times for each move of the generator (`critic_steps`), `config.batch_size` is n times the size of
a minibatch: every move has data of its own, and the whole turn is one step. With `lazy` = m a step is m turns; the
penalties are in the first alone, m times as large.

Axes: B batch, n generated examples, Z latents.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from dgm_jax import config as experiment
from dgm_jax import losses, models
from dgm_jax.core import Batch, Key, Metrics, State, System, descend, system
from dgm_jax.models.dcgan import Recognizer
from dgm_jax.systems.class_gans import acgan, biggan, sngan, tac_gan
from dgm_jax.systems.parts import games, turns
from dgm_jax.systems.parts.games import GENERATED, REAL, Game, forward, inference, update_statistics
from dgm_jax.systems.parts.objectives import GameBatch, Term
from dgm_jax.systems.parts.turns import Variant
from dgm_jax.systems.style import stylegan

__all__ = [
  'acgan', 'biggan', 'dcgan', 'gan', 'improved_gan', 'infogan', 'sngan', 'stylegan', 'tac_gan', 'wgan', 'wgan_gp'
]  # fmt: skip
POINTS = ('dcgan', 'gan', 'improved_gan', 'infogan', 'wgan', 'wgan_gp')


def gan(config: ConfigDict) -> System:
  """Builds the system whose players move at once, on the same data and the same generated examples.

  Reference: Goodfellow et al. 2014, arXiv:1406.2661, equation 1 and section 3.
  """
  for name in ('critic_steps', 'lazy'):
    experiment.require(
      turns.count(config, name) == 1, f'config.model.{name} is for players in turn: take system=gan.dcgan'
    )
  game = games.build(config)
  plain = Variant()
  players = descend(**turns.critic_player(config, game, plain), **turns.generator_player(config, game, plain))
  move = turns.after(players, *games.projections(game, 'critic', 'generator'), *turns.past(config))
  return turns.close(config, game, turns.averaging(config, move))


def dcgan(config: ConfigDict) -> System:
  """Builds the system in which the discriminator moves first, then the generator against the updated discriminator.

  Strided convolutions replace all pooling. In the paper's trials a mean over positions stabilised training, but slowed
  it down. Batch normalisation kept the generator from giving a single point; it does not prevent lost modes.

  Reference: Radford et al. 2016, arXiv:1511.06434, section 3.
  """
  game = games.build(config)
  return turns.close(config, game, turns.in_turn(config, game, Variant()))


def improved_gan(config: ConfigDict) -> System:
  """Builds the system of players in turn, with any of five techniques.

  They are feature matching (`model.objective`), minibatch discrimination (`model.critic.kernels`), historical averaging
  (`model.historical`), one-sided label smoothing (`model.real_label`, the target itself) and virtual batch
  normalisation (`model.generator.norm`).

  Reference: Salimans et al. 2016, arXiv:1606.03498, section 3.
  """
  return dcgan(config)


def wgan(config: ConfigDict) -> System:
  """Builds the system whose critic's weights are clipped after each of its moves.

  The critic moves `model.critic_steps` times for each move of the generator.

  Reference: Arjovsky et al. 2017, arXiv:1701.07875, algorithm 1.
  """
  bound = config.model.clip
  experiment.require(bound > 0, f'config.model.clip must be positive, got {bound}')
  return _wasserstein(config, 'constraints', 'clip', bound)


def wgan_gp(config: ConfigDict) -> System:
  """Builds the system that penalises the critic's slope between real and generated examples.

  The penalty is the squared difference of the slope from one. Its weight is `model.penalty`.

  Reference: Gulrajani et al. 2017, arXiv:1704.00028, algorithm 1.
  """
  weight = config.model.penalty
  experiment.require(weight >= 0, f'config.model.penalty must not be negative, got {weight}')
  return _wasserstein(config, 'regularisers', 'gradient_penalty', weight)


def _wasserstein(config: ConfigDict, key: str, name: str, value: float) -> System:
  """Returns the system of players in turn with Wasserstein's objective and one more constraint or regulariser.

  Its value is a config key of the system's own.
  """
  config, others = config.copy_and_resolve_references(), dict(config.model.critic.get(key, {}))
  objective = config.model.get('objective', 'wasserstein')
  experiment.require(
    objective == 'wasserstein',
    f"config.model.objective='{objective}' does not fit config.system={config.system}: take gan.dcgan, or leave it out",
  )
  experiment.require(
    name not in others,
    f'config.model.critic.{key}.{name} has a key of its own in {config.system}: set config.model.'
    f'{"clip" if name == "clip" else "penalty"}',
  )
  with config.unlocked():
    config.model.objective, config.model.critic[key] = 'wasserstein', others | {name: value}
  game, joint = games.build(config), not games.ties_examples(config.model)
  return turns.close(config, game, turns.in_turn(config, game, Variant('critic', joint=joint)))


def infogan(config: ConfigDict) -> System:
  """Builds a GAN whose images keep the information of some latents, which a third network recovers.

  Latents are noise, a categorical code as one-hot, then continuous codes. With no classes there is no categorical code,
  and its information is 0. The losses of both players contain minus the
  bound of the information, as in the released code. The paper's minimax over the value alone does not say who trains
  the recognizer.

  Reference: Chen et al. 2016, arXiv:1606.03657, equation 6.
  """
  model, game = config.model, _coded_game(config)
  terms = [_critic_information(game, model)], [_generator_information(game, model)]
  move = turns.in_turn(config, game, Variant(owns=('critic', 'recognizer'), terms=terms))

  def networks(key: Key, batch: Batch):
    params, extra = games.init_networks(game, key, batch)
    width = jax.eval_shape(lambda z: _features(game, params, extra, z), game.prior(key, 1)).shape[-1]
    variables = game.networks['recognizer'].init(key, jnp.zeros((1, width)))
    extra |= games.statistics_by_kind('recognizer', variables)
    params |= {'recognizer': variables['params']}
    return params, games.with_averages(extra, params, model)

  def evaluate(key: Key, state: State, batch: Batch) -> Metrics:
    z = game.prior(key, batch['x'].shape[0])
    codes = recognize(game, state, games.decode(game, state, z), GENERATED)
    categorical, gaussian = _information(model, z, codes)
    measured = {'categorical_information_nats': categorical, 'gaussian_information_nats': gaussian}
    return games.values(game)(key, state, batch) | measured

  views = games.views(game) | _code_views(game, model)
  return system(networks, move, evaluate, games.sampler(game), **views)


def _code_views(game: Game, model: ConfigDict) -> dict[str, Callable]:
  """Returns the views of a system with codes, by name."""

  def cluster(key, state, x):
    del key
    return recognize(game, state, x, REAL)[0]

  def classes(key, state):
    del state
    return class_sweeps(game, model, key)

  def continuous(key, state):
    del state
    return continuous_sweeps(game, model, key)

  categorical = {'cluster': cluster, 'class_sweeps': classes} if model.classes else {}
  return categorical | {'continuous_sweeps': continuous}


def _coded_game(config: ConfigDict) -> Game:
  """Builds the game whose latents hold codes, with the network that recovers them."""
  model, game = config.model, games.build(config)
  filled = {'classes': model.classes, 'continuous': model.continuous, 'dtype': config.dtype}
  filled['norm'] = games.normalisation('config.model.recognizer.norm', 'batch', model)
  recognizer = models.build('config.model.recognizer', Recognizer, model.recognizer.to_dict(), **filled)
  return game._replace(
    prior=functools.partial(_sample_latents, model), networks=game.networks | {'recognizer': recognizer}
  )


def recognize(game: Game, state: State, x: jax.Array, kind: str) -> Any:
  """Recovers the codes of examples: returns the logits of the class and the continuous codes."""
  return inference(game, 'recognizer', state, inference(game, 'critic', state, x, kind)[1], kind)


def _sample_latents(model: ConfigDict, key: Key, n: int) -> jax.Array:
  """Samples latents [n, latents + classes + continuous]; noise and codes on (-1, 1) and the class are uniform."""
  for_noise, for_class = jax.random.split(key)
  noise = games.uniform(for_noise, n, model.latents + model.continuous)
  code = jax.nn.one_hot(jax.random.randint(for_class, (n,), 0, max(1, model.classes)), model.classes)
  return jnp.concatenate([noise[:, : model.latents], code, noise[:, model.latents :]], 1)


def class_sweeps(game: Game, model: ConfigDict, key: Key) -> jax.Array:
  """Returns latents [classes, 10, Z]: a row for each class, a column for each sample of all other latents."""
  draws = game.prior(key, 10)[None]
  z = jnp.broadcast_to(draws, (model.classes, 10, draws.shape[-1]))
  code = jnp.broadcast_to(jnp.eye(model.classes)[:, None], (model.classes, 10, model.classes))
  return z.at[..., model.latents : model.latents + model.classes].set(code)


def continuous_sweeps(game: Game, model: ConfigDict, key: Key) -> jax.Array:
  """Returns latents [5 x codes, 10, Z]: five rows for each continuous code.

  The code goes from -2 to 2 along a row, beyond its training range (-1, 1).
  """
  draws = game.prior(key, 5)[None, :, None]
  z = jnp.broadcast_to(draws, (model.continuous, 5, 10, draws.shape[-1]))
  line = jnp.broadcast_to(jnp.linspace(-2, 2, 10), (5, 10))
  for code in range(model.continuous):
    z = z.at[code, :, :, model.latents + model.classes + code].set(line)
  return z.reshape(-1, 10, z.shape[-1])


def _information(model: ConfigDict, z: jax.Array, codes) -> tuple[jax.Array, jax.Array]:
  """Computes lower bounds of the information in the categorical and in the continuous codes, nats [n] each."""
  logits, mean = codes
  if not model.classes:
    categorical = jnp.zeros(z.shape[0])
  else:
    label = z[:, model.latents : model.latents + model.classes].argmax(1)
    categorical = losses.infogan_categorical_information(label, logits)
  rest, entropy = z[:, model.latents + model.classes :], model.continuous * math.log(2.0)
  return categorical, losses.infogan_gaussian_information(rest, mean, jnp.zeros_like(mean), entropy=entropy)


def _features(game: Game, params, extra, z: jax.Array) -> jax.Array:
  state = State(jnp.zeros((), jnp.int32), params, {}, extra)
  return inference(game, 'critic', state, games.decode(game, state, z), GENERATED)[1]


def _neg_information(game: Game, game_batch: GameBatch, model: ConfigDict, key: Key):
  """Returns minus the weighted bound of a batch, the recognizer's statistics, and both bounds."""
  out, statistics = forward(game, 'recognizer', game_batch.state, game_batch.fake_score.features, key)
  categorical, gaussian = _information(model, game_batch.z, out)
  bounds = {'categorical_information_nats': categorical.mean(), 'gaussian_information_nats': gaussian.mean()}
  return -(model.weight * categorical.mean() + model.gaussian_weight * gaussian.mean()), statistics, bounds


def _critic_information(game: Game, model: ConfigDict) -> Term:
  """Returns the term minus the information for the player of critic and recognizer."""

  def term(key: Key, game_batch: GameBatch):
    value, statistics, bounds = _neg_information(game, game_batch, model, key)
    # The recognizer is trained on generated images alone. It classifies real ones, so their statistics are kept, too.
    _, of_real = forward(game, 'recognizer', game_batch.state, game_batch.real_score.features, key)
    kinds = {REAL: of_real, GENERATED: statistics}
    return value, update_statistics(game, 'recognizer', game_batch.state, **kinds), bounds

  return term


def _generator_information(game: Game, model: ConfigDict) -> Term:
  """Returns the term minus the information for the generator."""

  def term(key: Key, game_batch: GameBatch):
    return _neg_information(game, game_batch, model, key)[0], {}, {}

  return term
