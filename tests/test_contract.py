"""The contract of every system: each file of configs/, in each of its tiny variants, is held to it by existing.

A config file lists its tiny variants in TINY, if there are more than the one named 'tiny'.
"""

import functools
import importlib.util
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dgm_jax import checkpoint, data, fit
from dgm_jax import config as experiment
from dgm_jax.data import preprocess

CONFIGS = pathlib.Path(__file__).parent.parent / 'configs'
N = 4  # calls of two steps


@functools.cache
def module(name: str):
  spec = importlib.util.spec_from_file_location(f'configs_{name}', CONFIGS / f'{name}.py')
  loaded = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(loaded)
  return loaded


NAMES = sorted(path.stem for path in CONFIGS.glob('*.py'))
CASES = [(name, variant) for name in NAMES for variant in getattr(module(name), 'TINY', ('tiny',))]


def config_of(name: str, variant: str, **changes):
  config = module(name).get_config(variant)
  config.update(changes)
  experiment.check(config)
  return config


class Case:
  """One experiment, prepared and trained once for all its tests: compilation is what costs."""

  def __init__(self, folder, name, variant):
    self.config = config_of(name, variant, steps=2 * N, steps_per_call=2)
    self.run = fit.prepare(self.config, folder, devices=1)
    self.call = fit.compiled_call(self.run)
    self.first, _ = fit.start(self.run)
    self.saved = jax.tree.map(np.asarray, self.first)
    self.states, self.metrics = [], []
    state = self.fresh()
    for i in range(N):
      state, metrics = self.advance(state, 2 * i)
      self.states.append(jax.tree.map(np.asarray, state))
      self.metrics.append(metrics)

  def fresh(self):
    return self.put(self.saved)

  def put(self, state):
    return jax.tree.map(lambda leaf, like: jax.device_put(leaf, like.sharding), state, self.run.like)

  def advance(self, state, step):
    return self.call(state, np.uint32(self.config.seed), self.run.arrays, fit.indices(self.run, step, 2))

  def batch(self, n):
    split = self.run.splits['valid']
    index = jnp.arange(n, dtype=jnp.int32)
    name = preprocess.for_evaluation(self.config.data.preprocess)
    stored = split.fetch(jax.tree.map(jnp.asarray, split.arrays), index)
    return preprocess.find(name)(jax.random.key(0), stored)


@pytest.fixture(scope='module', params=CASES, ids=lambda case: '-'.join(case))
def case(request, tmp_path_factory):
  return Case(tmp_path_factory.mktemp('contract'), *request.param)


def equal(a, b):
  same = jax.tree.map(lambda x, y: bool(np.array_equal(x, y)) and x.dtype == y.dtype, a, b)
  return jax.tree.all(same)


def test_every_experiment_passes_its_own_check_and_survives_json():
  for name in NAMES:
    config = module(name).get_config()
    experiment.check(config)
    page = json.loads(json.dumps(experiment.to_json(config)))
    assert experiment.differences(page, experiment.to_json(experiment.from_json(page))) == []


def test_metrics_are_finite_scalars_named_by_player(case):
  for name, value in case.metrics[-1].items():
    assert value.shape == () and np.isfinite(value), name
    assert name.split('/')[0] in case.config.optimizer
  assert {f'{player}/loss' for player in case.config.optimizer} <= set(case.metrics[-1])


def test_many_steps_are_one_compilation(case):
  assert case.call._cache_size() == 1


def test_the_step_counter_counts(case):
  assert [int(state.step) for state in case.states] == [2 * (i + 1) for i in range(N)]


def test_every_network_that_a_player_owns_moves_and_no_other(case):
  for name, start in case.saved.params.items():
    moved = not equal(start, case.states[-1].params[name])
    assert moved == (name not in case.config.graft), name


