"""The table and the page of a grid of trainings: figures by setting, with their spread over seeds."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dgm_jax.internal import files
from dgm_jax.pages.topics import page as pages

__all__ = ['table', 'write_page']


def table(title: str, trainings: Sequence[Mapping[str, Any]]) -> str:
  """Formats every combination of settings with its figures, for a terminal."""
  return pages.text('study', pages.Topic(title, '', figures=[_figures(trainings)]))


def write_page(path: Path, title: str, trainings: Sequence[Mapping[str, Any]]) -> None:
  """Writes one HTML page that needs no other file.

  Args:
    path: of the page.
    title: of the page.
    trainings: trainings: their 'settings', 'seed', 'figures', 'seconds'.
  """
  seeds = len({training['seed'] for training in trainings})
  text = 'Figures are of the test split. ' + (
    f'They are means over {seeds} seeds, with the standard deviation.' if seeds > 1 else 'There is one seed.'
  )
  text = f'{len(trainings)} trainings of {trainings[0]["steps"]} steps. {text}'
  topic = pages.Topic('Figures', text, figures=[_figures(trainings)], charts=_charts(trainings))
  seconds = sum(training['seconds'] for training in trainings)
  files.write_atomic(path, pages.document(title, {'figures': topic}, {'figures': seconds}).encode())


def _figures(trainings: Sequence[Mapping[str, Any]]) -> pages.Figures:
  names = list(trainings[0]['figures'])
  rows = []
  for settings in _settings(trainings):
    same = [training['figures'] for training in trainings if training['settings'] == settings]
    columns = [[float(figures[name]) for figures in same] for name in names]
    rows.append([*(f'{value:g}' if isinstance(value, float) else str(value) for value in settings.values()),
                 *(_with_spread(column) for column in columns)])  # fmt: skip
  return pages.Figures('By setting', [*trainings[0]['settings'], *names], rows)


def _with_spread(column: Sequence[float]) -> str:
  """Formats a mean, with the deviation if there are several."""
  mean = f'{statistics.fmean(column):.5g}'
  return mean + (f' +- {statistics.stdev(column):.2g}' if len(column) > 1 else '')


def _charts(trainings: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, list[tuple[float, float]]]]:
  """Returns a chart of every figure by the setting, a line for each seed, if the grid is of one number."""
  keys = list(trainings[0]['settings'])
  if len(keys) > 1 or not all(type(training['settings'][keys[0]]) in (int, float) for training in trainings):
    return {}
  charts: dict[str, dict[str, list[tuple[float, float]]]] = {}
  for training in sorted(trainings, key=lambda training: training['settings'][keys[0]]):
    for name, value in training['figures'].items():
      series = charts.setdefault(f'{name} by {keys[0]}', {}).setdefault(f'seed {training["seed"]}', [])
      series.append((float(training['settings'][keys[0]]), float(value)))
  return charts


def _settings(trainings: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
  settings: list[dict[str, Any]] = []
  for training in trainings:
    if training['settings'] not in settings:
      settings.append(training['settings'])
  return settings
