"""The folder of a run: its experiment, its surroundings, and how a finished run is taken up again."""

import importlib.metadata
import json
import math
import os
import platform
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from dgm_jax import config as experiment
from dgm_jax import data, optim, systems
from dgm_jax.core import State, System, unaveraged
from dgm_jax.data import checks, preprocess
from dgm_jax.errors import UserError
from dgm_jax.internal import metrics, older
from dgm_jax.internal.files import exists, is_file, is_folder, make_folder, write_atomic
from dgm_jax.runs import checkpoint
from dgm_jax.runs.subject import Subject
from dgm_jax.runtime import cluster, parallel

__all__ = [
  'best', 'claim', 'commit', 'compare', 'count', 'differences', 'environment', 'jsonable', 'open_subject', 'processor',
  'require_writable', 'resolve', 'shapes', 'total_steps', 'weights', 'with_data', 'write_json',
]  # fmt: skip

PACKAGES = ('dgm_jax', 'jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'numpy')


def compare(workdir: Path, config: ConfigDict, allow_config_change: bool) -> None:
  """Refuses a folder whose run has another experiment. A folder without a checkpoint holds nobody to its config.

  Raises:
    UserError: the folder holds a run of another experiment, or none of its checkpoints is readable.
  """
  if exists(workdir) and not is_folder(workdir):
    raise UserError(f'--workdir={workdir} cannot be written: Not a directory')
  wrong = [name for name in ('config.json', 'env.json', 'metrics.jsonl', 'timing.jsonl') if is_folder(workdir / name)]
  wrong += [name for name in ('checkpoints', 'pictures', 'tb') if is_file(workdir / name)]
  if wrong:
    raise UserError(f'{workdir / wrong[0]} is in the way of what a run writes there: move it away')
  if not checkpoint.steps(workdir):
    if damaged := checkpoint.unreadable(workdir):
      raise UserError(
        f'no checkpoint in {workdir} is readable ({", ".join(damaged)}); move the folder away to start anew'
      )
    return
  if not exists(workdir / 'config.json'):
    return
  old = experiment.to_json(experiment.load(workdir))
  changes = differences(old, older.today(experiment.to_json(config)))
  if changes and not allow_config_change:
    raise UserError(
      f'{workdir} holds a run of another config ({"; ".join(changes[:4])}{"; ..." if changes[4:] else ""});'
      ' take another --workdir, or add --allow_config_change'
    )


def claim(workdir: Path, config: ConfigDict, parameters: Mapping[str, int] | None = None) -> None:
  """Makes the folder the run's own: writes config.json and env.json. Call it when nothing can be refused any more.

  Args:
    workdir: the folder.
    config: the experiment.
    parameters: number of parameters of each network (`count`), for env.json.

  Raises:
    UserError: the folder cannot be written.
  """
  try:
    make_folder(workdir)
    write_json(workdir / 'config.json', experiment.to_json(config))
    write_json(workdir / 'env.json', environment() | ({'parameters': dict(parameters)} if parameters else {}))
  except OSError as error:
    raise UserError(f'--workdir={workdir} cannot be written: {error.strerror}') from error


def count(params: Mapping) -> dict[str, int]:
  """Counts the numbers in each network of a state, arrays or shapes."""
  return {name: sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree)) for name, tree in params.items()}


def environment() -> dict:
  """Returns the versions and the devices that a run's figures belong to."""
  device = jax.devices()[0]
  return {
    'versions': {name: importlib.metadata.version(name) for name in PACKAGES if _installed(name)},
    'python': platform.python_version(),
    'device': processor() if device.platform == 'cpu' else device.device_kind,
    'devices': jax.device_count(),
    'processes': jax.process_count(),
    'commit': commit(),
  }


def processor() -> str:
  """Returns the CPU's name and its number of cores."""
  try:
    lines = Path('/proc/cpuinfo').read_text().splitlines()
    name = next(line.split(':', 1)[1].strip() for line in lines if line.startswith('model name'))
  except (OSError, StopIteration):
    name = platform.processor() or platform.machine()
  return f'CPU, {os.cpu_count()} cores, {name}'


