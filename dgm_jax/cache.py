"""The program `python -m dgm_jax.cache`."""

from dgm_jax.commands.cache import run

__all__ = []

if __name__ == '__main__':
  run()
