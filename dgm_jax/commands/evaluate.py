"""Measures a trained run on a split of its data.

Usage: python -m dgm_jax.evaluate --workdir=DIR [--split=test] [--checkpoint=latest|best|STEP] [--samples=5000]
       [--weights=average|raw] [--only=mean.metrics,surgery]
       [--judge=runs/classifier_mnist] [--record]

Prints every figure and writes DIR/evaluation_SPLIT.json; with --record also results/SYSTEM_DATA_VARIANT.json,
from which the README's table and docs/tables.md are made. Beside a figure of the test split stands the published one
of the same system, data, network and protocol, where there is one.
"""

import json
import re
import time
from pathlib import Path
from typing import Any

from absl import flags

from dgm_jax import config as experiment
from dgm_jax import errors
from dgm_jax.pages import published
from dgm_jax.runtime import cli

__all__ = ['SPLITS', 'define_flags', 'main', 'run']

flags.disclaim_key_flags()  # --help lists them as the flags of the program that calls `run`

SPLITS = ('train', 'valid', 'test')


def define_flags() -> None:
  """Defines the command line in the module's own flags."""
  flags.DEFINE_string('workdir', None, 'Folder of the run.')
  flags.DEFINE_enum('split', 'test', SPLITS, 'Which part of the data.')
  flags.DEFINE_string('checkpoint', 'latest', "'latest', 'best' (by config.best), or a step.")
  flags.DEFINE_enum('weights', 'average', ('average', 'raw'), 'Of networks that have a moving average.')
  flags.DEFINE_integer('samples', 0, 'Of a likelihood, or generated images; 0: those of the config.', lower_bound=0)
  flags.DEFINE_string('judge', '', "Of generated images: a classifier's workdir; empty: config.judge.")
  only = 'Measurements to make, of dgm_jax/evals: surgery is surgery.surgery; empty: config.evals.'
  flags.DEFINE_list('only', [], only)
  flags.DEFINE_list('what', [], 'The name that --only had for a module of dgm_jax/evals.')
  flags.DEFINE_bool('record', False, 'Also write a record into --results.')
  flags.DEFINE_string('results', 'results', 'Folder of the records.')
  flags.DEFINE_string('name', '', 'Name of the record; empty: made from system, data and variant.')


def main(argv: list[str]) -> None:
  """Measures a run and prints its figures."""
  experiment.parse(argv, __doc__)
  args = flags.FLAGS
  if not args.workdir:
    raise errors.UserError('no run given; add --workdir=DIR')
  require_name('--name', args.name)
  workdir_path = Path(args.workdir)
  config = experiment.load(workdir_path)
  if args.samples:
    with config.unlocked():
      config.nll.samples = args.samples
      config.generated.samples = args.samples
  if args.judge:
    with config.unlocked():
      config.judge = args.judge

  from dgm_jax.runs import workdir
  from dgm_jax.runtime import cluster, cpu

  cluster.start(keep_memory=cpu.large_programs(config))
  subject = workdir.open_subject(workdir_path, args.split, args.checkpoint, config, args.weights)
  started = time.perf_counter()
  chosen = tuple(name if '.' in name else f'{name}.{name}' for name in (*args.only, *args.what))
  # Of a network that is told the label, also what it says without: the mixture over labels.
  mixture = ('labels.labels',) if config.conditional and 'labels.labels' not in config.evals else ()
  metrics = measure(subject, chosen or tuple(config.evals) + mixture)
  page = record(workdir_path, subject, args.split, metrics)
  page['evaluation_seconds'] = round(time.perf_counter() - started, 1)
  page['checkpoint'] = args.checkpoint
  workdir.write_json(workdir_path / f'evaluation_{args.split}.json', page)
  print(f'{args.split} split, {subject.split.size} examples, step {page["steps"]}, {page["weights"]}:')
  samples = page['samples'].get('nll_nats', 0)
  beside = published.find(page['config'], page['settings'], samples) if args.split == 'test' else {}
  for name, value in metrics.items():
    text = f'{value:.5g}' if isinstance(value, float) else f'{[round(v, 4) for v in value]}'
    text += f'  (published: {beside[name][0]:.6g}; {beside[name][1].source})' if name in beside else ''
    print(f'  {name} = {text}')
  if args.record:
    folder = Path(args.results)
    folder.mkdir(parents=True, exist_ok=True)
    name = args.name or record_name(page)
    require_name('the name of the config, from which the record has its own,', name)
    target = folder / f'{name}.json'
    workdir.write_json(target, page)
    print(f'record: {target}')


