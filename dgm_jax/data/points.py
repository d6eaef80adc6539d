"""Points of the line and of the plane for games of small networks: 'points:25gaussians' and the like, float32 [N, D].

Scales are those of the released code of Gulrajani et al. 2017, arXiv:1704.00028. 'points:3classes' has labels: three
overlapping normals of the line, of deviations 1, 2 and 3, by Gong et al. 2019, arXiv:1907.02690, section 4.1.
'points:heartbeat' has 20 bits, every fifth of which is 1, at a random phase: Sohl-Dickstein et al. 2015,
arXiv:1503.03585, section 3.1.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from dgm_jax.data.images import Look
from dgm_jax.data.split import Arrays
from dgm_jax.errors import UserError

__all__ = ['CLASSES', 'MIXTURES', 'Mixture', 'mixture', 'parts']

SIZES = {'train': 100_000, 'valid': 10_000, 'test': 10_000}


class Mixture(NamedTuple):
  """Normals of one deviation and equal weight."""

  centres: np.ndarray  # [K, D]
  deviation: float


_GRID = np.stack(np.meshgrid(np.arange(-2, 3), np.arange(-2, 3), indexing='ij'), -1).reshape(-1, 2)
_TURNS = np.arange(8) * (np.pi / 4)
MIXTURES = {
  'gaussian': Mixture(np.array([[2.0]]), 1.0),
  '8gaussians': Mixture(2 / 1.414 * np.stack([np.cos(_TURNS), np.sin(_TURNS)], 1), 0.02 / 1.414),
  '25gaussians': Mixture(2 / 2.828 * _GRID, 0.05 / 2.828),
}
# Means and deviations of the labelled normals.
CLASSES = np.array([0.0, 2.0, 4.0]), np.array([1.0, 2.0, 3.0])


def parts(name: str, look: Look) -> dict[str, Callable[[], Arrays]]:
  """Returns three independent samples, which are the same on every machine.

  Raises:
    UserError: there are no such points.
  """
  del look
  names = ', '.join((*MIXTURES, 'swiss_roll', 'heartbeat', '3classes'))
  if name not in names.split(', '):
    raise UserError(f"no points named '{name}' (--config.data.name=points:NAME): there are {names}")

  def draw(stream: int, size: int) -> Arrays:
    random = np.random.Generator(np.random.Philox(key=stream))
    if name == '3classes':
      y = random.integers(3, size=size)
      return {'x': (CLASSES[0][y] + CLASSES[1][y] * random.standard_normal(size)).astype('f4')[:, None], 'y': y}
    samplers = {'swiss_roll': swiss_roll, 'heartbeat': heartbeat}
    x = samplers[name](random, size) if name in samplers else mixture(random, size, MIXTURES[name])
    return {'x': x.astype(np.float32)}

  return {split: lambda i=i, size=size: draw(i, size) for i, (split, size) in enumerate(SIZES.items())}


def mixture(random: np.random.Generator, n: int, of: Mixture) -> np.ndarray:
  """Samples n points [n, D]."""
  centres = of.centres[random.integers(len(of.centres), size=n)]
  return centres + of.deviation * random.standard_normal(centres.shape)


def swiss_roll(random: np.random.Generator, n: int) -> np.ndarray:
  """Samples n points [n, 2] of a spiral of one turn and a half, blurred by 0.25 and then divided by 7.5."""
  angle = 1.5 * np.pi * (1 + 2 * random.random(n))
  spiral = angle[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)
  return (spiral + 0.25 * random.standard_normal((n, 2))) / 7.5


def heartbeat(random: np.random.Generator, n: int, bits: int = 20, period: int = 5) -> np.ndarray:
  """Samples n sequences [n, bits] of zeros with a one in each period, at a random phase: log2 5 bits a sequence."""
  return np.arange(bits) % period == random.integers(period, size=(n, 1))
