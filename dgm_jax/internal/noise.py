"""Cheap random numbers for the inner loop: 16-bit words for pixels, normal noise for latents.

`jax.random` runs Threefry on a CPU as a loop over memory, and `bits` returns half of its
output. Here the same cipher is written out, so that XLA fuses all twenty rounds into one
vectorized pass, and all of its output is used. Counters are indices, so that an array
that is sharded over devices gets the numbers it would have got on one.

Outside a program each call is one program; inside another it leaves no mark.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ['standard_normal', 'uniform', 'words16']

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))


def threefry(key: tuple[jax.Array, jax.Array], counter: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
  """Computes Threefry-2x32 with 20 rounds: two words that are random for each key and counter.

  Args:
    key: two arrays uint32 [...].
    counter: two arrays uint32 [...], of the key's shape.

  Returns:
    Two arrays uint32 [...].

  Reference:
    Salmon, Moraes, Dror and Shaw, Parallel Random Numbers: As Easy as 1, 2, 3, SC 2011, section 4.2.
  """
  keys = (*key, key[0] ^ key[1] ^ np.uint32(0x1BD11BDA))
  a, b = counter[0] + keys[0], counter[1] + keys[1]
  for group in range(5):
    for distance in _ROTATIONS[group % 2]:
      a = a + b
      b = a ^ ((b << np.uint32(distance)) | (b >> np.uint32(32 - distance)))
    a = a + keys[(group + 1) % 3]
    b = b + keys[(group + 2) % 3] + np.uint32(group + 1)
  return a, b


@functools.partial(jax.jit, static_argnums=2, inline=True)
def words16(key: jax.Array, rows: jax.Array, length: int) -> jax.Array:
  """Generates uniform 16-bit words, a pure function of the key, the row's number and the column.

  Every row depends on its own number alone. Hence a batch that is sharded over devices has the same words as on one
  device, and the devices do not communicate.

  Args:
    key: one PRNG key of any implementation.
    rows: integers [B], the numbers of the rows.
    length: n, words a row.

  Returns:
    uint32 [B, n], each in [0, 65536).
  """
  shape = (rows.shape[0], -(-length // 4))
  words = _words(key)
  row = jnp.broadcast_to(rows.astype(jnp.uint32)[:, None], shape)
  column = jax.lax.broadcasted_iota(jnp.uint32, shape, 1)
  pair = threefry((jnp.broadcast_to(words[0], shape), jnp.broadcast_to(words[1], shape)), (row, column))
  halves = jax.lax.bitcast_convert_type(jnp.concatenate(pair, axis=1), jnp.uint16)
  return halves.reshape(shape[0], -1)[:, :length].astype(jnp.uint32)


@functools.partial(jax.jit, static_argnums=1, inline=True)
def standard_normal(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
  """Samples N(0, 1) independently, by the inverse of the distribution function at 23-bit midpoints.

  Args:
    key: one PRNG key of any implementation.
    shape: of the result.

  Returns:
    float32 of that shape, within +-5.3; positive and negative values mirror each other exactly.
  """
  return (np.float32(math.sqrt(2)) * jax.lax.erf_inv(2 * _units(key, shape) - np.float32(1 - 2**-23))).reshape(shape)


@functools.partial(jax.jit, static_argnums=1, inline=True)
def uniform(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
  """Samples numbers between 0 and 1 independently, 23-bit midpoints, of which none is 0 or 1.

  Args:
    key: one PRNG key of any implementation.
    shape: of the result.

  Returns:
    float32 of that shape.
  """
  return (_units(key, shape) + np.float32(2**-24)).reshape(shape)


def _units(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
  """Samples multiples of 2^-23 in [0, 1) uniformly."""
  *rows, length = shape or (1,)
  half = (*rows, -(-length // 2))
  words = _words(key)
  row = jnp.broadcast_to(jnp.arange(math.prod(rows), dtype=jnp.uint32).reshape(*rows, 1), half)
  column = jax.lax.broadcasted_iota(jnp.uint32, half, len(rows))
  pair = threefry((jnp.broadcast_to(words[0], half), jnp.broadcast_to(words[1], half)), (row, column))
  bits = jnp.concatenate(pair, -1)[..., :length]
  return jax.lax.bitcast_convert_type((bits >> 9) | np.uint32(0x3F800000), jnp.float32) - 1


def _words(key: jax.Array) -> jax.Array:
  """Returns two words for the key, uint32 [2]: those of a Threefry key, or words sampled from any other key."""
  own = jax.random.key_data(key)
  return own if own.shape == (2,) else jax.random.bits(key, (2,), jnp.uint32)
