"""Words of error messages: the nearest name, and an error in one line."""

import difflib
from collections.abc import Iterable

__all__ = ['first_line', 'named', 'one_line']


def named(name: str, names: Iterable[str]) -> str:
  """Returns a name in quotes, with the nearest of `names` if one is near: "'stpes'; did you mean 'steps'?"."""
  near = difflib.get_close_matches(name, list(names), n=1)
  return f"'{name}'" + (f"; did you mean '{near[0]}'?" if near else '')


def one_line(error: BaseException) -> str:
  """Returns the message of an error with all line breaks as spaces."""
  return ' '.join(str(error).split())


def first_line(error: BaseException) -> str:
  """Returns the type of an error and the first line of its message, cut after 200 characters."""
  said = (str(error).strip().splitlines() or [''])[0].strip()[:200]
  return f'{type(error).__name__}: {said}' if said else type(error).__name__
