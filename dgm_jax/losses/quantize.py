"""Vector quantization: nearest codes, their losses and their running means."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Float32, Int, Num

from dgm_jax.distributions import stable
from dgm_jax.internal import shapes

__all__ = [
  'Codebook', 'Quantized', 'codebook_ema', 'codebook_loss', 'codebook_vectors', 'commitment_loss', 'perplexity',
  'vector_quantize',
]  # fmt: skip

_LAPLACE = 1e-5


class Quantized(NamedTuple):
  """The nearest codes of a batch of vectors."""

  codes: jax.Array  # [...] int32
  vectors: jax.Array  # [..., D] the codes' vectors; their gradient passes straight to z


class Codebook(NamedTuple):
  """A codebook with its running means."""

  counts: jax.Array  # [K] running mean of the number of vectors of a code
  sums: jax.Array  # [K, D] running mean of the sum of those vectors
  vectors: jax.Array  # [K, D] the codebook


def vector_quantize(z: Float[ArrayLike, '*B D'], codebook: Float[ArrayLike, 'K D']) -> Quantized:
  """Replaces every vector by the nearest of a codebook.

  The gradient passes straight through to z, none to the codebook.

  Args:
    z: [..., D], the vectors on the last axis.
    codebook: [K, D].

  Returns:
    codes [...] int32 and vectors [..., D] float32.

  Raises:
    ValueError: D differs, or the codebook is empty.

  Reference: van den Oord et al. 2017, arXiv:1711.00937, equations 1 and 2.
  """
  z, codebook = shapes.float32('z[..., D] codebook[K, D]', z, codebook)
  shapes.enough(1, 'code', codebook=codebook)
  fixed = jax.lax.stop_gradient(codebook)
  # Relative to the mean code: far from zero, products in float32 have no digits left for differences.
  centre = fixed.mean(0, keepdims=True)
  near, flat = fixed - centre, jax.lax.stop_gradient(z).reshape(-1, z.shape[-1]) - centre
  # |z - e|^2 less |z|^2, which all codes share.
  distances = jnp.sum(jnp.square(near), -1)[None] - 2 * jnp.matmul(flat, near.T, precision='highest')
  codes = jnp.argmin(distances, -1).astype(jnp.int32).reshape(z.shape[:-1])
  nearest = fixed[codes]
  return Quantized(codes, nearest + (z - jax.lax.stop_gradient(z)))


def codebook_loss(
  z: Float[ArrayLike, '*B D'], codebook: Float[ArrayLike, 'K D'], codes: Int[ArrayLike, '*B']
) -> Float32[Array, '*B']:
  """Computes the squared distance of a code from its vectors, summed over the last axis; moves the codebook only.

  Args:
    z: [..., D].
    codebook: [K, D].
    codes: [...] in [0, K); others give NaN.

  Returns:
    [...], float32; divide by D for the mean form of some programs.

  Raises:
    ValueError: the shapes differ.

  Reference: van den Oord et al. 2017, arXiv:1711.00937, equation 3, second term.
  """
  shapes.check('z[..., D] codebook[K, D] codes[...]', z, codebook, codes)
  z, codebook = jnp.asarray(z, jnp.float32), jnp.asarray(codebook, jnp.float32)
  return jnp.sum(jnp.square(jax.lax.stop_gradient(z) - _vectors(codebook, codes)), -1)


def commitment_loss(
  z: Float[ArrayLike, '*B D'], codebook: Float[ArrayLike, 'K D'], codes: Int[ArrayLike, '*B']
) -> Float32[Array, '*B']:
  """Computes the squared distance of vectors from their code, summed over the last axis; moves z only.

  Args:
    z: [..., D].
    codebook: [K, D].
    codes: [...] in [0, K); others give NaN.

  Returns:
    [...], float32; the caller's weight is 0.25.

  Raises:
    ValueError: the shapes differ.

  Reference: van den Oord et al. 2017, arXiv:1711.00937, equation 3, third term.
  """
  shapes.check('z[..., D] codebook[K, D] codes[...]', z, codebook, codes)
  z, codebook = jnp.asarray(z, jnp.float32), jnp.asarray(codebook, jnp.float32)
  return jnp.sum(jnp.square(z - _vectors(jax.lax.stop_gradient(codebook), codes)), -1)


def codebook_ema(
  counts: Float[ArrayLike, ' K'],
  sums: Float[ArrayLike, 'K D'],
  z: Float[ArrayLike, '*B D'],
  codes: Int[ArrayLike, '*B'],
  *,
  decay: Num[ArrayLike, ''],
) -> Codebook:
  """Moves every code towards the mean of its vectors; decay 0 is one step of k-means.

  A code is sums / counts, the counts smoothed by Laplace's rule. The initial counts should be one and the initial sums
  the codebook. From counts of zero, a code without a vector in the first batch would move far away.

  Args:
    counts: [K] running counts.
    sums: [K, D] running sums.
    z: [..., D] vectors of this batch; no gradient passes.
    codes: [...] their codes in [0, K); vectors with others are excluded.
    decay: [] in [0, 1), such as 0.99.

  Returns:
    counts [K], sums [K, D] and vectors [K, D], float32.

  Raises:
    ValueError: the shapes differ, or decay is no scalar.

  Reference: van den Oord et al. 2017, arXiv:1711.00937, appendix A.1; Razavi et al. 2019, arXiv:1906.00446, equation 3.
  """
  shapes.check('counts[K] sums[K, D] z[..., D] codes[...] decay[]', counts, sums, z, codes, decay)
  counts, sums, z, decay = (jnp.asarray(a, jnp.float32) for a in (counts, sums, jax.lax.stop_gradient(z), decay))
  size = counts.shape[0]
  # Added in place: a product with one-hot rows takes as long as the search for the codes, and memory for N K values.
  # A GPU adds in no fixed order, so that the last bits may differ from run to run (--xla_gpu_deterministic_ops).
  codes = stable.inside(codes, size).reshape(-1)
  new_sums = jnp.zeros(sums.shape).at[codes].add(z.reshape(-1, z.shape[-1]))
  counts = decay * counts + (1 - decay) * jnp.zeros(size).at[codes].add(1.0)
  sums = decay * sums + (1 - decay) * new_sums
  return Codebook(counts, sums, codebook_vectors(counts, sums))


def codebook_vectors(counts: Float[ArrayLike, ' K'], sums: Float[ArrayLike, 'K D']) -> Float32[Array, 'K D']:
  """Computes the codebook from running means: sums / counts, the counts smoothed by Laplace's rule.

  If all counts are 0, the codebook is 0.

  Args:
    counts: [K] running counts.
    sums: [K, D] running sums.

  Returns:
    [K, D], float32.

  Raises:
    ValueError: the shapes differ.

  Reference: van den Oord et al. 2017, arXiv:1711.00937, appendix A.1 (smoothed as its programs do).
  """
  counts, sums = shapes.float32('counts[K] sums[K, D]', counts, sums)
  total = counts.sum()
  smoothed = (counts + _LAPLACE) / (total + counts.shape[0] * _LAPLACE) * total
  return jnp.where(total > 0, sums / jnp.where(total > 0, smoothed, 1.0)[:, None], 0.0)


def perplexity(codes: Int[ArrayLike, '*B'], size: int) -> Float32[Array, '']:
  """Computes the exponential of the entropy of the codes, over all axes: the effective number of codes in the batch.

  Args:
    codes: [...] in [0, size); if one is not, the result is NaN.
    size: number of codes of the codebook.

  Returns:
    [] in [1, size], float32.

  Raises:
    ValueError: there is no code.

  Reference: van den Oord et al. 2017, arXiv:1711.00937, section 4 (as its programs report).
  """
  codes = jnp.asarray(codes)
  if not codes.size:  # on any axis
    raise ValueError(f'codes: got shape {codes.shape}, expected one code or more')
  share = jnp.zeros(size + 1).at[stable.inside(codes, size).reshape(-1)].add(1.0) / codes.size
  value = jnp.exp(jnp.sum(jax.scipy.special.entr(share)))
  return jnp.where(share[size] > 0, jnp.nan, value)


def _vectors(codebook: Array, codes: ArrayLike) -> Array:
  """Looks up the vector of each code, [..., D]; NaN for a code outside the codebook."""
  return codebook.at[stable.inside(codes, codebook.shape[0])].get(mode='fill', fill_value=jnp.nan)
