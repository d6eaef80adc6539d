"""Datasets by name as arrays in memory, and the order in which their examples are drawn.

Nothing here imports jax, but `dgm_jax.data.preprocess`, which runs inside jit
and is imported by its own name.
"""

from dgm_jax.data.batches import order, permutation, ragged
from dgm_jax.data.sources import load
from dgm_jax.data.split import Arrays, Split, gather

__all__ = ['Arrays', 'Split', 'gather', 'load', 'order', 'permutation', 'ragged']
