"""Devices: the mesh, what is spread over it, how host arrays get there, and the two ways to drive a step.

Batches are spread by rows over the axis 'data'; the state is replicated or, with
`shard_params`, its large arrays are spread too. Models, losses and systems are
written for the global batch and hold no collective; the compiler adds them.
With `config.parallel='pmap'` every device makes the step of its own rows instead,
and what they have in common is averaged: exact for losses that are means over
examples, with statistics of a device's own rows for those that are not.
"""

import functools
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from dgm_jax.errors import UserError
from dgm_jax.runtime import signals

__all__ = [
  'Driver', 'averaging', 'check_batch', 'columns', 'compiler_options', 'driver', 'fetch', 'interruptible',
  'mean_gradients', 'mesh', 'put', 'replicated', 'rows', 'state_shardings',
]  # fmt: skip

SHARD_FROM = 2**14  # smaller arrays than this are replicated: spreading them would cost more than it saves


def interruptible(program: Callable) -> Callable:
  """Wraps a jitted function so that a signal can interrupt its compilation.

  Only the last argument may change shape between calls.
  """
  compiled = set()

  def call(*args):
    if args[-1].shape not in compiled:
      signals.interruptible(lambda: program.lower(*args).compile())
      compiled.add(args[-1].shape)
    return program(*args)

  return call


def mesh(devices: int = 0) -> Mesh:
  """Returns the mesh of all devices of all processes, or the first `devices`, along one axis, 'data'.

  Raises:
    UserError: there are fewer devices, or none of the kind that JAX_PLATFORMS names.
  """
  try:
    visible = jax.devices()
  except (RuntimeError, AssertionError) as error:  # JAX asserts that it has found one
    platforms = os.environ.get('JAX_PLATFORMS', '')
    raise UserError(f'JAX finds no device of JAX_PLATFORMS={platforms}: leave it out, or give cpu') from error
  if devices > len(visible):
    raise UserError(f'{devices} devices were asked for, but JAX sees {len(visible)} ({visible[0].platform})')
  # Explicit axes, the default, break linen's gathers: the axis is left to the compiler.
  return Mesh(np.asarray(visible[: devices or len(visible)]), ('data',), axis_types=(AxisType.Auto,))


def check_batch(key: str, size: int, mesh: Mesh, slices: int = 1) -> None:
  """Refuses a batch that cannot be divided evenly over the devices, in `slices` slices.

  Raises:
    UserError: devices x slices does not divide the batch.
  """
  parts = mesh.size * slices
  if size % parts:
    fits, times = max(parts, size // parts * parts), f' x {slices} slices' * (slices > 1)
    raise UserError(
      f'config.{key}={size} is not divisible by the {mesh.size} devices{times}; try --config.{key}={fits}'
    )


def replicated(mesh: Mesh) -> NamedSharding:
  """Returns the sharding by which every device holds the whole array."""
  return NamedSharding(mesh, PartitionSpec())


def rows(mesh: Mesh, axis: int = 0) -> NamedSharding:
  """Returns the sharding by which each device holds its share of the given axis."""
  return NamedSharding(mesh, PartitionSpec(*[None] * axis, 'data'))


def state_shardings(mesh: Mesh, shapes: Any, shard_params: bool) -> Any:
  """Returns a sharding for each leaf of the state.

  Leaves are replicated. With `shard_params`, large arrays are spread along their longest fitting axis.
  """

  def one(leaf):
    fitting = [axis for axis, n in enumerate(leaf.shape) if n % mesh.size == 0]
    if not shard_params or leaf.size < SHARD_FROM or not fitting:
      return replicated(mesh)
    return rows(mesh, max(fitting, key=lambda axis: leaf.shape[axis]))

  return jax.tree.map(one, shapes)


def put(array: np.ndarray, sharding: NamedSharding) -> jax.Array:
  """Builds a global array from the same host array on every process. Each device receives only its part."""
  return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])


def columns(mesh: Mesh, size: int) -> np.ndarray:
  """Returns the places of a batch of `size` examples that the devices of this process have, in order."""
  parts = rows(mesh).addressable_devices_indices_map((size,)).values()
  return np.unique(np.concatenate([np.arange(size)[part] for part in parts]))


