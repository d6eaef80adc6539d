"""The page of one run: what was trained and how, figures, curves, pictures by step, settings."""

import base64
import html
import json
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dgm_jax.internal.files import read_bytes
from dgm_jax.pages import frame, records, svg
from dgm_jax.pages.bars import bars, families
from dgm_jax.runs import lines

__all__ = ['IN_TRAINING', 'columns', 'command', 'flat', 'page', 'parts', 'picture', 'picture_steps', 'quantities']

IN_TRAINING = ', in training'  # ends the names of columns of figures that training measured
HELD_OUT = ('test', 'valid')
STEPS = 16  # most steps of a picture on a page
SERIES = ('train', 'valid', 'test')


def page(workdir: Path, metrics: Sequence[Mapping[str, Any]]) -> str:
  """Formats the page of a run.

  Args:
    workdir: the run's folder.
    metrics: records of its metrics.jsonl.
  """
  config, env = records.load(workdir / 'config.json'), records.load(workdir / 'env.json')
  timing = lines.read(workdir / 'timing.jsonl')
  settings = ('configuration', config), ('versions and machine', env)
  sections = (
    ('Figures', _figures(workdir, metrics)),
    ('By part', parts({split: record['metrics'] for split, record in evaluations(workdir).items()})),
    ('Curves', frame.charts(svg.chart(name, series) for name, series in quantities(metrics).items())),
    ('Pictures', _pictures(workdir / 'pictures')),
    ('Speed', frame.charts(svg.chart(name, series) for name, series in _timings(timing).items())),
    ('Settings', ''.join(frame.details(title, _settings(values)) for title, values in settings if values)),
  )
  body = ''.join(f'<section><h2>{title}</h2>{content}</section>' for title, content in sections if content)
  return frame.document(workdir.resolve().name, _lead(workdir, config, env, metrics, timing), body)


def _lead(
  workdir: Path, config: Mapping, env: Mapping, metrics: Iterable[Mapping[str, Any]], timing: Iterable[Mapping]
) -> str:
  """Says what was trained on what, how far, how long, where, and by which command."""
  step, total = max(record['step'] for record in metrics), config.get('steps')
  devices = f'{env["devices"]} x {env["device"]}' if 'device' in env and 'devices' in env else None
  size = parameters(workdir, env)
  seconds = sum(record.get('seconds', 0.0) for record in timing)
  what = (
    config.get('system'),
    config.get('data', {}).get('name'),
    f'step {step} of {total}' if total else f'step {step}',
  )
  how = (
    f'seed {config["seed"]}' if 'seed' in config else None,
    f'{sum(size.values()):,} parameters' + (f' ({_each(size)})' if len(size) > 1 else '') if size else None,
    duration(seconds) if seconds else None,
    devices,
  )
  rows = [' · '.join(html.escape(str(fact)) for fact in facts if fact) for facts in (what, how)]
  if config.get('source'):
    words = ' '.join(f'<span>{html.escape(word)}</span>' for word in command(config, workdir).split(' '))
    rows.append(f'<code>{words}</code>')
  return ''.join(f'<p class="lead">{row}</p>' for row in rows if row)


def parameters(workdir: Path, env: Mapping[str, Any]) -> dict[str, int]:
  """Returns the number of parameters of each network as training or an evaluation counted them; {} if neither did."""
  counts = [env.get('parameters'), *(record.get('parameters') for record in evaluations(workdir).values())]
  return {name: count for name, count in next(filter(None, counts), {}).items() if name != 'total'}


def _each(size: Mapping[str, int]) -> str:
  return ', '.join(f'{name} {count:,}' for name, count in size.items())


def duration(seconds: float) -> str:
  """Formats a time in words: '42 s', '3 min 20 s', '5 h 10 min'."""
  minutes, rest = divmod(round(seconds), 60)
  if not minutes:
    return f'{rest} s'
  return f'{minutes} min {rest} s' if minutes < 60 else f'{minutes // 60} h {minutes % 60} min'


def command(config: Mapping[str, Any], workdir: Path) -> str:
  """Returns the command that trains a run, from its config.json."""
  changes = [f'--config.{change}' for change in config.get('overrides') or ()]
  words = [f'--config={config["source"]}', *changes, f'--workdir={workdir}']
  return ' '.join(['dgm train', *map(shlex.quote, words)])


def _figures(workdir: Path, metrics: Iterable[Mapping[str, Any]]) -> str:
  """Renders the figures of every evaluation, and what training measured of other splits, one column each."""
  shown = columns(workdir, metrics)
  samples = {split: record.get('samples', {}) for split, record in evaluations(workdir).items()}
  names = dict.fromkeys(name for values in shown.values() for name in values)
  cell = lambda column, name: _figure(shown[column], name, samples.get(column, {}))
  rows = [[name, *(cell(column, name) for column in shown)] for name in names]
  return frame.table(['', *shown], rows) if rows else ''


