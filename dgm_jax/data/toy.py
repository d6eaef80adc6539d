"""Points of the plane from densities that are easy to see: 'toy:ring' and the like, float32 [N, 2]."""

from collections.abc import Callable

import numpy as np

from dgm_jax.data.images import Look
from dgm_jax.data.split import Arrays
from dgm_jax.errors import UserError

__all__ = ['parts']

SIZES = {'train': 200_000, 'valid': 10_000, 'test': 50_000}


def parts(name: str, look: Look) -> dict[str, Callable[[], Arrays]]:
  """Returns three independent samples, which are the same on every machine.

  Raises:
    UserError: there is no such density.
  """
  del look
  if name not in DENSITIES:
    raise UserError(f"no density named '{name}' (--config.data.name=toy:NAME): there are {', '.join(DENSITIES)}")

  def draw(stream: int, size: int) -> Arrays:
    return {'x': DENSITIES[name](np.random.Generator(np.random.Philox(key=stream)), size).astype(np.float32)}

  return {split: lambda i=i, size=size: draw(i, size) for i, (split, size) in enumerate(SIZES.items())}


def _ring(random: np.random.Generator, n: int) -> np.ndarray:
  """Samples eight normals of deviation 0.5 on a circle of radius 4. The entropy is 3.5257 nats."""
  angle = random.integers(8, size=n) * (np.pi / 4)
  return 4 * np.stack([np.cos(angle), np.sin(angle)], 1) + 0.5 * random.standard_normal((n, 2))


def _banana(random: np.random.Generator, n: int) -> np.ndarray:
  """Samples (u, v): v normal of deviation 2, u given v normal around v^2 / 4.

  The entropy is 3.5310 nats.

  Reference: Papamakarios et al. 2017, arXiv:1705.07057, figure 1.
  """
  v = 2 * random.standard_normal(n)
  return np.stack([v**2 / 4 + random.standard_normal(n), v], 1)


def _moons(random: np.random.Generator, n: int) -> np.ndarray:
  """Samples two half circles that reach into each other, blurred by 0.1.

  They are three units wide and then spread to about four.
  """
  upper, angle = random.integers(2, size=n), np.pi * random.random(n)
  x = np.where(upper, np.cos(angle), 1 - np.cos(angle)) - 0.5
  y = np.where(upper, np.sin(angle), 0.5 - np.sin(angle)) - 0.25
  return 1.5 * (np.stack([x, y], 1) + 0.1 * random.standard_normal((n, 2)))


def _pinwheel(random: np.random.Generator, n: int) -> np.ndarray:
  """Samples five long normals, rotated by an angle that grows with the radius.

  Reference: Johnson et al. 2016, arXiv:1603.06277, figure 1.
  """
  blade = random.integers(5, size=n)
  radius, across = 1 + 0.3 * random.standard_normal(n), 0.1 * random.standard_normal(n)
  angle = blade * (2 * np.pi / 5) + 0.25 * np.exp(radius)
  turned = [radius * np.cos(angle) - across * np.sin(angle), radius * np.sin(angle) + across * np.cos(angle)]
  return 2 * np.stack(turned, 1)


DENSITIES: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
  'ring': _ring, 'banana': _banana, 'moons': _moons, 'pinwheel': _pinwheel
}  # fmt: skip
