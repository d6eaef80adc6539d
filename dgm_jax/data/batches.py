"""Which examples make the batch of a step: pure functions of the seed and the step, on the host."""

import functools

import numpy as np

__all__ = ['order', 'permutation', 'ragged']


MANY = 2**20  # examples from which on few orders are kept: each takes four bytes an example


def permutation(seed: int, epoch: int, size: int) -> np.ndarray:
  """Returns the order of the examples in one epoch, int32 [size], read-only.

  The order sorts words of the Philox counter generator, whose stream NumPy never changes. The lowest bits of each word
  hold its place. No two words are equal, so every sorting algorithm gives the same order.
  """
  return (_permutation if size < MANY else _large_permutation)(seed, epoch, size)


def _sorted_places(seed: int, epoch: int, size: int) -> np.ndarray:
  """Computes a permutation in the place of its words, so that they are in memory once."""
  words = np.random.Philox(key=np.array([seed % 2**64, epoch], np.uint64)).random_raw(size)
  low = np.uint64((1 << size.bit_length()) - 1)
  words &= ~low
  for first in range(0, size, MANY):
    words[first : first + MANY] |= np.arange(first, min(first + MANY, size), dtype=np.uint64)
  words.sort()
  words &= low
  out = words.astype(np.int32)
  out.flags.writeable = False
  return out


_permutation = functools.lru_cache(maxsize=16)(_sorted_places)  # of the seeds that are trained together
_large_permutation = functools.lru_cache(maxsize=2)(_sorted_places)  # a batch may straddle epochs


def order(seed: int, first_step: int, steps: int, batch_size: int, size: int) -> np.ndarray:
  """Returns the examples of `steps` consecutive training batches.

  The permutations of all epochs form one endless stream. Step t takes the places t * batch_size to
  (t + 1) * batch_size. No example is dropped, and a batch may straddle epochs. The result does not depend on how the
  steps are divided over calls.

  Args:
    seed: any integer.
    first_step: completed steps before the first of these batches.
    steps: batches wanted.
    batch_size: B, examples a batch; may exceed `size`.
    size: N, examples in the split.

  Returns:
    int32 [steps, B], each in [0, N).

  Raises:
    ValueError: `batch_size` or `size` below one, `first_step` or `steps` below zero.
  """
  if min(batch_size, size) < 1 or min(first_step, steps) < 0:
    raise ValueError(f'no order of {steps=} from {first_step=} with {batch_size=} and {size=}')
  start, stop = first_step * batch_size, (first_step + steps) * batch_size
  stream = np.empty(stop - start, np.int32)
  for epoch in range(start // size, -(-stop // size)):
    first, last = max(start, epoch * size), min(stop, (epoch + 1) * size)
    stream[first - start : last - start] = permutation(seed, epoch, size)[first - epoch * size : last - epoch * size]
  return stream.reshape(steps, batch_size)


def ragged(size: int, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
  """Returns every example once, in order, in whole batches. The last batch is padded with its last example.

  Args:
    size: N, examples in the split.
    batch_size: B, examples a batch.

  Returns:
    index: int32 [S, B], S = ceil(N / B).
    mask: float32 [S, B], 1 for an example, 0 for padding; sums to N.

  Raises:
    ValueError: `size` or `batch_size` below one.
  """
  if min(size, batch_size) < 1:
    raise ValueError(f'no batches of {batch_size=} from {size=}')
  index = np.arange(-(-size // batch_size) * batch_size, dtype=np.int32).reshape(-1, batch_size)
  return np.minimum(index, size - 1), (index < size).astype(np.float32)
