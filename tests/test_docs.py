"""What the pages say is there, and the skeleton of a system trains."""

import functools
import importlib
import importlib.util
import pathlib
import re

import jax
import numpy as np
import oldest
import pytest
from playing import KEY, batch_of

from dgm_jax import config as experiment

ROOT = pathlib.Path(__file__).parents[1]
PAGES = [*sorted((ROOT / 'docs').glob('*.md')), ROOT / 'README.md', ROOT / 'CONTRIBUTING.md']


@pytest.mark.parametrize('page', PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(page):
  links = re.findall(r'\]\(([^)#]+)\)', page.read_text())
  assert not [link for link in links if '://' not in link and not (page.parent / link).exists()]


@pytest.mark.parametrize('page', PAGES, ids=lambda path: path.name)
def test_files_and_folders_that_are_named_exist(page):
  told = re.findall(r'`((?:dgm_jax|configs|tests|docs|benchmarks)/[\w/.-]+)`', page.read_text())
  assert not [path for path in told if not (ROOT / path).exists()]


def resolves(name):
  """Whether 'systems.gan.dcgan' is a module of the package, or a name in one."""
  parts = ['dgm_jax', *name.removeprefix('dgm_jax.').split('.')]
  for end in range(len(parts), 0, -1):
    try:
      place = importlib.import_module('.'.join(parts[:end]))
    except ImportError:
      continue
    return functools.reduce(lambda inner, part: getattr(inner, part, None), parts[end:], place) is not None
  return False


@pytest.mark.parametrize('page', [*PAGES, ROOT / 'CHANGELOG.md'], ids=lambda path: path.name)
def test_names_of_the_package_exist(page):
  names = set(re.findall(r'`((?:dgm_jax\.)?[a-z]+(?:\.\w+)+)(?:\([^`]*\))?`', page.read_text()))
  folders = {path.stem for path in (ROOT / 'dgm_jax').iterdir()} - {'config'}  # `config.steps` is a key
  ours = {name for name in names if name.removeprefix('dgm_jax.').split('.')[0] in folders}
  assert not sorted(name for name in ours if not resolves(name))


def test_the_skeleton_of_a_system_trains():
  path = ROOT / 'docs/skeletons/system.py'
  spec = importlib.util.spec_from_file_location('skeleton', path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  config = experiment.defaults()
  config.model = {'latents': 3}
  config.optimizer = {'model': experiment.optimizer(learning_rate=1e-2)}
  config.steps = 60
  with config.unlocked():
    config.data.shape = (4, 4, 1)
  system, batch = module.linear(config), batch_of(config, 16)
  state = jax.jit(system.init)(KEY, batch)
  run = jax.jit(lambda state: jax.lax.scan(lambda s, k: system.step(k, s, batch), state, jax.random.split(KEY, 60)))
  state, metrics = run(state)
  assert metrics['model/loss'][-1] < 0.5 * metrics['model/loss'][0]
  assert system.evaluate(KEY, state, batch)['squared_error'].shape == (16,)
  again = system.views.decode(KEY, state, system.views.encode(KEY, state, batch['x']))
  np.testing.assert_allclose(
    np.square(again - batch['x']).sum((1, 2, 3)), system.evaluate(KEY, state, batch)['squared_error'], rtol=1e-4
  )


def test_the_oldest_versions_are_those_of_pyproject():
  assert oldest.constraints(['flax>=0.12,<0.13', 'jax>=0.10', 'chex']) == ['flax==0.12', 'jax==0.10']
