"""Codes of a vector-quantized autoencoder over a split: how many are in use, and how many bits they are worth.

Principal components of as many bits stand beside them. For lossy codes, `decompressions` measures what they keep, and
`compression` what the first steps of a painter keep.
"""

import math

import jax.numpy as jnp
import numpy as np

from dgm_jax import data, systems
from dgm_jax.data import preprocess
from dgm_jax.errors import UserError
from dgm_jax.evals import generated
from dgm_jax.evals.likelihood import strided
from dgm_jax.evals.mean import means, per_example
from dgm_jax.runs.subject import Subject
from dgm_jax.views import needs, require

__all__ = ['codes', 'compression', 'decompressions']

DECOMPRESSED = 1000
EXAMPLES = 20_000  # of the training split, which the components are fitted to


@needs('codes', 'image')
def codes(seed: int, subject: Subject) -> dict[str, float]:
  """Measures each level's codes and the squared errors of reconstructions.

  A level has the share of its codebook in use, its perplexity, and the entropy of a code in bits.

  An image's bits are the number of its codes times the logarithm of the size of the codebook, as if all codes were
  equally likely. `pca_mse` is the error of principal components with the same number of bits (`pca`). `mse` is the
  error with all levels. `mse_without_LEVEL` is the error of the autoencoder with zeros for the vectors of a level.
  """
  codes = of_split(seed, subject)
  size, figures = subject.config.model.vqvae.codes, {}
  for name, levels in codes.items():
    share = np.bincount(levels.ravel(), minlength=size) / levels.size
    entropy = -(share[share > 0] * np.log(share[share > 0])).sum()
    figures |= {
      f'codebook_usage_{name}': float((share > 0).mean()), f'perplexity_{name}': float(np.exp(entropy)),
      f'entropy_bits_{name}': float(entropy / math.log(2)),
    }  # fmt: skip
  bits = sum(math.prod(levels.shape[1:]) for levels in codes.values()) * math.log2(size)
  train = data.load(subject.config.data, 'train').arrays['x'][:EXAMPLES]
  errors = per_example(_errors(subject, tuple(codes)), subject.split, subject.config, subject.mesh)
  means = {name: float(each.mean(dtype='f8')) for name, each in errors(seed, subject.state).items()}
  flat = lambda x: x.reshape(len(x), -1).astype('f4') / 255
  return (
    figures
    | means
    | {'code_bits': bits, 'pca_mse': pca(flat(train), flat(np.asarray(subject.split.arrays['x'])), int(bits))}
  )


@needs('decompress')
def decompressions(seed: int, subject: Subject) -> dict[str, float]:
  """Measures what codes keep of images: their label, by a judge, and the share of equal pixels.

  It takes 1000 examples of the split, evenly strided, and one image decoded from a sample of each code. The judge's
  share of right labels on the originals stands beside.

  Raises:
    UserError: there is no judge, or the split has no labels.
  """
  judge, pixels = generated.judge_of(subject.config), preprocess.pixels(subject.config.data)
  split = strided(subject.split, min(DECOMPRESSED, subject.split.size))
  if 'y' not in split.arrays:
    raise UserError(f'{split.name} has no labels, which decompressions are compared by: measure another split')

  def decompressed(key, state, batch):
    x = subject.system.views.decompress(key, state, batch['x'])
    own = [judge.see(judge.state, pixels(image))[0].argmax(1) for image in (x, batch['x'])]
    equal = (pixels(x) == pixels(batch['x'])).reshape(x.shape[0], -1).mean(1)
    hits = {name: label == batch['y'] for name, label in zip(('label_kept', 'label_of_originals'), own, strict=True)}
    return {'equal_pixels': equal} | {name: hit.astype('float32') for name, hit in hits.items()}

  each = per_example(decompressed, split, subject.config, subject.mesh)(seed, subject.state)
  return {f'{name}/{split.size}': float(value.mean(dtype='f8')) for name, value in each.items()}


