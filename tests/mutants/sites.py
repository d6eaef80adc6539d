"""Where a fault can be planted in a file, and what it puts there.

A place is named by its function, by the text of the expression as `ast.unparse` writes it and by its turn among equal
ones, so that it is found again after edits elsewhere in the file.
"""

import ast
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

ADDED = {ast.Add: ast.Sub, ast.Sub: ast.Add}
SCALED = {ast.Mult: ast.Div, ast.Div: ast.Mult}
COMPARED = {ast.Lt: ast.GtE, ast.GtE: ast.Lt, ast.Gt: ast.LtE, ast.LtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq}
REDUCED = {
  'sum': 'mean', 'mean': 'sum', 'max': 'min', 'min': 'max', 'argmax': 'argmin', 'argmin': 'argmax', 'std': 'var',
  'var': 'std', 'maximum': 'minimum', 'minimum': 'maximum', 'cumsum': 'cumprod', 'all': 'any', 'any': 'all',
}  # fmt: skip
MAPS = {
  'sigmoid': 'tanh', 'tanh': 'sigmoid', 'relu': 'tanh', 'leaky_relu': 'relu', 'softplus': 'relu', 'elu': 'relu',
  'softmax': 'sigmoid', 'exp': 'expm1', 'log': 'log1p', 'log1p': 'log', 'expm1': 'exp', 'square': 'abs',
  'floor': 'ceil', 'tril': 'triu', 'triu': 'tril', 'log_sigmoid': 'tanh', 'log_softmax': 'softmax', 'rsqrt': 'sqrt',
}  # fmt: skip
GONE = ('stop_gradient', 'relu', 'leaky_relu', 'sigmoid', 'tanh', 'exp', 'softplus', 'elu', 'sqrt', 'square', 'abs')
SILENT = ('require', 'one_of', 'Error', 'UserError', 'ValueError', 'cast', 'range', 'partial', 'warn', 'checkpoint')
SETTINGS = (  # of speed, of what is written down, and of what was published
  'unroll', 'chunk', 'dtype', 'preferred_element_type', 'precision', 'name', 'memory', 'keepdims', 'rows', 'log_every',
  'eval_every', 'save_every', 'picture_every', 'steps_per_call', 'eval_batch_size', 'pictures', 'init_examples', 'keep',
  'nll', 'published', 'value', 'valid_size', 'accumulate', 'strict',
)  # fmt: skip
SLIGHT = 1e-3  # smaller numbers keep a quotient defined


class Site(NamedTuple):
  """A place, the kind of the fault, and the expression that is put there."""

  function: str
  kind: str
  source: str
  occurrence: int
  replacement: str


def expressions(tree: ast.Module) -> Iterator[tuple[str, ast.expr]]:
  """Every expression that is computed, with the dotted name of the function or class around it."""

  def walk(node: ast.AST, function: str):
    if isinstance(node, ast.Raise | ast.Assert | ast.JoinedStr | ast.Import | ast.ImportFrom):
      return
    if isinstance(node, ast.Call) and (_called(node) in SILENT or ast.unparse(node.func) == 'jax.random.split'):
      return
    if isinstance(node, ast.keyword) and node.arg in SETTINGS:
      return
    if isinstance(node, ast.If) and function == 'get_config':
      return  # a smaller variant
    if isinstance(node, ast.expr):
      yield function, node
    if isinstance(node, ast.Dict):
      node = ast.Dict(
        [], [value for key, value in zip(node.keys, node.values, strict=True) if _key(key) not in SETTINGS]
      )
    inner = function
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
      inner = f'{function}.{node.name}'.lstrip('.')
    for field, value in ast.iter_fields(node):
      if field in ('annotation', 'returns', 'decorator_list', 'bases'):
        continue
      for child in value if isinstance(value, list) else [value]:
        if isinstance(child, ast.AST):
          yield from walk(child, inner)

  yield from walk(tree, '')


def sites(text: str) -> list[Site]:
  """All faults of a file."""
  seen, found = Counter(), []
  for function, node in expressions(ast.parse(text)):
    source = ast.unparse(node)
    occurrence = seen[function, source]
    seen[function, source] += 1
    slight = 0 if function == 'get_config' else SLIGHT
    found += [Site(function, kind, source, occurrence, new) for kind, new in faults(node, slight) if new != source]
  return found


