"""How long autoregressive systems take to draw images, with a memory and without."""

import statistics
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from dgm_jax import data
from dgm_jax.errors import UserError
from dgm_jax.runs import workdir
from dgm_jax.systems import autoregressive
from dgm_jax.systems.parts import raster

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
  """Measures the seconds for `images` images of size x size by an untrained network, with a cache and naively.

  The naive sampler runs the network once a pixel outside of any loop, because XLA's convolutions are fastest there. Its
  figure is the median of `naive_pixels` such runs times the number of pixels (and of channels in turn).

  Raises:
    UserError: the system is not an autoregressive one.
  """
  if not config.system.startswith('autoregressive.'):
    raise UserError(f'--what=sample times autoregressive systems; config.system is {config.system}')
  config = config.copy_and_resolve_references()
  with config.unlocked():
    config.data.shape = (size, size, config.data.shape[-1])
  parts = autoregressive.build_parts(config, autoregressive.network_of(config))
  empty = jnp.zeros((images, *parts.shape))
  condition = jnp.zeros((images, parts.classes)) if parts.classes else None
  inputs = parts.pixel.inputs(empty)
  # Any parameters do: a start from data takes minutes to compile where there are many layers.
  shapes = jax.eval_shape(parts.network.init, jax.random.key(0), inputs, condition)['params']
  params = jax.tree.map(lambda leaf: jnp.full(leaf.shape, 0.01, leaf.dtype), shapes)
  mask = jnp.zeros(empty.shape[:3], bool)

  def draw(params):
    pixel_model = raster.PixelModel(parts.network, params, parts.pixel, condition)
    return raster.sample_incremental(jax.random.key(1), pixel_model, empty, mask)

  fast, fast_cpu = _seconds(jax.jit(draw).lower(params).compile(), ROUNDS, params)
  whole = jax.jit(parts.network.apply).lower({'params': params}, inputs, condition).compile()
  one, one_cpu = _seconds(whole, naive_pixels, {'params': params}, inputs, condition)
  passes = size * size * parts.pixel.groups
  slow, slow_cpu = one * passes, one_cpu * passes
  return {
    'size': size,
    'images': images,
    'incremental_seconds_per_image': fast / images,
    'incremental_microseconds_per_pixel_and_image': 1e6 * fast / images / size**2,
    'naive_seconds_per_image': slow / images,
    'naive_over_incremental': slow / fast,
    # Of all threads: where others use the machine, this tells more than the clock.
    'incremental_cpu_seconds_per_image': fast_cpu / images,
    'incremental_cpu_microseconds_per_pixel_and_image': 1e6 * fast_cpu / images / size**2,
    'naive_cpu_seconds_per_image': slow_cpu / images,
    'naive_over_incremental_cpu': slow_cpu / fast_cpu,
    'naive_passes_timed': naive_pixels,
  }


def row(figures: dict) -> str:
  """Formats one line of the table."""
  return (
    f'{figures["size"]}x{figures["size"]}, {figures["images"]} images at a time:'
    f' {figures["incremental_seconds_per_image"]:.4g} s an image with a memory,'
    f' {figures["naive_seconds_per_image"]:.4g} s without: {figures["naive_over_incremental"]:.1f} times;'
    f' {figures["incremental_cpu_microseconds_per_pixel_and_image"]:.4g} CPU microseconds a pixel'
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
