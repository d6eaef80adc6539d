"""One page that tells a run, and the README's table of all of them.

python -m dgm_jax.report --workdir=DIR      writes DIR/report.html: settings, figures, curves, pictures
python -m dgm_jax.report --results          renders the best record of each system into the table of README.md
python -m dgm_jax.report --tables           prints every table of the deck, published beside measured, and all that was
                                            measured; writes it to docs/tables.md and to --out as a page
python -m dgm_jax.report --migrate          brings the records of results/ to today's schema
python -m dgm_jax.report --compare DIR DIR  prints several runs' figures side by side, writes --out with their pictures
python -m dgm_jax.report --topic=NAME|all   runs the theory of a topic, prints its tables, writes --out

With --check, --results and --tables change nothing, and exit with 2 where README.md or docs/tables.md differs from
the records.
"""

import base64
import html
import json
import os
import pathlib
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from absl import flags

from dgm_jax.errors import UserError
from dgm_jax.internal.files import is_folder, read_bytes, write_atomic
from dgm_jax.pages import records, svg, tables
from dgm_jax.pages.bars import bars, families
from dgm_jax.pages.style import STYLE
from dgm_jax.runs import lines
from dgm_jax.runtime import cli

__all__ = ['main', 'run', 'write_report']

BEGIN, END = '<!-- results:begin -->', '<!-- results:end -->'
TABLES = 'docs/tables.md'


def write_report(workdir: str | os.PathLike) -> pathlib.Path:
  """Writes WORKDIR/report.html, one page that needs no other file, and returns its path.

  Raises:
    UserError: there is no such folder, or no metrics in it.
  """
  workdir = pathlib.Path(workdir)
  if not is_folder(workdir):
    raise UserError(f'--workdir={workdir}: no such folder; give the --workdir that train.py was given')
  metrics = lines.read(workdir / 'metrics.jsonl')
  if not metrics:
    raise UserError(f'--workdir={workdir}: no metrics in metrics.jsonl; train into this folder first')
  path = workdir / 'report.html'
  write_atomic(path, _page(workdir, metrics).encode())
  return path


def _page(workdir: pathlib.Path, metrics: Sequence[Mapping[str, Any]]) -> str:
  config, env = records.load(workdir / 'config.json'), records.load(workdir / 'env.json')
  name = html.escape(workdir.resolve().name)
  sections = (
    ('Figures', _figures(workdir)),
    ('By part', _parts({split: page['metrics'] for split, page in _evaluations(workdir).items()})),
    ('Curves', _curves(metrics, 'split')),
    ('Pictures', _pictures(workdir / 'pictures')),
    ('Speed', _curves(lines.read(workdir / 'timing.jsonl'), None)),
    ('Settings', _details('configuration', _flat(config)) + _details('versions and machine', _flat(env))),
  )
  body = ''.join(f'<section><h2>{title}</h2>{content}</section>' for title, content in sections if content)
  head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{name}</title>'
  return (
    f'<!doctype html><html lang="en"><head>{head}<style>{STYLE}</style></head>'
    f'<body><h1>{name}</h1>{_lead(config, env, metrics)}{body}</body></html>\n'
  )


def comparison(workdirs: Sequence[str | os.PathLike]) -> tuple[str, str]:
  """Compares runs: returns a table for the terminal, and a page with their figures, pictures and curves.

  Raises:
    UserError: a folder is not there, or has no figures yet.
  """
  folders = [pathlib.Path(folder) for folder in workdirs]
  names = [folder.resolve().name for folder in folders]
  figures = [_measured(folder) for folder in folders]
  shown = dict.fromkeys(name for values in figures for name in values)
  rows = [['system', *(records.load(folder / 'config.json').get('system', '') for folder in folders)]]
  rows += [[name, *(_number(values[name]) if name in values else '' for values in figures)] for name in shown]
  columns = ''.join(
    f'<div><h2>{html.escape(name)}</h2><div class="pictures">{_pictures(folder / "pictures")}</div></div>'
    for name, folder in zip(names, folders, strict=True)
  )
  head = f'<meta charset="utf-8"><title>{html.escape(", ".join(names))}</title>'
  more = '.sides { display: flex; flex-wrap: wrap; gap: 2em }'
  parts = _parts(dict(zip(names, figures, strict=True)))
  body = f'<h1>Side by side</h1>{_table(["", *names], rows)}{parts}<div class="sides">{columns}</div>'
  cells = [['', *names], *rows]
  widths = [max(len(row[i]) for row in cells) for i in range(len(names) + 1)]
  text = '\n'.join('  '.join(f'{cell:{w}}' for cell, w in zip(row, widths, strict=True)).rstrip() for row in cells)
  page = f'<!doctype html><html lang="en"><head>{head}<style>{STYLE}{more}</style></head><body>{body}</body></html>\n'
  return text, page


