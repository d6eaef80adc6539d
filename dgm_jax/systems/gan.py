"""Generative adversarial networks: two players, each a loss of its own and moves in turn or at once.

Where the critic moves n times for each move of the generator, `config.batch_size` is n times the size of a minibatch:
every move sees data of its own, and the whole turn is one step. Axes: B batch, n generated examples, Z latents.
"""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from dgm_jax import config as experiment
from dgm_jax import losses, models, optim
from dgm_jax.core import Batch, Key, Metrics, Move, Player, State, System, average, chain, descend, repeat, system
from dgm_jax.models.dcgan import Recognizer
from dgm_jax.systems import adversaries
from dgm_jax.systems.adversaries import GENERATED, REAL, Parts, fakes, forward, held, noted

__all__ = ['dcgan', 'gan', 'improved_gan', 'infogan', 'wgan', 'wgan_gp']
POINTS = __all__

GENERATOR_LOSSES = ('nonsaturating', 'minimax', 'feature_matching')


def gan(config: ConfigDict) -> System:
  """Both players at once, on the same data and the same generated examples.

  Reference: Goodfellow et al. 2014, arXiv:1406.2661, equation 1 and section 3.
  """
  game = adversaries.parts(config)
  return _system(config, game, descend(**_players(config, game)))


def dcgan(config: ConfigDict) -> System:
  """The discriminator first, then the generator against what it has become.

  Strided convolutions stand for all pooling: a mean over positions steadied the game, and slowed it down, in the
  paper's trials. Batch normalisation kept its generator from giving a single point; it is no cure for lost modes.

  Reference: Radford et al. 2016, arXiv:1511.06434, section 3.
  """
  game = adversaries.parts(config)
  players = _players(config, game)
  turns = (descend(discriminator=players['discriminator']), descend(generator=players['generator']))
  return _system(config, game, chain(*turns))


def improved_gan(config: ConfigDict) -> System:
  """Players in turn, with any of: feature matching (`model.generator_loss`), minibatch discrimination
  (`model.critic.kernels`), historical averaging (`model.historical`), labels smoothed on one side
  (`model.real_label`, the target itself) and virtual batch normalisation (`model.generator.norm`).

  Reference: Salimans et al. 2016, arXiv:1606.03498, section 3.
  """
  model, game = config.model, adversaries.parts(config)
  players = _players(config, game)
  turns = [
    descend(discriminator=_held(players['discriminator'], model.historical)),
    descend(generator=_held(players['generator'], model.historical)),
  ]
  if model.historical:
    turns.append(adversaries.remember('critic', 'generator'))
  return _system(config, game, chain(*turns))


def wgan(config: ConfigDict) -> System:
  """A critic whose weights are clipped after each of its moves; `model.critic_steps` of them for one of the generator.

  Reference: Arjovsky et al. 2017, arXiv:1701.07875, algorithm 1.
  """
  bound = config.model.clip
  experiment.require(bound > 0, f'config.model.clip must be positive, got {bound}')
  nothing = lambda critic, real, fake, key: jnp.zeros(real.shape[0])
  return _wasserstein(config, nothing, lambda move: chain(move, adversaries.clip('critic', bound)))


def wgan_gp(config: ConfigDict) -> System:
  """A critic whose slope between real and generated examples is drawn to one with the weight `model.penalty`.

  Reference: Gulrajani et al. 2017, arXiv:1704.00028, algorithm 1.
  """
  weight = config.model.penalty
  norms = config.model.critic.get('norm', 'none')
  experiment.require(
    norms in ('none', 'layer'),
    f"config.model.critic.norm='{norms}' ties the examples of a batch together, which the penalty on each one's slope"
    ' forbids: take layer or none',
  )
  penalty = lambda critic, real, fake, key: weight * losses.gradient_penalty(critic, real, fake, key)
  return _wasserstein(config, penalty, lambda move: move)


def _players(config: ConfigDict, game: Parts) -> dict[str, Player]:
  model = config.model
  experiment.one_of('config.model.generator_loss', model.generator_loss, GENERATOR_LOSSES)
  discriminator, generator = _discriminator(game, model.real_label), _generator(game, _objective(model.generator_loss))
  return {
    'discriminator': Player(discriminator, optim.make(config, 'discriminator'), ('critic',)),
    'generator': Player(generator, optim.make(config, 'generator'), ('generator',)),
  }


