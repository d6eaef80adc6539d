"""What is measured on a trained system: likelihoods, latents, pictures.

`fid`, `kid`, `inception_score` and `manifolds` compare sets of images of one's own.
"""

import importlib
from typing import Any

__all__ = [
  'causality', 'classes', 'codebooks', 'codes', 'disentanglement', 'generated', 'labels', 'latent', 'likelihood',
  'mean', 'modes', 'parzen', 'style', 'surgery',
]  # fmt: skip


def __getattr__(name: str) -> Any:
  sets = importlib.import_module('dgm_jax.evals.image_sets')
  if name not in sets.__all__:
    raise AttributeError(f"module 'dgm_jax.evals' has no attribute '{name}'")
  return getattr(sets, name)
