"""Measures how fast an experiment trains, and what its compiled program does.

Usage: python -m dgm_jax.benchmark --config=configs/x.py[:variant] [--config.KEY=VALUE ...] [--steps_per_call=100,500]
       [--devices=1,2,4,8] [--seconds=10] [--reuse_batch] [--what=train|sample] [--topology=v5e:8x8]
       [--out=FILE | --record]

Prints a table, and writes JSON to --out, with --record to results/bench_CONFIG.json, otherwise to the terminal. Every
combination of --steps_per_call and --devices is one setting. The batch of a device stays the same (weak scaling): on n
devices the batch is n times config.batch_size. Without accelerators --devices makes so many virtual CPU devices, which
share the same cores: n of them can at best do the work of one. With --reuse_batch every step has the same batch, so
that the difference is what gathering and preparing batches costs. --topology only compiles, for TPUs that are not here.

--what=sample times, instead of training, the drawing of --images images with a network's memory, and naively, with the
whole network for every pixel (--naive_pixels of them, of which the rest is inferred), at each of the --sizes.
"""

import contextlib
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from absl import flags

from dgm_jax import config as experiment
from dgm_jax import errors
from dgm_jax.costs import first_step
from dgm_jax.runtime import cli

__all__ = ['define_flags', 'main', 'run']

flags.disclaim_key_flags()  # --help lists them as the flags of the program that calls `run`

CHUNKS = 7  # timed stretches of the step
ROUNDS = 5  # of the training loop and the bare scan, in turn


class Program(NamedTuple):
  """A run's call of several steps, compiled, and what was found on the way."""

  run: Any  # training.Run
  call: Callable  # steps_per_call steps, as `training.compile_call` makes them
  one: Any  # the compiled program of one step
  several: Any  # that of steps_per_call steps
  compile_seconds: float


def define_flags() -> None:
  """Defines the command line in the module's own flags."""
  experiment.define_flags()
  flags.DEFINE_list('steps_per_call', [], 'Steps in one compiled call, to sweep; empty: config.steps_per_call.')
  flags.DEFINE_list('devices', [], 'Numbers of devices, to sweep; empty: all there are.')
  flags.DEFINE_enum('what', 'train', ('train', 'sample'), 'What is timed.')
  flags.DEFINE_list('sizes', [], 'With --what=sample: edges of the images; empty: that of the data.')
  flags.DEFINE_integer('images', 4, 'With --what=sample: images drawn at a time.', lower_bound=1)
  flags.DEFINE_integer('naive_pixels', 4, 'With --what=sample: pixels drawn naively.', lower_bound=1)
  flags.DEFINE_string('topology', '', 'A slice of TPUs to compile a step for, such as v5e:8x8; nothing is timed.')
  flags.DEFINE_float('seconds', 10.0, 'How long each figure of a setting is measured.', lower_bound=0.01)
  flags.DEFINE_bool('reuse_batch', False, 'Take the same batch in every step.')
  flags.DEFINE_bool('first_step', True, 'Also time a fresh start of train.py, twice.')
  flags.DEFINE_string('out', '', 'File for the JSON.')
  flags.DEFINE_bool('record', False, 'Write the JSON into --results.')
  flags.DEFINE_string('results', 'results', 'Folder of the records.')


