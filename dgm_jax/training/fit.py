"""The one training loop.

It knows the four functions of a System and never a loss. Several steps are one compiled call; the host works only
between calls, one call behind the devices. All that is written about a step is written before its checkpoint is
committed, so that a run that was killed goes on as if nothing had happened. A run that receives a signal saves its last
finished step. A run with NaN or infinity is never saved.
"""

import collections
import contextlib
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from dgm_jax import config as experiment
from dgm_jax import data, systems
from dgm_jax.core import State, System
from dgm_jax.data import preprocess
from dgm_jax.errors import DIVERGED, Halt, UserError
from dgm_jax.evals import mean
from dgm_jax.pictures import gallery, positions
from dgm_jax.runs import checkpoint, graft, workdir
from dgm_jax.runs.digest import finite, first_bad
from dgm_jax.runtime import cluster, lock, parallel, signals
from dgm_jax.training import log

__all__ = [
  'ROLLBACKS', 'Evaluators', 'Run', 'compiled_call', 'describe', 'fit', 'indices', 'prepare', 'saver', 'start', 'train',
]  # fmt: skip

AHEAD = 2  # calls that the host may run ahead of the devices
ROLLBACKS = 3  # of one start of a run
WORK = ('eval_every', 'picture_every', 'save_every')  # what is done between two calls


class Run(NamedTuple):
  """What stays the same while a run trains."""

  config: ConfigDict
  system: System
  splits: dict[str, data.Split]
  mesh: Mesh
  like: State  # shapes and shardings of the state
  arrays: dict[str, Any]  # the training split, on the devices
  folder: Path
  total: int  # steps


class Evaluators(NamedTuple):
  """Compiled measurements, `run(seed, state) -> {name: [N]}`, and the images that pictures are made of."""

  valid: Callable
  test: Callable
  images: np.ndarray


class Start(NamedTuple):
  """Where a run begins or goes on."""

  state: State
  step: int  # completed ones
  meta: dict  # of the checkpoint; {} for a fresh run
  seconds: float  # that finding it took


class Diverged(Exception):
  """Something is no longer finite: what, and after how many batches it was seen."""

  def __init__(self, message: str, batches: int):
    super().__init__(message)
    self.batches = batches


def fit(config: ConfigDict, folder: Path, allow_config_change: bool = False, rollbacks: int = 0) -> State:
  """Trains, or goes on training, the experiment in its folder.

  Args:
    config: an experiment that has passed `config.check`.
    folder: the workdir.
    allow_config_change: go on with a run whose experiment was another one.
    rollbacks: how often to go back to the last checkpoint, and past the batches in question, after NaN or infinity.

  Returns: the last state.
  Raises:
    UserError: the data, the folder or the devices do not fit the experiment.
    Halt: something is no longer finite, or no checkpoint can be written.
    Stopped: a signal has come; the last finished step is saved.
  """
  run = assemble(config, folder)
  with contextlib.ExitStack() as stack:
    cluster.first(lambda: stack.enter_context(lock.locked(folder)))
    workdir.claim(folder, run.config, allow_config_change)
    checkpoint.check_space(folder, run.like)
    call, evaluators, batches = parallel.interruptible(compiled_call(run)), _evaluators(run), 0
    for left in range(rollbacks, -1, -1):
      try:
        return attempt(run, call, evaluators, batches)
      except Diverged as error:
        if not left:
          kept = checkpoint.steps(folder)
          last = f'the last good checkpoint is of step {kept[-1]}' if kept else 'no checkpoint was made before'
          hint = 'lower the learning rate or clip the gradients, or add --on_nan=rollback'
          raise Halt(f'{error}; {last}: {hint}', DIVERGED) from error
        print(f'warning: {error}; going back to the last checkpoint and past these batches', flush=True)
        batches = error.batches
  raise AssertionError('the loop returns or raises')


