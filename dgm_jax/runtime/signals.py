"""Who answers SIGTERM and Ctrl-C, and when.

One process: our handlers. Until training has begun, and while a program compiles, the first signal ends the process
at once, because the newest state is already on disk. While `deferred`, it is only noted; the loops ask `poll`
between two steps and between two batches of an evaluation. A second signal always ends the process at once.
Many processes: a signal to one of them is noted there, and all stop at the same poll; see `stopping`.

Imports nothing heavy.
"""

import contextlib
import os
import signal
import threading
import types
from collections.abc import Callable, Iterator
from typing import Any

from dgm_jax.runtime.stopping import Board, Stopping

__all__ = ['Stopped', 'deferred', 'interruptible', 'owned', 'poll', 'share', 'shared']


class Stopped(BaseException):
  """The process was asked to end; no `except Exception` may take it for a fault."""

  def __init__(self, number: int):
    super().__init__(f'{signal.Signals(number).name} received')
    self.code = 128 + number  # 143 for SIGTERM, 130 for Ctrl-C


# What the handlers and the polls share: the number of the first signal, and the agreement with other processes.
_watch = types.SimpleNamespace(received=0, deferring=False, stopping=None)


@contextlib.contextmanager
def owned() -> Iterator[None]:
  """Handles both signals within the block, after which those that came are forgotten. Enter it in the main thread."""
  _watch.received, _watch.deferring, _watch.stopping = 0, False, None
  # A shell's background jobs ignore Ctrl-C, and go on doing so.
  before = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT) if signal.getsignal(n) != signal.SIG_IGN}
  for number in before:
    signal.signal(number, _handle)
  try:
    yield
  finally:
    if _watch.stopping:
      _watch.stopping.close()
    for number, handler in before.items():
      signal.signal(number, handler)
    _watch.received = 0


def shared() -> bool:
  """Returns whether there are other processes, which stop where this one does."""
  return _watch.stopping is not None


def share(board: Board, process: int, processes: int) -> None:
  """Makes this process stop where the others do.

  Args:
    board: where they agree.
    process: the number of this one.
    processes: how many there are.
  """
  _watch.stopping = Stopping(board, process, processes, lambda: _watch.received)


@contextlib.contextmanager
def deferred() -> Iterator[None]:
  """Defers signals within the block until `poll` handles them."""
  before, _watch.deferring = _watch.deferring, True
  try:
    yield
  finally:
    _watch.deferring = before


def poll() -> None:
  """Ends the work here if a signal has come. Call it when the state is whole.

  If there are many processes, each must call it the same number of times. They all stop at the same call.

  Raises:
    Stopped: a signal has come.
  """
  number = _watch.stopping.poll() if _watch.stopping else _watch.received
  if number:
    raise Stopped(number)


def interruptible(function: Callable[[], Any]) -> Any:
  """Calls `function()` in another thread, so that a signal is handled while a compiler blocks.

  Raises:
    Stopped: a signal has come; the function still runs in its thread.
  """
  if _watch.stopping or not _owned():
    return function()
  result: list = []

  def run() -> None:
    try:
      result.append((function(), None))
    except BaseException as error:  # handed to the thread that waits
      result.append((None, error))

  thread = threading.Thread(target=run, daemon=True)
  thread.start()
  while thread.is_alive():
    thread.join(0.1)
    poll()
  value, error = result[0]
  if error is not None:
    raise error
  return value


def _owned() -> bool:
  return threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is _handle


def _handle(number: int, frame) -> None:
  del frame
  name = signal.Signals(number).name
  if _watch.received:
    os.write(2, f'{name} again: ending at once; the last checkpoint stands\n'.encode())
    os._exit(128 + number)
  _watch.received = number
  if not _watch.deferring and not _watch.stopping:
    raise Stopped(number)
  os.write(2, f'{name} received: finishing the step and saving; once more to end at once\n'.encode())
