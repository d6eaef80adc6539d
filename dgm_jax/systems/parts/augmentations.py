"""Random changes of images that a classifier trains on: moved, mirrored, cut out and resized, coloured.

Axes: B batch, H height, W width, C channels. Images are in [0, 1].
"""

import jax
import jax.numpy as jnp

__all__ = ['colours', 'keep', 'middle', 'mirror', 'resized_crop', 'shift']

AREA = (0.05, 1.0)  # of a box, as a share of the image's
RATIO = (0.75, 1.33)  # of its width to its height
ATTEMPTS = 10
BRIGHTNESS, HUE, SATURATION, CONTRAST = 32 / 255, 0.2, (0.5, 1.5), (0.5, 1.5)


def keep(key: jax.Array, x: jax.Array) -> jax.Array:
  """Returns the images as they are."""
  del key
  return x


def mirror(key: jax.Array, x: jax.Array) -> jax.Array:
  """Mirrors each image horizontally with probability one half."""
  return jnp.where(jax.random.bernoulli(key, shape=(x.shape[0], 1, 1, 1)), x[:, :, ::-1], x)


def shift(key: jax.Array, x: jax.Array, reach: int) -> jax.Array:
  """Shifts each image by up to `reach` pixels along each axis; uncovered pixels are zero."""
  padded = jnp.pad(x, [(0, 0), (reach, reach), (reach, reach), (0, 0)])
  corner = jax.random.randint(key, (x.shape[0], 2), 0, 2 * reach + 1)
  cut = lambda image, at: jax.lax.dynamic_slice(image, (at[0], at[1], 0), x.shape[1:])
  return jax.vmap(cut)(padded, corner)


def middle(x: jax.Array, side: int) -> jax.Array:
  """Cuts out the central squares, [B, H, W, C] -> [B, side, side, C]; a side of 0 leaves the images whole."""
  if not side:
    return x
  top, left = ((length - side) // 2 for length in x.shape[1:3])
  return x[:, top : top + side, left : left + side]


def resized_crop(key: jax.Array, x: jax.Array, side: int) -> jax.Array:
  """Cuts a random box out of each image and resizes it: [B, H, W, C] -> [B, side, side, C].

  The box's share of the area is uniform in [0.05, 1], and the ratio of its sides in [0.75, 1.33]. Of ten boxes the
  first that fits into the image is taken; if none fits, the whole image. The triangle filter is as wide as a reduction.

  Reference:
    Szegedy et al. 2015, Going deeper with convolutions, section 6; ratios as in the programs of its successors.
  """
  height, width = x.shape[1:3]
  for_area, for_ratio, for_place = jax.random.split(key, 3)
  boxes = (x.shape[0], ATTEMPTS)
  area = height * width * jax.random.uniform(for_area, boxes, minval=AREA[0], maxval=AREA[1])
  ratio = jax.random.uniform(for_ratio, boxes, minval=RATIO[0], maxval=RATIO[1])
  sizes = jnp.stack([jnp.sqrt(area / ratio), jnp.sqrt(area * ratio)], -1)  # [B, ATTEMPTS, 2]
  whole = jnp.array([height, width], jnp.float32)
  fits = (sizes <= whole[None, None]).all(-1)
  first = jnp.take_along_axis(sizes, fits.argmax(1)[:, None, None], 1)[:, 0]
  size = jnp.where(fits.any(1)[:, None], first, whole[None])
  corner = jax.random.uniform(for_place, size.shape) * (whole[None] - size)
  return jax.vmap(lambda image, corner, size: _resized(image, corner, size, side))(x, corner, size)


def _resized(image: jax.Array, corner: jax.Array, size: jax.Array, side: int) -> jax.Array:
  """Resizes the box of an image [H, W, C] that begins at `corner` and has this size, both in pixels."""
  scale = side / size
  shape = (side, side, image.shape[-1])
  return jax.image.scale_and_translate(image, shape, (0, 1), scale, -corner * scale, 'linear')


def colours(key: jax.Array, x: jax.Array) -> jax.Array:
  """Changes brightness, saturation, hue and contrast of colour images, in this order, and clips them to [0, 1].

  To every pixel of an image, up to 32/255 is added; its saturation is multiplied by 0.5 to 1.5; its hue is turned by up
  to a fifth of the circle; its distance to the mean of each channel is multiplied by 0.5 to 1.5.

  Reference: Howard 2013, arXiv:1312.5402, section 2; amounts of renmengye/revnet-public.

  Raises:
    ValueError: the images have no three channels.
  """
  if x.shape[-1] != 3:
    raise ValueError(f'colours are of images with 3 channels, got {x.shape[-1]}')
  keys = jax.random.split(key, 4)
  one = lambda key, low, high: jax.random.uniform(key, (x.shape[0], 1, 1, 1), minval=low, maxval=high)
  h = jnp.clip(x + one(keys[0], -BRIGHTNESS, BRIGHTNESS), 0, 1)
  hue, saturation, value = jnp.split(to_hsv(h), 3, -1)
  saturation = jnp.clip(saturation * one(keys[1], *SATURATION), 0, 1)
  h = from_hsv(jnp.concatenate([hue + one(keys[2], -HUE, HUE), saturation, value], -1))
  mean = h.mean((1, 2), keepdims=True)
  return jnp.clip(mean + (h - mean) * one(keys[3], *CONTRAST), 0, 1)


def to_hsv(x: jax.Array) -> jax.Array:
  """Computes hue, saturation and value of colours in [0, 1], [..., 3]; a hue is a share of the circle."""
  red, green, blue = (x[..., i] for i in range(3))
  value, spread = x.max(-1), x.max(-1) - x.min(-1)
  divisor = jnp.where(spread > 0, spread, 1)
  # Not by red == value: XLA may compute the colours twice, with other roundings.
  sextant = jnp.where(
    red >= jnp.maximum(green, blue), (green - blue) / divisor,
    jnp.where(green >= blue, 2 + (blue - red) / divisor, 4 + (red - green) / divisor),
  )  # fmt: skip
  saturation = spread / jnp.where(value > 0, value, 1)
  return jnp.stack([(sextant / 6) % 1, saturation, value], -1)


def from_hsv(x: jax.Array) -> jax.Array:
  """Computes the inverse of `to_hsv`; the hue may be any number."""
  hue, saturation, value = (x[..., i] for i in range(3))

  def channel(first):
    place = (first + 6 * hue) % 6
    return value - value * saturation * jnp.clip(jnp.minimum(place, 4 - place), 0, 1)

  return jnp.stack([channel(5), channel(3), channel(1)], -1)
