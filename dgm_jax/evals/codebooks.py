"""How a critic's codes are used: by real and by generated images, layer by layer."""

import jax
import numpy as np

from dgm_jax.data import preprocess
from dgm_jax.evals import generated, standing
from dgm_jax.runs.subject import Subject
from dgm_jax.views import needs

__all__ = ['codebooks']


@needs('feature_codes', 'sample')
def codebooks(seed: int, subject: Subject) -> dict[str, float]:
  """Measures the use of each layer's codes by at most 1,000 images of the split and as many samples.

  Beside the figures of `usage` stands the perplexity of the running counts.
  """
  config, key = subject.config, jax.random.key(seed)
  count = min(generated.CHUNK, subject.split.size)
  stored = subject.split.fetch(subject.split.arrays, np.arange(count))
  real = preprocess.find(config.data.preprocess)(key, {'x': np.asarray(stored['x'])})['x']
  settled = standing.settled(seed, subject)
  fake = jax.jit(settled.system.sample, static_argnums=2)(key, settled.state, count)
  view = jax.jit(subject.system.views.feature_codes)
  layers = view(key, subject.state, real), view(key, subject.state, fake)
  figures = {}
  for name in layers[0]:
    kept = np.asarray(subject.state.extra['critic_codebook'][f'quantize_{name}']['counts'], np.float64)
    figures[f'perplexity_running_{name}'] = _perplexity(kept)
    for figure, value in usage(*(np.asarray(layer[name]) for layer in layers), len(kept)).items():
      figures[f'{figure}_{name}'] = value
  return figures


def usage(real: np.ndarray, fake: np.ndarray, size: int) -> dict[str, float]:
  """Compares the codes of real and of generated features, whole numbers of any shape below `size`.

  Returns:
    codes_used: by either; perplexity_real and perplexity_fake; code_distance: the total variation between the shares
    of codes of both, 0 for the same, 1 for no code in common.
  """
  counts = [np.bincount(codes.ravel(), minlength=size) for codes in (real, fake)]
  shares = [of / max(of.sum(), 1) for of in counts]
  return {
    'codes_used': float(((counts[0] + counts[1]) > 0).sum()), 'perplexity_real': _perplexity(counts[0]),
    'perplexity_fake': _perplexity(counts[1]), 'code_distance': float(np.abs(shares[0] - shares[1]).sum() / 2),
  }  # fmt: skip


def _perplexity(counts: np.ndarray) -> float:
  """Computes the exponential of the entropy of shares of counts [K]; 1 if all are 0."""
  share = counts[counts > 0] / max(counts.sum(), np.finfo(np.float64).tiny)
  return float(np.exp(-(share * np.log(share)).sum()))
