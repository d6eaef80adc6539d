"""The program `python -m dgm_jax.prepare`."""

import runpy

__all__ = []

if __name__ == '__main__':
  runpy.run_module('dgm_jax.commands.prepare', run_name='__main__', alter_sys=True)
