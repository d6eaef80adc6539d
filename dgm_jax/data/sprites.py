"""The grid of dSprites, drawn from the factors inside jit: no file, any images of it, any number at a time.

3 shapes x 6 scales x 40 orientations x 32 x 32 positions are 737,280 images of 64x64, numbered with the vertical
position fastest, then the horizontal one, orientation, scale and shape. The outlines were measured from published
frames of the set; images agree with those up to a few pixels on the edge. The last orientation is the first again.

Axes: B images, K factors, H height, W width, C channels.

Reference: Matthey et al. 2017, dSprites, https://github.com/google-deepmind/dsprites-dataset.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from dgm_jax.data.batches import permutation
from dgm_jax.data.factors import Simulator, values_of
from dgm_jax.data.images import Look
from dgm_jax.data.split import Arrays, Split
from dgm_jax.internal.noise import words16

__all__ = ['simulator']

FACTORS = ('shape', 'scale', 'orientation', 'x', 'y')
SIZES = (3, 6, 40, 32, 32)
IMAGES = math.prod(SIZES)
SIDE = 64  # of the square that the outlines are measured in
TESTED = 10_000


def parts() -> dict[str, Callable[[], Arrays]]:
  """Returns the numbers of the images of 'train' and 'test'.

  'train' is the whole grid in a fixed order, and 'test' a fixed sample of it.
  As in the papers, only `config.data.valid_size` images are held out from training.
  """
  numbers = lambda epoch, size: {'sprite': permutation(0, epoch, IMAGES)[:size]}
  return {'train': lambda: numbers(0, IMAGES), 'test': lambda: numbers(1, TESTED)}


def split(name: str, size: int, arrays: Arrays, look: Look) -> Split:
  """Returns a split whose images are rendered when they are fetched.

  In 'sprites_color' every image has its own fixed colour.
  """
  side = look.size or SIDE

  def fetch(arrays, index):
    number = jnp.asarray(arrays['sprite'])[index]
    factors = values_of(number, SIZES)
    x = render(factors, side)
    if name == 'sprites_color':
      x = coloured(x, words16(jax.random.key(0), number, 3).astype(jnp.float32) / 65536)
    return {'x': looked_at(x, look), 'factors': factors, 'index': index}

  channels = look.channels or (3 if name == 'sprites_color' else 1)
  return Split(name, size, arrays, fetch, (side, side, channels))


def simulator(name: str, look: Look) -> Simulator:
  """Returns the ground truth, for any factors of the grid. In 'sprites_color' each call samples the colours."""

  def draw(key, factors):
    x = render(factors, look.size or SIDE)
    return looked_at(coloured(x, jax.random.uniform(key, (x.shape[0], 3))) if name == 'sprites_color' else x, look)

  return Simulator(FACTORS, SIZES, jax.jit(draw), name == 'sprites')


def render(factors: jax.Array, size: int = SIDE) -> jax.Array:
  """Renders images of factors int [B, 5], each column below its `SIZES`: uint8 [B, size, size, 1], 0 or 255.

  A pixel is on if its centre lies in the outline. Sizes other than 64 lay a coarser or a finer grid of pixels over the
  same square.
  """
  shape, scale, orientation, x, y = (factors[:, i, None, None] for i in range(5))
  middle = (jnp.arange(size, dtype=jnp.float32) + 0.5) * (SIDE / size)
  zoom = 1 / (0.5 + 0.1 * scale.astype(jnp.float32))
  across = (middle[None, None, :] - place(x)) * zoom  # [B, 1, W]
  down = (middle[None, :, None] - place(y)) * zoom  # [B, H, 1]
  angle = orientation.astype(jnp.float32) * (2 * math.pi / (SIZES[2] - 1))
  turn = jnp.where(orientation == SIZES[2] - 1, 0.0, angle)  # a full turn, to the bit
  u = jnp.cos(turn) * across - jnp.sin(turn) * down
  v = jnp.sin(turn) * across + jnp.cos(turn) * down
  inside = jnp.where(shape == 0, _square(u, v), jnp.where(shape == 1, _ellipse(u, v), _heart(u, v)))
  return jnp.where(inside, jnp.uint8(255), jnp.uint8(0))[..., None]


def place(position: jax.Array) -> jax.Array:
  """Returns the centre of a sprite in pixels of 64, from 16 to 48, for its position in 0..31."""
  return 16 + position.astype(jnp.float32) * (32 / (SIZES[3] - 1))


def _square(u: jax.Array, v: jax.Array) -> jax.Array:
  return jnp.maximum(jnp.abs(u), jnp.abs(v)) <= 9.6


def _ellipse(u: jax.Array, v: jax.Array) -> jax.Array:
  return jnp.square(u / 12.775) + jnp.square(v / 7.22) <= 1


def _heart(u: jax.Array, v: jax.Array) -> jax.Array:
  """Returns whether points (u, v) lie inside of a heart.

  Its outline is the curve u = 9.55 sin^3 p, v = -1.4 - 0.663 (sum of cosines). A point is inside if it lies between the
  points where the curve meets the line of this u.

  The sum is 13 cos p - 5 cos 2p - 2 cos 3p - cos 4p. With c = |cos p| it has the even part 4 - 2 c^2 - 8 c^4 and the
  odd part 19 c - 8 c^3. The odd part is added at one of p and pi - p, and subtracted at the other.
  """
  share = jnp.minimum(jnp.abs(u) / 9.55, 1.0)
  square = 1 - jnp.exp(jnp.log(share) * (2 / 3))  # c^2; a cube root would cost ten times as much
  even = 4 - square * (2 + 8 * square)
  odd = jnp.sqrt(square) * (19 - 8 * square)
  return (jnp.abs(v + 1.4 + 0.663 * even) <= 0.663 * odd) & (share < 1)


def coloured(x: jax.Array, shade: jax.Array) -> jax.Array:
  """Colours grey images [B, H, W, 1], given shade [B, 3] in [0, 1): uint8 [B, H, W, 3].

  Each channel of a colour lies in [0.5, 1].

  Reference: Locatello et al. 2019, arXiv:1811.12359, Color-dSprites.
  """
  # Without the barrier the noise that the shade is made of is made anew for every pixel.
  level = jax.lax.optimization_barrier(jnp.round(255 * (0.5 + 0.5 * shade)).astype(jnp.uint8))
  return jnp.where(x > 0, level[:, None, None, :], jnp.uint8(0))


def looked_at(x: jax.Array, look: Look) -> jax.Array:
  """Returns images with the channels of the look (grey: the mean), inverted if the look says so."""
  if look.channels == 1 and x.shape[-1] == 3:
    x = jnp.round(x.astype(jnp.float32).mean(-1, keepdims=True)).astype(jnp.uint8)
  elif look.channels == 3 and x.shape[-1] == 1:
    x = jnp.repeat(x, 3, -1)
  return jnp.uint8(255) - x if look.invert else x
