"""Wherever training examples lie, a run has the same bits, goes on from any step, and ends as it should."""

import contextlib
import os
import signal
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dgm_jax import config as experiment
from dgm_jax import data, training
from dgm_jax.core import State, System
from dgm_jax.data import rows
from dgm_jax.errors import UserError
from dgm_jax.evals import likelihood, mean
from dgm_jax.runs import resident
from dgm_jax.runtime import ahead, parallel, placement, signals
from dgm_jax.training import feed, log

X = np.random.default_rng(0).integers(0, 256, (75, 4, 4), np.uint8)  # of which 61 are trained on
NEVER = dict.fromkeys(('log_every', 'eval_every', 'picture_every'), 0)


def config_of(folder, where, **changes):
  """An experiment with pictures in a file that counts as large."""
  np.save(folder / 'x.npy', X)
  config = experiment.defaults()
  config.data.update({'name': f'npy:{folder / "x.npy"}', 'preprocess': 'dynamic_binarize', 'where': where})
  config.update(
    {'steps': 12, 'steps_per_call': 2, 'batch_size': 16, 'save_every': 4, 'pictures': 2, **NEVER, **changes}
  )
  experiment.check(config)
  return config


def walk(key, state, batch):
  """A step whose state depends on each number of the batch, on its order, on its places and on the key."""
  weights = jax.random.normal(key, batch['x'].shape) + batch['index'][:, None, None, None] / 100
  x = 0.9 * state.params['x'] + (weights * batch['x']).mean(0)
  return state.replace(step=state.step + 1, params={'x': x}), {'loss': x.sum()}


def run_of(folder, where, devices=1, **changes):
  """A run whose program compiles at once."""
  config, mesh = config_of(folder, where, **changes), parallel.mesh(devices)
  splits = data.load_parts(config.data, ('train', 'valid', 'test'))
  init = lambda key, batch: State(jnp.int32(0), {'x': batch['x'].sum(0)}, {'player': ()}, {})
  system = System(init, walk, lambda key, state, batch: {'x': batch['x'].sum((1, 2, 3))}, None)
  replicated = lambda *shape, dtype='float32': jax.ShapeDtypeStruct(shape, dtype, sharding=parallel.replicated(mesh))
  like = State(replicated(dtype='int32'), {'x': replicated(4, 4, 1)}, {'player': ()}, {})
  place = resident.placement_of(splits['train'], where, mesh)
  arrays = {
    name: resident.place(splits['train'].arrays[name], shape)
    for name, shape in resident.shapes(splits['train'], place.where, mesh).items()
  }
  return training.Run(config, system, splits, mesh, like, arrays, folder / 'none', 12, place)


@pytest.fixture(autouse=True)
def _all_files_are_large(monkeypatch):
  monkeypatch.setattr(rows, 'LARGE', 0)


def rows_of(x, read):
  return rows.Rows(x.shape, x.dtype, read, 'mark')


@pytest.mark.parametrize(('devices', 'parallel'), [(1, 'jit'), (2, 'jit'), (8, 'jit'), (2, 'pmap')])
def test_examples_on_the_host_and_spread_over_devices_give_the_bits_of_a_copy_on_each(tmp_path, devices, parallel):
  """Batches reach over the ends of three epochs. A reader begins anew after six steps, past five batches."""
  finals = {}
  for where in ('device', 'sharded', 'host') if parallel == 'jit' else ('device', 'host'):
    run = run_of(tmp_path, where, devices, parallel=parallel)
    assert rows.are_in_files(run.splits['train'].arrays) and run.placement.where == where
    state, call = training.start(run)[0], training.compile_call(run)
    for first, count, skipped in ((0, 3, 0), (6, 3, 5)):
      with contextlib.closing(feed.batches(run, first, skipped)) as batches:
        for _ in range(count):
          state, _ = call(state, np.uint32(0), *next(batches))
    finals[where] = np.asarray(state.params['x']).tobytes(), int(state.step)
  assert len(set(finals.values())) == 1


