"""Topics as text and as one HTML page: tables of predicted and measured figures, charts and pictures."""

import base64
import html
import io
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from dgm_jax.pages import svg

__all__ = ['Figures', 'Row', 'Topic', 'document', 'text']


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
    width = max(len(row.name) for row in topic.rows)
    lines.append(f'  {"":{width}}  {"predicted":>13}  {"measured":>13}  {"may differ by":>13}')
    lines += [
      f'  {row.name:{width}}  {_number(row.predicted):>13}  {_number(row.measured):>13}  {row.tolerance:>13.2g}'
      f'{"" if row.holds else "  DOES NOT HOLD"}'
      for row in topic.rows
    ]
  for table in topic.figures:
    cells = [list(table.header), *([_number(cell) for cell in row] for row in table.rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(table.header))]
    lines.append(f'  {table.title}')
    lines += ['    ' + '  '.join(f'{cell:{width}}' for cell, width in zip(row, widths, strict=True)) for row in cells]
  return '\n'.join(lines)


def document(
  topics: Mapping[str, Topic], seconds: Mapping[str, float], style: str, title: str = 'The theory, run', lead: str = ''
) -> str:
  """Formats one HTML page that needs no other file. Without a lead it says how many predicted figures hold."""
  body = ''.join(_section(name, topic, seconds[name]) for name, topic in topics.items())
  missed = [f'{name}: {row.name}' for name, topic in topics.items() for row in topic.rows if not row.holds]
  count = sum(len(topic.rows) for topic in topics.values())
  lead = lead or f'{count - len(missed)} of {count} predicted figures hold; {sum(seconds.values()):.0f} seconds'
  head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width">'
  head += f'<title>{html.escape(title)}</title>'
  more = '.missed { color: #b00020; font-weight: 600 } h3 { margin-top: 1.2em }'
  return (
    f'<!doctype html><html lang="en"><head>{head}<style>{style}{more}</style></head><body><h1>{html.escape(title)}</h1>'
    f'<p class="lead">{html.escape(lead)}</p>{body}</body></html>\n'
  )


def _section(name: str, topic: Topic, seconds: float) -> str:
  rows = [
    ([row.name, _number(row.predicted), _number(row.measured), f'{row.tolerance:.2g}'], row.holds) for row in topic.rows
  ]
  tables = _table(['', 'predicted', 'measured', 'may differ by'], rows) if rows else ''
  for figures in topic.figures:
    cells = [([_number(cell) for cell in row], True) for row in figures.rows]
    tables += f'<h3>{html.escape(figures.title)}</h3>{_table(figures.header, cells)}'
  charts = ''.join(svg.chart(title, series) for title, series in topic.charts.items())
  pictures = ''.join(_picture(title, image) for title, image in topic.pictures.items())
  return (
    f'<section id="{name}"><h2>{html.escape(topic.title)}</h2><p>{html.escape(topic.text)}</p>'
    f'<p class="lead">{seconds:.1f} seconds</p>{tables}'
    f'<div class="curves">{charts}</div><div class="pictures">{pictures}</div></section>'
  )


def _table(header: Sequence[str], rows: Sequence[tuple[Sequence[str], bool]]) -> str:
  head = ''.join(f'<th>{html.escape(cell)}</th>' for cell in header)
  body = ''.join(
    f'<tr{"" if holds else " class=missed"}>' + ''.join(f'<td>{html.escape(cell)}</td>' for cell in cells) + '</tr>'
    for cells, holds in rows
  )
  return f'<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def _picture(title: str, image: np.ndarray) -> str:
  data = io.BytesIO()
  Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(data, 'png')
  source = 'data:image/png;base64,' + base64.b64encode(data.getvalue()).decode()
  return f'<figure><h3>{html.escape(title)}</h3><img alt="{html.escape(title)}" src="{source}"></figure>'


def _number(value: str | float) -> str:
  if isinstance(value, str):
    return value
  return f'{value:.8g}' if math.isfinite(value) else str(value)
