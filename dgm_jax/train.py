"""The program `python -m dgm_jax.train`."""

from dgm_jax.commands.train import run

__all__ = []

if __name__ == '__main__':
  run()