def test_metrics_of_a_call_are_means_over_its_steps(tmp_path):
  losses = {}
  for steps in (1, 2):
    run = run_of(tmp_path, 'device', steps_per_call=steps)
    state, call, losses[steps] = training.start(run)[0], training.compile_call(run), []
    for _ in range(2 // steps):
      state, metrics = call(state, np.uint32(0), run.arrays, training.indices(run, int(state.step), steps))
      losses[steps].append(float(metrics['loss']))
  assert losses[2] == [pytest.approx(np.mean(losses[1]))] and losses[1][0] != losses[1][1]


def test_spread_rows_are_each_on_one_device_and_none_is_lost(tmp_path):
  run = run_of(tmp_path, 'sharded', 8)
  x = run.arrays['x']
  assert {shard.data.shape[0] for shard in x.addressable_shards} == {8} and x.shape[0] == 64
  np.testing.assert_array_equal(np.asarray(x)[:61], np.asarray(run.splits['train'].arrays['x']))


def test_each_device_steps_alone_by_rows_of_the_host(tmp_path):
  index = {}
  for where in ('device', 'host'):
    run = run_of(tmp_path, where, 2, parallel='pmap')
    with contextlib.closing(feed.batches(run, 2)) as batches:
      arrays, index[where] = next(batches)
  assert arrays['x'].shape == (2, 2, 8, 4, 4, 1)
  np.testing.assert_array_equal(index['device'], index['host'])
  np.testing.assert_array_equal(arrays['x'], np.asarray(run.splits['train'].arrays['x'])[np.asarray(index['host'])])


def test_a_process_reads_the_rows_of_its_own_devices():
  asked = []
  x = rows_of(X, lambda index: (asked.extend(index.tolist()), X[index])[1])
  order = np.arange(24, dtype=np.int32).reshape(2, 12)[:, ::-1]
  with ahead.Ahead({'x': x}, iter([order]), columns=np.array([4, 5, 6])) as reader:
    index, arrays = reader.take()
  assert sorted(asked) == sorted(order[:, 4:7].ravel())
  np.testing.assert_array_equal(index, order)
  np.testing.assert_array_equal(arrays['x'][:, 4:7], X[order[:, 4:7]])


def test_batches_of_a_call_are_bounded(tmp_path, monkeypatch):
  run = run_of(tmp_path, 'host', steps_per_call=6, save_every=6)._replace(total=15)
  assert [*feed.calls(run, 0)] == [(0, 6), (6, 6), (12, 3)]
  monkeypatch.setattr(feed, 'MOST', 4 * 16 * 16)  # four batches of 16 pictures of 16 bytes
  assert [*feed.calls(run, 5)] == [(5, 1), (6, 3), (9, 3), (12, 3)]
  assert feed.call_steps(run._replace(placement=placement.Placement('device', ''))) == 6


def trained(run, evaluators=None):
  """Runs the loop; returns the steps of the states that it saved, and what it raised."""
  saved, call = [], lambda state, seed, arrays, index: (state + len(index), {'loss': np.float32(0)})
  nothing = evaluators or training.Evaluators(lambda *_: {}, lambda *_: {}, np.zeros((0, 4, 4, 1)))
  try:
    training.train(run, call, np.int32(0), 0, log.silent(), lambda state, *_: saved.append(int(state)), nothing)
  except (UserError, signals.Stopped) as error:
    return saved, error
  return saved, None


def test_an_error_of_a_reader_saves_the_last_finished_step_first(tmp_path, monkeypatch):
  run = run_of(tmp_path, 'host')
  order = data.order(0, 6, 1, 16, 61)[0]  # of the seventh step; the sixth ends a call

  def read(index):
    if order[3] in index and len(index) and set(index) <= set(order) | set(data.order(0, 7, 1, 16, 61)[0]):
      raise UserError('cannot read the image 7.png')
    return X[:61][index]

  train = run.splits['train']._replace(arrays={'x': rows_of(X[:61], read)})
  monkeypatch.setattr(ahead, 'ROWS', 16)
  monkeypatch.setattr(ahead, 'THREADS', 8)
  saved, error = trained(run._replace(splits=run.splits | {'train': train}))
  assert saved == [4, 6] and '7.png' in str(error)


@pytest.mark.parametrize('error', [TimeoutError(110, 'Connection timed out'), OSError(5, 'Input/output error')])
def test_a_fault_of_a_disk_under_a_reader_is_one_line_and_is_not_taken_for_a_wait(error, monkeypatch):
  def read(index):
    raise error

  with pytest.raises(UserError, match=rf'cannot read the examples \({error.strerror}\): mend the disk'):
    ahead.read({'x': rows_of(X, read)}, np.arange(3))
  monkeypatch.setattr(ahead, 'LOOK', 0.001)
  slow = rows_of(X, lambda index: (time.sleep(0.02), X[index])[1])
  polls = []
  monkeypatch.setattr(signals, 'poll', lambda: polls.append(1))
  np.testing.assert_array_equal(ahead.read({'x': slow}, np.arange(3))['x'], X[:3])
  assert len(polls) > 1


def test_a_reader_that_hangs_does_not_hold_up_a_signal(tmp_path):
  run, release = run_of(tmp_path, 'host'), threading.Event()

  def read(index):
    release.wait(20)
    return X[index]

  train = run.splits['train']._replace(arrays={'x': rows_of(X, read)})
  threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM)).start()
  started = time.perf_counter()
  with signals.owned(), signals.deferred():
    saved, error = trained(run._replace(splits=run.splits | {'train': train}))
  release.set()
  assert isinstance(error, signals.Stopped) and not saved
  assert time.perf_counter() - started < 5


