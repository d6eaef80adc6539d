"""Pictures of painters: which steps they show, where frames lie, and what is in their rows."""

import jax
import numpy as np
import pytest
from playing import begun, settings_of

from dgm_jax.data import preprocess
from dgm_jax.pictures import painting


def test_columns_are_powers_of_two_and_the_last_step():
  assert [painting.columns_of(n) for n in (1, 2, 6, 8)] == [[1], [1, 2], [1, 2, 4, 6], [1, 2, 4, 8]]


@pytest.mark.parametrize(('deviation', 'width'), [(1.0, 4), (0.5, 8), (100.0, 1), (1e-9, 8)])
def test_a_frame_goes_through_the_outer_filters_and_is_wider_if_they_are_sharper(deviation, width):
  """Filters at 3 and 6 of 10 pixels are in the middle of the third and of the sixth magnified pixel."""
  image, box = np.zeros((80, 80, 3), np.uint8), np.array([3, 3, 6, 6, deviation])
  line = painting.framed(image, box, 8, (255, 0, 0))[..., 0] > 0
  rows = np.flatnonzero(line.any(1))
  assert (rows[0], rows[-1]) == (20, 44)
  assert line[32, :32].sum() == width and not line[32, 30]


def test_a_frame_far_outside_leaves_the_image():
  image = np.zeros((20, 20, 3), np.uint8)
  assert not painting.framed(image, np.array([1e9, 1e9, 2e9, 2e9, 1.0]), 4, (255, 0, 0)).any()


@pytest.mark.parametrize(('name', 'rows'), [('draw_mnist:tiny', 8), ('draw_mnist:tiny_attention', 12)])
def test_canvases_have_rows_of_images_and_of_samples(name, rows):
  settings = settings_of(name, steps=5)
  system, state, batch = begun(settings)
  draw = painting.available(system)['canvases']
  image = draw(jax.random.key(0), state, np.asarray(batch['x']), preprocess.pixels(settings.data))
  side = 56 + 2
  assert image.shape == (rows * side + 2, 4 * side + 2, 3)
  coloured = (image != image[..., :1]).any(-1)
  assert coloured.any() == (rows == 12)
  last = np.asarray(jax.jit(system.views.reconstruct)(jax.random.key(0), state, batch['x']))[0, ..., 0]
  top = side if rows == 12 else 0  # below the row of the windows that are read
  cell = image[top + 2 :, 3 * side + 2 :][:56:14, :56:14]
  plain = ~coloured[top + 2 :, 3 * side + 2 :][:56:14, :56:14]
  np.testing.assert_allclose(cell[plain][:, 0], np.round(255 * last)[plain], atol=1)
  if rows == 12:  # the third column is that of the fourth step
    read = np.asarray(jax.jit(system.views.canvases)(jax.random.key(0), state, batch['x']).read)[3, 0]
    original = painting.magnified(np.uint8(255 * np.asarray(batch['x'][:1])))[0]
    expected = painting.framed(original, read, 14, painting.READ)
    np.testing.assert_array_equal(image[2:58, 2 * side + 2 :][:, :56], expected)


def test_compression_has_a_column_for_each_number_of_steps_and_the_originals():
  settings = settings_of('draw_mnist:tiny')
  system, state, batch = begun(settings)
  x, side = np.asarray(batch['x']), 56 + 2
  draw = painting.available(system)['compression']
  image = draw(jax.random.key(0), state, x, preprocess.pixels(settings.data))
  assert image.shape == ((1 + 4 * 3) * side + 2, 5 * side + 2, 3)
  cells = image[2:, 2:].reshape(13, side, 5, side, 3).swapaxes(1, 2)[:, :, :56:14, :56:14, 0]
  for i in range(4):
    for draw in range(3):
      np.testing.assert_array_equal(cells[1 + 3 * i + draw, 4], 255 * x[i, ..., 0])
  assert (cells[1, 0] != cells[2, 0]).any() and (cells[1, 3] == cells[2, 3]).all()
  assert [(head < 255).any() for head in image[2:58, 2:].reshape(56, 5, side, 3).swapaxes(0, 1)[:, :, :56]] == [
    True, True, True, True, False
  ]  # fmt: skip
