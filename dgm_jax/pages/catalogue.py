"""The experiments of configs/, by name: read, changed as the command line would, and reduced to what is trained.

Nothing here imports JAX.
"""

import ast
import hashlib
import json
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from dgm_jax import config as experiment
from dgm_jax.errors import UserError
from dgm_jax.internal.files import import_file

__all__ = ['ROOT', 'essence', 'read', 'read_text', 'size_key']

ROOT = Path(__file__).parents[2]  # of a clone, where configs/ is
MATTER = (
  'system',
  'conditional',
  'data',
  'model',
  'optimizer',
  'batch_size',
  'dtype',
)  # what a figure depends on, length aside
SIZE = ('system', 'conditional', 'model')  # what the number of parameters depends on, with SHAPE
SHAPE = ('name', 'size', 'channels')
FILLED_IN = [key.removeprefix('data.') for key in experiment.FILLED_IN if key.startswith('data.')]
SPEED = ('memory', 'remat', 'unroll', 'chunk')  # settings of networks that change no number but by rounding


def read(source: str, overrides: Iterable[str] = ()) -> ConfigDict:
  """Reads the experiment 'configs/FILE.py:VARIANT' of this clone, with its changes.

  Raises:
    UserError: there is no such file, or no such key.
  """
  path = ROOT / source.partition(':')[0]
  experiment.require(path.exists(), f'{path} is not there: run this in a clone of the repository')
  return _read(path, source, overrides)


def read_text(text: str, source: str, overrides: Iterable[str] = ()) -> ConfigDict:
  """Reads the same from the text of the config file.

  Raises:
    UserError: there is no such key.
  """
  with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / Path(source.partition(':')[0]).name
    path.write_text(text, encoding='utf-8')
    return _read(path, source, overrides)


def _read(path: Path, source: str, overrides: Iterable[str]) -> ConfigDict:
  config = import_file(path).get_config(*filter(None, [source.partition(':')[2]]))
  if 'published' in config:  # of files from before figures had a table
    del config.published
  for change in overrides:
    override(config, change)
  config.source, config.overrides = source, tuple(overrides)
  return config


def override(config: ConfigDict, change: str) -> None:
  """Makes one change 'KEY.KEY=VALUE'. The new value has the type of the old one.

  Raises:
    UserError: there is no such key.
  """
  path, _, text = change.partition('=')
  *parents, key = path.split('.')
  inner: Any = config
  for parent in parents:
    inner = inner.get(parent) if isinstance(inner, ConfigDict) else None
  if not isinstance(inner, ConfigDict) or key not in inner:
    raise UserError(f"'{change}' changes a key that is not there; name one of the config's")
  inner[key] = text if isinstance(inner[key], str) else ast.literal_eval(text)


def essence(config: ConfigDict) -> dict:
  """Returns what a run's figures depend on, except length and seed, as JSON data with all defaults filled in."""
  page = {key: experiment.to_json(config)[key] for key in MATTER}
  data = json.loads(json.dumps(experiment.defaults().data.to_dict())) | page['data']
  page['data'] = {key: value for key, value in data.items() if key not in (*FILLED_IN, 'where')}
  page['model'] = _without(page['model'], SPEED)
  page['optimizer'] = {player: experiment.optimizer() | settings for player, settings in page['optimizer'].items()}
  return json.loads(json.dumps(page))


def size_key(settings: Mapping) -> str:
  """Returns a name for all experiments whose networks have the same parameters, from their `essence`."""
  kept = {key: settings[key] for key in SIZE} | {'data': {key: settings['data'][key] for key in SHAPE}}
  return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:16]


def _without(page, names: Iterable[str]):
  if not isinstance(page, dict):
    return page
  return {key: _without(value, names) for key, value in page.items() if key not in names}
