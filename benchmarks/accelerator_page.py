"""The summary of `benchmarks/accelerator.py`, and the tables of docs/scaling.md that are rendered from it."""

import json
import re
from pathlib import Path

from benchmarks import accelerator_plan as plan

BEGIN, END = '<!-- accelerator:begin -->', '<!-- accelerator:end -->'
NONE = (
  'No accelerator is on record yet. `python -m benchmarks.accelerator --minutes=9 --out=DIR --record` measures one, and'
  ' with `--render` writes its tables here.'
)


def summary(lines: list[dict], minutes: float) -> dict:
  """The page of a device: its rates, and every line with its MFU."""
  rates = next((line for line in lines if line['kind'] == 'rates' and 'error' not in line), {})
  device = rates.get('device', 'unknown')
  published = next((peak for name, peak in plan.PEAKS.items() if name in device), None)
  peaks = dict(zip((plan.NARROW, plan.WIDE), published, strict=True)) if published else {}
  page = {'what': 'training steps on one device, data made up', 'name': re.sub(r'\W+', '_', device).strip('_').lower()}
  page |= {name: rates.get(name) for name in ('device', 'devices', 'versions', 'commit')}
  page |= {'minutes': minutes, 'rates': rates.get('rates', {}), 'published_rates': peaks, 'lines': []}
  products = {
    line['config']: line['product_flops_per_step'] / line['batch_size']
    for line in lines
    if 'product_flops_per_step' in line
  }
  for line in lines:
    kept = {
      name: value
      for name, value in line.items()
      if name not in ('changes', 'experiment', 'side', 'seconds', 'shape', 'each', 'rates')
    }
    if 'images_per_second' in line and line['config'] in products:
      done = line['images_per_second'] * products[line['config']]
      kept['mfu'] = done / peaks[line['dtype']] if line['dtype'] in peaks else None
      measured = page['rates'].get(line['dtype'])
      kept['fraction_of_matrix_product'] = done / measured if measured else None
    page['lines'].append(kept)
  return page


def table(page: dict) -> str:
  """The tables of a device in Markdown: every experiment, and the networks beside PyTorch."""
  rates = page['rates']
  head = [f'{page["device"] or "an unknown device"}, {page["minutes"]:g} minutes.']
  if rates:
    head.append(
      f'Products: {rates["bfloat16"] / 1e12:.3g} TFLOP/s in bfloat16, {rates["float32"] / 1e12:.3g} in float32, '
      f'{rates["float32_highest"] / 1e12:.3g} in float32 at highest precision; a copy moves '
      f'{rates["copied_bytes"] / 1e9:.4g} GB/s.'
    )
  rows = [
    '| experiment | images/s | steps/s | MFU | of a matrix product | first compiled in, s | GiB |',
    '|---|---|---|---|---|---|---|',
  ]
  rows += [_row(line) for line in page['lines'] if line['kind'] in ('speed', 'torch')]
  return '\n'.join([' '.join(head), '', *rows, '', *_beside(page)])


def _row(line: dict) -> str:
  if 'error' in line:
    return f'| {line["name"]} | - | - | - | - | - | {_cell(line["error"])} |'
  share = lambda name: f'{line[name]:.1%}' if line.get(name) is not None else '-'
  compiled = line.get('compile_seconds', line.get('first_step_seconds'))
  held = line.get('program_bytes') or line.get('peak_bytes_in_use')
  memory = f'{held / 2**30:.3g}' if held else '-'
  return (
    f'| {line["name"]} | {line["images_per_second"]:.4g} | {line["steps_per_second"]:.4g} | {share("mfu")} |'
    f' {share("fraction_of_matrix_product")} | {compiled:.3g} | {memory} |'
  )


def _cell(text: str) -> str:
  return text.replace('|', '/').replace('\n', ' ')[:120]


def _beside(page: dict) -> list[str]:
  """Images/s of the three networks beside PyTorch's, the best setting of each form."""
  best: dict[tuple[str, str], float] = {}
  for line in page['lines']:
    if 'images_per_second' in line:
      form = 'dgm_jax' if line['kind'] == 'speed' else 'torch.compile' if line['compiled'] else 'eager'
      key = line['config'].partition(':')[0], f'{form} {line["dtype"]}'
      best[key] = max(best.get(key, 0.0), line['images_per_second'])
  titles = ('network, images/s', 'dtype', 'dgm_jax', 'PyTorch eager', '`torch.compile`', 'over the faster')
  rows = [f'| {" | ".join(titles)} |', '|---' * len(titles) + '|']
  for name, config in plan.PAIRS.items():
    for dtype in (plan.WIDE, plan.NARROW):
      ours, *theirs = [best.get((config, f'{form} {dtype}')) for form in ('dgm_jax', 'eager', 'torch.compile')]
      if ours or any(theirs):
        faster = max(filter(None, theirs), default=None)
        ratio = f'{ours / faster:.2f}' if ours and faster else '-'
        cells = [f'{rate:.4g}' if rate else '-' for rate in (ours, *theirs)]
        rows.append(f'| {name} | {dtype} | {" | ".join(cells)} | {ratio} |')
  missing = sorted({line['error'] for line in page['lines'] if line['kind'] == 'torch' and 'error' in line})
  return [*rows, *([f'\n-: {_cell(missing[0])}'] if missing else [])]


def rendered(text: str, results: Path) -> str:
  """The text of docs/scaling.md with the tables of all records between its markers."""
  before, begin, rest = text.partition(BEGIN)
  _, end, after = rest.partition(END)
  if not (begin and end):
    raise SystemExit(f'error: no place for the tables; put the lines {BEGIN} and {END} where they belong')
  pages = [json.loads(path.read_text()) for path in sorted(results.glob('accelerator_*.json'))]
  return f'{before}{BEGIN}\n{chr(10).join(map(table, pages)) or NONE}\n{END}{after}'


def render(page: Path, results: Path) -> None:
  """Writes the tables of all records into docs/scaling.md."""
  page.write_text(rendered(page.read_text(), results))
  print(page)
