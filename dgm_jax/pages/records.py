"""The records of results/: their schema, how older ones are brought to it, and what they say of each run.

Nothing here imports JAX.
"""

import json
import os
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from dgm_jax.errors import UserError
from dgm_jax.internal import metrics, older
from dgm_jax.internal.files import read_text, write_atomic
from dgm_jax.pages import catalogue

__all__ = ['FIELDS', 'OPTIONAL', 'SCHEMA', 'STUDY_FIELDS', 'Run', 'load', 'migrate', 'read']

SCHEMA = 2
OTHERS = ('accelerator_', 'bench_', 'faults', 'mutants', 'parameters')  # records of other things than trained systems
STUDY = 'study_'
# The fields of a run's record, in their order, and of each system of a study's.
FIELDS = (
  'schema', 'system', 'config', 'overrides', 'seed', 'settings', 'data', 'split', 'device', 'steps', 'examples_seen',
  'wall_seconds', 'versions', 'trained_at', 'measured_at', 'weights', 'parameters', 'metrics', 'samples',
  'evaluation_seconds',
)  # fmt: skip
STUDY_FIELDS = (
  'schema', 'config', 'system', 'settings', 'parameters', 'size', 'steps', 'weight', 'factors', 'wall_seconds',
  'versions', 'python', 'device', 'devices', 'processes', 'trained_at', 'measured_at', 'found',
)  # fmt: skip
# `renamed`: metrics that had another name when they were measured; `settings_from`: where they were not noted then.
# `checkpoint`: latest, best or a step, where it was noted.
OPTIONAL = ('renamed', 'settings_from', 'checkpoint', 'capacity_nats', 'opened')
CONFIG_FILE = 'the config file at the commit measured_at'


class Run(NamedTuple):
  """What a record says of one run, or of all seeds of one weight of a study."""

  name: str  # of the file, and of the system and weight in it
  page: Mapping[str, Any]  # with the fields of a run's record
  seeds: int = 1


def load(path: str | os.PathLike) -> dict[str, Any]:
  """Reads the JSON of a file, {} if there is no such file.

  Raises:
    UserError: it is not JSON.
  """
  path = Path(path)
  try:
    return json.loads(read_text(path))
  except FileNotFoundError:
    return {}
  except ValueError as error:
    raise UserError(f'{path}: not JSON ({error}); write it again or remove it') from error


def read(folder: str | os.PathLike) -> list[Run]:
  """Reads all runs of the records in a folder, in the order of the files' names.

  Raises:
    UserError: a record is not JSON, or has not the fields of today's schema.
  """
  runs = []
  for path in sorted(Path(folder).glob('*.json')):
    if path.name.startswith(OTHERS):
      continue
    page = load(path)
    if path.name.startswith(STUDY):
      for name, one in page.items():
        check(f'{path}, {name}', one, STUDY_FIELDS)
        runs += _of_study(f'{path.stem}, {name}', one)
    else:
      check(str(path), page, FIELDS)
      runs.append(Run(path.stem, page | {'settings': older.renamed(page['settings'])}))
  return runs


def check(where: str, page: Mapping[str, Any], fields: tuple[str, ...]) -> None:
  """Refuses a record with fields that the program does not write, or without some that it does.

  Raises:
    UserError: names the field.
  """
  if page.get('schema') != SCHEMA:
    raise UserError(f'{where}: the record has schema {page.get("schema")}: run python -m dgm_jax.report --migrate')
  for field in fields:
    if field not in page:
      raise UserError(f"{where}: the record has no '{field}'; write it again with --record")
  for field in page:
    if field not in fields + OPTIONAL:
      raise UserError(f"{where}: the program writes no field '{field}'; take it out")


