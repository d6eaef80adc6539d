"""Checkpoints, in a package of their own: the only one that knows Orbax.

A step folder holds the state and, committed with it, a JSON page: experiment, versions, shapes, a digest of each part.
Orbax restores flipped bits without a word, and stores a NaN like any number; we do not. `folder` says which steps there
are, `writer` saves them, `reader` restores them. Only the process that trains in a folder changes it.
"""

from dgm_jax.runs.checkpoint.folder import reason, steps, unreadable
from dgm_jax.runs.checkpoint.reader import DAMAGE, Restored, best_step, compare_shapes, read_parts, restore
from dgm_jax.runs.checkpoint.writer import Saver, check_space, commit, save, saving

__all__ = [
  'DAMAGE', 'Restored', 'Saver', 'best_step', 'check_space', 'commit', 'compare_shapes', 'read_parts', 'reason',
  'restore', 'save', 'saving', 'steps', 'unreadable',
]  # fmt: skip
