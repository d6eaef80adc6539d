"""Types of settings: what a key of an experiment takes, by the value that it had."""

from collections.abc import Iterator
from typing import Any

__all__ = ['misfit']


def misfit(got: Any, expected: Any) -> str:
  """Describes what is wrong with the type of a setting, '' if nothing is.

  Args:
    got: the setting.
    expected: a right one. An int is right for a float. A tuple must have elements of the same types and depth; of an
      empty one nothing more is known.
  """
  if isinstance(expected, tuple):
    if not isinstance(got, (tuple, list)):
      return f'must be a tuple, got {got!r}'
    if expected and got and not _alike(tuple(got), expected):
      return f'must be a tuple like {expected!r}, got {got!r}'
    return ''
  fits = _is_number(got) if isinstance(expected, float) else isinstance(got, type(expected))
  fits = fits and isinstance(got, bool) == isinstance(expected, bool)
  return '' if fits else f'must be of type {type(expected).__name__}, got {got!r}'


def _alike(got: tuple, expected: tuple) -> bool:
  kinds = {type(leaf) for leaf, _ in _leaves(expected)}
  kinds |= {int} if float in kinds else set()
  depths = {depth for _, depth in _leaves(expected)}
  return all(type(leaf) in kinds and depth in depths for leaf, depth in _leaves(got))


def _leaves(value: Any, depth: int = 0) -> Iterator[tuple[Any, int]]:
  """Yields what a nest of tuples holds, with its depth."""
  if isinstance(value, tuple):
    for inner in value:
      yield from _leaves(inner, depth + 1)
  else:
    yield value, depth


def _is_number(value: Any) -> bool:
  return isinstance(value, (int, float)) and not isinstance(value, bool)
