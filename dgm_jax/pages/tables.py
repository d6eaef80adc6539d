"""Tables of figures: every row of the deck with what was measured beside it, all that was measured, the short form.

Nothing here imports JAX.
"""

import html
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dgm_jax.config import FREE
from dgm_jax.internal.metrics import GIVEN, MORE
from dgm_jax.pages import catalogue, frame, published, records, sizes
from dgm_jax.pages.published import NEAR, OWN, SMALLER, Row
from dgm_jax.pages.records import Run

__all__ = ['markdown', 'page', 'read_archive', 'sections', 'short', 'text']

# Figures that explain others: tables leave them to the records, where there are others.
SUPPORTING = re.compile(
  r'share_percent_\d|.*_deviation$|.*_deviation/|.*_(chance|ideal)/|kid_|inception_score_|precision_|recall_|density_|coverage_|(fake|real)_value$'
  r'|gradient_by_|codebook_usage_|perplexity_|entropy_bits_|mse_without_|cross_entropy_nats$'
  r'|fid_classifier_(real|noise)|nll_standard_error|explicitness|modularity|voting_latents|pairwise_|sap$'
  r'|total_correlation_of|neg_bound|open_latents|first_step_nats|prior_nats'
)
OF_CLASS = re.compile(r'_class_\d')  # docs/systems.md has figures of all classes together
POINTS = ('high_quality_percent/2500', 'distance_in_deviations/2500')  # lead: modes alone cannot be told from noise
LEADING = ('factor_vae_metric', 'nll_nats', 'bits_per_dim', 'error_percent', 'mse', *POINTS)  # where several are shown
SHORT = ('System', 'Config', 'Data', 'Measured', 'Published', 'Steps', 'Device')
LONG = ('Row', 'Data', 'Protocol', 'Published', 'Measured', 'Steps', 'Parameters', 'Device')
ALL = ('System', 'Config', 'Data', 'Measured', 'Steps', 'Parameters', 'Device', 'Note')
ALL_LEAD = (
  'Every record of results/, in the order of the files. Parameters that a record does not note are those that the'
  ' program gives its settings today.'
)
LEAD = (
  "Published figures beside those that the program measured, '-' where nothing was measured. A published figure stands"
  ' beside a run only where system, data, network, conditioning, optimizer and protocol are those of its'
  ' experiment here, however long it was trained; what differs from the source is told after `here`, and what is of'
  ' another network or protocol has a line of its own that says so.'
  " 'picture' stands where the source shows no number."
)


class Section(NamedTuple):
  """A table with a title and a line above it; lines of a cell are parted by newlines."""

  title: str
  lead: str
  header: Sequence[str]
  rows: Sequence[Sequence[str]]


class Archive(NamedTuple):
  """The records, and the parameters of the experiments that they and the published rows are of."""

  runs: Sequence[Run]
  counts: dict[str, dict]


def read_archive(folder: str | os.PathLike) -> Archive:
  """Reads a folder of records.

  Raises:
    UserError: a record is not of today's schema.
  """
  return Archive(records.read(folder), records.load(Path(folder) / sizes.FILE))


def sections(archive: Archive) -> list[Section]:
  """Returns the tables of the deck and of papers, row by row, and one of all that was measured."""
  parts = [_published(table, archive) for table in published.tables()]
  rows = [_measured(run, archive) for run in archive.runs]
  return [*parts, Section('All that was measured', ALL_LEAD, ALL, rows)]


def _published(table: published.Table, archive: Archive) -> Section:
  sources = list(dict.fromkeys(row.source for row in table.rows if row.source))
  lead = [f'Slide: {table.slide}.'] if table.slide else []
  lead += [f'Source: {sources[0]}.'] if len(sources) == 1 else []
  others = {row.differs for row in table.rows}
  if len(others) == 1 and (other := others.pop()):  # told once for all rows
    table, lead = table._replace(rows=tuple(row._replace(differs='') for row in table.rows)), [*lead, f'Here: {other}.']
  return Section(
    table.title, ' '.join(lead), LONG, [line for row in table.rows for line in _lines(row, sources, archive)]
  )


