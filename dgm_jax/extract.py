"""The program `python -m dgm_jax.extract`."""

from dgm_jax.commands.extract import run

__all__ = []

if __name__ == '__main__':
  run()
