"""A trace of some steps of a run: what host and devices do in them, as jax.profiler writes it."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import jax

from dgm_jax.runtime import cluster

__all__ = ['FOLDER', 'profiled']

FOLDER = 'profile'


@contextlib.contextmanager
def profiled(call: Callable, steps: int, steps_per_call: int, folder: Path) -> Iterator[Callable]:
  """Yields a call that also traces some of its calls, from the second one on: the first compiles.

  The main process writes the trace, and a line that says where, when the steps are over, or at the end of the block.

  Args:
    call: as `compile_call` makes it.
    steps: how many are traced, rounded up to whole calls; 0: none.
    steps_per_call: of a whole call.
    folder: of the run.
  """
  if not steps or not cluster.main_process():
    yield call
    return
  calls, last = 0, 1 - -steps // steps_per_call
  with contextlib.ExitStack() as tracing:

    def traced(*args):
      nonlocal calls
      if calls == 1:
        options = jax.profiler.ProfileOptions()
        options.python_tracer_level = 0  # frames of Python would be most of the trace
        tracing.callback(lambda: print(_line(folder, calls - 1, steps_per_call), flush=True))
        tracing.enter_context(jax.profiler.trace(folder / FOLDER, profiler_options=options))
      out = call(*args)
      calls += 1
      if calls == last:
        jax.block_until_ready(out)
        tracing.close()
      return out

    yield traced


def _line(folder: Path, calls: int, steps_per_call: int) -> str:
  count = f'{calls * steps_per_call} steps in {calls} call{"s" * (calls > 1)}'
  return f'profile: {count}, in {folder / FOLDER}; look at it with xprof --logdir={folder / FOLDER}'
