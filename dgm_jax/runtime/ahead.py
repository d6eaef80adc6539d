"""Batches that threads read while the devices work.

Axes: S steps of a call, B examples of a batch.
"""

import collections
import concurrent.futures
import queue
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from dgm_jax.errors import UserError
from dgm_jax.runtime import cpu, signals

__all__ = ['Ahead', 'read']

THREADS = 16  # at most
ROWS = 32  # of a task, at least: fewer cost more to hand over than to read
LOOK = 0.2  # seconds between two looks for a signal while a reader is waited for


class Ahead:
  """Reads the rows of one order of examples after another, `depth` orders before they are taken.

  It closes as a context manager. Its threads end with the process, so that a reader that hangs does not hold it up.

  Args:
    arrays: name -> [N, ...], NumPy arrays or others that an array of indices may be asked of in any thread.
    orders: int32 [S, B] each, in the order in which they are taken.
    columns: the places of a batch that this process reads; None: all of them.
    depth: orders that are read before they are taken.
  """

  def __init__(
    self, arrays: Mapping[str, Any], orders: Iterator[np.ndarray], columns: np.ndarray | None = None, depth: int = 2
  ):  # fmt: skip
    self.arrays, self.orders, self.columns, self.depth = arrays, orders, columns, depth
    self.tasks, self.orders_in_work, self.closed = queue.SimpleQueue(), collections.deque(), False
    self.threads = min(THREADS, cpu.cores())
    for _ in range(self.threads):
      threading.Thread(target=self._work, daemon=True).start()

  def __enter__(self):
    return self

  def __exit__(self, *_):
    self.closed = True
    for _ in range(self.threads):
      self.tasks.put(None)

  def take(self) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Returns the next order [S, B] and its rows, name -> [S, B, ...], new arrays; rows of other processes are not set.

    Raises:
      UserError: a file cannot be read.
      Stopped: a signal has come while it waited.
    """
    while len(self.orders_in_work) <= self.depth and self._submit():
      pass
    order, rows, futures = self.orders_in_work.popleft()
    for future in futures:
      _wait(future)
    return order, rows

  def _submit(self) -> bool:
    """Hands the next order to the threads, in tasks of some rows. Returns whether there is one."""
    order = next(self.orders, None)
    if order is None:
      return False
    # Memory that a batch lies in may be a device's own from then on: it is new for each order.
    rows = {name: np.empty((*order.shape, *array.shape[1:]), array.dtype) for name, array in self.arrays.items()}
    places = (
      np.arange(order.size).reshape(order.shape)[:, slice(None) if self.columns is None else self.columns].ravel()
    )
    each = max(ROWS, -(-places.size // (4 * self.threads)))
    futures = [self._hand(order, rows, places[first : first + each]) for first in range(0, places.size, each)]
    self.orders_in_work.append((order, rows, futures))
    return True

  def _hand(self, order: np.ndarray, rows: dict[str, np.ndarray], places: np.ndarray) -> concurrent.futures.Future:
    future = concurrent.futures.Future()
    self.tasks.put((future, order.reshape(-1)[places], rows, places))
    return future

  def _work(self) -> None:
    while (task := self.tasks.get()) is not None:
      future, index, rows, places = task
      if self.closed:
        continue
      try:
        for name, array in self.arrays.items():
          out = rows[name]
          out.reshape(-1, *out.shape[2:])[places] = array[index]
        future.set_result(None)
      except BaseException as error:  # handed to the thread that waits
        future.set_exception(error)


def read(arrays: Mapping[str, Any], index: np.ndarray) -> dict[str, np.ndarray]:
  """Reads the rows at `index` int [R] in threads, name -> [R, ...].

  Raises:
    UserError: a file cannot be read.
    Stopped: a signal has come while it waited.
  """
  with Ahead(arrays, iter([index[None]])) as ahead:
    return {name: rows[0] for name, rows in ahead.take()[1].items()}


def _wait(future: concurrent.futures.Future) -> None:
  """Waits for a task, and meanwhile answers signals. Of many processes, each must look for them equally often."""
  while not concurrent.futures.wait([future], LOOK).done:
    if not signals.shared():
      signals.poll()
  try:
    future.result()
  except OSError as error:
    said = error.strerror or type(error).__name__
    raise UserError(f'cannot read the examples ({said}): mend the disk, and start again') from error
