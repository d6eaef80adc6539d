"""Devices: the mesh, what is spread over it, how host arrays get there, and the two ways to drive a step.

Batches are spread by rows over the axis 'data'; the state is replicated or, with
`shard_params`, its large arrays are spread too. Models, losses and systems are
written for the global batch and hold no collective; the compiler adds them.
With `config.parallel='pmap'` every device makes the step of its own rows instead,
and what they have in common is averaged: exact for losses that are means over
examples, with statistics of a device's own rows for those that are not.
"""

import contextlib
import ctypes
import importlib.util
import os
import stat
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from dgm_jax.errors import ALONE, UserError
from dgm_jax.runtime import signals

__all__ = [
  'Driver', 'averaging', 'check_batch', 'compiler_options', 'driver', 'fetch', 'first', 'interruptible',
  'large_programs', 'main_process', 'mesh', 'put', 'replicated', 'rows', 'start', 'state_shardings', 'together',
]  # fmt: skip

HEARTBEAT = 30  # seconds of silence after which a process counts as lost
# Options of glibc's mallopt and their values: nothing mapped by itself, nothing given back, one pool for all threads.
MALLOC = {'M_MMAP_MAX': (-4, 0), 'M_TRIM_THRESHOLD': (-1, 2**31 - 1), 'M_TOP_PAD': (-2, 2**28), 'M_ARENA_MAX': (-8, 1)}
SHARD_FROM = 2**14  # smaller arrays than this are replicated: spreading them would cost more than it saves


def start(
  coordinator: str = '', processes: int = 1, process: int = 0, heartbeat: int = HEARTBEAT, keep_memory: bool = False,
  every_core: bool = False,
) -> None:  # fmt: skip
  """Joins the other processes of the run, if any, and keeps compiled programs for the next start.

  Call it before the first use of a device.

  Args:
    coordinator: 'host:port' of process 0; 'auto' where the cluster is recognised (TPU pod, Slurm, Open MPI).
    processes: how many there are.
    process: which one this is.
    heartbeat: seconds of silence after which a process counts as lost, and the others end.
    keep_memory: whether freed memory is kept for the next program, on a CPU; see `large_programs`.
    every_core: whether each core of a CPU is a device of its own, for programs that do not wait for one another; where
      XLA_FLAGS or JAX_NUM_CPU_DEVICES says how many devices a CPU is, there are so many.

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
  if keep_memory and (os.environ.get('JAX_PLATFORMS', '') == 'cpu' or not _accelerators()):
    _keep_buffers()
  told = 'xla_force_host_platform_device_count' in os.environ.get('XLA_FLAGS', '') or jax.config.jax_num_cpu_devices > 0
  if every_core and not told:
    jax.config.update('jax_num_cpu_devices', _cores())
  _keep_programs(Path(os.environ.get('DGM_JAX_CACHE', '~/.cache/dgm_jax')).expanduser() / 'programs')


def large_programs(config) -> bool:
  """Whether a CPU trains this config faster with freed memory kept: where a call is one step, as with convolutions.

  Programs of small products are up to a fifth slower with it: their threads then share one pool.
  """
  return config.steps_per_call == 1


def _cores() -> int:
  """Of the CPU, that this process may use."""
  return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1


def _accelerators() -> bool:
  """Whether JAX is installed with support for any; whether there is one cannot be asked without starting it."""
  plugins = metadata.entry_points(group='jax_plugins')
  return bool(plugins) or any(importlib.util.find_spec(name) for name in ('libtpu', 'jax_plugins'))


def _keep_buffers() -> None:
  """Has glibc keep freed memory for the next program.

  It gives large buffers back to the kernel, and gets them again page by page: a third of the time of a convolutional
  step on a CPU. Threads' own pools cannot hold large buffers, so there is one pool. The price is a heap with holes, up
  to twice as large where programs are large and four times where they are small. No effect with other C libraries.
  """
  with contextlib.suppress(OSError, AttributeError):
    mallopt = ctypes.CDLL(None).mallopt
    for option, value in MALLOC.values():
      mallopt(option, value)


def _keep_programs(cache: Path) -> None:
  """Compiled programs are code: the folder must be the user's alone, or it is not used."""
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


