"""The map that keeps a factorised prior and mixes all its factors."""

import jax
import jax.numpy as jnp
import numpy as np

from dgm_jax.classical import entangle
from dgm_jax.pages.topics import drawing
from dgm_jax.pages.topics.page import Figures, Row, Topic

__all__ = ['impossibility']

ALPHA, N = 0.3, 100_000
KNOWN = {2: (0.4, 0.385, -0.384), 5: (0.35, 0.384, 0.634), 10: (0.156, 0.383, 0.830)}  # least |A_ij|, correlations


def impossibility() -> Topic:
  """Checks that the distribution stays the same although every partial derivative is non-zero.

  The factors are uniform ones, and factors of four kinds.
  """
  with jax.enable_x64(True):
    rows, partials = [], []
    for dims in KNOWN:
      rows += _uniform(dims)
      partials.append([f'{dims} uniform factors', _least_partial(dims)])
    rows.append(_mixed())
    picture = _picture()
  return Topic(
    'Unsupervised disentanglement is impossible',
    'f = g^-1 h^-1 A h g takes factors to uniform, to normal variables, turns them, and back. f(z) has the distribution'
    ' of z, so that no likelihood can tell the factors from their mixtures. The pictures have the same points of the'
    ' unit square before and after f, coloured by the first factor of z.',
    rows=rows,
    figures=[Figures('least |df_i / dz_j| at 2000 points', ('', 'never zero'), partials)],
    pictures={'uniform factors, before and after': picture},
  )


def _uniform(dims: int) -> list[Row]:
  least, *correlations = KNOWN[dims]
  rotation = entangle.householder(dims, ALPHA)
  z = np.random.default_rng(0).random((N, dims))
  image = np.asarray(entangle.entangle(jnp.asarray(z), [entangle.UNIFORM] * dims, rotation))
  steps = np.arange(N) / N
  distance = max(max(np.abs(np.sort(u) - steps).max(), np.abs(np.sort(u) - steps - 1 / N).max()) for u in image.T)
  dependence = np.abs(np.corrcoef(image.T) - np.eye(dims)).max()
  return [
    Row(f'{dims} factors: least |A_ij|', least, float(jnp.abs(rotation).min()), 1e-3),
    Row(f'{dims} factors: Kolmogorov-Smirnov distance of the marginals', 0.0, float(distance), 0.0065),
    Row(f'{dims} factors: largest correlation of two outputs', 0.0, float(dependence), 0.013),
    *(
      Row(
        f'{dims} factors: correlation of z_{i + 1} and f_{i + 1}', correlation, _correlation(z[:, i], image[:, i]), 0.01
      )
      for i, correlation in enumerate(correlations)
    ),
  ]


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
  return float(np.corrcoef(a, b)[0, 1])


def _mixed() -> Row:
  """Checks p(f(z)) |det df/dz| = p(z) point by point.

  The factors are a uniform, a normal, an exponential and a logistic one.
  """
  marginals = [entangle.UNIFORM, entangle.NORMAL, entangle.EXPONENTIAL, entangle.LOGISTIC]
  uniform = jnp.asarray(np.random.default_rng(1).random((200, 4)))
  z = jnp.stack([marginal.quantile(uniform[:, i]) for i, marginal in enumerate(marginals)], 1)
  f = lambda z: entangle.entangle(z, marginals, entangle.householder(4, ALPHA))
  log_p = lambda z: sum(jnp.log(jax.vmap(jax.grad(marginal.cdf))(z[:, i])) for i, marginal in enumerate(marginals))
  jacobian = jax.jit(jax.vmap(jax.jacfwd(f)))(z)
  error = log_p(f(z)) + jnp.linalg.slogdet(jacobian)[1] - log_p(z)
  return Row('four kinds of factors: |log p(f(z)) + log |det| - log p(z)|', 0.0, float(jnp.abs(error).max()), 1e-7)


def _least_partial(dims: int) -> float:
  z = jnp.asarray(np.random.default_rng(2).random((2000, dims)))
  f = lambda z: entangle.entangle(z, [entangle.UNIFORM] * dims, entangle.householder(dims, ALPHA))
  return float(jax.jit(lambda z: jnp.abs(jax.vmap(jax.jacfwd(f))(z)).min())(z))


def _picture() -> np.ndarray:
  z = np.random.default_rng(3).random((6000, 2))
  image = entangle.entangle(jnp.asarray(z), [entangle.UNIFORM] * 2, entangle.householder(2, ALPHA))
  return drawing.side_by_side(*(drawing.scatter(np.asarray(p), z[:, 0], 0, 1) for p in (z, image)))
