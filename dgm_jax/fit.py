"""The one training loop.

It knows the four functions of a System and never a loss. Several steps are one
compiled call; the host works only between calls, one call behind the devices.
All that is written about a step is written before its checkpoint is committed,
so that a run that was killed goes on as if nothing had happened.
"""

import collections
import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from dgm_jax import checkpoint, data, log, parallel, systems, workdir
from dgm_jax import config as experiment
from dgm_jax.core import State, System
from dgm_jax.data import preprocess
from dgm_jax.evals import mean, pictures

AHEAD = 2  # calls that the host may run ahead of the devices


class Run(NamedTuple):
  """What stays the same while a run trains."""

  config: ConfigDict
  system: System
  splits: dict[str, data.Split]
  mesh: Mesh
  like: State  # shapes and shardings of the state
  arrays: dict[str, jax.Array]  # the training split, on the devices
  folder: Path
  total: int  # steps


class Evaluators(NamedTuple):
  """Compiled measurements, `run(seed, state) -> {name: [N]}`, and the images that pictures are made of."""

  valid: Callable
  test: Callable
  images: np.ndarray


def fit(config: ConfigDict, folder: Path, allow_config_change: bool = False) -> State:
  """Trains, or goes on training, the experiment in its folder.

  Args:
    config: an experiment that has passed `config.check`.
    folder: the workdir.
    allow_config_change: go on with a run whose experiment was another one.

  Returns: the last state.
  Raises:
    UserError: the data, the folder or the devices do not fit the experiment.
  """
  run = prepare(config, folder, allow_config_change)
  with contextlib.ExitStack() as stack:
    state, first = start(run)
    opened = log.open(folder, first, run.total, run.config) if parallel.main_process() else log.silent()
    writer = stack.enter_context(opened)
    _greet(run, writer, first)
    manager = stack.enter_context(checkpoint.saving(folder, run.config.keep, run.config.best))
    state = train(run, compiled_call(run), state, first, writer, saver(run, manager), _evaluators(run))
    writer.say(f'done: {folder}; sample with python -m dgm_jax.sample --workdir={folder}')
  return state


def prepare(config: ConfigDict, folder: Path, allow_config_change: bool = False, devices: int = 0) -> Run:
  """Loads the data, builds the system for all devices (or the first so many), claims the folder."""
  mesh = parallel.mesh(devices)
  parallel.check_batch('batch_size', config.batch_size, mesh)
  preprocess.find(config.data.preprocess)  # a mistake must not leave its mark on the folder
  splits = {name: data.load(config.data, name) for name in ('train', 'valid', 'test')}
  config = workdir.resolve(config, splits['train'])
  total = workdir.total_steps(config)
  system = systems.build(config)
  like = workdir.shapes(system, config, mesh)
  workdir.claim(folder, config, allow_config_change)
  arrays = {name: parallel.put(array, parallel.replicated(mesh)) for name, array in splits['train'].arrays.items()}
  return Run(config, system, splits, mesh, like, arrays, folder, total)


def compiled_call(run: Run) -> Callable:
  """`call(state, seed, arrays, index [S, B]) -> (state, metrics)`: S steps in one program.

  The key of a step is a function of the seed and the step; metrics are means over the S steps.
  """
  prepare_batch = preprocess.find(run.config.data.preprocess)
  fetch, by_row = run.splits['train'].fetch, parallel.rows(run.mesh)

  def call(state, seed, arrays, index):
    train_key = jax.random.fold_in(jax.random.key(seed), 1)

    def one(state, index):
      for_data, for_step = jax.random.split(jax.random.fold_in(train_key, state.step))
      batch = jax.lax.with_sharding_constraint(fetch(arrays, index), by_row)
      # Without the barrier each use of the batch would gather and binarize it anew.
      batch = jax.lax.optimization_barrier(prepare_batch(for_data, batch))
      return run.system.step(for_step, state, batch)

    # XLA's convolutions on a CPU are twenty times slower inside a loop, even one of a single turn.
    if run.config.steps_per_call == 1:
      return one(state, index[0])
    state, metrics = jax.lax.scan(one, state, index)
    return state, jax.tree.map(lambda m: m.mean(0), metrics)

  shardings = jax.tree.map(lambda leaf: leaf.sharding, run.like)
  return jax.jit(call, donate_argnums=0, out_shardings=(shardings, parallel.replicated(run.mesh)))


def indices(run: Run, step: int, steps: int) -> jax.Array:
  """Which examples the next steps see, [S, B] on the devices: a pure function of the seed and the step."""
  order = data.order(run.config.seed, step, steps, run.config.batch_size, run.splits['train'].size)
  return parallel.put(order, parallel.rows(run.mesh, 1))


