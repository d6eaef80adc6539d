"""Deep generative models as pure functions in JAX.

`dgm_jax.load(run)` opens a trained run, `dgm_jax.fit(config)` trains one; the rest is `losses`, `distributions`, `nn`,
`models`, `systems` and `evals`. Each is imported when it is first asked for.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  from dgm_jax import distributions, evals, losses, models, nn, systems
  from dgm_jax.api import Model, fit, load

__version__ = '0.1.0'
__all__ = ['Model', 'distributions', 'evals', 'fit', 'load', 'losses', 'models', 'nn', 'systems']


def __getattr__(name: str) -> Any:
  if name not in __all__:
    raise AttributeError(f"module 'dgm_jax' has no attribute '{name}'; it has {', '.join(__all__)}")
  if name in ('Model', 'fit', 'load'):
    return getattr(importlib.import_module('dgm_jax.api'), name)
  return importlib.import_module(f'dgm_jax.{name}')


def __dir__() -> list[str]:
  return [*__all__, '__version__']
