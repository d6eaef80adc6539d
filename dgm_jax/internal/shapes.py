"""Shape checks at trace time: a wrong shape is one clear line, and costs nothing at run time."""

import functools
import re

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

__all__ = ['check', 'events', 'float32', 'floats']


def check(pattern: str, *arrays: ArrayLike) -> dict[str, int]:
  """Checks arrays against 'name[axis, axis] name[axis, ...]' and returns the size of every named axis.

  One axis name has one size throughout a pattern. `...` stands for any number of axes, which are the same in every
  place. A digit is a fixed size.

  Args:
    pattern: argument names with their axes, in the order of `arrays`.
    *arrays: the arguments.

  Returns:
    axis name -> size.

  Raises:
    ValueError: names the first argument that does not fit, its shape and the expected one.
  """
  sizes, rest = {}, None
  for (name, axes), array in zip(_parse(pattern), arrays, strict=True):
    shape = jnp.shape(array)
    expected = [axis for axis in axes if axis != '...']
    extra = len(shape) - len(expected)
    at = axes.index('...') if '...' in axes else len(axes)
    middle = shape[at : at + extra]
    if extra < 0 or (extra and '...' not in axes) or ('...' in axes and rest not in (None, middle)):
      _refuse(name, shape, axes, sizes, rest)
    rest = middle if '...' in axes else rest
    for axis, size in zip(expected, shape[:at] + shape[at + extra :], strict=True):
      if sizes.setdefault(axis, int(axis) if axis.isdigit() else size) != size:
        _refuse(name, shape, axes, sizes, rest)
  return sizes


def float32(pattern: str, *arrays: ArrayLike) -> tuple[jax.Array, ...]:
  """Checks the arrays as `check` does and returns them as float32."""
  check(pattern, *arrays)
  return tuple(jnp.asarray(array, jnp.float32) for array in arrays)


def floats(pattern: str, *arrays: ArrayLike) -> tuple[jax.Array, ...]:
  """Checks the arrays as `check` does and returns them in one precision: float64 if one has it, else float32."""
  check(pattern, *arrays)
  dtype = jnp.result_type(jnp.float32, *arrays)
  return tuple(jnp.asarray(array, dtype) for array in arrays)


def events(**arrays: ArrayLike) -> tuple[jax.Array, ...]:
  """Returns the arguments as float32 after checking that they are `[..., D]` and broadcast without a change of rank.

  Raises:
    ValueError: names the first argument that does not fit, its shape and the expected one. If one has more axes than
      the other, the message also says what to write.
  """
  first, shape = None, ()
  for name, array in arrays.items():
    got = jnp.shape(array)
    if first is None:
      first, shape = name, got
    fits = len(got) == len(shape) >= 1 and all(n == m or 1 in (n, m) for n, m in zip(got, shape, strict=True))
    if not fits:
      like = f'[{", ".join(map(str, shape))}], as {first}, axes of size 1 apart' if got and shape else '[..., D]'
      raise ValueError(f'{name}: got shape {got}, expected {like}{_way_out(name, got, first, shape)}')
    shape = tuple(m if n == 1 else n for n, m in zip(got, shape, strict=True))
  return tuple(jnp.asarray(array, jnp.float32) for array in arrays.values())


def _way_out(name: str, got: tuple[int, ...], first: str, shape: tuple[int, ...]) -> str:
  """Describes how to add the missing axes to the argument of fewer axes. Returns nothing for any other mistake."""
  if not got or not shape or len(got) == len(shape):
    return ''
  short = first if len(shape) < len(got) else name
  axes = ', '.join(['None'] * abs(len(got) - len(shape)))
  return f'; both need the same number of axes: write {short}[{axes}]'


@functools.cache
def _parse(pattern: str) -> list[tuple[str, list[str]]]:
  axes_by_name = re.findall(r'(\w+)\[([^\]]*)\]', pattern)
  return [(name, [axis.strip() for axis in axes.split(',') if axis.strip()]) for name, axes in axes_by_name]


def _refuse(name: str, shape: tuple[int, ...], axes: list[str], sizes: dict[str, int], rest: tuple[int, ...] | None):
  fixed = [f'{axis}={size}' for axis, size in sizes.items() if axis in axes and not axis.isdigit()]
  if '...' in axes and rest is not None:
    fixed.append(f'...={rest}')
  where = f' with {", ".join(fixed)}' if fixed else ''
  others = len(axes) - 1 + len(rest) if '...' in axes and rest is not None else len(shape)
  way_out = f'; nothing is broadcast here: write jnp.broadcast_to({name}, ...)' if len(shape) < others else ''
  raise ValueError(f'{name}: got shape {shape}, expected [{", ".join(axes)}]{where}{way_out}')
