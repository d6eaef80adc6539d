"""Vector quantization: nearest codes, straight-through gradients, restarts of dead codes, features of a network.

Axes: ... any leading axes, N vectors of a batch, D features of a vector, K codes.
"""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

__all__ = ['FeatureQuantizer', 'k_means', 'nearest', 'restart', 'straight_through']

LIMIT = 2**21  # distances in memory at a time: 8 MB, about the size of a CPU's caches and enough work for a GPU


def nearest(
  z: Float[Array, '*B D'], codebook: Float[Array, 'K D'], limit: int = LIMIT, centre: Float[Array, ' D'] | None = None
) -> Int[Array, '*B']:
  """Returns the code whose vector is nearest; of equally near ones the first.

  Slices of the vectors are compared with the whole codebook in turn. Slices have a stride, so that vectors that are
  spread over devices stay where they are.

  Args:
    z: [..., D]; no gradient passes.
    codebook: [K, D].
    limit: the most of the N K distances in memory at a time, though never fewer than one vector's K.
    centre: a point near the vectors, from which all is measured; None for the mean code. Codes that are far away, such
      as those that no vector has, would take the digits of the near ones.

  Returns:
    [...] int32 in [0, K).

  Reference: van den Oord et al. 2017, arXiv:1711.00937, equation 1.
  """
  z, codebook = jax.lax.stop_gradient((z.astype(jnp.float32), codebook.astype(jnp.float32)))
  flat, size = z.reshape(-1, z.shape[-1]), codebook.shape[0]
  # Relative to the mean code: far from zero, products in float32 have no digits left for differences.
  middle = codebook.mean(0, keepdims=True) if centre is None else centre[None]
  codebook, count = codebook - middle, flat.shape[0]
  slices = next((n for n in range(1, count) if count % n == 0 and count // n * size <= limit), max(count, 1))
  # Half of |z - e|^2 less |z|^2, which all codes share.
  norms = 0.5 * jnp.square(codebook).sum(-1)[None]
  one = lambda rows: _first_least(norms - jnp.matmul(rows - middle, codebook.T, precision='highest'))
  if slices == 1:
    return one(flat).reshape(z.shape[:-1])
  codes = jax.lax.map(one, flat.reshape(-1, slices, flat.shape[-1]).swapaxes(0, 1))
  return codes.swapaxes(0, 1).reshape(z.shape[:-1])


def _first_least(distances: Float[Array, 'N K']) -> Int[Array, ' N']:
  """Computes `argmin` of each row in two passes, which a CPU vectorises, unlike an argmin."""
  least = distances.min(-1, keepdims=True)
  number = jax.lax.broadcasted_iota(jnp.int32, distances.shape, 1)
  first = jnp.where(distances == least, number, distances.shape[1]).min(-1)
  return jnp.minimum(first, distances.shape[1] - 1)  # also if the distances are NaN


def straight_through(z: Float[Array, '*B D'], vectors: Float[Array, '*B D']) -> Float[Array, '*B D']:
  """Returns the vectors; their gradient passes unchanged to z.

  Reference: van den Oord et al. 2017, arXiv:1711.00937, section 3.2.
  """
  return jax.lax.stop_gradient(vectors) + (z - jax.lax.stop_gradient(z))


def restart(
  key: Array, counts: Float[Array, ' K'], sums: Float[Array, 'K D'], z: Float[Array, '*B D'], least: float
) -> tuple[Float[Array, ' K'], Float[Array, 'K D']]:
  """Replaces codes that have hardly any vectors by random vectors of the batch.

  Args:
    key: random key.
    counts: running counts.
    sums: running sums; a code is sums / counts.
    z: the batch; no gradient passes.
    least: a code is dead if its count is less than this share of the mean count. Its new count is the mean count, so
      that it has time to collect vectors before it may be dead again.

  Returns:
    counts and sums.

  Reference: Dhariwal et al. 2020, arXiv:2005.00341, section 3.1 (there with a share of one).
  """
  flat = jax.lax.stop_gradient(z).astype(jnp.float32).reshape(-1, z.shape[-1])
  even = counts.mean()
  dead = counts < least * even
  fresh = flat[jax.random.randint(key, counts.shape, 0, flat.shape[0])]
  return jnp.where(dead, even, counts), jnp.where(dead[:, None], even * fresh, sums)


def k_means(key: Array, z: Float[Array, '*B D'], size: int, steps: int = 10) -> Float[Array, 'K D']:
  """Returns a codebook fitted to a batch: random vectors of it, then `steps` steps of Lloyd's; empty codes stay.

  Reference: Lloyd 1982, Least squares quantization in PCM.
  """
  flat = jax.lax.stop_gradient(z).astype(jnp.float32).reshape(-1, z.shape[-1])
  if flat.shape[0] >= size:
    index = jax.random.choice(key, flat.shape[0], (size,), replace=False)
  else:
    index = jax.random.randint(key, (size,), 0, flat.shape[0])

  def step(codebook: Array, _) -> tuple[Array, None]:
    codes = nearest(flat, codebook)
    hits = jnp.zeros(size).at[codes].add(1.0)[:, None]
    sums = jnp.zeros(codebook.shape).at[codes].add(flat)
    return jnp.where(hits > 0, sums / jnp.maximum(hits, 1), codebook), None

  return jax.lax.scan(step, flat[index], None, length=steps)[0]


class FeatureQuantizer(nn.Module):
  """Draws the vectors of a map [B, ..., D] to their nearest codes, which follow the vectors by running means.

  The collection 'codebook' holds running counts [K] and sums [K, D], of which the codes are `vectors`. If it is
  mutable, the counts and sums of this batch are written there: averaging them is the caller's work, as for batch
  statistics. What pays for the distance is sown as 'commitment', [B]: `commitment` times the mean square over
  positions and features. The codes are sown as 'codes'.

  With `feed` the codes go on, and their gradient passes to x unchanged. Without, x itself goes on, as in the program.

  Reference: Zhao et al. 2020, arXiv:2004.02088, equations 4 to 7, and its program.
  """

  codes: int
  commitment: float
  vectors: Callable  # (counts [K], sums [K, D]) -> codes [K, D], `losses.codebook_vectors`
  feed: bool = False
  start: float = 1.0  # count that each code begins with
  deviation: float = 1.0  # of the codes that it begins with

  @nn.compact
  def __call__(self, x: Float[Array, 'B *S D']) -> Float[Array, 'B *S D']:
    size = x.shape[-1]
    start = lambda: self.deviation * jax.random.normal(self.make_rng('params'), (self.codes, size))
    counts = self.variable('codebook', 'counts', lambda: jnp.full(self.codes, self.start, jnp.float32))
    sums = self.variable('codebook', 'sums', start)
    h = x.astype(jnp.float32)
    # Counts of zero hold no mean yet: the sums are the first codes.
    codebook = jnp.where(counts.value.sum() > 0, self.vectors(counts.value, sums.value), sums.value)
    total = counts.value.sum()
    centre = sums.value.sum(0) / jnp.where(total > 0, total, self.codes)  # the vectors' running mean
    codes = nearest(h, codebook, centre=jax.lax.stop_gradient(centre))
    near = codebook[codes]
    apart = jnp.square(h - near).mean(tuple(range(1, h.ndim)))
    self.sow('commitment', 'value', self.commitment * apart)
    self.sow('codes', 'codes', codes)
    if self.is_mutable_collection('codebook') and not self.is_initializing():
      flat = jax.lax.stop_gradient(h).reshape(-1, size)
      counts.value = jnp.zeros(self.codes).at[codes.reshape(-1)].add(1.0)
      sums.value = jnp.zeros((self.codes, size)).at[codes.reshape(-1)].add(flat)
    return straight_through(h, near).astype(x.dtype) if self.feed else x
