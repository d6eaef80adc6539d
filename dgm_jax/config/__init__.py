"""Experiments as plain data: the common keys, the command line, the checks, and JSON.

Nothing here imports JAX, so that a mistake is answered before JAX has loaded.
"""

import contextlib
import functools
import importlib
import importlib.util
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from dgm_jax.config import names
from dgm_jax.config.command_line import FILLED_IN, define_flags, listing, parse, value
from dgm_jax.config.names import named_config
from dgm_jax.errors import UserError
from dgm_jax.internal import intervals, kinds, older
from dgm_jax.internal.files import import_file, read_text
from dgm_jax.internal.words import named, one_line

__all__ = [
  'FILLED_IN', 'FREE', 'build_on', 'by_path', 'check', 'check_warmup', 'choose', 'defaults', 'define_flags',
  'from_json', 'listing', 'load', 'named_config', 'naming', 'one_of', 'optimizer', 'parse', 'require', 'shrink',
  'to_json', 'value', 'with_variant', 'within',
]  # fmt: skip

# Keys that may differ when a run is taken up again: they bear on how long and how often, not on what is trained.
FREE = (
  'steps', 'epochs', 'budget', 'log_every', 'eval_every', 'save_every', 'picture_every', 'keep', 'evals', 'nll', 'ais',
  'generated', 'async_save', 'judge', 'eval_batch_size', 'eval_examples', 'log', 'norms', 'pictures', 'source',
  'overrides',
)  # fmt: skip
DTYPES = ('float32', 'bfloat16')
DRIVERS = ('jit', 'pmap')
WHERE = ('auto', 'device', 'sharded', 'host')
SCHEDULES = ('constant', 'linear', 'cosine', 'exponential', 'stages')
SHORT = 2  # steps of the warm-up of an experiment for tests
OPTIMIZERS = ('adam', 'adamax', 'adagrad', 'rmsprop', 'sgd')


def defaults() -> ConfigDict:
  """Returns the keys that every experiment has. A config file starts from these and fills in its own."""
  return ConfigDict(
    {
      'system': '',  # 'vae.iwae' is the function iwae of dgm_jax/systems/vae.py
      'seed': 0,
      'data': {
        'name': '',  # digits | sprites | TFDS name | folder: npz: npy: mat: amat:PATH | toy: points: pairs:NAME
        'train': 'train',  # TFDS split expressions
        'test': 'test',
        'valid_size': 0,  # so many of the last training examples are kept for validation
        'size': 0,  # resize to size x size; 0: as stored
        'channels': 0,  # 1: grey, 3: RGB; 0: as stored
        'invert': False,
        'pad': 0,  # pixels of black around each stored image, which judges do not see
        'preprocess': 'scale',  # a function of dgm_jax/data/preprocess.py
        'where': 'auto',  # a copy on each device | sharded over them | on the host; auto: by size; no bit depends on it
        'shape': (),  # filled in when the data is loaded
        'examples': 0,  # likewise: training examples
        'levels': 256,  # likewise: grey levels of a pixel, where the preprocessing keeps them
        'class_shares': (),  # likewise: of the labels of a conditional run, from which samples draw their own
        'digest': {},  # likewise: a checksum of each part of a folder or file, by which a later start knows it again
      },
      'model': {},
      'conditional': False,  # on labels, of which config.model.classes is the number
      'optimizer': {},  # player name -> optimizer(...)
      'batch_size': 100,
      'accumulate': 1,  # gradients are averaged over so many slices of the batch, one held in memory at a time
      'steps': 0,  # length of the run: either steps,
      'epochs': 0.0,  # or epochs,
      'stage_epochs': (),  # or the sum of these,
      'budget': 0,  # of which only so many stages are run; 0: all
      'init_examples': 10_000,  # shown to `System.init`, for data-dependent starts
      'steps_per_call': 100,  # one compiled call; all the following are multiples of it; 0: never
      'log_every': 100,
      'eval_every': 1000,
      'save_every': 1000,
      'picture_every': 1000,
      'eval_batch_size': 500,
      'eval_examples': 0,  # of a part that are measured while training, evenly strided; 0: all
      'evals': ('mean.metrics',),  # functions of dgm_jax/evals, for `python -m dgm_jax.evaluate`
      'judge': '',  # of generated images: the workdir of a classifier, or inception:PATH#SHA256
      'generated': {'samples': 0, 'splits': 10},  # images that are judged, 0: 10,000 at most; Inception score's splits
      'nll': {'samples': 5000, 'rows': 1000, 'examples': 0},  # rows of a decoder at a time; strided examples, 0: all
      'ais': {'temperatures': 1000, 'chains': 16, 'leapfrogs': 10, 'examples': 100},  # annealed importance sampling
      'pictures': 64,
      'keep': 2,  # the newest checkpoints that are kept, beside the best
      'best': '',  # a validation metric: its lowest checkpoint is kept
      'async_save': False,  # train on while a checkpoint is written; a kill then costs the steps made meanwhile, too
      'dtype': 'float32',  # of activations; losses are always float32
      'parallel': 'jit',  # one program for all devices; 'pmap': a step of its own on each, gradients averaged
      'shard_params': False,  # spread parameters and optimizer state over the devices, too
      'graft': {},  # network name -> workdir of the run that it is taken from
      'graft_fresh': False,  # whether layers that the network lacks there start afresh, as when images grow
      'norms': False,  # log the norms of each player's gradients, before clipping, and of its new parameters
      'log': {'tensorboard': True, 'wandb': ''},
      'source': '',  # filled in: the config file and its variant,
      'overrides': (),  # and what the command line changed
    }
  )


