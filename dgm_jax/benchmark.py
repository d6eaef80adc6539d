"""The program `python -m dgm_jax.benchmark`."""

from dgm_jax.commands.benchmark import run

__all__ = []

if __name__ == '__main__':
  run()
