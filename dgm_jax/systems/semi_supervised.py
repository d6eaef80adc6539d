"""Classification with few labels and many images: a discriminator of K classes and a generator that matches features.

Axes: B batch, K classes, n labelled examples.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from dgm_jax import config as experiment
from dgm_jax import losses, optim
from dgm_jax.core import Batch, Key, Metrics, Move, Player, State, System, average, averages, chain, descend, system
from dgm_jax.models.semi_supervised import NoisyClassifier, SoftplusGenerator
from dgm_jax.nn.norm import running
from dgm_jax.systems.parts.games import SHOWN

__all__ = ['feature_matching']

LABELLED = __all__


def feature_matching(config: ConfigDict) -> System:
  """The classifier on labelled, unlabelled and generated images, then the generator on other unlabelled images.

  One logit more, held at zero, stands for 'generated': the odds of real are the sum of exp(logits). The first
  `model.labels` / K images of each class that `System.init` is shown keep their labels, in `State.extra`. A step of as
  many images shows all of them, as released.

  Reference: Salimans et al. 2016, arXiv:1606.03498, sections 3.1 and 5.
  """
  model = config.model
  experiment.require(
    model.labels % model.classes == 0 < model.labels,
    f'config.model.labels={model.labels} must be so many for each of the {model.classes} classes',
  )
  critic = NoisyClassifier(tuple(model.critic_hidden), model.classes)
  generator = SoftplusGenerator(tuple(model.generator_hidden), tuple(config.data.shape))

  def judge(state: State, x: jax.Array, rngs=None):
    variables = {'params': state.params['critic'], 'constants': state.extra['critic_constants']}
    return critic.apply(variables, x, rngs=rngs)

  def generate(state: State, key: Key, n: int):
    variables = {'params': state.params['generator'], 'batch_stats': state.extra['generator_statistics']}
    z = jax.random.uniform(key, (n, model.latents))
    x, seen = generator.apply(variables, z, mutable=['batch_stats'])
    return x, seen['batch_stats']

  def networks(key: Key, batch: Batch):
    for_generator, for_critic, for_noise = jax.random.split(key, 3)
    made = generator.init(for_generator, jax.random.uniform(for_generator, (SHOWN, model.latents)))
    judged = critic.init({'params': for_critic, 'noise': for_noise}, batch['x'][:500])
    params = {'generator': made['params'], 'critic': judged['params']}
    extra = {
      'generator_statistics': made['batch_stats'], 'critic_constants': judged['constants'],
      'labelled': labelled(batch, model.labels, model.classes),
    }  # fmt: skip
    return params, averages(params, extra, ('critic',))

  def evaluate(key: Key, state: State, batch: Batch) -> Metrics:
    del key
    logits, _ = judge(state, batch['x'])
    return {
      'error_percent': 100 * (logits.argmax(1) != batch['y']).astype(jnp.float32),
      'real_nats': losses.nonsaturating_generator(jax.nn.logsumexp(logits, 1)),
    }

  def sample(key: Key, state: State, n: int) -> jax.Array:
    variables = {'params': state.params['generator'], 'batch_stats': state.extra['generator_statistics']}
    return generator.apply(variables, jax.random.uniform(key, (n, model.latents)))

  players = {
    'discriminator': Player(_classifier(judge, generate), optim.make(config, 'discriminator'), ('critic',)),
    'generator': Player(_matcher(judge, generate), optim.make(config, 'generator'), ('generator',)),
  }
  turns = [half(i, descend(**{name: player})) for i, (name, player) in enumerate(players.items())]
  return system(networks, chain(*turns, average('critic', model.average)), evaluate, sample)


def labelled(batch: Batch, labels: int, classes: int) -> Batch:
  """The first labels / classes examples of each class of a batch, [labels, ...]; NaN for those that it lacks.

  No run begins with a NaN in its state.
  """
  each, none = labels // classes, len(batch['y'])
  index = jnp.concatenate([jnp.nonzero(batch['y'] == k, size=each, fill_value=none)[0] for k in range(classes)])
  return {'x': jnp.take(batch['x'], index, 0, mode='fill'), 'y': jnp.repeat(jnp.arange(classes), each)}


def dealt(key: Key, n: int, count: int) -> jax.Array:
  """Numbers below n, [count]: as many shuffled decks as there is room for, and a part of one more."""
  decks = jax.vmap(lambda key: jax.random.permutation(key, n))(jax.random.split(key, -(-count // n)))
  return decks.reshape(-1)[:count]


def half(i: int, move: Move) -> Move:
  """Makes the move on one half of the batch, every second example."""
  return move._replace(apply=lambda key, state, batch: move.apply(key, state, jax.tree.map(lambda x: x[i::2], batch)))


def _classifier(judge: Callable, generate: Callable) -> Callable:
  def loss(key: Key, state: State, batch: Batch):
    for_z, for_choice, *noise = jax.random.split(key, 5)
    count, known = batch['x'].shape[0], state.extra['labelled']
    chosen = dealt(for_choice, len(known['y']), count)
    fake, _ = generate(state, for_z, count)
    right, _ = judge(state, known['x'][chosen], {'noise': noise[0]})
    real, _ = judge(state, batch['x'], {'noise': noise[1]})
    made, _ = judge(state, fake, {'noise': noise[2]})
    supervised = losses.auxiliary_classifier(right, known['y'][chosen]).mean()
    odds = jax.nn.logsumexp(real, 1), jax.nn.logsumexp(made, 1)  # of being real, logarithms
    unsupervised = 0.5 * losses.minimax_discriminator(*odds).mean()
    return supervised + unsupervised, ({}, {'labelled_nats': supervised, 'unlabelled_nats': unsupervised})

  return loss


def _matcher(judge: Callable, generate: Callable) -> Callable:
  def loss(key: Key, state: State, batch: Batch):
    for_z, *noise = jax.random.split(key, 3)
    fake, seen = generate(state, for_z, batch['x'].shape[0])
    _, real = judge(state, batch['x'], {'noise': noise[0]})
    _, made = judge(state, fake, {'noise': noise[1]})
    statistics = running(state.extra['generator_statistics'], seen, 0.9)
    # The mean over features, as released: the paper's norm sums them.
    return losses.feature_matching(real, made) / made.shape[1], ({'generator_statistics': statistics}, {})

  return loss
