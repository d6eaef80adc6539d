"""Sums of latents, against sums done by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dgm_jax.core import State, System
from dgm_jax.errors import UserError
from dgm_jax.pictures import arithmetic
from dgm_jax.views import Prior, Views

STATE = State(jnp.zeros((), jnp.int32), {}, {}, {})


@pytest.mark.parametrize(
  ('text', 'terms'),
  [
    ('3,17,20-5,8,9+1,2,4', [(1, [3, 17, 20]), (-1, [5, 8, 9]), (1, [1, 2, 4])]),
    ('0', [(1, [0])]),
    ('10-2', [(1, [10]), (-1, [2])]),
  ],
)
def test_terms_are_read_as_written(text, terms):
  assert arithmetic.parse(text, 21) == terms


@pytest.mark.parametrize('text', ['', '1,', '-1', '1--2', '1+x', '1 + 2', '21'])
def test_what_is_no_sum_of_the_samples_is_answered_in_one_line(text):
  with pytest.raises(UserError, match='--terms') as error:
    arithmetic.parse(text, 21)
  assert '\n' not in str(error.value)


def game(draw) -> System:
  """A game whose images are its latents."""
  return System(None, None, None, draw, Views(prior=Prior(draw), decode=lambda key, state, z: z))


def test_the_last_image_is_of_the_signed_sum_of_averages():
  latents = np.random.default_rng(0).uniform(60, 100, (6, 12)).astype('f4')
  to_uint8 = lambda x: np.asarray(x).reshape(-1, 2, 2, 3).round().astype('u1')
  system = game(lambda key, state, n: jnp.asarray(latents)[:n])
  terms = arithmetic.parse('0,1,2-3+4,5', 6)
  drawn = arithmetic.picture(jax.random.key(0), system, STATE, 6, terms, to_uint8)
  columns = arithmetic.AROUND + 1
  last = drawn[-84:-28, -84:-28]  # 2x2 pixels, 28 times as large, before a line of padding
  wanted = latents[:3].mean(0) - latents[3] + latents[4:].mean(0)
  corner = lambda row, column: last[row * 28, column * 28]
  np.testing.assert_array_equal(
    [corner(row, column) for row in (0, 1) for column in (0, 1)], to_uint8(wanted)[0].reshape(4, 3)
  )
  assert drawn.shape == ((4 * 3 + 1) * 28, (columns * 3 + 1) * 28, 3)


def test_its_samples_are_those_of_the_grid():
  system = game(lambda key, state, n: 255 * jax.random.uniform(key, (n, 12)))
  to_uint8 = lambda x: np.asarray(x).reshape(-1, 2, 2, 3).astype('u1')
  key = jax.random.key(5)
  drawn = arithmetic.picture(key, system, STATE, 9, [(1, [7, 2])], to_uint8)
  samples = to_uint8(system.sample(key, STATE, 9))
  for column, number in enumerate((7, 2)):
    left = 28 + column * 84
    np.testing.assert_array_equal(drawn[28:84:28, left : left + 56 : 28], samples[number])


def test_averages_and_their_sum_by_hand():
  latents = np.arange(8, dtype='f4')[:, None]
  averages, total = arithmetic.combined(latents, [(1, [1, 2, 3]), (-1, [7])])
  np.testing.assert_array_equal(averages, [[2], [7]])
  np.testing.assert_array_equal(total, [-5])
