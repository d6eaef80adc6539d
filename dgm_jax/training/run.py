"""A run before its first step: data, system and devices put together, and the program of its steps."""

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from ml_collections import ConfigDict

from dgm_jax import config as experiment
from dgm_jax import data, optim, systems
from dgm_jax.core import State, System
from dgm_jax.data import preprocess
from dgm_jax.runs import resident, workdir
from dgm_jax.runtime import cluster, parallel
from dgm_jax.runtime.placement import Placement
from dgm_jax.training.rehearsal import explained, rehearse

__all__ = [
  'Run', 'build_run', 'compile_call', 'describe', 'driver_of', 'identity', 'indices', 'prepare', 'schedule_changes',
]  # fmt: skip


# Settings of JAX on which numbers depend.
NUMERIC = (
  'jax_enable_x64', 'jax_default_prng_impl', 'jax_threefry_partitionable', 'jax_default_matmul_precision',
  'jax_numpy_dtype_promotion',
)  # fmt: skip


class Run(NamedTuple):
  """What stays the same while a run trains."""

  config: ConfigDict
  system: System
  splits: dict[str, data.Split]
  mesh: Mesh
  like: State  # shapes and shardings of the state
  arrays: dict[str, Any]  # the training split, on the devices; {} where it is read on the host
  folder: Path
  total: int  # steps
  placement: Placement  # where the training split lies
  one_batch: bool = False  # whether every step takes `arrays` as its batch, see `feed.with_one_batch`


def prepare(config: ConfigDict, folder: Path, allow_config_change: bool = False, devices: int = 0) -> Run:
  """Builds a run and claims its folder, without locking it."""
  run = build_run(config, folder, devices)
  workdir.compare(folder, run.config, allow_config_change)
  workdir.claim(folder, run.config, workdir.count(run.like.params))
  return run


def build_run(config: ConfigDict, folder: Path, devices: int = 0) -> Run:
  """Loads the data and builds the system for all devices, or the first `devices`. It does not touch the folder."""
  run = describe(config, parallel.mesh(devices), folder)
  if cluster.main_process():
    print(f'tracing a step, an evaluation and a sample of {config.system} ...', flush=True)
  driver_of(run)  # which some systems cannot have
  rehearse(run.config, run.system, run.splits, run.like, run.mesh)
  if run.placement.line and cluster.main_process():
    print(run.placement.line, flush=True)
  stored = run.splits['train'].arrays
  return run._replace(arrays={name: resident.place(stored[name], like) for name, like in run.arrays.items()})


def describe(config: ConfigDict, mesh: Mesh, folder: Path = Path()) -> Run:
  """Builds the run of a mesh whose devices need not be here: no array is put on them."""
  parallel.check_batch('batch_size', config.batch_size, mesh, config.accumulate)
  preprocess.training(config.data)  # a mistake must not leave its mark on the folder
  # Where nothing is measured on them, no examples need be held out.
  names = ('train', 'valid', 'test') if config.eval_every else ('train', 'test')
  config, splits = workdir.with_data(config, names)
  total = workdir.total_steps(config)
  experiment.check_warmup(config, total)
  with explained(config, 'the state'):
    system = systems.build(config)
    like = workdir.shapes(system, config, mesh)
  train = splits['train']
  placement = resident.placement_of(train, config.data.where, mesh)
  arrays = resident.shapes(train, placement.where, mesh)
  return Run(config, system, splits, mesh, like, arrays, folder, total, placement)


def identity(run: Run, **more: str) -> dict[str, str]:
  """Returns what the processes of a run must be alike in: its experiment, its data, the code, and `more`.

  {'config.seed': '0', 'data.train': ..., 'source.losses/vae.py': a checksum, 'version.jax': ...}
  """
  page = {f'config.{key}': value for key, value in _flat(experiment.to_json(run.config)).items()}
  for name, split in run.splits.items():
    arrays = {key: f'{array.dtype}{list(array.shape)}' for key, array in split.arrays.items()}
    page[f'data.{name}'] = f'{split.size} examples, {arrays}'
  page['placement of config.data.where'] = run.placement.where
  package = Path(optim.__file__).parent
  page |= {
    f'source.{path.relative_to(package)}': hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    for path in sorted(package.rglob('*.py'))
  }
  versions = workdir.environment()['versions']
  page |= {f'version.{name}': version for name, version in versions.items()}
  page |= {name: str(getattr(jax.config, name, '')) for name in NUMERIC}
  flags = [word for word in os.environ.get('XLA_FLAGS', '').split() if 'device_count' not in word]
  device = jax.local_devices()[0]
  return page | {'XLA_FLAGS': ' '.join(flags), 'device': f'{device.platform} {device.device_kind}'} | more


