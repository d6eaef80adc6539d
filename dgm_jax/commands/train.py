"""Trains an experiment, or goes on with one that was interrupted (the same command again).

Usage: python train.py --config=configs/vae_mnist.py [--config.KEY=VALUE ...] --workdir=DIR

On several machines run the same command on each, with --coordinator=auto on a TPU pod or under Slurm,
or with --coordinator=HOST:PORT --processes=N --process=I.
"""

import re
import sys
from pathlib import Path

from absl import flags
from ml_collections import ConfigDict

from dgm_jax import config as experiment
from dgm_jax import errors
from dgm_jax.runtime import cli

__all__ = ['define_flags', 'main', 'run']

flags.disclaim_key_flags()  # --help lists them as the flags of the program that calls `run`


def define_flags() -> None:
  """Defines the command line."""
  experiment.define_flags()
  flags.DEFINE_string('workdir', None, 'Folder of the run: figures, pictures, checkpoints, report.')
  flags.DEFINE_bool('list', False, 'Print the experiments of configs/ and their variants, and end.')
  flags.DEFINE_bool('allow_config_change', False, 'Go on with a run whose config was another one.')
  flags.DEFINE_enum(
    'on_nan', 'abort', ('abort', 'rollback'), 'At a NaN: end, or go back to the last checkpoint and on.'
  )
  flags.DEFINE_integer('profile', 0, 'Trace so many steps after the first call, for xprof, into WORKDIR/profile.', 0)
  flags.DEFINE_string('coordinator', '', "HOST:PORT of process 0, or 'auto' where the cluster is recognised.")
  flags.DEFINE_integer('processes', 1, 'Number of processes, with --coordinator=HOST:PORT.')
  flags.DEFINE_integer('process', 0, 'Number of this process, from 0.')
  flags.DEFINE_integer('heartbeat', 30, 'Seconds of silence after which a process counts as lost.', 5, 30)


def main(argv: list[str]) -> None:
  """Checks the command line, trains, and writes the report."""
  config, mistake = None, None
  try:
    config = _read(argv)
    if config is None:
      print('\n'.join(experiment.listing()))
      return
  except errors.UserError as error:
    if not (address := _address(argv)):
      raise
    mistake = error
    print(f'error: {mistake}', file=sys.stderr, flush=True)  # before it waits for the others
  else:
    args = flags.FLAGS
    address = (args.coordinator, args.processes, args.process, args.heartbeat)

  # JAX is loaded only once the command line is known to be right, or others wait for this process.
  from dgm_jax import training
  from dgm_jax.commands import report
  from dgm_jax.runtime import cluster, cpu

  cluster.start(*address, keep_memory=config is not None and cpu.large_programs(config))
  if address[0]:
    _agree(mistake)
  args = flags.FLAGS
  rollbacks = training.ROLLBACKS if args.on_nan == 'rollback' else 0
  training.fit(config, Path(args.workdir), args.allow_config_change, rollbacks, args.profile)
  if cluster.main_process():
    print(f'report: {report.write_report(args.workdir)}')


def _read(argv: list[str]) -> ConfigDict | None:
  """Returns the experiment of a command line that is right, None for --list."""
  experiment.parse(argv, __doc__)
  args = flags.FLAGS
  if args.list:
    return None
  config = experiment.value()
  experiment.check(config)
  if not args.workdir:
    raise errors.UserError('no folder given for the run; add --workdir=DIR')
  if args.processes > 1 and not args.coordinator:
    raise errors.UserError('--processes needs the address of process 0: add --coordinator=HOST:PORT')
  if args.coordinator not in ('', 'auto') and not re.fullmatch(r'.+:\d+', args.coordinator):
    raise errors.UserError(f"--coordinator={args.coordinator} must be HOST:PORT, or 'auto' where there is a cluster")
  if not 0 <= args.process < args.processes:
    raise errors.UserError(f'--process={args.process} must be in [0, {args.processes}), the number of --processes')
  return config


def _address(argv: list[str]) -> tuple[str, int, int] | None:
  """Returns where the other processes wait, read off a command line with a mistake; None if there are none."""
  pairs = zip(argv, [*argv[1:], ''], strict=True)
  words = dict(_flag(word, following) for word, following in pairs if word.startswith('-'))
  coordinator, counts = words.get('coordinator', ''), (words.get('processes', '1'), words.get('process', '0'))
  if coordinator == 'auto':
    return coordinator, 1, 0
  if not coordinator or not all(count.isdigit() for count in counts):
    return None
  processes, process = map(int, counts)
  return (coordinator, processes, process) if 0 <= process < processes > 1 else None


def _flag(word: str, following: str) -> tuple[str, str]:
  """Returns the name and the value of a flag, `--name=value` or `--name value`."""
  name, sign, value = word.lstrip('-').partition('=')
  return name, value if sign else following


def _agree(mistake: errors.UserError | None) -> None:
  """Ends all processes if the command line of one has a mistake, which that process has printed."""
  from dgm_jax.runtime import cluster

  def tell() -> None:
    if mistake:
      raise mistake

  try:
    cluster.agree(tell)
  except errors.UserError:
    if mistake:
      sys.exit(2)
    raise


def run() -> None:
  """Runs the program."""
  define_flags()
  cli.run(main, again='goes on from the last checkpoint')
