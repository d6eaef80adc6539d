"""Shape checks at trace time: a wrong shape is one clear line, and costs nothing at run time.

chex compares the shapes. Ours are the names: of the argument, in place of its number, and of axes that must agree. It
is imported at the first check: it takes as long as all else that `dgm_jax.losses` imports.
"""

import functools
import re
from typing import NoReturn

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

__all__ = ['check', 'enough', 'events', 'float32', 'floats']

Rest = tuple[int, ...] | None  # the axes that `...` stands for, once they are known
WORDS = {1: 'one', 2: 'two'}


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
  import chex

  sizes, rest = {}, None
  for (name, axes), array in zip(_parse(pattern), arrays, strict=True):
    shape = jnp.shape(array)
    expected = [size for axis in axes for size in _expected(axis, sizes, rest)]
    try:
      chex.assert_shape(jax.ShapeDtypeStruct(shape, jnp.float32), expected)
    except AssertionError:
      _refuse(name, shape, axes, sizes, rest)
    at = axes.index('...') if '...' in axes else len(axes)
    last = len(shape) - len(axes[at + 1 :])
    rest = shape[at:last] if '...' in axes else rest
    for axis, size in zip(axes[:at] + axes[at + 1 :], shape[:at] + shape[last:], strict=True):
      if sizes.setdefault(axis, size) != size:  # twice in one array
        _refuse(name, shape, axes, sizes, rest)
  return sizes


def _expected(axis: str, sizes: dict[str, int], rest: Rest) -> tuple:
  """Returns the sizes of an axis of a pattern as `chex.assert_shape` takes them: None for any, ... for any number."""
  if axis == '...':
    return (...,) if rest is None else rest
  return (int(axis) if axis.isdigit() else sizes.get(axis),)


def enough(n: int, what: str, axis: int = 0, why: str = '', **arrays: ArrayLike) -> None:
  """Checks that arrays have at least n entries on an axis.

  Args:
    n: 1 or 2.
    what: an entry is, for the message.
    axis: of all arrays.
    why: the end of the message.
    **arrays: the arguments.

  Raises:
    ValueError: names the first argument that has fewer, or no such axis, and its shape.
  """
  import chex

  for name, array in arrays.items():
    try:
      chex.assert_axis_dimension_gteq(array, axis, n)
    except AssertionError:
      where = f' on axis {axis}' if axis or not jnp.ndim(array) else ''
      raise ValueError(
        f'{name}: got shape {jnp.shape(array)}, expected {WORDS[n]} {what} or more{where}{why}'
      ) from None


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

  chex asks whether one shape is broadcast to another. Here each may have axes of size 1 where the other has more.

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


def _refuse(name: str, shape: tuple[int, ...], axes: list[str], sizes: dict[str, int], rest: Rest) -> NoReturn:
  fixed = [f'{axis}={size}' for axis, size in sizes.items() if axis in axes and not axis.isdigit()]
  if '...' in axes and rest is not None:
    fixed.append(f'...={rest}')
  where = f' with {", ".join(fixed)}' if fixed else ''
  others = len(axes) - 1 + len(rest) if '...' in axes and rest is not None else len(shape)
  way_out = f'; nothing is broadcast here: write jnp.broadcast_to({name}, ...)' if len(shape) < others else ''
  raise ValueError(f'{name}: got shape {shape}, expected [{", ".join(axes)}]{where}{way_out}') from None