def _measured(folder: pathlib.Path) -> dict[str, Any]:
  """Returns the figures of a run's evaluation. If there are several splits, they are those of the test split."""
  pages = sorted(folder.glob('evaluation_*.json'), key=lambda path: path.stem != 'evaluation_test')
  if not pages:
    raise UserError(f'{folder} has no figures: run python -m dgm_jax.evaluate --workdir={folder}')
  return records.load(pages[0])['metrics']


def _lead(config: Mapping, env: Mapping, metrics: Sequence[Mapping[str, Any]]) -> str:
  """Says what was trained on what, how far, and where."""
  step, total = max(record['step'] for record in metrics), config.get('steps')
  devices = f'{env["devices"]} x {env["device"]}' if 'device' in env and 'devices' in env else None
  facts = (
    config.get('system'),
    config.get('data', {}).get('name'),
    f'step {step} of {total}' if total else f'step {step}',
    devices,
  )
  return f'<p class="lead">{html.escape(" · ".join(str(fact) for fact in facts if fact))}</p>'


def _figures(workdir: pathlib.Path) -> str:
  """Renders the figures of every evaluation_<split>.json, one column a split."""
  pages = _evaluations(workdir)
  names = dict.fromkeys(name for record in pages.values() for name in record['metrics'])
  rows = [[name, *(_figure(record, name) for record in pages.values())] for name in names]
  return _table(['', *pages], rows) if rows else ''


def _evaluations(workdir: pathlib.Path) -> dict[str, Mapping[str, Any]]:
  """Returns split -> record, of every evaluation of a run."""
  paths = sorted(workdir.glob('evaluation_*.json'))
  return {path.stem.removeprefix('evaluation_'): records.load(path) for path in paths}


def _parts(columns: Mapping[str, Mapping[str, Any]]) -> str:
  """Draws the figures of each class, layer or step of a model, a colour for each column."""
  charts = ''.join(bars(name, values) for name, values in families(columns).items())
  return f'<div class="curves">{charts}</div>' if charts else ''


def _figure(record: Mapping[str, Any], name: str) -> str:
  """Formats a figure of a record with the samples it took, '' if the record lacks it."""
  if name not in record['metrics']:
    return ''
  count = record.get('samples', {}).get(name)
  return f'{_number(record["metrics"][name])}' + (f' ({count} samples)' if count else '')


def _curves(records: Iterable[Mapping[str, Any]], split: str | None) -> str:
  """Draws one chart a name. Names that were measured on held-out data come first."""
  charts: dict[str, dict[str, list]] = {}
  for record in records:
    line = record[split] if split else 'timing'
    for name in record.keys() - {'step', 'split'}:
      charts.setdefault(name, {}).setdefault(line, []).append((record['step'], record[name]))
  order = sorted(charts, key=lambda name: (charts[name].keys() <= {'train'}, name))
  charts_html = ''.join(svg.chart(name, charts[name]) for name in order)
  return f'<div class="curves">{charts_html}</div>' if charts_html else ''


def _pictures(folder: pathlib.Path) -> str:
  """Embeds the newest picture of each name in the page."""
  newest: dict[str, tuple[int, pathlib.Path]] = {}
  for path in folder.glob('*.png'):
    if match := re.fullmatch(r'(.+)_(\d{8,})', path.stem):
      newest[match[1]] = max(newest.get(match[1], (-1, path)), (int(match[2]), path))
  pictures_html = ''.join(_picture(name, *newest[name]) for name in sorted(newest))
  return f'<div class="pictures">{pictures_html}</div>' if pictures_html else ''


def _picture(name: str, step: int, path: pathlib.Path) -> str:
  title = html.escape(name.replace('_', ' '))
  source = 'data:image/png;base64,' + base64.b64encode(read_bytes(path)).decode()
  return (
    f'<figure><h3>{title}</h3><img alt="{title} at step {step}" src="{source}">'
    f'<figcaption>step {step}</figcaption></figure>'
  )


def _details(title: str, values: Mapping[str, Any]) -> str:
  table = _table(['', ''], [[name, json.dumps(value)] for name, value in values.items()])
  return f'<details><summary>{title}</summary>{table}</details>' if values else ''


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
  def row(cells: Sequence[str], tag: str) -> str:
    return '<tr>' + ''.join(f'<{tag}>{html.escape(cell)}</{tag}>' for cell in cells) + '</tr>'

  head = f'<thead>{row(header, "th")}</thead>' if any(header) else ''
  return f'<table>{head}<tbody>{"".join(row(cells, "td") for cells in rows)}</tbody></table>'


