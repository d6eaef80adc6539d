"""How long systems take to draw images; for those that draw pixel by pixel, with a memory and without."""

import math
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from dgm_jax import data, systems
from dgm_jax.errors import UserError
from dgm_jax.nn import made
from dgm_jax.runs import workdir
from dgm_jax.systems import autoregressive
from dgm_jax.systems.parts import decoders

__all__ = ['sweep']

ROUNDS = 3


def sweep(config: ConfigDict, sizes: list[int], images: int, naive_pixels: int) -> list[dict]:
  """Calls `measure` at each size, or at that of the data if none is given. Prints a line for each."""
  jax.config.update('jax_enable_compilation_cache', False)
  config = workdir.resolve(config, data.load(config.data, 'valid'))
  rates = []
  for size in sizes or [config.data.shape[0]]:
    rates.append(measure(config, size, images, naive_pixels))
    print(row(rates[-1]), flush=True)
  return rates


def measure(config: ConfigDict, size: int, images: int, naive_pixels: int) -> dict:
  """Measures the seconds for `images` images of size x size by an untrained system.

  If a network draws them pixel by pixel, the naive sampler is measured, too. It runs the network once a pixel outside
  of any loop, because XLA's convolutions are fastest there. Its figure is the median of `naive_pixels` such runs times
  the number of pixels (and of channels in turn).

  Raises:
    UserError: the system generates nothing.
  """
  config = config.copy_and_resolve_references()
  with config.unlocked():
    config.data.shape = (size, size, config.data.shape[-1])
  draw, params = _sampler(config, images)
  turns = _turns(config, images)
  program = jax.jit(draw).lower(params).compile()
  fast, fast_cpu = _seconds(program, ROUNDS, params)
  figures = {
    'size': size,
    'images': images,
    'incremental_seconds_per_image': fast / images,
    'incremental_microseconds_per_pixel_and_image': 1e6 * fast / images / size**2,
    # Of all threads: where others use the machine, this tells more than the clock.
    'incremental_cpu_seconds_per_image': fast_cpu / images,
    'incremental_cpu_microseconds_per_pixel_and_image': 1e6 * fast_cpu / images / size**2,
    'flops_compiled': float((program.cost_analysis() or {}).get('flops', math.nan)),
  } | turns
  whole = _whole_network(config, images)
  if whole is None:
    return figures
  apply, args, groups = whole
  one, one_cpu = _seconds(jax.jit(apply).lower(*args).compile(), naive_pixels, *args)
  passes = size * size * groups
  slow, slow_cpu = one * passes, one_cpu * passes
  return figures | {
    'naive_seconds_per_image': slow / images,
    'naive_over_incremental': slow / fast,
    'naive_cpu_seconds_per_image': slow_cpu / images,
    'naive_over_incremental_cpu': slow_cpu / fast_cpu,
    'naive_passes_timed': naive_pixels,
  }


def _sampler(config: ConfigDict, images: int) -> tuple[Callable, Any]:
  """Returns the sampler of a system as a function of its parameters, and parameters.

  Any parameters do: a start from data takes minutes to compile where there are many layers.
  """
  system = systems.build(config)
  if system.sample is None:
    raise UserError(f'--what=sample times systems that generate; {config.system} does not')
  batch = {'x': jnp.zeros((2, *config.data.shape)), 'y': jnp.zeros(2, jnp.int32), 'index': jnp.zeros(2, jnp.int32)}
  state = _filled(jax.eval_shape(system.init, jax.random.key(0), batch))

  def draw(state):
    return system.sample(jax.random.key(1), state, images)

  return draw, state


