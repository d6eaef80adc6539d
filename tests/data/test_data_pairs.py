"""Pairs of digits: what is in an example, that it stays, and sizes that are refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dgm_jax import config as experiment
from dgm_jax import data
from dgm_jax.data import pairs
from dgm_jax.errors import UserError


def config_of(**changes):
  config = experiment.defaults().data
  config.update({'name': 'pairs:digits', 'size': 20, 'preprocess': 'dynamic_binarize', 'valid_size': 100} | changes)
  return config


def found(image, digit):
  """The places of a digit in an image, by the pixels that are at least as bright."""
  height, width = digit.shape[:2]
  places = [(r, c) for r in range(image.shape[0] - height + 1) for c in range(image.shape[1] - width + 1)]
  return [(r, c) for r, c in places if (image[r : r + height, c : c + width] >= digit).all()]


def test_an_example_is_its_own_digit_and_another_one_of_its_part():
  split, digits = data.load(config_of(), 'valid'), data.load(config_of(name='digits', size=0), 'valid').arrays['x']
  assert (split.size, split.shape, split.name) == (100, (20, 20, 1), 'pairs:digits:valid')
  np.testing.assert_array_equal(split.arrays['digit'], digits)
  index = np.arange(40, dtype=np.int32)
  x = np.asarray(split.fetch(split.arrays, index)['x'])
  assert (x.dtype, x.shape) == (np.uint8, (40, 20, 20, 1))
  apart = 0
  for i, image in enumerate(x):
    rest = [image.astype(int) - put(digits[i], at) for at in found(image, digits[i])]
    alone = [
      left for left in rest if any((left == put(digit, at)).all() for digit in digits for at in found(left, digit))
    ]
    apart += bool(alone)
  assert apart > 20  # in the others bright pixels overlap
  jitted = jax.jit(split.fetch)(jax.tree.map(jnp.asarray, split.arrays), jnp.asarray(index[::-1]))
  np.testing.assert_array_equal(jitted['x'], x[::-1])


def put(digit, at):
  square = np.zeros((20, 20, 1), int)
  square[at[0] : at[0] + digit.shape[0], at[1] : at[1] + digit.shape[1]] = digit
  return square


def test_places_are_all_over_the_square_and_bright_pixels_stay_bright():
  digits = np.full((500, 3, 3, 1), 200, np.uint8)
  split = pairs.split('ones', {'x': digits}, 7)
  x = np.asarray(split.fetch(split.arrays, np.arange(500, dtype=np.int32))['x']).astype(int)
  assert set(np.unique(x)) == {0, 200, 255}
  coverage = np.zeros(7)
  for first in range(5):
    coverage[first : first + 3] += 1 / 5
  expected = 1 - (1 - np.outer(coverage, coverage)) ** 2
  np.testing.assert_allclose((x[..., 0] > 0).mean(0), expected, atol=0.1)


def test_a_digit_is_not_paired_with_itself():
  digits = np.zeros((2, 2, 2, 1), np.uint8)
  digits[0], digits[1] = 1, 100
  split = pairs.split('two', {'x': digits}, 9)
  x = np.asarray(split.fetch(split.arrays, np.arange(2, dtype=np.int32))['x'])
  np.testing.assert_array_equal(x.sum((1, 2, 3)), [404, 404])


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'size': 7}, 'pairs:digits:train puts two digits of 8x8 pixels, of 1297, into 7x7: give --config.data.size'),
    ({'name': 'pairs:letters'}, r'config.data.name=pairs:letters: give .* or pairs:NAME \(digits, mnist\)'),
  ],
)
def test_what_makes_no_pairs_is_refused(changes, message):
  with pytest.raises(UserError, match=message):
    data.load(config_of(**changes), 'train')
