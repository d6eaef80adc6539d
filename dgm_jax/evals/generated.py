"""Generated images as a judge sees them: class shares, Inception score, distances, precision and recall.

The judge is a classifier of one's own, `config.judge = 'runs/classifier_mnist'`, and the figures then bear the name
'classifier', since they compare with no published ones; or the Inception network of the published figures,
'inception:PATH#SHA256'. Figures bear the number of samples: they depend on it.
"""

import pathlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict
from scipy.optimize import linear_sum_assignment

from dgm_jax import data
from dgm_jax.data import preprocess
from dgm_jax.errors import UserError
from dgm_jax.evals import distances, standing
from dgm_jax.evals.judges import inception
from dgm_jax.evals.mean import per_example
from dgm_jax.internal.files import exists
from dgm_jax.runs import weights, workdir
from dgm_jax.runs.subject import Subject
from dgm_jax.runtime import parallel, signals
from dgm_jax.views import needs, require

__all__ = ['classifier', 'clusters']

CHUNK = 1000  # samples a program, on any number of devices: their noise must not depend on it
WIDE, ROWS = 2**14, 8  # most pixels of images of which a program has CHUNK, and what divides the number of larger ones
SAMPLES = 10_000
NEIGHBOURS = {'manifolds': 3, 'density_coverage': 5}


class Judge(NamedTuple):
  """A feature function."""

  name: str  # 'classifier', or '' for the network of the published figures
  see: Callable  # (state, pixels uint8 [n, H, W, C]) -> (logits [n, K], features [n, F])
  state: object
  smooth: Callable | None = None  # (state, pixels float32 in [0, 255]) -> features; None: it has no slope in pixels


class Seen(NamedTuple):
  """What a judge makes of a set of images."""

  probabilities: np.ndarray  # [N, K]
  features: np.ndarray  # [N, F]
  moments: distances.Moments


@needs('sample')
def classifier(seed: int, subject: Subject) -> dict[str, float]:
  """Computes all figures of `config.generated.samples` samples.

  If that is 0, the number of samples is that of the split, 10,000 at most. They are compared with the same number of
  images of the split, or with all that it has. For reference, the same figures are computed with training images
  (`_real`) and with noise (`_noise`) in place of the samples.

  Raises:
    UserError: there is no judge, or it judges other images.
  """
  judge = judge_of(subject.config)
  settings = subject.config.to_dict()['generated']
  count = settings['samples'] or min(SAMPLES, subject.split.size)
  train = data.load(subject.config.data, 'train')
  _refuse_few(settings['splits'], samples=count, images=subject.split.size, training_images=train.size)
  train, subject = first(train, count), standing.settled(seed, subject)
  real = look(judge, subject.mesh, _cut(first(subject.split, count)))
  fake = look(judge, subject.mesh, samples(seed, subject, count))
  noise = np.random.default_rng(seed).integers(256, size=(count, *subject.config.data.shape), dtype=np.uint8)
  results = compare(real, fake, settings['splits']) | _classes(fake.probabilities)
  others = {'real': look(judge, subject.mesh, _cut(train)), 'noise': look(judge, subject.mesh, _cut(noise))}
  for name, other in others.items():
    results[f'fid_{name}'] = distances.frechet(real.moments, other.moments)
  results['kid_real'] = distances.kernel_subsets(real.features, others['real'].features)[0]
  mark = f'_{judge.name}' if judge.name else ''
  return {_named(name, mark, count): value for name, value in results.items()}


def _refuse_few(splits: int, **counts: int) -> None:
  """Refuses fewer examples than the Inception score has splits and a manifold has neighbours.

  Raises:
    UserError: there are fewer.
  """
  least = max(splits, *NEIGHBOURS.values()) + 1
  for name, count in counts.items():
    if count < least:
      raise UserError(f'{count} {name.replace("_", " ")} are too few to judge samples by: {least} are needed')


