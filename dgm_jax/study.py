"""The program `python -m dgm_jax.study`."""

import runpy

__all__ = []

if __name__ == '__main__':
  runpy.run_module('dgm_jax.commands.study', run_name='__main__', alter_sys=True)
