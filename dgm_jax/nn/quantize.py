"""Vector quantization: nearest codes, the gradient past them, codes brought back to life.

Axes: ... any leading axes, N vectors of a batch, D features of a vector, K codes.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

__all__ = ['k_means', 'nearest', 'restart', 'straight_through']

HELD = 2**21  # distances held at a time: 8 MB, about what a CPU's caches hold and enough to keep a GPU busy


def nearest(z: Float[Array, '*B D'], codebook: Float[Array, 'K D'], held: int = HELD) -> Int[Array, '*B']:
  """The code whose vector is nearest; of equally near ones the first.

  Slices of the vectors are compared with the whole codebook in turn. They are taken with a stride, so that vectors
  that are spread over devices stay where they are.

  Args:
    z: [..., D]; no gradient passes.
    codebook: [K, D].
    held: at most so many of the N K distances are in memory at a time, though never fewer than one vector's K.

  Returns: [...] int32 in [0, K).

  Reference: van den Oord et al. 2017, arXiv:1711.00937, equation 1.
  """
  z, codebook = jax.lax.stop_gradient((z.astype(jnp.float32), codebook.astype(jnp.float32)))
  flat, size = z.reshape(-1, z.shape[-1]), codebook.shape[0]
  # Seen from the mean code: far from zero, products of float32 have no digits left for differences.
  centre = codebook.mean(0, keepdims=True)
  codebook, count = codebook - centre, flat.shape[0]
  slices = next((n for n in range(1, count) if count % n == 0 and count // n * size <= held), max(count, 1))
  # Half of |z - e|^2 less |z|^2, which all codes share.
  norms = 0.5 * jnp.square(codebook).sum(-1)[None]
  one = lambda rows: _first_least(norms - jnp.matmul(rows - centre, codebook.T, precision='highest'))
  if slices == 1:
    return one(flat).reshape(z.shape[:-1])
  codes = jax.lax.map(one, flat.reshape(-1, slices, flat.shape[-1]).swapaxes(0, 1))
  return codes.swapaxes(0, 1).reshape(z.shape[:-1])


def _first_least(distances: Float[Array, 'N K']) -> Int[Array, ' N']:
  """`argmin` of each row in two passes, which a CPU makes with vector instructions, as it does not an argmin."""
  least = distances.min(-1, keepdims=True)
  number = jax.lax.broadcasted_iota(jnp.int32, distances.shape, 1)
  found = jnp.where(distances == least, number, distances.shape[1]).min(-1)
  return jnp.minimum(found, distances.shape[1] - 1)  # also where the distances are not numbers


def straight_through(z: Float[Array, '*B D'], vectors: Float[Array, '*B D']) -> Float[Array, '*B D']:
  """The vectors, whose gradient is handed to z as it is.

  Reference: van den Oord et al. 2017, arXiv:1711.00937, section 3.2.
  """
  return jax.lax.stop_gradient(vectors) + (z - jax.lax.stop_gradient(z))


def restart(
  key: Array, counts: Float[Array, ' K'], sums: Float[Array, 'K D'], z: Float[Array, '*B D'], least: float
) -> tuple[Float[Array, ' K'], Float[Array, 'K D']]:
  """Puts codes that hardly any vector is given to where random vectors of the batch are.

  Args:
    key: random key.
    counts: running counts.
    sums: running sums; a code is sums / counts.
    z: the batch; no gradient passes.
    least: a code is dead when its count is less than this share of the mean count. It starts again with the mean
      count, so that it has time to be found before it may be declared dead again.

  Returns: counts and sums.

  Reference: Dhariwal et al. 2020, arXiv:2005.00341, section 3.1 (there with a share of one).
  """
  flat = jax.lax.stop_gradient(z).astype(jnp.float32).reshape(-1, z.shape[-1])
  even = counts.mean()
  dead = counts < least * even
  fresh = flat[jax.random.randint(key, counts.shape, 0, flat.shape[0])]
  return jnp.where(dead, even, counts), jnp.where(dead[:, None], even * fresh, sums)


def k_means(key: Array, z: Float[Array, '*B D'], size: int, steps: int = 10) -> Float[Array, 'K D']:
  """A codebook from a batch: random vectors of it, then so many steps of Lloyd's; a code that gets none stays.

  Reference: Lloyd 1982, Least squares quantization in PCM.
  """
  flat = jax.lax.stop_gradient(z).astype(jnp.float32).reshape(-1, z.shape[-1])
  if flat.shape[0] >= size:
    chosen = jax.random.choice(key, flat.shape[0], (size,), replace=False)
  else:
    chosen = jax.random.randint(key, (size,), 0, flat.shape[0])

  def step(codebook: Array, _) -> tuple[Array, None]:
    codes = nearest(flat, codebook)
    hits = jnp.zeros(size).at[codes].add(1.0)[:, None]
    sums = jnp.zeros(codebook.shape).at[codes].add(flat)
    return jnp.where(hits > 0, sums / jnp.maximum(hits, 1), codebook), None

  return jax.lax.scan(step, flat[chosen], None, length=steps)[0]