@needs('cluster')
def clusters(seed: int, subject: Subject) -> dict[str, float]:
  """Measures the accuracy of the view `cluster` as a classifier, by the best one-to-one match of clusters to classes.

  Reference: Chen et al. 2016, arXiv:1606.03657, section 7.2.
  """
  if 'y' not in subject.split.arrays:
    raise UserError(f'{subject.split.name} has no labels, which clusters are compared with: measure another split')

  def counted(key, state, batch):
    return {'cluster': subject.system.views.cluster(key, state, batch['x']).argmax(1), 'y': batch['y']}

  clusters = per_example(counted, subject.split, subject.config, subject.mesh)(seed, subject.state)
  return {'unsupervised_accuracy': matched(clusters['cluster'], clusters['y'])}


def matched(cluster: np.ndarray, y: np.ndarray) -> float:
  """Computes the greatest share of examples that a one-to-one map of clusters [N] to classes [N] gets right."""
  size = int(max(cluster.max(), y.max())) + 1
  table = np.zeros((size, size))
  np.add.at(table, (cluster, y), 1)
  rows, columns = linear_sum_assignment(-table)
  return float(table[rows, columns].sum() / len(y))


def compare(real: Seen, fake: Seen, splits: int = 10) -> dict[str, float]:
  """Computes distances of generated from real images, and the generated ones' Inception score.

  The score is a mean over `splits` splits.
  """
  kid, deviation = distances.kernel_subsets(real.features, fake.features)
  score, spread = distances.inception_score(fake.probabilities, splits)
  return {
    'fid': distances.frechet(real.moments, fake.moments), 'kid': kid, 'kid_deviation': deviation,
    'inception_score': score, 'inception_score_deviation': spread,
    **distances.manifolds(real.features, fake.features, NEIGHBOURS['manifolds']),
    **distances.density_coverage(real.features, fake.features, NEIGHBOURS['density_coverage']),
  }  # fmt: skip


def judge_of(config: ConfigDict, judge: str = '') -> Judge:
  """Finds the judge of an experiment's images, `config.judge` if no other is named.

  It does not see the frame of `config.data.pad` pixels, so that figures compare with those of images without one.

  Raises:
    UserError: there is no such judge, or it was made for images of another shape.
  """
  pad, shape = 0 if config.data.size else config.data.get('pad', 0), tuple(config.data.shape)
  if not pad:
    return find(judge or config.judge, shape)
  whole = find(judge or config.judge, (shape[0] - 2 * pad, shape[1] - 2 * pad, *shape[2:]))
  within = lambda function: lambda state, pixels: function(state, pixels[:, pad:-pad, pad:-pad])
  return whole._replace(see=within(whole.see), smooth=within(whole.smooth) if whole.smooth else None)


def find(judge: str, shape: tuple[int, ...]) -> Judge:
  """Finds the feature function that `config.judge` names.

  Raises:
    UserError: there is none of that name, or it was made for images of another shape.
  """
  if not judge:
    raise UserError(
      'no judge of generated images: set config.judge, or add --judge=classifier_mnist (of weights/, or your own run)'
      ' or --judge=inception:FILE#SHA256 (the network of published figures, python -m dgm_jax.prepare inception)'
    )
  if judge.startswith('inception:'):
    see, state = inception.judge(judge.removeprefix('inception:'))
    return Judge('', see, state, lambda state, pixels: see(state, pixels)[1])
  trained = _trained(judge)
  settings = trained.config
  if tuple(settings.data.shape) != tuple(shape):
    raise UserError(f'the judge {judge} sees images of {tuple(settings.data.shape)}, these are of {tuple(shape)}')
  require(trained.system, settings.system, ('judge',), f'the judge {judge}')
  prepare, key = preprocess.training(settings.data), jax.random.key(0)
  see = lambda state, pixels: trained.system.views.judge(key, state, prepare(key, {'x': pixels})['x'])
  smooth = lambda state, pixels: trained.system.views.judge(key, state, pixels / 255)[1]
  return Judge('classifier', see, trained.state, smooth if settings.data.preprocess == 'scale' else None)


def _trained(judge: str) -> Subject:
  """Opens a classifier: the folder of a run, a file of `dgm export`, or the name of one in the clone's weights/.

  Raises:
    UserError: there is none.
  """
  if exists(pathlib.Path(judge) / 'config.json'):
    return workdir.open_subject(pathlib.Path(judge), '')
  if file := weights.look_for(judge):
    return weights.open_weights(file)[0]
  raise UserError(
    f'the judge {judge} is not there: python train.py --config=configs/classifier_mnist.py --workdir={judge}, or'
    ' --judge=classifier_mnist, which is in weights/'
  )


