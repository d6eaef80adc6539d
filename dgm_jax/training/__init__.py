"""The training loop, its log, and ensembles of runs in one program.

`run` puts a run together, `start` finds the state that it begins with, `loop` takes its steps,
and `profile` traces some of them. `grid` trains many settings and seeds.
"""

from dgm_jax.training.feed import call_shapes, one_call, with_one_batch
from dgm_jax.training.loop import ROLLBACKS, Evaluators, fit, saver, train
from dgm_jax.training.run import Run, build_run, compile_call, describe, indices, prepare
from dgm_jax.training.start import Start, load_or_init, start

__all__ = [
  'ROLLBACKS', 'Evaluators', 'Run', 'Start', 'build_run', 'call_shapes', 'compile_call', 'describe', 'fit', 'indices',
  'load_or_init', 'one_call', 'prepare', 'saver', 'start', 'train', 'with_one_batch',
]  # fmt: skip
