"""One part of a dataset, in memory or in files, and how a batch is drawn from it."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from dgm_jax.data.rows import Source

__all__ = ['Arrays', 'Dataset', 'Split', 'gather', 'handed']

Arrays = dict[str, np.ndarray]  # or `Rows`, which are indexed alike and read what they are asked for


def gather(arrays: dict[str, Any], index: Any) -> dict[str, Any]:
  """Returns the examples at `index`, with their places in the split under 'index'.

  The function is pure: it runs on the host with NumPy arrays, and inside jit with device arrays. If `index` is sharded
  and `arrays` are replicated, the devices do not communicate.

  Args:
    arrays: name -> [N, ...].
    index: int32 [B], each in [0, N).

  Returns:
    name -> [B, ...], and 'index' -> int32 [B].
  """
  return {name: array[index] for name, array in arrays.items()} | {'index': index}


def handed(arrays: dict[str, Any], index: Any) -> dict[str, Any]:
  """Returns examples that are already those at `index`, with their places under 'index'; see `gather`."""
  return arrays | {'index': index}


class Dataset(NamedTuple):
  """A dataset that is found but not yet read."""

  parts: Mapping[str, Callable[[], Arrays]]  # 'train', 'test' and maybe 'valid'
  classes: tuple[str, ...] = ()  # names of labels 0, 1, ...; () if unknown
  notes: tuple[str, ...] = ()  # what a user should know of it, one line each


class Split(NamedTuple):
  """The training, validation or test examples of a dataset."""

  name: str  # 'mnist:train'
  size: int  # N, examples
  arrays: Arrays  # 'x': uint8 [N, H, W, C] (or float32 [N, ...]); 'y': int32 [N], when there are labels
  fetch: Callable[[dict[str, Any], Any], dict[str, Any]] = gather  # (arrays, index [B]) -> batch
  rendered: tuple[int, ...] = ()  # shape of an example, where `fetch` makes it of arrays that hold no 'x'
  levels: int = 256  # grey levels that its pixels have, evenly spread over 0..255
  classes: tuple[str, ...] = ()  # names of labels 0, 1, ...; () if unknown
  notes: tuple[str, ...] = ()  # what a user should know of the dataset, one line each
  places: np.ndarray | None = None  # of its examples among `arrays`, which `fetch` knows, too; None: it has them all

  @property
  def shape(self) -> tuple[int, ...]:
    """Returns the shape of an example."""
    return self.rendered or tuple(self.arrays['x'].shape[1:])

  @property
  def nbytes(self) -> int:
    """Returns the bytes of all its examples as they are stored."""
    return sum(array.nbytes for array in self.arrays.values())

  @property
  def source(self) -> Source:
    """Returns random access to its examples on the host."""
    return Source(self.arrays)