def planted(text: str, site: Site) -> str | None:
  """The file with the fault; None where its place is gone."""
  same = [
    node
    for function, node in expressions(ast.parse(text))
    if (function, ast.unparse(node)) == (site.function, site.source)
  ]
  if len(same) <= site.occurrence:
    return None
  node, lines = same[site.occurrence], text.encode().splitlines(keepends=True)
  start, end = (
    sum(map(len, lines[: line - 1])) + column
    for line, column in ((node.lineno, node.col_offset), (node.end_lineno, node.end_col_offset))
  )
  data = text.encode()
  return (data[:start] + f'({site.replacement})'.encode() + data[end:]).decode()


def faults(node: ast.expr, slight: float) -> Iterator[tuple[str, str]]:
  """(kind, replacement) of an expression."""
  if isinstance(node, ast.BinOp) and _numeric(node.left) and _numeric(node.right):
    yield from _of_product_or_sum(node)
  elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and not isinstance(node.operand, ast.Constant):
    yield 'sign', ast.unparse(node.operand)
  elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.Invert):
    yield 'mask', ast.unparse(node.operand)
  elif isinstance(node, ast.Compare) and type(node.ops[0]) in COMPARED:
    yield 'comparison', ast.unparse(ast.Compare(node.left, [COMPARED[type(node.ops[0])]()], node.comparators))
  elif isinstance(node, ast.IfExp):
    yield 'flag', ast.unparse(ast.IfExp(node.test, node.orelse, node.body))
  elif isinstance(node, ast.Constant):
    yield from _of_constant(node.value, slight)
  elif isinstance(node, ast.Call):
    yield from _of_call(node)


def _of_product_or_sum(node: ast.BinOp) -> Iterator[tuple[str, str]]:
  left, right = ast.unparse(node.left), ast.unparse(node.right)
  if type(node.op) in ADDED:
    yield 'sign', ast.unparse(ast.BinOp(node.left, ADDED[type(node.op)](), node.right))
  if type(node.op) in SCALED:
    yield 'factor', ast.unparse(ast.BinOp(node.left, SCALED[type(node.op)](), node.right))
  if isinstance(node.op, ast.Add | ast.Mult):
    yield 'term', left
    yield 'term', right
  if isinstance(node.op, ast.Sub | ast.Div):
    yield 'term', left


def _of_constant(value, slight: float) -> Iterator[tuple[str, str]]:
  if isinstance(value, bool):
    yield 'flag', repr(not value)
  elif isinstance(value, float) and (value == 0 or abs(value) >= slight):
    yield 'constant', repr(value * 2 if value else 1.0)
  elif isinstance(value, int) and abs(value) > 1:
    yield 'constant', repr(value * 2)


def _of_call(node: ast.Call) -> Iterator[tuple[str, str]]:
  name = _called(node)
  rest = lambda function, args: ast.unparse(ast.Call(function, args, node.keywords))
  renamed = lambda new: ast.Attribute(node.func.value, new) if isinstance(node.func, ast.Attribute) else ast.Name(new)
  if name in REDUCED and isinstance(node.func, ast.Attribute):
    yield 'reduction', rest(renamed(REDUCED[name]), node.args)
    axis = node.args[-1] if node.args else None
    if isinstance(axis, ast.Constant) and axis.value in (0, 1):
      yield 'axis', rest(node.func, [*node.args[:-1], ast.Constant(1 - axis.value)])
  if name in MAPS and isinstance(node.func, ast.Attribute):
    yield 'stop_gradient' if name == 'stop_gradient' else 'map', rest(renamed(MAPS[name]), node.args)
  if name in GONE and len(node.args) >= 1:
    yield 'stop_gradient' if name == 'stop_gradient' else 'map', ast.unparse(node.args[0])
  if name == 'where' and len(node.args) == 3:
    yield 'mask', rest(node.func, [node.args[0], node.args[2], node.args[1]])
  owner = getattr(getattr(node.func, 'value', None), 'id', '')
  if owner in ('losses', 'distributions') and len(node.args) >= 2:
    yield 'arguments', rest(node.func, [node.args[1], node.args[0], *node.args[2:]])


def _key(node: ast.expr | None) -> str:
  return getattr(node, 'value', '')


def _called(node: ast.Call) -> str:
  return getattr(node.func, 'attr', getattr(node.func, 'id', ''))


def _numeric(node: ast.expr) -> bool:
  """Whether an operand can be a number: it is no text, tuple or list."""
  texts = ast.List | ast.Tuple | ast.ListComp | ast.Dict | ast.JoinedStr | ast.Set
  return not isinstance(node, texts) and not isinstance(getattr(node, 'value', None), str)
