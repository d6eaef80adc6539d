"""The program `python -m dgm_jax.study`."""

from dgm_jax.commands.study import run

__all__ = []

if __name__ == '__main__':
  run()
