"""Many trainings of one experiment in one program: seeds, and values of a weight of its objective, side by side.

Every member makes the very steps that `train.py` would make with its seed and its weight, up to rounding: its own
batches, its own noise. A system whose function takes the weight as an argument can be traced for all values at once,
by vmap; on a CPU and with one step a call, as convolutions want it there, members take their steps one after another
instead.

Axes: M members, S steps, B batch.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from dgm_jax import config as experiment
from dgm_jax import data, systems, workdir
from dgm_jax.core import State, System
from dgm_jax.data import preprocess


class Ensemble(NamedTuple):
  """Members that are trained together."""

  config: ConfigDict  # of all, but for seed and weight
  weight: str  # the setting of `config.model` that is varied
  seeds: np.ndarray  # uint32 [M]
  weights: np.ndarray  # float32 [M]
  train: data.Split
  arrays: dict[str, Any]  # of the training split, on the device


def make(config: ConfigDict, weight: str, weights: Sequence[float], seeds: Sequence[int]) -> Ensemble:
  """Every weight with every seed, the seeds of the first weight first.

  Raises:
    UserError: a mistake in the experiment, or its system cannot be told this weight.
  """
  experiment.check(config)
  train = data.load(config.data, 'train')
  config = workdir.resolve(config, train)
  known = systems.build(config), _weight_of(config)
  experiment.require(
    weight == known[1], f'{config.system} can be trained together for values of {known[1]!r}, not of {weight!r}'
  )
  pairs = np.array(list(itertools.product(weights, seeds)), np.float64)
  arrays = {name: jnp.asarray(array) for name, array in train.arrays.items()}
  return Ensemble(config, weight, pairs[:, 1].astype(np.uint32), pairs[:, 0].astype(np.float32), train, arrays)


def member(ensemble: Ensemble, weight: Any) -> System:
  """The system with this weight, a number or one that is traced."""
  return experiment.by_path('dgm_jax.systems', ensemble.config.system)(ensemble.config, weight)


def start(ensemble: Ensemble) -> State:
  """All members' fresh states, stacked, [M, ...]."""
  config, train = ensemble.config, ensemble.train
  prepare = preprocess.find(config.data.preprocess)

  def init(seed, weight, arrays, index):
    for_data, for_init = jax.random.split(jax.random.fold_in(jax.random.key(seed), 0))
    return member(ensemble, weight).init(for_init, prepare(for_data, train.fetch(arrays, index)))

  size = min(config.init_examples, train.size)
  shown = np.stack([data.order(int(seed), 0, 1, size, train.size)[0] for seed in ensemble.seeds])
  return jax.jit(jax.vmap(init, (0, 0, None, 0)))(ensemble.seeds, ensemble.weights, ensemble.arrays, shown)


def compiled(ensemble: Ensemble) -> Callable:
  """`call(state [M, ...], index [S, M, B]) -> (state, metrics [M])`: S steps of every member; metrics are means."""
  prepare, fetch = preprocess.find(ensemble.config.data.preprocess), ensemble.train.fetch

  def one(seed, weight, arrays, state, index):
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), 1), state.step)
    for_data, for_step = jax.random.split(key)
    batch = prepare(for_data, fetch(arrays, index))
    return member(ensemble, weight).step(for_step, state, batch)

  each = jax.vmap(one, (0, 0, None, 0, 0))

  def in_turn(arrays, state, index):
    own = zip(ensemble.seeds, ensemble.weights, index, strict=True)
    found = [one(seed, weight, arrays, one_of(state, m), index) for m, (seed, weight, index) in enumerate(own)]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *found)

  def call(state, arrays, index):
    if index.shape[0] == 1 and jax.default_backend() == 'cpu':
      # Convolutions are slow there inside a loop, and those of several members by vmap, which are grouped, more so.
      return in_turn(arrays, state, index[0])
    turn = lambda state, index: each(ensemble.seeds, ensemble.weights, arrays, state, index)
    if index.shape[0] == 1:
      return turn(state, index[0])
    state, metrics = jax.lax.scan(turn, state, index)
    return state, jax.tree.map(lambda m: m.mean(0), metrics)

  program = jax.jit(call, donate_argnums=0)
  return lambda state, index: program(state, ensemble.arrays, index)


def indices(ensemble: Ensemble, step: int, steps: int) -> np.ndarray:
  """The examples of the next steps, [S, M, B], each member's by its seed."""
  size, batch = ensemble.train.size, ensemble.config.batch_size
  orders = {seed: data.order(int(seed), step, steps, batch, size) for seed in np.unique(ensemble.seeds)}
  return np.stack([orders[seed] for seed in ensemble.seeds], 1)


def one_of(state: State, number: int) -> State:
  """The state of one member."""
  return jax.tree.map(lambda leaf: leaf[number], state)


def _weight_of(config: ConfigDict) -> str:
  """The argument of the system's function beside the config; '' if there is none."""
  function = experiment.by_path('dgm_jax.systems', config.system)
  return ''.join(function.__code__.co_varnames[1 : function.__code__.co_argcount])
