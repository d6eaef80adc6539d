"""Many trainings of one experiment in one program: seeds, and values of a weight of its objective, side by side.

Every member makes the very steps that `train.py` would make with its seed and its weight, up to rounding: its own
batches, its own noise. A system whose function takes the weight as an argument can be traced for all values at once,
by vmap; on a CPU and with one step a call, as convolutions want it there, members take their steps one after another
instead. Members are dealt out over devices, which never wait for one another.

Axes: M members, S steps, B batch.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from ml_collections import ConfigDict

from dgm_jax import config as experiment
from dgm_jax import data, systems
from dgm_jax.core import State, System
from dgm_jax.data import preprocess
from dgm_jax.runs import workdir
from dgm_jax.runtime import parallel

__all__ = ['OWN', 'SHARED', 'Ensemble', 'compiled', 'indices', 'make', 'one_of', 'spread_members', 'start', 'weight_of']

SHARED, OWN = PartitionSpec(), PartitionSpec('data')  # what all members see, and what is stacked, a part each


class Ensemble(NamedTuple):
  """Members that are trained together."""

  config: ConfigDict  # of all, but for seed and weight
  weight: str  # the setting of `config.model` that is varied
  seeds: np.ndarray  # uint32 [M]
  weights: np.ndarray  # float32 [M]
  train: data.Split
  arrays: dict[str, Any]  # of the training split, on every device
  mesh: Mesh  # of devices with as many members each


def make(config: ConfigDict, weight: str, weights: Sequence[float], seeds: Sequence[int], devices: int = 0) -> Ensemble:
  """Builds the ensemble of every weight with every seed. The first weight's seeds come first.

  Args:
    config: of all members.
    weight: the setting of `config.model` that is varied.
    weights: its values.
    seeds: of every weight.
    devices: number of devices that share the members, a divisor of the number of members; 0: the largest possible.

  Raises:
    UserError: the experiment has a mistake, its system does not accept this weight, or there are too few devices.
  """
  experiment.check(config)
  train = data.load(config.data, 'train')
  config = workdir.resolve(config, train)
  template = systems.build(config), weight_of(config)
  experiment.require(
    weight == template[1], f'{config.system} can be trained together for values of {template[1]!r}, not of {weight!r}'
  )
  pairs = np.array(list(itertools.product(weights, seeds)), np.float64)
  devices = devices or max(n for n in range(1, jax.device_count() + 1) if len(pairs) % n == 0)
  experiment.require(len(pairs) % devices == 0, f'{len(pairs)} members cannot be dealt out over {devices} devices')
  mesh = parallel.mesh(devices)
  arrays = jax.device_put(jax.tree.map(np.asarray, train.arrays), parallel.replicated(mesh))
  return Ensemble(config, weight, pairs[:, 1].astype(np.uint32), pairs[:, 0].astype(np.float32), train, arrays, mesh)


def member(ensemble: Ensemble, weight: Any) -> System:
  """Returns the system with this weight, a number or a traced one."""
  return experiment.by_path('dgm_jax.systems', ensemble.config.system)(ensemble.config, weight)


def start(ensemble: Ensemble) -> State:
  """Initialises all members' states, stacked, [M, ...]."""
  config, train = ensemble.config, ensemble.train
  prepare = preprocess.training(config.data)

  def init(seed, weight, arrays, index):
    for_data, for_init = jax.random.split(jax.random.fold_in(jax.random.key(seed), 0))
    return member(ensemble, weight).init(for_init, prepare(for_data, train.fetch(arrays, index)))

  size = min(config.init_examples, train.size)
  shown = np.stack([data.order(int(seed), 0, 1, size, train.size)[0] for seed in ensemble.seeds])
  program = spread_members(ensemble, jax.vmap(init, (0, 0, None, 0)), (OWN, OWN, SHARED, OWN))
  return jax.jit(program)(ensemble.seeds, ensemble.weights, ensemble.arrays, shown)


def spread_members(ensemble: Ensemble, function: Callable, specs: tuple[PartitionSpec, ...]) -> Callable:
  """Spreads a function of members over the devices, which work independently.

  `specs` says how arguments are spread.
  """
  return jax.shard_map(function, mesh=ensemble.mesh, in_specs=specs, out_specs=OWN, check_vma=False)


def compiled(ensemble: Ensemble) -> Callable:
  """Compiles `call(state [M, ...], index [S, M, B]) -> (state, metrics [M])`: S steps of every member.

  Metrics are means.
  """
  prepare, fetch = preprocess.training(ensemble.config.data), ensemble.train.fetch

  def one(seed, weight, arrays, state, index):
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), 1), state.step)
    for_data, for_step = jax.random.split(key)
    batch = prepare(for_data, fetch(arrays, index))
    return member(ensemble, weight).step(for_step, state, batch)

  each = jax.vmap(one, (0, 0, None, 0, 0))

  def in_turn(arrays, *stacked):
    measured = []
    for m in range(len(stacked[0])):
      seed, weight, state, index = jax.tree.map(lambda leaf, m=m: leaf[m], stacked)
      measured.append(one(seed, weight, arrays, state, index))
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *measured)

  def call(state, seeds, weights, arrays, index):
    if index.shape[0] == 1 and jax.default_backend() == 'cpu':
      # Convolutions are slow there inside a loop, and those of several members by vmap, which are grouped, more so.
      return in_turn(arrays, seeds, weights, state, index[0])
    turn = lambda state, index: each(seeds, weights, arrays, state, index)
    if index.shape[0] == 1:
      return turn(state, index[0])
    state, metrics = jax.lax.scan(turn, state, index)
    return state, jax.tree.map(lambda m: m.mean(0), metrics)

  specs = OWN, OWN, OWN, SHARED, PartitionSpec(None, 'data')
  program = jax.jit(spread_members(ensemble, call, specs), donate_argnums=0)
  seeds, weights = jax.device_put((ensemble.seeds, ensemble.weights), parallel.rows(ensemble.mesh))
  return lambda state, index: program(state, seeds, weights, ensemble.arrays, index)


def indices(ensemble: Ensemble, step: int, steps: int) -> jax.Array:
  """Returns the examples of the next steps, [S, M, B].

  Each member's examples follow from its seed, and are on its device.
  """
  size, batch = ensemble.train.size, ensemble.config.batch_size
  orders = {seed: data.order(int(seed), step, steps, batch, size) for seed in np.unique(ensemble.seeds)}
  return jax.device_put(np.stack([orders[seed] for seed in ensemble.seeds], 1), parallel.rows(ensemble.mesh, 1))


def one_of(state: State, number: int) -> State:
  """Returns the state of one member, bound to no device."""
  return jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf[number])), state)


def weight_of(config: ConfigDict) -> str:
  """Returns the name of the second argument of the system's function, after the config; '' if there is none."""
  function = experiment.by_path('dgm_jax.systems', config.system)
  return ''.join(function.__code__.co_varnames[1 : function.__code__.co_argcount])