def _lines(row: Row, sources: Sequence[str], archive: Archive) -> list[tuple[str, ...]]:
  """Returns the row with its own run of most steps, and a line for each other run that belongs to it."""
  related = [(_relation(row, run), run) for run in archive.runs]
  related = [(kind, run) for kind, run in related if kind and run.page['split'] == 'test']
  order = [OWN, NEAR, SMALLER]
  related.sort(key=lambda pair: (order.index(pair[0]), -pair[1].page['steps']))
  own = [run for kind, run in related if kind == OWN]
  notes = [row.network, row.source if len(sources) > 1 else '', f'here {row.differs}' if row.differs else '']
  name = '\n'.join([row.name, *filter(None, notes)])
  values = '\n'.join(f'{metric} {_value(value)}' for metric, value in row.figures.items())
  main = _parameters(archive, published.settings(row.experiment, row.overrides)) if row.experiment else '-'
  size = '\n'.join(filter(None, [f'{row.parameters} published' if row.parameters else '', main])) or '-'
  first = _facts(own[0], row) if own else ('-', '-', '-')
  lines = [(name, row.data, row.protocol, values, first[0], first[1], size, first[2])]
  for kind, run in related:
    if run not in own[:1]:
      remark, steps, device = _facts(run, row)
      this = _parameters(archive, run.page['settings'], run.page['parameters'])
      lines.append((_label(kind, run, row, this, main), row.data, '', '', remark, steps, f'{this} of {main}', device))
  return lines


def _label(kind: str, run: Run, row: Row, this: str, main: str) -> str:
  """Says why a run stands below a row and not in it."""
  why = {OWN: 'fewer steps', NEAR: _near(run, row), SMALLER: published.SMALLER}[kind]
  if kind == SMALLER and this == main:
    why = 'as large a network, other settings'
  if kind == SMALLER and row.nearest:
    why += f'; {row.differs}'
  return '\n'.join([f'- {run.page["config"]}', *changes(run.page), why])


def _near(run: Run, row: Row) -> str:
  """Says what differs between a run and the row of its network."""
  main, trained = published.settings(row.experiment, row.overrides), published.filled(run.page['settings'])
  samples = run.page['samples'].get('nll_nats', 0)
  words = [row.differs] if row.nearest else []
  words += ['another optimizer or batch, or other parts of the data'] if main != trained else []
  words += [f'measured with {samples} samples'] if row.samples and samples not in (0, row.samples) else []
  return '; '.join(words)


def _facts(run: Run, row: Row) -> tuple[str, str, str]:
  """Returns (measured, steps, device) of a run in the metrics of a row, or in its own if it lacks them."""
  names = [name for name in row.figures if name in run.page['metrics']] or shown(run)
  return '\n'.join(figure(run, name) for name in names), str(run.page['steps']), run.page['device']


def _measured(run: Run, archive: Archive) -> tuple[str, ...]:
  page = run.page
  size = _parameters(archive, page['settings'], page['parameters'])
  figures = '\n'.join(figure(run, name) for name in shown(run))
  experiment = '\n'.join([page['config'], *changes(page)])
  data = f'{page["data"]} {page["split"]}'
  return (page['system'], experiment, data, figures, str(page['steps']), size, page['device'], '\n'.join(notes(run)))