def test_the_state_is_float32_but_for_counters(case):
  kinds = {leaf.dtype.kind for leaf in jax.tree.leaves(case.saved)}
  assert kinds <= {'f', 'i', 'u', 'b'}
  assert all(leaf.dtype == np.float32 for leaf in jax.tree.leaves(case.saved) if leaf.dtype.kind == 'f')


def test_a_restored_state_goes_on_bit_for_bit(case, tmp_path):
  middle = case.put(case.states[0])
  with checkpoint.saving(tmp_path, keep=1, best='') as manager:
    checkpoint.save(manager, middle, {}, {})
  restored = checkpoint.restore(tmp_path, case.run.like)
  assert restored.step == 2 and equal(jax.tree.map(np.asarray, restored.state), case.states[0])
  state = restored.state
  for i in range(1, N):
    state, _ = case.advance(state, 2 * i)
  assert equal(jax.tree.map(np.asarray, state), case.states[-1])


def test_one_device_and_eight_agree(case, tmp_path):
  run = fit.prepare(case.config, tmp_path, devices=8)
  call = fit.compiled_call(run)
  state = jax.tree.map(lambda leaf, like: jax.device_put(leaf, like.sharding), case.saved, run.like)
  for i in range(N):
    state, _ = call(state, np.uint32(case.config.seed), run.arrays, fit.indices(run, 2 * i, 2))
  far = jax.tree.map(
    lambda a, b: np.max(np.abs(np.asarray(a, float) - b), initial=0), state.params, case.states[-1].params
  )
  assert max(jax.tree.leaves(far)) < 1e-5


def test_evaluation_is_per_example(case):
  batch, state = case.batch(6), case.put(case.states[-1])
  metrics = jax.jit(case.run.system.evaluate)(jax.random.key(1), state, batch)
  for name, value in metrics.items():
    assert value.shape == (6,) and value.dtype == jnp.float32, name
    assert np.isfinite(value).all(), name


def test_samples_lie_in_data_space(case):
  state = case.put(case.states[-1])
  x = jax.jit(case.run.system.sample, static_argnums=2)(jax.random.key(2), state, 5)
  assert x.shape == (5, *case.run.config.data.shape) and x.dtype == jnp.float32
  assert np.isfinite(x).all()
  pixels = np.asarray(preprocess.to_uint8(case.config.data.preprocess, x))
  assert pixels.shape == x.shape and pixels.dtype == np.uint8
  if 'binarize' in case.config.data.preprocess:
    assert set(np.unique(x)) <= {0.0, 1.0}
  if case.config.data.preprocess == 'scale_symmetric':
    assert np.abs(x).max() <= 1


def test_the_loss_falls_on_a_fixed_batch(case):
  """The same key and the same images, 60 times: what every gradient method must manage."""
  batch, key = case.batch(16), jax.random.key(3)

  def many(state):
    return jax.lax.scan(lambda s, _: case.run.system.step(key, s, batch), state, None, length=60)[1]

  losses = jax.jit(many)(case.fresh())
  for player in case.config.optimizer:
    curve = np.asarray(losses[f'{player}/loss'])
    assert curve[-10:].mean() < curve[:10].mean(), player


def test_epochs_cover_every_example_once(case):
  size, batch = case.run.splits['train'].size, case.config.batch_size
  seen = data.order(case.config.seed, 0, -(-size // batch), batch, size).ravel()[:size]
  assert np.array_equal(np.sort(seen), np.arange(size))


def test_activations_in_bfloat16_leave_the_state_in_float32(tmp_path):
  config = config_of('vae_digits', 'tiny', dtype='bfloat16', steps=2)
  run = fit.prepare(config, tmp_path, devices=1)
  state, _ = fit.start(run)
  state, metrics = fit.compiled_call(run)(state, np.uint32(0), run.arrays, fit.indices(run, 0, 2))
  assert metrics['model/loss'].dtype == jnp.float32 and np.isfinite(metrics['model/loss'])
  assert all(leaf.dtype in (jnp.float32, jnp.int32) for leaf in jax.tree.leaves(state))