def _held(player: Player, weight: float) -> Player:
  return player._replace(loss=held(player.owns[0], weight, player.loss))


def _objective(name: str) -> Callable:
  """`objective(values [n], features [n, F], real_features [B, F]) -> scalar` for the generator to minimise."""
  if name == 'feature_matching':
    # The mean over features, as released: the paper's norm sums them.
    return lambda values, fake, real: losses.feature_matching(real, fake) / fake.shape[-1]
  loss = {'nonsaturating': losses.nonsaturating_generator, 'minimax': losses.minimax_generator}[name]
  return lambda values, fake, real: loss(values).mean()


def _discriminator(game: Parts, real_label: float) -> Callable:
  def loss(key: Key, state: State, batch: Batch):
    for_z, *keys = jax.random.split(key, 4)
    fake, _ = fakes(game, state, game.prior(for_z, batch['x'].shape[0]), keys[0])
    (real_logit, _), seen_real = forward(game.critic, 'critic', state, batch['x'], keys[1])
    (fake_logit, _), seen_fake = forward(game.critic, 'critic', state, fake, keys[2])
    value = losses.minimax_discriminator(real_logit, fake_logit, real_label=real_label).mean()
    right = {'real_accuracy': (real_logit > 0).mean(), 'fake_accuracy': (fake_logit < 0).mean()}
    return value, (noted(game, 'critic', state, {REAL: seen_real, GENERATED: seen_fake}), right)

  return loss


def _generator(game: Parts, objective: Callable) -> Callable:
  """Splits its key as the discriminator does: where both move at once, they see the same generated examples."""

  def loss(key: Key, state: State, batch: Batch):
    for_z, *keys = jax.random.split(key, 4)
    fake, seen = fakes(game, state, game.prior(for_z, batch['x'].shape[0]), keys[0])
    (_, real), _ = forward(game.critic, 'critic', state, batch['x'], keys[1])
    (values, features), _ = forward(game.critic, 'critic', state, fake, keys[2])
    return objective(values, features, real), (noted(game, 'generator', state, seen), {})

  return loss


def _wasserstein(config: ConfigDict, penalty: Callable, bounded: Callable[[Move], Move]) -> System:
  """`penalty(critic, real, fake, key) -> [B]` is added to the critic's loss; `bounded` may alter its move."""
  model, game = config.model, adversaries.parts(config)
  tied = model.critic.get('norm', 'none') == 'batch' or model.critic.get('kernels', 0) > 0
  experiment.require(model.critic_steps >= 1, f'config.model.critic_steps must be at least 1, got {model.critic_steps}')

  def critic_loss(key: Key, state: State, batch: Batch):
    for_z, for_fake, for_critic, for_penalty = jax.random.split(key, 4)
    fake, _ = fakes(game, state, game.prior(for_z, batch['x'].shape[0]), for_fake)
    judge = lambda x: forward(game.critic, 'critic', state, x, for_critic)
    real_value, fake_value, seen = _both(judge, batch['x'], fake, tied)
    extra = penalty(lambda x: judge(x)[0][0], batch['x'], fake, for_penalty).mean()
    distance = -losses.wasserstein_critic(real_value, fake_value).mean()
    return extra - distance, (noted(game, 'critic', state, seen), {'distance': distance, 'penalty': extra})

  def generator_loss(key: Key, state: State, batch: Batch):
    for_z, for_fake, for_critic = jax.random.split(key, 3)
    count = batch['x'].shape[0] // model.critic_steps * model.ratio
    fake, seen = fakes(game, state, game.prior(for_z, count), for_fake)
    (values, _), _ = forward(game.critic, 'critic', state, fake, for_critic)
    return losses.wasserstein_generator(values).mean(), (noted(game, 'generator', state, seen), {})

  optimizer = optim.make(config, 'critic', model.critic_steps)
  critic = bounded(descend(critic=Player(critic_loss, optimizer, ('critic',))))
  # A call of a single step is one that is to have no loop in it.
  unroll = model.critic_steps if config.steps_per_call == 1 else 1
  generator = descend(generator=Player(generator_loss, optim.make(config, 'generator'), ('generator',)))
  return _system(config, game, chain(repeat(model.critic_steps, critic, unroll), generator))


