"""Plants faults one at a time in a copy of the project, and counts those that the tests of their files notice.

python tests/mutants/mutants.py [--again] [--file=TEXT]; --again runs only what was not caught in results/mutants.json.
faults.json is the list that choose.py has drawn, belongs.json names the tests of a file, the quickest first,
exchanges.json what is put in a place, and reasons.json why a survivor is none to worry about. A place is known by its
function, its text and its turn among equal ones, so that it is found again after other edits.
"""

import argparse
import ast
import concurrent.futures
import fnmatch
import functools
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parents[1]
RECORD = ROOT / 'results' / 'mutants.json'
SECONDS = 60  # for the tests of one fault
CALLED = lambda node: getattr(node.func, 'attr', getattr(node.func, 'id', ''))


def loaded(name: str):
  return json.loads((HERE / f'{name}.json').read_text())


TABLE = loaded('exchanges')


def expressions(node: ast.AST, function: str = ''):
  """(function, expression) of all that is computed; neither errors and types nor settings of speed and of records."""
  call = isinstance(node, ast.Call)
  errors = isinstance(node, ast.Raise | ast.Assert | ast.JoinedStr) or (call and CALLED(node) in TABLE['not_of'])
  variant = isinstance(node, ast.If) and function == 'get_config'
  setting = isinstance(node, ast.keyword) and node.arg in TABLE['settings']
  if errors or variant or setting or (call and ast.unparse(node.func) == 'jax.random.split'):
    return
  if isinstance(node, ast.expr):
    yield function, node
  if isinstance(node, ast.Dict):
    pairs = zip(node.keys, node.values, strict=True)
    node = ast.Dict([], [value for key, value in pairs if getattr(key, 'value', '') not in TABLE['settings']])
  if isinstance(node, ast.FunctionDef | ast.ClassDef):
    function = f'{function}.{node.name}'.lstrip('.')
  for field, value in ast.iter_fields(node):
    if field not in ('annotation', 'returns', 'decorator_list', 'bases'):
      for child in value if isinstance(value, list) else [value]:
        if isinstance(child, ast.AST):
          yield from expressions(child, function)


def named(fault: dict) -> str:
  """By the file where it was when the list was drawn."""
  file, place = fault.get('was', fault['file']), f'{fault["function"]}: {fault["source"]}'
  return f'{file} {place} -> {fault["replacement"]} [{fault["occurrence"]}]'


@functools.cache
def parsed(text: str) -> list[tuple[str, ast.expr]]:
  return list(expressions(ast.parse(text)))


def planted(fault: dict) -> str | None:
  """The file with the fault; None where its place is gone."""
  text = (ROOT / fault['file']).read_text()
  inside = [node for function, node in parsed(text) if function == fault['function']]
  same = [node for node in inside if ast.unparse(node) == fault['source']]
  if len(same) <= fault['occurrence']:
    return None
  node, lines = same[fault['occurrence']], text.encode().splitlines(keepends=True)
  at = lambda line, column: sum(map(len, lines[: line - 1])) + column
  start, end = at(node.lineno, node.col_offset), at(node.end_lineno, node.end_col_offset)
  return (text.encode()[:start] + f'({fault["replacement"]})'.encode() + text.encode()[end:]).decode()


def attempt(fault: dict, seconds: int) -> str:
  """'caught', 'survived', 'out of time' or 'gone', found in a copy that holds the fault."""
  changed, end = planted(fault), time.monotonic() + seconds
  if changed is None:
    return 'gone'
  tests = next(tests for pattern, tests in loaded('belongs').items() if fnmatch.fnmatch(fault['file'], pattern))
  with tempfile.TemporaryDirectory(prefix='mutant-') as folder:
    copy = pathlib.Path(folder) / 'copy'
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns('.*', '__pycache__', '*.png', 'runs', 'shared'))
    (copy / fault['file']).write_text(changed)
    env = os.environ | {'PYTHONPATH': str(copy), 'PYTHONDONTWRITEBYTECODE': '1'}
    for test in tests:
      command = [sys.executable, '-m', 'pytest', '-xq', '-n', '0', '-p', 'no:cacheprovider']
      command += test.format(stem=pathlib.Path(fault['file']).stem).split()
      try:
        left = max(1, end - time.monotonic())
        code = subprocess.run(command, cwd=copy, env=env, capture_output=True, timeout=left).returncode
      except subprocess.TimeoutExpired:
        return 'out of time'
      if code in (1, 2):  # a test failed, or a file could not be read
        return 'caught'
      if code:
        raise SystemExit(f'error: pytest ends with {code}: {" ".join(command)}')
  return 'survived'


def written(faults: list[dict], outcomes: dict) -> dict:
  """The record: shares by file, and every survivor with its reason."""
  rows, reasons = [(fault, outcomes.get(named(fault), 'not run')) for fault in faults], loaded('reasons')
  there = [(fault, outcome) for fault, outcome in rows if outcome not in ('gone', 'not run')]
  files = {file: {'planted': 0, 'caught': 0} for file in sorted({fault['file'] for fault, _ in there})}
  for fault, outcome in there:
    files[fault['file']]['planted'] += 1
    files[fault['file']]['caught'] += outcome == 'caught'
  caught = sum(count['caught'] for count in files.values())
  survivors = {named(f): f'{o}: {reasons.get(named(f), "no test is about it")}' for f, o in there if o != 'caught'}
  alike = sum('the same: ' in reason for reason in survivors.values())  # no test can tell them apart
  shares = {'share': caught / max(1, len(there)), 'share_of_those_that_differ': caught / max(1, len(there) - alike)}
  record = {'planted': len(there), 'caught': caught, 'alike': alike} | {k: round(v, 4) for k, v in shares.items()}
  other = {key: [named(f) for f, o in rows if o == key.replace('_', ' ')] for key in ('gone', 'not_run')}
  return record | {'by_file': files, 'survivors': survivors} | other


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--again', action='store_true')
  parser.add_argument('--file', default='')
  parser.add_argument('--jobs', type=int, default=2)
  parser.add_argument('--seconds', type=int, default=SECONDS)
  args, listed = parser.parse_args(), loaded('faults')
  faults, outcomes = listed['by_hand'] + listed['drawn'], {}
  if args.again:
    old = json.loads(RECORD.read_text())
    outcomes = {named(fault): 'caught' for fault in faults} | {k: v.split(':')[0] for k, v in old['survivors'].items()}
    outcomes = {name: outcome for name, outcome in outcomes.items() if name not in (*old['gone'], *old['not_run'])}
  todo = [fault for fault in faults if outcomes.get(named(fault)) != 'caught' and args.file in fault['file']]
  with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
    running = {pool.submit(attempt, fault, args.seconds): named(fault) for fault in todo}
    for done in concurrent.futures.as_completed(running):
      outcomes[running[done]] = done.result()
      print(f'{done.result():>11}  {running[done]}', flush=True)
      RECORD.write_text(json.dumps(written(faults, outcomes), indent=1) + '\n')
  record = written(faults, outcomes)
  for file, count in record['by_file'].items():
    print(f'{count["caught"]:4d} of {count["planted"]:3d}  {file}')
  print(f'{record["caught"]} of {record["planted"]} faults are caught: {100 * record["share"]:.1f} %')


if __name__ == '__main__':
  main()