def measure(subject: Any, names: tuple[str, ...]) -> dict:
  """Returns all figures that the named functions of `dgm_jax.evals` give for a subject.

  Raises:
    UserError: there is no such function, or the system lacks a view that it needs.
  """
  from dgm_jax import views

  functions = {name: experiment.by_path('dgm_jax.evals', name) for name in names}
  for name, function in functions.items():
    views.require(subject.system, subject.config.system, function.needs, name)
  metrics = {}
  for function in functions.values():
    metrics |= function(subject.config.seed, subject)
  return metrics


def record(folder: Path, subject: Any, split: str, metrics: dict) -> dict:
  """Returns a page of results/ (`records.FIELDS`): the model, the data, the length of training and the figures."""
  import jax

  from dgm_jax.pages import catalogue, records, sizes
  from dgm_jax.runs import lines, workdir

  config, environment = subject.config, json.loads((folder / 'env.json').read_text())
  steps = int(jax.device_get(subject.state.step))
  timing = [line for line in lines.read(folder / 'timing.jsonl') if line['step'] <= steps]
  parameters = sizes.count(subject.state.params)
  return {
    'schema': records.SCHEMA,
    'system': config.system,
    'config': config.source,
    'overrides': list(config.overrides),
    'seed': config.seed,
    'settings': catalogue.essence(config),
    'data': config.data.name,
    'split': split,
    'device': f'{environment["devices"]} x {environment["device"]}',
    'steps': steps,
    'examples_seen': steps * config.batch_size,
    'wall_seconds': round(sum(line['seconds'] for line in timing), 1),
    'versions': environment['versions'],
    'trained_at': subject.trained_at,
    'measured_at': workdir.commit(),
    'weights': workdir.weights(subject.state),
    'parameters': parameters | {'total': sizes.total(parameters)},
    'metrics': metrics,
    'samples': _samples(config, metrics),
  }


def _samples(config, metrics: dict) -> dict[str, int]:
  """Returns the counts that figures depend on: importance samples, their examples, splits of the Inception score."""
  # Some systems know their likelihood exactly; that which is importance-sampled comes with its error.
  sampled, examples = 'nll_standard_error_nats' in metrics, config.nll.get('examples', 0)
  samples = {'nll_nats': config.nll.samples} if sampled else {}
  samples |= {'nll_examples': examples} if sampled and examples else {}
  scored = any(name.startswith('inception_score') for name in metrics)
  return samples | ({'inception_score_splits': config.generated.splits} if scored else {})


def require_name(what: str, name: str) -> None:
  """Refuses a name of a file that leads elsewhere.

  Raises:
    UserError: the name has other characters than letters, digits, '_', '-', '+' and '.', or starts with '.'.
  """
  if name and not re.fullmatch(r'[\w+-][\w+.-]*', name):
    raise errors.UserError(f"{what} must be letters, digits, '_', '-', '+' and '.', got {name!r}")


def record_name(page: dict) -> str:
  """Returns 'iwae_mnist_1x5' for configs/iwae_mnist.py:1x5."""
  file, _, variant = page['config'].partition(':')
  return '_'.join(filter(None, (Path(file).stem, variant)))


def run() -> None:
  """Runs the program."""
  define_flags()
  cli.run(main)