def _both(judge: Callable, real: jax.Array, fake: jax.Array, tied: bool) -> tuple[jax.Array, jax.Array, dict]:
  """The critic's values [B] of real and of generated examples [B, ...], and the statistics that it has seen.

  Examples that a layer ties together are judged among their own kind; others are in one pass, whose products are larger
  and a tenth faster. There they take turns: halves of a batch that is spread over devices would have to be moved.
  """
  if tied:
    ((real_value, _), seen_real), ((fake_value, _), seen_fake) = judge(real), judge(fake)
    return real_value, fake_value, {REAL: seen_real, GENERATED: seen_fake}
  (values, _), seen = judge(jnp.stack([real, fake], 1).reshape(-1, *real.shape[1:]))
  return *values.reshape(-1, 2).T, seen


def _system(config: ConfigDict, game: Parts, move: Move) -> System:
  model = config.model

  def networks(key: Key, batch: Batch):
    params, extra = adversaries.start(game, key, batch)
    return params, adversaries.keep(params, extra, model)

  views = adversaries.views(game, model.prior == 'normal')
  return system(networks, _averaging(move, model), adversaries.values(game), adversaries.sampler(game), **views)


def _averaging(move: Move, model: ConfigDict) -> Move:
  return chain(move, average('generator', model.average, 'generator_statistics')) if model.average else move


def infogan(config: ConfigDict) -> System:
  """A GAN whose generator keeps the information of some latents in its images, where a third network can find it.

  Latents are noise, a categorical code as one-hot, then continuous codes. Both players' losses hold minus the bound of
  the information, as released: the paper's minimax over the value alone would leave open who trains the recognizer.

  Reference: Chen et al. 2016, arXiv:1606.03657, equation 6.
  """
  model = config.model
  game = adversaries.parts(config)._replace(prior=functools.partial(_coded, model))
  recognizer = _recognizer(config)
  losses_of = _informed_discriminator(game, recognizer, model), _informed_generator(game, recognizer, model)
  discriminator = Player(losses_of[0], optim.make(config, 'discriminator'), ('critic', 'recognizer'))
  generator = Player(losses_of[1], optim.make(config, 'generator'), ('generator',))
  move = chain(descend(discriminator=discriminator), descend(generator=generator))

  def networks(key: Key, batch: Batch):
    params, extra = adversaries.start(game, key, batch)
    width = jax.eval_shape(lambda z: _features(game, params, extra, z), game.prior(key, 1)).shape[-1]
    made = recognizer.init(key, jnp.zeros((1, width)))
    extra |= adversaries.by_kind('recognizer', made)
    return params | {'recognizer': made['params']}, adversaries.keep(params, extra, model)

  def evaluate(key: Key, state: State, batch: Batch) -> Metrics:
    z = game.prior(key, batch['x'].shape[0])
    categorical, gaussian = _information(
      model, z, recognized(game, recognizer, state, adversaries.decode(game, state, z), GENERATED)
    )
    measured = {'categorical_information_nats': categorical, 'gaussian_information_nats': gaussian}
    return adversaries.values(game)(key, state, batch) | measured

  views = adversaries.views(game) | {
    'cluster': lambda key, state, x: recognized(game, recognizer, state, x, REAL)[0],
    'class_sweeps': lambda key, state: class_sweeps(game, model, key),
    'continuous_sweeps': lambda key, state: continuous_sweeps(game, model, key),
  }
  return system(networks, _averaging(move, model), evaluate, adversaries.sampler(game), **views)


def _recognizer(config: ConfigDict) -> Recognizer:
  model = config.model
  filled = {'classes': model.classes, 'continuous': model.continuous, 'dtype': config.dtype}
  filled['norm'] = adversaries.normalisation('config.model.recognizer.norm', 'batch', model)
  return models.build('config.model.recognizer', Recognizer, model.recognizer.to_dict(), **filled)


