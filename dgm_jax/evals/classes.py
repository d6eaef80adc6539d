"""Samples of given classes as a judge sees them: whether they are of their class, how near to it, and how various.

A generator that draws one image a class has the greatest accuracy and no diversity, so that neither stands alone.
"""

from collections.abc import Iterator

import jax
import numpy as np

from dgm_jax import config as experiment
from dgm_jax.data import preprocess
from dgm_jax.errors import UserError
from dgm_jax.evals import distances, generated, standing
from dgm_jax.runs.subject import Subject
from dgm_jax.runtime import parallel, signals
from dgm_jax.views import needs

__all__ = ['classes']

LEAST = 2  # images of a class
FEW = 10  # most classes of which each has figures of its own


@needs('draw', 'classes')
def classes(seed: int, subject: Subject) -> dict[str, float]:
  """Compares as many samples of each class as `config.generated.samples` makes with the split's images of the class.

  Raises:
    UserError: there is no judge, it judges other images, or the split has no labels or lacks a class.
  """
  config, count = subject.config, subject.config.model.classes
  judge = generated.judge_of(config)
  if 'y' not in subject.split.arrays:
    raise UserError(f'{subject.split.name} has no labels, by which samples are compared: measure another split')
  total = config.generated.samples or min(generated.SAMPLES, subject.split.size)
  each = max(total // count, LEAST)
  labels = np.asarray(subject.split.arrays['y'])
  sizes = np.bincount(labels, minlength=count)
  experiment.require(
    sizes.min() >= LEAST, f'{subject.split.name} has {sizes.min()} images of class {sizes.argmin()}: {LEAST} are needed'
  )
  subject = standing.settled(seed, subject)
  real = generated.look(judge, subject.mesh, _cut(generated.first(subject.split, subject.split.size)))
  fake = generated.look(judge, subject.mesh, _samples(seed, subject, count, each))
  return named(compare(real, labels, fake, np.repeat(np.arange(count), each)), judge.name, count, each)


def named(figures: dict[str, float], judge: str, count: int, each: int) -> dict[str, float]:
  """Formats names, 'intra_fid_classifier/1k' and 'fid_classifier_class_3/1k'; of each class if there are ten or fewer.

  Args:
    figures: those of `compare`.
    judge: the judge's name, '' for the network of the published figures.
    count: number of classes.
    each: number of samples of a class.
  """
  mark, named_figures = f'_{judge}' if judge else '', {}
  for figure, value in figures.items():
    start, _, last = figure.rpartition('_class_')
    of_class = bool(start) and last.isdigit()
    if not of_class or count <= FEW:
      name = f'{start}{mark}_class_{last}' if of_class else f'{figure}{mark}'
      named_figures[generated.counted(name, each)] = value
  return named_figures


def compare(
  real: generated.Seen, real_labels: np.ndarray, fake: generated.Seen, fake_labels: np.ndarray
) -> dict[str, float]:
  """Compares generated with real images class by class.

  Returns:
    class_accuracy_percent: generated images that the judge gives their class; least_...: those of the worst class.
      Both are absent if the judge knows other classes, as that of the published figures does.
    intra_fid: mean over the classes of the distance of a class; fid_class_k: of each.
    diversity: mean over the classes of the total variance of features, of generated over that of real images; 1 for
      real ones, 0 for one image a class. diversity_class_k: of each.

  Reference: Miyato & Koyama 2018, arXiv:1802.05637, section 4 (intra FID).
  """
  right = fake.probabilities.argmax(1) == fake_labels
  distance, spread, accuracy = {}, {}, {}
  for k in np.unique(fake_labels):
    of = lambda looks, labels, k=k: np.asarray(looks.features[labels == k], np.float64)
    a, b = of(real, real_labels), of(fake, fake_labels)
    moments = lambda h: distances.add(distances.no_moments(h.shape[1]), h)
    distance[k], accuracy[k] = distances.frechet(moments(a), moments(b)), right[fake_labels == k].mean()
    # Unbiased: the numbers of generated and of real images of a class may be small and unequal.
    spread[k] = b.var(0, ddof=1).sum() / max(a.var(0, ddof=1).sum(), np.finfo(np.float64).tiny)
  mean = lambda table: float(np.mean(list(table.values())))
  each = {f'fid_class_{k}': float(value) for k, value in distance.items()}
  each |= {f'diversity_class_{k}': float(value) for k, value in spread.items()}
  knows = fake.probabilities.shape[1] == len(accuracy)
  accuracies = {
    'class_accuracy_percent': float(100 * right.mean()), 'least_class_accuracy_percent': 100 * min(accuracy.values())
  }  # fmt: skip
  return (accuracies if knows else {}) | {'intra_fid': mean(distance), 'diversity': mean(spread), **each}


def _samples(seed: int, subject: Subject, count: int, each: int) -> Iterator[np.ndarray]:
  """Generates chunks of images of each class in turn, uint8 [n, H, W, C]."""
  pixels, view = preprocess.pixels(subject.config.data), subject.system.views.draw
  size = generated.chunk_of(subject.config.data.shape)

  def draw(seed, number, state, labels):
    key = jax.random.fold_in(jax.random.key(seed), number)
    return pixels(view(key, state, size, labels))

  program = jax.jit(draw, out_shardings=parallel.replicated(subject.mesh))
  labels = np.repeat(np.arange(count, dtype='i4'), each)
  for start in range(0, len(labels), size):
    signals.poll()
    chunk = labels[start : start + size]
    filled = np.resize(chunk, size)
    number = np.uint32(start // size)
    yield parallel.fetch(program(np.uint32(seed), number, subject.state, filled))[: len(chunk)]


def _cut(images: np.ndarray) -> Iterator[np.ndarray]:
  size = generated.chunk_of(images.shape[1:])
  return (images[start : start + size] for start in range(0, len(images), size))
