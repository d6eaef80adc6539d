"""The batches of a run, call by call, from wherever its training examples lie.

The examples of a step are a function of the seed and the step alone. A run therefore has the same bits wherever they
lie, and goes on from any step without a state of its reader.

Axes: S steps of a call, B examples of a batch.
"""

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from dgm_jax import config as experiment
from dgm_jax import data
from dgm_jax.data import preprocess
from dgm_jax.runtime import ahead, parallel
from dgm_jax.runtime.placement import Placement
from dgm_jax.training.run import Run, driver_of, indices

__all__ = ['batches', 'call_shapes', 'call_steps', 'calls', 'first_examples', 'one_call', 'with_one_batch']

MOST = 2**26  # bytes of the batches of a call that a process reads


def batches(run: Run, first: int, skipped: int = 0) -> Iterator[tuple[dict[str, Any], jax.Array]]:
  """Yields, for each call from step `first` to the end, what `run.compile_call`'s program takes after the seed.

  It yields the arrays that the examples are drawn from and their numbers [S, B], or, where they are read on the host,
  the examples themselves [S, B, ...] and their numbers. Close it in the end.

  Args:
    run: the constant part of the training.
    first: completed steps.
    skipped: number of batches of the stream to skip before step `first`.

  Raises:
    UserError: a file cannot be read.
    Stopped: a signal has come while a file was read.
  """
  if run.placement.where != 'host':
    for step, steps in calls(run, first):
      yield run.arrays, indices(run, step + skipped, steps)
    return
  driver, train, size = driver_of(run), run.splits['train'], run.config.batch_size
  order = lambda step, steps: data.order(run.config.seed, step + skipped, steps, size, train.size)
  orders = (order(step, steps) for step, steps in calls(run, first))
  with ahead.Ahead(train.arrays, orders, parallel.columns(run.mesh, size)) as reader:
    for _ in calls(run, first):
      index, examples = reader.take()
      yield {name: driver.deal(array) for name, array in examples.items()}, driver.deal(index)


def calls(run: Run, first: int) -> Iterator[tuple[int, int]]:
  """Yields the first step and the number of steps of each call. A call ends at a multiple of `call_steps`."""
  step, most = first, call_steps(run)
  while step < run.total:
    steps = min(most - step % most, run.total - step)
    yield step, steps
    step += steps


def call_steps(run: Run) -> int:
  """Returns the steps of a call: `config.steps_per_call`, or the largest divisor whose batches the host can hold."""
  steps = run.config.steps_per_call
  if run.placement.where != 'host':
    return steps
  split = run.splits['train']
  own = len(parallel.columns(run.mesh, run.config.batch_size)) * -(-split.nbytes // split.size)
  return max(n for n in range(1, steps + 1) if steps % n == 0 and (n == 1 or n * own <= MOST))


def one_call(run: Run, step: int, steps: int) -> tuple[dict[str, Any], jax.Array]:
  """Returns what one call of `steps` steps from `step` on takes after the seed, see `batches`."""
  if run.placement.where != 'host':
    return run.arrays, indices(run, step, steps)
  train, driver = run.splits['train'], driver_of(run)
  index = data.order(run.config.seed, step, steps, run.config.batch_size, train.size)
  examples = ahead.read(train.arrays, index.ravel())
  deal = lambda array: driver.deal(array.reshape(*index.shape, *array.shape[1:]))
  return {name: deal(array) for name, array in examples.items()}, deal(index.ravel())


def call_shapes(run: Run, steps: int) -> tuple[dict[str, Any], jax.ShapeDtypeStruct]:
  """Returns what `one_call` returns, as shapes with shardings, for devices that need not be here."""
  sharding = parallel.rows(run.mesh, 1)

  def like(shape: tuple[int, ...], dtype: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((steps, run.config.batch_size, *shape), dtype, sharding=sharding)

  handed = run.placement.where == 'host'
  stored = run.splits['train'].arrays
  arrays = {name: like(array.shape[1:], array.dtype) for name, array in stored.items()} if handed else run.arrays
  return arrays, like((), 'int32')


def first_examples(run: Run) -> tuple[dict[str, Any], np.ndarray]:
  """Returns the examples that a run is initialised with, name -> [n, ...], and their numbers [n].

  Where every device holds all examples, it returns those, and the numbers to draw by.
  """
  train = run.splits['train']
  shown = data.order(run.config.seed, 0, 1, min(run.config.init_examples, train.size), train.size)[0]
  return (run.arrays if run.placement.where == 'device' else ahead.read(train.arrays, shown)), shown


def with_one_batch(run: Run) -> Run:
  """Returns the run whose every step takes the first step's batch, prepared once. Only its speed means anything.

  Raises:
    UserError: each device makes its own step.
  """
  experiment.require(run.config.parallel == 'jit', "a batch is reused with config.parallel='jit' alone")
  fetch, make, driver = run.splits['train'].fetch, preprocess.training(run.config.data), driver_of(run)
  handed = run.placement.where == 'host'

  def first(arrays, index):
    rows = jax.tree.map(lambda array: array[0], {'index': index} | (arrays if handed else {}))
    return make(jax.random.key(0), driver.place(rows if handed else fetch(arrays, rows['index'])))

  batch = jax.jit(first, out_shardings=parallel.rows(run.mesh))(*one_call(run, 0, 1))
  return run._replace(arrays=batch, one_batch=True, placement=Placement('device', ''))
