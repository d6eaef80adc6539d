"""Images of two digits of a stored set, at random places of a larger black square, put together when they are fetched.

Example i has digit i of its part and another one of the same part. Both, and their places, are functions of i alone.

Axes: B examples, N digits, h and w their height and width, A pixels a side of the square, C channels.

Reference: Gregor et al. 2015, arXiv:1502.04623, section 4.3.
"""

import jax
import jax.numpy as jnp

from dgm_jax.data.split import Arrays, Split
from dgm_jax.errors import UserError
from dgm_jax.internal.noise import words16

__all__ = ['split']

SIDE = 60  # of the square, in the paper


def split(name: str, arrays: Arrays, side: int) -> Split:
  """Returns the split of pairs of the digits `arrays['x']`, uint8 [N, h, w, C].

  Args:
    name: of the split.
    arrays: of the digits.
    side: of the square; 0: 60 pixels.

  Raises:
    UserError: a digit does not fit into the square, or there is only one.
  """
  digits, side = arrays['x'], side or SIDE
  if max(digits.shape[1:3]) > side or len(digits) < 2:
    raise UserError(
      f'{name} puts two digits of {digits.shape[1]}x{digits.shape[2]} pixels, of {len(digits)}, into {side}x{side}:'
      ' give --config.data.size, and at least two digits'
    )

  def fetch(arrays, index):
    return {'x': _pairs(jnp.asarray(arrays['digit']), jnp.asarray(index), side), 'index': index}

  return Split(name, len(digits), {'digit': digits}, fetch, (side, side, digits.shape[3]))


def _pairs(digits: jax.Array, index: jax.Array, side: int) -> jax.Array:
  """Draws the examples, uint8 [B, A, A, C]; where digits overlap, pixels are added, at most to 255."""
  count, height, width, _ = digits.shape
  words = words16(jax.random.key(0), index, 6)
  other = (index.astype(jnp.uint32) + 1 + (words[:, 0] * 65536 + words[:, 1]) % (count - 1)) % count
  top, left = words[:, 2:4] % (side - height + 1), words[:, 4:6] % (side - width + 1)
  first, second = (
    jax.vmap(_place, (0, 0, 0, None))(digits[own], top[:, i], left[:, i], side) for i, own in enumerate((index, other))
  )
  return jnp.minimum(first + second, 255).astype(jnp.uint8)


def _place(digit: jax.Array, top: jax.Array, left: jax.Array, side: int) -> jax.Array:
  """Puts a digit [h, w, C] on a black square, int32 [A, A, C]."""
  square = jnp.zeros((side, side, digit.shape[-1]), jnp.int32)
  at = (top.astype(jnp.int32), left.astype(jnp.int32), jnp.int32(0))
  return jax.lax.dynamic_update_slice(square, digit.astype(jnp.int32), at)