def columns(
  workdir: Path, metrics: Iterable[Mapping[str, Any]], both: bool = False
) -> dict[str, Mapping[str, float | str | list]]:
  """Returns the figures of a run, column -> name -> value.

  A column is a split that was evaluated, or 'valid, in training': the last that training measured.

  Args:
    workdir: the run's folder.
    metrics: records of its metrics.jsonl.
    both: whether columns of training are there beside evaluations of the same split.
  """
  figures: dict[str, Mapping] = {split: record['metrics'] for split, record in evaluations(workdir).items()}
  for split in HELD_OUT:
    last = {}
    for record in metrics:
      last = record if record['split'] == split else last
    if last and (both or split not in figures):
      figures[split + IN_TRAINING] = {name: value for name, value in last.items() if name not in ('step', 'split')}
  return figures


def evaluations(workdir: Path) -> dict[str, Mapping[str, Any]]:
  """Returns split -> record, of every evaluation of a run."""
  paths = sorted(workdir.glob('evaluation_*.json'))
  return {path.stem.removeprefix('evaluation_'): records.load(path) for path in paths}


def _figure(values: Mapping[str, Any], name: str, samples: Mapping[str, int]) -> str:
  """Formats a figure with the samples it took, '' if there is none."""
  if name not in values:
    return ''
  return frame.number(values[name]) + (f' ({samples[name]} samples)' if name in samples else '')


def parts(figures: Mapping[str, Mapping[str, Any]]) -> str:
  """Draws the figures of each class, layer or step of a model, a colour for each column."""
  return frame.charts(bars(name, values) for name, values in families(figures).items())


def quantities(metrics: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, list[tuple[float, float]]]]:
  """Returns the curves of a run by what they are of: quantity -> series -> points (step, value).

  'model/neg_elbo_nats' of training and 'neg_elbo_nats' of held-out data are one quantity, with the series 'train',
  'valid' and 'test'. If several players have it, their series are 'train, NAME'. Quantities of held-out data come
  first.
  """
  points: dict[str, dict[str, list]] = {}
  for record in metrics:
    for name in record.keys() - {'step', 'split'}:
      points.setdefault(name, {}).setdefault(record['split'], []).append((record['step'], record[name]))
  shared = {name for name, series in points.items() if not series.keys() <= {'train'}}
  players: dict[str, list[str]] = {}
  for name in sorted(points.keys() - shared):
    players.setdefault(name.partition('/')[2], []).append(name)
  charts: dict[str, dict[str, list]] = {}
  for name in sorted(points, key=lambda name: (name not in shared, name)):
    player, _, rest = name.partition('/')
    if name in shared or rest not in shared:
      charts[name] = {split: points[name][split] for split in SERIES if split in points[name]}
      continue
    several = len(players[rest]) > 1 or 'train' in points[rest]
    charts[rest] = {f'train, {player}' if several else 'train': points[name]['train']} | charts[rest]
  return charts


def _timings(timing: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, list[tuple[float, float]]]]:
  charts: dict[str, dict[str, list]] = {}
  for record in timing:
    for name in record.keys() - {'step', 'seconds'}:
      charts.setdefault(name, {}).setdefault('timing', []).append((record['step'], record[name]))
  return dict(sorted(charts.items()))


def picture_steps(folder: Path) -> dict[str, list[tuple[int, Path]]]:
  """Returns (step, file) of each picture by its name, by rising step."""
  pictures: dict[str, list] = {}
  for path in sorted(folder.glob('*.png')):
    if match := re.fullmatch(r'(.+)_(\d{8,})', path.stem):
      pictures.setdefault(match[1], []).append((int(match[2]), path))
  return {name: sorted(steps) for name, steps in sorted(pictures.items())}


def _pictures(folder: Path) -> str:
  figures = ''.join(picture(name, steps) for name, steps in picture_steps(folder).items())
  return f'<div class="pictures">{figures}</div>' if figures else ''


def picture(name: str, steps: Sequence[tuple[int, Path]], titled: bool = True) -> str:
  """Embeds a picture at up to `STEPS` of its steps, the first and the last among them, with a slider over them."""
  title = html.escape(name.replace('_', ' '))
  count = min(len(steps), STEPS)
  chosen = [steps[round(i * (len(steps) - 1) / max(1, count - 1))] for i in range(count)] if count > 1 else steps[-1:]
  images = ''
  for step, path in chosen:
    source = 'data:image/png;base64,' + base64.b64encode(read_bytes(path)).decode()
    hidden = '' if step == chosen[-1][0] else ' hidden'
    images += f'<img alt="{title} at step {step}" data-step="{step}" src="{source}"{hidden}>'
  slider = f'<input type="range" aria-label="step of {title}" min="0" max="{count - 1}" value="{count - 1}" hidden>'
  head = f'<h3>{title}</h3>' if titled else ''
  return (
    f'<figure{" class=steps" if count > 1 else ""}>{head}{images}{slider if count > 1 else ""}'
    f'<figcaption>step {chosen[-1][0]}</figcaption></figure>'
  )


def _settings(values: Mapping[str, Any]) -> str:
  return frame.table(['', ''], [[name, json.dumps(value)] for name, value in flat(values).items()])


def flat(values: Mapping[str, Any], prefix: str = '') -> dict[str, Any]:
  """Returns nested settings under dotted names, as the command line takes them."""
  named = {}
  for name, value in values.items():
    named |= flat(value, f'{prefix}{name}.') if isinstance(value, dict) and value else {prefix + name: value}
  return named