def train(
  run: Run, call: Callable, state: State, first: int, writer: log.Writer, save: Callable, evaluators: Evaluators
) -> State:
  """Makes the steps from `first` to the end of the run, several with each `call`."""
  config = run.config
  seed, step, waiting = np.uint32(config.seed), first, None
  in_flight: collections.deque = collections.deque()
  started, counted = time.perf_counter(), first

  def count(at):
    nonlocal started, counted
    if at > counted:
      now = time.perf_counter()
      rate = (at - counted) / (now - started)
      rates = {'steps_per_second': rate, 'examples_per_second': rate * config.batch_size}
      writer.timing(at, {'seconds': now - started, **rates})
      started, counted = now, at

  def flush():
    nonlocal waiting
    if waiting is not None:
      at, metrics = waiting
      writer.metrics(at, 'train', parallel.fetch(metrics))  # waits for the devices
      count(at)
      waiting = None

  while step < run.total:
    # Calls end at multiples of steps_per_call, also where a run of another length is taken up.
    steps = min(config.steps_per_call - step % config.steps_per_call, run.total - step)
    state, metrics = call(state, seed, run.arrays, indices(run, step, steps))
    if step == first:
      jax.block_until_ready(metrics)
      writer.say(f'first call ({steps} steps, compilation included): {time.perf_counter() - started:.1f} s')
      writer.timing(first + steps, {'seconds': time.perf_counter() - started})
      started, counted = time.perf_counter(), first + steps
    step += steps
    flush()
    in_flight.append(metrics)
    if len(in_flight) > AHEAD:
      jax.block_until_ready(in_flight.popleft())
    writer.progress(step)
    if _due(step, config.log_every, run.total):
      waiting = (step, metrics)
    due = [_due(step, config[f'{what}_every'], run.total) for what in ('eval', 'picture', 'save')]
    if any(due) or step == run.total:
      flush()
      jax.block_until_ready(metrics)
      count(step)  # where nothing was logged, the time has passed all the same
      _between(run, state, step, writer, save, evaluators)
      started, counted = time.perf_counter(), step
  return state


def _between(run: Run, state: State, step: int, writer: log.Writer, save: Callable, evaluators: Evaluators) -> None:
  """What is done at a step besides training: measure, draw, save, in this order."""
  config, measured, started = run.config, {}, time.perf_counter()
  if _due(step, config.eval_every, run.total):
    measured = mean.means(evaluators.valid(config.seed, state))
    writer.metrics(step, 'valid', measured)
  if step == run.total:
    writer.metrics(step, 'test', mean.means(evaluators.test(config.seed, state)))
  if _due(step, config.picture_every, run.total):
    _draw(run, state, step, writer, evaluators.images)
  writer.timing(step, {'seconds': time.perf_counter() - started})
  if _due(step, config.save_every, run.total):
    save(state, measured)


def _due(step: int, every: int, total: int) -> bool:
  """Whether something that is done every so many steps is done now; at the last step, unless it is never done."""
  return every > 0 and (step % every == 0 or step == total)


def start(run: Run) -> tuple[State, int]:
  """The newest checkpoint's state, or a fresh one, and the steps it has behind it."""
  if checkpoint.steps(run.folder):
    restored = checkpoint.restore(run.folder, run.like)
    return restored.state, restored.step
  shardings = jax.tree.map(lambda leaf: leaf.sharding, run.like)
  prepare_batch = preprocess.find(run.config.data.preprocess)
  train = run.splits['train']

  def init(seed, arrays, index):
    for_data, for_init = jax.random.split(jax.random.fold_in(jax.random.key(seed), 0))
    return run.system.init(for_init, prepare_batch(for_data, train.fetch(arrays, index)))

  shown = data.order(run.config.seed, 0, 1, min(run.config.init_examples, train.size), train.size)[0]
  state = jax.jit(init, out_shardings=shardings)(np.uint32(run.config.seed), run.arrays, shown)
  return checkpoint.graft(state, run.config.graft.to_dict()), 0


def _evaluators(run: Run) -> Evaluators:
  def measure(split: str) -> Callable:
    return mean.per_example(run.system.evaluate, run.splits[split], run.config, run.mesh)

  return Evaluators(
    measure('valid'), measure('test'), mean.images(run.splits['valid'], run.config, run.config.pictures)
  )


def _draw(run: Run, state: State, step: int, writer: log.Writer, images: np.ndarray) -> None:
  key = jax.random.key(run.config.seed)
  to_uint8 = lambda x: preprocess.to_uint8(run.config.data.preprocess, x)
  for name, draw in pictures.available(run.system).items():
    writer.picture(step, name, draw(key, state, images, to_uint8))


def _greet(run: Run, writer: log.Writer, first: int) -> None:
  count = sum(leaf.size for leaf in jax.tree.leaves(run.like.params))
  sizes = ', '.join(f'{split.size} {name}' for name, split in run.splits.items())
  writer.say(
    f'{run.config.system} on {run.config.data.name} ({sizes} examples of {run.config.data.shape});'
    f' {count:,} parameters; {run.mesh.size} x {jax.devices()[0].device_kind}; workdir {run.folder}'
  )
  if first >= run.total:
    writer.say(f'the run is complete: step {first} of {run.total}')
  elif first:
    writer.say(f'going on from the checkpoint of step {first} of {run.total}')
  else:
    writer.say(f'{run.total} steps; compiling the training step ({run.config.steps_per_call} steps a call) ...')


def saver(run: Run, manager) -> Callable:
  """`save(state, metrics)`: what `train` calls to keep a state, with the run's experiment beside it."""
  meta = {'config': experiment.to_json(run.config), 'environment': workdir.environment()}
  return lambda state, metrics: checkpoint.save(manager, state, meta, metrics)