def _turns(config: ConfigDict, images: int) -> dict[str, Any]:
  """Counts the turns of the inverses by fixed point of a prior that is a flow, with random parameters.

  A flow is initially the identity, whose inverse takes two turns.

  Returns:
    `prior_inverse_turns`, a number for each of the flow's layers, and `prior_inverse_turns_most`, the number of
    dimensions. Nothing if the prior has no such inverse.
  """
  prior, counted = systems.build(config).views.prior, []
  if prior is None or config.model.get('prior') != 'flow':
    return {}
  _, state = _sampler(config, images)
  with made.reporting_turns(lambda turns, most: counted.append((int(turns), int(most)))):
    program = jax.jit(lambda state: prior.sample(jax.random.key(1), state, images)).lower(_shaken(state)).compile()
  jax.block_until_ready(program(_shaken(state)))
  jax.effects_barrier()
  if not counted:
    return {}
  return {'prior_inverse_turns': [turns for turns, _ in counted], 'prior_inverse_turns_most': counted[0][1]}


def _shaken(tree: Any) -> Any:
  """Returns random matrices [..., in, out] of variance 1 / in in place of matrices, and all else unchanged."""
  leaves, structure = jax.tree.flatten(tree)

  def draw(number, leaf):
    if leaf.ndim < 2 or not jnp.issubdtype(leaf.dtype, jnp.floating):
      return leaf
    return jax.random.normal(jax.random.key(number), leaf.shape, leaf.dtype) / math.sqrt(leaf.shape[-2])

  return jax.tree.unflatten(structure, [draw(number, leaf) for number, leaf in enumerate(leaves)])


def _whole_network(config: ConfigDict, images: int) -> tuple[Callable, tuple, int] | None:
  """Returns a pass of the network that draws pixels, its arguments, and the passes that a pixel takes naively."""
  family, _, _ = config.system.rpartition('.')
  condition = None
  if family == 'autoregressive':
    parts = autoregressive.build_parts(config, autoregressive.network_of(config))
    condition = jnp.zeros((images, parts.classes)) if parts.classes else None
  elif config.model.get('decoder') == 'pixels':
    parts = decoders.pixel_network(config)
    z = jnp.zeros((images, config.model.latents[0]))
    condition = z
    if parts.mapping is not None:
      like = jax.eval_shape(parts.mapping.init_with_output, jax.random.key(0), z)[0]
      condition = jnp.zeros(like.shape, like.dtype)
  else:
    return None
  inputs = parts.pixel.inputs(jnp.zeros((images, *parts.shape)))
  params = _filled(jax.eval_shape(parts.network.init, jax.random.key(0), inputs, condition)['params'])
  return parts.network.apply, ({'params': params}, inputs, condition), parts.pixel.groups


def _filled(tree: Any) -> Any:
  """Returns arrays of small numbers in place of shapes, and zeros in place of whole numbers."""

  def fill(leaf):
    return jnp.full(leaf.shape, 0.01 if jnp.issubdtype(leaf.dtype, jnp.floating) else 0, leaf.dtype)

  return jax.tree.map(fill, tree)


def row(figures: dict) -> str:
  """Formats one line of the table."""
  start = (
    f'{figures["size"]}x{figures["size"]}, {figures["images"]} images at a time:'
    f' {figures["incremental_seconds_per_image"]:.4g} s an image'
  )
  end = f'{figures["incremental_cpu_microseconds_per_pixel_and_image"]:.4g} CPU microseconds a pixel'
  if 'prior_inverse_turns' in figures:
    turns, most = ', '.join(map(str, figures['prior_inverse_turns'])), figures['prior_inverse_turns_most']
    end += f'; the inverse of the prior takes {turns} turns, of {most} at most'
  if 'naive_seconds_per_image' not in figures:
    return f'{start}; {figures["flops_compiled"]:.4g} FLOPs; {end}'
  return (
    f'{start} with a memory, {figures["naive_seconds_per_image"]:.4g} s without:'
    f' {figures["naive_over_incremental"]:.1f} times; {end}'
  )


def _seconds(program: Callable, rounds: int, *args) -> tuple[float, float]:
  """Returns the medians of a compiled program's wall and CPU times in seconds. One run before warms it up."""
  jax.block_until_ready(program(*args))
  times = []
  for _ in range(rounds):
    started, cpu = time.perf_counter(), time.process_time()
    jax.block_until_ready(program(*args))
    times.append((time.perf_counter() - started, time.process_time() - cpu))
  wall, cpu = (statistics.median(column) for column in zip(*times, strict=True))
  return wall, cpu
