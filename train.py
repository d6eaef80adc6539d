"""Trains an experiment, or goes on with one that was interrupted (the same command again).

Usage: python train.py --config=configs/vae_mnist.py [--config.KEY=VALUE ...] --workdir=DIR

On several machines run the same command on each, with --coordinator=auto on a TPU pod or under Slurm,
or with --coordinator=HOST:PORT --processes=N --process=I.
"""

from dgm_jax.commands import train

if __name__ == '__main__':
  train.run()
