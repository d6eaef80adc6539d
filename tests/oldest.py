"""Prints pip constraints: each dependency at the lowest version that pyproject.toml allows."""

import pathlib
import re
import tomllib

ROOT = pathlib.Path(__file__).parents[1]


def constraints(requirements: list[str]) -> list[str]:
  """'flax>=0.12,<0.13' -> 'flax==0.12'."""
  lowest = (re.match(r'([\w.-]+)>=([\w.]+)', requirement) for requirement in requirements)
  return [f'{found[1]}=={found[2]}' for found in lowest if found]


if __name__ == '__main__':
  print('\n'.join(constraints(tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']['dependencies'])))
