"""Pictures of games on the line and in the plane: data, samples, and the heights of the critic."""

from typing import Any

import numpy as np

__all__ = ['draw']

Image = np.ndarray
REACH, SIZE, BANDS = 1.5, 256, 12
DATA, SAMPLE = (214, 128, 32), (24, 60, 140)


def draw(points: np.ndarray, fake: np.ndarray, critic: Any, reach: float | None = None) -> Image:
  """Draws samples over data over bands of equal height of the critic, brighter the higher.

  On the line, it draws histograms.

  Args:
    points: [N, D] data, D = 1 or 2.
    fake: [M, D] samples.
    critic: [n, D] -> [n].
    reach: of the square around the origin; if None, it is that of the data.

  Returns:
    uint8 [256, 256, 3].
  """
  points, fake = np.asarray(points), np.asarray(fake)
  reach = reach or 1.25 * float(np.abs(points).max())
  middles = (np.arange(SIZE) + 0.5) / SIZE * 2 * reach - reach
  if points.shape[1] == 1:
    return _line(points[:, 0], fake[:, 0], np.asarray(critic(middles[:, None].astype(np.float32))), reach)
  x, y = np.meshgrid(middles, middles[::-1])
  heights = np.asarray(critic(np.stack([x.ravel(), y.ravel()], 1).astype(np.float32))).reshape(SIZE, SIZE)
  canvas = np.repeat(_bands(heights)[..., None], 3, -1)
  for cloud, colour in ((points, DATA), (fake, SAMPLE)):
    column, row = _pixel(cloud[:, 0], reach), SIZE - 1 - _pixel(cloud[:, 1], reach)
    inside = (np.abs(cloud) < reach).all(1)
    canvas[row[inside], column[inside]] = colour
  return canvas


def _pixel(x: np.ndarray, reach: float) -> np.ndarray:
  return np.clip((x + reach) / (2 * reach) * SIZE, 0, SIZE - 1).astype(int)


def _bands(heights: np.ndarray) -> np.ndarray:
  """Returns greys from 150 to 250 in steps: the edges between them are contours."""
  low, high = float(heights.min()), float(heights.max())
  level = np.floor((heights - low) / max(high - low, 1e-12) * BANDS).clip(0, BANDS - 1)
  return (150 + 100 * level / (BANDS - 1)).astype(np.uint8)


def _line(points: np.ndarray, fake: np.ndarray, heights: np.ndarray, reach: float) -> Image:
  """Draws histograms of data and samples as columns, and the critic as a curve."""
  canvas = np.full((SIZE, SIZE, 3), 245, np.uint8)
  edges = np.linspace(-reach, reach, SIZE // 4 + 1)
  counts = [np.histogram(x, edges, density=True)[0].repeat(4) for x in (points, fake)]
  most = max(float(count.max()) for count in counts) or 1.0
  rows = np.arange(SIZE)[::-1, None]
  for count, colour in zip(counts, (DATA, SAMPLE), strict=True):
    canvas[rows < 0.9 * SIZE * count[None] / most] //= 2
    canvas[rows < 0.9 * SIZE * count[None] / most] += np.array(colour, np.uint8) // 2
  scaled = (heights - heights.min()) / max(float(np.ptp(heights)), 1e-12)
  canvas[SIZE - 1 - (scaled * (SIZE - 1)).astype(int), np.arange(SIZE)] = 0
  return canvas
