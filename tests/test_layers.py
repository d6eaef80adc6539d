"""The house keeps its order: who may import whom, what may be called, how long a function may be."""

import ast
import graphlib
import pathlib

import pytest

PACKAGE = pathlib.Path(__file__).parent.parent / 'dgm_jax'
FILES = sorted(PACKAGE.rglob('*.py'))
# Libraries that a folder does without.
FOREIGN = {
  'losses': ('flax', 'optax', 'orbax'), 'distributions': ('flax', 'optax', 'orbax'),
  'classical': ('flax', 'optax', 'orbax'), 'nn': ('optax', 'orbax'), 'models': ('optax', 'orbax'),
  'data': ('flax', 'optax', 'orbax'),
}  # fmt: skip
PROGRAMS = (  # three lines each
  'benchmark', 'cache', 'evaluate', 'export', 'extract', 'list', 'prepare', 'report', 'sample', 'sizes', 'study',
  'train',
)  # fmt: skip
FLOORS = 12


def tree(path: pathlib.Path) -> ast.Module:
  return ast.parse(path.read_text())


def imported(path: pathlib.Path, types: bool = True) -> set[str]:
  """Dotted names of all that a file imports: 'dgm_jax.losses' for `from dgm_jax import losses`.

  Args:
    types: whether imports for type checkers alone count, too.
  """
  names, root = set(), tree(path)
  for node in ast.walk(root):
    if isinstance(node, ast.If) and ast.unparse(node.test) == 'TYPE_CHECKING' and not types:
      node.body = []
  for node in ast.walk(root):
    if isinstance(node, ast.Import):
      names |= {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom) and node.module:
      names |= {node.module} | {f'{node.module}.{alias.name}' for alias in node.names}
  return names


def reaches(name: str, target: str) -> bool:
  return name == target or name.startswith(target + '.')


def room(path: pathlib.Path) -> str:
  """The folder of a file in the package, or the file itself where it lies in no folder; systems/parts is one too."""
  parts = path.relative_to(PACKAGE).with_suffix('').parts
  return 'systems.parts' if parts[:2] == ('systems', 'parts') else parts[0]


def neighbours() -> dict[str, set[str]]:
  """Room -> the rooms that its files import when they run; programs, which nothing imports, aside."""
  files = [path for path in FILES if room(path) not in PROGRAMS]
  rooms: dict[str, set[str]] = {room(path): set() for path in files}
  for path in files:
    for name in imported(path, types=False):
      target = PACKAGE.joinpath(*name.split('.')[1:])
      found = next((p for p in (target.with_suffix('.py'), target / '__init__.py') if p in FILES), None)
      if name.startswith('dgm_jax.') and found and room(found) != room(path):
        rooms[room(path)].add(room(found))
  return rooms


def test_folders_lie_on_floors_without_circles():
  """graphlib raises CycleError for a circle and names it."""
  rooms, floors = neighbours(), {}
  for name in graphlib.TopologicalSorter(rooms).static_order():
    floors[name] = 1 + max((floors[below] for below in rooms[name]), default=0)
  assert max(floors.values()) <= FLOORS, floors
  assert floors['losses'] < floors['systems.parts'] < floors['systems'] < floors['training'] < floors['commands']
  assert floors['errors'] == floors['internal'] == 1


@pytest.mark.parametrize('part', sorted(FOREIGN))
def test_a_part_does_without_some_libraries(part):
  files = [path for path in FILES if path.is_relative_to(PACKAGE / part)]
  assert files
  wrong = [
    f'{path.relative_to(PACKAGE)} imports {name}'
    for path in files
    for name in sorted(imported(path))
    if any(reaches(name, target) for target in FOREIGN[part])
  ]
  assert not wrong


def test_nothing_imports_a_program():
  programs = {f'dgm_jax.{name}' for name in PROGRAMS}
  assert not [path for path in FILES if programs & imported(path)]
  assert all(len((PACKAGE / f'{name}.py').read_text().splitlines()) < 10 for name in PROGRAMS)


def test_only_the_checkpoint_module_knows_orbax():
  importers = {path.name for path in FILES if any(reaches(name, 'orbax') for name in imported(path))}
  assert importers == {'reader.py', 'writer.py'}


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
  if isinstance(node, ast.If):  # imports for type checkers
    return {name for inner in node.body for name in _names(inner)}
  if isinstance(node, ast.ImportFrom | ast.Import):
    return {alias.asname or alias.name for alias in node.names}
  targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
  return {name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)}


PREPOSITIONS = ('Of', 'On', 'By', 'In', 'From', 'To', 'Where', 'As', 'Without')
PARTICIPLES = {'seen', 'made', 'found', 'told', 'held', 'noted', 'dealt', 'known', 'given', 'drawn'}


def test_docstrings_are_sentences_about_the_thing():
  documented = [
    (path, node)
    for path in FILES
    for node in ast.walk(tree(path))
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node)
  ]
  wrong = [
    f'{path}: {ast.get_docstring(node)[:60]}'
    for path, node in documented
    if ast.get_docstring(node).split()[0] in PREPOSITIONS
  ]
  assert not wrong


def test_nothing_is_named_by_a_lone_participle():
  names = [
    (path, getattr(node, 'lineno', 0), getattr(node, 'name', None) or getattr(node, 'arg', None) or node.id)
    for path in FILES
    for node in ast.walk(tree(path))
    if isinstance(node, ast.FunctionDef | ast.arg) or (isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store))
  ]
  assert not [f'{path}:{line} {name}' for path, line, name in names if name.strip('_') in PARTICIPLES]


def test_public_functions_are_annotated():
  for path in FILES:
    for node in tree(path).body:
      if isinstance(node, ast.FunctionDef) and not node.name.startswith('_'):
        args = (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
        assert node.returns and all(arg.annotation for arg in args), f'{path}:{node.lineno} {node.name}'
