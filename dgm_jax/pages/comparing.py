"""Runs side by side: figures with the best marked, settings that differ, curves over one another, pictures."""

import html
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dgm_jax.errors import UserError
from dgm_jax.internal.metrics import better
from dgm_jax.pages import frame, records, run_page, svg
from dgm_jax.runs import lines

__all__ = ['compare']

FOLDED = 20  # settings that differ, from which on they are folded away
UNEQUAL = ('source', 'overrides', 'workdir')  # settings that say where others come from


def compare(folders: Sequence[Path]) -> tuple[str, str]:
  """Compares runs: returns tables for the terminal, and a page.

  Raises:
    UserError: a folder has neither figures nor metrics.
  """
  names = _names(folders)
  configs = [records.load(folder / 'config.json') for folder in folders]
  metrics = [lines.read(folder / 'metrics.jsonl') for folder in folders]
  figures = [run_page.columns(folder, logged, both=True) for folder, logged in zip(folders, metrics, strict=True)]
  for folder, values in zip(folders, figures, strict=True):
    if not values:
      raise UserError(f'{folder} has no figures: train into it, or run python -m dgm_jax.evaluate --workdir={folder}')
  rows, best = _rows(figures)
  header = ['', 'measured on', *names]
  rows.insert(0, ['system', '', *(config.get('system', '') for config in configs)])
  best = {(row + 1, column) for row, column in best}
  differing = _differing(configs)
  settings = ['setting', *names]
  text = frame.terminal(header, rows, best)
  if differing:
    text += '\n\n' + frame.terminal(settings, differing)
  shown = {name: _shown(values) for name, values in zip(names, figures, strict=True)}
  sections = (
    ('Figures', frame.table(header, rows, best)),
    ('Settings that differ', _settings(settings, differing)),
    ('By part', run_page.parts(shown)),
    ('Curves', _curves(names, metrics)),
    ('Pictures', _pictures(names, folders)),
  )
  body = ''.join(f'<section><h2>{title}</h2>{content}</section>' for title, content in sections if content)
  lead = (
    '<p class="lead">The best value of a figure is marked where several runs have it and one end is the better one.</p>'
  )
  return text, frame.document(', '.join(names), lead, body)


def _settings(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
  """Formats the settings that differ, folded away if there are many; '' for none."""
  if not rows:
    return ''
  table = frame.table(header, rows)
  return table if len(rows) <= FOLDED else frame.details(f'{len(rows)} settings', table)


def _names(folders: Sequence[Path]) -> list[str]:
  """Returns a name for each folder, with folders above it if several are named alike."""
  resolved = [folder.resolve() for folder in folders]
  for parts in range(1, max(len(path.parts) for path in resolved) + 1):
    names = ['/'.join(path.parts[-parts:]) for path in resolved]
    if len(set(names)) == len(names):
      return names
  return [f'{path.name} ({number})' for number, path in enumerate(resolved, 1)]


def _rows(figures: Sequence[Mapping[str, Mapping]]) -> tuple[list[list[str]], set[tuple[int, int]]]:
  """Returns a row for each figure and what it was measured on, and the cells of the best values.

  What training measured of a split is left out if all runs were evaluated on it.
  """
  columns = dict.fromkeys(column for values in figures for column in values)
  evaluated = {column for column in columns if all(column in values for values in figures)}
  order = ['test', 'valid', 'train', 'test' + run_page.IN_TRAINING, 'valid' + run_page.IN_TRAINING]
  rows, best = [], set()
  for column in sorted(columns, key=lambda column: order.index(column) if column in order else len(order)):
    if column.endswith(run_page.IN_TRAINING) and column.removesuffix(run_page.IN_TRAINING) in evaluated:
      continue
    for name in dict.fromkeys(name for values in figures for name in values.get(column, {})):
      values = [run.get(column, {}).get(name) for run in figures]
      best |= {(len(rows), 2 + place) for place in _best(name, values)}
      rows.append([name, column, *('' if value is None else frame.number(value) for value in values)])
  return rows, best


def _best(name: str, values: Sequence[Any]) -> list[int]:
  """Returns the places of the best values, [] unless two runs or more have one and they differ."""
  scores = {}
  for place, value in enumerate(values):
    if better(name) and value is not None and not isinstance(value, list):
      score = better(name) * float(value)
      scores[place] = score if math.isfinite(score) else -math.inf
  top = max(scores.values(), default=0.0)
  return [place for place in scores if scores[place] == top] if top > min(scores.values(), default=0.0) else []


def _differing(configs: Sequence[Mapping[str, Any]]) -> list[list[str]]:
  """Returns a row for each setting that is not the same in all runs."""
  flat = [run_page.flat(config) for config in configs]
  keys = [key for key in dict.fromkeys(key for values in flat for key in values) if key not in UNEQUAL]
  cells = {key: [json.dumps(values[key]) if key in values else '' for values in flat] for key in keys}
  return [[key, *row] for key, row in cells.items() if len(set(row)) > 1 and not key.startswith('data.digest')]


def _shown(columns: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
  """Returns the figures of a run by which its parts are drawn: of the first of test, valid and others."""
  return next((columns[split] for split in ('test', 'valid') if split in columns), next(iter(columns.values())))


def _curves(names: Sequence[str], metrics: Sequence[Sequence[Mapping[str, Any]]]) -> str:
  """Draws the curves of all runs over one another: a colour for each run, training dashed beside held-out data."""
  own = dict(zip(names, (svg.MORE[1 + place % (len(svg.MORE) - 1)] for place in range(len(names))), strict=True))
  charts: dict[str, dict[str, list]] = {}
  colours: dict[str, str] = {}
  dashed: dict[str, set[str]] = {}
  for name, logged in zip(names, metrics, strict=True):
    for quantity, series in run_page.quantities(logged).items():
      for split, points in series.items():
        label = f'{name}: {split}'
        charts.setdefault(quantity, {})[label] = points
        colours[label] = own[name]
        dashed[quantity] = dashed.get(quantity, set()) | ({label} if split.startswith('train') else set())
  beside = lambda quantity, series: dashed[quantity] if series.keys() > dashed[quantity] else ()
  several = lambda series: {label: colours[label] for label in series}
  return frame.charts(
    svg.chart(quantity, series, own=several(series), dashed=beside(quantity, series))
    for quantity, series in charts.items()
  )


def _pictures(names: Sequence[str], folders: Sequence[Path]) -> str:
  """Embeds the pictures of all runs, a row for each picture and a column for each run."""
  pictures_of = [run_page.picture_steps(folder / 'pictures') for folder in folders]
  rows = ''
  for picture in dict.fromkeys(picture for own in pictures_of for picture in own):
    shown = [run_page.picture(picture, own[picture], False) if picture in own else 'none' for own in pictures_of]
    pairs = zip(names, shown, strict=True)
    cells = ''.join(f'<div><h4>{html.escape(name)}</h4>{content}</div>' for name, content in pairs)
    rows += f'<h3>{html.escape(picture.replace("_", " "))}</h3><div class="sides">{cells}</div>'
  return rows
