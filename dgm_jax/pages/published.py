"""Published figures, and which run may stand beside which: dgm_jax/pages/published.toml, row by row.

A run finds a row as its own only where system, data, network, conditioning, optimizer and batch are those of the
experiment that the row names; how long it was trained is told beside it.
"""

import functools
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from dgm_jax.errors import UserError
from dgm_jax.pages import catalogue

__all__ = ['NEAR', 'OWN', 'SMALLER', 'Row', 'Table', 'filled', 'find', 'relation', 'settings', 'tables']

OWN, SMALLER, NEAR = 'own', 'smaller network', 'near'
PROTOCOL = ('name', 'train', 'test', 'size', 'channels', 'invert', 'preprocess')  # of data, also for smaller networks

FILES = ('mat:',)  # names of files whose reader takes no other set


class Row(NamedTuple):
  """A line of a table: figures, and the experiment that they are about."""

  name: str
  figures: Mapping[str, float | str]  # metric -> number, or words
  data: str
  protocol: str
  source: str
  network: str = ''
  parameters: str = ''  # as published
  config: str = ''  # the experiment of the same network, data and protocol, or ''
  nearest: str = ''  # where one of them is another
  overrides: tuple[str, ...] = ()
  smaller: tuple[str, ...] = ()
  differs: str = ''
  samples: int = 0  # importance samples of the likelihood; 0: it takes none

  @property
  def experiment(self) -> str:
    """The name of the experiment, '' where there is none."""
    return self.config or self.nearest


class Table(NamedTuple):
  """A table of the deck or of papers."""

  title: str
  slide: str
  rows: tuple[Row, ...]


@functools.cache
def tables() -> tuple[Table, ...]:
  """Returns all tables, in the order of the file."""
  page = tomllib.loads((Path(__file__).parent / 'published.toml').read_text(encoding='utf-8'))
  return tuple(_table(one) for one in page['table'])


def _table(page: Mapping) -> Table:
  shared = {key: page.get(key, '') for key in ('source', 'data', 'protocol', 'differs')}
  shared |= {'samples': page.get('samples', 0)}
  return Table(page['title'], page['slide'], tuple(_row(shared | row) for row in page['row']))


def _row(page: dict) -> Row:
  lists = {'overrides': tuple(page.get('overrides', ())), 'smaller': tuple(map(_source, page.get('smaller', ())))}
  return Row(**page | lists | {key: _source(page.get(key, '')) for key in ('config', 'nearest')})


def _source(name: str) -> str:
  """Returns 'configs/FILE.py:VARIANT' for 'FILE:VARIANT', '' for ''."""
  file, colon, variant = name.partition(':')
  return f'configs/{file}.py{colon}{variant}' if name else ''


@functools.cache
def settings(source: str, overrides: tuple[str, ...] = ()) -> dict:
  """Returns the `catalogue.essence` of an experiment of this clone.

  Raises:
    UserError: there is no such file.
  """
  return catalogue.essence(catalogue.read(source, overrides))


def relation(row: Row, source: str, trained: Mapping, samples: int = 0) -> str:
  """Returns how a run belongs to a row: OWN, NEAR, SMALLER, or '' if it does not.

  NEAR means that training, measurement or protocol is another.

  Args:
    row: a published figure.
    source: the run's experiment, 'configs/FILE.py:VARIANT'.
    trained: its `catalogue.essence`.
    samples: importance samples of its likelihood; 0 if none is known.

  Raises:
    UserError: the row's experiment is not there.
  """
  if not row.experiment:
    return ''
  main, trained = settings(row.experiment, row.overrides), filled(trained)
  if main == trained:
    return OWN if row.config and samples in (0, row.samples or samples) else NEAR
  alike = all(main[key] == trained[key] for key in ('system', 'conditional'))
  alike = alike and all(main['data'][key] == trained['data'][key] for key in PROTOCOL)
  if alike and main['model'] == trained['model']:
    return NEAR  # trained otherwise
  return SMALLER if alike and source in row.smaller and _same_weights(source, trained) else ''


def filled(trained: Mapping) -> dict:
  """Returns a run's settings, with those that older records lack as they then were."""
  added = {'clip_value': 0.0, 'skip_norm': 0.0}
  players = {player: added | dict(settings) for player, settings in trained['optimizer'].items()}
  data = {'pad': 0} | dict(trained['data'])
  if data['name'].startswith(FILES):  # a set of its own, wherever its file lies
    kind, _, path = data['name'].partition(':')
    data['name'] = f'{kind}:{Path(path).name}'
  return {'dtype': 'float32'} | dict(trained) | {'optimizer': players, 'data': data}


def _same_weights(source: str, trained: Mapping) -> bool:
  """Returns whether the numbers of a run's objective are those of its variant: a weight makes no network smaller."""
  variant = settings(source)['model']
  return all(trained['model'].get(key) == value for key, value in variant.items() if isinstance(value, float))


def find(source: str, trained: Mapping, samples: int = 0) -> dict[str, tuple[float, Row]]:
  """Returns the published numbers of a run's own row: metric -> (number, row).

  They are {} if there is no such row, or no clone of configs/.
  """
  try:
    own = [row for table in tables() for row in table.rows if relation(row, source, trained, samples) == OWN]
  except UserError:
    return {}
  return {
    metric: (float(value), row)
    for row in own
    for metric, value in row.figures.items()
    if not isinstance(value, str)
  }  # fmt: skip
