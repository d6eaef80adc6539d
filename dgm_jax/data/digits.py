"""The built-in dataset: scikit-learn's 1797 handwritten digits of 8x8 pixels."""

from collections.abc import Callable, Iterator

import numpy as np

from dgm_jax.data.batches import permutation
from dgm_jax.data.cache import Example, cached
from dgm_jax.data.images import Look, conform
from dgm_jax.data.split import Arrays

__all__ = ['LEVELS', 'parts']

LEVELS = 17  # 0 to 16, stored spread over 0..255
_SIZE, _TRAIN = 1797, 1397


def parts(look: Look) -> dict[str, Callable[[], Arrays]]:
  """Returns the split into 1397 examples to train on and 400 to test on, fixed by a permutation."""
  chosen = permutation(0, 0, _SIZE)

  def read(index: np.ndarray) -> Arrays:
    arrays = cached('digits', {'look': look.facts}, lambda: (_SIZE, _examples(look)))
    return {name: array[index] for name, array in arrays.items()}

  return {'train': lambda: read(chosen[:_TRAIN]), 'test': lambda: read(chosen[_TRAIN:])}


def _examples(look: Look) -> Iterator[Example]:
  from sklearn.datasets import load_digits  # three seconds, paid once

  grey, labels = load_digits(return_X_y=True)  # [1797, 64], 0 to 16
  pixels = np.floor(grey * 255 / 16 + 0.5).astype(np.uint8).reshape(_SIZE, 8, 8, 1)
  for i, (picture, y) in enumerate(zip(pixels, labels, strict=True)):
    yield f'example {i}', conform(picture, look), int(y)
