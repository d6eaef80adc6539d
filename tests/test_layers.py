"""The house keeps its order: who may import whom, what may be called, how long a function may be."""

import ast
import pathlib

import pytest

PACKAGE = pathlib.Path(__file__).parent.parent / 'dgm_jax'
FILES = sorted(PACKAGE.rglob('*.py'))
FORBIDDEN = {
  'losses': (
    'flax',
    'optax',
    'orbax',
    'dgm_jax.nn',
    'dgm_jax.models',
    'dgm_jax.systems',
    'dgm_jax.core',
    'dgm_jax.training.fit',
  ),
  'distributions': ('flax', 'optax', 'orbax', 'dgm_jax.losses', 'dgm_jax.nn', 'dgm_jax.models', 'dgm_jax.systems'),
  'inference': (
    'flax',
    'optax',
    'orbax',
    'dgm_jax.nn',
    'dgm_jax.models',
    'dgm_jax.systems',
    'dgm_jax.core',
    'dgm_jax.training.fit',
  ),
  'nn': ('optax', 'orbax', 'dgm_jax.losses', 'dgm_jax.models', 'dgm_jax.systems', 'dgm_jax.core'),
  'models': ('optax', 'orbax', 'dgm_jax.losses', 'dgm_jax.systems', 'dgm_jax.core', 'dgm_jax.optim'),
  'systems': (
    'orbax',
    'dgm_jax.training.fit',
    'dgm_jax.runs.checkpoint',
    'dgm_jax.runtime.parallel',
    'dgm_jax.training.log',
  ),
  'data': ('flax', 'optax', 'orbax', 'dgm_jax.models', 'dgm_jax.systems', 'dgm_jax.losses'),
  'evals': ('orbax', 'dgm_jax.models', 'dgm_jax.runs.checkpoint', 'dgm_jax.training.log'),
}


def tree(path: pathlib.Path) -> ast.Module:
  return ast.parse(path.read_text())


def imported(path: pathlib.Path) -> set[str]:
  """Dotted names of all that a file imports: 'dgm_jax.losses' for `from dgm_jax import losses`."""
  names = set()
  for node in ast.walk(tree(path)):
    if isinstance(node, ast.Import):
      names |= {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom) and node.module:
      names |= {node.module} | {f'{node.module}.{alias.name}' for alias in node.names}
  return names


def reaches(name: str, target: str) -> bool:
  return name == target or name.startswith(target + '.')


@pytest.mark.parametrize('part', sorted(FORBIDDEN))
def test_a_part_imports_only_what_it_may(part):
  files = [path for path in FILES if path.is_relative_to(PACKAGE / part)]
  assert files
  wrong = [
    f'{path.relative_to(PACKAGE)} imports {name}'
    for path in files
    for name in sorted(imported(path))
    if any(reaches(name, target) for target in FORBIDDEN[part])
  ]
  assert not wrong


def test_nothing_imports_the_loop_but_the_program_and_the_benchmarks():
  importers = {path.name for path in FILES if any(reaches(name, 'dgm_jax.training.fit') for name in imported(path))}
  assert importers == {'benchmark.py', 'topology.py'}
  assert 'dgm_jax.training.fit' in imported(PACKAGE.parent / 'train.py')


def test_only_the_checkpoint_module_knows_orbax():
  importers = {path.name for path in FILES if any(reaches(name, 'orbax') for name in imported(path))}
  assert importers == {'checkpoint.py'}


def test_nothing_reads_or_runs_what_a_file_brings():
  modules = {'pickle', 'cloudpickle', 'dill', 'marshal', 'shelve', 'joblib', 'torch'}
  for path in FILES:
    allowed = {'torch'} if path.name == 'prepare.py' else set()  # which reads weights alone, below
    assert not (modules - allowed) & {name.split('.')[0] for name in imported(path)}, path
    for node in ast.walk(tree(path)):
      if isinstance(node, ast.Call):
        if isinstance(node.func, ast.Attribute) and ast.unparse(node.func) == 'torch.load':
          assert any(k.arg == 'weights_only' and k.value.value is True for k in node.keywords), f'{path}:{node.lineno}'
        assert not (isinstance(node.func, ast.Name) and node.func.id in ('eval', 'exec')), f'{path}:{node.lineno}'
        for keyword in node.keywords:
          unsafe = keyword.arg in ('allow_pickle', 'shell') and getattr(keyword.value, 'value', None) is not False
          assert not unsafe, f'{path}:{node.lineno} {keyword.arg}'


def test_functions_are_short_and_files_are_not_long():
  long = []
  for path in FILES:
    if len(path.read_text().splitlines()) > 400:
      long.append(str(path))
    for node in ast.walk(tree(path)):
      if isinstance(node, ast.FunctionDef) and node.end_lineno - node.lineno >= 60:
        long.append(f'{path}:{node.lineno} {node.name}')
  assert not long


def test_every_public_function_says_what_it_does():
  silent = [
    f'{path}:{node.lineno} {node.name}'
    for path in FILES
    for node in tree(path).body
    if isinstance(node, ast.FunctionDef | ast.ClassDef)
    and not node.name.startswith('_')
    and not ast.get_docstring(node)
  ]
  assert [name for name in silent if not name.endswith(' main')] == []


def test_every_module_lists_its_public_names_which_are_there():
  for path in FILES:
    named = {name for node in tree(path).body for name in _names(node)}
    if all(name.startswith('_') and name != '__all__' for name in named):
      continue  # nothing is in it
    (listed,) = [
      node.value
      for node in tree(path).body
      if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == '__all__'
    ]
    assert set(ast.literal_eval(listed)) <= named | {file.stem for file in path.parent.iterdir()}, path


def _names(node: ast.AST) -> set[str]:
  """What a statement at the top of a module gives a name to."""
  if isinstance(node, ast.FunctionDef | ast.ClassDef):
    return {node.name}
  if isinstance(node, ast.ImportFrom | ast.Import):
    return {alias.asname or alias.name for alias in node.names}
  targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
  return {name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)}
