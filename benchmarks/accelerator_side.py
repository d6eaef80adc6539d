"""The process that measures and trains for `benchmarks/accelerator.py`: a line of JSON in, a line of JSON out.

A side has one item at a time. What goes wrong with an item is its answer; what ends the process is its parent's affair.
"""

import contextlib
import gc
import json
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks import accelerator_plan as plan

OWN = ('digits', 'sprites', 'sprites_color', 'points:', 'toy:', 'pairs:')  # data that takes no file
ROUNDS = 3


def answer(item: dict) -> dict:
  """What an item's function returns, or what is wrong as {'error': ...}; the item's own fields are left out."""
  started = time.perf_counter()
  try:
    found = KINDS[item['kind']](item)
  except Exception as error:
    line = ' '.join(f'{type(error).__name__}: {error}'.split())
    found = {'error': line[:300]}
  gc.collect()
  return found | {'wall_seconds': round(time.perf_counter() - started, 1)}


def rates(item: dict) -> dict:
  """Rates of the device: products of square matrices by kind, and bytes read and written by a copy."""
  import jax
  import jax.numpy as jnp

  from dgm_jax.runs import workdir

  size, found = item['size'], {}
  for name, dtype, precision in (
    ('bfloat16', 'bfloat16', None), ('float32', 'float32', None), ('float32_highest', 'float32', 'highest')
  ):  # fmt: skip
    left, right = jax.random.normal(jax.random.key(0), (2, size, size), dtype)
    multiply = jax.jit(lambda left, right, precision=precision: jnp.matmul(left, right, precision=precision))
    found[name] = 2 * size**3 * _fastest(lambda multiply=multiply, left=left, right=right: multiply(left, right))
  array = jnp.zeros((8 * size, 4 * size), jnp.float32)
  add = jax.jit(lambda array: array + 1)
  found['copied_bytes'] = 2 * array.nbytes * _fastest(lambda: add(array))
  environment = workdir.environment()
  return {name: environment[name] for name in ('device', 'devices', 'versions', 'commit')} | {'rates': found}


def _fastest(call: Callable) -> float:
  """Calls a second, of the fastest of some rounds of ten."""
  import jax

  jax.block_until_ready(call())
  best = 0.0
  for _ in range(ROUNDS):
    started = time.perf_counter()
    jax.block_until_ready([call() for _ in range(10)])
    best = max(best, 10 / (time.perf_counter() - started))
  return best