def attempt(run: Run, call: Callable, evaluators: Evaluators, batches: int = 0) -> State:
  """Trains from the newest checkpoint, or afresh, to the end.

  Args:
    batches: go on after so many batches of the stream, where this is more than the checkpoint has behind it.

  Raises:
    Diverged: something is no longer finite.
  """
  began = resume(run)
  lost, skipped = log.lost(run.folder, began.step), max(batches - began.step, began.meta.get('skipped', 0))
  due = began.meta.get('due', False)
  with contextlib.ExitStack() as stack:
    main = cluster.main_process()
    opened = log.open(run.folder, began.step, run.total, run.config, due) if main else log.silent()
    writer = stack.enter_context(opened)
    _greet(run, writer, began.step, skipped)
    if due:  # the run was asked to end before this was done
      _between(run, began.state, began.step, writer, evaluators)
    stack.enter_context(signals.deferred())
    manager = stack.enter_context(checkpoint.saving(run.folder, run.config.keep, workdir.best(run.config)))
    stack.enter_context(cluster.together())
    note = lambda steps, seconds: writer.say(_costs(began, lost, steps, seconds))
    save = saver(run, manager, skipped)
    state = train(run, call, began.state, began.step, writer, save, evaluators, skipped, note)
    writer.say(f'done: {run.folder}; sample with python -m dgm_jax.sample --workdir={run.folder}')
  return state


def prepare(config: ConfigDict, folder: Path, allow_config_change: bool = False, devices: int = 0) -> Run:
  """A run whose folder is claimed, though not locked."""
  run = assemble(config, folder, devices)
  workdir.claim(folder, run.config, allow_config_change)
  return run


def assemble(config: ConfigDict, folder: Path, devices: int = 0) -> Run:
  """Loads the data and builds the system for all devices (or the first so many); leaves the folder alone."""
  run = describe(config, parallel.mesh(devices), folder)
  spread = lambda like, array: parallel.put(array, like.sharding)
  return run._replace(arrays=jax.tree.map(spread, run.arrays, run.splits['train'].arrays))


def describe(config: ConfigDict, mesh: Mesh, folder: Path = Path()) -> Run:
  """The run of a mesh that may consist of devices elsewhere: nothing is put on them."""
  parallel.check_batch('batch_size', config.batch_size, mesh, config.accumulate)
  preprocess.training(config.data)  # a mistake must not leave its mark on the folder
  # Where nothing is measured on them, no examples need be held out.
  names = ('train', 'valid', 'test') if config.eval_every else ('train', 'test')
  splits = {name: data.load(config.data, name) for name in names}
  config = workdir.resolve(config, splits['train'])
  total = workdir.total_steps(config)
  system = systems.build(config)
  like = workdir.shapes(system, config, mesh)
  shape = lambda array: jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=parallel.replicated(mesh))
  arrays = {name: shape(array) for name, array in splits['train'].arrays.items()}
  return Run(config, system, splits, mesh, like, arrays, folder, total)


def compiled_call(run: Run) -> Callable:
  """`call(state, seed, arrays, index [S, B]) -> (state, metrics)`: S steps in one program.

  The key of a step is a function of the seed and the step; metrics are means over the S steps.
  """
  prepare_batch = preprocess.training(run.config.data)
  fetch, driver = run.splits['train'].fetch, _driver(run)

  def call(state, seed, arrays, index):
    train_key = jax.random.fold_in(jax.random.key(seed), 1)

    def keys(step):
      return jax.random.split(driver.key(jax.random.fold_in(train_key, step)))

    def one(state, key_and_index):
      (for_data, for_step), index = key_and_index
      batch = driver.place(fetch(arrays, index))
      # Without the barrier each use of the batch would gather and binarize it anew.
      batch = jax.lax.optimization_barrier(prepare_batch(for_data, batch))
      return driver.settle(*run.system.step(for_step, state, batch))

    # XLA's convolutions on a CPU are twenty times slower inside a loop, even one of a single turn.
    if run.config.steps_per_call == 1:
      return one(state, (keys(state.step), index[0]))
    steps = index.shape[0]
    each = jax.vmap(keys)(state.step + jnp.arange(steps))
    # Two steps a turn: parameters go from one memory to another and back, and need not be copied between.
    state, metrics = jax.lax.scan(one, state, (each, index), unroll=2 - steps % 2)
    return state, jax.tree.map(lambda m: m.mean(0), metrics)

  return driver.compile(call)


def indices(run: Run, step: int, steps: int) -> jax.Array:
  """Which examples the next steps see, [S, B] on the devices: a pure function of the seed and the step."""
  order = data.order(run.config.seed, step, steps, run.config.batch_size, run.splits['train'].size)
  return _driver(run).deal(order)


