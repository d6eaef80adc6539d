"""Per-example measurements over a whole split, exact whatever the batch size and the number of devices."""

import contextlib
from collections.abc import Callable, Iterator

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from dgm_jax import data
from dgm_jax.core import State, System
from dgm_jax.data import preprocess
from dgm_jax.evals import standing
from dgm_jax.runs import resident
from dgm_jax.runs.subject import Subject
from dgm_jax.runtime import ahead, parallel, signals
from dgm_jax.views import needs

__all__ = ['metrics']

AHEAD = 2  # batches that the host may run ahead of the devices, so that a signal is answered soon


def program(fn: Callable, config: ConfigDict, mesh: Mesh, fetch: Callable = data.gather) -> Callable:
  """Compiles `fn(key, state, batch) -> {name: [B, ...]}` for the rows of a split; see `per_example`.

  Args:
    fn: the measurement.
    config: the experiment.
    mesh: the devices.
    fetch: that of the split.
  """
  prepare = preprocess.evaluation(config.data)

  def measure(seed, number, state, arrays, index):
    for_data, for_fn = jax.random.split(jax.random.fold_in(jax.random.key(seed), number))
    return fn(for_fn, state, prepare(for_data, fetch(arrays, index)))

  return parallel.interruptible(jax.jit(measure, out_shardings=parallel.replicated(mesh)))


def per_example(
  fn: Callable, split: data.Split, config: ConfigDict, mesh: Mesh, batch_size: int = 0, measure: Callable | None = None
) -> Callable:
  """Compiles `fn(key, state, batch) -> {name: [B, ...]}` for a split.

  Images that training binarizes or dequantizes afresh are treated once here, with fixed noise. Examples lie where those
  of training would, but for 'sharded': they are then read batch by batch, too.

  Args:
    fn: the measurement.
    split: its examples.
    config: the experiment.
    mesh: the devices.
    batch_size: examples at a time; 0: `config.eval_batch_size`.
    measure: `program(fn, config, mesh, split.fetch)`, if there is one already; examples are then on the devices.

  Raises:
    UserError: examples cannot be read.

  Returns: `run(seed, state) -> {name: NumPy [N, ...]}`, one row for each of the N examples, in order.
  """
  batch_size = int(batch_size or config.eval_batch_size)
  batch_size = min(batch_size, split.size) + (-min(batch_size, split.size)) % mesh.size
  index, mask = data.ragged(split.size, batch_size)
  asked = config.data.get('where', 'auto')
  streamed = not (measure or split.rendered) and resident.placement_of(split, asked, mesh).where != 'device'
  batches = _from_files(split, index, mesh) if streamed else _resident(split, index, mesh)
  measure = measure or program(fn, config, mesh, data.handed if streamed else split.fetch)

  def run(seed: int, state: State) -> dict[str, np.ndarray]:
    parts = []
    with contextlib.closing(batches()) as examples:
      for i, (arrays, rows) in enumerate(examples):
        if len(parts) >= AHEAD:  # a large split's results would fill the devices
          parts[-AHEAD] = parallel.fetch(parts[-AHEAD])
        signals.poll()
        parts.append(measure(np.uint32(seed), np.uint32(i), state, arrays, rows))
    there = mask.ravel() > 0
    return jax.tree.map(lambda *pieces: np.concatenate(pieces)[there], *map(parallel.fetch, parts))

  return run


def _resident(split: data.Split, index: np.ndarray, mesh: Mesh) -> Callable[[], Iterator]:
  """Puts a split on every device. The result yields its arrays and the numbers of the examples of each batch."""
  likes = resident.shapes(split, 'device', mesh)
  arrays = {name: resident.place(split.arrays[name], like) for name, like in likes.items()}

  def batches() -> Iterator[tuple[dict, jax.Array]]:
    for rows in index:
      yield arrays, parallel.put(rows, parallel.rows(mesh))

  return batches


def _from_files(split: data.Split, index: np.ndarray, mesh: Mesh) -> Callable[[], Iterator]:
  """Returns a function that yields the examples of each batch and their numbers, read while the devices work."""
  places = index if split.places is None else split.places.astype(np.int32)[index]
  deal = lambda array: parallel.put(array, parallel.rows(mesh))

  def batches() -> Iterator[tuple[dict, jax.Array]]:
    with ahead.Ahead(split.arrays, iter(places[:, None]), parallel.columns(mesh, index.shape[1])) as reader:
      for _ in places:
        rows, arrays = reader.take()
        yield {name: deal(array[0]) for name, array in arrays.items()}, deal(rows[0])

  return batches


def evaluation(system: System, split: data.Split, config: ConfigDict, mesh: Mesh) -> Callable:
  """Compiles `System.evaluate` for a split, as `per_example` does, with the prior normalized once for all batches."""
  measure = per_example(system.evaluate, split, config, mesh)
  return lambda seed, state: measure(seed, standing.normalized(seed, system, state))


def images(split: data.Split, config: ConfigDict, n: int) -> np.ndarray:
  """Returns the first n images of a split, [n, H, W, C], as a model receives them in an evaluation."""
  prepare = preprocess.evaluation(config.data)
  batch = split.fetch(split.arrays, np.arange(min(n, split.size), dtype=np.int32))
  return np.asarray(prepare(jax.random.key(0), batch)['x'])


def means(values: dict[str, np.ndarray]) -> dict[str, float]:
  """Computes the mean of each [N] array, in double precision."""
  return {name: float(array.mean(dtype=np.float64)) for name, array in values.items()}


@needs()
def metrics(seed: int, subject: Subject) -> dict[str, float]:
  """Computes the means over the split of all that `System.evaluate` measures."""
  run = evaluation(subject.system, subject.split, subject.config, subject.mesh)
  return means(run(seed, subject.state))
