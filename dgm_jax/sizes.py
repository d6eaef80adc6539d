"""The program `python -m dgm_jax.sizes`."""

from dgm_jax.pages.sizes import run

__all__ = []

if __name__ == '__main__':
  run()
