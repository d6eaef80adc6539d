"""The process of a side, as its parent sees it: an item at a time, with an end to its patience."""

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO

__all__ = ['Ended', 'Process']

ROOT = Path(__file__).resolve().parents[1]


class Ended(Exception):
  """A process ended, or was ended, before its answer."""


class Process:
  """A process that answers one line of JSON with another.

  Args:
    side: 'jax' or 'torch'.
    log: an open file for what it says.
    train: whether compiled programs are kept from run to run.
    torch_python: the interpreter of the side 'torch'.
    command: what is run; empty: `accelerator_side`.
  """

  def __init__(
    self,
    side: str,
    log: IO | None,
    train: bool = False,
    torch_python: str = sys.executable,
    command: tuple[str, ...] = (),
  ):
    python = torch_python if side == 'torch' else sys.executable
    command = command or (python, '-m', 'benchmarks.accelerator_side', *(['--jax'] if train else []))
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get('PYTHONPATH', '')]))
    environment = {'XLA_PYTHON_CLIENT_MEM_FRACTION': '.9'} | os.environ | {'PYTHONPATH': path, 'PYTHONUNBUFFERED': '1'}
    self.child = subprocess.Popen(
      command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, cwd=ROOT, env=environment
    )
    self.lines: queue.Queue[str] = queue.Queue()
    self.reader = threading.Thread(target=self._read, daemon=True)
    self.reader.start()

  def _read(self) -> None:
    for line in self.child.stdout or ():
      self.lines.put(line)
    self.lines.put('')

  def ask(self, item: dict, seconds: float) -> dict:
    """Returns the answer to an item.

    Raises:
      Ended: the process ended first, or did not answer in time.
    """
    with contextlib.suppress(BrokenPipeError):
      print(json.dumps(item), file=self.child.stdin, flush=True)
    try:
      line = self.lines.get(timeout=max(seconds, 0.0))
    except queue.Empty:
      raise Ended(f'ended after {seconds:.0f} s without an answer') from None
    if not line:
      raise Ended(f'its process ended with code {self.child.wait()}: see said.txt')
    return json.loads(line)

  def close(self) -> None:
    """Ends the process, which gives the device's memory back."""
    self.child.kill()
    self.child.wait()
    self.reader.join()
    for pipe in (self.child.stdin, self.child.stdout):
      with contextlib.suppress(OSError):
        if pipe:
          pipe.close()
