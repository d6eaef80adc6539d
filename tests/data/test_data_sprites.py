"""Sprites: golden areas, where they lie, how they turn, which of them are the same, and sets read as simulators."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from dgm_jax import data
from dgm_jax.data import factors, sprites
from dgm_jax.errors import UserError

RENDER = jax.jit(sprites.render, static_argnums=1)
ROWS = 1024  # of every call, so that there is one program
SHAPES = ('square', 'ellipse', 'heart')


def images(codes, size=64):
  """bool [n, size, size] of factors [n, 5]."""
  codes = np.asarray(codes, np.int32).reshape(-1, 5)
  filled = np.concatenate([codes, np.zeros((-len(codes) % ROWS, 5), np.int32)]).reshape(-1, ROWS, 5)
  return np.concatenate([np.asarray(RENDER(part, size))[..., 0] > 0 for part in filled])[: len(codes)]


def grid(*axes):
  return np.stack(np.meshgrid(*map(np.atleast_1d, axes), indexing='ij'), -1).reshape(-1, 5)


def centroids(pictures):
  """(x, y) [n, 2] in pixels, of images bool [n, H, W]."""
  middle = np.arange(pictures.shape[1]) + 0.5
  area = pictures.sum((1, 2))
  return np.stack([(pictures.sum(1) * middle).sum(1) / area, (pictures.sum(2) * middle).sum(1) / area], 1)


@pytest.fixture(scope='module')
def everywhere():
  """All shapes, scales and orientations at one place, [3, 6, 40, 64, 64]."""
  return images(grid(range(3), range(6), range(40), 13, 20)).reshape(3, 6, 40, 64, 64)


def test_areas_of_upright_sprites_are_those_of_published_frames():
  found = images(grid(range(3), range(6), 0, 0, 0)).sum((1, 2)).reshape(3, 6)
  np.testing.assert_array_equal(found[0], [100, 144, 196, 256, 324, 400])
  np.testing.assert_array_equal(found[1], [76, 104, 144, 184, 228, 288])
  np.testing.assert_array_equal(found[2], [58, 84, 108, 140, 182, 222])


def test_areas_of_turned_sprites_are_those_of_the_outlines(everywhere):
  # The heart encloses 60 pi of the classic curve's 16 x 13 units: (9.55 / 16) * 0.663 * 180 pi.
  outlines = np.array([19.2**2, np.pi * 12.775 * 7.22, 9.55 / 16 * 0.663 * 180 * np.pi])
  scales = 0.5 + 0.1 * np.arange(6)
  found = everywhere.sum((3, 4)).mean(2)
  np.testing.assert_allclose(found, outlines[:, None] * scales**2, rtol=0.02)


@pytest.mark.parametrize('shape', range(3), ids=SHAPES)
def test_a_sprite_lies_where_its_factors_say(shape):
  every = centroids(images(grid(shape, 5, 7, range(32), range(32)))).reshape(32, 32, 2)
  steps = 32 / 31 * np.arange(32)
  expected = np.stack(np.meshgrid(16 + steps, 16 + steps, indexing='ij'), -1)
  offset = (every - expected).mean((0, 1))
  assert np.abs(offset).max() < (3 if shape == 2 else 0.05)  # the heart's own centre is above its origin
  assert np.abs(every - expected - offset).max() < 0.2  # of a step of 32 / 31: pixels on the edge come and go


def test_an_ellipse_turns_counterclockwise_as_its_factor_says(everywhere):
  middle = np.arange(64) + 0.5
  for turn in range(40):
    picture = everywhere[1, 5, turn]
    x, y = (np.broadcast_to(m, (64, 64))[picture] for m in (middle[None], middle[:, None]))
    xx, yy, xy = x.var(), y.var(), np.mean((x - x.mean()) * (y - y.mean()))
    angle = 0.5 * np.arctan2(-2 * xy, xx - yy)  # y grows downwards
    apart = (angle - turn * 2 * np.pi / 39 + np.pi / 2) % np.pi - np.pi / 2
    assert abs(apart) < 0.04, turn


def test_the_last_orientation_is_the_first_and_no_other_images_of_a_heart_agree(everywhere):
  np.testing.assert_array_equal(everywhere[:, :, 39], everywhere[:, :, 0])
  hearts = np.packbits(everywhere[2, :, :39].reshape(6 * 39, -1), axis=1)
  assert len(np.unique(hearts, axis=0)) == 6 * 39


def test_other_images_agree_only_by_a_symmetry_of_their_shape(everywhere):
  packed = np.packbits(everywhere[:, :, :39].reshape(3 * 6 * 39, -1), axis=1)
  _, which = np.unique(packed, axis=0, return_inverse=True)
  folds = {0: 4, 1: 2}
  for group in (np.flatnonzero(which == value) for value in range(which.max() + 1)):
    shape, scale, turn = np.unravel_index(group, (3, 6, 39))
    assert len(set(shape)) == len(set(scale)) == 1
    if len(group) > 1:
      steps = 39 / folds[int(shape[0])]
      apart = np.abs((turn - turn[0] + steps / 2) % steps - steps / 2)
      assert apart.max() < 1  # a turn that the shape hides, up to less than a step of the factor


@pytest.mark.parametrize('shape', range(3), ids=SHAPES)
def test_no_two_places_give_the_same_image(shape):
  packed = np.packbits(images(grid(shape, 0, 5, range(32), range(32))).reshape(1024, -1), axis=1)
  assert len(np.unique(packed, axis=0)) == 1024


def test_sprites_stay_inside_and_a_coarser_grid_sees_the_same_outlines():
  corners = images(grid(range(3), 5, range(40), (0, 31), (0, 31)))
  rows = np.flatnonzero(corners.any((0, 2)))
  assert (rows.min(), rows.max()) == (3, 60)
  coarse = images(grid(range(3), 5, range(40), (0, 31), (0, 31)), 32)
  np.testing.assert_allclose(4 * coarse.sum((1, 2)).mean(), corners.sum((1, 2)).mean(), rtol=0.01)


def test_an_encoder_of_nothing_loses_what_the_mean_image_tells():
  codes = np.random.default_rng(0).integers(0, sprites.SIZES, (10 * ROWS, 5))
  total = sum(images(part).sum(0) for part in np.array_split(codes, 10))
  mean = np.clip(total / len(codes), 1e-12, 1 - 1e-12)
  entropy = -(mean * np.log(mean) + (1 - mean) * np.log1p(-mean)).sum()
  assert abs(mean.mean() - 0.0426) < 6e-4
  assert abs(entropy - 565.7) < 5


def config(name='sprites', **changes):
  defaults = {'train': 'train', 'test': 'test', 'valid_size': 0, 'size': 0, 'channels': 0, 'invert': False}
  return ConfigDict(defaults | {'preprocess': 'scale', 'name': name} | changes)


def test_splits_are_the_whole_grid_without_what_is_held_out():
  train, valid = data.load(config(valid_size=1000), 'train'), data.load(config(valid_size=1000), 'valid')
  assert (train.size, valid.size, train.shape) == (sprites.IMAGES - 1000, 1000, (64, 64, 1))
  both = np.concatenate([train.arrays['sprite'], valid.arrays['sprite']])
  np.testing.assert_array_equal(np.sort(both), np.arange(sprites.IMAGES))
  index = np.array([3, 5], np.int32)
  batch = train.fetch(train.arrays, index)
  np.testing.assert_array_equal(factors.numbers_of(np.asarray(batch['factors']), sprites.SIZES), both[index])
  np.testing.assert_array_equal(batch['x'], sprites.render(batch['factors']))


def test_numbers_on_the_grid_have_the_published_order():
  # A square at 87040, an ellipse at 332800 and a heart at 578560, each of scale 2 and in the middle of the grid.
  values = np.asarray(factors.values_of(jnp.asarray([87040, 332800, 578560]), sprites.SIZES))
  np.testing.assert_array_equal(values[:, 0], [0, 1, 2])
  numbers = np.random.default_rng(0).integers(0, sprites.IMAGES, 1000)
  again = factors.numbers_of(np.asarray(factors.values_of(jnp.asarray(numbers), sprites.SIZES)), sprites.SIZES)
  np.testing.assert_array_equal(again, numbers)


def test_a_coloured_image_has_one_colour_of_its_own_for_good():
  split = data.load(config('sprites_color', size=32), 'test')
  assert split.shape == (32, 32, 3)
  batch = split.fetch(split.arrays, np.arange(4))
  grey = np.asarray(sprites.render(batch['factors'], 32))
  colours = [np.unique(x[on[..., 0] > 0], axis=0) for x, on in zip(np.asarray(batch['x']), grey, strict=True)]
  assert [len(colour) for colour in colours] == [1] * 4
  assert np.concatenate(colours).min() >= 127
  assert len(np.unique(np.concatenate(colours), axis=0)) == 4
  assert not np.asarray(batch['x'])[(grey == 0)[..., 0]].any()
  np.testing.assert_array_equal(split.fetch(split.arrays, np.arange(4))['x'], batch['x'])
  simulator = data.simulator(config('sprites_color', size=32))
  a, b = (np.asarray(simulator.draw(jax.random.key(i), batch['factors'])) for i in range(2))
  np.testing.assert_array_equal(a > 0, b > 0)
  assert (a != b).any()


def test_looks_are_kept():
  batch = lambda **look: np.asarray(
    (split := data.load(config(size=16, **look), 'test')).fetch(split.arrays, np.arange(2))['x']
  )
  np.testing.assert_array_equal(batch(invert=True), 255 - batch())
  np.testing.assert_array_equal(batch(channels=3), np.repeat(batch(), 3, -1))


def test_a_set_with_every_combination_is_its_own_simulator():
  every = np.array([[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [1, 2], [1, 2]], np.int32)
  arrays = {'x': np.arange(7, dtype=np.uint8)[:, None, None, None], 'factors': every}
  simulator = factors.of_arrays('tiny', ('a', 'b'), arrays)
  assert (simulator.sizes, simulator.fixed) == ((2, 3), False)  # two images have the last factors
  drawn = simulator.draw(jax.random.key(0), every[:6]).ravel()
  np.testing.assert_array_equal(drawn[:5], np.arange(5))
  last = simulator.draw(jax.random.key(0), np.tile(every[-1:], (50, 1))).ravel()
  assert set(last) == {5, 6}
  with pytest.raises(UserError, match='tiny lacks 1 of 6'):
    factors.of_arrays('tiny', ('a', 'b'), jax.tree.map(lambda a: a[1:], arrays))


def test_a_set_without_factors_is_no_simulator():
  with pytest.raises(UserError, match='factors of digits are not known'):
    data.simulator(config('digits'))
