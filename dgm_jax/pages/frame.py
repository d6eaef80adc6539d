"""What all pages share: one HTML document that needs no other file, its tables, and tables for a terminal."""

import html
import io
import shutil
import sys
from collections.abc import Collection, Iterable, Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from dgm_jax.pages.script import SCRIPT
from dgm_jax.pages.style import STYLE

__all__ = ['charts', 'details', 'document', 'number', 'table', 'terminal']

WIDE = 10_000  # characters a line, where the output is no terminal


def document(title: str, lead: str, body: str, style: str = '') -> str:
  """Formats an HTML document with the style sheet and the script of all pages.

  Args:
    title: of the document and of its heading, escaped.
    lead: HTML below the heading.
    body: HTML of the rest.
    style: rules of this page alone.
  """
  name = html.escape(title)
  head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{name}</title>'
  return (
    f'<!doctype html><html lang="en"><head>{head}<style>{STYLE}{style}</style></head>'
    f'<body><h1>{name}</h1>{lead}{body}<script>{SCRIPT}</script></body></html>\n'
  )


def table(
  header: Sequence[str],
  rows: Iterable[Sequence[str]],
  best: Collection[tuple[int, int]] = (),
  missed: Collection[int] = (),
) -> str:
  """Formats a table, all of it escaped, that scrolls sideways if it is wider than the page.

  Args:
    header: names of the columns; no header if all are empty.
    rows: cells, whose lines are separated by newlines.
    best: (row, column) of cells to mark.
    missed: numbers of rows to mark as wrong.
  """
  text = lambda cell: html.escape(cell).replace('\n', '<br>')
  head = ''.join(f'<th>{text(cell)}</th>' for cell in header)
  body = ''
  for number, row in enumerate(rows):
    marks = (' class="best"' if (number, column) in best else '' for column in range(len(row)))
    cells = ''.join(f'<td{mark}>{text(cell)}</td>' for mark, cell in zip(marks, row, strict=True))
    body += f'<tr{" class=missed" if number in missed else ""}>{cells}</tr>'
  top = f'<thead><tr>{head}</tr></thead>' if any(header) else ''
  return f'<div class="scroll"><table>{top}<tbody>{body}</tbody></table></div>'


def details(title: str, content: str) -> str:
  """Formats content, which is HTML, that is folded away under a title."""
  return f'<details><summary>{html.escape(title)}</summary>{content}</details>' if content else ''


def charts(rendered: Iterable[str]) -> str:
  """Lays charts out in a grid; '' for none."""
  inner = ''.join(rendered)
  return f'<div class="curves">{inner}</div>' if inner else ''


def number(value: float | str | list[float]) -> str:
  """Formats a figure, or the figures of a list, with five digits. A string holds a number that JSON lacks."""
  return ', '.join(map(number, value)) if isinstance(value, list) else f'{float(value):.5g}'


def terminal(
  header: Sequence[str],
  rows: Iterable[Sequence[str]],
  best: Collection[tuple[int, int]] = (),
  missed: Collection[int] = (),
) -> str:
  """Formats a table for standard output, with the arguments of `table`.

  In a terminal it has its width and marks are in colour. Elsewhere no line is broken, and marked cells end with '*'.
  """
  shown = sys.stdout.isatty()
  file = io.StringIO()
  width = shutil.get_terminal_size().columns if shown else WIDE
  console = Console(file=file, width=width, force_terminal=shown, highlight=False, markup=False)
  grid = Table(box=box.SIMPLE_HEAD if shown else None, show_header=any(header), pad_edge=False, show_edge=False)
  for name in header:
    grid.add_column(name, overflow='fold')
  for number_of_row, row in enumerate(rows):
    star = lambda column, row=number_of_row: ' *' if (row, column) in best else ''
    cells = [cell + star(column) for column, cell in enumerate(row)]
    grid.add_row(*cells, style='bold red' if number_of_row in missed else None)
  console.print(grid)
  return '\n'.join(line.rstrip() for line in file.getvalue().splitlines())