def notes(run: Run) -> list[str]:
  """Returns what must be known to read the figures of a run."""
  page, metrics = run.page, run.page['metrics']
  lines = [f'mean and deviation of {run.seeds} seeds'] if run.seeds > 1 else []
  if page['split'] == 'train':
    lines.append('measured on the images that it was trained on')
  if any(name.endswith(GIVEN) for name in metrics):
    lines.append('told the label')
  if 'nll_codes_nats' in metrics or 'nll_codes_nats' + GIVEN in metrics:
    lines.append('nats of codes, not of images')
  if 'pca_mse' in metrics:
    ratio = metrics['mse'] / metrics['pca_mse']
    lines.append(f'error {ratio:.3g} times that of principal components of as many bits')
  if 'mse_without_bottom' in metrics and 'mse_without_middle' not in metrics:
    lines.append(f'the top level alone: error {metrics["mse_without_bottom"]:.2g}, of all levels {metrics["mse"]:.2g}')
  return lines


def shown(run: Run) -> list[str]:
  """Returns the metrics of a run that tables show, without lists.

  Metrics that merely explain others are left out, unless there are no others.
  """
  scalars = [name for name, value in run.page['metrics'].items() if not isinstance(value, list)]
  kept = [name for name in scalars if not SUPPORTING.match(name)] or scalars
  return sorted(kept, key=lambda name: POINTS.index(name) if name in POINTS else len(POINTS))


def figure(run: Run, name: str) -> str:
  """Formats a figure: 'nll_nats 85.541 (5000 samples, 500 examples)', or mean and deviation over seeds."""
  samples, metrics = run.page['samples'], run.page['metrics']
  count, examples = samples.get(name), samples.get(name.replace('_nats', '_examples'))
  start, slash, images = name.partition('/')
  between = [(word, metrics.get(f'{start}_{word}{slash}{images}')) for word in ('chance', 'ideal')]
  around = ', '.join(f'{word} {value:.4g}' for word, value in between if value is not None)
  spread = f' +- {run.page["spread"][name]:.2g}' if run.seeds > 1 else ''
  words = [f'{count} samples' if count else '', f'{examples} examples' if examples else '', around]
  notes = ', '.join(filter(None, words))
  return f'{name} {metrics[name]:.5g}{spread}' + (f' ({notes})' if notes else '')


def changes(page: Any) -> list[str]:
  """Returns the command line's changes of the experiment, except its length and what it was grafted from."""
  key = lambda override: re.split('[.=]', override, maxsplit=1)[0]
  return [override for override in page['overrides'] if key(override) not in (*FREE, 'graft')]


def _relation(row: Row, run: Run) -> str:
  """Returns `published.relation`, wherever the run's config file lay."""
  source, samples = f'configs/{Path(run.page["config"]).name}', run.page['samples'].get('nll_nats', 0)
  return published.relation(row, source, run.page['settings'], samples)


def _value(value: float | str) -> str:
  return value if isinstance(value, str) else f'{value:.6g}'


def _parameters(archive: Archive, settings, own: dict | None = None) -> str:
  """Formats the number of parameters of an experiment, with commas; '-' if nobody counted them."""
  counted = own or archive.counts.get(catalogue.size_key(settings), {}).get('parameters')
  if counted is None:
    return '-'
  return f'{counted["total"] if "total" in counted else sizes.total(counted):,}'


# --- the short form ---


def short(archive: Archive) -> str:
  """Formats the best run of each system as a Markdown table: one row a system, by its name."""
  if not archive.runs:
    return 'No records yet.'
  systems = sorted({run.page['system'] for run in archive.runs})
  rows = [_short(best([run for run in archive.runs if run.page['system'] == system]), archive) for system in systems]
  return markdown_table(Section('', '', SHORT, rows))


def best(runs: Sequence[Run]) -> Run:
  """Returns the run that stands for its system.

  Runs on test images come before training images, without labels before with, and images before points. Those with a
  published row of their own come before those of a smaller network, then those without a row. Then the figure that
  leads (`LEADING`) decides, then the steps.
  """

  def order(run: Run):
    row, kind = beside(run)
    page = run.page
    named = [*(row.figures if row else ()), *LEADING]
    name = next((name for name in named if name in page['metrics']), shown(run)[0])
    value = page['metrics'][name]
    value = -value if MORE.match(name) else value
    rank = {OWN: 0, NEAR: 1, SMALLER: 2, '': 3}[kind]
    points = page['data'].startswith(('toy:', 'points:'))
    return page['split'] != 'test', page['settings']['conditional'], points, rank, value, -page['steps']

  return min(runs, key=order)


