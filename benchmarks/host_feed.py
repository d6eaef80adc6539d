"""Training on examples that are read on the host, one call ahead, against a copy on the device; dgm_jax alone.

Usage: python benchmarks/host_feed.py [--config=revnet_cifar10:resnet_small] [--rounds=8] [--steps=4] [--record]

CIFAR-10 from memory, from an .npy file row by row, and from ArrayRecord files whose pictures are decoded when they are
first asked for. All sides train in one process, some steps each in turn. The shortest turn of each is compared, since a
machine that does other work makes turns longer and never shorter; CPU seconds of the process stand beside.
"""

import argparse
import contextlib
import json
import os
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--config', default='revnet_cifar10:resnet_small')
  parser.add_argument('--rounds', type=int, default=8)
  parser.add_argument('--steps', type=int, default=4, help='of one side in one round')
  parser.add_argument('--record', action='store_true', help='write the figures into --results')
  parser.add_argument('--results', default=str(ROOT / 'results'))
  args = parser.parse_args()
  from dgm_jax.runs import workdir
  from dgm_jax.runtime import cluster

  cluster.start(keep_memory=True)
  with tempfile.TemporaryDirectory() as folder:
    page = {'what': 'steps/s by examples read on the host, over those of a copy on the device', 'config': args.config}
    page |= compare(args.config, Path(folder), args.rounds, args.steps)
  environment = workdir.environment()
  page |= {name: environment[name] for name in ('device', 'versions', 'commit')}
  print(json.dumps(page, indent=2))
  if args.record:
    target = Path(args.results) / 'bench_host_feed.json'
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(page, indent=2) + '\n')
    print(f'record: {target}')


def compare(name: str, folder: Path, rounds: int, steps: int) -> dict:
  """The shortest turns of all sides, and their ratios."""
  with contextlib.ExitStack() as stack:
    sides = {where: stack.enter_context(side) for where, side in _sides(name, folder).items()}
    times = {where: [] for where in sides}
    for round_number in range(rounds + 1):
      for where, train in sides.items():
        turn = train(steps)
        times[where] += [turn] if round_number else []  # the first compiles
  wall, cpu = ({where: min(turn[i] for turn in turns) / steps for where, turns in times.items()} for i in (0, 1))
  return {
    'rounds': rounds,
    'speed_over_device': {where: wall['device'] / seconds for where, seconds in wall.items()},
    'cpu_seconds_over_device': {where: seconds / cpu['device'] for where, seconds in cpu.items()},
    'steps_per_second': {where: 1 / seconds for where, seconds in wall.items()},
    'of_each_round': {where: [round(turn[0] / steps, 4) for turn in turns] for where, turns in times.items()},
  }


def _sides(name: str, folder: Path) -> dict:
  """Name -> a context manager of `train(steps) -> (seconds, CPU seconds)`."""
  import numpy as np

  from dgm_jax import config as experiment
  from dgm_jax import training
  from dgm_jax.data import archive, records, rows, tfds
  from dgm_jax.data.images import Look

  def run_of(where: str):
    config = experiment.named_config(name)
    config.data.where = where
    return training.build_run(config, folder, 1)

  device, host = run_of('device'), run_of('host')
  train = host.splits['train']
  np.save(folder / 'x.npy', train.arrays['x'])
  in_file = rows.of_file(folder / 'x.npy', archive.members(folder / 'x.npy')[0]['x'])
  source, image, labels, _ = tfds.opened(tfds.locate(host.config.data.name), host.config.data.train, 'train')
  os.environ['DGM_JAX_CACHE'] = str(folder)  # rows that are kept
  stored = records.rows_of(source, image, labels, Look(), 'records', {'look': (0, 0, False)})
  stored = {name: rows.chosen(stored[name], slice(train.size)) for name in train.arrays}
  fed = {'memory': train.arrays, 'npy_file': train.arrays | {'x': in_file}, 'array_record': stored}
  call = {'device': training.compile_call(device), 'host': training.compile_call(host)}
  reading = lambda arrays: host._replace(splits=host.splits | {'train': train._replace(arrays=arrays)})
  return {'device': _trainer(device, call['device'])} | {
    where: _trainer(reading(arrays), call['host']) for where, arrays in fed.items()
  }


@contextlib.contextmanager
def _trainer(run, call):
  """Gives a function that goes on training for some steps."""
  import jax
  import numpy as np

  from dgm_jax import training
  from dgm_jax.training import feed

  state = training.start(run)[0]
  with contextlib.closing(feed.batches(run, 0)) as batches:

    def train(steps: int) -> tuple[float, float]:
      nonlocal state
      began, cpu = time.perf_counter(), time.process_time()
      for _ in range(-(-steps // feed.call_steps(run))):
        state, metrics = call(state, np.uint32(0), *next(batches))
      jax.block_until_ready((state, metrics))
      return time.perf_counter() - began, time.process_time() - cpu

    yield train


if __name__ == '__main__':
  main()
