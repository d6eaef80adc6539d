"""The program `python -m dgm_jax.report`."""

from dgm_jax.commands.report import run

__all__ = []

if __name__ == '__main__':
  run()