def beside(run: Run) -> tuple[Row | None, str]:
  """Returns the published row that a run belongs to, and how; (None, '') if it belongs to none."""
  if run.page['split'] != 'test':
    return None, ''
  for wanted in (OWN, NEAR, SMALLER):
    for row in (row for table in published.tables() for row in table.rows):
      numbers = [name for name, value in row.figures.items() if not isinstance(value, str)]
      printed = any(name in run.page['metrics'] for name in numbers)
      if printed and _relation(row, run) == wanted:
        return row, wanted
  return None, ''


def _short(run: Run, archive: Archive) -> tuple[str, ...]:
  page, (row, kind) = run.page, beside(run)
  whole = [name for name in shown(run) if not OF_CLASS.search(name)] or shown(run)
  names = [name for name in row.figures if name in page['metrics']] if row else whole
  figures = '\n'.join([*(figure(run, name) for name in names), *(f'({note})' for note in notes(run))])
  experiment = '\n'.join(f'`{part}`' for part in [page['config'], *changes(page)])
  data = f'{page["data"]} {page["split"]}'
  published_too = _beside(run, row, kind, names, archive)
  return (f'`{page["system"]}`', experiment, data, figures, published_too, str(page['steps']), page['device'])


def _beside(run: Run, row: Row | None, kind: str, names: Iterable[str], archive: Archive) -> str:
  if row is None:
    return ''
  values = '\n'.join(f'{_value(row.figures[name])}' for name in names)
  this = _parameters(archive, run.page['settings'], run.page['parameters'])
  main = _parameters(archive, published.settings(row.experiment, row.overrides))
  remark = f'{row.name}; {row.source}' if row.source else row.name
  if kind == SMALLER:
    remark += f'; a smaller network: {this} of {main} parameters' if this != main else '; other settings'
  if kind == NEAR:
    remark += f'; here {_near(run, row)}'
  elif row.differs and kind != OWN:
    remark += f'; here {row.differs}'
  return f'{values}\n({remark})'


# --- as text, Markdown and HTML ---


def text(parts: Iterable[Section]) -> str:
  """Formats the tables for a terminal."""
  return (
    '\n\n'.join(['\n'.join(filter(None, [one.title, one.lead, frame.terminal(one.header, one.rows)])) for one in parts])
    + '\n'
  )


def markdown(parts: Iterable[Section]) -> str:
  """Formats the page docs/tables.md."""
  lines = [
    '# Figures, published and measured', 'Written by `python -m dgm_jax.report --tables` from results/ and'
    ' dgm_jax/pages/published.toml; not edited by hand.', LEAD,
  ]  # fmt: skip
  for one in parts:
    lines += filter(None, [f'## {one.title}', one.lead, markdown_table(one)])
  return '\n\n'.join(lines) + '\n'


def markdown_table(one: Section) -> str:
  """Formats the table's rows with the header, without its title."""
  cell = lambda text: text.replace('|', r'\|').replace('<', '&lt;').replace('\n', '<br>')
  rows = [one.header, ['---'] * len(one.header), *([cell(text) for text in row] for row in one.rows)]
  return '\n'.join('| ' + ' | '.join(row) + ' |' for row in rows)


def page(parts: Iterable[Section]) -> str:
  """Formats one HTML page that needs no other file."""
  lead = lambda text: f'<p class="lead">{html.escape(text)}</p>' if text else ''
  body = ''.join(
    f'<h2>{html.escape(one.title)}</h2>{lead(one.lead)}{frame.table(one.header, one.rows)}' for one in parts
  )
  return frame.document('Figures, published and measured', lead(LEAD), body, 'body { max-width: none }')