def _driver(run: Run) -> parallel.Driver:
  return parallel.driver(run.config.parallel, run.mesh, run.like)


def train(
  run: Run, call: Callable, state: State, first: int, writer: log.Writer, save: Callable, evaluators: Evaluators,
  skipped: int = 0, note: Callable = lambda steps, seconds: None,
) -> State:  # fmt: skip
  """Makes the steps from `first` to the end, several with each `call`, `skipped` batches further on in their stream.

  `save(state, measured)` is given None where what was due is yet to be done; `note(steps, seconds)` the first call.
  """
  config, total, watch = run.config, run.total, log.stopwatch(writer, first, run.config.batch_size)
  seed = np.uint32((config.seed + skipped * 0x9E3779B9) % 2**32)  # batches left out leave their noise behind, too
  step, saved, due, waiting, in_flight = first, first, False, None, collections.deque()

  def flush():
    nonlocal waiting
    if waiting is not None:
      (at, metrics, sound), waiting = waiting, None
      writer.metrics(at, 'train', parallel.fetch(metrics))  # waits for the devices
      watch.count(at)
      _examine(at, {}, sound, state, skipped)

  def catch_up(ahead):
    while len(in_flight) > ahead:
      at, metrics = in_flight.popleft()
      jax.block_until_ready(metrics)
      _examine(at, parallel.fetch(metrics), True, state, skipped)

  try:
    while step < total:
      signals.poll()
      # Calls end at multiples of steps_per_call, also where a run of another length is taken up.
      steps = min(config.steps_per_call - step % config.steps_per_call, total - step)
      state, metrics = call(state, seed, run.arrays, indices(run, step + skipped, steps))
      in_flight.append((step + steps, metrics))
      catch_up(AHEAD if step > first else 0)
      if step == first:
        note(steps, watch.first(step + steps))
      step += steps
      flush()
      writer.progress(step)
      if _due(step, config.log_every, total):
        waiting = (step, metrics, finite(state))
      if step == total or any(_due(step, config[every], total) for every in WORK):
        flush()
        catch_up(0)
        watch.count(step)  # where nothing was logged, the time has passed all the same
        _examine(step, {}, finite(state), state, skipped)
        due = True
        measured = _between(run, state, step, writer, evaluators)
        if _due(step, config.save_every, total):
          save(state, measured)
          saved = step
        due = False
        watch.restart(step)
  except signals.Stopped:
    flush()
    if step > saved:
      save(state, None if due else {})
    writer.say(f'ending early, with step {step} of {total} saved' if step else 'ending before the first step')
    raise
  return state


def _examine(step: int, metrics: dict, sound: jax.Array | bool, state: State, skipped: int) -> None:
  """Raises Diverged where a metric, or a number of the state, is not finite."""
  wrong = [f'{name} is {float(value)}' for name, value in metrics.items() if not math.isfinite(value)]
  if wrong or not bool(sound):
    array = first_bad(state)
    wrong += [f'{array} is not finite'] * bool(array)
    raise Diverged(f'training went wrong by step {step}: {", ".join(wrong[:3] + wrong[3:][-1:])}', step + skipped)


def _between(run: Run, state: State, step: int, writer: log.Writer, evaluators: Evaluators) -> dict[str, float]:
  """What is done at a step besides training: measure, draw. Returns what the choice of the best step is made by."""
  config, measured, started = run.config, {}, time.perf_counter()
  if _due(step, config.eval_every, run.total):
    measured = mean.means(evaluators.valid(config.seed, state))
    writer.metrics(step, 'valid', measured)
  if step == run.total:
    writer.metrics(step, 'test', mean.means(evaluators.test(config.seed, state)))
  if _due(step, config.picture_every, run.total):
    _draw(run, state, step, writer, evaluators.images)
  writer.timing(step, {'seconds': time.perf_counter() - started})
  return measured


def _due(step: int, every: int, total: int) -> bool:
  """Whether something that is done every so many steps is done now; at the last step, unless it is never done."""
  return every > 0 and (step % every == 0 or step == total)


def start(run: Run) -> tuple[State, int]:
  """The newest checkpoint's state, or a fresh one, and the steps it has behind it."""
  return resume(run)[:2]


