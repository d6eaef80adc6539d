"""What a compiled program does, read from XLA: memory, collectives, and the products inside its loops."""

import functools
import math
import re
from collections import Counter
from collections.abc import Callable
from typing import Any

__all__ = ['collectives', 'left_out', 'peak_bytes']

COLLECTIVES = ('all-reduce', 'all-gather', 'reduce-scatter', 'collective-permute', 'all-to-all')


def peak_bytes(program: Any) -> int:
  """Computes the bytes of a compiled program on one device: arguments, results and temporaries.

  Shared buffers count once.
  """
  sizes = program.memory_analysis()
  num_bytes = sizes.argument_size_in_bytes + sizes.temp_size_in_bytes + sizes.output_size_in_bytes
  return num_bytes - sizes.alias_size_in_bytes


def collectives(text: str) -> dict[str, dict[str, int]]:
  """Counts the runs of each kind of collective in an optimized program.

  It also adds up the bytes of their results on one device.
  """
  shown = re.compile(rf'= (.*?) ({"|".join(COLLECTIVES)})(?:-done)?\(')  # of an asynchronous pair, the second
  runs = executions(text, lambda line: (match := shown.search(line)) and (match[2], _bytes(match[1])))
  kinds = {kind: {'count': 0, 'bytes': 0} for kind, _ in runs}
  for (kind, size), times in runs.items():
    kinds[kind]['count'] += times
    kinds[kind]['bytes'] += times * size
  return kinds


def left_out(text: str) -> int:
  """Counts the runs of products and convolutions that the cost analysis misses.

  The analysis takes each loop's body once.
  """
  product = re.compile(r' (dot|convolution)\(|custom_call_target="[^"]*(gemm|matmul|dot|conv|dnn)')
  is_product = lambda line: bool(product.search(line)) or None
  return executions(text, is_product)[True] - executions(text, is_product, loops=False)[True]


def product_flops(jaxpr: Any, loops: bool = True) -> float:
  """Counts the FLOPs of a traced program's matrix products and convolutions, all turns of its loops included.

  Args:
    jaxpr: of `jax.jit(...).trace(...)`, before it is divided over devices.
    loops: False to take the body of each loop once, as XLA's cost analysis does.

  Returns:
    FLOPs of the whole program. A loop with an unknown number of turns counts once, a condition as its longest branch.
  """
  total = 0.0
  for equation in getattr(jaxpr, 'jaxpr', jaxpr).eqns:
    kind, inner = equation.primitive.name, [product_flops(part, loops) for part in _inner(equation.params)]
    turns = equation.params['length'] if kind == 'scan' and loops else 1
    total += _product(kind, equation) + (max(inner) if kind == 'cond' else turns * sum(inner))
  return total


def _inner(params: dict[str, Any]) -> list[Any]:
  """Returns the programs among an equation's parameters."""
  parts = [part for value in params.values() for part in (value if isinstance(value, tuple | list) else (value,))]
  return [part for part in parts if hasattr(getattr(part, 'jaxpr', part), 'eqns')]


def _product(kind: str, equation) -> float:
  """Computes the FLOPs of one equation, 0 if it is not a product."""
  size = math.prod(equation.outvars[0].aval.shape) if equation.outvars else 0
  if kind == 'dot_general':
    contracted = equation.params['dimension_numbers'][0][0]
    return 2.0 * size * math.prod(equation.invars[0].aval.shape[axis] for axis in contracted)
  if kind == 'conv_general_dilated':
    kernel = equation.invars[1].aval.shape
    return 2.0 * size * math.prod(kernel) / kernel[equation.params['dimension_numbers'].rhs_spec[0]]
  return 0.0


def executions(text: str, find: Callable[[str], Any], loops: bool = True) -> Counter:
  """Counts the runs, by a program in XLA's text, of each value of `find(line)` that is not None.

  A loop with an unknown number of turns counts once.
  """
  bodies = _computations(text)

  @functools.cache
  def inside(name: str) -> Counter:
    total = Counter()
    for line in bodies.get(name, ()):
      match = find(line)
      if match is not None:
        total[match] += 1
      turns = re.search(r'"known_trip_count":\{"n":"(\d+)"', line) if loops else None
      for group in re.findall(r'(?:body|calls|to_apply|branch_computations)=\{?([^{}=]+)', line):
        for callee in re.findall(r'%([\w.-]+)', group):
          for what, times in inside(callee).items():
            total[what] += times * (int(turns[1]) if turns else 1)
    return total

  return inside('ENTRY')


def _computations(text: str) -> dict[str, list[str]]:
  """Returns the lines of each computation. The program's own is 'ENTRY'."""
  bodies, name = {}, ''
  for line in text.splitlines():
    opened = re.match(r'(ENTRY )?%([\w.-]+) \(.*\{$', line)
    if opened:
      name = 'ENTRY' if opened[1] else opened[2]
      bodies[name] = []
    elif name:
      bodies[name].append(line)
  return bodies


def _bytes(shape: str) -> int:
  """Returns the bytes of a shape such as 'f32[8,4]{1,0}', or of a tuple of shapes."""
  total = 0
  for kind, sizes in re.findall(r'([a-z]\w*)\[([\d,]*)\]', shape):
    bits = re.search(r'\d+', kind)
    total += math.prod(map(int, filter(None, sizes.split(',')))) * (int(bits[0]) // 8 if bits else 1)
  return total
