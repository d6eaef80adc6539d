"""Pictures of posteriors in two latents, before and after the flow that moves them.

Axes: B images, n samples of each, Z latents.
"""

import numpy as np

__all__ = ['cells', 'most_dependent', 'shade']

SIZE = 56  # pixels of a cell's edge
REACH = 3.5  # standard deviations from the centre of a cell to its edge
DARKEST = 0.995  # quantile of the counts above 0 that is black


def cells(images: np.ndarray, before: np.ndarray, after: np.ndarray) -> np.ndarray:
  """Returns the images, their densities before the flow, and those after it.

  Args:
    images: [B, h, w, c] uint8.
    before: [B, n, Z] samples before the flow.
    after: [B, n, Z] the same samples after it.

  Returns:
    uint8 [3 B, 56, 56, c].
  """
  first, second = most_dependent(after)
  sources = _sources(before, after[..., [first, second]])
  rows = [
    [shade(points) for points in np.asarray(samples)[:, :, axes]]
    for samples, axes in ((before, sources), (after, [first, second]))
  ]
  down, across = (np.arange(SIZE) * size // SIZE for size in images.shape[1:3])
  densities = np.concatenate([np.stack(row) for row in rows])[..., None]
  return np.concatenate([images[:, down][:, :, across], np.repeat(densities, images.shape[-1], -1)])


def most_dependent(samples: np.ndarray) -> tuple[int, int]:
  """Returns the two latents whose squared correlation, averaged over the images, is largest.

  Args:
    samples: [B, n, Z] with Z > 1.
  """
  correlations = np.mean([np.square(_correlations(own, own)) for own in samples], 0)
  np.fill_diagonal(correlations, -1)
  first, second = np.unravel_index(int(correlations.argmax()), correlations.shape)
  return int(min(first, second)), int(max(first, second))


def _sources(before: np.ndarray, pair: np.ndarray) -> list[int]:
  """Returns the two latents before the flow that correlate most with the pair [B, n, 2] after it.

  Steps of the flow may reverse their order.
  """
  shared = np.mean([np.square(_correlations(b, a)) for b, a in zip(before, pair, strict=True)], 0)
  together = shared[:, 0, None] + shared[None, :, 1]
  np.fill_diagonal(together, -1)
  return [int(latent) for latent in np.unravel_index(int(together.argmax()), together.shape)]


def _correlations(a: np.ndarray, b: np.ndarray) -> np.ndarray:
  """Computes the correlations of the columns of a [n, Z] with those of b [n, Y], [Z, Y]."""
  a, b = (np.asarray(x, np.float64) - x.mean(0, dtype=np.float64) for x in (a, b))
  lengths = np.linalg.norm(a, axis=0)[:, None] * np.linalg.norm(b, axis=0)[None]
  return a.T @ b / np.maximum(lengths, np.finfo(np.float64).tiny)


def shade(points: np.ndarray) -> np.ndarray:
  """Draws the histogram of points [n, 2] around their mean; more points are darker.

  The first coordinate goes to the right, the second up. Both have the scale of the wider one.

  Returns:
    uint8 [56, 56].
  """
  centred = points - points.mean(0)
  reach = REACH * max(float(centred.std(0).max()), 1e-12)
  ends = np.linspace(-reach, reach, SIZE // 2 + 1)
  counts = np.histogram2d(centred[:, 1], centred[:, 0], (ends, ends))[0][::-1].repeat(2, 0).repeat(2, 1)
  most = np.quantile(counts[counts > 0], DARKEST) if counts.any() else 1.0
  return (255 * (1 - np.minimum(1, counts / most))).astype(np.uint8)
