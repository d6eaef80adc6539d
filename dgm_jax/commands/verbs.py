"""The console command `dgm`: each verb is a program of its own.

Usage: dgm VERB [--flags]

VERB is one of those below; `dgm VERB --help` says more of it. `python -m dgm_jax.VERB` is the same.
"""

import importlib
import sys

from absl import flags

from dgm_jax import __version__
from dgm_jax.internal.words import named

__all__ = ['VERBS', 'run']

flags.disclaim_key_flags()  # --help lists them as the flags of the program that calls `run`

# verb -> (module of dgm_jax.commands, what it does)
VERBS = {
  'train': ('train', 'train an experiment, or go on with one'),
  'evaluate': ('evaluate', 'measure a run on a split of its data'),
  'sample': ('sample', 'draw images and pictures from a run'),
  'report': ('report', 'write the page of a run, compare runs, render tables and topics'),
  'study': ('study', 'train many settings and seeds, and compare them'),
  'benchmark': ('benchmark', 'time steps and samples, count work and memory'),
  'export': ('export', 'write a run into one file that needs no run'),
  'extract': ('extract', 'write the codes of a run as a dataset'),
  'prepare': ('prepare', 'prepare a dataset, or the weights of the Inception network'),
  'cache': ('cache', 'list or remove decoded data and compiled programs'),
  'list': ('listing', 'list the experiments'),
}
MISTAKE = 2


def run() -> None:
  """Runs the program."""
  verb = sys.argv[1] if len(sys.argv) > 1 else '--help'
  if verb in ('--help', '-h', 'help'):
    width = max(map(len, VERBS))
    print((__doc__ or '').strip() + '\n\n' + '\n'.join(f'{name:{width}}  {what}' for name, (_, what) in VERBS.items()))
    return
  if verb in ('--version', 'version'):
    print(__version__)
    return
  if verb not in VERBS:
    print(f'error: dgm has no verb {named(verb, VERBS)}; it has {", ".join(VERBS)}', file=sys.stderr)
    sys.exit(MISTAKE)
  sys.argv[:2] = [f'dgm {verb}']
  importlib.import_module(f'dgm_jax.commands.{VERBS[verb][0]}').run()
