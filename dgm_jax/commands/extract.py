"""Writes the codes of a split, as a trained vector-quantized autoencoder gives them.

Usage: python -m dgm_jax.extract --workdir=DIR [--split=train] [--checkpoint=latest|best|STEP] [--out=FILE.npz]

The file (DIR/codes_SPLIT.npz if not given) holds an array for each level, top, (middle,) bottom, uint16 [N, h, w] in
the order of the split, and the labels y [N] where there are any. The workdir is that of an autoencoder (vq.vae) or of
priors over its codes (vq.prior), which holds a copy of it.
"""

from pathlib import Path

from absl import flags

from dgm_jax import config as experiment
from dgm_jax import errors
from dgm_jax.commands.evaluate import SPLITS
from dgm_jax.internal import files
from dgm_jax.runtime import cli

__all__ = ['define_flags', 'main', 'run']

flags.disclaim_key_flags()  # --help lists them as the flags of the program that calls `run`


def define_flags() -> None:
  """Defines the command line in the module's own flags."""
  flags.DEFINE_string('workdir', None, 'Folder of the run.')
  flags.DEFINE_enum('split', 'train', SPLITS, 'Which part of the data.')
  flags.DEFINE_string('checkpoint', 'latest', "'latest', 'best' (by config.best), or a step.")
  flags.DEFINE_string('out', None, 'The file.')


def main(argv: list[str]) -> None:
  """Writes the codes of a split."""
  experiment.parse(argv, __doc__)
  args = flags.FLAGS
  if not args.workdir:
    raise errors.UserError('no run given; add --workdir=DIR')
  folder = Path(args.workdir)

  import numpy as np

  from dgm_jax.evals import codes
  from dgm_jax.runs import workdir
  from dgm_jax.runtime import cluster

  cluster.start()
  subject = workdir.open_subject(folder, args.split, args.checkpoint)
  print(f'encoding {subject.split.size:,} images of {args.split}', flush=True)
  levels = {name: each.astype(np.uint16) for name, each in codes.of_split(subject.config.seed, subject).items()}
  labels = {'y': np.asarray(subject.split.arrays['y'])} if 'y' in subject.split.arrays else {}
  target = Path(args.out or folder / f'codes_{args.split}.npz')
  target = target if target.suffix == '.npz' else target.with_name(f'{target.name}.npz')
  files.write_with(target, lambda file: np.savez_compressed(file, **levels, **labels))
  shapes = ', '.join(f'{name} {list(each.shape)}' for name, each in levels.items())
  print(f'{target}: {shapes}, codes of {subject.config.model.vqvae.codes}')


def run() -> None:
  """Runs the program."""
  define_flags()
  cli.run(main)
