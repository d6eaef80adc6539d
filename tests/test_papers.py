"""Main configurations against the table of what their papers say: a rate, a width or a block more is noticed."""

import importlib.util
import math
import pathlib

import jax
import pytest
from papers import TABLE

from dgm_jax import config as experiment
from dgm_jax import systems

CONFIGS = pathlib.Path(__file__).parent.parent / 'configs'


def load(path):
  spec = importlib.util.spec_from_file_location(path.stem, path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


SHAPES = {
  'mnist': (28, 28, 1), 'mat:chardata.mat': (28, 28, 1), 'cifar10': (32, 32, 3), 'cifar100': (32, 32, 3),
  'digits': (8, 8, 1), 'sprites': (64, 64, 1),
}  # fmt: skip
RUN = ('batch_size', 'accumulate', 'steps', 'epochs', 'stage_epochs', 'budget', 'conditional', 'dtype')


def read(name):
  stem, _, variant = name.partition(':')
  return load(CONFIGS / f'{stem}.py').get_config(variant)


def told(config):
  """The configuration in the form of a row."""
  found, plain, adam = config.to_dict(), experiment.defaults().to_dict(), experiment.optimizer()
  run = {name: found[name] for name in RUN if found[name] != plain[name] or name == 'batch_size'}
  run |= {name: found['data'][name] for name in ('size', 'channels', 'invert', 'pad') if found['data'][name]}
  run |= {name: found['data'][name] for name in ('train', 'test') if found['data'][name] != name}
  players = {
    name: {key: value for key, value in settings.items() if value != adam[key]}
    for name, settings in found['optimizer'].items()
  }
  data = tuple(found['data'][name] for name in ('name', 'preprocess', 'valid_size'))
  return {'system': found['system'], 'data': data, 'model': found['model'], 'players': players, 'run': run}


def test_every_configuration_is_in_the_table():
  assert {name.partition(':')[0] for name in TABLE} == {path.stem for path in CONFIGS.glob('[a-z]*.py')}


@pytest.mark.parametrize('name', TABLE)
def test_what_training_measures_on_is_held_out(name):
  config = read(name)
  drawn = config.data.name.partition(':')[0] in ('points', 'toy')  # which have a validation split of their own
  assert drawn or config.data.valid_size or not config.eval_every


@pytest.mark.parametrize('name', TABLE)
def test_a_configuration_is_what_its_row_says(name):
  row = TABLE[name]._asdict()
  source, parameters = row.pop('source'), row.pop('parameters')
  assert source
  config = read(name)
  assert told(config) == row
  if parameters:
    assert counted(config) == parameters


def counted(config):
  """Numbers of each network's parameters, by shapes alone."""
  size = config.data.size
  shape = (size, size, config.data.channels or 3) if size else SHAPES.get(config.data.name, (2,))
  if pad := config.data.pad:
    shape = (shape[0] + 2 * pad, shape[1] + 2 * pad, shape[2])
  config.data.update({'shape': shape, 'examples': 10_000})
  of = lambda dtype, *shape: jax.ShapeDtypeStruct((20, *shape), dtype)
  batch = {'x': of('float32', *shape), 'y': of('int32'), 'index': of('int32')}
  state = jax.eval_shape(systems.build(config).init, jax.random.key(0), batch)
  return {name: sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(part)) for name, part in state.params.items()}


@pytest.mark.parametrize(
  ('name', 'path', 'value'),
  [
    ('glow_cifar10:', 'optimizer.model.learning_rate', 2e-3), ('realnvp_cifar10:', 'model.network.blocks', 7),
    ('pixelcnn_pp:', 'model.network.features', 160), ('revnet_cifar10:revnet_38', 'model.l2', 1e-4),
    ('vqvae2_256:', 'model.commitment', 1.0), ('iwae_mnist:1x5', 'optimizer.model.stage_rates', (1e-3,) * 8),
    ('cifar_gan:', 'batch_size', 64), ('nice_mnist:', 'data.valid_size', 6000),
  ],
)  # fmt: skip
def test_what_is_changed_is_noticed(name, path, value):
  config = read(name)
  config.update_from_flattened_dict({path: value})
  row = TABLE[name]._asdict()
  assert told(config) != {key: row[key] for key in ('system', 'data', 'model', 'players', 'run')}
