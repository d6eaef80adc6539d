"""Histograms of points of the line, class by class and all together."""

import numpy as np

__all__ = ['draw']

HEIGHT, WIDTH, BINS = 60, 360, 90
INK, PALE = 60, 190


def draw(x: np.ndarray, real: np.ndarray) -> np.ndarray:
  """Draws a row of each class, and below them one of all classes with the data's own histogram in pale behind it.

  Args:
    x: [K, N], samples of each class.
    real: [n], points of the data.

  Returns:
    uint8 [(K + 1) (HEIGHT + 1), WIDTH, 1]; the range holds all but one in a thousand of the samples and of the data.
  """
  both = np.concatenate([x.ravel(), real])
  edges = np.linspace(*np.quantile(both, (0.0005, 0.9995)), BINS + 1)
  shares = lambda points: np.histogram(points, edges)[0] / max(len(points), 1)
  rows = [_panel(shares(row)) for row in x]
  rows.append(np.minimum(_panel(shares(x.ravel()), shares(real)), _panel(shares(real), shares(x.ravel()), PALE)))
  return np.concatenate(rows)[..., None]


def _panel(share: np.ndarray, other: np.ndarray | None = None, ink: int = INK) -> np.ndarray:
  """Draws bars of shares [BINS] on white, over a black line; the highest of both shares fills the panel."""
  top = max(share.max(), 0 if other is None else other.max(), 1e-9)
  heights = np.round(HEIGHT * share / top).repeat(WIDTH // BINS)
  bars = np.where(np.arange(HEIGHT, 0, -1)[:, None] <= heights, ink, 255)
  return np.concatenate([bars, np.zeros((1, WIDTH))]).astype(np.uint8)
