"""Trains a grid of settings and seeds of an experiment, or of the systems of a study, and tells of them.

Usage: python -m dgm_jax.study --config=X --grid model.beta=1,2,4 [--grid KEY=VALUES] [--seeds=3] [--out=runs/study_X]
       python -m dgm_jax.study --name=disentanglement [--out=runs/disentanglement] [--only=beta_small,factor_small]
       [--weights=1,4,8] [--seeds=3] [--steps=4000] [--size=32] [--capacity=15] [--record]

With --config every combination of the grid's values is trained with every seed: in one program if the grid is of a
weight that can be traced, else one after another. It writes OUT/trainings/*.json and OUT/study.html. The same command
goes on where it was stopped, and one with more values or seeds trains those that are missing. A training that diverges
is left out, and the others go on.

With --name all weights and seeds of a system are trained in one program. For every system it writes OUT/SYSTEM.json
(each member's figures and curves) and pictures of its first member; then OUT/study.html and a table of mean and spread
of all systems that are in OUT. A system that is there is not trained again. --record also writes the table to
results/study_NAME.json.
"""

import contextlib
import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict

from dgm_jax import config as experiment
from dgm_jax.errors import DIVERGED, Halt, UserError
from dgm_jax.internal.files import read_text
from dgm_jax.internal.words import named
from dgm_jax.runtime import cli

__all__ = ['define_flags', 'grid_of', 'main', 'run']

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

NAMED = ('only', 'weights', 'steps', 'capacity', 'size', 'record')  # flags of studies alone


def define_flags() -> None:
  """Defines the command line in the module's own flags."""
  experiment.define_flags()
  flags.DEFINE_multi_string('grid', [], 'KEY=VALUE,VALUE,... of a key of the config.')
  flags.DEFINE_enum('name', None, sorted(STUDIES), 'Which study.')
  flags.DEFINE_string('out', '', 'Folder of its figures and pictures; empty: runs/NAME, or runs/study_CONFIG.')
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
  experiment.parse(argv, __doc__)
  args = flags.FLAGS
  if args.name and (args.grid or args.config):
    raise UserError(f'--name={args.name} has a grid of its own: leave --config and --grid out')
  if args.grid or args.config:
    for name in NAMED:
      if getattr(args, name):
        raise UserError(
          f'--{name} goes with --name: with --config set a key, such as --config.steps=100, or leave it out'
        )
    _study_grid(experiment.value(), args)
    return
  if not args.name:
    raise UserError(f'no study given; add --config=NAME --grid KEY=VALUES, or --name={sorted(STUDIES)[0]}')
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


def _study_grid(config: ConfigDict, args: Any) -> None:
  """Trains what is missing of a grid, and writes the page and the table."""
  grid = grid_of(config, args.grid)
  experiment.check(config)

  from dgm_jax.pages import grid_study
  from dgm_jax.runtime import cluster, cpu, lock
  from dgm_jax.training import grid as trainings

  members = trainings.members_of(config, grid, args.seeds)
  title = f'{config.source.removeprefix("configs/")}: {", ".join(grid)}'
  out = Path(args.out or f'runs/study_{Path(config.source.partition(":")[0]).stem}')
  with lock.locked(out, '--out'), _claimed(out, config):
    files = {member: out / 'trainings' / f'{member.name}.json' for member in members}
    missing = [member for member in members if not files[member].exists()]
    weight = trainings.traced_weight(config, grid, missing)
    cluster.start(keep_memory=cpu.large_programs(config), every_core=bool(weight))
    if weight and missing:
      print(f'training {len(missing)} of {title} in one program', flush=True)
      started = time.perf_counter()
      reached = trainings.train_together(config, weight, missing, out / 'states.npz')
      for member, one in zip(missing, reached, strict=True):
        _keep(files[member], member, one, (time.perf_counter() - started) / len(missing))
      (out / 'states.npz').unlink(missing_ok=True)
    else:
      for number, member in enumerate(missing, 1):
        print(f'training {number} of {len(missing)}: {member.name}', flush=True)
        started = time.perf_counter()
        try:
          one = trainings.train_alone(config, member, out / 'runs' / member.name)
        except Halt as halt:
          if halt.code != DIVERGED:
            raise
          print(f'warning: {member.name}: {halt}', file=sys.stderr, flush=True)
          continue
        _keep(files[member], member, one, time.perf_counter() - started)
    pages = [json.loads(read_text(file)) for file in files.values() if file.exists()]
    if not pages:
      raise Halt('every training went wrong: see the lines above', DIVERGED)
    print(grid_study.table(title, pages))
    grid_study.write_page(out / 'study.html', title, pages)
    print(out / 'study.html')
    if wrong := len(files) - len(pages):
      raise Halt(
        f'{wrong} of {len(files)} trainings went wrong and are not in the table: see the lines above', DIVERGED
      )


