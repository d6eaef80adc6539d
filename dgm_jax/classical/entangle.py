"""A map that keeps a factorised prior and mixes all factors: disentanglement needs more than the data's density.

The map is f = g^-1 h^-1 A h g. g maps each factor to a uniform variable, h each uniform variable to a normal one, and A
is a rotation without a zero entry. f(z) has the distribution of z, and all its partial derivatives are non-zero. A
decoder composed with the inverse of f then gives the same images from codes that are entangled.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import ndtr, ndtri

__all__ = ['EXPONENTIAL', 'LOGISTIC', 'NORMAL', 'UNIFORM', 'entangle', 'householder']


class Marginal(NamedTuple):
  """The distribution of one factor."""

  cdf: Callable[[jax.Array], jax.Array]
  quantile: Callable[[jax.Array], jax.Array]


def _identity(u: jax.Array) -> jax.Array:
  return u


def _logit(p: jax.Array) -> jax.Array:
  return jnp.log(p) - jnp.log1p(-p)


def _exponential_cdf(u: jax.Array) -> jax.Array:
  return -jnp.expm1(-u)


def _exponential_quantile(p: jax.Array) -> jax.Array:
  return -jnp.log1p(-p)


UNIFORM = Marginal(cdf=_identity, quantile=_identity)
NORMAL = Marginal(cdf=ndtr, quantile=ndtri)
LOGISTIC = Marginal(cdf=jax.nn.sigmoid, quantile=_logit)
EXPONENTIAL = Marginal(cdf=_exponential_cdf, quantile=_exponential_quantile)


def householder(dims: int, alpha: float) -> jax.Array:
  """Returns a reflection I - 2 v v^T without a zero entry, [D, D], one for every alpha in (0, 1/2).

  v_1 = sqrt(alpha), v_i = sqrt((1 - alpha) / (D - 1)).

  Raises:
    ValueError: dims is below 2, or alpha is not in (0, 1/2).

  Reference: Locatello et al. 2019, arXiv:1811.12359, proof of theorem 1.
  """
  if dims < 2 or not 0 < alpha < 0.5:
    raise ValueError(f'householder takes dims >= 2 and alpha in (0, 1/2), got {dims} and {alpha}')
  v = jnp.full(dims, jnp.sqrt((1 - alpha) / (dims - 1))).at[0].set(jnp.sqrt(alpha))
  return jnp.eye(dims) - 2 * jnp.outer(v, v)


def entangle(z: jax.Array, marginals: Sequence[Marginal], rotation: jax.Array) -> jax.Array:
  """Computes f(z), [..., D], which has the distribution of z if its factors are independent with these marginals.

  Args:
    z: [..., D] inside the support.
    marginals: D of them.
    rotation: [D, D] orthogonal; its transpose gives the inverse of f.

  Reference: Locatello et al. 2019, arXiv:1811.12359, theorem 1.
  """
  normal = ndtri(_each([marginal.cdf for marginal in marginals], z))
  rotated = jnp.einsum('ij,...j->...i', rotation, normal, precision='highest')
  return _each([marginal.quantile for marginal in marginals], ndtr(rotated))


def _each(functions: Sequence[Callable], z: jax.Array) -> jax.Array:
  return jnp.stack([function(z[..., i]) for i, function in enumerate(functions)], -1)