@needs('compress')
def compression(seed: int, subject: Subject) -> dict[str, float | list[float]]:
  """Measures bits and mean squared errors of images if the latents of the first t steps are kept, for t = 0 ... T.

  The latents of the other steps are those of the prior, with the same noise for every t. It takes 1000 examples of the
  split, evenly strided. Errors are those of the pixels' means on the scale [0, 1]. Bits are those of the posteriors'
  divergence from the prior, which bits back coding reaches.

  Reference: Gregor et al. 2016, arXiv:1604.08772, section 4.
  """
  split = strided(subject.split, min(DECOMPRESSED, subject.split.size))
  low, high = systems.data_range(subject.config) or (0.0, 1.0)

  def compressed(key, state_and_steps, batch):
    state, steps = state_and_steps
    image, nats = subject.system.views.compress(key, state, batch['x'], steps, 0)
    error = jnp.square((image - batch['x']) / (high - low)).reshape(image.shape[0], -1).mean(-1)
    return {'nats': nats, 'mse': error}

  run = per_example(compressed, split, subject.config, subject.mesh)
  curve = [run(seed, (subject.state, jnp.int32(0)))]
  curve += [run(seed, (subject.state, jnp.int32(t))) for t in range(1, curve[0]['nats'].shape[1] + 1)]
  points = [means({'bits': point['nats'].sum(-1) / math.log(2), 'mse': point['mse']}) for point in curve]
  return {f'{name}_by_steps/{split.size}': [point[name] for point in points] for name in ('bits', 'mse')}


def of_split(seed: int, subject: Subject) -> dict[str, np.ndarray]:
  """Computes the codes of all images of the split in order, level -> int32 [N, h, w].

  Raises:
    UserError: the system has no codes.
  """
  require(subject.system, subject.config.system, ('codes',), 'a table of codes')
  view = lambda key, state, batch: subject.system.views.codes(key, state, batch['x'])
  run = per_example(view, subject.split, subject.config, subject.mesh)
  return run(seed, subject.state)


def _errors(subject: Subject, names: tuple[str, ...]):
  encode, image = subject.system.views.codes, subject.system.views.image

  def errors(key, state, batch):
    x = batch['x']
    codes = encode(key, state, x)
    of = lambda kept: ((image(key, state, kept) - x) ** 2).mean((1, 2, 3))
    without = names if len(names) > 1 else ()  # of a single level nothing is left
    left = {f'mse_without_{name}': of({n: c for n, c in codes.items() if n != name}) for name in without}
    return {'mse': of(codes)} | left

  return errors


def pca(train: np.ndarray, test: np.ndarray, bits: int, widest: int = 10) -> float:
  """Computes the mean squared error of pixels [N, D] by quantized principal components, `bits` an image.

  Each bit in turn goes to the coefficient whose error falls most, at most `widest` to each. A coefficient is quantized
  with the levels that suit the training examples best (Lloyd's algorithm).
  """
  mean = train.mean(0)
  centred = train - mean
  values, axes = np.linalg.eigh(centred.T @ centred / len(train))
  kept = np.argsort(-values)[: min(len(values), bits)]
  scores = centred @ axes[:, kept]
  widths, errors = np.zeros(len(kept), int), scores.var(0)
  tables = {}

  def after(i: int) -> float:
    """Computes the error of coefficient i with one more bit."""
    table = tables[i, widths[i] + 1] = lloyd(scores[:, i], 2 ** (widths[i] + 1))
    return float(np.square(scores[:, i] - nearest_level(scores[:, i], table)).mean())

  gains, nexts = errors.copy(), np.zeros(len(kept))  # no bit gains more; how much, is found when it may be its turn
  exact = np.zeros(len(kept), bool)
  for _ in range(bits):
    while not exact[best := int(gains.argmax())]:
      nexts[best] = after(best)
      gains[best], exact[best] = errors[best] - nexts[best], True
    if gains[best] <= 0:
      break
    widths[best] += 1
    errors[best], exact[best] = nexts[best], widths[best] >= widest
    gains[best] = errors[best] if widths[best] < widest else 0.0
  coded = (test - mean) @ axes[:, kept]
  quantized = np.zeros_like(coded)
  for i in np.flatnonzero(widths):
    quantized[:, i] = nearest_level(coded[:, i], tables[i, widths[i]])
  return float(np.square(mean + quantized @ axes[:, kept].T - test).mean(dtype='f8'))


def lloyd(values: np.ndarray, levels: int, steps: int = 20) -> np.ndarray:
  """Finds the `levels` levels, in order, for the least squared error of values [N] quantized to the nearest."""
  table = np.quantile(values, (np.arange(levels) + 0.5) / levels)
  for _ in range(steps):
    nearest = np.searchsorted((table[1:] + table[:-1]) / 2, values)
    hits = np.bincount(nearest, minlength=levels)
    sums = np.bincount(nearest, values, minlength=levels)
    table = np.sort(np.where(hits > 0, sums / np.maximum(hits, 1), table))
  return table


def nearest_level(values: np.ndarray, table: np.ndarray) -> np.ndarray:
  """Finds each value's nearest of the ordered levels."""
  return table[np.searchsorted((table[1:] + table[:-1]) / 2, values)]
