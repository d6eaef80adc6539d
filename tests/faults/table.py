"""Renders results/faults.json into the table of docs/reliability.md: python tests/faults/table.py."""

import json
import pathlib

ROOT = pathlib.Path(__file__).parents[2]
BEGIN, END = '<!-- faults:begin -->', '<!-- faults:end -->'


def rendered() -> tuple[str, str]:
  """The page as it is, and as it is with the record's table."""
  path, record = ROOT / 'docs' / 'reliability.md', ROOT / 'results' / 'faults.json'
  old = path.read_text()
  before, after = old.partition(BEGIN)[0], old.partition(END)[2]
  return old, f'{before}{BEGIN}\n{table(json.loads(record.read_text()))}\n{END}{after}'


def table(page: dict) -> str:
  lines = [f'Measured at commit `{page["commit"]}` on {page["device"]}.', '', '| what | figures |', '|---|---|']
  for name, figures in page['measured'].items():
    shown = '; '.join(f'{key.replace("_", " ")} {_shown(value)}' for key, value in figures.items())
    lines.append(f'| {name} | {shown} |')
  return '\n'.join(lines)


def _shown(value) -> str:
  if isinstance(value, dict):
    return '(' + ', '.join(f'{key} {_shown(item)}' for key, item in value.items()) + ')'
  if isinstance(value, list):
    return ' '.join(map(_shown, value))
  if isinstance(value, bool):
    return 'yes' if value else 'NO'
  return f'{value:.3g}' if isinstance(value, float) else str(value)


if __name__ == '__main__':
  (ROOT / 'docs' / 'reliability.md').write_text(rendered()[1])
