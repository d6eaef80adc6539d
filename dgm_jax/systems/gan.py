"""Generative adversarial networks: two players, each a loss of its own, and moves in turn or at once.

Every system takes its objective from `config.model.objective`, or names it, and may have in `config.model`: penalties
(`critic.regularisers`, {name: weight}), bounds on weights (`generator.constraints` and `critic.constraints`, {name:
bound}) and `historical` averaging. Where the critic moves n times for each move of the generator (`critic_steps`),
`config.batch_size` is n times the size of a minibatch: every move sees data of its own, and the whole turn is one step.
With `lazy` = m a step is m turns, and the penalties are in the first alone, m times as large.

Axes: B batch, n generated examples, Z latents.
"""

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from dgm_jax import config as experiment
from dgm_jax import losses, models, optim
from dgm_jax.core import (
  Batch,
  Key,
  Metrics,
  Move,
  Player,
  State,
  System,
  average,
  chain,
  descend,
  repeat,
  system,
  turns,
)
from dgm_jax.models.dcgan import Recognizer
from dgm_jax.systems.parts import games
from dgm_jax.systems.parts.games import GENERATED, REAL, Game, forward, inference, noted
from dgm_jax.systems.parts.objectives import Played, Term, chosen, critic_loss, generator_loss, historical, regularisers

__all__ = ['dcgan', 'gan', 'improved_gan', 'infogan', 'wgan', 'wgan_gp']
POINTS = __all__


class Play(NamedTuple):
  """How a system differs from the game of two networks."""

  judge: str = 'discriminator'  # the player whom the critic belongs to
  owns: tuple[str, ...] = ('critic',)  # the judge's networks
  terms: tuple[Sequence[Term], Sequence[Term]] = ((), ())  # added to the loss of the judge, of the generator
  joint: bool = False  # whether the critic sees real and generated examples in one pass


def gan(config: ConfigDict) -> System:
  """Both players at once, on the same data and the same generated examples.

  Reference: Goodfellow et al. 2014, arXiv:1406.2661, equation 1 and section 3.
  """
  for name in ('critic_steps', 'lazy'):
    experiment.require(_count(config, name) == 1, f'config.model.{name} is for players in turn: take system=gan.dcgan')
  game = games.build(config)
  players = descend(**_judge(config, game, Play()), **_generator(config, game, Play()))
  move = _after(players, *games.constrained(game, 'critic', 'generator'), *_past(config))
  return _system(config, game, _averaging(config, move))


def dcgan(config: ConfigDict) -> System:
  """The discriminator first, then the generator against what it has become.

  Strided convolutions stand for all pooling: a mean over positions steadied the game, and slowed it down, in the
  paper's trials. Batch normalisation kept its generator from giving a single point; it is no cure for lost modes.

  Reference: Radford et al. 2016, arXiv:1511.06434, section 3.
  """
  game = games.build(config)
  return _system(config, game, _in_turn(config, game, Play()))


def improved_gan(config: ConfigDict) -> System:
  """Players in turn, with any of: feature matching (`model.objective`), minibatch discrimination
  (`model.critic.kernels`), historical averaging (`model.historical`), labels smoothed on one side
  (`model.real_label`, the target itself) and virtual batch normalisation (`model.generator.norm`).

  Reference: Salimans et al. 2016, arXiv:1606.03498, section 3.
  """
  return dcgan(config)


def wgan(config: ConfigDict) -> System:
  """A critic whose weights are clipped after each of its moves; `model.critic_steps` of them for one of the generator.

  Reference: Arjovsky et al. 2017, arXiv:1701.07875, algorithm 1.
  """
  bound = config.model.clip
  experiment.require(bound > 0, f'config.model.clip must be positive, got {bound}')
  return _wasserstein(config, 'constraints', 'clip', bound)


def wgan_gp(config: ConfigDict) -> System:
  """A critic whose slope between real and generated examples is drawn to one with the weight `model.penalty`.

  Reference: Gulrajani et al. 2017, arXiv:1704.00028, algorithm 1.
  """
  weight = config.model.penalty
  experiment.require(weight >= 0, f'config.model.penalty must not be negative, got {weight}')
  return _wasserstein(config, 'regularisers', 'gradient_penalty', weight)


def _wasserstein(config: ConfigDict, key: str, name: str, value: float) -> System:
  """Players in turn with Wasserstein's objective and one constraint or regulariser more, of the system's own key."""
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
  return _system(config, game, _in_turn(config, game, Play('critic', joint=joint)))


