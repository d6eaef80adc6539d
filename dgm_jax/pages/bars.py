"""Figures of each class, layer or step of a model, as bars side by side."""

import html
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from dgm_jax.pages import svg

__all__ = ['bars', 'families']

PART = re.compile(r'_(class|layer|level|step)_(\d+)')


def families(figures: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, dict[int, float]]]:
  """Groups figures whose names differ by the number of a class, layer, level or step alone.

  Args:
    figures: column, such as a split or a run -> name -> value.

  Returns:
    name without the number, 'fid_classifier by class' -> column -> number -> value. A name that only one part has is
    left out, as are lists.
  """
  groups: dict[str, dict[str, dict[int, float]]] = {}
  for column, values in figures.items():
    for name, value in values.items():
      if (match := PART.search(name)) and not isinstance(value, list | str):
        family = f'{name[: match.start()]}{name[match.end() :]} by {match[1]}'
        groups.setdefault(family, {}).setdefault(column, {})[int(match[2])] = float(value)
  return {name: columns for name, columns in groups.items() if len(set().union(*columns.values())) > 1}


def bars(title: str, columns: Mapping[str, Mapping[int, float]]) -> str:
  """Draws a `<figure>` with a group of bars for each number, a bar for each column.

  Values that are not finite have no bar, and the caption says how many there are.

  Args:
    title: shown above, escaped.
    columns: name -> number -> value.

  Returns:
    HTML with one `<svg>`; the caption gives the mean of each column.
  """
  colours = svg.colours(columns)
  numbers = sorted(set().union(*columns.values()))
  finite = [value for values in columns.values() for value in values.values() if math.isfinite(value)]
  low, high = min([0.0, *finite]), max([0.0, *finite])
  scale = (low, high if high > low else low + 1.0)
  room = svg.WIDTH / len(numbers)
  width = 0.8 * room / len(columns)
  marks = []
  for place, number in enumerate(numbers):
    for index, (name, values) in enumerate(columns.items()):
      if math.isfinite(value := values.get(number, math.nan)):
        left = room * (place + 0.1) + width * index
        marks.append(_bar(left, width, value, scale, colours[name], f'{name}, {number}'))
    middle = round(room * (place + 0.5), 2)
    marks.append(f'<text x="{middle}" y="{svg.HEIGHT + 15}" text-anchor="middle">{number}</text>')
  caption = ' '.join(_legend(name, list(values.values()), colours[name]) for name, values in columns.items())
  frame = f'<rect class="frame" width="{svg.WIDTH}" height="{svg.HEIGHT}"/>'
  across = title.rpartition(' by ')[2]
  return svg.figure(title, f'{svg.heights(scale)}{"".join(marks)}{frame}', caption, across, svg.unit(title))


def _bar(left: float, width: float, value: float, scale: tuple[float, float], colour: str, label: str) -> str:
  """Draws a bar from 0 to a value."""
  at = lambda y: svg.HEIGHT * (scale[1] - y) / (scale[1] - scale[0])
  top, bottom = sorted((at(value), at(0.0)))
  return (
    f'<rect x="{left:.2f}" y="{top:.2f}" width="{width:.2f}" height="{bottom - top:.2f}" fill="{colour}">'
    f'<title>{html.escape(label)}: {value:.5g}</title></rect>'
  )


def _legend(name: str, values: Sequence[float], colour: str) -> str:
  """Formats the column's name in its colour, the mean of its values, and the number of values without a bar."""
  finite = [value for value in values if math.isfinite(value)]
  mean = f' mean <b>{sum(finite) / len(finite):.5g}</b>' if finite else ''
  missing = f', {len(values) - len(finite)} not finite' if len(finite) < len(values) else ''
  return f'<span><i style="background:{colour}"></i>{html.escape(name)}{mean}{missing}</span>'
