"""What the pages say is there, and the skeleton of a system trains."""

import ast
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

import dgm_jax
from dgm_jax import config as experiment
from dgm_jax.internal.files import import_file

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


@pytest.mark.parametrize(
  ('name', 'words', 'last'),
  [
    ('loss_in_your_loop', (2,), 'nats after 2 steps'), ('new_system', (2,), 'after 2 steps'),
    ('train_and_sample', ('vae_digits:tiny', 4, '{folder}'), 'between.png'),
  ],
)  # fmt: skip
def test_examples_run_and_are_short(name, words, last, tmp_path, capsys):
  path = ROOT / 'examples' / f'{name}.py'
  assert len(path.read_text().splitlines()) <= 40
  import_file(path).main(*(str(word).format(folder=tmp_path) for word in words))
  assert capsys.readouterr().out.splitlines()[-1].endswith(last)


def test_every_example_is_run():
  assert {path.stem for path in (ROOT / 'examples').glob('*.py')} == {
    'loss_in_your_loop',
    'new_system',
    'train_and_sample',
  }


def test_every_page_is_on_the_site():
  shown = set(re.findall(r': ([\w/-]+\.md)$', (ROOT / 'mkdocs.yml').read_text(), re.M))
  hooks = (ROOT / 'docs/site/hooks.py').read_text()
  made = {'gallery.md', 'examples.md', 'experiments.md', 'index.md', 'contributing.md', 'changelog.md'}
  reference = {
    f'api/{name}.md' for name in ('dgm_jax', *ast.literal_eval(re.search(r'^MODULES = (.*)$', hooks, re.M)[1]))
  }
  assert shown == made | reference | {path.name for path in (ROOT / 'docs').glob('*.md')}
  public = set(dgm_jax.__all__) - {'Model', 'fit', 'load'}
  assert {f'api/{name}.md' for name in public} <= reference


def test_the_strip_of_the_readme_is_small():
  assert (ROOT / 'docs/strip.png').stat().st_size < 200_000


def test_the_oldest_versions_are_those_of_pyproject():
  assert oldest.constraints(['flax>=0.12,<0.13', 'jax>=0.10', 'chex']) == ['flax==0.12', 'jax==0.10']