def _in_turn(config: ConfigDict, game: Game, play: Play) -> Move:
  steps, lazy, past = _count(config, 'critic_steps'), _count(config, 'lazy'), _past(config)
  experiment.require(
    not past or lazy == 1, f'config.model.historical counts steps, not turns: set config.model.lazy={lazy} to 1'
  )
  parts = steps * lazy * config.accumulate
  experiment.require(
    config.batch_size % parts == 0,
    f'config.batch_size={config.batch_size} must be a multiple of {parts}, the product of critic_steps, lazy and'
    f' accumulate: try --config.batch_size={max(1, config.batch_size // parts) * parts}',
  )
  # steps_per_call = 1 asks for a program without loops.
  unroll = steps if config.steps_per_call == 1 else 1

  def turn(times: float) -> Move:
    critic = _after(descend(**_judge(config, game, play, times)), *games.constrained(game, 'critic'))
    generator = _after(descend(**_generator(config, game, play)), *games.constrained(game, 'generator'))
    return _averaging(config, chain(repeat(steps, critic, unroll), generator, *past))

  return turns(lazy, turn(lazy), turn(0.0))


def _judge(config: ConfigDict, game: Game, play: Play, times: float = 1.0) -> dict[str, Player]:
  """`times` multiplies the weights of penalties; 0 leaves them out."""
  model, moves = config.model, _count(config, 'critic_steps') * _count(config, 'lazy')
  terms = [*historical(model, 'critic'), *regularisers(model, times), *play.terms[0]]
  loss = critic_loss(game, chosen(model), terms, play.joint)
  return {play.judge: Player(loss, optim.make(config, play.judge, moves), play.owns)}


def _generator(config: ConfigDict, game: Game, play: Play) -> dict[str, Player]:
  model, steps, ratio = config.model, _count(config, 'critic_steps'), _count(config, 'ratio')
  loss = generator_loss(game, chosen(model), [*historical(model, 'generator'), *play.terms[1]], steps, ratio)
  return {'generator': Player(loss, optim.make(config, 'generator', _count(config, 'lazy')), ('generator',))}


def _count(config: ConfigDict, name: str) -> int:
  count = config.model.get(name, 1)
  experiment.require(
    isinstance(count, int) and count >= 1, f'config.model.{name} must be a whole number, at least 1, got {count}'
  )
  return count


def _past(config: ConfigDict) -> list[Move]:
  return [games.remember('critic', 'generator')] if config.model.get('historical', 0.0) else []


def _after(move: Move, *others: Move) -> Move:
  return chain(move, *others) if others else move


def _averaging(config: ConfigDict, move: Move) -> Move:
  decay = config.model.average
  return _after(move, *([average('generator', decay, *games.BESIDE)] if decay else []))


def _system(config: ConfigDict, game: Game, move: Move) -> System:
  model = config.model

  def networks(key: Key, batch: Batch):
    params, extra = games.start(game, key, batch)
    return params, games.keep(params, extra, model)

  views = games.views(game, model.prior == 'normal')
  return system(networks, move, games.values(game), games.sampler(game), **views)


def infogan(config: ConfigDict) -> System:
  """A GAN whose generator keeps the information of some latents in its images, where a third network can find it.

  Latents are noise, a categorical code as one-hot, then continuous codes. Both players' losses hold minus the bound of
  the information, as released: the paper's minimax over the value alone would leave open who trains the recognizer.

  Reference: Chen et al. 2016, arXiv:1606.03657, equation 6.
  """
  model, game = config.model, _coded_game(config)
  terms = [_information_found(game, model)], [_information_kept(game, model)]
  move = _in_turn(config, game, Play(owns=('critic', 'recognizer'), terms=terms))

  def networks(key: Key, batch: Batch):
    params, extra = games.start(game, key, batch)
    width = jax.eval_shape(lambda z: _features(game, params, extra, z), game.prior(key, 1)).shape[-1]
    made = game.networks['recognizer'].init(key, jnp.zeros((1, width)))
    extra |= games.by_kind('recognizer', made)
    return params | {'recognizer': made['params']}, games.keep(params, extra, model)

  def evaluate(key: Key, state: State, batch: Batch) -> Metrics:
    z = game.prior(key, batch['x'].shape[0])
    found = recognized(game, state, games.decode(game, state, z), GENERATED)
    categorical, gaussian = _information(model, z, found)
    measured = {'categorical_information_nats': categorical, 'gaussian_information_nats': gaussian}
    return games.values(game)(key, state, batch) | measured

  views = games.views(game) | {
    'cluster': lambda key, state, x: recognized(game, state, x, REAL)[0],
    'class_sweeps': lambda key, state: class_sweeps(game, model, key),
    'continuous_sweeps': lambda key, state: continuous_sweeps(game, model, key),
  }
  return system(networks, move, evaluate, games.sampler(game), **views)


