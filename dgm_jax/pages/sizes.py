"""Counts the parameters of the networks that the tables of figures speak of: writes results/parameters.json.

Usage: python -m dgm_jax.sizes [--results=results]

Counted are the experiments of dgm_jax/pages/published.toml and those of the records, by the shapes that training would
begin with; nothing is trained. What is in the file is not counted again. An experiment whose data is not on this
machine is left out.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from absl import flags

from dgm_jax import config as experiment
from dgm_jax import errors
from dgm_jax.pages import catalogue, published, records
from dgm_jax.runtime import cli

__all__ = ['FILE', 'define_flags', 'main', 'run', 'total']

flags.disclaim_key_flags()  # --help lists them as the flags of the program that calls `run`

FILE = 'parameters.json'
# Of sets that need not be on this machine for their networks to be counted.
SHAPES = {
  'mnist': (28, 28, 1), 'mat:chardata.mat': (28, 28, 1), 'omniglot': (105, 105, 3), 'cifar10': (32, 32, 3),
  'cifar100': (32, 32, 3),
  'imagenet_resized/64x64': (64, 64, 3), 'imagenet2012': (128, 128, 3), 'folder:ffhq': (1024, 1024, 3),
  'folder:faces': (32, 32, 1), 'folder:chairs': (64, 64, 3), 'shapes3d': (64, 64, 3),
}  # fmt: skip


def define_flags() -> None:
  """Defines the command line in the module's own flags."""
  flags.DEFINE_string('results', 'results', 'Folder of the records.')


def main(argv: list[str]) -> None:
  """Counts what is not counted, and drops what no table contains any more."""
  experiment.parse(argv, __doc__)
  folder = Path(flags.FLAGS.results)
  old, new = records.load(folder / FILE), {}
  for source, settings in spoken_of(folder):
    key = catalogue.size_key(settings)
    if key in new:
      continue
    row = old.get(key) or {'config': source, 'parameters': counted(settings)}
    if row['parameters'] is not None:
      new[key] = row
    text = 'its data is not there' if row['parameters'] is None else f'{total(row["parameters"]):,}'
    print(f'{source}: {text}', file=sys.stderr)
  records.write_atomic(folder / FILE, (json.dumps(new, indent=2) + '\n').encode())
  print(f'{folder / FILE}: {len(new)} experiments')


def spoken_of(folder: Path) -> Iterator[tuple[str, dict]]:
  """Returns (name, essence) of every experiment that has a row, and of every record."""
  for row in (row for table in published.tables() for row in table.rows):
    if row.experiment:
      yield row.experiment, published.settings(row.experiment, row.overrides)
  for run in records.read(folder):
    yield run.page['config'], run.page['settings']


def counted(settings: Mapping) -> dict[str, int] | None:
  """Counts the parameters of each network of an experiment, from its `catalogue.essence`.

  The result is None if the experiment's data is missing.
  """
  from dgm_jax import data, systems
  from dgm_jax.runs import workdir
  from dgm_jax.runtime import parallel

  config = experiment.defaults()
  config.update(experiment.from_json(settings))
  config.steps = 1
  for player in config.optimizer.values():
    player.update({'schedule': 'constant', 'stage_rates': ()})  # which may depend on the length, the parameters not
  with config.unlocked():
    try:
      config.data.shape = shape(data, config)
    except errors.UserError:
      return None
  return workdir.count(workdir.shapes(systems.build(config), config, parallel.mesh(1)).params)


def shape(data: Any, config: Any) -> tuple[int, ...]:
  """Returns the shape of an example."""
  if config.data.name not in SHAPES:
    return tuple(data.load(config.data, 'train').shape)
  stored = SHAPES[config.data.name]
  side = (config.data.size,) * 2 if config.data.size else stored[:2]
  return (*side, config.data.channels or stored[2])


def total(parameters: Mapping[str, int]) -> int:
  """Returns the number of parameters of all networks together."""
  return sum(parameters.values())


def run() -> None:
  """Runs the program."""
  define_flags()
  cli.run(main)