def _of_study(name: str, page: Mapping[str, Any]) -> list[Run]:
  """Returns the weights of a system as runs. Their figures are means over the seeds."""
  runs = []
  for weight, figures in page['found'].items():
    key, _, value = weight.partition(' ')
    size = page['settings']['data']['size']
    changes = [f'model.{key}={float(value)}', *([f'data.size={size}'] if size else [])]
    settings = page['settings'] | {'model': page['settings']['model'] | {key: float(value)}}
    run = {
      'system': page['system'], 'config': page['config'], 'overrides': changes, 'settings': settings,
      'data': settings['data']['name'], 'split': 'test', 'device': f'{page["devices"]} x {page["device"]}',
      'steps': page['steps'], 'parameters': page['parameters'], 'samples': {},
      'metrics': {metric: figure['mean'] for metric, figure in figures.items()},
      'spread': {metric: figure['spread'] for metric, figure in figures.items()},
    }  # fmt: skip
    seeds = len(next(iter(figures.values()))['each'])
    runs.append(Run(f'{name}, {weight}', run, seeds))
  return runs


def migrate(folder: str | os.PathLike) -> list[Path]:
  """Brings the records of a folder to today's schema, and returns those that were changed.

  Published figures, which an older record copied from its config, are dropped: they are in published.toml. The
  experiment is read from the config file at the record's commit. The commit that trained and the number of parameters
  are null if they were not recorded.

  Raises:
    UserError: a record is not JSON, or its config file is not in the history.
  """
  changed = []
  for path in sorted(Path(folder).glob('*.json')):
    if path.name.startswith(OTHERS):
      continue
    page = load(path)
    study = path.name.startswith(STUDY)
    new = {name: migrated_study(one) for name, one in page.items()} if study else migrated(page)
    if new != page:
      write_atomic(path, (json.dumps(new, indent=2) + '\n').encode())
      changed.append(path)
  return changed


def migrated(page: dict[str, Any], shown: Callable[[str, str], str] | None = None) -> dict[str, Any]:
  """Returns a run's record in today's schema. `shown(commit, path)` gives the text of a file at a commit."""
  if page.get('schema') == SCHEMA:
    return page
  text = (shown or at_commit)(page['commit'], page['config'].partition(':')[0])
  settings = catalogue.essence(catalogue.read_text(text, page['config'], page['overrides']))
  names = {name: metrics.named(name, page['system'], settings['conditional']) for name in page['metrics']}
  new = page | {
    'schema': SCHEMA, 'settings': settings, 'trained_at': None, 'measured_at': page['commit'], 'parameters': None,
    'weights': page.get('weights'), 'metrics': {names[name]: value for name, value in page['metrics'].items()},
  }  # fmt: skip
  renamed = {new_name: old for old, new_name in names.items() if old != new_name}
  ordered = {field: new[field] for field in FIELDS} | {'settings_from': CONFIG_FILE}
  return ordered | ({'renamed': renamed} if renamed else {})


def migrated_study(page: dict[str, Any], shown: Callable[[str, str], str] | None = None) -> dict[str, Any]:
  """Returns the record of a study's system in today's schema."""
  if page.get('schema') == SCHEMA:
    return page
  text = (shown or at_commit)(page['commit'], page['config'].partition(':')[0])
  config = catalogue.read_text(text, page['config'])
  native = config.data.size or 64  # pixels a side of sprites
  config.data.size = config.data.size if page['size'] == native else page['size']
  commit = page['commit']
  new = page | {'schema': SCHEMA, 'settings': catalogue.essence(config), 'parameters': None}
  new |= {'trained_at': commit, 'measured_at': commit, 'settings_from': CONFIG_FILE}
  return {field: new[field] for field in (*STUDY_FIELDS, *OPTIONAL) if field in new}


def at_commit(commit: str, path: str) -> str:
  """Returns the text of a file of the repository at a commit.

  Raises:
    UserError: the history has no such file.
  """
  command = ['git', 'show', f'{commit}:{path}']
  done = subprocess.run(command, cwd=catalogue.ROOT, capture_output=True, text=True)
  if done.returncode:
    raise UserError(f'{path} at commit {commit} is not in the history: migrate in a whole clone of the repository')
  return done.stdout