def speed(item: dict) -> dict:
  """Speed, compile time, memory and products of an experiment's training step, on data made up where it takes files."""
  import jax
  import numpy as np

  from dgm_jax import training
  from dgm_jax.costs import hlo
  from dgm_jax.runs import resident, workdir
  from dgm_jax.runtime import parallel

  config = _config(item)
  with tempfile.TemporaryDirectory() as folder:
    _without_files(config, Path(folder))
    run = training.describe(config, parallel.mesh(1))
    stored = run.splits['train'].arrays
    run = run._replace(arrays={name: resident.place(stored[name], like) for name, like in run.arrays.items()})
  call, steps, seed = training.compile_call(run), run.config.steps_per_call, np.uint32(0)
  examples = training.one_call(run, 0, steps)
  traced, started = call.trace(run.like, seed, *examples), time.perf_counter()
  program = traced.lower().compile()
  compiled, state = time.perf_counter() - started, _state(run.like)

  def calls(state: Any, count: int) -> tuple[Any, float]:
    started = time.perf_counter()
    for number in range(count):
      state, metrics = program(state, seed, *training.one_call(run, number * steps, steps))
    jax.block_until_ready((state, metrics))
    return state, count * steps / (time.perf_counter() - started)

  state, _ = calls(state, 1)
  state, guess = calls(state, 1)
  count, found = max(1, round(guess * item.get('each', 1.0) / steps)), []
  for _ in range(ROUNDS):
    state, rate = calls(state, count)
    found.append(rate)
  rate = sorted(found)[ROUNDS // 2]
  memory = jax.local_devices()[0].memory_stats() or {}
  parameters = sum(workdir.count(run.like.params).values())
  return {
    'parameters': parameters, 'batch_size': run.config.batch_size, 'dtype': run.config.dtype, 'steps_per_call': steps,
    'compile_seconds': round(compiled, 2),
    'steps_per_second': rate, 'steps_per_second_spread': [min(found), max(found)],
    'images_per_second': rate * run.config.batch_size,
    'product_flops_per_step': hlo.product_flops(traced.jaxpr) / steps,
    'program_bytes': hlo.peak_bytes(program), 'peak_bytes_in_use': memory.get('peak_bytes_in_use'),
  }  # fmt: skip


def _config(item: dict) -> Any:
  """The experiment of an item with its changes, checked; without what is not training where a step is timed."""
  from dgm_jax import config as experiment
  from dgm_jax.commands import benchmark

  config = experiment.named_config(item['config'])
  with config.unlocked():
    config.update_from_flattened_dict(dict(item['changes']))
    config.overrides = tuple(f'{key}={value}' for key, value in item['changes'].items())
  if item['kind'] == 'speed':
    config = benchmark.setting(config, 1, config.steps_per_call)
  experiment.check(config)
  return config


def _without_files(config: Any, folder: Path) -> None:
  """Gives an experiment pictures made up, of its own shape, in place of a set that may not be here."""
  import numpy as np

  name = config.data.name
  if name.startswith(OWN):
    return
  edge = config.data.size or 32
  shape = plan.SHAPES.get(name, (edge, edge, config.data.channels or 3))
  size, path = 4096 if edge < 100 else 1024, folder / 'pixels.npz'
  pixels = np.random.default_rng(0).integers(0, 256, (size, *shape), np.uint8)
  labels = np.arange(size, dtype=np.int32) % config.model.get('classes', 10)
  few = slice(100)
  np.savez(path, x_train=pixels, y_train=labels, x_test=pixels[few], y_test=labels[few])
  config.data.update({'name': f'npz:{path}', 'valid_size': 0})


def _state(like: Any) -> Any:
  """A state whose parameters are small normal numbers, and all else 0: only its speed means anything."""
  import jax
  import jax.numpy as jnp

  def fill(leaf: Any, number: int, deviation: float) -> Any:
    if deviation and jnp.issubdtype(leaf.dtype, jnp.floating):
      array = deviation * jax.random.normal(jax.random.key(number), leaf.shape, leaf.dtype)
    else:
      array = jnp.zeros(leaf.shape, leaf.dtype)
    return jax.device_put(array, leaf.sharding)

  leaves, tree = jax.tree.flatten(like.params)
  params = jax.tree.unflatten(tree, [fill(leaf, number, 0.02) for number, leaf in enumerate(leaves)])
  return jax.tree.map(lambda leaf: fill(leaf, 0, 0.0), like.replace(params={})).replace(params=params)


def train(item: dict) -> dict:
  """Trains an experiment to its end, or until its time is over, measures it and writes its record.

  Args:
    item: with 'folder' for the run, 'results' for the record, and 'limit', the seconds that all may take.
  """
  from dgm_jax import training
  from dgm_jax.commands import evaluate, report
  from dgm_jax.evals import measuring
  from dgm_jax.runs import workdir
  from dgm_jax.runtime import signals

  folder, config, started = Path(item['folder']), _config(item), time.perf_counter()
  if config.judge and not config.judge.startswith('inception'):
    config.judge = str(folder.parent / Path(config.judge).name)
  ended = True
  try:
    with signals.owned(), _stopping(item['limit'] - item['evaluation']):
      training.fit(config, folder)
  except signals.Stopped:
    ended = False
  trained = time.perf_counter() - started
  subject = workdir.open_subject(folder, 'test', 'latest')
  page = evaluate.record(folder, subject, 'test', {}) | {'checkpoint': 'latest'}
  name = evaluate.record_name(page)
  targets = [folder / 'evaluation_test.json', Path(item['results']) / f'{name}.json']
  failures = evaluate.evaluate(subject, measuring.find(subject, tuple(subject.config.evals)), page, targets)
  with contextlib.suppress(Exception):  # the figures are there
    report.write_report(folder)
  return {
    'record': name, 'steps': page['steps'], 'at_published_length': ended, 'training_seconds': round(trained, 1),
    'metrics': page.get('metrics', {}), 'failures': [str(failure)[:300] for failure in failures],
  }  # fmt: skip


@contextlib.contextmanager
def _stopping(seconds: float) -> Iterator[None]:
  """Asks the training within the block to end after so many seconds; it saves its last finished step."""
  timer = threading.Timer(max(seconds, 0.1), os.kill, (os.getpid(), signal.SIGTERM))
  timer.daemon = True
  timer.start()
  try:
    yield
  finally:
    timer.cancel()
    timer.join()


def torch(item: dict) -> dict:
  """Speed of the same network and step in PyTorch."""
  from benchmarks import accelerator_torch

  return accelerator_torch.speed(item, ROUNDS)


KINDS = {'rates': rates, 'speed': speed, 'train': train, 'torch': torch}


def main() -> None:
  """Answers each item of stdin on what was stdout; what programs print goes to stderr."""
  out = os.fdopen(os.dup(1), 'w')
  os.dup2(2, 1)
  if '--jax' in sys.argv:
    from dgm_jax.runtime import cluster

    cluster.start()
  for line in sys.stdin:
    print(json.dumps(answer(json.loads(line)), default=float), file=out, flush=True)
    if 'jax' in sys.modules:
      sys.modules['jax'].clear_caches()  # programs hold memory


if __name__ == '__main__':
  main()
