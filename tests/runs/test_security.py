"""Files are data: nothing that is read can run code, nothing is fetched unchecked, no archive is unpacked whole."""

import ast
import os
import pathlib
import stat

import pytest

import dgm_jax
from dgm_jax import config as experiment
from dgm_jax import evals
from dgm_jax.errors import UserError
from dgm_jax.runtime import cpu

PACKAGE = pathlib.Path(__file__).parents[2] / 'dgm_jax'
FILES = [*sorted(PACKAGE.rglob('*.py')), PACKAGE.parent / 'train.py']
RUNS_CODE = {'pickle', 'cloudpickle', 'dill', 'marshal', 'shelve', 'joblib', 'torch', 'runpy', 'code', 'imp'}
FETCHES = {'urllib', 'requests', 'http', 'httpx', 'ftplib', 'aiohttp', 'gdown', 'wget', 'huggingface_hub'}
UNPACKS = {'extractall', 'unpack_archive', 'extract'}
CALLS = {'eval', 'exec', 'compile', '__import__', 'popen', 'execv', 'execve', 'urlretrieve', 'urlopen'}


def tree(path):
  return ast.parse(path.read_text())


def imports(path):
  """The first parts of all modules that a file imports."""
  for node in ast.walk(tree(path)):
    if isinstance(node, ast.Import):
      yield from (alias.name.split('.')[0] for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module:
      yield node.module.split('.')[0]


def calls(path):
  """(name, node) of every call: 'load' for both `load(...)` and `np.load(...)`."""
  for node in ast.walk(tree(path)):
    if isinstance(node, ast.Call):
      yield getattr(node.func, 'attr', getattr(node.func, 'id', '')), node


@pytest.mark.parametrize('path', FILES, ids=lambda path: str(path.relative_to(PACKAGE.parent)))
def test_nothing_that_is_read_runs_and_nothing_is_fetched(path):
  allowed = {'torch'} if path.name == 'prepare.py' else set()  # of which it reads weights alone, below
  # Besides TensorFlow Datasets, one file downloads: what is not of the size and the SHA-256 that TFDS knows is removed.
  fetches = {'urllib', 'http', 'urlopen'} if path.name == 'download.py' else set()
  assert not set(imports(path)) & (RUNS_CODE - allowed | FETCHES - fetches)
  for name, node in calls(path):
    method = isinstance(node.func, ast.Attribute)
    known = {'compile'} if method else set()  # a jitted function's, a regular expression's
    assert name not in CALLS - known - fetches, f'{path}:{node.lineno} {name}'
    assert not (name == 'system' and method and getattr(node.func.value, 'id', '') == 'os'), f'{path}:{node.lineno}'
    assert name not in UNPACKS, f'{path}:{node.lineno} {name}'
    keywords = {keyword.arg: getattr(keyword.value, 'value', None) for keyword in node.keywords}
    assert not keywords.get('shell') and not keywords.get('allow_pickle'), f'{path}:{node.lineno}'
    if name == 'load' and isinstance(node.func, ast.Attribute) and getattr(node.func.value, 'id', '') == 'torch':
      assert keywords.get('weights_only') is True, f'{path}:{node.lineno} may run what a file brings'
    if name == 'open' and isinstance(node.func, ast.Attribute) and getattr(node.func.value, 'id', '') == 'Image':
      assert 'formats' in keywords, f'{path}:{node.lineno} gives PostScript to a program'
    if name == 'load' and isinstance(node.func, ast.Attribute) and getattr(node.func.value, 'id', '') == 'np':
      assert keywords.get('allow_pickle') is False, f'{path}:{node.lineno} says nothing of pickles'
  assert 'http://' not in path.read_text()


def test_names_are_looked_up_in_one_place_and_only_in_this_package(tmp_path):
  users = {path for path in FILES for name, _ in calls(path) if name == 'import_module'}
  # The others import modules of this package by names that stand in their own files.
  fixed = {'dgm_jax/__init__.py', 'evals/__init__.py', 'commands/verbs.py'}
  assert {f'{path.parent.name}/{path.name}' for path in users} == {'config/__init__.py'} | fixed
  for package in (dgm_jax, evals):
    with pytest.raises(AttributeError, match='has no attribute'):
      getattr(package, 'os')  # noqa: B009
  for name in ('os.system', 'subprocess.run', '..os.system', 'vae.jax', 'vae.__loader__', 'vae.vae.__globals__', 'vae'):
    with pytest.raises(UserError):
      experiment.by_path('dgm_jax.systems', name)


def test_compiled_programs_lie_in_a_folder_of_the_user_alone(tmp_path, monkeypatch, capsys):
  kept = []
  monkeypatch.setattr(cpu.jax.config, 'update', lambda name, value: kept.append(name))
  cache = tmp_path / 'programs'
  cache.mkdir(mode=0o777)
  os.chmod(cache, 0o777)
  cpu.keep_programs(cache)
  assert stat.S_IMODE(cache.stat().st_mode) == 0o700 and 'jax_compilation_cache_dir' in kept
  del kept[:]
  monkeypatch.setattr(cpu.os, 'getuid', lambda: os.stat(tmp_path).st_uid + 1)
  cpu.keep_programs(cache)  # somebody else's
  assert not kept and 'compiled programs are not kept' in capsys.readouterr().err
