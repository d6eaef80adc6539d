"""The files of configs/: a table of variants each, all of which are valid experiments, and a header of ten lines."""

import ast
import importlib.util
import pathlib
import sys

import pytest
from ml_collections import ConfigDict

from dgm_jax import config as experiment

FILES = sorted((pathlib.Path(__file__).parent.parent / 'configs').glob('[a-z]*.py'))
each_file = pytest.mark.parametrize('path', FILES, ids=lambda path: path.stem)


def load(path):
  spec = importlib.util.spec_from_file_location(path.stem, path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


@each_file
def test_the_main_experiment_is_in_the_table(path):
  module = load(path)
  main = module.get_config()
  (default,) = module.get_config.__defaults__
  assert default in module.VARIANTS
  assert module.get_config(default).to_dict() == main.to_dict() == module.get_config('').to_dict()
  assert set(getattr(module, 'TINY', ('tiny',))) <= set(module.VARIANTS)


@each_file
def test_an_unknown_variant_is_answered_with_all_of_them(path):
  module = load(path)
  with pytest.raises(ValueError, match="there is no variant 'none_such'") as caught:
    module.get_config('none_such')
  named = str(caught.value).partition('the variants are ')[2].split(', ')
  assert named == [name for name in module.VARIANTS if name] or named == ['none']


@each_file
def test_every_variant_is_a_valid_experiment(path):
  module = load(path)
  for variant in module.VARIANTS:
    config = module.get_config(variant)
    experiment.check(config)
    experiment.by_path('dgm_jax.systems', config.system)
    for name in config.evals:
      experiment.by_path('dgm_jax.evals', name)
    assert experiment.from_json(experiment.to_json(config)) == config


@each_file
def test_variants_share_no_state(path):
  """A variant that is made, and changed, leaves the next one as it was."""
  module = load(path)
  before = {name: module.get_config(name).to_dict() for name in module.VARIANTS}
  for name in module.VARIANTS:
    overwrite(module.get_config(name))
  assert {name: module.get_config(name).to_dict() for name in module.VARIANTS} == before


def overwrite(config):
  for key, value in config.items():
    if isinstance(value, ConfigDict):
      overwrite(value)
      with value.unlocked():
        value.overwritten = True
    elif isinstance(value, str):
      config[key] = 'overwritten'


@each_file
def test_a_header_says_paper_command_and_result_in_ten_lines(path):
  header = ast.get_docstring(ast.parse(path.read_text()))
  lines = header.splitlines()
  assert len(lines) <= 10 and lines[0].endswith('.') and not lines[1]
  starts = [line.partition(':')[0].partition(',')[0] for line in lines]
  for label in ('Paper', 'Command', 'Variants', 'Expected'):
    assert any(start.rstrip('s') == label.rstrip('s') or start.startswith(label + ' ') for start in starts), label
  assert f'--config=configs/{path.name}' in header


@each_file
def test_a_header_names_the_variants(path):
  """Each by its name, or by its parts where a table is made of all their combinations."""
  module, header = load(path), ast.get_docstring(ast.parse(path.read_text()))
  for name in filter(None, module.VARIANTS):
    parts = name.split('_')
    assert name in header or name.startswith('tiny') or all(part in header for part in parts), name


@each_file
def test_the_page_of_results_has_a_section_for_what_a_header_leaves_to_it(path):
  page = (path.parents[1] / 'docs' / 'results.md').read_text()
  assert ('docs/results.md' in ast.get_docstring(ast.parse(path.read_text()))) == (f'\n## {path.stem}\n' in page)


def test_a_file_builds_on_another_and_on_its_variants(tmp_path):
  (tmp_path / 'first.py').write_text(
    'from dgm_jax.config import defaults, with_variant\n'
    "def get_config(variant='b'):\n"
    "  return with_variant(defaults(), {'b': {'batch_size': 7}, 'c': {'batch_size': 8}}, variant)\n"
  )
  file = str(tmp_path / 'second.py')
  assert experiment.build_on(file, 'first').batch_size == 7
  assert experiment.build_on(file, 'first:c').batch_size == 8
  assert 'first' not in sys.modules
  with pytest.raises(ValueError, match=r"no variant 'd'; the variants are b, c"):
    experiment.build_on(file, 'first:d')
  with pytest.raises(ValueError, match=r'second\.py builds on .*third\.py, which does not exist'):
    experiment.build_on(file, 'third')


def test_a_table_changes_keys_in_order_and_knows_them():
  config = lambda: ConfigDict({'a': 1, 'b': {'c': 2, 'd': 3}})
  double = lambda made: made.update({'a': 2 * made.a})
  table = {'': {}, 'x': {'b.c': 4}, 'y': ({'a': 5}, double), 'z': (double, {'a': 5}), 'wrong': {'b.e': 1}}
  made = {name: experiment.with_variant(config(), table, name).to_dict() for name in ('', 'x', 'y', 'z')}
  assert made[''] == config().to_dict() and made['x'] == {'a': 1, 'b': {'c': 4, 'd': 3}}
  assert (made['y']['a'], made['z']['a']) == (10, 5)
  with pytest.raises(ValueError, match=r"the variant 'wrong' sets b\.e, which the config does not have"):
    experiment.with_variant(config(), table, 'wrong')
