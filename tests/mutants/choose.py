"""Draws the faults of faults.json from a fixed seed: python tests/mutants/choose.py."""

import ast
import json
import random
from collections import Counter, defaultdict

from mutants import CALLED, HERE, ROOT, TABLE, expressions, loaded

SEED, SLIGHT = 21, 1e-3  # smaller numbers only keep a quotient defined
WANTED = {
  'dgm_jax/systems': 64, 'dgm_jax/models': 44, 'dgm_jax/nn': 36, 'dgm_jax/losses': 22, 'dgm_jax/evals': 20,
  'dgm_jax/distributions': 14, 'configs': 24,
}  # fmt: skip


def changes(node: ast.expr, slight: float):
  """(kind, replacement) of an expression."""
  text, swap = ast.unparse, lambda op: getattr(ast, TABLE['operator'][type(op).__name__])()
  known = lambda op: type(op).__name__ in TABLE['operator']
  if isinstance(node, ast.BinOp) and known(node.op) and _number(node.left) and _number(node.right):
    sums, commutes = isinstance(node.op, ast.Add | ast.Sub), isinstance(node.op, ast.Add | ast.Mult)
    yield 'sign' if sums else 'factor', text(ast.BinOp(node.left, swap(node.op), node.right))
    yield from [('term', text(side)) for side in (node.left, node.right)[: 1 + commutes]]
  elif isinstance(node, ast.UnaryOp) and not isinstance(node.operand, ast.Constant):
    yield 'sign' if isinstance(node.op, ast.USub) else 'mask', text(node.operand)
  elif isinstance(node, ast.Compare) and known(node.ops[0]):
    yield 'comparison', text(ast.Compare(node.left, [swap(node.ops[0])], node.comparators))
  elif isinstance(node, ast.IfExp):
    yield 'flag', text(ast.IfExp(node.test, node.orelse, node.body))
  elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
    yield 'flag', repr(not node.value)
  elif isinstance(node, ast.Constant) and isinstance(node.value, int | float):
    if node.value > 1 or (isinstance(node.value, float) and not 0 < node.value < slight):
      yield 'constant', repr(node.value * 2 or 1.0)
  elif isinstance(node, ast.Call):
    yield from _of_call(node, CALLED(node), text)


def _of_call(node: ast.Call, name: str, text):
  rest = lambda function, args: text(ast.Call(function, args, node.keywords))
  for kind in ('reduction', 'map'):
    if name in TABLE[kind] and isinstance(node.func, ast.Attribute):
      yield kind, rest(ast.Attribute(node.func.value, TABLE[kind][name]), node.args)
  last = node.args[-1] if node.args else None
  method = isinstance(node.func, ast.Attribute) and name in TABLE['reduction']
  if method and isinstance(last, ast.Constant) and last.value in (0, 1):
    yield 'axis', rest(node.func, [*node.args[:-1], ast.Constant(1 - last.value)])
  if name in TABLE['gone'] and node.args:
    yield 'stop_gradient' if name == 'stop_gradient' else 'map', text(node.args[0])
  if name == 'where' and len(node.args) == 3:
    yield 'mask', rest(node.func, [node.args[0], node.args[2], node.args[1]])
  owner = getattr(getattr(node.func, 'value', None), 'id', '')
  if owner in ('losses', 'distributions') and len(node.args) >= 2:
    yield 'arguments', rest(node.func, [node.args[1], node.args[0], *node.args[2:]])


def _number(node: ast.expr) -> bool:
  texts = ast.List | ast.Tuple | ast.ListComp | ast.Dict | ast.JoinedStr | ast.Set
  return not isinstance(node, texts) and not isinstance(getattr(node, 'value', None), str)


def chosen() -> list[dict]:
  """The faults of the seed: kinds in turn within each folder, never two at one place."""
  drawn = []
  for folder, wanted in WANTED.items():
    kinds, draw, taken = defaultdict(list), random.Random(f'{SEED} {folder}'), {}
    for path in sorted((ROOT / folder).glob('*.py')):
      turns = Counter()
      for function, node in expressions(ast.parse(path.read_text())):
        source = ast.unparse(node)
        turn, turns[function, source] = turns[function, source], turns[function, source] + 1
        for kind, new in changes(node, 0 if function == 'get_config' else SLIGHT):
          if folder != 'configs' or (function, kind) == ('get_config', 'constant'):
            fault = {'file': path.relative_to(ROOT).as_posix(), 'function': function, 'kind': kind, 'source': source}
            kinds[kind].append(fault | {'occurrence': turn, 'replacement': new})
    for found in kinds.values():
      draw.shuffle(found)
    while len(taken) < wanted:
      for found in (kinds[kind] for kind in sorted(kinds) if kinds[kind]):
        fault = found.pop()
        taken.setdefault((fault['file'], fault['function'], fault['source']), fault)
    drawn += sorted(
      list(taken.values())[:wanted], key=lambda fault: (fault['file'], fault['function'], fault['source'])
    )
  return drawn


if __name__ == '__main__':
  drawn = {'seed': SEED, 'by_hand': loaded('faults')['by_hand'], 'drawn': chosen()}
  (HERE / 'faults.json').write_text(json.dumps(drawn, indent=1) + '\n')
