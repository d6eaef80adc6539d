"""The program `python -m dgm_jax.sample`."""

from dgm_jax.commands.sample import run

__all__ = []

if __name__ == '__main__':
  run()