def samples(seed: int, subject: Subject, count: int) -> Iterator[np.ndarray]:
  """Generates chunks of images as uint8. They are the same on any number of devices, up to rounding."""
  mesh, pixels, sample = subject.mesh, preprocess.pixels(subject.config.data), subject.system.sample
  chunk = chunk_of(subject.config.data.shape)

  def draw(seed, number, state):
    x = sample(jax.random.fold_in(jax.random.key(seed), number), state, chunk)
    spread = x if chunk % mesh.size else jax.lax.with_sharding_constraint(x, parallel.rows(mesh))
    return pixels(spread)

  draw = jax.jit(draw, out_shardings=parallel.replicated(mesh))
  for start in range(0, count, chunk):
    signals.poll()
    number = np.uint32(start // chunk)
    yield parallel.fetch(draw(np.uint32(seed), number, subject.state))[: count - start]


def chunk_of(shape: tuple[int, ...]) -> int:
  """Returns the number of images [H, W, C] of a program: CHUNK, and fewer the more pixels they have beyond WIDE."""
  return min(CHUNK, max(ROWS, CHUNK * WIDE // (shape[0] * shape[1]) // ROWS * ROWS))


def look(judge: Judge, mesh: Any, chunks: Iterator[np.ndarray]) -> Seen:
  """Applies a judge to chunks of images. Of the images only the judge's outputs are kept."""
  see = jax.jit(lambda state, pixels: _float32(*judge.see(state, pixels)), out_shardings=parallel.replicated(mesh))
  probabilities, features, moments = [], [], None
  for pixels in chunks:
    rows, chunk = len(pixels), chunk_of(pixels.shape[1:])
    filled = np.concatenate([pixels, np.zeros((-rows % chunk, *pixels.shape[1:]), np.uint8)])
    placed = filled if chunk % mesh.size else parallel.put(filled, parallel.rows(mesh))
    p, h = (array[:rows] for array in parallel.fetch(see(judge.state, placed)))
    moments = distances.add(moments or distances.no_moments(h.shape[1]), h)
    probabilities.append(p)
    features.append(h)
  return Seen(np.concatenate(probabilities), np.concatenate(features), moments)


def first(split: data.Split, count: int) -> np.ndarray:
  """Returns the first examples of a split as they are stored, uint8 [n, H, W, C].

  Raises:
    UserError: they are no images of 0 to 255.
  """
  x = np.asarray(split.fetch(split.arrays, np.arange(min(count, split.size)))['x'])
  if x.dtype != np.uint8:
    raise UserError(f'{split.name} holds {x.dtype}, but samples are compared with uint8 images: store x as uint8')
  return x


def _float32(logits: jax.Array, features: jax.Array) -> tuple[jax.Array, jax.Array]:
  return jax.nn.softmax(logits.astype('float32')), features.astype('float32')


def _cut(images: np.ndarray) -> Iterator[np.ndarray]:
  chunk = chunk_of(images.shape[1:])
  return (images[start : start + chunk] for start in range(0, len(images), chunk))


def _classes(probabilities: np.ndarray) -> dict[str, float]:
  """Computes the shares of the judge's classes, and its mean confidence."""
  share = np.bincount(probabilities.argmax(1), minlength=probabilities.shape[1]) / len(probabilities)
  shares = {f'share_percent_{k}': float(100 * value) for k, value in enumerate(share)} if len(share) <= 10 else {}
  return {'least_share_percent': float(100 * share.min()), 'confidence': float(probabilities.max(1).mean()), **shares}


def _named(name: str, mark: str, count: int) -> str:
  """Formats a figure's name: 'fid_classifier/10k', 'fid_classifier_real/10k'."""
  start, _, last = name.rpartition('_')
  return counted(f'{start}{mark}_{last}' if last in ('real', 'noise', 'deviation') else f'{name}{mark}', count)


def counted(name: str, count: int) -> str:
  """Formats a figure's name with the number of samples that it depends on: 'fid/10k', 'fid/400'."""
  return f'{name}/{count // 1000}k' if count % 1000 == 0 else f'{name}/{count}'
