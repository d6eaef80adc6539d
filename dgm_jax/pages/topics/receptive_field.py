"""Which pixels an autoregressive network is told of: the blind spot of PixelCNN beside those that have none."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from dgm_jax.models.pixelcnn import GatedPixelCNN, PixelCNN
from dgm_jax.models.pixelrnn import PixelRNN
from dgm_jax.pages.topics.page import Row, Topic

__all__ = ['receptive_field']

SIDE, CENTER, SCALE = 28, 14, 10
PREVIOUS = CENTER * SIDE + CENTER
LATER, BLIND, SEEN, OWN = (236, 236, 236), (217, 119, 6), (38, 70, 140), (0, 0, 0)


def receptive_field() -> Topic:
  """Counts and pictures of the pixels that the middle of a 28x28 image depends on."""
  subjects = {
    **{f'PixelCNN, 7x7 and {n} of 3x3': (_pixelcnn(n), count) for n, count in ((1, 39), (3, 78), (7, 192), (15, 351))},
    'Gated PixelCNN, 7x7 and 7 of 5x5': (GatedPixelCNN(1, features=1, layers=7, head=1, size=5), PREVIOUS),
    'PixelRNN, 7x7 and a Row LSTM': (PixelRNN(1, hidden=1, layers=1, layer='row_lstm', head=1), len(cone())),
    'PixelRNN, 7x7 and a Diagonal BiLSTM': (PixelRNN(1, hidden=1, layers=1, head=1), PREVIOUS),
  }
  fields = {name: field(network) for name, (network, _) in subjects.items()}
  rows = [Row(name, float(count), float(fields[name].sum()), 0.0) for name, (_, count) in subjects.items()]
  return Topic(
    'What a pixel is told of',
    f'Pixels of a 28x28 image that the one in row and column {CENTER} (black) depends on, by the gradients of networks'
    f' with positive weights: blue is seen, orange are those of the {PREVIOUS} before it that are never seen. Stacked'
    ' masked convolutions leave a wedge to the upper right; two stacks, or the way back of a Diagonal BiLSTM, do not.',
    rows=rows,
    pictures={name: picture(reach) for name, reach in fields.items()},
  )


def field(network: nn.Module) -> np.ndarray:
  """Finds the positions [H, W] bool that the output in the middle depends on. All weights are set positive."""
  image = jnp.zeros((1, SIDE, SIDE, 1))
  params = jax.tree.map(lambda p: jnp.full(p.shape, 0.1), jax.jit(network.init)(jax.random.key(0), image)['params'])
  number = lambda image: network.apply({'params': params}, image)[0, CENTER, CENTER].sum()
  return np.asarray(jax.jit(jax.grad(number))(image + 0.5)[0, ..., 0] != 0)


def cone() -> Sequence[tuple[int, int]]:
  """Returns what a Row LSTM of kernels of 3 reads of the map of a 7x7 kernel, in rows and columns of the image.

  k rows up it reads that map from k + 1 to the left to k to the right.
  """
  reached = set()
  for k in range(CENTER + 1):
    for column in range(max(CENTER - k - 1, 0), min(CENTER + k, SIDE - 1) + 1):
      row = CENTER - k
      reached |= {(row - up, column + across) for up in range(4) for across in range(-3, 4 if up else 0)}
  return sorted((r, c) for r, c in reached if r >= 0 and 0 <= c < SIDE)


def picture(field: np.ndarray) -> np.ndarray:
  """Draws the field [H, W] as a picture, uint8 [10 H, 10 W, 3]."""
  order = np.arange(SIDE * SIDE).reshape(SIDE, SIDE)
  canvas = np.where((order < PREVIOUS)[..., None], BLIND, LATER)
  canvas = np.where(field[..., None], SEEN, canvas)
  canvas[CENTER, CENTER] = OWN
  return canvas.astype(np.uint8).repeat(SCALE, 0).repeat(SCALE, 1)


def _pixelcnn(blocks: int) -> PixelCNN:
  return PixelCNN(1, hidden=1, blocks=blocks, head=1)
