"""One device and eight make the same step, up to rounding, which an optimizer may divide by its own size."""

import pathlib

import jax
import numpy as np
import pytest

from dgm_jax import training
from dgm_jax.internal.files import import_file
from dgm_jax.runtime import parallel

ROOT = pathlib.Path(__file__).parents[2]


def step(folder, devices, **optimizer):
  """The movement of each parameter in the first step of the small MAF."""
  config = import_file(ROOT / 'configs' / 'flow_toy.py').get_config('tiny_maf')
  config.update({'batch_size': 16, 'steps_per_call': 1, 'shard_params': devices > 1})
  config.optimizer.model.update({'schedule': 'constant', **optimizer})
  run = training.build_run(config, folder, devices)
  state = training.start(run)[0]
  spread = {leaf.sharding.is_fully_replicated for leaf in jax.tree.leaves(state.params)}
  before = jax.tree.map(lambda x: np.asarray(x, 'f8'), jax.device_get(state.params))
  state, _ = training.compile_call(run)(state, np.uint32(0), run.arrays, training.indices(run, 0, 1))
  after = jax.device_get(state.params)
  return jax.tree.map(lambda a, b: np.asarray(b, 'f8') - a, before, after), spread


@pytest.mark.parametrize('name', ['sgd', 'adam'])
def test_spread_parameters_move_by_the_gradients_of_one_device(tmp_path, monkeypatch, name):
  """Just after its data-dependent start the gradients of a flow's biases are 0 but for rounding.

  Adam divides them by their own size: they move by the learning rate in directions of chance. Gradients agree.
  """
  monkeypatch.setattr(parallel, 'SHARD_FROM', 1)
  rate = {'sgd': 1.0, 'adam': 0.002}[name]
  one, _ = step(tmp_path, 1, name=name, learning_rate=rate)
  eight, spread = step(tmp_path, 8, name=name, learning_rate=rate)
  assert False in spread
  gradients, _ = step(tmp_path, 1, name='sgd', learning_rate=1.0)
  for a, b, gradient in zip(*map(jax.tree.leaves, (one, eight, gradients)), strict=True):
    sound = np.abs(gradient) > (0 if name == 'sgd' else 1e-4)
    np.testing.assert_allclose(a[sound], b[sound], atol=2e-6 if name == 'sgd' else 2e-5, rtol=0)
    np.testing.assert_allclose(a, b, atol=2e-6 if name == 'sgd' else 2.001 * rate, rtol=0)