def optimizer(**changes) -> dict:
  """Returns one player's optimizer, as plain data for `dgm_jax.optim.make`."""
  base = {
    'name': 'adam', 'learning_rate': 1e-3, 'b1': 0.9, 'b2': 0.999, 'eps': 1e-8, 'eps_root': 0.0, 'momentum': 0.0,
    'weight_decay': 0.0, 'clip_norm': 0.0, 'clip_value': 0.0, 'skip_norm': 0.0, 'schedule': 'constant',
    'warmup_steps': 0, 'end_factor': 0.0, 'decay': 1.0, 'stage_rates': (),
  }  # fmt: skip
  unknown = set(changes) - set(base)
  if unknown:
    raise UserError(f'optimizer has no {named(sorted(unknown)[0], base)}')
  return base | changes


def shrink(config: ConfigDict) -> None:
  """Shrinks an experiment to a few steps on the built-in digits, for tests. The config shrinks its own networks."""
  config.data.update({'name': 'digits', 'valid_size': 100})
  config.update({'batch_size': 16, 'steps': 12, 'steps_per_call': 2, 'eval_batch_size': 64, 'pictures': 8})
  config.update({'log_every': 4, 'eval_every': 6, 'save_every': 4, 'picture_every': 12, 'init_examples': 64})
  config.nll.update({'samples': 20, 'rows': 100})
  for opt in config.optimizer.values():
    opt.warmup_steps = min(opt.warmup_steps, SHORT)
  config.ais.update({'temperatures': 20, 'chains': 2, 'leapfrogs': 2, 'examples': 4})


def with_variant(config: ConfigDict, variants: Mapping[str, Any], name: str) -> ConfigDict:
  """Changes a config to one of its variants.

  Args:
    config: the main config; it is changed in place, and returned.
    variants: name -> what differs: a mapping of dotted keys to values ({'model.latents': 4}), a function that changes
      the config, or a tuple of such, in order. '' is the main config.
    name: a variant.

  Raises:
    ValueError: there is no such variant; the message names them all. A key is not in the config.
  """
  if name not in variants:
    names = ', '.join(filter(None, variants)) or 'none'
    raise ValueError(f'there is no variant {named(name, variants)}; the variants are {names}')
  for change in variants[name] if isinstance(variants[name], tuple) else (variants[name],):
    if callable(change):
      change(config)
    else:
      for key, value in change.items():
        *parents, last = key.split('.')
        inner = functools.reduce(getattr, parents, config)
        if last not in inner:
          raise ValueError(f"the variant '{name}' sets {key}, which the config does not have")
        inner[last] = value
  return config


def build_on(file: str, name: str) -> ConfigDict:
  """Returns the config 'NAME' or 'NAME:VARIANT' of another file in the folder of `file`, the caller's `__file__`.

  Raises:
    ValueError: there is no such file, or it has no such variant.
  """
  stem, _, variant = name.partition(':')
  path = Path(file).with_name(f'{stem}.py')
  if not path.exists():
    raise ValueError(f'{Path(file).name} builds on {path}, which does not exist')
  return import_file(path).get_config(*filter(None, [variant]))