def _keep(file: Path, member: Any, trained: Any, seconds: float) -> None:
  """Writes what one training has reached."""
  from dgm_jax.runs import workdir

  page = {'settings': member.settings, 'seed': member.seed, **trained._asdict(), 'seconds': round(seconds, 1)}
  workdir.write_json(file, page | workdir.environment())


@contextlib.contextmanager
def _claimed(out: Path, config: ConfigDict) -> Iterator[None]:
  """Notes the experiment in the folder of a study. One that has trained nothing yet may become another.

  If the block ends by a UserError before anything is trained, the note is removed.

  Raises:
    UserError: the folder is of another experiment.
  """
  from dgm_jax.runs import workdir

  note, page = out / 'experiment.json', json.loads(json.dumps(experiment.to_json(config)))
  trained = lambda: any(any(out.glob(kept)) for kept in ('trainings/*.json', 'states.npz', 'runs/*/checkpoints/*'))
  before = json.loads(read_text(note)) if trained() and note.exists() else page
  different = sorted(key for key in (page.keys() | before.keys()) - {'overrides'} if page.get(key) != before.get(key))
  if different:
    raise UserError(f'{out} holds a study of another experiment (config.{different[0]}): take another --out')
  (out / 'trainings').mkdir(exist_ok=True)
  workdir.write_json(note, page)
  try:
    yield
  except UserError:
    if not trained():
      note.unlink()
      (out / 'trainings').rmdir()
    raise


def grid_of(config: ConfigDict, texts: Sequence[str]) -> dict[str, list[Any]]:
  """Reads 'KEY=VALUE,VALUE,...' of the command line, each value of the type that the key has in the config.

  Raises:
    UserError: there is no such key, or it takes no such value.
  """
  if not texts:
    raise UserError('no grid given; add --grid KEY=VALUE,VALUE,... of a key of the config, such as model.beta=1,2,4')
  there, grid = _flat(config), {}
  for text in texts:
    key, sign, values = text.partition('=')
    key = key.removeprefix('config.')
    if key in (*experiment.FILLED_IN, 'seed') or not sign or not values:
      raise UserError(f'--grid {text}: must be KEY=VALUE,VALUE,... of a key of the config that is not the seed')
    if key not in there:
      raise UserError(f'--grid {text}: config has no {named(key, there)}')
    if key in grid:
      raise UserError(f'--grid {text}: {key} is there twice: give all its values in one --grid, with commas between')
    grid[key] = list(dict.fromkeys(_typed(text, part, there[key]) for part in values.split(',')))
  return grid


def _flat(config: ConfigDict, prefix: str = '') -> dict[str, Any]:
  """Returns the keys of a config with dots, and their values."""
  flat: dict[str, Any] = {}
  for key, value in config.items():
    flat |= _flat(value, f'{prefix}{key}.') if isinstance(value, ConfigDict) else {f'{prefix}{key}': value}
  return flat


def _typed(text: str, part: str, like: Any) -> Any:
  """Reads a value as one of the type of `like`."""
  try:
    if isinstance(like, bool):
      return {'true': True, 'false': False}[part.lower()]
    if isinstance(like, int | float | str):
      return type(like)(part)
  except (KeyError, ValueError) as error:
    raise UserError(f'--grid {text}: {part!r} must be of type {type(like).__name__}') from error
  raise UserError(f'--grid {text}: a grid is of numbers, words, True and False, not of a {type(like).__name__}')


def _numbers(texts: list[str]) -> tuple[float, ...]:
  try:
    return tuple(float(text) for text in texts)
  except ValueError as error:
    raise UserError(f'--weights={",".join(texts)} must be numbers with commas between') from error


def run() -> None:
  """Runs the program."""
  define_flags()
  cli.run(main)
