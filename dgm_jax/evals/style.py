"""What styles carry: mixed images by class, lengths of paths of latents, and how well planes part the classes.

Features and classes are those of the judge of generated images, so that the figures compare with no published ones,
which come from VGG's features and from classifiers of attributes of faces.

Axes: B batch, L layers, W styles, Z latents, K classes.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dgm_jax.data import preprocess
from dgm_jax.errors import UserError
from dgm_jax.evals import generated
from dgm_jax.evals.generated import Judge, counted
from dgm_jax.runs.subject import Subject
from dgm_jax.runtime import parallel, signals
from dgm_jax.views import needs

__all__ = ['mixing', 'path_length', 'separability']

PAIRS = 2000
PATHS = 2000
SAMPLES = 20_000
CHUNK = 200  # pairs, paths or samples a program
PIXELS = 2**24  # of all images of a program
TAIL = 0.01  # share of the shortest and of the longest paths that are left out


@needs('prior', 'map_latents', 'styles', 'synthesize')
def mixing(seed: int, subject: Subject) -> dict[str, float]:
  """Measures which source decides the class of a mixed image, for each crossover.

  A mixed image has the styles of one image in the layers before the crossover, and of another from there on. All three
  have the same noise. Of 2,000 pairs those of two classes are taken, by a judge.

  Returns:
    for each crossover the shares of mixed images with the class of the first source and with that of the second, in
    percent, and the number of pairs of two classes.

  Reference: Karras et al. 2019, arXiv:1812.04948, section 3.1 and figure 3.
  """
  judge, pixels = generated.judge_of(subject.config), preprocess.pixels(subject.config.data)
  views, n = subject.system.views, chunk(subject.config.data.shape)

  def classes(key, state, judged_by):
    for_first, for_second, for_noise = jax.random.split(key, 3)
    number = jnp.arange(n)

    def styles(key):
      w = views.map_latents(key, state, views.prior.sample(key, state, n))
      return views.styles(key, state, w, jnp.ones(n))

    first, second = styles(for_first), styles(for_second)
    layer = jnp.arange(first.shape[1])[None, :, None]

    def label(cut):
      images = views.synthesize(for_noise, state, jnp.where(layer < cut, first, second), number, jnp.ones(()))
      return judge.see(judged_by, pixels(images))[0].argmax(1)

    # The crossovers are written out: convolutions in loops are slow on a CPU.
    return jnp.stack([label(cut) for cut in range(first.shape[1] + 1)])

  labels = np.concatenate(list(_chunks(classes, seed, subject, judge, PAIRS)), 1)  # [L + 1, pairs]
  return shares(labels[1:-1], labels[-1], labels[0], _name(judge))


def shares(mixed: np.ndarray, first: np.ndarray, second: np.ndarray, judge: str = 'classifier') -> dict[str, float]:
  """Computes the shares of mixed images [C, N] in percent that have the class of each source [N], by crossover."""
  apart = first != second
  named = lambda cut, source: counted(f'mixing_{cut}_{source}_percent_{judge}', len(first))
  results = {counted('mixing_pairs', len(first)): float(apart.sum())}
  for cut, labels in enumerate(mixed, 1):
    for name, source in (('first', first), ('second', second)):
      results[named(cut, name)] = float(100 * (labels == source)[apart].sum() / max(apart.sum(), 1))
  return results


@needs('prior.normal', 'map_latents', 'synthesize')
def path_length(seed: int, subject: Subject) -> dict[str, float]:
  """Computes `path_length_classifier`: the mean squared speed of a judge's features along paths between two latents.

  Paths are great circles of latents (`_z`) or straight lines of styles (`_w`). The speed is taken anywhere on a path
  (`_full`) or at its beginning (`_end`), as an exact derivative: the limit of the quotient of differences that the
  paper has. The noise is the same along a path. The shortest and the longest 1 % of 2,000 paths are left out.

  Reference: Karras et al. 2019, arXiv:1812.04948, section 4.1, equations 2 and 3.
  """
  judge, views, n = generated.judge_of(subject.config), subject.system.views, chunk(subject.config.data.shape)
  if judge.smooth is None:
    raise UserError(f'the judge {subject.config.judge} has no slope: take one whose config.data.preprocess is scale')

  def speeds(key, state, judged_by):
    keys = jax.random.split(key, 4)
    a, b = (views.prior.sample(keys[i], state, n) for i in range(2))
    mapped = lambda z: views.map_latents(key, state, z)

    def features(w):
      images = views.synthesize(keys[2], state, w[:, None], jnp.arange(n), jnp.ones(()))
      return judge.smooth(judged_by, 127.5 * (images + 1))

    anywhere, start = jax.random.uniform(keys[3], (n,)), jnp.zeros(n)
    in_z, in_w = lambda t: features(mapped(arc(a, b, t))), lambda t: features(line(mapped(a), mapped(b), t))
    return jnp.stack([speed(path, t) for path in (in_z, in_w) for t in (anywhere, start)])

  measured = np.concatenate(list(_chunks(speeds, seed, subject, judge, PATHS)), 1)
  names = [f'path_length_{_name(judge)}_{space}_{where}' for space in 'zw' for where in ('full', 'end')]
  return {counted(name, PATHS): trimmed(values) for name, values in zip(names, measured, strict=True)}


def line(a: jax.Array, b: jax.Array, t: jax.Array) -> jax.Array:
  """Computes the points at t [B] on the straight lines from a [B, W] to b [B, W]."""
  return a + (b - a) * t[:, None]


def arc(a: jax.Array, b: jax.Array, t: jax.Array) -> jax.Array:
  """Computes the points at t [B] on the great circles from the direction of a [B, Z] to that of b; of unit length."""
  unit = lambda x: x / jnp.linalg.norm(x, axis=1, keepdims=True)
  a, b = unit(a), unit(b)
  cosine = (a * b).sum(1, keepdims=True)
  angle = t[:, None] * jnp.arccos(jnp.clip(cosine, -1, 1))
  return a * jnp.cos(angle) + unit(b - cosine * a) * jnp.sin(angle)


def speed(path: Callable[[jax.Array], jax.Array], t: jax.Array) -> jax.Array:
  """Computes the squared length of the derivative of path(t) [B, F] in t [B], each row a function of its own t."""
  return jnp.square(jax.jvp(path, (t,), (jnp.ones_like(t),))[1]).sum(1)


def trimmed(values: np.ndarray, tail: float = TAIL) -> float:
  """Computes the mean of values [N] without the smallest and the largest share `tail`."""
  low, high = np.quantile(values, (tail, 1 - tail))
  return float(values[(values >= low) & (values <= high)].mean(dtype='f8'))


@needs('prior', 'map_latents', 'synthesize')
def separability(seed: int, subject: Subject) -> dict[str, float | list[float]]:
  """Computes how well planes part the classes of images in their latents (`_z`) and in their styles (`_w`).

  Of 20,000 samples the half whose class the judge is surest of is kept. For each class against the rest a linear
  support vector machine is fitted to it. The figure is exp of the mean over classes of H(class | side of the plane) in
  nats: 1 if all planes part their classes.

  Reference: Karras et al. 2019, arXiv:1812.04948, section 4.2.
  """
  judge, pixels = generated.judge_of(subject.config), preprocess.pixels(subject.config.data)
  views, n = subject.system.views, chunk(subject.config.data.shape)

  def codes(key, state, judged_by):
    z = views.prior.sample(key, state, n)
    w = views.map_latents(key, state, z)
    images = views.synthesize(jax.random.fold_in(key, 1), state, w[:, None], jnp.arange(n), jnp.ones(()))
    return z, w, jax.nn.softmax(judge.see(judged_by, pixels(images))[0])

  z, w, p = (np.concatenate(parts) for parts in zip(*_chunks(codes, seed, subject, judge, SAMPLES), strict=True))
  sure = np.argsort(-p.max(1), kind='stable')[: SAMPLES // 2]
  results: dict[str, float | list[float]] = {}
  for name, points in (('z', z), ('w', w)):
    nats = [conditional_entropy(points[sure], p[sure].argmax(1) == k) for k in range(p.shape[1])]
    results[counted(f'separability_{_name(judge)}_{name}', SAMPLES)] = float(np.exp(np.mean(nats)))
    results[counted(f'conditional_entropy_nats_{_name(judge)}_{name}', SAMPLES)] = nats
  return results


def conditional_entropy(codes: np.ndarray, inside: np.ndarray) -> float:
  """Computes H(inside | side of the best plane) in nats, of codes [N, Z] and booleans [N]."""
  from sklearn.svm import LinearSVC

  if inside.all() or not inside.any():
    return 0.0
  scaled = (codes - codes.mean(0)) / np.maximum(codes.std(0), 1e-12)
  side = LinearSVC(dual=False, random_state=0).fit(scaled, inside).predict(scaled)
  total = 0.0
  for value in (False, True):
    here = inside[side == value]
    share = np.array([here.mean(), 1 - here.mean()]) if len(here) else np.ones(1)
    total -= len(here) / len(inside) * float((share * np.log(np.where(share > 0, share, 1))).sum())
  return total


def chunk(shape: Sequence[int]) -> int:
  """Returns the number of images [H, W, C] in a program: the largest divisor of 200 of at most 2^24 pixels in all."""
  return max(n for n in range(1, CHUNK + 1) if CHUNK % n == 0 and (n == 1 or n * shape[0] * shape[1] <= PIXELS))


def _name(judge: Judge) -> str:
  """Returns the judge's name in figures: they compare with no published ones, whichever judge it is."""
  return judge.name or 'inception'


def _chunks(function: Callable, seed: int, subject: Subject, judge: Judge, count: int) -> Iterator[Any]:
  """Yields what `function(key, state, judge's state)` returns for each chunk of `count`, as NumPy arrays."""
  program = jax.jit(
    lambda seed, number, state, judged_by: function(jax.random.fold_in(jax.random.key(seed), number), state, judged_by),
    out_shardings=parallel.replicated(subject.mesh),
  )
  for number in range(count // chunk(subject.config.data.shape)):
    signals.poll()
    yield parallel.fetch(program(np.uint32(seed), np.uint32(number), subject.state, judge.state))