def test_a_look_is_at_some_examples_evenly_strided(tmp_path):
  split = run_of(tmp_path, 'host').splits['train']
  config, mesh = config_of(tmp_path, 'host', eval_batch_size=4), parallel.mesh(2)
  see = lambda key, state, batch: {'x': batch['x'], 'index': batch['index']}
  some = likelihood.strided(split, 9)
  there = mean.per_example(see, some, config, mesh)(0, {})
  config.data.where = 'device'
  copied = mean.per_example(see, some, config, mesh)(0, {})
  np.testing.assert_array_equal(there['index'], np.arange(9) * 61 // 9)
  np.testing.assert_array_equal(there['x'], copied['x'])
  np.testing.assert_array_equal(there['index'], copied['index'])


def placed(asked, num_bytes, memory, monkeypatch, devices=8, **changes):
  monkeypatch.setattr(placement, 'device_memory', lambda mesh: memory)
  return placement.choose(asked, num_bytes, parallel.mesh(devices), **changes)


@pytest.mark.parametrize(
  ('num_bytes', 'devices', 'where'),
  [(400, 8, 'device'), (401, 8, 'sharded'), (3200, 8, 'sharded'), (3201, 8, 'host'), (401, 1, 'host')],
)
def test_examples_may_take_a_quarter_of_the_memory_of_devices(num_bytes, devices, where, monkeypatch):
  chosen = placed('auto', num_bytes, 1600, monkeypatch, devices)
  assert chosen.where == where
  assert bool(chosen.line) == (where != 'device')


def test_what_a_choice_of_a_place_says(monkeypatch):
  line = placed('auto', 15_700_000_000, 16_000_000_000, monkeypatch, 1).line
  assert line == 'data: 15.7 GB; on the host, read one call ahead (a device has 16.0 GB)'
  assert placed('auto', 10, 1600, monkeypatch, in_files=True).where == 'host'  # a CPU's memory is the host's
  assert placed('auto', 10**9, 0, monkeypatch).where == 'device'  # a slice that is not here
  assert placed('auto', 10**9, 10, monkeypatch, movable=False).where == 'device'
  for asked, said in (('device', '20,000 bytes .* which has 1,600'), ('sharded', '2,500 bytes .* which has 1,600')):
    with pytest.raises(UserError, match=f'config.data.where={asked} puts {said}: set --config.data.where=host'):
      placed(asked, 20_000, 1600, monkeypatch)
  with pytest.raises(UserError, match='made on the devices: set auto'):
    placed('host', 10, 1600, monkeypatch, movable=False)


@pytest.mark.parametrize(
  ('changes', 'said'),
  [({'where': 'shard'}, "must be one of auto, device, sharded, host, got 'shard'; did you mean 'sharded'"),
   ({'where': 'sharded', 'parallel': 'pmap'}, "where=sharded needs config.parallel='jit'")],
)  # fmt: skip
def test_a_place_that_is_none_is_refused(changes, said, tmp_path):
  with pytest.raises(UserError, match=said):
    config_of(tmp_path, **changes)


def test_memory_of_cpus_is_shared(monkeypatch):
  one, eight = (placement.device_memory(parallel.mesh(n)) for n in (1, 8))
  assert one // 8 == eight > 2**25
  assert jax.devices()[0].platform == 'cpu'
