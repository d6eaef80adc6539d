"""What each main configuration says of its paper: objective, data, networks, optimizers, length, numbers of parameters.

A row's `source` says where its settings are from, and after a semicolon what no source states. Of an optimizer only
what differs from Adam at 1e-3 with decays 0.9 and 0.999 is listed.
"""

from typing import Any, NamedTuple


class Row(NamedTuple):
  """One variant of one configuration."""

  source: str
  system: str
  data: tuple[str, str, int]  # name, preprocessing, images held out of training
  model: dict[str, Any]  # all of config.model
  players: dict[str, dict[str, Any]]
  run: dict[str, Any]  # batch, length, condition, and resizing where there is any
  parameters: dict[str, int] | None = None  # of each network; None: counted elsewhere, or too slowly for a test


def adam(rate=1e-3, b1=0.9, b2=0.999, **more):
  found = {'learning_rate': rate, 'b1': b1, 'b2': b2}
  start = {'learning_rate': 1e-3, 'b1': 0.9, 'b2': 0.999}
  return {name: value for name, value in found.items() if value != start[name]} | more
