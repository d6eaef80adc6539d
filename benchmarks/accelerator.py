"""One command for an accelerator: how fast experiments train on it, beside PyTorch, or runs at published length.

Usage: python -m benchmarks.accelerator --minutes=9 --out=DIR [--record] [--torch_python=PATH]
       python -m benchmarks.accelerator --train --minutes=9 --out=DIR
       python -m benchmarks.accelerator --pack=DIR, where there is a network; --unpack=DIR on a machine without one
       python -m benchmarks.accelerator --render

What is measured stands in `accelerator_plan.py`, in order of value. Each item is a line of DIR/measurements.jsonl as
soon as it is had; one that fails is a line with the reason, and ends nothing but itself. When the minutes are over,
the summary has what there is: DIR/accelerator_DEVICE.json, with --record also in results/. Pixels are made up.
--train trains instead, begins what should fit, evaluates each run and writes DIR/training.jsonl; records, reports and
figures of the runs are in DIR/runs_N.zip. All that is written are at most eight files of at most 16 MiB.
MFU is the share of the device's published rate for that dtype that goes into products of the training step.
"""

import argparse
import json
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks import accelerator_pack, accelerator_page, accelerator_plan
from benchmarks.accelerator_process import Ended, Process

ROOT = Path(__file__).resolve().parents[1]
SPARE = 10.0  # seconds for the summary
LEAST = {'train': 0.9}  # of an item's expected time must be left, or it is not begun; of other kinds 0.4


def main(argv: list[str], connect: Callable = Process) -> None:
  """Does what the command line says.

  Args:
    argv: the command line without the program.
    connect: `connect(side, log, train)` opens the process of a side, see `accelerator_process.Process`.
  """
  args = _arguments(argv)
  if args.pack:
    accelerator_pack.pack(Path(args.pack))
  elif args.unpack:
    accelerator_pack.unpack(Path(args.unpack))
  elif args.render:
    accelerator_page.render(ROOT / 'docs' / 'scaling.md', Path(args.results))
  else:
    _work(args, connect)


def _work(args: argparse.Namespace, connect: Callable) -> None:
  deadline = time.monotonic() + 60 * args.minutes - SPARE * (not args.tiny)
  out = Path(args.out)
  out.mkdir(parents=True, exist_ok=True)
  runs = Path(args.runs or out.with_name(f'{out.name}_runs'))
  bundle = accelerator_pack.Bundle(out)
  lines, path = [], out / ('training.jsonl' if args.train else 'measurements.jsonl')
  path.write_text('')

  def write(line: dict) -> None:
    lines.append(line)
    with path.open('a') as file:
      file.write(json.dumps(line) + '\n')
    print(_said(line), flush=True)
    if args.train and 'folder' in line:
      bundle.add(Path(line['folder']), runs / 'results' / f'{line.get("record", "")}.json')

  items = accelerator_plan.runs(args.tiny) if args.train else _described(accelerator_plan.measurements(args.tiny))
  if args.train:
    folder = lambda item: str(runs / re.sub(r'\W+', '_', item['config']))
    items = [item | {'folder': folder(item), 'results': str(runs / 'results')} for item in items]
  items = [item for item in items if any(part in item['name'] for part in args.only.split(','))]
  if args.tiny:
    items = [item | {'each': 0.02} for item in items]
  with (out / 'said.txt').open('w') as log:
    work(items, deadline, lambda side: connect(side, log, args.train, args.torch_python), write)
  accelerator_pack.shorten(out / 'said.txt')
  if not args.train:
    page = accelerator_page.summary(lines, args.minutes)
    targets = [out, *([Path(args.results)] if args.record else [])]
    for target in targets:
      target.mkdir(parents=True, exist_ok=True)
      (target / f'accelerator_{page["name"]}.json').write_text(json.dumps(page, indent=2) + '\n')
    print(accelerator_page.table(page))


def work(items: list[dict], deadline: float, connect: Callable, write: Callable) -> None:
  """Has one item after another done, each by its side's process, and writes a line for each.

  Args:
    items: of `accelerator_plan`.
    deadline: of `time.monotonic`; what is not had by then ends.
    connect: opens the process of a side.
    write: takes each line: the item with what was found, or with 'error'.
  """
  side, process = '', None
  try:
    for item in items:
      left = deadline - time.monotonic()
      if left < LEAST.get(item.get('kind', ''), 0.4) * item['seconds']:
        write(
          item | {'error': f'not begun: {max(left, 0):.0f} s were left, and about {item["seconds"]:.0f} s are needed'}
        )
        continue
      if process is None or item['side'] != side:
        if process is not None:
          process.close()
        side, process = item['side'], connect(item['side'])
      # One that hangs must not cost the others their time.
      limit = min(left, 3 * item['seconds'] + 30)
      try:
        write(item | process.ask(item | {'limit': limit - 2}, limit))
      except Ended as error:
        process.close()
        process = None
        write(item | {'error': str(error)})
  finally:
    if process is not None:
      process.close()


def _described(items: list[dict]) -> list[dict]:
  """Tells PyTorch's side, which has no dgm_jax, the settings and the shape of each experiment."""
  from dgm_jax import config as experiment

  def one(item: dict) -> dict:
    if item['kind'] != 'torch':
      return item
    config = experiment.named_config(item['config'])
    page = experiment.to_json(config)
    kept = {name: page[name] for name in ('model', 'optimizer', 'batch_size')}
    shape = accelerator_plan.SHAPES.get(config.data.name, (32, 32, 3))
    return item | {'network': item['config'].partition(':')[0], 'experiment': kept, 'shape': shape}

  return [one(item) for item in items]


def _said(line: dict) -> str:
  found = line.get('error') or ', '.join(
    f'{line[key]:.5g} {key.replace("_", " ")}' for key in ('images_per_second', 'steps', 'wall_seconds') if key in line
  )
  return f'{line["name"]}: {found}'


def _arguments(argv: list[str]) -> argparse.Namespace:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--minutes', type=float, default=9.0, help='that all may take')
  parser.add_argument('--out', default='', help='folder of what comes back')
  parser.add_argument('--train', action='store_true', help='train runs at published length instead of timing steps')
  parser.add_argument('--runs', default='', help='with --train: folder of the runs; empty: OUT_runs')
  parser.add_argument('--only', default='', help='items whose names have one of these parts, with commas between')
  parser.add_argument('--tiny', action='store_true', help='a few small items, for a CPU')
  parser.add_argument('--torch_python', default=sys.executable, help='an interpreter that has PyTorch')
  parser.add_argument('--record', action='store_true', help='also write the summary into --results')
  parser.add_argument('--results', default=str(ROOT / 'results'))
  parser.add_argument('--render', action='store_true', help='write the table of docs/scaling.md from --results')
  parser.add_argument('--pack', default='', help='folder for parts of what a machine without a network lacks')
  parser.add_argument('--unpack', default='', help='folder of such parts')
  args = parser.parse_args(argv)
  if not (args.out or args.pack or args.unpack or args.render):
    parser.error('give --out=DIR, --pack=DIR, --unpack=DIR or --render')
  return args


if __name__ == '__main__':
  main(sys.argv[1:])
