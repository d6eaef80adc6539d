"""The processes of a run: how they find one another, what only one of them does, and how they end together."""

import contextlib
import json
import os
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn, TypeVar

import jax
import numpy as np
from jax._src import distributed  # the board of its coordinator has no public name
from jax.experimental import multihost_utils

from dgm_jax.errors import ALONE, UserError
from dgm_jax.internal.files import cache_folder
from dgm_jax.runtime import cli, cpu, signals

__all__ = ['agree', 'alike', 'exchange', 'first', 'leave', 'leave_alone', 'main_process', 'start', 'together']

T = TypeVar('T')
_agreement = types.SimpleNamespace(under_way=False)
HEARTBEAT = 30  # seconds of silence after which a process counts as lost
LINE = 1000  # bytes of a message that processes exchange


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
    # Its service would take SIGTERM from `signals`, and a signal to one process is not always heard by the others.
    jax.config.update('jax_enable_preemption_service', False)
    try:
      jax.distributed.initialize(*where, heartbeat_timeout_seconds=heartbeat)
    except (ValueError, RuntimeError) as error:
      raise UserError(f'--coordinator={coordinator}: {(str(error).splitlines() or [""])[0][:200]}') from error
    service = distributed.global_state
    signals.share(_Board(service.client), service.process_id, service.num_processes)
  if keep_memory and cpu.is_only_device():
    cpu.keep_buffers()
  counted = (
    'xla_force_host_platform_device_count' in os.environ.get('XLA_FLAGS', '') or jax.config.jax_num_cpu_devices > 0
  )
  if every_core and not counted:
    jax.config.update('jax_num_cpu_devices', cpu.cores())
  cpu.keep_programs(cache_folder('programs'))


def first(function: Callable[[], T]) -> T:
  """Calls the function on the main process. Every process returns its value, which JSON must be able to hold.

  Raises:
    UserError: the function raised it; every process raises it.
  """
  value = agree(function if main_process() else lambda: None)
  return value if _count() == 1 else json.loads(_broadcast(json.dumps(value).encode()))


def agree(function: Callable[[], T]) -> T:
  """Calls the function on each process. If one refuses, all do, with its line.

  Raises:
    UserError: the function raised it on some process.
  """
  if _agreement.under_way:
    raise RuntimeError('processes cannot agree on something within an agreement: others would be at another exchange')
  message, value, _agreement.under_way = '', None, True
  try:
    value = function()
  except (UserError, OSError, MemoryError) as error:
    message = cli.line_of(error)
    if _count() == 1:
      raise
  finally:
    _agreement.under_way = False
  if _count() > 1:
    said = exchange(message)
    number = next((number for number, line in enumerate(said) if line), 0)
    # What all say alike needs no name.
    message = said[number] if len(set(said)) == 1 or number == 0 else f'process {number}: {said[number]}'
  if message:
    raise UserError(message, everywhere=True)
  return value  # pyright: ignore[reportReturnType]


def alike(page: Mapping[str, str], subject: str) -> None:
  """Compares a page of every process with that of process 0.

  Args:
    page: key -> value.
    subject: what they must be alike in, for the message.

  Raises:
    UserError: they differ; it names the keys, on all processes.
  """
  if _count() == 1:
    return
  theirs = json.loads(_broadcast(json.dumps(dict(page)).encode()))

  def compare() -> None:
    wrong = sorted(key for key in theirs.keys() | page.keys() if theirs.get(key) != page.get(key))
    if wrong:
      shown = '; '.join(f'{key}: {_brief(theirs.get(key))} -> {_brief(page.get(key))}' for key in wrong[:4])
      more = f'; {len(wrong) - 4} more' if wrong[4:] else ''
      raise UserError(f'{subject} differs from that of process 0 ({shown}{more}): start all of them alike')

  agree(compare)


def exchange(message: str) -> list[str]:
  """Returns the message of each process, in order, cut at 1,000 bytes."""
  if _count() == 1:
    return [message]
  page = np.zeros(LINE, np.uint8)
  words = np.frombuffer(message.encode()[:LINE], np.uint8)
  page[: len(words)] = words
  pages = np.asarray(_collective(lambda: multihost_utils.process_allgather(page)))
  return [bytes(row).rstrip(b'\0').decode(errors='replace') for row in pages]


def _broadcast(data: bytes) -> bytes:
  """Returns the bytes of process 0."""
  size = int(_collective(lambda: multihost_utils.broadcast_one_to_all(np.int32(len(data)))))
  page = np.zeros(size, np.uint8)
  if main_process():
    page[:] = np.frombuffer(data, np.uint8)
  return bytes(np.asarray(_collective(lambda: multihost_utils.broadcast_one_to_all(page))))


def _collective(function: Callable[[], T]) -> T:
  """Calls a function that waits for the other processes. If one is gone, this one ends, too."""
  try:
    return function()
  except (jax.errors.JaxRuntimeError, ValueError) as error:  # gloo's is a ValueError
    leave_alone(error)


def _brief(value: str | None) -> str:
  return 'absent' if value is None else value if len(value) <= 40 else f'{value[:37]}...'


@contextlib.contextmanager
def together() -> Iterator[None]:
  """Ends a process at once, if within the block the others are gone: waiting for them would never end."""
  try:
    yield
  except jax.errors.JaxRuntimeError as error:
    if jax.process_count() == 1:
      raise
    leave_alone(error)


def leave(message: str, code: int) -> NoReturn:
  """Ends this process at once with a line. The others notice within the heartbeat."""
  print(f'error: {message}', file=sys.stderr, flush=True)
  sys.stdout.flush()
  os._exit(code)


def leave_alone(error: Exception) -> NoReturn:
  """Ends this process, which waits for another that has ended."""
  reason = (str(error).splitlines() or [''])[0][:200]
  leave(
    f'process {jax.process_index()} cannot go on, most likely because another one has ended ({reason}); start all of'
    ' them again, they go on from the last checkpoint', ALONE,
  )  # fmt: skip


def main_process() -> bool:
  """Returns whether this is the process that writes logs and pictures."""
  return _count() == 1 or jax.process_index() == 0


class _Board:
  """A board at the coordinator, see `stopping`."""

  FOLDER = 'dgm_jax/stopping'

  def __init__(self, client: Any):
    self.client = client

  def write(self, process: int, line: str) -> None:
    self.client.key_value_set(f'{self.FOLDER}/{process}', line)

  def read(self) -> list[str]:
    return [line for _, line in self.client.key_value_dir_get(self.FOLDER)]


def _count() -> int:
  """Returns the number of processes, 1 where JAX finds no device, which the first use of one will tell."""
  try:
    return jax.process_count()
  except (RuntimeError, AssertionError):  # it is an AssertionError from the second attempt on
    return 1