def _coded_game(config: ConfigDict) -> Game:
  """A game whose latents hold codes, with the network that finds them."""
  model, game = config.model, games.build(config)
  filled = {'classes': model.classes, 'continuous': model.continuous, 'dtype': config.dtype}
  filled['norm'] = games.normalisation('config.model.recognizer.norm', 'batch', model)
  recognizer = models.build('config.model.recognizer', Recognizer, model.recognizer.to_dict(), **filled)
  return game._replace(prior=functools.partial(_coded, model), networks=game.networks | {'recognizer': recognizer})


def recognized(game: Game, state: State, x: jax.Array, kind: str):
  """Returns what the recognizer finds of the codes of examples: the logits of the class and the continuous codes."""
  return inference(game, 'recognizer', state, inference(game, 'critic', state, x, kind)[1], kind)


def _coded(model: ConfigDict, key: Key, n: int) -> jax.Array:
  """[n, latents + classes + continuous]: noise and continuous codes uniform on (-1, 1), the class uniform."""
  for_noise, for_class = jax.random.split(key)
  noise = games.uniform(for_noise, n, model.latents + model.continuous)
  code = jax.nn.one_hot(jax.random.randint(for_class, (n,), 0, model.classes), model.classes)
  return jnp.concatenate([noise[:, : model.latents], code, noise[:, model.latents :]], 1)


def class_sweeps(game: Game, model: ConfigDict, key: Key) -> jax.Array:
  """[classes, 10, Z]: a row for each class, a column for each draw of everything else."""
  draws = game.prior(key, 10)[None]
  z = jnp.broadcast_to(draws, (model.classes, 10, draws.shape[-1]))
  code = jnp.broadcast_to(jnp.eye(model.classes)[:, None], (model.classes, 10, model.classes))
  return z.at[..., model.latents : model.latents + model.classes].set(code)


def continuous_sweeps(game: Game, model: ConfigDict, key: Key) -> jax.Array:
  """[5 x codes, 10, Z]: five draws for each continuous code, which goes from -2 to 2 though trained on (-1, 1)."""
  draws = game.prior(key, 5)[None, :, None]
  z = jnp.broadcast_to(draws, (model.continuous, 5, 10, draws.shape[-1]))
  line = jnp.broadcast_to(jnp.linspace(-2, 2, 10), (5, 10))
  for code in range(model.continuous):
    z = z.at[code, :, :, model.latents + model.classes + code].set(line)
  return z.reshape(-1, 10, z.shape[-1])


def _information(model: ConfigDict, z: jax.Array, recognized) -> tuple[jax.Array, jax.Array]:
  """Lower bounds of the information in the categorical code and in the continuous ones, nats [n] each."""
  logits, mean = recognized
  code = z[:, model.latents : model.latents + model.classes].argmax(1)
  rest, entropy = z[:, model.latents + model.classes :], model.continuous * math.log(2.0)
  gaussian = losses.infogan_gaussian_information(rest, mean, jnp.zeros_like(mean), entropy=entropy)
  return losses.infogan_categorical_information(code, logits), gaussian


def _features(game: Game, params, extra, z: jax.Array) -> jax.Array:
  state = State(jnp.zeros((), jnp.int32), params, {}, extra)
  return inference(game, 'critic', state, games.decode(game, state, z), GENERATED)[1]


def _found(game: Game, played: Played, model: ConfigDict, key: Key):
  """Minus the weighted bound of a batch, what the recognizer has seen, and both bounds."""
  out, seen = forward(game, 'recognizer', played.state, played.of_fake.features, key)
  categorical, gaussian = _information(model, played.z, out)
  bounds = {'categorical_information_nats': categorical.mean(), 'gaussian_information_nats': gaussian.mean()}
  return -(model.weight * categorical.mean() + model.gaussian_weight * gaussian.mean()), seen, bounds


def _information_found(game: Game, model: ConfigDict) -> Term:
  """Minus the information, to the player of critic and recognizer."""

  def term(key: Key, played: Played):
    value, seen, bounds = _found(game, played, model, key)
    # The recognizer learns of generated images alone; of real ones, on which it sorts, only the statistics are noted.
    _, of_real = forward(game, 'recognizer', played.state, played.of_real.features, key)
    return value, noted(game, 'recognizer', played.state, **{REAL: of_real, GENERATED: seen}), bounds

  return term


def _information_kept(game: Game, model: ConfigDict) -> Term:
  """Minus the information, to the generator."""
  return lambda key, played: (_found(game, played, model, key)[0], {}, {})
