"""The CPU as a device: its cores, freed memory, and compiled programs that are kept."""

import contextlib
import ctypes
import importlib.util
import os
import stat
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

__all__ = ['cores', 'is_only_device', 'keep_buffers', 'keep_programs', 'large_programs']

# Options of glibc's mallopt and their values: nothing mapped by itself, nothing given back, one pool for all threads.
MALLOC = {'M_MMAP_MAX': (-4, 0), 'M_TRIM_THRESHOLD': (-1, 2**31 - 1), 'M_TOP_PAD': (-2, 2**28), 'M_ARENA_MAX': (-8, 1)}


def large_programs(config: Any) -> bool:
  """Returns whether a CPU trains this config faster if it keeps freed memory.

  It does if a call is one step, as with convolutions. Programs of small products are up to a fifth slower: their
  threads then share one pool.
  """
  return config.steps_per_call == 1


def cores() -> int:
  """Returns the number of CPU cores available to this process."""
  return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1


def is_only_device() -> bool:
  """Returns whether JAX runs on the CPU, because of its settings or because it supports nothing else.

  It does not look for an accelerator, because that would start JAX.
  """
  if os.environ.get('JAX_PLATFORMS', '') == 'cpu':
    return True
  plugins = metadata.entry_points(group='jax_plugins')
  return not (bool(plugins) or any(importlib.util.find_spec(name) for name in ('libtpu', 'jax_plugins')))


def keep_buffers() -> None:
  """Makes glibc keep freed memory for the next program.

  By default glibc returns large buffers to the kernel, and gets them again page by page. This takes a third of the time
  of a convolutional step on a CPU. Threads' own pools cannot hold large buffers, so there is one pool. The heap is
  fragmented: up to twice as large for large programs, and four times for small ones. With other C
  libraries the call has no effect.
  """
  with contextlib.suppress(OSError, AttributeError):
    mallopt = ctypes.CDLL(None).mallopt
    for option, value in MALLOC.values():
      mallopt(option, value)


def keep_programs(cache: Path) -> None:
  """Keeps compiled programs in a folder. It must be the user's alone, because programs are code.

  If the folder is not the user's alone, a line says so, and nothing is kept.
  """
  try:
    cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    if cache.stat().st_uid != os.getuid():
      raise PermissionError(f'it belongs to user {cache.stat().st_uid}')
    if stat.S_IMODE(cache.stat().st_mode) & 0o077:
      cache.chmod(0o700)
  except OSError as error:
    print(f'warning: compiled programs are not kept in {cache}: {error.strerror or error}', file=sys.stderr)
    return
  jax.config.update('jax_compilation_cache_dir', str(cache))
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.0)
  jax.config.update('jax_persistent_cache_min_entry_size_bytes', 0)
