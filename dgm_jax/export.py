"""The program `python -m dgm_jax.export`."""

from dgm_jax.commands.export import run

__all__ = []

if __name__ == '__main__':
  run()
