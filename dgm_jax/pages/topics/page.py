"""Topics as text and as one HTML page: tables of predicted and measured figures, charts and pictures."""

import base64
import html
import io
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from dgm_jax.pages import frame, svg

__all__ = ['Figures', 'Row', 'Topic', 'document', 'text']

HEADER = ('', 'predicted', 'measured', 'may differ by')


class Row(NamedTuple):
  """A figure that is predicted, and what was measured."""

  name: str
  predicted: float
  measured: float
  tolerance: float  # how far they may differ

  @property
  def holds(self) -> bool:
    """Whether the measured figure is within the tolerance of the predicted one."""
    return abs(self.measured - self.predicted) <= self.tolerance


class Figures(NamedTuple):
  """Measured figures that nothing predicts."""

  title: str
  header: Sequence[str]
  rows: Sequence[Sequence[str | float]]


class Topic(NamedTuple):
  """What a topic shows."""

  title: str
  text: str
  rows: Sequence[Row] = ()
  figures: Sequence[Figures] = ()
  charts: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]] = {}  # title -> series -> points
  pictures: Mapping[str, np.ndarray] = {}  # title -> uint8 [H, W, 1 or 3]


def text(name: str, topic: Topic) -> str:
  """Formats the topic's tables for a terminal."""
  lines = [f'== {topic.title} ({name})']
  if topic.rows:
    rows = [[*_row(row), '' if row.holds else 'DOES NOT HOLD'] for row in topic.rows]
    missed = [number for number, row in enumerate(topic.rows) if not row.holds]
    lines.append(frame.terminal((*HEADER, ''), rows, missed=missed))
  for table in topic.figures:
    lines += [table.title, frame.terminal(table.header, [[_number(cell) for cell in row] for row in table.rows])]
  return '\n'.join(lines)


def document(title: str, topics: Mapping[str, Topic], seconds: Mapping[str, float]) -> str:
  """Formats one HTML page that needs no other file."""
  body = ''.join(_section(name, topic, seconds[name]) for name, topic in topics.items())
  missed = [f'{name}: {row.name}' for name, topic in topics.items() for row in topic.rows if not row.holds]
  count = sum(len(topic.rows) for topic in topics.values())
  hold = [f'{count - len(missed)} of {count} predicted figures hold'] if count else []
  lead = '; '.join([*hold, f'{sum(seconds.values()):.0f} seconds'])
  return frame.document(title, f'<p class="lead">{html.escape(lead)}</p>', body, 'section > h3 { margin-top: 1.2em }')


def _section(name: str, topic: Topic, seconds: float) -> str:
  missed = [number for number, row in enumerate(topic.rows) if not row.holds]
  tables = frame.table(HEADER, map(_row, topic.rows), missed=missed) if topic.rows else ''
  for figures in topic.figures:
    cells = [[_number(cell) for cell in row] for row in figures.rows]
    tables += f'<h3>{html.escape(figures.title)}</h3>{frame.table(figures.header, cells)}'
  charts = frame.charts(_chart(title, series) for title, series in topic.charts.items())
  pictures = ''.join(_picture(title, image) for title, image in topic.pictures.items())
  spent = f'<p class="lead">{seconds:.1f} seconds</p>' if seconds else ''
  return (
    f'<section id="{name}"><h2>{html.escape(topic.title)}</h2><p>{html.escape(topic.text)}</p>'
    f'{spent}{tables}{charts}<div class="pictures">{pictures}</div></section>'
  )


def _chart(title: str, series: Mapping[str, Sequence[tuple[float, float]]]) -> str:
  """Draws a chart. A title 'y by x' names the horizontal axis, which counts steps otherwise."""
  _, by, across = title.rpartition(' by ')
  return svg.chart(title, series, across if by else 'step')


def _row(row: Row) -> list[str]:
  return [row.name, _number(row.predicted), _number(row.measured), f'{row.tolerance:.2g}']


def _picture(title: str, image: np.ndarray) -> str:
  data = io.BytesIO()
  Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(data, 'png')
  source = 'data:image/png;base64,' + base64.b64encode(data.getvalue()).decode()
  return f'<figure><h3>{html.escape(title)}</h3><img alt="{html.escape(title)}" src="{source}"></figure>'


def _number(value: str | float) -> str:
  if isinstance(value, str):
    return value
  return f'{value:.8g}' if math.isfinite(value) else str(value)
