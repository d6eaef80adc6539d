"""Flows of one dimension, in closed form."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from dgm_jax.classical import cdf

MIXTURE = (jnp.array([0.1, -0.4, 0.7]), jnp.array([-3.0, 0.5, 2.0]), jnp.array([-0.5, 0.2, -1.0]))


@pytest.mark.parametrize(
  ('ours', 'theirs'),
  [(lambda: cdf.normal(1.5, 2.0), scipy.stats.norm(1.5, 2.0)), (cdf.exponential, scipy.stats.expon())],
)
def test_laws_agree_with_scipy(ours, theirs):
  with jax.enable_x64(True):
    x, u = np.linspace(0.1, 9, 50), np.linspace(1e-6, 1 - 1e-6, 50)
    law, other = ours(), cdf.from_scipy(theirs)
    for name in ('log_pdf', 'cdf', 'survival'):
      np.testing.assert_allclose(getattr(law, name)(x), getattr(other, name)(x), rtol=1e-9)
    for name in ('quantile', 'upper_quantile'):
      np.testing.assert_allclose(getattr(law, name)(u), getattr(other, name)(u), rtol=1e-9, atol=1e-12)


def test_quantiles_undo_the_distribution_function():
  for dtype, tolerance in (('float32', 1e-5), ('float64', 1e-12)):
    with jax.enable_x64(dtype == 'float64'):
      law = cdf.mixture(*(a.astype(dtype) for a in MIXTURE))
      x = jnp.linspace(-4, 2.5, 101, dtype=dtype)
      np.testing.assert_allclose(law.quantile(law.cdf(x)), x, atol=tolerance * 10)
      np.testing.assert_allclose(law.upper_quantile(law.survival(x)), x, atol=tolerance * 10)


@pytest.mark.parametrize(
  ('quantile', 'distribution', 'sign'), [('quantile', 'cdf', 1), ('upper_quantile', 'survival', -1)]
)
def test_derivatives_of_quantiles_are_those_of_the_equation_that_they_solve(quantile, distribution, sign):
  with jax.enable_x64(True):
    params = tuple(a.astype('float64') for a in MIXTURE)
    root = lambda u, *params: getattr(cdf.mixture(*params), quantile)(u)

    @jax.jit
    def both(u):
      x = root(u, *params)
      by_value, *by_params = jax.grad(root, (0, 1, 2, 3))(u, *params)
      log_pdf, slope = jax.value_and_grad(cdf.mixture(*params).log_pdf)(x)
      pdf = jnp.exp(log_pdf)
      explicit = jax.grad(lambda *params: getattr(cdf.mixture(*params), distribution)(x), (0, 1, 2))(*params)
      implied = [-sign * part / pdf for part in explicit]
      return (by_value, jax.grad(jax.grad(root))(u, *params), *by_params), (sign / pdf, -slope / pdf**2, *implied)

    for u in (0.05, 0.7):
      jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12), *both(u))


def test_a_mixture_integrates_to_one_and_its_likelihood_is_that_of_the_flow_to_the_uniform():
  with jax.enable_x64(True):
    law = cdf.mixture(*(a.astype('float64') for a in MIXTURE))
    x = jnp.linspace(-20, 20, 20_001)
    assert abs(float(jnp.exp(law.log_pdf(x)).sum() * (x[1] - x[0])) - 1) < 1e-9
    slope = jax.vmap(jax.grad(law.cdf))(jnp.linspace(-4, 4, 31))
    np.testing.assert_allclose(jnp.log(slope), law.log_pdf(jnp.linspace(-4, 4, 31)), rtol=1e-9)


def test_the_map_between_normals_is_linear():
  z = jnp.linspace(-6, 6, 201)
  np.testing.assert_allclose(cdf.transport(cdf.normal(), cdf.normal(1.0, 3.0), z), 1 + 3 * z, atol=1e-5 * 20)
  with jax.enable_x64(True):
    z = jnp.linspace(-6, 6, 201)
    np.testing.assert_allclose(cdf.transport(cdf.normal(), cdf.normal(1.0, 3.0), z), 1 + 3 * z, atol=1e-9)
    np.testing.assert_allclose(cdf.log_slope(cdf.normal(), cdf.normal(1.0, 3.0), z), math.log(3), atol=1e-9)


def test_the_map_from_normal_to_exponential_keeps_the_digits_of_the_tail():
  z = jnp.linspace(-4, 12, 101)
  expected = -jax.scipy.special.log_ndtr(-z)
  np.testing.assert_allclose(cdf.transport(cdf.normal(), cdf.exponential(), z), expected, rtol=2e-5, atol=1e-5)


def test_draws_pushed_through_their_distribution_function_are_uniform_and_back():
  law, n = cdf.mixture(*MIXTURE), 100_000
  z = jax.random.normal(jax.random.key(0), (n,))
  x = cdf.transport(cdf.normal(), law, z)
  for values in (law.cdf(x), cdf.normal().cdf(z), cdf.transport(law, cdf.uniform(), x)):
    distance = np.abs(np.sort(values) - (np.arange(n) + 0.5) / n).max()
    assert distance < 1.36 / math.sqrt(n) * 1.2
  slope = jax.vmap(jax.grad(lambda z: cdf.transport(cdf.normal(), cdf.normal(2.0, 0.5), z)))(z[:50])
  np.testing.assert_allclose(slope, 0.5, rtol=1e-4)


def test_a_mixture_learned_as_a_flow_ends_where_em_does():
  from dgm_jax.classical import em, mixture

  with jax.enable_x64(True):
    x = jnp.concatenate(
      [jax.random.normal(jax.random.key(0), (300,)) * 0.5 - 2, jax.random.normal(jax.random.key(1), (200,)) + 1]
    )
    structure = mixture.full()
    start = mixture.Mixture(jnp.full(2, 0.5), jnp.array([[-1.0], [1.0]]), jnp.ones((2, 1, 1)))
    _, trace = em.fit(structure, x[:, None], start, 500, -1.0)
    loss = lambda p: -cdf.mixture(*p).log_pdf(x).mean()
    params = (jnp.zeros(2), jnp.array([-1.0, 1.0]), jnp.zeros(2))
    descend = lambda _, p: jax.tree.map(lambda a, g: a - 0.3 * g, p, jax.grad(loss)(p))
    params = jax.jit(lambda p: jax.lax.fori_loop(0, 3000, descend, p))(params)
    assert abs(float(loss(params)) + float(trace[-1])) < 1e-8
