"""The program `python -m dgm_jax.prepare`."""

from dgm_jax.commands import prepare

__all__ = []

if __name__ == '__main__':
  __doc__ = prepare.__doc__  # which --help prints
  prepare.run()
