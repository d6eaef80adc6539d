"""The table and the page of a grid of trainings: figures by setting, with their spread over seeds."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dgm_jax.internal import files
from dgm_jax.pages.style import STYLE
from dgm_jax.pages.topics import page as pages

__all__ = ['table', 'write_page']


def table(title: str, found: Sequence[Mapping[str, Any]]) -> str:
  """Formats every combination of settings with its figures, for a terminal."""
  return pages.text('study', pages.Topic(title, '', figures=[_figures(found)]))


def write_page(path: Path, title: str, found: Sequence[Mapping[str, Any]]) -> None:
  """Writes one HTML page that needs no other file.

  Args:
    path: of the page.
    title: of the page.
    found: trainings: their 'settings', 'seed', 'figures', 'seconds'.
  """
  seeds = len({training['seed'] for training in found})
  text = 'Figures are of the test split. ' + (
    f'They are means over {seeds} seeds, with the standard deviation.' if seeds > 1 else 'There is one seed.'
  )
  topic = pages.Topic('Figures', text, figures=[_figures(found)], charts=_charts(found))
  seconds = sum(training['seconds'] for training in found)
  lead = f'{len(found)} trainings of {found[0]["steps"]} steps; {seconds:.0f} seconds'
  files.write_atomic(path, pages.document({'figures': topic}, {'figures': seconds}, STYLE, title, lead).encode())


def _figures(found: Sequence[Mapping[str, Any]]) -> pages.Figures:
  names = list(found[0]['figures'])
  rows = []
  for settings in _settings(found):
    same = [training['figures'] for training in found if training['settings'] == settings]
    columns = [[float(figures[name]) for figures in same] for name in names]
    rows.append([*(f'{value:g}' if isinstance(value, float) else str(value) for value in settings.values()),
                 *(_told(column) for column in columns)])  # fmt: skip
  return pages.Figures('By setting', [*found[0]['settings'], *names], rows)


def _told(column: Sequence[float]) -> str:
  """Formats a mean, with the deviation if there are several."""
  mean = f'{statistics.fmean(column):.5g}'
  return mean + (f' +- {statistics.stdev(column):.2g}' if len(column) > 1 else '')


def _charts(found: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, list[tuple[float, float]]]]:
  """Returns a chart of every figure by the setting, a line for each seed, if the grid is of one number."""
  keys = list(found[0]['settings'])
  if len(keys) > 1 or not all(type(training['settings'][keys[0]]) in (int, float) for training in found):
    return {}
  charts: dict[str, dict[str, list[tuple[float, float]]]] = {}
  for training in sorted(found, key=lambda training: training['settings'][keys[0]]):
    for name, value in training['figures'].items():
      series = charts.setdefault(f'{name} by {keys[0]}', {}).setdefault(f'seed {training["seed"]}', [])
      series.append((float(training['settings'][keys[0]]), float(value)))
  return charts


def _settings(found: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
  settings: list[dict[str, Any]] = []
  for training in found:
    if training['settings'] not in settings:
      settings.append(training['settings'])
  return settings
