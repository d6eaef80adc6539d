"""The program `python -m dgm_jax.evaluate`."""

from dgm_jax.commands.evaluate import run

__all__ = []

if __name__ == '__main__':
  run()
