"""The program `python -m dgm_jax.list`."""

from dgm_jax.commands.listing import run

__all__ = []

if __name__ == '__main__':
  run()
