"""Generated images beside the training images nearest to them: a generator that copies has nothing between."""

import numpy as np

from dgm_jax.evals.distances import squared_distances
from dgm_jax.pictures.gallery import grid

__all__ = ['picture']


def neighbours(images: np.ndarray, train: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Finds the nearest training image of each image, and its distance.

  Args:
    images: [n, H, W, C] uint8.
    train: [N, H, W, C] uint8.

  Returns:
    index [n], and the root of the mean squared difference of their pixels, in [0, 255], [n].
  """
  flat = lambda x: x.reshape(len(x), -1).astype(np.float64)
  squares = np.concatenate([squared_distances(flat(images), flat(part)) for part in np.array_split(train, 20)], 1)
  index = squares.argmin(1)
  return index, np.sqrt(squares.min(1) / images[0].size)


def picture(images: np.ndarray, train: np.ndarray, columns: int = 16) -> np.ndarray:
  """Draws a grid of pairs of rows, images [n, H, W, C] above their nearest in the training set.

  n is cut to whole rows.
  """
  columns = min(columns, len(images))
  above = images[: len(images) // columns * columns]
  below = train[neighbours(above, train)[0]]
  rows = [x.reshape(-1, columns, *images.shape[1:]) for x in (above, below)]
  return grid(np.stack(rows, 1).reshape(-1, *images.shape[1:]), columns)
