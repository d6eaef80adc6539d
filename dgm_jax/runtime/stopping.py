"""Many processes that are asked to end: the call of `poll` at which all of them stop.

Each process counts its polls, and a thread of each looks at a board that all can read and write. Whoever hears a signal
writes its number of polls on the board. Then so does each other one, and waits at its next poll. Once all have written,
each knows the largest number, and they stop at the poll after it, which none of them has passed.

Imports nothing heavy.
"""

import threading
from collections.abc import Callable
from typing import Protocol

__all__ = ['Board', 'Stopping']

LOOK = 0.3  # seconds between two looks at the board
HURRY = 0.02  # the same, while others wait


class Board(Protocol):
  """Lines that all processes can write and read."""

  def write(self, process: int, line: str) -> None:
    """Writes the line of a process."""

  def read(self) -> list[str]:
    """Returns the lines of all processes that have written one."""
    ...


class Stopping:
  """The agreement of one process with the others.

  Args:
    board: where they write.
    process: the number of this one.
    processes: how many there are.
    heard: returns the number of the signal that this process has heard, 0 if none.
  """

  def __init__(self, board: Board, process: int, processes: int, heard: Callable[[], int]):
    self.board, self.process, self.processes, self.heard = board, process, processes, heard
    self.lock, self.known, self.closed = threading.Lock(), threading.Event(), threading.Event()
    self.polls, self.written, self.last, self.number = 0, False, 0, 0
    self.thread = threading.Thread(target=self._watch, daemon=True)
    self.thread.start()

  def poll(self) -> int:
    """Returns the number of the signal at which all processes stop here, 0 where they go on.

    Each process must call it the same number of times.
    """
    with self.lock:
      self.polls += 1
      written = self.written
    if written:
      self.known.wait()
    return self.number if self.known.is_set() and self.polls >= self.last else 0

  def close(self) -> None:
    """Ends the thread, before the board is taken away."""
    self.closed.set()
    self.thread.join()

  def _watch(self) -> None:
    try:
      while not self.closed.wait(HURRY if self.written else LOOK):
        lines = self.board.read()
        if not self.written and (lines or self.heard()):
          self._write()
        elif len(lines) == self.processes:
          pairs = [tuple(map(int, line.split())) for line in lines]
          self.last, self.number = max(polls for polls, _ in pairs) + 1, max(number for _, number in pairs)
          self.known.set()
          return
    except RuntimeError:  # the board is gone, since another process has ended
      self.known.set()

  def _write(self) -> None:
    with self.lock:
      self.board.write(self.process, f'{self.polls} {self.heard()}')
      self.written = True