def check(config: ConfigDict) -> None:
  """Refuses unknown keys, wrong types and values out of range.

  Raises:
    UserError: one line that names the key, its value, and the allowed values.
  """
  _check_words(config, 'config')
  _check_keys(config, defaults(), 'config')
  for key, interval in intervals.EXPERIMENT.items():
    within(f'config.{key}', functools.reduce(getattr, key.split('.'), config), interval)
  for i, epochs in enumerate(config.stage_epochs):
    within(f'config.stage_epochs[{i}]', epochs, '(0, inf)')
  for key in ('log_every', 'eval_every', 'save_every', 'picture_every'):
    require(
      config[key] % config.steps_per_call == 0,
      f'config.{key}={config[key]} must be a multiple of config.steps_per_call={config.steps_per_call}, or 0 for never',
    )
  require(
    bool(config.steps) + bool(config.epochs) + bool(config.stage_epochs) >= 1,
    'the run has no length; set config.steps or config.epochs',
  )
  require(
    config.budget <= len(config.stage_epochs),
    f'config.budget={config.budget} asks for more stages than config.stage_epochs has ({len(config.stage_epochs)})',
  )
  _check_finite(config.model, 'config.model')
  one_of('config.dtype', config.dtype, DTYPES)
  one_of('config.parallel', config.parallel, DRIVERS)
  require(
    config.batch_size % config.accumulate == 0,
    f'config.batch_size={config.batch_size} must be a multiple of config.accumulate={config.accumulate}',
  )
  require(
    not (config.shard_params and config.parallel == 'pmap'),
    "config.shard_params=True needs config.parallel='jit': with 'pmap' each device holds all parameters",
  )
  one_of('config.data.channels', config.data.channels, (0, 1, 3))
  one_of('config.data.where', config.data.where, WHERE)
  by_rows = config.data.where == 'sharded' and config.parallel == 'pmap'
  require(not by_rows, "config.data.where=sharded needs config.parallel='jit': with 'pmap' set config.data.where=host")
  for player, opt in config.optimizer.items():
    _check_optimizer(f'config.optimizer.{player}', opt, config)
  if config.steps:  # else it depends on the data
    check_warmup(config, config.steps)


def check_warmup(config: ConfigDict, steps: int) -> None:
  """Refuses a warm-up that is longer than the run, whose learning rate would never be reached.

  Raises:
    UserError: names the optimizer.
  """
  for player, opt in config.optimizer.items():
    require(
      opt.warmup_steps <= steps,
      f'config.optimizer.{player}.warmup_steps={opt.warmup_steps} is longer than the run of {steps} steps: lower it,'
      ' or train for longer',
    )


def _check_words(config: ConfigDict, path: str) -> None:
  """Refuses keys that are no words: a dictionary in place of settings may have any."""
  for key, got in config.items():
    require(isinstance(key, str), f'{path} must have words as keys, got {key!r}: write {{"key": value}}')
    if isinstance(got, ConfigDict):
      _check_words(got, f'{path}.{key}')


def _check_finite(values: Any, path: str) -> None:
  """Refuses numbers of a model that are not finite, or beyond int32. Their own ranges are the systems' to check."""
  for key, got in values.items() if isinstance(values, ConfigDict) else enumerate(values):
    inner = f'{path}.{key}' if isinstance(values, ConfigDict) else f'{path}[{key}]'
    if isinstance(got, (ConfigDict, tuple)):
      _check_finite(got, inner)
    elif isinstance(got, (int, float)):
      within(inner, got, '(-2^31, 2^31)' if isinstance(got, int) else '(-inf, inf)')


def _check_optimizer(path: str, opt: ConfigDict, config: ConfigDict) -> None:
  _check_keys(opt, ConfigDict(optimizer()), path)
  one_of(f'{path}.name', opt.name, OPTIMIZERS)
  one_of(f'{path}.schedule', opt.schedule, SCHEDULES)
  for key, interval in intervals.OPTIMIZER.items():
    within(f'{path}.{key}', opt[key], interval)
  for i, rate in enumerate(opt.stage_rates):
    within(f'{path}.stage_rates[{i}]', rate, '(0, inf)')
  if opt.schedule == 'stages':
    got, expected = len(opt.stage_rates), len(config.stage_epochs)
    require(got == expected > 0, f'{path}.stage_rates has {got} rates for {expected} config.stage_epochs')


def _check_keys(config: ConfigDict, allowed: ConfigDict, path: str) -> None:
  lost = [key for key in allowed if key not in config]
  require(not lost, f'{path} lacks {", ".join(lost)}: give single keys, such as --{path}.{(lost or [""])[0]}=VALUE')
  for key, got in config.items():
    if key not in allowed:
      raise UserError(f'{path} has no key {named(key, allowed)}')
    expected = allowed[key]
    if isinstance(expected, ConfigDict):
      require(isinstance(got, ConfigDict), f'{path}.{key} must hold keys, got {got!r}')
      if len(expected):
        _check_keys(got, expected, f'{path}.{key}')
    else:
      # Other lengths and elements of a tuple are for those to check who use it.
      wrong = kinds.misfit(got, () if isinstance(expected, tuple) else expected)
      require(not wrong, f'{path}.{key} {wrong}')