def _flat(values: Mapping[str, Any], prefix: str = '') -> dict[str, Any]:
  """Returns nested settings under dotted names, as the command line takes them."""
  flat = {}
  for name, value in values.items():
    flat |= _flat(value, f'{prefix}{name}.') if isinstance(value, dict) and value else {prefix + name: value}
  return flat


def _number(value: float | str | list[float]) -> str:
  return ', '.join(map(_number, value)) if isinstance(value, list) else f'{float(value):.5g}'


def update_readme(readme: str | os.PathLike, results: str | os.PathLike) -> tuple[str, str]:
  """Returns the README's text as it is, and with the table of `results` between its markers.

  Raises:
    UserError: the README or one of its markers is missing.
  """
  readme = pathlib.Path(readme)
  if not readme.exists():
    raise UserError(f'{readme}: no such file; run this in the folder of the repository')
  old = readme.read_text(encoding='utf-8')
  before, begin, rest = old.partition(BEGIN)
  _, end, after = rest.partition(END)
  if not begin or not end:
    raise UserError(f'{readme}: no place for the table; put the lines {BEGIN} and {END} where it belongs')
  return old, f'{before}{BEGIN}\n{tables.short(tables.read_archive(results))}\n{END}{after}'


def _flags(argv: list[str]) -> flags.FlagValues:
  """Parses the command line into its own flags: programs with a --workdir also import this module."""
  values = flags.FlagValues()
  flags.DEFINE_string('workdir', None, 'Folder of the run to report.', flag_values=values)
  for name, usage in (
    ('results', "Render the best record of each system into README.md's table."),
    ('tables', f'Print all tables of figures, write {TABLES} and a page.'),
    ('migrate', "Bring the records of results/ to today's schema."),
    ('check', 'With --results or --tables: change nothing, exit with 2 on a difference.'),
  ):
    flags.DEFINE_bool(name, False, usage, flag_values=values)
  flags.DEFINE_bool('compare', False, 'Show the runs whose folders follow side by side.', flag_values=values)
  flags.DEFINE_string(
    'topic', None, "A topic of dgm_jax/topics, several with commas between, or 'all'.", flag_values=values
  )
  flags.DEFINE_string(
    'out', '', 'The page to write: runs/theory.html with --topic, runs/comparison.html with --compare, runs/tables.html'
    ' with --tables.',
    flag_values=values,
  )  # fmt: skip
  flags.DEFINE_bool('help', False, 'Show this.', short_name='h', flag_values=values)
  try:
    rest = values(argv)[1:]
  except flags.Error as error:
    raise UserError(f'{error} See --help.') from error
  chosen = bool(values.workdir) + bool(values.topic) + values.compare + values.migrate
  checkable = values.results + values.tables
  wrong = bool(rest) != values.compare or chosen + checkable != 1 or (values.check and not checkable)
  if wrong and not values.help:
    raise UserError(
      'give one of --workdir=DIR, --topic=NAME, --migrate, and --results and --tables with or without --check,'
      ' or --compare DIR DIR; see --help'
    )
  return values


def _write(path: str, page: str) -> None:
  pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
  write_atomic(path, page.encode())
  print(path)


def main(argv: list[str]) -> None:
  """Writes the page of a run, or the table of all results."""
  values = _flags(argv)
  if values.help:
    print(__doc__, values.get_help(), sep='\n')
  elif values.workdir:
    print(write_report(values.workdir))
  elif values.topic:
    from dgm_jax.pages.topics import theory

    _write(values.out or 'runs/theory.html', theory.document(values.topic, STYLE))
  elif values.compare:
    text, page = comparison(values(argv)[1:])
    print(text)
    _write(values.out or 'runs/comparison.html', page)
  elif values.migrate:
    changed = records.migrate('results')
    print('\n'.join([*map(str, changed), f'{len(changed)} records brought to schema {records.SCHEMA}']))
  elif values.tables:
    sections = tables.sections(tables.read_archive('results'))
    print(tables.text(sections))
    _keep(TABLES, _text(TABLES), tables.markdown(sections), '--tables', values.check)
    if not values.check:
      _write(values.out or 'runs/tables.html', tables.page(sections, STYLE))
  else:
    _keep('README.md', *update_readme('README.md', 'results'), '--results', values.check)


def _text(path: str) -> str:
  """Returns the text of a file, '' if there is none."""
  return pathlib.Path(path).read_text(encoding='utf-8') if pathlib.Path(path).exists() else ''


def _keep(path: str, old: str, new: str, command: str, check: bool) -> None:
  """Writes a file that is made from the records, or only compares it."""
  if check and old != new:
    raise UserError(f'{path} differs from results/: run `python -m dgm_jax.report {command}`')
  if old != new:
    pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, new.encode())
  print(f'{path} agrees with results/')


def run() -> None:
  """Runs the program."""
  cli.run(main, sys.argv)