def fetch(tree: Any) -> Any:
  """Returns replicated device arrays as NumPy arrays, on every process."""
  return jax.tree.map(lambda x: np.asarray(x.addressable_data(0)) if isinstance(x, jax.Array) else x, tree)


class Driver(NamedTuple):
  """How the devices share the steps of a call."""

  deal: Callable[[np.ndarray], jax.Array]  # an array of the examples of the steps [S, B, ...], on the devices
  key: Callable[[jax.Array], jax.Array]  # a step's key -> that of the program that asks
  place: Callable[[Any], Any]  # a batch, spread by rows
  settle: Callable[[Any, Any], tuple[Any, Any]]  # (state, metrics) -> what all devices agree on
  # (call(state, seed, arrays, index), whether `arrays` are [S, B, ...]) -> the same, compiled, state donated
  compile: Callable[[Callable, bool], Callable]


def driver(name: str, mesh: Mesh, like: Any) -> Driver:
  """Returns the kind of call: one program over the whole mesh ('jit'), or a step on each device ('pmap').

  Args:
    name: 'jit' or 'pmap'.
    mesh: the devices.
    like: the state as shapes with shardings.

  Raises:
    UserError: 'pmap' for a system without gradients to average.
  """
  if name == 'pmap':
    return _each_device(mesh, like)
  shardings = jax.tree.map(lambda leaf: leaf.sharding, like)
  return Driver(
    deal=lambda array: put(array, rows(mesh, 1)),
    key=lambda key: key,
    place=lambda batch: jax.lax.with_sharding_constraint(batch, rows(mesh)),
    settle=lambda state, metrics: (state, metrics),
    compile=lambda call, by_step: jax.jit(
      call, donate_argnums=0, out_shardings=(shardings, replicated(mesh)), compiler_options=compiler_options(mesh)
    ),
  )


def compiler_options(mesh: Mesh) -> dict[str, str]:
  """Returns the compiler options of training programs.

  On a CPU, sums use XLA's newer library. Products and convolutions do not.
  The newer library's products and convolutions made steps of dense networks a tenth slower, and of convolutional ones a
  quarter. If jaxlib lacks the option, there are no options.
  """
  if mesh.devices.flat[0].platform != 'cpu':
    return {}
  return dict(_if_known((('xla_cpu_experimental_ynn_fusion_type', 'LIBRARY_FUSION_TYPE_REDUCE'),)))


@functools.cache
def _if_known(options: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
  """Returns the options if the installed compiler knows them all, none of them otherwise."""
  try:
    jax.jit(lambda: jnp.zeros(()), compiler_options=dict(options)).lower().compile()
  except jax.errors.JaxRuntimeError:
    return ()
  return options


def _each_device(mesh: Mesh, like) -> Driver:
  if not like.opt:
    raise UserError("config.parallel='pmap' averages gradients, and this system has none; use config.parallel='jit'")

  def mean(tree):
    real = lambda leaf: jnp.issubdtype(leaf.dtype, jnp.inexact)
    return jax.tree.map(lambda leaf: jax.lax.pmean(leaf, 'data') if real(leaf) else leaf, tree)

  def compiled(call: Callable, by_step: bool) -> Callable:
    axes, devices = (None, None, 1 if by_step else None, 1), list(mesh.devices.flat)
    return jax.pmap(call, 'data', in_axes=axes, out_axes=None, devices=devices, donate_argnums=0)

  return Driver(
    deal=lambda array: put(array.reshape(len(array), mesh.size, -1, *array.shape[2:]), rows(mesh, 1)),
    key=lambda key: jax.random.fold_in(key, jax.lax.axis_index('data')),
    place=lambda batch: batch,
    settle=lambda state, metrics: (state.replace(extra=mean(state.extra)), mean(metrics)),
    compile=compiled,
  )


def mean_gradients(grads: Any) -> Any:
  """Averages gradients over the devices, inside a step that each device makes."""
  return jax.lax.pmean(grads, 'data')


def averaging(tx: optax.GradientTransformation) -> optax.GradientTransformation:
  """Wraps `tx` so that it averages the gradients over the devices, inside a step that each device makes."""

  def update(grads, state, params=None):
    return tx.update(mean_gradients(grads), state, params)

  return optax.GradientTransformation(tx.init, update)
