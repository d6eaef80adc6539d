"""Plants faults one at a time in a copy of the project, and counts those that the tests of their files notice.

python tests/mutants/mutants.py [--jobs=2] [--again] [--file=TEXT]; `--choose` writes the list anew from its seed.
faults.json is the list, belongs.json says which tests belong to which file, the quickest first, and reasons.json why a
fault that survives is there. results/mutants.json is the record; --again runs only what did not fail in it.
"""

import argparse
import concurrent.futures
import fnmatch
import json
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict

from sites import Site, planted, sites

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parents[1]
RECORD = ROOT / 'results' / 'mutants.json'
SEED, SECONDS = 21, 60
WANTED = {
  'dgm_jax/systems': 64, 'dgm_jax/models': 44, 'dgm_jax/nn': 36, 'dgm_jax/losses': 22, 'dgm_jax/evals': 20,
  'dgm_jax/distributions': 14, 'configs': 24,
}  # fmt: skip


def chosen() -> list[dict]:
  """The faults of the fixed seed: kinds in turn within each folder, never two at one place."""
  faults = []
  for folder, wanted in WANTED.items():
    kinds, draw, taken = defaultdict(list), random.Random(f'{SEED} {folder}'), {}
    for path in sorted((ROOT / folder).glob('*.py')):
      for site in sites(path.read_text()):
        if folder != 'configs' or (site.function == 'get_config' and site.kind == 'constant'):
          kinds[site.kind].append((path.relative_to(ROOT).as_posix(), site))
    for found in kinds.values():
      draw.shuffle(found)
    while len(taken) < wanted:
      for kind in sorted(kinds):
        if kinds[kind] and len(taken) < wanted:
          file, site = kinds[kind].pop()
          taken.setdefault((file, site.function, site.source), {'file': file, **site._asdict()})
    faults += sorted(taken.values(), key=lambda fault: (fault['file'], fault['function'], fault['source']))
  return faults


def named(fault: dict) -> str:
  return f'{fault["file"]} {fault["function"]}: {fault["source"]} -> {fault["replacement"]} [{fault["occurrence"]}]'


def tests_of(file: str, belongs: dict) -> list[str]:
  """The tests of the first pattern that fits the file; {stem} in them stands for its name."""
  tests = next(tests for pattern, tests in belongs.items() if fnmatch.fnmatch(file, pattern))
  return [test.format(stem=pathlib.Path(file).stem) for test in tests]


def attempt(fault: dict, belongs: dict, seconds: int) -> str:
  """'caught', 'survived', 'out of time' or 'gone', found in a copy that holds the fault."""
  text = (ROOT / fault['file']).read_text()
  changed = planted(text, Site(**{key: fault[key] for key in Site._fields}))
  if changed is None:
    return 'gone'
  with tempfile.TemporaryDirectory(prefix='mutant-') as folder:
    copy = pathlib.Path(folder)
    for name in ('dgm_jax', 'configs', 'tests', 'results', 'docs'):
      shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns('__pycache__', '*.png'))
    for name in ('pyproject.toml', 'README.md', 'train.py'):
      shutil.copy(ROOT / name, copy / name)
    (copy / fault['file']).write_text(changed)
    return verdict(copy, tests_of(fault['file'], belongs), seconds)


def verdict(copy: pathlib.Path, tests: list[str], seconds: int) -> str:
  """Whether a test fails within the time that a fault has."""
  command = [sys.executable, '-m', 'pytest', '-x', '-q', '-n', '0', '-p', 'no:cacheprovider']
  env = os.environ | {'PYTHONPATH': str(copy), 'PYTHONDONTWRITEBYTECODE': '1'}
  env['XLA_FLAGS'] = f'{os.environ.get("XLA_FLAGS", "")} --xla_cpu_multi_thread_eigen=false'.strip()
  end = time.monotonic() + seconds
  for test in tests:  # one after another: what is quick need not wait for what the slow ones import
    if not (copy / test.split()[0]).exists():
      continue
    try:
      done = subprocess.run(
        [*command, *test.split()], cwd=copy, env=env, capture_output=True, timeout=max(1, end - time.monotonic())
      )
    except subprocess.TimeoutExpired:
      return 'out of time'
    if done.returncode not in (0, 5):
      return 'caught'
  return 'survived'


def written(faults: list[dict], outcomes: dict, reasons: dict) -> dict:
  """The record: shares by file, and every survivor with its reason."""
  rows = [(fault, outcomes[named(fault)]) for fault in faults if named(fault) in outcomes]
  there = [(fault, outcome) for fault, outcome in rows if outcome != 'gone']
  files = {file: {'planted': 0, 'caught': 0} for file in sorted({fault['file'] for fault, _ in there})}
  for fault, outcome in there:
    files[fault['file']]['planted'] += 1
    files[fault['file']]['caught'] += outcome == 'caught'
  caught = sum(count['caught'] for count in files.values())
  survivors = {named(f): f'{o}: {reasons.get(named(f), "no test is about it")}' for f, o in there if o != 'caught'}
  return {
    'planted': len(there), 'caught': caught, 'share': round(caught / max(1, len(there)), 4), 'by_file': files,
    'survivors': survivors, 'gone': [named(f) for f, o in rows if o == 'gone'],
    'not_run': [named(f) for f in faults if named(f) not in outcomes],
  }  # fmt: skip


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--jobs', type=int, default=2)
  parser.add_argument('--again', action='store_true')
  parser.add_argument('--choose', action='store_true')
  parser.add_argument('--file', default='')
  parser.add_argument('--seconds', type=int, default=SECONDS)
  args = parser.parse_args()
  listed = json.loads((HERE / 'faults.json').read_text()) if (HERE / 'faults.json').exists() else {'by_hand': []}
  if args.choose:
    text = json.dumps({'seed': SEED, 'by_hand': listed['by_hand'], 'drawn': chosen()}, indent=1)
    (HERE / 'faults.json').write_text(text + '\n')
    return
  belongs, reasons = (json.loads((HERE / f'{name}.json').read_text()) for name in ('belongs', 'reasons'))
  faults = listed['by_hand'] + listed['drawn']
  outcomes = {}
  if args.again and RECORD.exists():
    old = json.loads(RECORD.read_text())
    open_ones = set(old['survivors']) | set(old['gone']) | set(old['not_run'])
    outcomes = {named(fault): 'caught' for fault in faults if named(fault) not in open_ones}
  todo = [fault for fault in faults if named(fault) not in outcomes and args.file in fault['file']]
  with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
    running = {pool.submit(attempt, fault, belongs, args.seconds): fault for fault in todo}
    for done in concurrent.futures.as_completed(running):
      fault = running[done]
      outcomes[named(fault)] = done.result()
      print(f'{len(outcomes)}/{len(faults)} {done.result():>11}  {named(fault)}', flush=True)
      RECORD.write_text(json.dumps(written(faults, outcomes, reasons), indent=1) + '\n')
  record = written(faults, outcomes, reasons)
  for file, count in record['by_file'].items():
    print(f'{count["caught"]:4d} of {count["planted"]:3d}  {file}')
  print(f'{record["caught"]} of {record["planted"]} faults are caught: {100 * record["share"]:.1f} %')


if __name__ == '__main__':
  main()
