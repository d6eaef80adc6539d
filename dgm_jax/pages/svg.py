"""Curves as inline SVG that reads without scripts; `pages.script` adds values under the pointer and the log switch."""

import html
import itertools
import json
import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence

__all__ = ['chart', 'colours', 'figure', 'heights', 'unit']

Points = Sequence[tuple[float, float]]
# Of middle lightness, so that they can be told from a white and from a dark page.
COLOURS = {'train': '#3b7fc4', 'valid': '#cc7722', 'test': '#2f9150'}
OTHER = '#7d7d7d'
MORE = (OTHER, '#cf4436', '#3b7fc4', '#2f9150', '#9a5bb8', '#cc7722', '#0e8f96', '#a07c0a', '#d6406f', '#6b7fa8')
WIDTH, HEIGHT, TOP = 320, 170, 8  # of the frame in pixels
LEFT, LETTER = 58, 6.3  # least room for the labels on the left, and the width of one of their characters
NAME, LONGEST = 15, 28  # room for the name of an axis, and most of its characters
UNITS = {'bits_per_dim': 'bits per dimension', 'per_second': 'per second', 'seconds': 'seconds', 'percent': 'percent',
         'nats': 'nats', 'bits': 'bits', 'share': 'share'}  # fmt: skip


def chart(
  title: str,
  series: Mapping[str, Points],
  x_name: str = 'step',
  y_name: str = '',
  own: Mapping[str, str] | None = None,
  dashed: Collection[str] = (),
) -> str:
  """Draws a `<figure>` with one line a series over a common frame.

  If a steep start would flatten the rest, the vertical scale is that of each series after its first tenth. What lies
  outside is clipped. Points that are not finite are left out, and the caption says so. If all values are positive, a
  second drawing has a logarithmic scale, which shows everything; it is hidden until the page's script switches to it.

  Args:
    title: shown above, escaped.
    series: name -> points (x, y) by rising x; 'train', 'valid' and 'test' have colours of their own, others in turn.
    x_name: of the horizontal axis.
    y_name: of the vertical axis; the unit of the title if empty.
    own: name -> colour, in place of those of `colours`.
    dashed: names of series whose lines are dashed.

  Returns:
    HTML with one `<svg>`; the caption gives each series' last value.
  """
  own, title_unit = own or colours(series), y_name or unit(title)
  finite = {name: thin([(x, y) for x, y in points if math.isfinite(y)]) for name, points in series.items()}
  span = _span([x for points in series.values() for x, _ in points])
  draw = lambda shown, scale, marks: _drawing(shown, span, scale, marks, own, dashed)
  scale = _widened(_scale(list(finite.values())))
  inner = _steps(span), draw(finite, scale, heights(scale))
  values = [y for points in finite.values() for _, y in points]
  if values and min(values) > 0 and max(values) > min(values):
    powers = {name: [(x, math.log10(y)) for x, y in points] for name, points in finite.items()}
    scale = _widened((math.log10(min(values)), math.log10(max(values))))
    marks = heights(scale, [(math.log10(y), short(y)) for y in log_ticks(10.0 ** scale[0], 10.0 ** scale[1])])
    inner = (
      inner[0],
      f'<g class="linear">{inner[1]}</g><g class="log" visibility="hidden">{draw(powers, scale, marks)}</g>',
    )
  caption = ' '.join(_legend(name, points, own[name]) for name, points in series.items())
  short_points = {name: [[_round(x), _round(y)] for x, y in points] for name, points in finite.items()}
  data = json.dumps({'span': span, 'series': short_points, 'colours': dict(own)}, separators=(',', ':'))
  return figure(title, ''.join(inner), caption, x_name, title_unit, data)


def _drawing(
  series: Mapping[str, Points], span: tuple[float, float], scale: tuple[float, float], marks: str,
  own: Mapping[str, str], dashed: Collection[str],
) -> str:  # fmt: skip
  """Draws the lines of all series within the frame, over the marks of the vertical axis."""
  lines = ''.join(_line(points, span, scale, own[name], name in dashed) for name, points in series.items())
  # A nested svg cuts off what leaves it; 4 pixels wider on both sides, for a dot at the last step.
  clip = f'<svg x="-4" width="{WIDTH + 8}" height="{HEIGHT}" viewBox="-4 0 {WIDTH + 8} {HEIGHT}">{lines}</svg>'
  return f'{marks}{clip}<rect class="frame" width="{WIDTH}" height="{HEIGHT}"/>'


