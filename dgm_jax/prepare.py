"""The program `python -m dgm_jax.prepare`."""

from dgm_jax.commands.prepare import run

__all__ = []

if __name__ == '__main__':
  run()
