"""Members that are trained together are what each would be alone, and differ where their weights do."""

import importlib.util
import pathlib

import jax
import numpy as np
import pytest

from dgm_jax import training
from dgm_jax.errors import UserError
from dgm_jax.training import ensemble

CONFIG = pathlib.Path(__file__).parents[2] / 'configs' / 'disentangle.py'


def tiny(variant, **changes):
  spec = importlib.util.spec_from_file_location('disentangle_config', CONFIG)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  config = module.get_config(variant)
  config.update(changes)
  return config


def trained(members, calls=3):
  call, state = ensemble.compiled(members), ensemble.start(members)
  for number in range(calls):
    state, metrics = call(state, ensemble.indices(members, 2 * number, 2))
  return state, metrics


def compiled_text(members):
  """The program of a call of two steps, as XLA has it."""
  call, state = ensemble.compiled(members), ensemble.start(members)
  return jax.jit(call).lower(state, ensemble.indices(members, 0, 2)).compile().as_text()


def test_every_member_is_the_run_that_it_would_be_alone(tmp_path):
  config = tiny('tiny_factor')
  members = ensemble.make(config, 'gamma', (2.0, 35.0), (0, 5, 7))
  np.testing.assert_array_equal(members.seeds, [0, 5, 7, 0, 5, 7])
  np.testing.assert_array_equal(members.weights, [2, 2, 2, 35, 35, 35])
  state, metrics = trained(members)
  lone = tiny('tiny_factor', seed=7)
  lone.model.gamma = 35.0
  run = training.prepare(lone, tmp_path, devices=1)
  own, call = training.start(run)[0], training.compile_call(run)
  for number in range(3):
    own, found = call(own, np.uint32(7), run.arrays, training.indices(run, 2 * number, 2))
  last = ensemble.one_of(state, 5)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), last, own)
  for name, value in found.items():
    np.testing.assert_allclose(metrics[name][5], value, rtol=1e-4, atol=1e-4)
  kernel = lambda number: jax.tree.leaves(ensemble.one_of(state, number).params)[-1]
  assert not any(np.array_equal(kernel(i), kernel(j)) for i in range(6) for j in range(i))


def test_members_in_turn_make_the_steps_of_members_side_by_side():
  members = ensemble.make(tiny('tiny_capacity_conv'), 'gamma', (2.0, 35.0), (0, 5), devices=1)
  call, in_turn = ensemble.compiled(members), ensemble.start(members)
  program = lambda steps: str(jax.make_jaxpr(call)(in_turn, ensemble.indices(members, 0, steps)))
  assert 'feature_group_count=4' in program(2) and 'feature_group_count=4' not in program(1)
  side_by_side, means = call(ensemble.start(members), ensemble.indices(members, 0, 2))
  found = []
  for step in range(2):
    in_turn, metrics = call(in_turn, ensemble.indices(members, step, 1))
    found.append(metrics)
  close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)
  jax.tree.map(close, in_turn, side_by_side)
  jax.tree.map(lambda a, b, mean: close((a + b) / 2, mean), *found, means)


def test_members_are_the_same_on_however_many_devices():
  make = lambda devices: ensemble.make(tiny('tiny_tc'), 'beta', (2.0, 35.0), (0, 5, 7), devices)
  assert make(0).mesh.size == 6  # of the eight that there are
  alone, shared = trained(make(1)), trained(make(3))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), alone, shared)
  shards = lambda leaf: tuple(part.data.shape[:1] for part in leaf.addressable_shards)
  assert {shards(leaf) for leaf in jax.tree.leaves(shared)} == {((2,),) * 3}
  own = ensemble.one_of(shared[0], 4)
  assert all(len(leaf.devices()) == 1 for leaf in jax.tree.leaves(own))
  jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b[4]), own, shared[0])
  assert 'all-' not in compiled_text(make(3))  # no device asks another


def test_members_that_devices_do_not_divide_are_refused():
  with pytest.raises(UserError, match='3 members cannot be dealt out over 2 devices'):
    ensemble.make(tiny('tiny_tc'), 'beta', (2.0,), (0, 5, 7), devices=2)


def test_only_a_weight_that_the_system_takes_can_be_varied():
  with pytest.raises(UserError, match="values of 'beta', not of 'gamma'"):
    ensemble.make(tiny('tiny'), 'gamma', (1.0,), (0,))
