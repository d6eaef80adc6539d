"""The processes of a run: how they find one another, what only one of them does, and how they end together."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from dgm_jax.errors import ALONE, UserError
from dgm_jax.runtime import cpu, signals

__all__ = ['first', 'main_process', 'start', 'together']

HEARTBEAT = 30  # seconds of silence after which a process counts as lost


def start(
  coordinator: str = '', processes: int = 1, process: int = 0, heartbeat: int = HEARTBEAT, keep_memory: bool = False,
  every_core: bool = False,
) -> None:  # fmt: skip
  """Joins the other processes of the run, if any, and keeps compiled programs for the next start.

  Call it before the first use of a device.

  Args:
    coordinator: 'host:port' of process 0; 'auto' if the cluster is recognised (TPU pod, Slurm, Open MPI).
    processes: number of processes.
    process: number of this process.
    heartbeat: seconds of silence after which a process counts as lost, and the others end.
    keep_memory: whether freed memory is kept for the next program, on a CPU; see `cpu.large_programs`.
    every_core: whether each core of a CPU is a device of its own, for programs that do not wait for one another.
      XLA_FLAGS and JAX_NUM_CPU_DEVICES take precedence.

  Raises:
    UserError: the cluster is not recognised, or the others cannot be reached.
  """
  if coordinator:
    where = () if coordinator == 'auto' else (coordinator, processes, process)
    try:
      jax.distributed.initialize(*where, heartbeat_timeout_seconds=heartbeat)
    except (ValueError, RuntimeError) as error:
      raise UserError(f'--coordinator={coordinator}: {(str(error).splitlines() or [""])[0][:200]}') from error
    signals.share()
  if keep_memory and cpu.is_only_device():
    cpu.keep_buffers()
  counted = (
    'xla_force_host_platform_device_count' in os.environ.get('XLA_FLAGS', '') or jax.config.jax_num_cpu_devices > 0
  )
  if every_core and not counted:
    jax.config.update('jax_num_cpu_devices', cpu.cores())
  cpu.keep_programs(Path(os.environ.get('DGM_JAX_CACHE', '~/.cache/dgm_jax')).expanduser() / 'programs')


def first(function: Callable[[], Any]) -> None:
  """Calls the function on the main process. If it raises a UserError there, every process raises it.

  Raises:
    UserError: the function raised it.
  """
  message = ''
  if main_process():
    try:
      function()
    except UserError as error:
      message = str(error)
  if jax.process_count() > 1:
    page = np.zeros(1024, np.uint8)
    words = np.frombuffer(message.encode()[: len(page)], np.uint8)
    page[: len(words)] = words
    message = bytes(multihost_utils.broadcast_one_to_all(page)).rstrip(b'\0').decode(errors='replace')
  if message:
    raise UserError(message)


@contextlib.contextmanager
def together() -> Iterator[None]:
  """Ends a process at once, if within the block the others are gone: waiting for them would never end."""
  try:
    yield
  except jax.errors.JaxRuntimeError as error:
    if jax.process_count() == 1:
      raise
    reason = (str(error).splitlines() or [''])[0][:200]
    print(
      f'error: process {jax.process_index()} cannot go on, most likely because another one has ended ({reason});'
      ' start all of them again, they go on from the last checkpoint',
      file=sys.stderr, flush=True,
    )  # fmt: skip
    os._exit(ALONE)


def main_process() -> bool:
  """Returns whether this is the process that writes logs and pictures."""
  return jax.process_index() == 0
