"""What a process is started with."""

import os
import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
import jax, jax.numpy as jnp
from dgm_jax.runtime import cluster
if sys.argv[1] == 'started':
  cluster.start(keep_memory=True)
call = jax.jit(lambda x: jnp.cumsum(jnp.sin(x)[:, None] * jnp.ones((1, 16)), 0)[-1])
x = jax.block_until_ready(jnp.ones(2**18))
for _ in range(20):  # until the heap has found its size
  jax.block_until_ready(call(x))
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
  jax.block_until_ready(call(x))
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) // 5)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != 'glibc', reason='other C libraries have other options')
def test_memory_that_a_program_has_freed_is_kept_for_the_next(tmp_path):
  faults = {}
  for how in ('started', 'as it is'):
    done = subprocess.run(
      [sys.executable, '-c', PROGRAM, how], capture_output=True, text=True, check=True,
      env={'JAX_PLATFORMS': 'cpu', 'DGM_JAX_CACHE': str(tmp_path), 'HOME': str(tmp_path), 'PATH': ''},
    )  # fmt: skip
    faults[how] = int(done.stdout)
  # Some 8,000 pages of 4 kB, fewer where the kernel deals out huge ones.
  assert faults['started'] <= faults['as it is'] / 10


def test_each_core_is_a_device_where_that_is_asked_for(tmp_path):
  program = 'from dgm_jax.runtime import cluster; cluster.start(every_core={}); import jax; print(jax.device_count())'
  told = {'JAX_PLATFORMS': 'cpu', 'DGM_JAX_CACHE': str(tmp_path), 'HOME': str(tmp_path), 'PATH': ''}
  cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()
  more = cores + 1
  xla = {'XLA_FLAGS': f'--xla_force_host_platform_device_count={more}'}
  for asked, env, expected in (
    (False, {}, 1), (True, {}, cores), (True, xla, more), (True, {'JAX_NUM_CPU_DEVICES': str(more)}, more)
  ):  # fmt: skip
    command = [sys.executable, '-c', program.format(asked)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=told | env)
    assert int(done.stdout) == expected
