"""Datasets by name as arrays in memory or in files, and the order in which their examples are drawn.

Nothing here imports jax, but `dgm_jax.data.preprocess`, which runs inside jit
and is imported by its own name, and `sprites`, `pairs` and `factors`, which are imported when they are asked for.
"""

from dgm_jax.data.batches import order, permutation, ragged
from dgm_jax.data.rows import Source
from dgm_jax.data.sources import load, load_parts, simulator
from dgm_jax.data.split import Arrays, Split, gather, handed

__all__ = [
  'Arrays', 'Source', 'Split', 'gather', 'handed', 'load', 'load_parts', 'order', 'permutation', 'ragged', 'simulator',
]  # fmt: skip
