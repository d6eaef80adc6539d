"""Draws images from a trained run.

Usage: python -m dgm_jax.sample --workdir=DIR [--n=64] [--seed=0] [--checkpoint=latest|best|STEP]
       [--weights=average|raw|FILE.safetensors] [--what=samples,reconstructions,interpolations,traversals] [--out=DIR]
       [--class=3] [--temperature=1.0] [--best_of=1 --judge=runs/classifier_mnist]
       [--truncation=0.7] [--statistics=standing|running]
       [--what=arithmetic --terms=3,17,20-5,8,9+1,2,4] [--gif]

With --class, images of that class, from systems that are told labels; with --best_of=m, the one of m draws of each
image whose class the judge is surest of (rejection by a classifier); these need systems with the view `draw`. With
--truncation, latents beyond it are drawn anew, and batch statistics are settled at it (view `settle`); styles are put
at so many times their distance from the mean style (view `truncated`): less various, and more typical. The terms of a
sum of latents are the numbers of samples, from 0, whose latents are averaged.

Writes samples.npy (uint8 [n, H, W, C], or points float32 [n, D]; draws from the model, of classes by their shares in
the training set; in samples.png a class has a row) and one PNG for each picture
that is asked for and that the system can draw, into --out (the workdir's folder `samples` if not given). With --gif
also traversals.gif: an image decoded again and again while one latent moves, for each of the latents that carry most.
"""

from pathlib import Path

from absl import flags

from dgm_jax import config as experiment
from dgm_jax import errors
from dgm_jax.internal import files
from dgm_jax.runtime import cli

__all__ = ['define_flags', 'main', 'run']

STATISTICS = ('standing', 'running')
WEIGHTS = ('average', 'raw')

flags.disclaim_key_flags()  # --help lists them as the flags of the program that calls `run`


def define_flags() -> None:
  """Defines the command line in the module's own flags."""
  flags.DEFINE_string('workdir', None, 'Folder of the run.')
  flags.DEFINE_integer('n', 64, 'Number of images.', 1, 10**6)
  flags.DEFINE_integer('seed', 0, 'Seed of the noise.', 0, 2**32 - 1)
  flags.DEFINE_string('checkpoint', 'latest', "'latest', 'best' (by config.best), or a step.")
  flags.DEFINE_string('weights', 'average', "'average' or 'raw', of networks that have a moving average; or a file.")
  flags.DEFINE_list('what', ['samples'], "Pictures: samples, neighbours, interpolations ..., or 'all'.")
  flags.DEFINE_integer('class', None, 'The class to draw, by its number; none: the shares of the training set.')
  flags.DEFINE_float('temperature', 1.0, 'Of the distributions that are drawn from.', lower_bound=1e-3)
  flags.DEFINE_float('truncation', None, 'Greatest latent of a normal prior, or the factor psi of styles; none: no.')
  flags.DEFINE_enum('statistics', '', ('', *STATISTICS), "Of a generator's batches; empty: by the config.")
  flags.DEFINE_integer('best_of', 1, 'Draws for each image, of which a judge keeps one.', lower_bound=1)
  flags.DEFINE_string('judge', '', "For --best_of: a classifier's workdir; empty: config.judge.")
  flags.DEFINE_string('terms', '', "For --what=arithmetic: samples' numbers, as in 3,17,20-5,8,9+1,2,4.")
  flags.DEFINE_bool('gif', False, 'Also write traversals.gif, in which the latents move.')
  flags.DEFINE_string('out', None, 'Folder for the files.')


