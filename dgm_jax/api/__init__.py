"""A trained system as a value in one's own program: load it, or train it, and ask it.

`model = load('runs/vae')` opens a run, `model = fit(config, steps=1000)` trains one.
"""

from dgm_jax.api.fitting import fit
from dgm_jax.api.model import Model, load

__all__ = ['Model', 'fit', 'load']