def _flat(page: Any, prefix: str = '') -> dict[str, str]:
  if not isinstance(page, dict) or not page:
    return {prefix: json.dumps(page)}
  inner = (_flat(value, f'{prefix}.{key}' if prefix else key) for key, value in page.items())
  return {key: value for part in inner for key, value in part.items()}


def compile_call(run: Run) -> Callable:
  """Compiles `call(state, seed, arrays, index [S, B]) -> (state, metrics)`: S steps in one program.

  `arrays` and `index` are those of `feed.batches`: of all examples, or of the host's examples of each step.
  The key of a step is a function of the seed and the step. Metrics are means over the S steps.
  """
  prepare_batch = preprocess.training(run.config.data)
  fetch, driver, handed = run.splits['train'].fetch, driver_of(run), run.placement.where == 'host'

  def call(state, seed, arrays, index):
    train_key = jax.random.fold_in(jax.random.key(seed), 1)

    def keys(step):
      return jax.random.split(driver.key(jax.random.fold_in(train_key, step)))

    def one(state, key_and_rows):
      (for_data, for_step), rows = key_and_rows
      if run.one_batch:
        batch = arrays
      else:
        batch = prepare_batch(for_data, driver.place(rows if handed else fetch(arrays, rows['index'])))
      # Without the barrier each use of the batch would gather and binarize it anew.
      batch = jax.lax.optimization_barrier(batch)
      return driver.settle(*run.system.step(for_step, state, batch))

    rows = {'index': index} | (arrays if handed else {})
    # XLA's convolutions on a CPU are twenty times slower inside a loop, even one of a single turn.
    if run.config.steps_per_call == 1:
      return one(state, (keys(state.step), jax.tree.map(lambda array: array[0], rows)))
    steps = index.shape[0]
    each = jax.vmap(keys)(state.step + jnp.arange(steps))
    # Two steps a turn: parameters go from one memory to another and back, and need not be copied between.
    state, metrics = jax.lax.scan(one, state, (each, rows), unroll=2 - steps % 2)
    return state, jax.tree.map(lambda m: m.mean(0), metrics)

  return driver.compile(call, handed)


def indices(run: Run, step: int, steps: int) -> jax.Array:
  """Returns the numbers of the examples of the next steps, [S, B] on the devices.

  They are a pure function of the seed and the step.
  """
  order = data.order(run.config.seed, step, steps, run.config.batch_size, run.splits['train'].size)
  return driver_of(run).deal(order)


def schedule_changes(before: Mapping, run: Run, step: int) -> list[str]:
  """Describes the learning rates that another length of the run changes from `step` on.

  Args:
    before: the experiment's JSON data that the checkpoint of `step` was saved with.
    run: the run as it goes on.
    step: number of completed steps.
  """
  if not before or step >= run.total:
    return []
  old, said = experiment.from_json(before), []
  steps = optim.total_steps(old)
  for player, opt in run.config.optimizer.items():
    if opt.schedule in ('linear', 'cosine') and player in old.optimizer and steps != run.total:
      was, now = (float(optim.schedule(opt, config)(step)) for config in (old, run.config))
      said.append(
        f'the run of {steps} steps now has {run.total}, over which the {opt.schedule} schedule of'
        f' config.optimizer.{player} is stretched: its learning rate at step {step} is {now:.3g} and was {was:.3g}'
      )
  return said


def driver_of(run: Run) -> parallel.Driver:
  """Returns how the devices share the steps of a call."""
  return parallel.driver(run.config.parallel, run.mesh, run.like)
