"""Experiments by name: the files of configs/, beside the package in a clone or installed with it."""

import functools
import re
from importlib import metadata
from pathlib import Path
from types import ModuleType

from ml_collections import ConfigDict

from dgm_jax.errors import UserError
from dgm_jax.internal.files import import_file
from dgm_jax.internal.words import named, one_line

__all__ = ['experiments', 'folder', 'locate', 'named_config', 'source_of']

ROOT = Path(__file__).parents[2]  # of a clone, or the folder that packages are installed in
INSTALLED = 'share/dgm_jax/configs'
NAME = re.compile(r'(\w+)((?::.*)?)')


@functools.cache
def folder() -> Path:
  """Returns the folder of the experiments, that of the clone where the package is one."""
  for place in (ROOT / 'configs', ROOT / INSTALLED):
    if place.is_dir():
      return place
  try:
    files = metadata.files('dgm_jax') or ()
  except metadata.PackageNotFoundError:
    files = ()
  installed = (Path(str(file.locate())) for file in files if file.match(f'{INSTALLED}/*.py'))
  return next((path.resolve().parent for path in installed), ROOT / 'configs')


def experiments(where: Path | None = None) -> dict[str, ModuleType]:
  """Returns the modules of a folder that have a `get_config`, by name; the folder is `folder()` if None."""
  modules = {path.stem: import_file(path) for path in sorted((where or folder()).glob('[a-z]*.py'))}
  return {name: module for name, module in modules.items() if hasattr(module, 'get_config')}


def locate(word: str) -> str:
  """Returns the file and the variant that a word names: 'vae_mnist:conv' -> '/.../configs/vae_mnist.py:conv'.

  A path stays as it is.

  Raises:
    UserError: there is no such experiment.
  """
  path, _, variant = word.partition(':')
  if path.endswith('.py') or '/' in path:
    if not Path(path).exists():
      stems = [file.stem for file in Path(path).parent.glob('[a-z]*.py')] or [file.stem for file in _files()]
      raise UserError(f'--config={word}: there is no file {_near(path, stems)}; --list names the experiments')
    return word
  if not NAME.fullmatch(word) or not (folder() / f'{path}.py').is_file():
    stems = [file.stem for file in _files()]
    raise UserError(f'there is no experiment {named(path, stems)}; --list names them, and a path to a file works, too')
  return f'{folder() / path}.py' + (f':{variant}' if variant else '')


def source_of(located: str) -> str:
  """Returns how records name an experiment: 'configs/vae_mnist.py:conv' for those of `folder()`, else its path."""
  path, colon, variant = located.partition(':')
  inside = Path(path).is_absolute() and Path(path).parent == folder()
  return (f'configs/{Path(path).name}' if inside else path) + colon + variant


def named_config(name: str) -> ConfigDict:
  """Returns the experiment of this name, such as 'vae_mnist:conv', or of this file and variant.

  Raises:
    UserError: there is no such experiment, or it has no such variant.
  """
  located = locate(name)
  path, _, variant = located.partition(':')
  try:
    config = import_file(Path(path)).get_config(*filter(None, [variant]))
  except (SyntaxError, ImportError, AttributeError, TypeError, ValueError, OSError) as error:
    raise UserError(f'the experiment {name} cannot be had: {one_line(error)}') from error
  config.source = source_of(located)
  return config


def _files() -> list[Path]:
  return sorted(folder().glob('[a-z]*.py'))


def _near(path: str, stems: list[str]) -> str:
  hint = named(Path(path).stem, stems).partition('; ')[2]
  return path + (f'; {hint}' if hint else '')
