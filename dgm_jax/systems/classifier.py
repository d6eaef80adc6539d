"""A classifier: it generates nothing, but its features measure what others generate. Axes: B batch, K classes."""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from dgm_jax import losses, optim
from dgm_jax.core import Batch, Key, Metrics, Player, State, System, average, chain, descend, system
from dgm_jax.models.classifier import Classifier


def classifier(config: ConfigDict) -> System:
  """Trained on the cross-entropy of its labels; `extra` keeps the average of its parameters, which is what judges."""
  network = Classifier(**config.model.network.to_dict(), dtype=config.dtype)

  def loss(key: Key, state: State, batch: Batch):
    logits, _ = network.apply({'params': state.params['classifier']}, batch['x'], rngs={'dropout': key})
    return losses.auxiliary_classifier(logits, batch['y']).mean(), ({}, {})

  def judge(state: State, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    return network.apply({'params': state.params['classifier']}, x)

  def evaluate(key: Key, state: State, batch: Batch) -> Metrics:
    del key
    logits, _ = judge(state, batch['x'])
    wrong = (logits.argmax(1) != batch['y']).astype(jnp.float32)
    return {'cross_entropy_nats': losses.auxiliary_classifier(logits, batch['y']), 'error_percent': 100 * wrong}

  def networks(key: Key, batch: Batch):
    params = {'classifier': network.init(key, batch['x'][:1])['params']}
    return params, {'ema': dict(params)}

  move = descend(model=Player(loss, optim.make(config, 'model'), ('classifier',)))
  move = chain(move, average('classifier', config.model.average))
  return system(networks, move, evaluate, None, judge=judge)
