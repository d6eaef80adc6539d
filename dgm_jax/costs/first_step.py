"""How long a run takes to its first step."""

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from dgm_jax.errors import UserError

__all__ = ['seconds']


def seconds(config: Any) -> float | None:
  """Measures the time from the start of `train.py` to the end of its first call, with its programs in the cache."""
  program = Path(__file__).parents[2] / 'train.py'
  if not program.exists():
    return None
  command = [sys.executable, str(program), f'--config={config.source}', *(f'--config.{o}' for o in config.overrides)]
  _first_call(command)  # fills the cache
  return _first_call(command)


def _first_call(command: list[str]) -> float:
  with tempfile.TemporaryDirectory() as folder:
    started, line = time.perf_counter(), ''
    output = {'stdout': subprocess.PIPE, 'stderr': subprocess.STDOUT}
    with subprocess.Popen([*command, f'--workdir={folder}/run'], text=True, **output) as child:
      for line in child.stdout or ():
        if line.startswith('first call'):
          child.kill()
          return time.perf_counter() - started
  raise UserError(f'train.py ended before its first step: {line.strip().removeprefix("error: ")}')