def main(argv: list[str]) -> None:
  """Measures what the command line asks for, and prints it."""
  experiment.parse(argv, __doc__)
  args, config = flags.FLAGS, experiment.value()
  experiment.check(config)
  calls = counts('steps_per_call', args.steps_per_call) or [config.steps_per_call]
  devices = counts('devices', args.devices)
  if args.what == 'sample':
    from dgm_jax.costs import drawing_speed

    page = {name: value for name, value in header(config).items() if name != 'scaling'}
    settings = drawing_speed.sweep(config, counts('sizes', args.sizes), args.images, args.naive_pixels)
    _write(args, config, page | {'what': 'sample', 'settings': settings})
    return
  from dgm_jax.costs import topology

  if args.topology:
    topology.devices(args.topology)  # a mistake is answered before the data is loaded
    _write(args, config, topology.cost(config, args.topology))
    return
  # Before this process takes the devices: an accelerator may serve one process only.
  if args.first_step:
    print('timing a fresh start of train.py, twice ...', flush=True)
  first = first_step.seconds(config) if args.first_step else None

  import jax

  jax.config.update('jax_enable_compilation_cache', False)  # compile seconds are those of a first time
  if devices:
    jax.config.update('jax_num_cpu_devices', max(devices))
  page = header(config) | {'first_step_seconds': first, 'settings': []}
  for n in devices or [jax.device_count()]:
    for steps in calls:
      print(f'compiling and timing {n} devices, {steps} steps a call ...', flush=True)
      page['settings'].append(measure(config, n, steps, args.seconds, args.reuse_batch))
      print(_row(page['settings'][-1]), flush=True)
  page['weak_scaling'] = topology.weak_scaling(page['settings'], jax.devices()[0].platform == 'cpu')
  for line in page['weak_scaling']['efficiency']:
    print(f'{line["devices"]} devices, {line["steps_per_call"]} steps a call: efficiency {line["efficiency"]:.2f}')
  if first is not None:
    print(f'first step: {first:.2f} s after the start of train.py, with compiled programs in the cache')
  _write(args, config, page)


def _write(args, config, page: dict) -> None:
  """Writes a page to a file if one was asked for, else to the terminal."""
  from dgm_jax.runs import workdir

  target = _target(args, config)
  if target is None:
    print(json.dumps(workdir.jsonable(page), indent=2))
  else:
    target.parent.mkdir(parents=True, exist_ok=True)
    workdir.write_json(target, page)
    print(f'record: {target}')


def counts(flag: str, texts: list[str]) -> list[int]:
  """Reads the numbers of a list flag.

  Raises:
    UserError: one of them is not a positive integer.
  """
  for text in texts:
    if not text.isdigit() or int(text) < 1:
      raise errors.UserError(f"--{flag} takes positive integers with commas between them, got '{text}'")
  return [int(text) for text in texts]


def header(config: Any) -> dict:
  """Returns what was measured, where, and with which versions."""
  from dgm_jax.runs import workdir

  environment = workdir.environment()
  return {
    'config': config.source,
    'overrides': list(config.overrides),
    'system': config.system,
    'data': config.data.name,
    'device': environment['device'],
    'versions': environment['versions'],
    'commit': environment['commit'],
    'scaling': 'weak: the batch of a device is the same in every setting',
  }


def measure(config: Any, devices: int, steps_per_call: int, seconds: float, reuse_batch: bool = False) -> dict:
  """Measures one setting. FLOPs, bytes and rates are totals of all its devices; memory is that of one device.

  With `reuse_batch` every step has the same batch.
  """
  import jax

  from dgm_jax import training
  from dgm_jax.costs import hlo

  with tempfile.TemporaryDirectory() as folder:
    run = training.prepare(setting(config, devices, steps_per_call), Path(folder), devices=devices)
    state = training.start(run)[0]
    run = training.with_one_batch(run) if reuse_batch else run
    program = compiled(run)
    state, rates, products = _speed(program, state, seconds)
    rate, product = statistics.median(rates), statistics.median(products)
    flops, text = program.one.cost_analysis()['flops'] * devices, program.one.as_text()
    figures = {
      'devices': devices,
      'steps_per_call': steps_per_call,
      'batch_size': run.config.batch_size,
      'reuse_batch': reuse_batch,
      'compile_seconds': round(program.compile_seconds, 2),
      'steps_per_second': rate,
      'steps_per_second_spread': [min(rates), max(rates)],
      'examples_per_second_per_device': rate * run.config.batch_size / devices,
      'flops_per_step': flops,
      'products_left_out': hlo.left_out(text),
      'flops_per_second': flops * rate,
      'matrix_product_flops_per_second': product,
      'fraction_of_matrix_product': flops * rate / product,
      'peak_bytes': hlo.peak_bytes(program.several),
      'device_memory': jax.devices()[0].memory_stats(),
      'collectives_per_step': hlo.collectives(text),
    }
    figures['collective_bytes_per_step'] = sum(kind['bytes'] for kind in figures['collectives_per_step'].values())
    return figures | {'fit_over_scan': fit_over_scan(program, state, rate, seconds)}


