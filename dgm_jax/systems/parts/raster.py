"""Samplers of images pixel by pixel in raster order.

`sample_incremental` costs one pass of the network, `sample_naive` one pass per pixel. Both sample position i with the
noise of (key, i), and so give the same pixels.

Axes: B batch, H height, W width, C channels, P parameters of a pixel's distribution, D condition.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dgm_jax.nn.masked import Place
from dgm_jax.systems.parts.pixels import Pixel

__all__ = ['PixelModel', 'sample_incremental']


class Canvas(NamedTuple):
  """The image so far, in data space and as the input of the network; [B, H, W, C] both."""

  x: jax.Array
  inputs: jax.Array


class PixelModel(NamedTuple):
  """A network with its parameters, the distribution of a pixel, and the condition of the samples."""

  network: object  # a module with the methods rows and pixels
  params: dict
  pixel: Pixel
  condition: jax.Array | None = None  # [B, D] or [B, H, W, D]
  temperature: float | jax.Array = 1.0


def sample_incremental(key: jax.Array, pixel_model: PixelModel, image: jax.Array, mask: jax.Array) -> jax.Array:
  """Samples the pixels outside the mask; each layer computes each position once.

  Args:
    key: random key.
    pixel_model: the model.
    image: [B, H, W, C] in data space; only its pixels in the mask are used.
    mask: [B, H, W] bool, the pixels that keep the values of the image.

  Returns:
    [B, H, W, C] in data space.
  """
  height, width = image.shape[1:3]
  canvas, extra_columns = _init_canvas(pixel_model, image, mask), _margin(pixel_model)

  def pixels(cache, inputs, r, c, above):
    return _apply(pixel_model, cache, inputs, Place(r, c, width + extra_columns), above, method='pixels')

  def row(carry, r):
    canvas, cache = carry
    # Once a row: layers that depend only on the rows above.
    above, cache = _apply(pixel_model, cache, canvas.inputs, Place(r, None, width + extra_columns), method='rows')

    # Left to right: each pixel, group by group.
    def position(carry, c):
      canvas, cache = carry
      for group in range(pixel_model.pixel.groups):
        params, cache = pixels(cache, canvas.inputs, r, c, above)
        canvas = _write_pixel(key, pixel_model, canvas, mask, r, c, group, params)
      return (canvas, cache), None

    canvas, cache = jax.lax.scan(position, (canvas, cache), jnp.arange(width))[0]
    for c in range(width, width + extra_columns):
      _, cache = pixels(cache, canvas.inputs, r, jnp.int32(c), above)
    return (canvas, cache), None

  (canvas, _), _ = jax.lax.scan(row, (canvas, init_cache(pixel_model, image)), jnp.arange(height))
  return canvas.x


def sample_naive(key: jax.Array, pixel_model: PixelModel, image: jax.Array, mask: jax.Array) -> jax.Array:
  """Samples as `sample_incremental` does, with a pass over the whole image per position; the reference for tests."""
  height, width = image.shape[1:3]

  def position(canvas, i):
    for group in range(pixel_model.pixel.groups):
      params = pixel_model.network.apply({'params': pixel_model.params}, canvas.inputs, pixel_model.condition)
      r, c = i // width, i % width
      canvas = _write_pixel(key, pixel_model, canvas, mask, r, c, group, params[:, r, c])
    return canvas, None

  return jax.lax.scan(position, _init_canvas(pixel_model, image, mask), jnp.arange(height * width))[0].x


def init_cache(pixel_model: PixelModel, image: jax.Array) -> Any:
  """Returns the network's cache of zeros for a batch of images of this shape."""
  zero, width = jnp.zeros((), jnp.int32), image.shape[2] + _margin(pixel_model)

  def cache_of(inputs):
    above, cache = _apply(pixel_model, {}, inputs, Place(zero, None, width), method='rows')
    return _apply(pixel_model, cache, inputs, Place(zero, zero, width), above, method='pixels')[1]

  shapes = jax.eval_shape(cache_of, pixel_model.pixel.inputs(image))
  return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)


def _margin(pixel_model: PixelModel) -> int:
  """Returns how many columns past the last one a network computes in each row without sampling; for most, 0."""
  return getattr(pixel_model.network, 'margin', 0)


def _apply(pixel_model: PixelModel, cache, inputs, at: Place, *above, method: str):
  """Applies a method of the network at a place; returns its output and the updated cache."""
  variables = {'params': pixel_model.params, 'cache': cache}
  out, changed = pixel_model.network.apply(
    variables, inputs, *above, condition=pixel_model.condition, at=at, method=method, mutable=['cache']
  )
  return out, changed.get('cache', {})


def _init_canvas(pixel_model: PixelModel, image: jax.Array, mask: jax.Array) -> Canvas:
  x = jnp.where(mask[..., None], image, 0)
  return Canvas(x, pixel_model.pixel.inputs(x))


def _write_pixel(key, pixel_model: PixelModel, canvas: Canvas, mask, r, c, group: int, params) -> Canvas:
  """Writes the sample of one pixel, or of one channel group of it, unless the pixel is in the mask."""
  pixel = pixel_model.pixel
  noise = jax.random.fold_in(key, r * canvas.x.shape[2] + c)
  old = canvas.x[:, r, c]
  sample = pixel.sample(noise, params, pixel_model.temperature)
  in_group = jnp.arange(old.shape[-1])[None] == group if pixel.groups > 1 else jnp.ones((1, old.shape[-1]), bool)
  new = jnp.where(in_group & ~mask[:, r, c][:, None], sample, old)
  return Canvas(canvas.x.at[:, r, c].set(new), canvas.inputs.at[:, r, c].set(pixel.inputs(new)))