def recognized(game: Parts, recognizer: Recognizer, state: State, x: jax.Array, kind: str):
  """Returns what the recognizer finds of the codes of examples: the logits of the class and the continuous codes."""
  features = adversaries.inference(game.critic, 'critic', state, x, kind)[1]
  return adversaries.inference(recognizer, 'recognizer', state, features, kind)


def _coded(model: ConfigDict, key: Key, n: int) -> jax.Array:
  """[n, latents + classes + continuous]: noise and continuous codes uniform on (-1, 1), the class uniform."""
  for_noise, for_class = jax.random.split(key)
  noise = adversaries.uniform(for_noise, n, model.latents + model.continuous)
  code = jax.nn.one_hot(jax.random.randint(for_class, (n,), 0, model.classes), model.classes)
  return jnp.concatenate([noise[:, : model.latents], code, noise[:, model.latents :]], 1)


def class_sweeps(game: Parts, model: ConfigDict, key: Key) -> jax.Array:
  """[classes, 10, Z]: a row for each class, a column for each draw of everything else."""
  draws = game.prior(key, 10)[None]
  z = jnp.broadcast_to(draws, (model.classes, 10, draws.shape[-1]))
  code = jnp.broadcast_to(jnp.eye(model.classes)[:, None], (model.classes, 10, model.classes))
  return z.at[..., model.latents : model.latents + model.classes].set(code)


def continuous_sweeps(game: Parts, model: ConfigDict, key: Key) -> jax.Array:
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


def _features(game: Parts, params, extra, z: jax.Array) -> jax.Array:
  state = State(jnp.zeros((), jnp.int32), params, {}, extra)
  return adversaries.inference(game.critic, 'critic', state, adversaries.decode(game, state, z), GENERATED)[1]


def _found(recognizer: Recognizer, state: State, features: jax.Array, z: jax.Array, model: ConfigDict, key: Key):
  """The weighted bound of a batch, what the recognizer has seen, and both bounds."""
  out, seen = forward(recognizer, 'recognizer', state, features, key)
  categorical, gaussian = _information(model, z, out)
  bounds = {'categorical_information_nats': categorical.mean(), 'gaussian_information_nats': gaussian.mean()}
  return model.weight * categorical.mean() + model.gaussian_weight * gaussian.mean(), seen, bounds


def _informed_discriminator(game: Parts, recognizer: Recognizer, model: ConfigDict) -> Callable:
  def loss(key: Key, state: State, batch: Batch):
    for_z, *keys = jax.random.split(key, 5)
    z = game.prior(for_z, batch['x'].shape[0])
    fake, _ = fakes(game, state, z, keys[0])
    (real_logit, real_features), seen_real = forward(game.critic, 'critic', state, batch['x'], keys[1])
    (fake_logit, features), seen_fake = forward(game.critic, 'critic', state, fake, keys[2])
    information, seen, bounds = _found(recognizer, state, features, z, model, keys[3])
    # The recognizer learns of generated images alone; of real ones, on which it sorts, only the statistics are noted.
    _, of_real = forward(recognizer, 'recognizer', state, real_features, keys[3])
    extra = noted(game, 'critic', state, {REAL: seen_real, GENERATED: seen_fake})
    extra |= noted(game, 'recognizer', state, {REAL: of_real, GENERATED: seen})
    return losses.minimax_discriminator(real_logit, fake_logit).mean() - information, (extra, bounds)

  return loss


def _informed_generator(game: Parts, recognizer: Recognizer, model: ConfigDict) -> Callable:
  def loss(key: Key, state: State, batch: Batch):
    for_z, *keys = jax.random.split(key, 4)
    z = game.prior(for_z, batch['x'].shape[0])
    fake, seen = fakes(game, state, z, keys[0])
    (logit, features), _ = forward(game.critic, 'critic', state, fake, keys[1])
    information, _, _ = _found(recognizer, state, features, z, model, keys[2])
    return losses.nonsaturating_generator(logit).mean() - information, (noted(game, 'generator', state, seen), {})

  return loss
