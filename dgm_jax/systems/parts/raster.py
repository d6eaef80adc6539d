"""Drawing images pixel by pixel in raster order, at the cost of one pass of the network or, naively, of one a pixel.

Both samplers draw position i with the noise of (key, i), and so the same pixels.

Axes: B batch, H height, W width, C channels, P numbers of a pixel's distribution, D condition.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from dgm_jax.nn.masked import Place
from dgm_jax.systems.parts.pixels import Pixel

__all__ = ['Drawing', 'incremental']


class Canvas(NamedTuple):
  """An image that is being drawn, as data and as the network reads it; [B, H, W, C] both."""

  x: jax.Array
  read: jax.Array


class Drawing(NamedTuple):
  """What is drawn from: a network with its parameters, what its numbers mean, and what is known beforehand."""

  network: object  # a module with the methods rows and pixels
  params: dict
  pixel: Pixel
  condition: jax.Array | None = None  # [B, D] or [B, H, W, D]
  temperature: float | jax.Array = 1.0


def incremental(key: jax.Array, drawing: Drawing, given: jax.Array, known: jax.Array) -> jax.Array:
  """Draws the pixels that are not known, each layer computing each position once.

  Args:
    key: random key.
    given: [B, H, W, C] in data space; of which only the known pixels count.
    known: [B, H, W] bool, the pixels that are kept.

  Returns: [B, H, W, C] in data space.
  """
  height, width = given.shape[1:3]
  canvas, past = _start(drawing, given, known), _margin(drawing)
  pixels = lambda cache, read, r, c, above: _apply(
    drawing, cache, read, Place(r, c, width + past), above, method='pixels'
  )

  def row(carry, r):
    canvas, cache = carry
    above, cache = _apply(drawing, cache, canvas.read, Place(r, None, width + past), method='rows')

    def position(carry, c):
      canvas, cache = carry
      for turn in range(drawing.pixel.groups):
        numbers, cache = pixels(cache, canvas.read, r, c, above)
        canvas = _paint(key, drawing, canvas, known, r, c, turn, numbers)
      return (canvas, cache), None

    canvas, cache = jax.lax.scan(position, (canvas, cache), jnp.arange(width))[0]
    for c in range(width, width + past):
      _, cache = pixels(cache, canvas.read, r, jnp.int32(c), above)
    return (canvas, cache), None

  (canvas, _), _ = jax.lax.scan(row, (canvas, memory(drawing, given)), jnp.arange(height))
  return canvas.x


def naive(key: jax.Array, drawing: Drawing, given: jax.Array, known: jax.Array) -> jax.Array:
  """The same, running the network on the whole image for every position: what `incremental` is checked against."""
  height, width = given.shape[1:3]

  def position(canvas, i):
    for turn in range(drawing.pixel.groups):
      numbers = drawing.network.apply({'params': drawing.params}, canvas.read, drawing.condition)
      r, c = i // width, i % width
      canvas = _paint(key, drawing, canvas, known, r, c, turn, numbers[:, r, c])
    return canvas, None

  return jax.lax.scan(position, _start(drawing, given, known), jnp.arange(height * width))[0].x


def memory(drawing: Drawing, image: jax.Array):
  """The network's empty memory for a batch of images like this one."""
  zero, width = jnp.zeros((), jnp.int32), image.shape[2] + _margin(drawing)

  def both(image):
    above, cache = _apply(drawing, {}, image, Place(zero, None, width), method='rows')
    return _apply(drawing, cache, image, Place(zero, zero, width), above, method='pixels')[1]

  return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(both, drawing.pixel.inputs(image)))


def _margin(drawing: Drawing) -> int:
  """How many columns past the last one a network computes in each row, where nothing is drawn; most none."""
  return getattr(drawing.network, 'margin', 0)


def _apply(drawing: Drawing, cache, image, at: Place, *above, method: str):
  """A method of the network at a place, and its memory afterwards."""
  variables = {'params': drawing.params, 'cache': cache}
  out, changed = drawing.network.apply(
    variables, image, *above, condition=drawing.condition, at=at, method=method, mutable=['cache']
  )
  return out, changed.get('cache', {})


def _start(drawing: Drawing, given: jax.Array, known: jax.Array) -> Canvas:
  x = jnp.where(known[..., None], given, 0)
  return Canvas(x, drawing.pixel.inputs(x))


def _paint(key, drawing: Drawing, canvas: Canvas, known, r, c, turn: int, numbers) -> Canvas:
  """Sets a pixel, or the channel whose turn it is, to what is known of it or drawn."""
  pixel = drawing.pixel
  noise = jax.random.fold_in(key, r * canvas.x.shape[2] + c)
  old = canvas.x[:, r, c]
  drawn = pixel.sample(noise, numbers, drawing.temperature)
  turn_now = jnp.arange(old.shape[-1])[None] == turn if pixel.groups > 1 else jnp.ones((1, old.shape[-1]), bool)
  new = jnp.where(turn_now & ~known[:, r, c][:, None], drawn, old)
  return Canvas(canvas.x.at[:, r, c].set(new), canvas.read.at[:, r, c].set(pixel.inputs(new)))
