"""One picture: channels, size, polarity, against arithmetic by hand."""

import numpy as np
import pytest

from dgm_jax.data.images import Look, conform


def _picture(values, channels=1):
  return np.repeat(np.asarray(values, np.uint8)[..., None], channels, -1)


def test_as_stored():
  picture = np.random.default_rng(0).integers(0, 256, (5, 7, 3)).astype(np.uint8)
  np.testing.assert_array_equal(conform(picture, Look()), picture)
  np.testing.assert_array_equal(conform(picture, Look(invert=True)), 255 - picture)


def test_grey_weighs_colours_as_eyes_do():
  """0.299 R + 0.587 G + 0.114 B, rounded: 76.2, 149.7, 29.1 for the full primaries; grey stays itself."""
  primaries = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8)
  assert conform(primaries, Look(channels=1))[0, :, 0].tolist() == [76, 150, 29]
  levels = _picture(np.arange(256)[None], 3)
  np.testing.assert_array_equal(conform(levels, Look(channels=1))[0, :, 0], np.arange(256))


def test_colour_of_grey_repeats_it():
  assert conform(_picture([[7, 9]]), Look(channels=3)).tolist() == [[[7, 7, 7], [9, 9, 9]]]


@pytest.mark.parametrize(('stored', 'asked'), [(4, 3), (2, 1), (4, 1)])
def test_other_channels_are_refused(stored, asked):
  with pytest.raises(ValueError, match=f'an image of {stored} channels cannot be given {asked}'):
    conform(np.zeros((2, 2, stored), np.uint8), Look(channels=asked))


@pytest.mark.parametrize('channels', [1, 2, 3, 4])
def test_halving_is_a_triangle_over_four_pixels(channels):
  """At half size, weights 1/8, 3/8, 3/8, 1/8: stripes of one pixel melt to 127.5, and a ramp stays a ramp."""
  stripes = conform(_picture(np.tile([0, 255], (8, 4)), channels), Look(size=4))
  assert stripes.shape == (4, 4, channels)
  assert set(stripes[:, 1:3].ravel()) <= {127, 128}
  ramp = conform(_picture(np.tile(10 * np.arange(8), (8, 1)), channels), Look(size=4))
  assert ramp[0, 1:3, 0].tolist() == [25, 45]


def test_channels_are_resized_apart():
  picture = np.zeros((6, 6, 3), np.uint8)
  picture[..., 1], picture[:, :3, 2] = 200, 100
  small = conform(picture, Look(size=3))
  assert (set(small[..., 0].ravel()), set(small[..., 1].ravel())) == ({0}, {200})
  assert small[0, 0, 2] > 90 > 10 > small[0, 2, 2]


def test_growing_interpolates():
  grown = conform(_picture([[0, 100], [0, 100]]), Look(size=4))
  assert grown[0, :, 0].tolist() == [0, 25, 75, 100]


@pytest.mark.parametrize('shape', [(4, 10), (10, 4)])
def test_the_central_square_is_taken(shape):
  picture = np.zeros(shape, np.uint8)
  picture[shape[0] // 2 - 2 : shape[0] // 2 + 2, shape[1] // 2 - 2 : shape[1] // 2 + 2] = 255
  np.testing.assert_array_equal(conform(_picture(picture), Look(size=2)), np.full((2, 2, 1), 255))


def test_a_frame_comes_before_the_size_and_the_polarity():
  picture = _picture(np.full((2, 2), 80))
  framed = conform(picture, Look(pad=1))[..., 0]
  assert framed.tolist() == [[0, 0, 0, 0], [0, 80, 80, 0], [0, 80, 80, 0], [0, 0, 0, 0]]
  np.testing.assert_array_equal(conform(picture, Look(pad=1, invert=True))[..., 0], 255 - framed)
  assert 0 < conform(picture, Look(pad=1, size=2))[0, 0, 0] < 80
  assert (Look(3, 1).facts, Look(3, 1, pad=2).facts) == ((3, 1, False), (3, 1, False, 2))  # old caches stay good


def test_all_at_once():
  look = Look(size=2, channels=1, invert=True)
  assert conform(np.full((9, 8, 3), 55, np.uint8), look).tolist() == [[[200], [200]], [[200], [200]]]
