"""Methods that an object has only where its system can answer."""

from collections.abc import Callable
from typing import Any

from dgm_jax import views

__all__ = ['Offer', 'offer', 'offered']


class Offer:
  """A method that needs views of `self.system`.

  Where the system lacks one, the object has no such attribute: `hasattr` is False, and the error names what it has.
  """

  def __init__(self, function: Callable, needs: tuple[str, ...]):
    self.function, self.needs = function, needs
    self.__doc__, self.__name__ = function.__doc__, function.__name__

  def __get__(self, instance: Any, owner: type) -> Callable:
    if instance is None:
      return self.function
    if not views.fits(instance.system, self):
      can = ', '.join(offered(instance))
      raise AttributeError(f'{instance.config.system} has no {self.__name__}: it lacks what this needs; it has {can}')
    return self.function.__get__(instance, owner)


def offer(*needs: str) -> Callable[[Callable], Offer]:
  """Returns the decorator of a method that needs these views; see `views.needs`."""
  for name in needs:
    views.needs(name)  # which refuses one that does not exist
  return lambda function: Offer(function, needs)


def offered(instance: Any) -> list[str]:
  """Returns the names of the methods that an object's system can answer."""
  table = vars(type(instance))
  return [name for name, own in table.items() if isinstance(own, Offer) and views.fits(instance.system, own)]
