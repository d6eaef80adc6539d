"""What keeping a run safe costs: seconds of a save, of a digest, and of a start that takes a run up again."""

import re
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import runs
from trials import record, trials

from dgm_jax.core import State
from dgm_jax.runs import checkpoint, digest

INTERVAL = 60  # seconds between two saves


def state(megabytes):
  """Some arrays of so many MB, of numbers that do not compress."""
  random = np.random.default_rng(0)
  arrays = [jnp.asarray(random.normal(size=(1000, 250)).astype('f4')) for _ in range(megabytes)]
  return State(jnp.int32(0), {'net': arrays[::2]}, {'model': arrays[1::2]}, {})


def seconds(function) -> float:
  started = time.perf_counter()
  function()
  return time.perf_counter() - started


@pytest.fixture
def optimized():
  """As programs are compiled outside the tests."""
  jax.config.update('jax_disable_most_optimizations', False)
  jax.clear_caches()
  yield
  jax.config.update('jax_disable_most_optimizations', True)
  jax.clear_caches()


@pytest.mark.usefixtures('optimized')
def test_a_save_and_a_digest_take_little_time(tmp_path):
  """A save costs the time until it stands, for which the loop waits; beside the training, what blocks it."""
  megabytes = trials(10, 100)
  now = state(megabytes)
  jax.block_until_ready(now)
  digest.digest(now)  # compiles
  digests = [seconds(lambda: digest.digest(now)) for _ in range(5)]
  blocked, whole = [], []
  with checkpoint.saving(tmp_path, 1, '') as manager:
    for step in range(1, trials(5, 9)):  # the first ones find new memory
      started = time.perf_counter()
      checkpoint.save(manager, now.replace(step=jnp.int32(step)), {}, {})
      blocked.append(time.perf_counter() - started)
      checkpoint.commit(manager)
      whole.append(time.perf_counter() - started)
  record(
    'costs', megabytes=megabytes, digest_seconds=min(digests), digest_seconds_each=digests,
    save_blocks_seconds=min(blocked[1:]), save_until_committed_seconds=min(whole[1:]),
    overhead_percent_at_60_s=100 * min(whole[1:]) / INTERVAL,
  )  # fmt: skip
  assert min(digests) < 0.4 * megabytes / 100
  assert min(whole[1:]) < 0.01 * INTERVAL


def test_a_start_that_takes_a_run_up_says_what_was_lost(tmp_path):
  folder = tmp_path / 'run'
  code, _, err = runs.finish(runs.start(folder, child=('step', 58, 0, 'SIGKILL')))
  assert code == -9, err
  out = runs.complete(folder)
  kept = int(re.search(r'going on from the checkpoint of step (\d+)', out)[1])
  line = next(line for line in out.splitlines() if line.startswith('goodput: '))
  shown = re.fullmatch(
    r'goodput: restored in ([\d.]+) s, first call in ([\d.]+) s(?:; (\d+) steps of ([\d.]+) s .*)?', line
  )
  assert kept == 80 and 30 <= int(shown[3]) <= 36, line  # some 116 steps were begun, and every fourth was told
  record('goodput line', line=line)