def resume(run: Run) -> Start:
  """The newest good checkpoint, or a fresh state.

  Raises:
    UserError: the fresh state is not finite: the examples that it was made from lack something.
  """
  started = time.perf_counter()
  if checkpoint.steps(run.folder):
    restored = checkpoint.restore(run.folder, run.like)
    return Start(restored.state, restored.step, restored.meta, time.perf_counter() - started)
  state = jax.block_until_ready(signals.interruptible(lambda: _fresh(run)))
  state = graft.graft(state, run.config.graft.to_dict())
  if bad := first_bad(state):
    shown = min(run.config.init_examples, run.splits['train'].size)
    raise UserError(
      f'{bad} is not finite at the start, which {run.config.system} makes of {shown} examples:'
      ' raise config.init_examples, or train on data with more of what it needs (such as labels of every class)'
    )
  return Start(state, 0, {}, time.perf_counter() - started)


def _fresh(run: Run) -> State:
  shardings = jax.tree.map(lambda leaf: leaf.sharding, run.like)
  prepare_batch = preprocess.training(run.config.data)
  train = run.splits['train']

  def init(seed, arrays, index):
    for_data, for_init = jax.random.split(jax.random.fold_in(jax.random.key(seed), 0))
    return run.system.init(for_init, prepare_batch(for_data, train.fetch(arrays, index)))

  shown = data.order(run.config.seed, 0, 1, min(run.config.init_examples, train.size), train.size)[0]
  return jax.jit(init, out_shardings=shardings)(np.uint32(run.config.seed), run.arrays, shown)


def _evaluators(run: Run) -> Evaluators:
  def measure(split: str) -> Callable:
    return mean.per_example(run.system.evaluate, run.splits[split], run.config, run.mesh)

  shown = 'valid' if 'valid' in run.splits else 'test'
  return Evaluators(measure(shown), measure('test'), mean.images(run.splits[shown], run.config, run.config.pictures))


def _draw(run: Run, state: State, step: int, writer: log.Writer, images: np.ndarray) -> None:
  key, to_uint8 = jax.random.key(run.config.seed), preprocess.pixels(run.config.data)
  for name, draw in (gallery.available(run.system) | positions.available(run.system, run.config)).items():
    signals.poll()
    try:
      drawn = draw(key, state, images, to_uint8)
    except Exception as error:  # a picture must not end a training
      writer.say(f'step {step}: no picture {name}, {type(error).__name__}: {" ".join(str(error).split())}')
    else:
      writer.picture(step, name, drawn)


def _greet(run: Run, writer: log.Writer, first: int, skipped: int) -> None:
  count = sum(leaf.size for leaf in jax.tree.leaves(run.like.params))
  sizes = ', '.join(f'{split.size} {name}' for name, split in run.splits.items())
  writer.say(
    f'{run.config.system} on {run.config.data.name} ({sizes} examples of {run.config.data.shape});'
    f' {count:,} parameters; {run.mesh.size} x {jax.devices()[0].device_kind}; workdir {run.folder}'
  )
  if skipped:
    writer.say(f'of the stream of batches, {skipped} are left out: training with them went wrong')
  if first >= run.total:
    writer.say(f'the run is complete: step {first} of {run.total}')
  elif first:
    writer.say(f'going on from the checkpoint of step {first} of {run.total}')
  else:
    writer.say(f'{run.total} steps; compiling the training step ({run.config.steps_per_call} steps a call) ...')


def _costs(began: Start, lost: log.Lost, steps: int, seconds: float) -> str:
  """What a start cost before its first step, and what the one before it had not saved."""
  state = 'restored' if began.meta else 'state made'
  again = f'; {lost.steps} steps of {lost.seconds:.1f} s are made again' if lost.steps else ''
  return (
    f'first call ({steps} steps, compilation included): {seconds:.1f} s\n'
    f'goodput: {state} in {began.seconds:.1f} s, first call in {seconds:.1f} s{again}'
  )


def saver(run: Run, manager, skipped: int = 0) -> Callable:
  """`save(state, measured)`: what `train` calls to keep a state, with the run's experiment beside it."""
  meta = {'config': experiment.to_json(run.config), 'environment': workdir.environment(), 'skipped': skipped}

  def save(state: State, measured: dict[str, float] | None) -> None:
    checkpoint.save(manager, state, meta | {'due': measured is None}, measured or {})
    if not run.config.async_save:
      checkpoint.commit(manager)

  return save
