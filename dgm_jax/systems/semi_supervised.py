"""Classification from few labels: a discriminator of K classes, and a generator trained by feature matching.

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
from dgm_jax.systems.parts.games import INIT_EXAMPLES

__all__ = ['feature_matching']

LABELLED = __all__


def feature_matching(config: ConfigDict) -> System:
  """Builds the system that trains a classifier on labelled, unlabelled and generated images, then a generator.

  A logit that is constantly zero stands for 'generated': the odds of real are the sum of exp(logits). The first
  `model.labels` / K images of each class in the batch of `System.init` keep their labels, in `State.extra`. If a step
  has as many images as there are labels, it uses all of them, as the released code does.

  Reference: Salimans et al. 2016, arXiv:1606.03498, sections 3.1 and 5.
  """
  model = config.model
  experiment.require(
    model.labels % model.classes == 0 < model.labels,
    f'config.model.labels={model.labels} must be so many for each of the {model.classes} classes',
  )
  critic = NoisyClassifier(tuple(model.critic_hidden), model.classes)
  generator = SoftplusGenerator(tuple(model.generator_hidden), tuple(config.data.shape))

  def classify(state: State, x: jax.Array, rngs=None):
    variables = {'params': state.params['critic'], 'constants': state.extra['critic_constants']}
    return critic.apply(variables, x, rngs=rngs)

  def generate(state: State, key: Key, n: int):
    variables = {'params': state.params['generator'], 'batch_stats': state.extra['generator_statistics']}
    z = jax.random.uniform(key, (n, model.latents))
    x, statistics = generator.apply(variables, z, mutable=['batch_stats'])
    return x, statistics['batch_stats']

  def networks(key: Key, batch: Batch):
    for_generator, for_critic, for_noise = jax.random.split(key, 3)
    of_generator = generator.init(for_generator, jax.random.uniform(for_generator, (INIT_EXAMPLES, model.latents)))
    of_critic = critic.init({'params': for_critic, 'noise': for_noise}, batch['x'][:500])
    params = {'generator': of_generator['params'], 'critic': of_critic['params']}
    extra = {
      'generator_statistics': of_generator['batch_stats'], 'critic_constants': of_critic['constants'],
      'labelled': labelled(batch, model.labels, model.classes),
    }  # fmt: skip
    return params, averages(params, extra, ('critic',))

  def evaluate(key: Key, state: State, batch: Batch) -> Metrics:
    del key
    logits, _ = classify(state, batch['x'])
    return {
      'error_percent': 100 * (logits.argmax(1) != batch['y']).astype(jnp.float32),
      'real_nats': losses.nonsaturating_generator(jax.nn.logsumexp(logits, 1)),
    }

  def sample(key: Key, state: State, n: int) -> jax.Array:
    variables = {'params': state.params['generator'], 'batch_stats': state.extra['generator_statistics']}
    return generator.apply(variables, jax.random.uniform(key, (n, model.latents)))

  players = {
    'discriminator': Player(_classifier(classify, generate), optim.make(config, 'discriminator'), ('critic',)),
    'generator': Player(_matcher(classify, generate), optim.make(config, 'generator'), ('generator',)),
  }
  turns = [half(i, descend(**{name: player})) for i, (name, player) in enumerate(players.items())]
  return system(networks, chain(*turns, average('critic', model.average)), evaluate, sample)


def labelled(batch: Batch, labels: int, classes: int) -> Batch:
  """Returns the first labels / classes examples of each class of a batch, [labels, ...].

  Missing examples are NaN. A run whose initial state has a NaN is refused.
  """
  each, none = labels // classes, len(batch['y'])
  index = jnp.concatenate([jnp.nonzero(batch['y'] == k, size=each, fill_value=none)[0] for k in range(classes)])
  return {'x': jnp.take(batch['x'], index, 0, mode='fill'), 'y': jnp.repeat(jnp.arange(classes), each)}


def shuffle(key: Key, n: int, count: int) -> jax.Array:
  """Returns `count` numbers below n: whole random permutations, and a part of one more."""
  permutations = jax.vmap(lambda key: jax.random.permutation(key, n))(jax.random.split(key, -(-count // n)))
  return permutations.reshape(-1)[:count]


def half(i: int, move: Move) -> Move:
  """Restricts a move to one half of the batch, every second example."""

  def apply(key: Key, state: State, batch: Batch) -> tuple[State, Metrics]:
    return move.apply(key, state, jax.tree.map(lambda x: x[i::2], batch))

  return move._replace(apply=apply)


def _classifier(classify: Callable, generate: Callable) -> Callable:
  def loss(key: Key, state: State, batch: Batch):
    for_z, for_choice, *noise = jax.random.split(key, 5)
    count, examples = batch['x'].shape[0], state.extra['labelled']
    index = shuffle(for_choice, len(examples['y']), count)
    fake, _ = generate(state, for_z, count)
    labelled_logits, _ = classify(state, examples['x'][index], {'noise': noise[0]})
    real_logits, _ = classify(state, batch['x'], {'noise': noise[1]})
    fake_logits, _ = classify(state, fake, {'noise': noise[2]})
    supervised = losses.auxiliary_classifier(labelled_logits, examples['y'][index]).mean()
    odds = jax.nn.logsumexp(real_logits, 1), jax.nn.logsumexp(fake_logits, 1)  # of being real, logarithms
    unsupervised = 0.5 * losses.minimax_discriminator(*odds).mean()
    return supervised + unsupervised, ({}, {'labelled_nats': supervised, 'unlabelled_nats': unsupervised})

  return loss


def _matcher(classify: Callable, generate: Callable) -> Callable:
  def loss(key: Key, state: State, batch: Batch):
    for_z, *noise = jax.random.split(key, 3)
    fake, batch_statistics = generate(state, for_z, batch['x'].shape[0])
    _, real = classify(state, batch['x'], {'noise': noise[0]})
    _, generated = classify(state, fake, {'noise': noise[1]})
    statistics = running(state.extra['generator_statistics'], batch_statistics, 0.9)
    # The mean over features, as in the released code; the paper's norm sums them.
    return losses.feature_matching(real, generated) / generated.shape[1], ({'generator_statistics': statistics}, {})

  return loss