def figure(title: str, inner: str, caption: str, x_name: str = '', y_name: str = '', data: str = '') -> str:
  """Returns a `<figure>` with a title, a drawing within the frame, names of the axes, and a caption.

  The room on the left is that of the longest label, so that none is cut. Title, names and data are escaped.
  """
  labels = re.findall(r'text-anchor="end">([^<]*)<', inner)
  left = max(LEFT, math.ceil(LETTER * max(map(len, labels), default=0)) + NAME + 10)
  name, size = html.escape(title), f'viewBox="0 0 {left + WIDTH + 16} {TOP + HEIGHT + 36}"'
  axes = f'<text class="axis" x="{WIDTH / 2:g}" y="{HEIGHT + 31}" text-anchor="middle">{html.escape(x_name)}</text>'
  turned = f'transform="translate({NAME - left - 3} {HEIGHT / 2:g}) rotate(-90)"'
  axes += f'<text class="axis" {turned} text-anchor="middle">{html.escape(y_name)}</text>'
  drawing = f'<g transform="translate({left} {TOP})">{inner}{axes}</g>'
  values = f' data-points="{html.escape(data)}" data-left="{left}"' if data else ''
  return (
    f'<figure class="curve"{values}><h3>{name}</h3><svg role="img" aria-label="{name}" {size}>{drawing}</svg>'
    f'<figcaption>{caption}</figcaption></figure>'
  )


def unit(name: str) -> str:
  """Returns the unit in which a metric of this name is measured, in words.

  If the name says none, it is the name itself, or 'value' where there is no room for it.
  """
  words = re.split('[_/ ,]', name)
  for end, text in UNITS.items():
    if any(words[at : at + end.count('_') + 1] == end.split('_') for at in range(len(words))):
      return text
  return name if len(name) <= LONGEST else 'value'


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


def log_ticks(low: float, high: float, most: int = 6) -> list[float]:
  """Returns powers of ten in [low, high], at most `most` of them; others are left out evenly.

  If there are few, their multiples by 2 and 5 are added. If there is only one of these, round values are returned.
  """
  first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
  powers = [10.0**n for n in range(first, last + 1) if low <= 10.0**n <= high]
  if len(powers) > 3:
    return powers[:: -(-len(powers) // most)]
  several = [m * 10.0**n for n in range(first, last + 1) for m in (1, 2, 5) if low <= m * 10.0**n <= high]
  return several if len(several) > 1 else ticks(low, high)


def short(value: float) -> str:
  """Formats a tick's label: 0.25, 1500, 20k, 1.5M. A minus sign is as wide as a digit."""
  for least, size, name in ((1e9, 1e9, 'G'), (1e6, 1e6, 'M'), (1e4, 1e3, 'k')):
    if abs(value) >= least:
      return f'{value / size:.6g}{name}'.replace('-', '\N{MINUS SIGN}')
  return f'{value:.6g}'.replace('-', '\N{MINUS SIGN}')


def heights(scale: tuple[float, float], marks: Sequence[tuple[float, str]] | None = None) -> str:
  """Draws light lines across the frame with labels on the left, for values from scale[0] to scale[1].

  The lines are at round values, or at `marks`, (value, label).
  """
  lines = []
  for y, label in marks if marks is not None else [(y, short(y)) for y in ticks(*scale)]:
    height = round(HEIGHT * (scale[1] - y) / (scale[1] - scale[0]), 2)
    lines.append(f'<line class="rule" x2="{WIDTH}" y1="{height}" y2="{height}"/>')
    lines.append(f'<text x="-5" y="{height + 4:g}" text-anchor="end">{label}</text>')
  return ''.join(lines)


def _height(point: tuple[float, float]) -> float:
  return point[1]


def _round(value: float) -> float:
  return float(f'{value:.6g}')


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


def _across(x: float, span: tuple[float, float]) -> float:
  """Computes the horizontal place inside the frame, in pixels."""
  width = span[1] - span[0]
  return round(WIDTH * ((x - span[0]) / width if width else 0.5), 2)


def _line(
  points: Points, span: tuple[float, float], scale: tuple[float, float], colour: str, dashed: bool = False
) -> str:
  """Draws a polyline, or one dot if there is one point."""
  height = lambda y: round(HEIGHT * (scale[1] - y) / (scale[1] - scale[0]), 2)
  places = [(_across(x, span), height(y)) for x, y in points]
  if len(places) == 1:
    return f'<circle cx="{places[0][0]}" cy="{places[0][1]}" r="3" fill="{colour}"/>'
  path, dash = ' '.join(f'{x:g},{y:g}' for x, y in places), ' stroke-dasharray="4 3"' if dashed else ''
  style = f'stroke="{colour}" stroke-width="1.5" stroke-linejoin="round"{dash}'
  return f'<polyline points="{path}" fill="none" {style}/>'


def _steps(span: tuple[float, float]) -> str:
  """Draws the labels of the horizontal axis."""
  marks = ticks(*span) if span[0] < span[1] else [span[0]]
  text = '<text x="{}" y="{}" text-anchor="middle">{}</text>'
  return ''.join(text.format(_across(x, span), HEIGHT + 15, short(x)) for x in marks)


def _legend(name: str, points: Points, colour: str) -> str:
  """Formats the series' name in its colour, its last value, and the number of values missing from the line."""
  missing = sum(not math.isfinite(y) for _, y in points)
  note = f', {missing} not finite' if missing else ''
  swatch = f'<i style="background:{colour}"></i>'
  return f'<span>{swatch}{html.escape(name)} <b>{points[-1][1]:.5g}</b>{note}</span>'
