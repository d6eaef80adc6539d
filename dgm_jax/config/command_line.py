"""The command line of an experiment: --config, its file, and what `--config.KEY=VALUE` changes."""

import functools
import sys
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from dgm_jax.config import names
from dgm_jax.errors import UserError
from dgm_jax.internal import kinds, older
from dgm_jax.internal.files import import_file
from dgm_jax.internal.words import named, one_line

__all__ = ['FILLED_IN', 'define_flags', 'listing', 'parse', 'value']

flags.disclaim_key_flags()  # --help lists --config as a flag of the program that defines it

# Keys that the program fills in; the data's own are checked when it is loaded.
FILLED_IN = ('source', 'overrides', 'data.shape', 'data.examples', 'data.levels', 'data.class_shares', 'data.digest')


def define_flags() -> None:
  """Defines --config, which `parse` fills in."""
  says = 'Experiment, by name or file, and its variant after a colon: vae_mnist:tiny; --config.KEY=VALUE changes a key.'
  config_flags.DEFINE_config_file('config', None, says)
  flags.declare_key_flag('config')


def parse(argv: list[str], usage: str) -> list[str]:
  """Parses the command line into `absl.flags`. For --help it prints `usage` and the flags.

  Returns:
    the rest of argv after the flags.

  Raises:
    UserError: an unknown flag or key, a value of the wrong type, a config file that cannot be read.
  """
  argv[:] = _located(list(map(older.flag, argv)))  # in place: the config's own parser reads sys.argv
  helps = [arg for arg in argv[1:] if arg in ('--help', '-h', '-help', '--helpshort')]
  if helps:
    print(usage.strip() + '\n')
    print(flags.FLAGS.main_module_help())
    if 'config' in flags.FLAGS and any(arg.startswith('--config=') for arg in argv):
      flags.FLAGS([arg for arg in argv if arg not in helps])
      print('\n'.join(_explained()))
    sys.exit(0)
  try:
    return flags.FLAGS(argv)
  except flags.Error as error:
    # A config file's own error comes with its traceback: the last line says it.
    raise UserError(one_line(error).rpartition('Error: ')[2]) from error
  except (AttributeError, KeyError) as error:
    raise UserError(_unknown_key(argv, error)) from error
  except (SyntaxError, ImportError, TypeError, ValueError, OSError) as error:
    raise UserError(f'the config file cannot be loaded: {one_line(error)}') from error


def listing() -> list[str]:
  """Returns a line for each experiment of the folder of --config's file, or of configs/: what it is, and its variants.

  Raises:
    UserError: there is no such folder, or no experiment in it.
  """
  source = config_flags.get_config_filename(flags.FLAGS['config']) if flags.FLAGS['config'].present else ''
  folder = Path(source).parent if source else names.folder()
  lines = []
  for name, module in names.experiments(folder).items():
    lines.append(f'{name}: {(module.__doc__ or "").strip().partition(chr(10))[0]}')
    lines += [f'  {name}:{variant}' for variant in getattr(module, 'VARIANTS', ()) if variant]
  if not lines:
    raise UserError(f'--list finds no experiments in {folder}: give --config=FOLDER/NAME.py of a folder that has some')
  return lines


def value() -> ConfigDict:
  """Returns the experiment that --config names, with its changes from the command line.

  Raises:
    UserError: there is none, or its file cannot be read.
  """
  config = flags.FLAGS.config
  if config is None:
    raise UserError('no experiment given; add --config=NAME, one of those that --list names, or a file')
  if not isinstance(config, ConfigDict):
    raise UserError(f'the config file {config_flags.get_config_filename(flags.FLAGS["config"])} cannot be read')
  changes = config_flags.get_override_values(flags.FLAGS['config'])
  located = config_flags.get_config_filename(flags.FLAGS['config'])
  _check_changes(changes, located)
  with config.unlocked():
    config.source = names.source_of(located)
    config.overrides = tuple(f'{key}={value}' for key, value in changes.items())
  return config


def _located(argv: list[str]) -> list[str]:
  """Returns a command line whose --config, an experiment's name, is the path of its file."""
  words = list(argv)
  for i, word in enumerate(argv):
    flag, sign, value = word.partition('=')
    if flag in ('--config', '-config') and sign:
      words[i] = f'--config={names.locate(value)}'
    elif flag in ('--config', '-config') and i + 1 < len(argv):
      words[i + 1] = names.locate(argv[i + 1])
  return words


def _explained() -> list[str]:
  """Returns what the experiment says of itself, and each key with its value, a line each."""
  path, _, _ = config_flags.get_config_filename(flags.FLAGS['config']).partition(':')
  return [(import_file(Path(path)).__doc__ or '').strip(), '', *_keys(value(), 'config')]


def _keys(config: ConfigDict, path: str) -> list[str]:
  """Returns a line for each key that a command line can change."""
  lines = []
  for key, inner in config.items():
    if isinstance(inner, ConfigDict) and len(inner):
      lines += _keys(inner, f'{path}.{key}')
    elif f'{path}.{key}'.removeprefix('config.') not in FILLED_IN:
      lines.append(f'--{path}.{key}={inner!r}')
  return lines


def _check_changes(changes: dict[str, Any], source: str) -> None:
  """Refuses changes of keys that the program fills in, and tuples unlike those that the config file has."""
  for key in changes:
    if key in FILLED_IN:
      raise UserError(f'config.{key} is filled in by the program: leave it out')
  if any(isinstance(value, tuple) for value in changes.values()):  # other types are the flag's own to check
    path, _, variant = source.partition(':')
    before = import_file(Path(path)).get_config(*filter(None, [variant]))
    for key, value in changes.items():
      wrong = kinds.misfit(value, functools.reduce(lambda inner, part: inner[part], key.split('.'), before))
      if isinstance(value, tuple) and wrong:
        raise UserError(f'config.{key} {wrong}')


def _unknown_key(argv: list[str], error: Exception) -> str:
  """Describes the --config.KEY of argv that the experiment does not have, and its nearest neighbour."""
  overrides = [arg for arg in argv if arg.startswith('--config.')]
  command, sys.argv = sys.argv, [arg for arg in argv if arg not in overrides]  # config_flags looks there, too
  flags.FLAGS.unparse_flags()
  try:
    flags.FLAGS(sys.argv)
  except flags.Error as another:  # a second mistake, in a flag
    return one_line(another)
  finally:
    sys.argv = command
  for path in (arg.removeprefix('--').partition('=')[0].split('.') for arg in overrides):
    inner = flags.FLAGS.config
    for i, key in enumerate(path[1:], 1):
      if not isinstance(inner, ConfigDict) or key not in inner:
        return f'{".".join(path[:i])} has no key {named(key, inner if isinstance(inner, ConfigDict) else ())}'
      inner = inner[key]
  return one_line(error)
