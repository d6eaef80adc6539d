"""Curves as inline SVG, without a plotting library and without scripts, and what other charts share with them."""

import html
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence

__all__ = ['chart', 'colours', 'figure', 'heights']

Points = Sequence[tuple[float, float]]
COLOURS = {'train': '#2563a8', 'valid': '#d9822b', 'test': '#2b8a4b'}
OTHER = '#555'
MORE = (OTHER, '#c0392b', '#2563a8', '#2b8a4b', '#8e44ad', '#d9822b', '#0e8f96', '#b8860b', '#d6336c', '#7f8c8d')
WIDTH, HEIGHT, LEFT, TOP = 320, 170, 44, 8  # of the frame, and the room left for tick labels


def chart(title: str, series: Mapping[str, Points]) -> str:
  """Draws a `<figure>` with one line a series over a common frame.

  If a steep start would flatten the rest, the vertical scale is that of each series after its first tenth. What lies
  outside is clipped. Points that are not finite are left out, and the caption says so.

  Args:
    title: shown above, escaped.
    series: name -> points (x, y) by rising x; 'train', 'valid' and 'test' have colours of their own, others in turn.

  Returns:
    HTML with one `<svg>`; the caption gives each series' last value.
  """
  own = colours(series)
  finite = {name: [(x, y) for x, y in points if math.isfinite(y)] for name, points in series.items()}
  span = _span([x for points in series.values() for x, _ in points])
  scale = _widened(_scale(list(finite.values())))
  lines = ''.join(_line(thin(points), span, scale, own[name]) for name, points in finite.items())
  frame = f'<rect width="{WIDTH}" height="{HEIGHT}" fill="none" stroke="#ccc"/>'
  # A nested svg cuts off what leaves it; 4 pixels wider on both sides, for a dot at the last step.
  clip = f'<svg x="-4" width="{WIDTH + 8}" height="{HEIGHT}" viewBox="-4 0 {WIDTH + 8} {HEIGHT}">{lines}</svg>'
  caption = ' '.join(_legend(name, points, own[name]) for name, points in series.items())
  return figure(title, f'{heights(scale)}{_steps(span, scale)}{clip}{frame}', caption)


def figure(title: str, inner: str, caption: str) -> str:
  """Returns a `<figure>` with a title, which is escaped, a drawing within the frame and its labels, and a caption."""
  name, size = html.escape(title), f'viewBox="0 0 {LEFT + WIDTH + 14} {TOP + HEIGHT + 22}"'
  drawing = f'<svg role="img" aria-label="{name}" {size}><g transform="translate({LEFT} {TOP})">{inner}</g></svg>'
  return f'<figure class="curve"><h3>{name}</h3>{drawing}<figcaption>{caption}</figcaption></figure>'


def colours(names: Iterable[str]) -> dict[str, str]:
  """Returns a colour for each name: 'train', 'valid' and 'test' have their own, others theirs in turn."""
  others = itertools.cycle(MORE)
  return {name: COLOURS.get(name) or next(others) for name in names}


def thin(points: Points, buckets: int = 200) -> Points:
  """Keeps at most the lowest and the highest point of each of `buckets` stretches, so that spikes stay."""
  if len(points) <= 2 * buckets:
    return points
  edges = [i * len(points) // buckets for i in range(buckets + 1)]
  stretches = [points[a:b] for a, b in itertools.pairwise(edges)]
  extremes = [{min(part, key=_height), max(part, key=_height)} for part in stretches]
  return [point for pair in extremes for point in sorted(pair)]


def ticks(low: float, high: float, most: int = 5) -> list[float]:
  """Returns multiples of 1, 2 or 5 times a power of ten in [low, high], at most `most` + 1 of them."""
  rough = (high - low) / most
  power = 10.0 ** math.floor(math.log10(rough))
  step = next(power * m for m in (1, 2, 5, 10) if power * m >= rough * (1 - 1e-9))
  first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
  return [round(i * step, 12 - math.floor(math.log10(step))) for i in range(first, last + 1)]


def short(value: float) -> str:
  """Formats a tick's label: 0.25, 1500, 20k, 1.5M."""
  for least, unit, name in ((1e9, 1e9, 'G'), (1e6, 1e6, 'M'), (1e4, 1e3, 'k')):
    if abs(value) >= least:
      return f'{value / unit:.6g}{name}'
  return f'{value:.6g}'


def _height(point: tuple[float, float]) -> float:
  return point[1]


def _span(values: Sequence[float]) -> tuple[float, float]:
  return (min(values), max(values)) if values else (0.0, 1.0)


def _scale(series: Sequence[Points]) -> tuple[float, float]:
  """Returns the values' span, without each series' first tenth if that more than triples it."""
  low, high = _span([y for points in series for _, y in points])
  late = _span([y for points in series for _, y in points[len(points) // 10 :]])
  return late if high - low > 3 * (late[1] - late[0]) > 0 else (low, high)


def _widened(span: tuple[float, float]) -> tuple[float, float]:
  """Widens the span by a margin, so that it is never empty."""
  low, high = span
  air = 0.05 * (high - low) or 0.05 * abs(low) or 1.0
  return low - air, high + air


def _place(x: float, y: float, span: tuple[float, float], scale: tuple[float, float]) -> tuple[float, float]:
  """Computes pixel coordinates inside the frame."""
  width = span[1] - span[0]
  right = (x - span[0]) / width if width else 0.5
  return round(WIDTH * right, 2), round(HEIGHT * (scale[1] - y) / (scale[1] - scale[0]), 2)


def _line(points: Points, span: tuple[float, float], scale: tuple[float, float], colour: str) -> str:
  """Draws a polyline, or one dot if there is one point."""
  places = [_place(x, y, span, scale) for x, y in points]
  if len(places) == 1:
    return f'<circle cx="{places[0][0]}" cy="{places[0][1]}" r="3" fill="{colour}"/>'
  path = ' '.join(f'{x:g},{y:g}' for x, y in places)
  return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5" stroke-linejoin="round"/>'


def heights(scale: tuple[float, float]) -> str:
  """Draws light lines across the frame at round heights, and their labels, for values from scale[0] to scale[1]."""
  marks = []
  for y in ticks(*scale):
    height = round(HEIGHT * (scale[1] - y) / (scale[1] - scale[0]), 2)
    marks.append(f'<line x2="{WIDTH}" y1="{height}" y2="{height}" stroke="#eee"/>')
    marks.append(f'<text x="-5" y="{height + 4}" text-anchor="end">{short(y)}</text>')
  return ''.join(marks)


def _steps(span: tuple[float, float], scale: tuple[float, float]) -> str:
  """Draws the labels of the horizontal axis."""
  marks = []
  for x in ticks(*span) if span[0] < span[1] else [span[0]]:
    across, _ = _place(x, scale[0], span, scale)
    marks.append(f'<text x="{across}" y="{HEIGHT + 15}" text-anchor="middle">{short(x)}</text>')
  return ''.join(marks)


def _legend(name: str, points: Points, colour: str) -> str:
  """Formats the series' name in its colour, its last value, and the number of values missing from the line."""
  missing = sum(not math.isfinite(y) for _, y in points)
  note = f', {missing} not finite' if missing else ''
  return f'<span style="color:{colour}">{html.escape(name)} <b>{points[-1][1]:.5g}</b>{note}</span>'
