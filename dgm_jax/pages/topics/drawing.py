"""Points and fields as pictures, without a plotting library."""

import numpy as np

__all__ = ['HIGH', 'SIZE', 'scatter', 'side_by_side']

SIZE = 280  # pixels a side
LOW, HIGH = np.array([38, 70, 140.0]), np.array([217, 119, 6.0])  # blue to orange


def scatter(points: np.ndarray, colour: np.ndarray, low: float, high: float) -> np.ndarray:
  """Draws points [n, 2] of the square [low, high]^2 on white, uint8 [SIZE, SIZE, 3].

  Their colours go from blue to orange by `colour` [n].
  """
  canvas = np.full((SIZE, SIZE, 3), 255, np.uint8)
  place = np.floor((points - low) / (high - low) * SIZE).astype(int)
  inside = ((place >= 0) & (place < SIZE - 1)).all(1)
  mix = np.clip(colour, 0, 1)[:, None]
  shade = ((1 - mix) * LOW + mix * HIGH).astype(np.uint8)
  for right, up in ((0, 0), (1, 0), (0, 1), (1, 1)):  # a point is two by two pixels
    canvas[SIZE - 1 - place[inside, 1] - up, place[inside, 0] + right] = shade[inside]
  return canvas


def side_by_side(*images: np.ndarray) -> np.ndarray:
  """Joins images of one height, uint8 [H, W, C], with a gap of white between them."""
  gap = np.full((images[0].shape[0], 12, images[0].shape[2]), 255, np.uint8)
  return np.concatenate([part for image in images for part in (image, gap)][:-1], 1)
