"""The picture of posteriors: which latents it shows, where their points lie, and which image is above them."""

import jax
import numpy as np
import pytest
from playing import begun, settings_of

from dgm_jax import systems
from dgm_jax.data import preprocess
from dgm_jax.pictures import gallery, posterior

RANDOM = np.random.default_rng(0)


def samples(images=3, n=4000, latents=5):
  """Independent normals before; after, latents 1 and 3 depend on one another, and the order is reversed."""
  before = RANDOM.normal(size=(images, n, latents)).astype(np.float32) + 10
  moved = before.copy()
  moved[..., 3] = 0.2 * before[..., 3] + 1.5 * (before[..., 1] - 10)
  return before, moved[..., ::-1]


def test_the_two_latents_that_depend_on_one_another_are_shown():
  before, after = samples()
  assert posterior.most_dependent(after) == (1, 3)  # 3 and 1 in the reversed order
  assert posterior._sources(before, after[..., [1, 3]]) == [3, 1]
  assert posterior._sources(before, after[..., [0, 3]]) == [4, 1]


def test_the_rows_are_images_round_clouds_and_moved_ones():
  before, after = samples()
  images = RANDOM.integers(0, 256, (3, 7, 7, 3), np.uint8)
  cells = posterior.cells(images, before, after)
  assert cells.shape == (9, 56, 56, 3)
  np.testing.assert_array_equal(cells[:3, ::8, ::8], images)
  rows, columns = np.mgrid[:56, :56] - 27.5
  for number, cell in enumerate(cells[3:, ..., 0]):
    ink = 255.0 - cell
    correlation = (ink * -rows * columns).sum() / np.sqrt((ink * rows**2).sum() * (ink * columns**2).sum())
    assert abs(correlation) < 0.1 if number < 3 else correlation > 0.9


def test_the_first_coordinate_goes_right_and_the_second_up():
  around = np.concatenate([np.zeros((100, 2)), np.full((10, 2), (3.0, 1.0)), np.full((10, 2), (-3.0, -1.0))])
  ink = 255 - posterior.shade(around).astype(int)
  (high, right), (low, left) = ((np.argwhere(ink[:, half] > 0).mean(0)) for half in (slice(32, None), slice(24)))
  assert high < 27.5 < low
  assert right + 32 > 27.5 > left
  assert ink[27:29, 27:29].max() == 255


@pytest.mark.parametrize('name', ['iaf_vae_mnist:tiny', 'nf_vae_mnist:tiny_sylvester'])
def test_a_posterior_with_a_flow_has_the_picture(name):
  settings = settings_of(name)
  system, state, batch = begun(settings)
  before, after = jax.jit(system.views.flow_samples, static_argnums=3)(jax.random.key(0), state, batch['x'], 50)
  assert before.shape == after.shape == (4, 50, 4)
  assert np.abs(before - after).max() > 1e-3
  draw = gallery.available(system)['posterior']
  image = draw(jax.random.key(0), state, np.asarray(batch['x']), preprocess.pixels(settings.data))
  assert image.shape == ((3 * 57 + 1) * 2, (4 * 57 + 1) * 2, 1)


def test_samples_before_the_flow_have_the_normal_that_log_q_takes():
  """The samples are those of `draw`: the same key gives the same latents."""
  from dgm_jax.systems.parts import transformed

  settings = settings_of('iaf_vae_mnist:tiny', average=0.0)
  _, state, batch = begun(settings)
  parts = transformed.by_name(settings)
  key = jax.random.key(3)
  (latent,) = jax.jit(parts.draw, static_argnums=3)(key, state, batch['x'], 6)
  np.testing.assert_array_equal(jax.jit(parts.flow_samples, static_argnums=3)(key, state, batch['x'], 6)[1], latent.z)


def test_other_posteriors_have_none():
  for name, changes in (('iaf_vae_mnist:tiny', {'posterior': 'diagonal'}), ('nf_vae_mnist:tiny', {'latents': (1,)})):
    settings = settings_of(name, **changes)
    assert systems.build(settings).views.flow_samples is None
