"""Short trainings of any system inside a topic: no folder, no checkpoint, one compiled loop."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from dgm_jax import config as experiment
from dgm_jax import data, systems
from dgm_jax.core import State, System
from dgm_jax.data import preprocess

__all__ = ['Run', 'digits', 'loop', 'means']


class Run(NamedTuple):
  """A trained system, the mean of each metric over each stretch of steps, and the images it is measured on."""

  system: System
  state: State
  curves: dict[str, list[tuple[float, float]]]
  test: dict[str, jax.Array]
  train: dict[str, jax.Array]


def digits(config: ConfigDict, steps: int, points: int = 30) -> Run:
  """Trains an experiment on the built-in digits for `steps` steps.

  Args:
    config: the experiment; its own length and folder are not used.
    steps: how many.
    points: of each curve.
  """
  train, test = data.load(config.data, 'train'), data.load(config.data, 'test')
  with config.unlocked():
    config.steps, config.epochs = steps, 0.0
    config.data.shape, config.data.examples = tuple(train.arrays['x'].shape[1:]), train.size
    config.data.levels = train.levels
  experiment.check(config)
  prepare = preprocess.training(config.data)
  arrays = {name: jnp.asarray(array) for name, array in train.arrays.items()}
  size = min(config.batch_size, train.size)

  def batch(key):
    for_index, for_noise = jax.random.split(key)
    index = jax.random.permutation(for_index, train.size)[:size]
    return prepare(for_noise, train.fetch(arrays, index))

  everything = prepare(jax.random.key(1), train.fetch(arrays, jnp.arange(train.size)))
  state, curves = loop(systems.build(config), batch, everything, steps, points)
  fixed = preprocess.evaluation(config.data)
  held_out = fixed(jax.random.key(0), jax.tree.map(jnp.asarray, test.fetch(test.arrays, np.arange(test.size))))
  return Run(systems.build(config), state, curves, held_out, everything)


def loop(system: System, batch: Callable, first: dict, steps: int, points: int = 30, seed: int = 0) -> Any:
  """Runs the steps in one program. `batch(key)` gives each step's batch, and `System.init` receives `first`.

  Returns: the last state, and the curves.
  """

  @jax.jit
  def run(key, first):
    def one(state, key):
      for_batch, for_step = jax.random.split(key)
      return system.step(for_step, state, batch(for_batch))

    return jax.lax.scan(one, system.init(key, first), jax.random.split(key, steps))

  state, metrics = run(jax.random.key(seed), first)
  stretch = max(1, steps // points)
  curves = {
    name: [
      (float(i + stretch), float(np.mean(values[i : i + stretch]))) for i in range(0, steps - stretch + 1, stretch)
    ]
    for name, values in jax.tree.map(np.asarray, metrics).items()
  }
  return state, curves


def means(run: Run, seed: int = 0) -> dict[str, float]:
  """Computes what `System.evaluate` measures on the test images, averaged."""
  measured = jax.jit(run.system.evaluate)(jax.random.key(seed), run.state, run.test)
  return {name: float(np.asarray(values, np.float64).mean()) for name, values in measured.items()}
