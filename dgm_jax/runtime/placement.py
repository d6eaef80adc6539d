"""The place of training examples: a copy on every device, their rows spread over the devices, or the host."""

import contextlib
import os
from pathlib import Path
from typing import NamedTuple

from jax.sharding import Mesh

from dgm_jax.errors import UserError

__all__ = ['Placement', 'choose', 'device_memory']

SHARE = 4  # examples may take one part in so many of the memory of devices
WIDEST = 64  # devices over which rows are spread unasked: what a step sends grows with their number
LIMITS = ('/sys/fs/cgroup/memory.max', '/sys/fs/cgroup/memory/memory.limit_in_bytes')


class Placement(NamedTuple):
  """A place, and a line that says why, '' if it needs no word."""

  where: str  # 'device', 'sharded' or 'host'
  line: str


def choose(asked: str, num_bytes: int, mesh: Mesh, in_files: bool = False, movable: bool = True) -> Placement:
  """Chooses where examples lie. It looks at numbers only.

  Args:
    asked: `config.data.where`.
    num_bytes: of the examples.
    mesh: the devices.
    in_files: whether rows are read when they are asked for. If devices are CPUs, copies on them would be in memory.
    movable: whether a row can be had without the others; images that are rendered from all rows are on the devices.

  Raises:
    UserError: the examples cannot lie where they are asked to.
  """
  if not movable and asked not in ('auto', 'device'):
    raise UserError(f'config.data.where={asked} is for stored examples, and these are made on the devices: set auto')
  memory = device_memory(mesh)
  needed = {'device': num_bytes, 'sharded': -(-num_bytes // mesh.size)}
  if asked in needed and memory and needed[asked] > memory:
    raise UserError(
      f'config.data.where={asked} puts {needed[asked]:,} bytes of examples on each device, which has {memory:,}: set'
      ' --config.data.where=host'
    )
  where = asked if asked != 'auto' else _fitting(needed, memory, mesh, in_files, movable)
  if where == 'device':
    return Placement(where, '')
  place = {'sharded': f'rows spread over {mesh.size} devices', 'host': 'on the host, read one call ahead'}[where]
  there = f' (a device has {_gigabytes(memory)})' if memory else ''
  return Placement(where, f'data: {_gigabytes(num_bytes)}; {place}{there}')


def _fitting(needed: dict[str, int], memory: int, mesh: Mesh, in_files: bool, movable: bool) -> str:
  if not movable:
    return 'device'
  if in_files and (not memory or mesh.devices.flat[0].platform == 'cpu'):
    return 'host'
  if not memory or needed['device'] <= memory // SHARE:
    return 'device'
  return 'sharded' if needed['sharded'] <= memory // SHARE and 1 < mesh.size <= WIDEST else 'host'


def device_memory(mesh: Mesh) -> int:
  """Returns the bytes of memory of a device, 0 if they are unknown. The CPUs of a host share its memory."""
  with contextlib.suppress(Exception):  # devices of a topology, and some platforms, do not tell
    here = mesh.local_devices
    if here[0].platform == 'cpu':
      return host_memory() // len(here)
    return int(here[0].memory_stats()['bytes_limit'])
  return 0


def host_memory() -> int:
  """Returns the bytes of memory that this process may use: the machine's, or those of its control group."""
  sizes = [os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')]
  for path in LIMITS:
    with contextlib.suppress(OSError, ValueError):
      sizes.append(int(Path(path).read_text()))
  return min(sizes)


def _gigabytes(count: int) -> str:
  return f'{count / 1e9:.1f} GB'
