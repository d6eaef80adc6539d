"""One page that tells a run, and the table of all of them.

python -m dgm_jax.report --workdir=DIR      writes DIR/report.html: settings, figures, curves, pictures; with --gif also
                                            DIR/pictures/NAME.gif, each picture over the course of training
python -m dgm_jax.report --results          renders the best record of each system into the table of docs/systems.md
python -m dgm_jax.report --tables           prints every table of the deck, published beside measured, and all that was
                                            measured; writes it to docs/tables.md and to --out as a page
python -m dgm_jax.report --migrate          brings the records of results/ to today's schema
python -m dgm_jax.report --compare DIR DIR  prints several runs' figures side by side, writes --out with their pictures
python -m dgm_jax.report --topic=NAME|all   runs the theory of a topic, prints its tables, writes --out

With --check, --results and --tables change nothing, and exit with 2 where docs/systems.md or docs/tables.md differs
from the records.
"""

import os
import pathlib
import sys
from collections.abc import Sequence

from absl import flags

from dgm_jax.errors import UserError
from dgm_jax.internal.files import is_folder, write_atomic
from dgm_jax.pages import comparing, records, run_page, tables
from dgm_jax.runs import lines
from dgm_jax.runtime import cli

__all__ = ['main', 'run', 'write_report']

BEGIN, END = '<!-- results:begin -->', '<!-- results:end -->'
TABLES, SYSTEMS = 'docs/tables.md', 'docs/systems.md'


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
  write_atomic(path, run_page.page(workdir, metrics).encode())
  return path


def write_gifs(workdir: str | os.PathLike) -> list[pathlib.Path]:
  """Writes WORKDIR/pictures/NAME.gif of each picture that was drawn at several steps, and returns their paths.

  Raises:
    UserError: no picture was drawn at several steps.
  """
  from dgm_jax.pictures import motion

  folder = pathlib.Path(workdir) / 'pictures'
  several = {name: steps for name, steps in run_page.picture_steps(folder).items() if len(steps) > 1}
  if not several:
    raise UserError(f'{folder} has no picture of several steps: train with --config.picture_every=N')
  for name, steps in several.items():
    motion.write_gif(folder / f'{name}.gif', motion.over_training([path for _, path in steps]))
  return [folder / f'{name}.gif' for name in several]


def comparison(workdirs: Sequence[str | os.PathLike]) -> tuple[str, str]:
  """Compares runs: returns tables for the terminal, and a page with their figures, settings, curves and pictures.

  Raises:
    UserError: a folder has neither figures nor metrics.
  """
  return comparing.compare([pathlib.Path(folder) for folder in workdirs])


def update_systems(page: str | os.PathLike, results: str | os.PathLike) -> tuple[str, str]:
  """Returns the text of docs/systems.md as it is, and with the table of `results` between its markers.

  Raises:
    UserError: the page or one of its markers is missing.
  """
  page = pathlib.Path(page)
  if not page.exists():
    raise UserError(f'{page}: no such file; run this in the folder of the repository')
  old = page.read_text(encoding='utf-8')
  before, begin, rest = old.partition(BEGIN)
  _, end, after = rest.partition(END)
  if not begin or not end:
    raise UserError(f'{page}: no place for the table; put the lines {BEGIN} and {END} where it belongs')
  return old, f'{before}{BEGIN}\n{tables.short(tables.read_archive(results))}\n{END}{after}'


def _flags(argv: list[str]) -> flags.FlagValues:
  """Parses the command line into its own flags: programs with a --workdir also import this module."""
  values = flags.FlagValues()
  flags.DEFINE_string('workdir', None, 'Folder of the run to report.', flag_values=values)
  for name, usage in (
    ('results', 'Render the best record of each system into the table of docs/systems.md.'),
    ('tables', f'Print all tables of figures, write {TABLES} and a page.'),
    ('migrate', "Bring the records of results/ to today's schema."),
    ('check', 'With --results or --tables: change nothing, exit with 2 on a difference.'),
  ):
    flags.DEFINE_bool(name, False, usage, flag_values=values)
  usage = 'With --workdir: also write a GIF of each picture over training.'
  flags.DEFINE_bool('gif', False, usage, flag_values=values)
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
  wrong = wrong or (values.gif and not values.workdir)
  if wrong and not values.help:
    raise UserError(
      'give one of --workdir=DIR with or without --gif, --topic=NAME, --migrate, and --results and --tables with or'
      ' without --check, or --compare DIR DIR; see --help'
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
    for path in write_gifs(values.workdir) if values.gif else ():
      print(path)
  elif values.topic:
    from dgm_jax.pages.topics import theory

    _write(values.out or 'runs/theory.html', theory.document(values.topic))
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
      _write(values.out or 'runs/tables.html', tables.page(sections))
  else:
    _keep(SYSTEMS, *update_systems(SYSTEMS, 'results'), '--results', values.check)


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