def first(function: Callable[[], Any]) -> None:
  """Calls the function on the main process; a mistake that it finds there is every process's.

  Raises:
    UserError: the function has.
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
  """Within the block a process that finds itself alone ends at once: waiting for the others would never end."""
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


def interruptible(program: Callable) -> Callable:
  """A jitted function whose compilations a signal interrupts; its last argument alone may change its shape."""
  compiled = set()

  def call(*args):
    if args[-1].shape not in compiled:
      signals.interruptible(lambda: program.lower(*args).compile())
      compiled.add(args[-1].shape)
    return program(*args)

  return call


def mesh(devices: int = 0) -> Mesh:
  """All devices (or the first so many) of all processes along one axis, 'data'."""
  found = jax.devices()
  if devices > len(found):
    raise UserError(f'{devices} devices were asked for, but JAX sees {len(found)} ({found[0].platform})')
  # Explicit axes, the default, break linen's gathers: the axis is left to the compiler.
  return Mesh(np.asarray(found[: devices or len(found)]), ('data',), axis_types=(AxisType.Auto,))


def check_batch(key: str, size: int, mesh: Mesh, slices: int = 1) -> None:
  """Refuses a batch that cannot be dealt out evenly, in so many slices.

  Raises:
    UserError: the number of devices, times that of slices, does not divide the batch.
  """
  parts = mesh.size * slices
  if size % parts:
    fits, times = max(parts, size // parts * parts), f' x {slices} slices' * (slices > 1)
    raise UserError(
      f'config.{key}={size} is not divisible by the {mesh.size} devices{times}; try --config.{key}={fits}'
    )


def replicated(mesh: Mesh) -> NamedSharding:
  """Every device holds the whole array."""
  return NamedSharding(mesh, PartitionSpec())


def rows(mesh: Mesh, axis: int = 0) -> NamedSharding:
  """Each device holds its share of the given axis."""
  return NamedSharding(mesh, PartitionSpec(*[None] * axis, 'data'))


def state_shardings(mesh: Mesh, shapes, shard_params: bool):
  """A sharding for each leaf of the state: replicated, or large arrays spread along their longest fitting axis."""

  def one(leaf):
    fitting = [axis for axis, n in enumerate(leaf.shape) if n % mesh.size == 0]
    if not shard_params or leaf.size < SHARD_FROM or not fitting:
      return replicated(mesh)
    return rows(mesh, max(fitting, key=lambda axis: leaf.shape[axis]))

  return jax.tree.map(one, shapes)


def put(array: np.ndarray, sharding: NamedSharding) -> jax.Array:
  """A global array from the same host array on every process; each device takes only its part."""
  return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])


def fetch(tree):
  """Replicated device arrays as NumPy arrays, on every process."""
  return jax.tree.map(lambda x: np.asarray(x.addressable_data(0)) if isinstance(x, jax.Array) else x, tree)


def main_process() -> bool:
  """Whether this is the process that writes logs and pictures."""
  return jax.process_index() == 0


class Driver(NamedTuple):
  """How the devices share the steps of a call."""

  deal: Callable[[np.ndarray], jax.Array]  # the examples of the steps [S, B], on the devices
  key: Callable[[jax.Array], jax.Array]  # a step's key -> that of the program that asks
  place: Callable[[Any], Any]  # a batch, spread by rows
  settle: Callable[[Any, Any], tuple[Any, Any]]  # (state, metrics) -> what all devices agree on
  compile: Callable[[Callable], Callable]  # call(state, seed, arrays, index) -> the same, compiled, state donated


def driver(name: str, mesh: Mesh, like) -> Driver:
  """One program over the whole mesh ('jit'), or a step of its own on each device ('pmap').

  Args:
    like: the state as shapes with shardings.

  Raises:
    UserError: 'pmap' for a system without gradients to average.
  """
  if name == 'pmap':
    return _each_device(mesh, like)
  shardings = jax.tree.map(lambda leaf: leaf.sharding, like)
  return Driver(
    deal=lambda order: put(order, rows(mesh, 1)),
    key=lambda key: key,
    place=lambda batch: jax.lax.with_sharding_constraint(batch, rows(mesh)),
    settle=lambda state, metrics: (state, metrics),
    compile=lambda call: jax.jit(
      call, donate_argnums=0, out_shardings=(shardings, replicated(mesh)), compiler_options=compiler_options(mesh)
    ),
  )


def compiler_options(mesh: Mesh) -> dict[str, str]:
  """What training programs are compiled with: on a CPU, sums by XLA's newer library, products and convolutions not.

  The newer library's products and convolutions made steps of dense networks a tenth slower, of convolutional ones a
  quarter. A jaxlib that does not know the option goes without.
  """
  if mesh.devices.flat[0].platform != 'cpu':
    return {}
  options = {'xla_cpu_experimental_ynn_fusion_type': 'LIBRARY_FUSION_TYPE_REDUCE'}
  try:
    jax.jit(lambda: jnp.zeros(()), compiler_options=options).lower().compile()
  except jax.errors.JaxRuntimeError:
    return {}
  return options


def _each_device(mesh: Mesh, like) -> Driver:
  if not like.opt:
    raise UserError("config.parallel='pmap' averages gradients, and this system has none; use config.parallel='jit'")

  def mean(tree):
    real = lambda leaf: jnp.issubdtype(leaf.dtype, jnp.inexact)
    return jax.tree.map(lambda leaf: jax.lax.pmean(leaf, 'data') if real(leaf) else leaf, tree)

  def compiled(call: Callable) -> Callable:
    axes, devices = (None, None, None, 1), list(mesh.devices.flat)
    return jax.pmap(call, 'data', in_axes=axes, out_axes=None, devices=devices, donate_argnums=0)

  return Driver(
    deal=lambda order: put(order.reshape(len(order), mesh.size, -1), rows(mesh, 1)),
    key=lambda key: jax.random.fold_in(key, jax.lax.axis_index('data')),
    place=lambda batch: batch,
    settle=lambda state, metrics: (state.replace(extra=mean(state.extra)), mean(metrics)),
    compile=compiled,
  )


def averaging(tx: optax.GradientTransformation) -> optax.GradientTransformation:
  """`tx` on the mean over the devices of the gradients, inside a step that each device makes."""

  def update(grads, state, params=None):
    return tx.update(jax.lax.pmean(grads, 'data'), state, params)

  return optax.GradientTransformation(tx.init, update)
