"""Trains a grid of systems, weights and seeds, all weights and seeds of a system in one program, and tells of them.

Usage: python -m dgm_jax.study --name=disentanglement [--out=runs/disentanglement] [--only=beta_small,factor_small]
       [--weights=1,4,8] [--seeds=3] [--steps=4000] [--size=32] [--capacity=15] [--record]

For every system it writes OUT/SYSTEM.json (each member's figures and curves) and pictures of its first member; then
OUT/study.html and a table of mean and spread of all systems that are in OUT. A system that is there is not trained
again. --record also writes the table to results/study_NAME.json.
"""

import json
import time
from pathlib import Path

from absl import flags

from dgm_jax.errors import UserError
from dgm_jax.internal.files import read_text
from dgm_jax.runtime import cli

__all__ = ['define_flags', 'main', 'run']

flags.disclaim_key_flags()  # --help lists them as the flags of the program that calls `run`

STUDIES = {
  'disentanglement': {
    'beta_small': ('beta', (1.0, 4.0, 8.0)),
    'capacity_small': ('gamma', (30.0,)),
    'capacity_conv_small': ('gamma', (15.0,)),
    'capacity': ('gamma', (1000.0,)),
    'factor_small': ('gamma', (10.0, 35.0)),
    'tc_small': ('beta', (4.0, 8.0)),
    'dip_i_small': ('off_diagonal', (5.0,)),
    'dip_ii_small': ('off_diagonal', (5.0,)),
  }
}


def define_flags() -> None:
  """Defines the command line in the module's own flags."""
  flags.DEFINE_enum('name', None, sorted(STUDIES), 'Which study.')
  flags.DEFINE_string('out', '', 'Folder of its figures and pictures; empty: runs/NAME.')
  flags.DEFINE_list('only', [], 'Systems of the study to train; empty: all.')
  flags.DEFINE_list('weights', [], "Values of the weight, in place of the study's.")
  flags.DEFINE_integer('seeds', 3, 'Seeds of every weight.', lower_bound=1)
  flags.DEFINE_integer('steps', 0, "Steps of every member; 0: the config's.", lower_bound=0)
  flags.DEFINE_float(
    'capacity',
    0.0,
    "C in nats in the end, where there is one, up to which it rises all the time; 0: the config's.",
    lower_bound=0.0,
  )
  flags.DEFINE_integer('size', 0, "Pixels a side of the sprites; 0: the config's.", lower_bound=0)
  flags.DEFINE_bool('record', False, 'Also write a record into --results.')
  flags.DEFINE_string('results', 'results', 'Folder of the records.')


def main(argv: list[str]) -> None:
  """Trains what is missing, and writes the page and the table."""
  from dgm_jax import config as experiment

  experiment.parse(argv, __doc__)
  args = flags.FLAGS
  if not args.name:
    raise UserError(f'no study given; add --name={sorted(STUDIES)[0]}')
  grid, out = STUDIES[args.name], Path(args.out or f'runs/{args.name}')
  for system in args.only:
    experiment.one_of('--only', system, grid)
  weights = _numbers(args.weights)

  import jax

  from dgm_jax.pages import disentanglement_study
  from dgm_jax.runs import workdir
  from dgm_jax.runtime import cluster

  studies = {
    system: disentanglement_study.settings(args.name, system, args.steps, args.size) for system in args.only or grid
  }
  out.mkdir(parents=True, exist_ok=True)
  cluster.start(keep_memory=any(config.model.channels for config in studies.values()), every_core=True)
  for system, config in studies.items():
    target = out / f'{system}.json'
    if target.exists():
      print(f'{target} is there already')
      continue
    weight, values = grid[system][0], weights or grid[system][1]
    if args.capacity and 'capacity' in config.model:
      config.model.update({'capacity': args.capacity, 'capacity_steps': config.steps})
    if config.model.channels and jax.default_backend() == 'cpu':
      config.steps_per_call = 1  # convolutions are slow inside a loop there
    print(f'training {len(values) * args.seeds} of {system} for {config.steps} steps', flush=True)
    started = time.perf_counter()
    page, pictures = disentanglement_study.trained(config, weight, values, range(args.seeds))
    page |= {'wall_seconds': round(time.perf_counter() - started, 1), **workdir.environment()}
    workdir.write_json(target, page)
    disentanglement_study.keep(out, system, pictures)
  pages = {path.stem: json.loads(read_text(path)) for path in sorted(out.glob('*.json'))}
  print(disentanglement_study.table(pages))
  disentanglement_study.write_page(out, args.name, pages)
  if args.record:
    target = Path(args.results) / f'study_{args.name}.json'
    target.parent.mkdir(parents=True, exist_ok=True)
    workdir.write_json(target, {name: disentanglement_study.summary(page) for name, page in pages.items()})
    print(f'record: {target}')


def _numbers(texts: list[str]) -> tuple[float, ...]:
  try:
    return tuple(float(text) for text in texts)
  except ValueError as error:
    raise UserError(f'--weights={",".join(texts)} must be numbers with commas between') from error


def run() -> None:
  """Runs the program."""
  define_flags()
  cli.run(main)
