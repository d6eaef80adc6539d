"""Random boxes and colours of images, by what they do to images that show it."""

import colorsys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dgm_jax.systems.parts import augmentations
from dgm_jax.systems.parts.augmentations import colours, from_hsv, middle, resized_crop, to_hsv

KEY = jax.random.key(4)
SIDE = 16


def ramps(n, height=SIDE, width=SIDE):
  """Images whose two channels are the row and the column of each pixel's centre."""
  places = np.stack(np.mgrid[:height, :width] + 0.5, -1).astype('f4')
  return jnp.asarray(np.tile(places, (n, 1, 1, 1)))


def test_the_middle_is_cut_out():
  x = ramps(2, 8, 6)
  np.testing.assert_array_equal(middle(x, 4), x[:, 2:6, 1:5])
  assert middle(x, 0) is x


def test_a_box_of_the_whole_image_changes_nothing(monkeypatch):
  monkeypatch.setattr(augmentations, 'AREA', (1.0, 1.0))
  monkeypatch.setattr(augmentations, 'RATIO', (1.0, 1.0))
  x = jax.random.uniform(KEY, (3, SIDE, SIDE, 3))
  np.testing.assert_allclose(resized_crop(KEY, x, SIDE), x, atol=1e-5)


def test_a_box_of_the_size_that_is_asked_for_is_moved_alone(monkeypatch):
  monkeypatch.setattr(augmentations, 'AREA', (0.25, 0.25))
  monkeypatch.setattr(augmentations, 'RATIO', (1.0, 1.0))
  y = np.asarray(resized_crop(KEY, ramps(200), SIDE // 2))[:, 1:-1, 1:-1]
  corner = y[:, 0, 0] - 1.5
  expected = corner[:, None, None] + np.stack(np.mgrid[1:7, 1:7] + 0.5, -1)
  np.testing.assert_allclose(y, expected, atol=1e-4)
  assert (
    corner.min() > -1e-3 and corner.max() < SIDE / 2 + 1e-3 and corner.std(0) == pytest.approx([8 / 12**0.5] * 2, 0.1)
  )


def test_boxes_have_the_areas_and_the_ratios_that_they_should():
  y = np.asarray(resized_crop(KEY, ramps(2000), 2 * SIDE))  # enlarged, so that lines stay lines
  sizes = 2 * SIDE * np.stack([y[:, 16, 16, 0] - y[:, 15, 16, 0], y[:, 16, 16, 1] - y[:, 16, 15, 1]], -1)
  area, ratio = sizes.prod(1) / SIDE**2, sizes[:, 1] / sizes[:, 0]
  assert 0.045 < area.min() < 0.07 and 0.85 < area.max() <= 1.001
  assert 0.74 < ratio.min() < 0.76 and 1.32 < ratio.max() < 1.34
  assert sizes.max() <= SIDE * 1.001
  start = y[:, 16, 16] - sizes * 16.5 / 32  # of the box, which lies anywhere within the image
  free = (SIDE - sizes) > 1
  share = start[free] / (SIDE - sizes)[free]
  assert -1e-3 < share.min() < 0.02 and 0.98 < share.max() < 1.001 and share.mean() == pytest.approx(0.5, abs=0.03)
  assert np.mean(area < 0.525) > 0.5  # large boxes fit less often
  assert np.mean(ratio) == pytest.approx(1.04, abs=0.02)


def test_where_no_box_fits_the_whole_image_is_resized(monkeypatch):
  monkeypatch.setattr(augmentations, 'AREA', (1.0, 1.0))
  monkeypatch.setattr(augmentations, 'RATIO', (4.0, 4.0))
  y = np.asarray(resized_crop(KEY, ramps(2), 8))
  np.testing.assert_allclose(y[0, 2:-2, 2:-2], np.stack(np.mgrid[2:6, 2:6] * 2 + 1.0, -1), atol=1e-4)


def test_hues_are_those_of_the_standard_library():
  x = np.random.default_rng(0).random((50, 3)).astype('f4')
  x = np.concatenate([x, np.eye(3, dtype='f4'), np.zeros((1, 3), 'f4'), np.full((1, 3), 0.4, 'f4')])
  expected = np.array([colorsys.rgb_to_hsv(*pixel) for pixel in x.astype(float)])
  np.testing.assert_allclose(to_hsv(jnp.asarray(x)), expected, atol=1e-5)
  np.testing.assert_allclose(from_hsv(to_hsv(jnp.asarray(x))), x, atol=1e-6)
  turned = np.array([colorsys.hsv_to_rgb((h + 0.3) % 1, s, v) for h, s, v in expected])
  np.testing.assert_allclose(from_hsv(jnp.asarray(expected - np.array([0.7, 0, 0]), jnp.float32)), turned, atol=1e-5)


NOTHING = {'BRIGHTNESS': 0.0, 'HUE': 0.0, 'SATURATION': (1.0, 1.0), 'CONTRAST': (1.0, 1.0)}
IMAGES = 0.3 + 0.4 * np.random.default_rng(1).random((300, 3, 3, 3)).astype('f4')


@pytest.fixture
def changing(monkeypatch):
  """Returns what IMAGES become if these amounts alone are not nothing."""

  def change(**amounts):
    for name, value in (NOTHING | amounts).items():
      monkeypatch.setattr(augmentations, name, value)
    return np.asarray(colours(KEY, jnp.asarray(IMAGES)))

  return change


def test_no_amounts_change_no_colour(changing):
  np.testing.assert_allclose(changing(), IMAGES, atol=1e-5)


def test_brightness_is_added_to_all_pixels_of_an_image(changing):
  added = changing(BRIGHTNESS=0.1) - IMAGES
  np.testing.assert_allclose(added, added[:, :1, :1, :1] + 0 * IMAGES, atol=1e-5)
  assert added.min() < -0.09 and added.max() > 0.09 and np.abs(added).max() <= 0.1001
  assert changing(BRIGHTNESS=2.0).min() == 0 and changing(BRIGHTNESS=2.0).max() == 1


def test_saturation_is_multiplied(changing):
  factor = np.asarray(to_hsv(changing(SATURATION=(0.5, 1.5))))[..., 1] / np.asarray(to_hsv(IMAGES))[..., 1]
  np.testing.assert_allclose(factor, factor[:, :1, :1] + 0 * factor, rtol=1e-3)
  assert 0.5 <= factor.min() + 1e-3 < 0.53 and 1.47 < factor.max() <= 1.501
  grey = changing(SATURATION=(0.0, 0.0))
  np.testing.assert_allclose(grey, IMAGES.max(-1, keepdims=True) + 0 * grey, atol=1e-6)


def test_hues_are_turned(changing):
  turn = (np.asarray(to_hsv(changing(HUE=0.2)))[..., 0] - np.asarray(to_hsv(IMAGES))[..., 0] + 0.5) % 1 - 0.5
  np.testing.assert_allclose(turn, turn[:, :1, :1] + 0 * turn, atol=1e-3)
  assert -0.201 < turn.min() < -0.18 and 0.18 < turn.max() < 0.201


def test_contrast_is_about_the_mean_of_each_channel(changing):
  mean = IMAGES.mean((1, 2), keepdims=True)
  factor = (changing(CONTRAST=(0.5, 1.5)) - mean) / (IMAGES - mean)
  clear = np.abs(IMAGES - mean) > 0.05
  centre = np.median(factor, (1, 2, 3))
  np.testing.assert_allclose(
    factor[clear], np.broadcast_to(centre[:, None, None, None], factor.shape)[clear], rtol=2e-3
  )
  assert 0.5 <= centre.min() + 1e-3 < 0.53 and 1.47 < centre.max() <= 1.501


def test_grey_images_have_no_colours():
  with pytest.raises(ValueError, match='with 3 channels, got 1'):
    colours(KEY, jnp.zeros((2, 4, 4, 1)))