def commit() -> str:
  """Returns the commit of the clone that holds the code, DGM_JAX_COMMIT if the code was copied out of one, else ''."""
  try:
    shown = subprocess.run(
      ['git', 'rev-parse', '--short=12', 'HEAD'], cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10
    )
  except (OSError, subprocess.TimeoutExpired):
    return os.environ.get('DGM_JAX_COMMIT', '')
  return shown.stdout.strip() if shown.returncode == 0 else os.environ.get('DGM_JAX_COMMIT', '')


def with_data(config: ConfigDict, names: tuple[str, ...]) -> tuple[ConfigDict, dict[str, data.Split]]:
  """Loads parts of the data, describes those of a user's own, and fills in the settings that depend on data.

  Raises:
    UserError: there is a mistake in the data, or the parts do not fit one another or the system.
  """
  splits = data.load_parts(config.data, names)
  checks.check_together(splits)
  checks.check_labels(splits, systems.classes(config))
  checks.check_range(splits, config.data, systems.data_range(config))
  config = resolve(config, splits['train'])
  with config.unlocked():
    config.data.digest = checks.digests(splits)
  if cluster.main_process():
    for line in checks.describe(splits, config.data):
      print(line, flush=True)
  return config, splits


def resolve(config: ConfigDict, train: data.Split) -> ConfigDict:
  """Fills in the settings that depend on data: the shape and number of the examples, and the shares of classes."""
  config = config.copy_and_resolve_references()
  with config.unlocked():
    config.data.shape = train.shape
    config.data.examples = train.size
    config.data.levels = train.levels if config.data.preprocess in (*preprocess.GRID, 'scale') else 256
    config.data.class_shares = class_shares(config, train)
  return config


def class_shares(config: ConfigDict, train: data.Split) -> tuple[float, ...]:
  """Computes the share of each class among the labels of a conditional run's training examples.

  For any other run it returns ().

  Raises:
    UserError: a label is not below the number of classes.
  """
  labels = train.arrays.get('y')
  if not config.conditional or labels is None or 'classes' not in config.model:  # which `systems.build` refuses
    return ()
  counts = np.bincount(np.asarray(labels), minlength=config.model.classes)
  experiment.require(
    len(counts) == config.model.classes,
    f'config.data has the label {len(counts) - 1}, but config.model.classes={config.model.classes}: raise the latter',
  )
  return tuple(float(count) for count in counts / counts.sum())


def shapes(system: System, config: ConfigDict, mesh: Mesh) -> State:
  """Returns the state that `config` trains, as shapes with their shardings. Nothing is computed."""
  example = {
    'x': jax.ShapeDtypeStruct((1, *config.data.shape), 'float32'),
    'index': jax.ShapeDtypeStruct((1,), 'int32'),
  }
  example |= {'y': jax.ShapeDtypeStruct((1,), 'int32')}
  state = jax.eval_shape(system.init, jax.random.key(0), example)
  shardings = parallel.state_shardings(mesh, state, config.shard_params)
  return jax.tree.map(
    lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), state, shardings
  )


def which_step(workdir: Path, config: ConfigDict, name: str) -> int | Callable[[], int] | None:
  """Returns the step that a number stands for, a function that looks for that of 'best', None for the newest good one.

  Raises:
    UserError: it is none of these, or the run keeps no best.
  """
  if name == 'latest':
    return None
  if name == 'best':
    if not config.best:
      raise UserError('the run keeps no best checkpoint (config.best is empty); use --checkpoint=latest')
    return lambda: checkpoint.best_step(workdir, best(config))
  if not name.isdigit():
    raise UserError(f"--checkpoint must be latest, best or a step, got '{name}'")
  return int(name)


def best(config: ConfigDict) -> str:
  """Returns the name of the validation metric whose lowest checkpoint is kept, as the system measures it."""
  return metrics.named(config.best, config.system, config.conditional)