def main(argv: list[str]) -> None:
  """Draws from a run and writes arrays and pictures."""
  experiment.parse(argv, __doc__)
  args = flags.FLAGS
  if not args.workdir and args.weights in WEIGHTS:
    raise errors.UserError('no run given; add --workdir=DIR, or --weights=FILE.safetensors')
  config = experiment.load(Path(args.workdir)) if args.weights in WEIGHTS else None

  import jax
  import numpy as np

  from dgm_jax import views
  from dgm_jax.data import preprocess
  from dgm_jax.evals import draws, mean
  from dgm_jax.pictures import arithmetic, chains, gallery, motion, nearest, painting, positions, style
  from dgm_jax.runs import workdir

  needs_data = args.gif or not set(args.what) <= {'samples', 'arithmetic'}
  out = Path(args.out or Path(args.workdir or '') / 'samples')
  workdir.require_writable(out)
  subject = _open(args, config, 'test' if needs_data else '')
  config, which = subject.config, workdir.weights(subject.state)
  subject = draws.settle(args.seed, subject, args.statistics, args.truncation)
  able = gallery.available(subject.system) | positions.available(subject.system, config)
  able |= style.available(subject.system) | painting.available(subject.system) | chains.available(subject.system)
  if args.gif:
    views.require(subject.system, config.system, motion.traversals.needs, '--gif')
  if subject.system.sample is None and not able:
    raise errors.UserError(f'{config.system} generates nothing, so that there is nothing to draw')
  to_uint8 = preprocess.pixels(config.data)
  key = jax.random.key(args.seed)
  names = [name for name in args.what if name not in ('neighbours', 'arithmetic')]
  _chosen(able | ({'samples': None} if _chosen_draws(args) else {}), names)
  out.mkdir(parents=True, exist_ok=True)
  if subject.system.sample:
    print(f'drawing {args.n} examples ...', flush=True)
    ask = (getattr(args, 'class'), args.temperature, args.truncation, args.best_of, args.judge)
    samples = draws.draw(args.seed, subject, args.n, *ask)
    array = np.asarray(samples if samples.ndim == 2 else to_uint8(samples))  # points are no pixels
    files.write_with(out / 'samples.npy', lambda file: np.save(file, array))
    print(f'{out / "samples.npy"}: {args.n} examples of {tuple(config.data.shape)}, {which}')
  blank = np.zeros((args.n, *config.data.shape), np.float32)  # of which only the number counts
  images = mean.images(subject.split, config, args.n) if needs_data else blank
  if _chosen_draws(args):
    able = able | {'samples': lambda *_: gallery.grid(np.asarray(to_uint8(samples)))}
  if 'arithmetic' in args.what:
    views.require(subject.system, config.system, arithmetic.picture.needs, '--what=arithmetic')
    ask = (args.n, arithmetic.parse(args.terms, args.n), to_uint8)
    grid = arithmetic.picture(key, subject.system, subject.state, *ask)
    gallery.write_png(out / 'arithmetic.png', grid)
    print(out / 'arithmetic.png')
  if 'neighbours' in args.what:
    gallery.write_png(out / 'neighbours.png', nearest.picture(np.asarray(to_uint8(samples)), _stored(config)))
    print(out / 'neighbours.png')
  for name, draw in _chosen(able, names).items():
    gallery.write_png(out / f'{name}.png', draw(key, subject.state, images, to_uint8))
    print(out / f'{name}.png')
  if args.gif:
    _write_gif(out / 'traversals.gif', motion.traversals(key, subject.system, subject.state, images, to_uint8))


def _write_gif(path: Path, frames: list) -> None:
  from dgm_jax.pictures import motion

  motion.write_gif(path, frames, last=motion.SECONDS)
  print(path)


def _open(args, config, split: str):
  """Opens the run, or the file of `dgm export`, that the command line names."""
  from dgm_jax import data
  from dgm_jax.runs import weights, workdir
  from dgm_jax.runtime import cluster, cpu

  if config is not None:
    cluster.start(keep_memory=cpu.large_programs(config))
    return workdir.open_subject(Path(args.workdir), split, args.checkpoint, config, args.weights)
  file = weights.find(args.weights)
  cluster.start()
  subject, _ = weights.open_weights(file)
  return subject._replace(split=data.load(subject.config.data, split)) if split else subject


def _stored(config):
  """Returns the training images, uint8 [N, H, W, C], among which neighbours are looked for."""
  import numpy as np

  from dgm_jax import data

  train = data.load(config.data, 'train').arrays.get('x')
  if train is None:
    raise errors.UserError(f'{config.data.name} is drawn, not stored: neighbours are looked for among stored images')
  return np.asarray(train)


def _chosen_draws(args) -> bool:
  """Returns whether the command line asks for other samples than those of `System.sample`."""
  return _by_class(args) or args.truncation is not None


def _by_class(args) -> bool:
  return getattr(args, 'class') is not None or args.temperature != 1 or args.best_of > 1


def _chosen(available: dict, names: list[str]) -> dict:
  if names == ['all']:
    return available
  for name in names:
    if name not in available:
      raise errors.UserError(f"the system cannot draw '{name}'; it can draw {', '.join(available)}")
  return {name: available[name] for name in names}


def run() -> None:
  """Runs the program."""
  define_flags()
  cli.run(main)