def one_of(path: str, got: Any, allowed: Iterable) -> None:
  """Refuses a setting that is none of those allowed.

  Raises:
    UserError: names the key, the allowed values, and the nearest.
  """
  allowed = tuple(allowed)
  if got not in allowed:
    hint = named(got, allowed) if isinstance(got, str) else repr(got)
    raise UserError(f'{path} must be one of {", ".join(map(str, allowed))}, got {hint}')


def within(path: str, number: float, interval: str) -> None:
  """Refuses a number outside of an interval such as '[0, 1)', and one that is not finite.

  Raises:
    UserError: names the key, the allowed values, and its value.
  """
  require(intervals.holds(interval, number), f'{path} {intervals.described(interval, number)}')


def require(holds: bool, message: str) -> None:
  """Refuses an experiment unless `condition` is true.

  Raises:
    UserError: the message.
  """
  if not holds:
    raise UserError(message)


@contextlib.contextmanager
def naming(path: str) -> Iterator[None]:
  """Names the key of an experiment whose network cannot be built within the block.

  Raises:
    UserError: the key and what the network says.
  """
  try:
    yield
  except (ValueError, ArithmeticError, IndexError) as error:  # a size of 0 divides by 0, an empty tuple has no end
    raise UserError(f'{path}: {one_line(error)}') from error


def choose(path: str, name: str, table: Mapping) -> Any:
  """Returns the entry of this name.

  Raises:
    UserError: the table has none.
  """
  one_of(path, name, table)
  return table[name]


def by_path(package: str, name: str) -> Callable:
  """Returns the function of a dotted name: ('dgm_jax.systems', 'vae.iwae') -> dgm_jax.systems.vae.iwae.

  The package lists the module in `__all__`, and the module the function.

  Raises:
    UserError: there is no such module or function.
  """
  module_name, _, function = name.rpartition('.')
  listed = importlib.import_module(package)
  modules = [name for name in listed.__all__ if not callable(getattr(listed, name, None))]
  if module_name not in modules:
    hint = f'{package} has no {named(name, modules)}; its modules are {", ".join(modules)}'
    there = module_name and importlib.util.find_spec(f'{package}.{module_name.partition(".")[0]}')
    raise UserError(hint + f': list a new one in __all__ of {package}' * bool(there))
  module = importlib.import_module(f'{package}.{module_name}')
  if function not in module.__all__:
    raise UserError(f'{package}.{module_name} has no {named(function, module.__all__)}')
  return getattr(module, function)


def to_json(config: ConfigDict) -> dict:
  """Returns the experiment as JSON data. Tuples become lists."""
  return json.loads(json.dumps(config.to_dict()))


def from_json(data: Mapping) -> ConfigDict:
  """Computes the inverse of `to_json`."""
  return ConfigDict(_tuples(data), convert_dict=True)


def load(workdir: Path) -> ConfigDict:
  """Loads the experiment of a finished or interrupted run. Keys that came later have the values of today's configs.

  Raises:
    UserError: the folder is not a workdir.
  """
  path = Path(workdir) / 'config.json'
  try:
    return from_json(_with_later_keys(older.today(json.loads(read_text(path)))))
  except FileNotFoundError as error:
    raise UserError(f'{workdir} is not a workdir: it has no config.json; train with --workdir={workdir}') from error
  except (ValueError, AttributeError, TypeError, KeyError, OSError) as error:
    raise UserError(f'{path} cannot be read: {one_line(error)}') from error


def _with_later_keys(page: dict) -> dict:
  """Fills in keys that came after a run: common ones from the defaults, the model's from its own config, if it is here.

  Only the files beside this package are read: a run's page is data, and its `source` may be anybody's path.
  """
  page = older.filled(page, to_json(defaults()))
  page['optimizer'] = {name: older.filled(opt, optimizer()) for name, opt in page['optimizer'].items()}
  source, _, variant = page['source'].partition(':')
  file = names.folder() / Path(source).name
  if source and file.is_file():
    with contextlib.suppress(Exception):  # it is the run that is asked for, and not its file of today
      today = import_file(file).get_config(*filter(None, [variant]))
      if today.system == page['system']:
        page['model'] = older.filled(page['model'], to_json(today)['model'])
  return page


def _tuples(data):
  if isinstance(data, Mapping):
    return {key: _tuples(item) for key, item in data.items()}
  return tuple(_tuples(item) for item in data) if isinstance(data, list) else data
