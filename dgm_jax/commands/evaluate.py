"""Measures a trained run on a split of its data.

Usage: python -m dgm_jax.evaluate --workdir=DIR [--split=test] [--checkpoint=latest|best|STEP] [--samples=5000]
       [--weights=average|raw] [--only=mean.metrics,surgery]
       [--judge=runs/classifier_mnist] [--record]

Prints every figure and writes DIR/evaluation_SPLIT.json; with --record also results/SYSTEM_DATA_VARIANT.json,
from which the tables of docs/systems.md and docs/tables.md are made. Beside a figure of the test split stands the
published one of the same system, data, network and protocol, where there is one.
"""

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from dgm_jax import config as experiment
from dgm_jax import errors
from dgm_jax.pages import published, records
from dgm_jax.runtime import cli

__all__ = ['SPLITS', 'define_flags', 'evaluate', 'main', 'record', 'run']

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

  from dgm_jax.evals import measuring
  from dgm_jax.runs import workdir
  from dgm_jax.runtime import cluster, cpu

  # What is needed in the end is looked for first: figures may take hours.
  _environment(workdir_path)
  folders = [workdir_path, *([Path(args.results)] if args.record else [])]
  for folder in folders:
    workdir.require_writable(folder)
  cluster.start(keep_memory=cpu.large_programs(config))
  subject = workdir.open_subject(workdir_path, args.split, args.checkpoint, config, args.weights)
  chosen = tuple(name if '.' in name else f'{name}.{name}' for name in (*args.only, *args.what))
  # Of a network that is told the label, also what it says without: the mixture over labels.
  tells = subject.system.views.log_prob_classes and 'labels.labels' not in config.evals
  mixture = ('labels.labels',) if tells else ()
  functions = measuring.find(subject, chosen or tuple(config.evals) + mixture)
  page = record(workdir_path, subject, args.split, {}) | {'checkpoint': args.checkpoint}
  name = args.name or record_name(page)
  if args.record:
    require_name('the name of the config, from which the record has its own,', name)
  targets = [workdir_path / f'evaluation_{args.split}.json', *(folder / f'{name}.json' for folder in folders[1:])]
  print(f'{args.split} split, {subject.split.size} examples, step {page["steps"]}, {page["weights"]}:', flush=True)
  failures = evaluate(subject, functions, page, targets)
  for target in targets[1:]:
    print(f'record: {target}' if not failures else f'no record {target}: figures are missing')
  if failures:
    raise failures[0]


def evaluate(subject: Any, functions: dict[str, Callable], page: dict, targets: list[Path]) -> list[errors.UserError]:
  """Measures one thing after another, prints each figure at once, and writes what there is in the end.

  Args:
    subject: the run.
    functions: of `find`.
    page: of `record`, with neither metrics nor samples yet.
    targets: files for the page; all but the first are for a page that is whole.

  Returns:
    what could not be measured; the rest is measured all the same.
  """
  from dgm_jax.runs import workdir

  metrics, failures, done, started = {}, [], [], time.perf_counter()
  try:
    for name, function in functions.items():
      print(f'measuring {name} ...', flush=True)
      try:
        figures = function(subject.config.seed, subject)
      except errors.UserError as error:
        print(f'  no {name}: {error}', flush=True)
        failures.append(error)
        continue
      metrics |= figures
      done.append(name)
      failures += _not_finite(figures)
      _print_figures(figures, page, subject.config)
  finally:  # also where a signal ends it
    if metrics:
      page |= {'metrics': metrics, 'samples': _samples(subject.config, metrics)}
      page['evaluation_seconds'] = round(time.perf_counter() - started, 1)
      for target in targets[: 1 if failures or len(done) < len(functions) else None]:
        target.parent.mkdir(parents=True, exist_ok=True)
        workdir.write_json(target, page)
  return failures


def _print_figures(figures: dict, page: dict, config: Any) -> None:
  """Prints figures, those of the test split beside the published ones."""
  samples = _samples(config, figures).get('nll_nats', 0)
  beside = published.find(page['config'], page['settings'], samples) if page['split'] == 'test' else {}
  for name, value in figures.items():
    text = f'{value:.5g}' if isinstance(value, float) else f'{[round(v, 4) for v in value]}'
    text += f'  (published: {beside[name][0]:.6g}; {beside[name][1].source})' if name in beside else ''
    print(f'  {name} = {text}', flush=True)


def _not_finite(figures: dict) -> list[errors.UserError]:
  """Returns what keeps figures out of the records: those that are no numbers."""
  wrong = [name for name, value in figures.items() if not np.isfinite(value).all()]
  hint = 'it is kept beside the run, and not recorded; look at the data and at the training'
  return [errors.UserError(f'the figure {name} is {figures[name]}: {hint}') for name in wrong]


def record(folder: Path, subject: Any, split: str, metrics: dict) -> dict:
  """Returns a page of results/ (`records.FIELDS`): the model, the data, the length of training and the figures."""
  import jax

  from dgm_jax.pages import catalogue, sizes
  from dgm_jax.runs import lines, workdir

  config, environment = subject.config, _environment(folder)
  steps = int(jax.device_get(subject.state.step))
  timing = [line for line in lines.read(folder / 'timing.jsonl') if line['step'] <= steps]
  parameters = workdir.count(subject.state.params)
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


def _environment(folder: Path) -> dict:
  """Reads the surroundings of a run's training.

  Raises:
    UserError: they are missing or damaged.
  """
  environment = records.load(folder / 'env.json')
  if not {'device', 'devices', 'versions'} <= set(environment):
    raise errors.UserError(
      f'{folder / "env.json"} is missing or holds no device and versions, which figures are kept with: start the'
      ' training again with the same command, which writes it'
    )
  return environment


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
