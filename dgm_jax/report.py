"""The program `python -m dgm_jax.report`."""

import runpy

__all__ = []

if __name__ == '__main__':
  runpy.run_module('dgm_jax.commands.report', run_name='__main__', alter_sys=True)
