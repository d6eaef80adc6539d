"""What every command shares: one clear line and an exit code of its own for whatever can be expected to go wrong.

Imports nothing heavy, so that `--help` and a mistyped key answer at once.
"""

import contextlib
import logging
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any, TextIO

from dgm_jax.errors import ALONE, UNSAVED, Halt, UserError, printable
from dgm_jax.internal import words
from dgm_jax.runtime import signals

__all__ = ['Unbroken', 'line_of', 'run']

MISTAKE = 2  # exit code; those of a Halt are its own, and 128 + n follows signal n
SETTLE_SECONDS = 0.1  # for a thread that is in the middle of a traceback


def run(main: Callable[[list[str]], None], argv: list[str] | None = None, again: str = 'starts anew') -> None:
  """Runs `main(argv)`. If anything ends it early, prints one line on stderr and exits with a code.

  Args:
    main: the command.
    argv: the command line, `sys.argv` if None.
    again: what the same command does after a signal.
  """
  output = Unbroken(sys.stdout)
  try:
    with contextlib.redirect_stdout(output), signals.owned():
      main(sys.argv if argv is None else argv)
  except Halt as halt:
    _quiet()
    print(f'error: {halt}', file=sys.stderr)
    _leave(halt.code, wait=halt.code not in (ALONE, UNSAVED))  # which the others do not know of
  except Exception as error:
    line = line_of(error)
    if not line:
      if not signals.shared():
        raise
      traceback.print_exception(error)
      _leave(1, wait=False)  # the others would wait for this process for minutes
    if os.environ.get('DGM_JAX_TRACEBACK'):
      traceback.print_exception(error)
    print(f'error: {line}', file=sys.stderr)
    if signals.shared() and not getattr(error, 'everywhere', False):
      _leave(MISTAKE, wait=False)
    sys.exit(MISTAKE)
  except signals.Stopped as stopped:
    _quiet()
    print(f'{stopped}; the same command {again}', file=sys.stderr)
    _leave(stopped.code)
  finally:
    output.flush()


def line_of(error: Exception) -> str:
  """Returns the line for a mistake of the user or a fault of the machine, '' for a fault of this package."""
  if isinstance(error, UserError):
    return str(error)
  said = words.one_line(error)
  if isinstance(error, MemoryError) or 'RESOURCE_EXHAUSTED' in said:
    return f'there is not enough memory ({said[:200]}): take smaller batches, images or networks, or a larger machine'
  if isinstance(error, OSError):
    names = ' and '.join(printable(str(name)) for name in (error.filename, error.filename2) if name)
    return f'{names or type(error).__name__}: {error.strerror or said}; mend it, and start the command again'
  if isinstance(error, RuntimeError) and 'home directory' in said:
    return 'there is no home folder for what is kept between runs: set HOME, or DGM_JAX_CACHE and TFDS_DATA_DIR'
  return ''


class Unbroken:
  """A stream for print whose reader may go away (`| head -1`) or whose disk may fill up: the rest is not written."""

  def __init__(self, stream: TextIO):
    self.stream = stream

  def write(self, text: str) -> int:
    """Writes text, or drops it."""
    self._attempt(self.stream.write, text)
    return len(text)

  def flush(self) -> None:
    """Flushes the stream, or drops its buffer."""
    self._attempt(self.stream.flush)

  def __getattr__(self, name: str) -> Any:
    return getattr(self.stream, name)

  def _attempt(self, function: Callable, *args: Any) -> None:
    try:
      function(*args)
    except OSError:
      # What the stream has buffered goes the same way, also at the end of the program.
      with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), self.stream.fileno())


def _quiet() -> None:
  """Silences threads that a failed save left behind, so that the last line is the command's."""
  logging.disable()
  threading.excepthook = lambda args: None
  time.sleep(SETTLE_SECONDS)


def _leave(code: int, wait: bool = True) -> None:
  """Ends the process at once, since a compiler may still be at work.

  If there are many processes, they wait for one another first.
  """
  Unbroken(sys.stdout).flush()
  Unbroken(sys.stderr).flush()
  if wait and signals.shared():
    sys.exit(code)
  os._exit(code)
