"""Windows of Gaussian filters: golden rows, sums, the identity, adjoints, translations, and windows far outside."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dgm_jax.nn import filterbank
from dgm_jax.nn.filterbank import Window

ROWS = [  # of centre 3.2, stride 1.5, variance 0.8, three filters on six pixels
  [0.35616398, 0.4573236, 0.16823995, 0.01773236, 0.00053547, 0.00000463],
  [0.02167568, 0.18148828, 0.43536775, 0.29922359, 0.05892062, 0.00332407],
  [0.00008726, 0.0047642, 0.07452459, 0.33399602, 0.42885938, 0.15776855],
]


def one(*numbers):
  return [jnp.float32(number)[None] for number in numbers]


def at(x, y, stride, variance, intensity=1.0):
  return Window(*one(x, y, stride, variance, intensity))


def normal(seed, *shape):
  return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


def test_filters_are_those_of_the_formula():
  got = filterbank.filters(*one(3.2, 1.5, 0.8), 3, 6)
  np.testing.assert_allclose(got[0], ROWS, atol=1e-7)


@pytest.mark.parametrize('centre', [-1e4, -3.0, 0.5, 4.4, 1e4])
def test_each_filter_sums_to_one(centre):
  for variance in (1e-3, 0.7, 50.0):
    np.testing.assert_allclose(filterbank.filters(*one(centre, 1.7, variance), 4, 9).sum(-1), 1, rtol=1e-6)


def test_zeros_are_a_window_over_the_whole_image():
  window = filterbank.window(jnp.zeros((1, 5)), 5, (28, 28))
  np.testing.assert_array_equal(jnp.concatenate(window), [14.5, 14.5, 6.75, 1, 1])
  np.testing.assert_array_equal(filterbank.box(window, 5)[0], [1, 1, 28, 28, 1])


def test_the_numbers_of_a_window_are_those_of_equations_21_to_24():
  """Height and width differ: the centre is in halves of its own side, the stride is that of the longer one."""
  numbers = np.array([[0.3, -0.2, 0.7, -0.4, 0.1]])
  got = filterbank.window(jnp.asarray(numbers, jnp.float32), 3, (6, 10))
  expected = [11 / 2 * 1.3, 7 / 2 * 0.8, 9 / 2 * np.exp(-0.4), np.exp(0.7), np.exp(0.1)]
  np.testing.assert_allclose(jnp.concatenate(got), expected, rtol=1e-6)


def test_as_many_narrow_filters_as_pixels_are_the_identity():
  image, window = normal(0, 1, 7, 7, 2), at(4, 4, 1, 1e-4)
  np.testing.assert_allclose(filterbank.read(image, window, 7), image, atol=1e-6)
  np.testing.assert_allclose(filterbank.write(image, window, (7, 7)), image, atol=1e-6)


def test_read_is_the_quadratic_form_of_both_axes():
  """Rows are those of y, columns those of x."""
  image, window = normal(1, 1, 6, 8, 2), at(5.3, 2.6, 1.2, 0.6, 1.7)
  rows, columns = (
    np.exp(-((np.arange(1, size + 1) - (centre + (np.arange(3) - 1) * 1.2)[:, None]) ** 2) / 1.2)
    for centre, size in ((2.6, 6), (5.3, 8))
  )
  rows, columns = (each / each.sum(1, keepdims=True) for each in (rows, columns))
  for channel in range(2):
    expected = 1.7 * rows @ np.asarray(image[0, :, :, channel]) @ columns.T
    np.testing.assert_allclose(filterbank.read(image, window, 3)[0, ..., channel], expected, rtol=1e-5)


@pytest.mark.parametrize('intensity', [1.0, 1.7])
def test_read_and_write_are_adjoint(intensity):
  """The intensity multiplies what is read and divides what is written: in the one after the other it cancels."""
  image, patch, window = normal(2, 1, 6, 8, 2), normal(3, 1, 3, 3, 2), at(5.3, 2.6, 1.2, 0.6, intensity)
  within = (patch * filterbank.read(image, window, 3)).sum()
  without = (filterbank.write(patch, window, (6, 8)) * image).sum()
  np.testing.assert_allclose(within, intensity**2 * without, rtol=1e-5)
  again = lambda window: filterbank.write(filterbank.read(image, window, 3), window, (6, 8))
  np.testing.assert_allclose(again(window), again(window._replace(intensity=jnp.ones(1))), rtol=1e-5, atol=1e-6)


def test_moving_image_and_centre_by_a_pixel_changes_nothing():
  image = jnp.pad(normal(4, 1, 4, 4, 1), ((0, 0), (10, 10), (10, 10), (0, 0)))
  moved = jnp.roll(image, (1, -1), (1, 2))
  read = lambda image, x, y: filterbank.read(image, at(x, y, 0.9, 0.3), 4)
  np.testing.assert_allclose(read(moved, 11.4, 13.1), read(image, 12.4, 12.1), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('numbers', [(1e3, -1e3, 0, 0, 0), (300, 0, -9, -4, 2), (0, -50, 4, 3, -3)])
def test_a_window_far_outside_has_finite_gradients(numbers):
  image, patch = normal(5, 1, 6, 8, 1), normal(6, 1, 3, 3, 1)

  def both(numbers):
    window = filterbank.window(numbers, 3, (6, 8))
    return jnp.square(filterbank.read(image, window, 3)).sum() + (filterbank.write(patch, window, (6, 8)) * image).sum()

  value, slope = jax.value_and_grad(both)(jnp.asarray([numbers], jnp.float32))
  assert np.isfinite(value) and np.isfinite(slope).all()