def open_subject(
  workdir: Path, split: str, which: str = 'latest', config: ConfigDict | None = None, weights: str = 'average'
) -> Subject:
  """Opens a trained run on one split of its data, for measurements or samples.

  Args:
    workdir: the run's folder.
    split: 'train', 'valid' or 'test'; '' for none, if only samples are needed.
    which: 'latest', 'best' or a step.
    config: the run's experiment, if settings of the measurement were changed.
    weights: 'average' to use the moving averages of the networks that have one, 'raw' to use none.
  """
  config = config or experiment.load(workdir)
  if config.conditional and not config.data.get('class_shares'):  # a run from before that key
    config = config.copy_and_resolve_references()
    with config.unlocked():
      config.data.class_shares = class_shares(config, data.load(config.data, 'train'))
  mesh = parallel.mesh()
  part = data.load(config.data, split) if split else data.Split('', 0, {})
  system = systems.build(config)
  if split:
    checks.check_shape(part, config.data.shape, f'those that {workdir} was trained on')
    checks.check_labels({split: part}, systems.classes(config))
  restored = checkpoint.restore(workdir, shapes(system, config, mesh), which_step(workdir, config, which))
  state = restored.state
  if weights == 'raw':
    state = unaveraged(state)
  trained_at = restored.meta.get('environment', {}).get('commit') or None
  return Subject(config, system, state, part, mesh, trained_at)


def require_writable(folder: Path) -> None:
  """Refuses a folder that cannot be made or written, before work is done for it. It does not make the folder.

  Raises:
    UserError: names the folder and the reason.
  """
  try:
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if exists(path))
    with tempfile.TemporaryFile(dir=there):
      pass
  except OSError as error:
    reason = error.strerror or str(error)
    raise UserError(f'{folder} cannot be written ({reason}): give a folder that is yours to write') from error


def weights(state: State) -> str:
  """Describes in words which parameters are measured and sampled."""
  names = sorted(state.extra.get('ema', {}))
  return f'the moving averages of {", ".join(names)}' if names else 'the parameters as trained'


def write_json(path: Path, page: Any) -> None:
  """Writes JSON atomically: a reader gets the old page or the new one.

  Numbers that JSON lacks are the strings "nan", "inf" and "-inf", as in metrics.jsonl; `float` reads them.
  """
  write_atomic(path, (json.dumps(jsonable(page), indent=2, allow_nan=False) + '\n').encode())


def jsonable(value: Any) -> Any:
  """Returns data with the numbers that JSON lacks as the strings "nan", "inf" and "-inf"."""
  if isinstance(value, Mapping):
    return {key: jsonable(inner) for key, inner in value.items()}
  if isinstance(value, (list, tuple)):
    return [jsonable(inner) for inner in value]
  return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def differences(old: Mapping, new: Mapping, prefix: str = '') -> list[str]:
  """Lists the differences of two JSON configs, free keys left out: ['batch_size: 20 -> 100', ...]."""
  lines = []
  for key in sorted(set(old) | set(new)):
    if not prefix and key in experiment.FREE:
      continue
    a, b = old.get(key), new.get(key)
    if f'{prefix}{key}' == 'data.where':
      continue  # on which no bit depends
    if f'{prefix}{key}' == 'data.class_shares' and not a:
      continue  # of a run from before that key, whose data says the same
    if f'{prefix}{key}'.startswith('data.digest') and not (a and b):
      continue  # of a run from before that key, or of a part that one of them does not look at
    if isinstance(a, Mapping) and isinstance(b, Mapping):
      lines += differences(a, b, f'{prefix}{key}.')
    elif a != b:
      lines.append(f'{prefix}{key}: {json.dumps(a)} -> {json.dumps(b)}')
  return lines


def total_steps(config: ConfigDict) -> int:
  """Returns the length of the run.

  Raises:
    UserError: the run has less than one step.
  """
  steps = optim.total_steps(config)
  if steps < 1:
    raise UserError(f'the run has {steps} steps; raise config.steps or config.epochs')
  return steps


def _installed(name: str) -> bool:
  try:
    importlib.metadata.version(name)
  except importlib.metadata.PackageNotFoundError:
    return False
  return True
