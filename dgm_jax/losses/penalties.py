"""Penalties and constraints that keep a critic or a generator smooth; a critic is [B, ...] -> [B]."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Float32, Key, Num, PyTree

from dgm_jax.internal import shapes

__all__ = ['Critic', 'clip_parameters', 'gradient_penalty', 'orthogonal_regularization', 'path_length', 'r1_penalty']

Critic = Callable[[Array], Float[Array, ' B']]


def gradient_penalty(
  critic: Critic,
  real: Float[ArrayLike, 'B *S'],
  fake: Float[ArrayLike, 'B *S'],
  key: Key[Array, ''],
  *,
  target: Num[ArrayLike, ''] = 1.0,
) -> Float32[Array, ' B']:
  """Computes the squared distance of the critic's slope from `target` between real and generated examples, per pair.

  It is (|grad critic(e x + (1 - e) y)| - target)^2 with one uniform e an example, the norm over all axes but the first.
  A slope of exactly zero passes no gradient instead of NaN.

  Args:
    critic: [B, ...] -> [B], each value of its own example alone (no batch normalisation).
    real: [B, ...].
    fake: [B, ...].
    key: random key.
    target: [] slope.

  Returns:
    [B], float32; the caller's weight is 10.

  Raises:
    ValueError: the shapes of real and fake differ, target is no scalar, or the critic's values are not [B].

  Reference: Gulrajani et al. 2017, arXiv:1704.00028, equation 3.
  """
  real, fake, target = shapes.float32('real[B, ...] fake[B, ...] target[]', real, fake, target)
  mix = jax.random.uniform(key, (real.shape[0], *(1,) * (real.ndim - 1)))
  return jnp.square(_norm(_slope(critic, mix * real + (1 - mix) * fake)) - target)


def r1_penalty(critic: Critic, real: Float[ArrayLike, 'B *S']) -> Float32[Array, ' B']:
  """Computes half the squared slope of the critic at real examples, per example, summed over all axes but the first.

  Args:
    critic: [B, ...] -> [B], each value of its own example alone; logits, not probabilities.
    real: [B, ...].

  Returns:
    [B], float32; the caller's weight is the paper's gamma, about 10.

  Raises:
    ValueError: real has no batch axis, or the critic's values are not [B].

  Reference: Mescheder et al. 2018, arXiv:1801.04406, equation 9.
  """
  (real,) = shapes.float32('real[B, ...]', real)
  return 0.5 * _squares(_slope(critic, real))


def clip_parameters(
  params: PyTree[Float[ArrayLike, '...']], *, bound: Num[ArrayLike, '']
) -> PyTree[Float[Array, '...']]:
  """Clips every parameter to [-bound, bound], after a critic's step.

  Args:
    params: tree of arrays.
    bound: [] > 0, such as 0.01.

  Returns:
    the tree, with the same types.

  Raises:
    ValueError: bound is no scalar.

  Reference: Arjovsky et al. 2017, arXiv:1701.07875, algorithm 1.
  """
  (bound,) = shapes.float32('bound[]', bound)
  return jax.tree.map(lambda p: jnp.clip(p, -bound, bound).astype(jnp.result_type(p)), params)


def orthogonal_regularization(params: PyTree[Float[ArrayLike, '...']]) -> Float32[Array, '']:
  """Computes the squared inner products of different output units' weights, summed over a tree of parameters.

  It is |W^T W * (1 - I)|^2 for every array of two axes or more, the last of which is the output. Biases and gains, of
  fewer axes, are excluded.

  Args:
    params: tree of arrays, kernels as [..., inputs, outputs].

  Returns:
    [], float32; the caller's weight is 1e-4.

  Raises:
    ValueError: no array of the tree has two axes.

  Reference: Brock et al. 2019, arXiv:1809.11096, equation 3.
  """
  kernels = [kernel for kernel in jax.tree.leaves(params) if jnp.ndim(kernel) >= 2]
  if not kernels:
    every = [jnp.shape(leaf) for leaf in jax.tree.leaves(params)]
    raise ValueError(f'params: got arrays of shapes {every}, expected one kernel [..., inputs, outputs] or more')
  return sum((_off_diagonal(jnp.asarray(kernel, jnp.float32)) for kernel in kernels), jnp.zeros(()))


def path_length(
  generator: Callable[[Array], Float[Array, 'B *S']], latents: Float[ArrayLike, 'B D'], key: Key[Array, '']
) -> Float32[Array, ' B']:
  """Computes the length of the image's step for a step in the latent space, in a random direction, per example.

  It is |J^T y| with J = d generator / d latents and y normal with variance 1 / (H W). The penalty is its squared
  distance from a constant, the moving average of its mean.

  Args:
    generator: [B, D] -> [B, H, W, C] (or any shape with a first axis B), each of its own latent alone.
    latents: [B, D].
    key: random key.

  Returns:
    [B], float32.

  Raises:
    ValueError: latents is not [B, D], or the generator's first axis is not B.

  Reference: Karras et al. 2020, arXiv:1912.04958, equation 4.
  """
  (latents,) = shapes.float32('latents[B, D]', latents)

  def projection(latents: Array) -> Array:
    images = jnp.asarray(generator(latents), jnp.float32)
    if images.shape[:1] != latents.shape[:1]:
      raise ValueError(f'generator(latents): got shape {images.shape}, expected [{latents.shape[0]}, ...]')
    pixels = math.prod(images.shape[1:-1])
    return jnp.sum(images * jax.random.normal(key, images.shape)) / math.sqrt(pixels)

  return _norm(jax.grad(projection)(latents))


def _slope(critic: Critic, x: Array) -> Array:
  """Computes the gradient of each example's critic value, [B, ...]."""

  def total(x: Array) -> Array:
    values = critic(x)
    if jnp.shape(values) != x.shape[:1]:
      raise ValueError(f'critic(x): got shape {jnp.shape(values)}, expected [B] = {x.shape[:1]}')
    return jnp.sum(values.astype(jnp.float32))

  return jax.grad(total)(x)


def _squares(x: Array) -> Array:
  """Sums the squares over all axes but the first, [B]."""
  return jnp.sum(jnp.square(x), tuple(range(1, x.ndim)))


def _norm(x: Array) -> Array:
  """Computes the Euclidean norm over all axes but the first, [B], with gradient zero at zero."""
  squares = _squares(x)
  positive = squares > 0
  return jnp.where(positive, jnp.sqrt(jnp.where(positive, squares, 1.0)), 0.0)


def _off_diagonal(kernel: Array) -> Array:
  columns = kernel.reshape(-1, kernel.shape[-1])
  gram = jnp.matmul(columns.T, columns, precision='highest')
  return jnp.sum(jnp.square(gram * (1 - jnp.eye(gram.shape[0]))))