def setting(config: Any, devices: int, steps_per_call: int) -> Any:
  """Returns the experiment for this number of devices and steps a call, without what is not training.

  Logging and saving keep their cadence, rounded up to whole calls.
  """
  config = config.copy_and_resolve_references()
  for key in ('log_every', 'save_every'):
    config[key] = -(-config[key] // steps_per_call) * steps_per_call
  config.update({'batch_size': config.batch_size * devices, 'steps_per_call': steps_per_call})
  config.update({'eval_every': 0, 'picture_every': 0, 'best': ''})
  config.graft, config.log.wandb = {}, ''
  return config


def compiled(run: Any) -> Program:
  """Compiles the run's call, and a call of one step."""
  import numpy as np

  from dgm_jax import training

  def build(steps: int):
    return call.lower(run.like, np.uint32(0), *training.one_call(run, 0, steps)).compile()

  call = training.compile_call(run)
  # The cost of a loop is that of its body once, so the figures of a step come from a call of one step.
  one, started = build(1), time.perf_counter()
  several = build(run.config.steps_per_call)
  return Program(run, several, one, several, time.perf_counter() - started)


def _speed(program: Program, state, seconds: float):
  """Trains, and returns the state, the steps/s and a matrix product's FLOP/s, measured in turn."""
  import jax
  import numpy as np

  from dgm_jax import training

  run, steps = program.run, program.run.config.steps_per_call
  examples, seed, product = training.one_call(run, 0, steps), np.uint32(run.config.seed), matrix_product(run.mesh)

  def calls(state, n: int):
    started = time.perf_counter()
    for _ in range(n):
      state, metrics = program.call(state, seed, *examples)
    jax.block_until_ready((state, metrics))
    return state, n * steps / (time.perf_counter() - started)

  state, _ = calls(state, 1)
  state, guess = calls(state, 1)
  n, rates, products = max(1, round(guess * seconds / steps / CHUNKS)), [], []
  for _ in range(CHUNKS):
    state, rate = calls(state, n)
    rates.append(rate)
    products.append(product())
  return state, rates, products


def matrix_product(mesh: Any) -> Callable[[], float]:
  """Returns a function that measures the FLOP/s of a float32 product, on every device of the mesh at once.

  The matrices are square. Their size is the first power of two, from 1024 on, whose product takes 20 ms.
  """
  import jax
  import jax.numpy as jnp

  from dgm_jax.runtime import parallel

  rows, whole = parallel.rows(mesh), parallel.replicated(mesh)
  multiply = jax.jit(jnp.matmul, out_shardings=rows)

  def ready(size: int) -> Callable[[], float]:
    keys = jax.random.split(jax.random.key(0))
    left = jax.jit(lambda key: jax.random.normal(key, (size * mesh.size, size)), out_shardings=rows)(keys[0])
    right = jax.jit(lambda key: jax.random.normal(key, (size, size)), out_shardings=whole)(keys[1])

    def rate() -> float:
      started = time.perf_counter()
      jax.block_until_ready(multiply(left, right))
      return 2 * size**3 * mesh.size / (time.perf_counter() - started)

    rate()
    return rate

  for size in (1024, 2048, 4096, 8192, 16384):
    measured = ready(size)
    if 2 * size**3 * mesh.size / measured() > 0.02:
      break
  return measured


def fit_over_scan(program: Program, state: Any, rate: float, seconds: float) -> dict:
  """Measures the speed of the training loop, relative to one `lax.scan` over the same steps, both in turn.

  Args:
    program: compiled.
    state: to begin with.
    seconds: about how long to measure.
    rate: about how many steps are made in a second.
  """
  from dgm_jax import training
  from dgm_jax.runs import checkpoint
  from dgm_jax.training import log

  run, sides = program.run, {'scan': [], 'fit': []}
  run, steps = stretch(run, rate, seconds)
  scan = _scan(run, steps)
  with contextlib.ExitStack() as stack:
    said = stack.enter_context((run.folder / 'said.txt').open('w'))
    stack.enter_context(contextlib.redirect_stdout(said))
    stack.enter_context(contextlib.redirect_stderr(said))
    writer = stack.enter_context(log.open(run.folder, 0, 0, run.config))
    keeper = stack.enter_context(checkpoint.saving(run.folder, run.config.keep, ''))
    save, nothing = training.saver(run, writer, keeper), training.Evaluators(lambda *_: {}, lambda *_: {}, None)
    for number in range(ROUNDS + 1):
      state, scan_seconds = scan(state)
      first = int(state.step)
      started = time.perf_counter()
      state = training.train(run._replace(total=first + steps), program.call, state, first, writer, save, nothing)
      checkpoint.commit(keeper)
      if number:  # the first round warms up
        sides['scan'].append(steps / scan_seconds)
        sides['fit'].append(steps / (time.perf_counter() - started))
  saves = steps // run.config.save_every if run.config.save_every else 0
  kept = (
    f'{saves} checkpoints a round, the last waited for' if saves else 'no checkpoints, which --seconds is too short for'
  )
  includes = f'logging, TensorBoard, {kept}; no evaluation, no pictures'
  return _compared(sides) | {'steps_a_round': steps, 'saves_a_round': saves, 'includes': includes}


def stretch(run: Any, rate: float, seconds: float) -> Any:
  """Returns the run of a round and its number of steps.

  A round has whole intervals between checkpoints, or no checkpoint if one interval is too long for `seconds`.
  """
  config = run.config.copy_and_resolve_references()
  if config.save_every > rate * seconds:
    config.save_every = 0
  unit = config.save_every or config.steps_per_call
  return run._replace(config=config), unit * max(1, round(rate * seconds / ROUNDS / unit))


def _scan(run, steps: int) -> Callable:
  """Returns `scan(state) -> (state, seconds)`: `steps` steps in one compiled loop, with nothing on the host."""
  import jax
  import numpy as np

  from dgm_jax import training

  examples, seed = training.one_call(run, 0, steps), np.uint32(run.config.seed)
  call = training.compile_call(run).lower(run.like, seed, *examples).compile()

  def scan(state):
    jax.block_until_ready(state)
    started = time.perf_counter()
    state = jax.block_until_ready(call(state, seed, *examples))[0]
    return state, time.perf_counter() - started

  return scan


def _compared(sides: dict[str, list[float]]) -> dict:
  medians = {side: statistics.median(rates) for side, rates in sides.items()}
  each = sorted(fit / scan for fit, scan in zip(sides['fit'], sides['scan'], strict=True))
  return {
    'ratio': medians['fit'] / medians['scan'],
    'ratio_of_each_round': each,
    'fit_steps_per_second': medians['fit'],
    'scan_steps_per_second': medians['scan'],
  }


def _row(figures: dict) -> str:
  compared = figures['fit_over_scan']
  each = compared['ratio_of_each_round']
  note = f'; {figures["products_left_out"]} products in loops are not in the FLOPs' * bool(figures['products_left_out'])
  return (
    f'{figures["devices"]} devices x {figures["batch_size"] // figures["devices"]} examples,'
    f' {figures["steps_per_call"]} steps a call: {figures["steps_per_second"]:.4g} steps/s,'
    f' {figures["examples_per_second_per_device"]:.4g} examples/s/device,'
    f' compiled in {figures["compile_seconds"]:.1f} s\n'
    f'  {figures["flops_per_step"]:.4g} FLOPs a step, {figures["flops_per_second"]:.3g} FLOP/s ='
    f' {figures["fraction_of_matrix_product"]:.1%} of a matrix product{note}\n'
    f'  {figures["peak_bytes"] / 2**20:.1f} MiB a device; collectives move'
    f' {figures["collective_bytes_per_step"] / 2**20:.3f} MiB a step {figures["collectives_per_step"]}\n'
    f'  fit / bare scan = {compared["ratio"]:.3f} (rounds {each[0]:.3f} to {each[-1]:.3f}), {compared["includes"]}'
  )


def _target(args, config) -> Path | None:
  """Returns the file for the JSON, if one was asked for."""
  if args.out:
    return Path(args.out)
  name = '_'.join(filter(None, (Path(config.source.partition(':')[0]).stem, config.source.partition(':')[2])))
  name += '_sample' * (args.what == 'sample')
  return Path(args.results) / f'bench_{name}.json' if args.record else None


def run() -> None:
  """Runs the program."""
  define_flags()
  cli.run(main)
