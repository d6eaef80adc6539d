"""Normal noise of the inner loop: the normal law, and one number for one index; test_data_preprocess has the words."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec
from scipy import special, stats

from dgm_jax.internal.noise import standard_normal, uniform

KEY = jax.random.key(3)


def test_the_draws_are_normal():
  x = np.asarray(standard_normal(KEY, (400, 501))).ravel()
  assert stats.kstest(x, 'norm').pvalue > 0.01
  n = x.size
  # Standard errors of the first four moments of n normal draws.
  for power, moment, error in [(1, 0, 1), (2, 1, 2**0.5), (3, 0, 15**0.5), (4, 3, 96**0.5)]:
    assert abs((x.astype('f8') ** power).mean() - moment) < 4 * error / n**0.5


def test_neighbours_are_independent():
  x = np.asarray(standard_normal(KEY, (400, 500)), 'f8')
  other = np.asarray(standard_normal(jax.random.key(4), (400, 500)), 'f8')
  half = x.shape[1] // 2  # the two words of one counter
  for a, b in [(x[:, 1:], x[:, :-1]), (x[1:], x[:-1]), (x[:, :half], x[:, half:]), (x, other)]:
    assert abs((a * b).mean()) < 4 / a.size**0.5


def test_a_draw_is_the_quantile_at_a_midpoint_of_its_23_bits():
  x = np.asarray(standard_normal(KEY, (64,)), 'f8')
  place = special.ndtr(x) * 2**23 - 0.5
  np.testing.assert_allclose(place, place.round(), atol=8)  # float32 leaves three bits
  assert np.abs(np.asarray(standard_normal(KEY, (1000, 1000)))).max() < 5.3


def test_uniform_numbers_are_the_midpoints_that_normal_ones_are_quantiles_of():
  u = np.asarray(uniform(KEY, (40, 501)), 'f8')
  assert stats.kstest(u.ravel(), 'uniform').pvalue > 0.01
  np.testing.assert_array_equal(u * 2**24 % 2, 1)  # none is 0 or 1
  np.testing.assert_allclose(special.ndtri(u), standard_normal(KEY, (40, 501)), rtol=2e-4, atol=2e-6)


@pytest.mark.parametrize('shape', [(), (1,), (3,), (0,), (2, 0), (2, 3, 5)])
def test_any_shape(shape):
  x = standard_normal(KEY, shape)
  assert (x.shape, x.dtype) == (shape, jnp.float32)


def test_a_row_does_not_depend_on_how_many_there_are_nor_on_the_devices():
  whole = standard_normal(KEY, (16, 7))
  np.testing.assert_array_equal(standard_normal(KEY, (8, 7)), whole[:8])
  mesh = jax.make_mesh((8,), ('data',), axis_types=(jax.sharding.AxisType.Auto,))
  rows = NamedSharding(mesh, PartitionSpec('data'))
  program = jax.jit(standard_normal, static_argnums=1, out_shardings=rows).lower(KEY, (16, 7)).compile()
  assert 'all-' not in program.as_text()
  np.testing.assert_array_equal(program(KEY), whole)
