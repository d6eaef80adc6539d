"""Moves without an optimizer."""

from collections.abc import Callable
from typing import Any

from dgm_jax.core import Move, Params

__all__ = ['without_optimizer']


def without_optimizer(apply: Callable) -> Move:
  """Returns the move (key, state, batch) -> (state, metrics) that has no optimizer."""

  def init(params: Params) -> dict[str, Any]:
    del params
    return {}

  return Move(init=init, apply=apply)
