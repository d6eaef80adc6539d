"""What lossy codes keep, of a system whose decompressions are known, and the pictures of it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dgm_jax import config as experiment
from dgm_jax import data
from dgm_jax.core import System
from dgm_jax.data import preprocess
from dgm_jax.errors import UserError
from dgm_jax.evals import codes, generated
from dgm_jax.pictures import gallery
from dgm_jax.runs.subject import Subject
from dgm_jax.runtime import parallel
from dgm_jax.views import Views


def shifted(key, state, x):
  """A quarter of the pixels are others: those of the first row, for images of 4x4."""
  del key, state
  return jnp.asarray(x).at[:, 0].set(1 - x[:, 0])


@pytest.fixture
def subject(monkeypatch):
  """Images of 4x4 whose label is their last pixel, or is that of an image without a first row."""
  config = experiment.defaults()
  config.data.update({'name': 'digits', 'preprocess': 'threshold', 'shape': (4, 4, 1), 'levels': 256})
  config.eval_batch_size = 5
  x = (np.random.default_rng(0).random((12, 4, 4, 1)) > 0.5).astype(np.uint8) * 255
  y = x[:, 3, 3, 0].astype(np.int32) // 255
  y[0] = 1 - y[0]  # a label that the judge gets wrong
  split = data.Split('images', 12, {'x': x, 'y': y})
  see = lambda state, pixels: (jax.nn.one_hot(pixels[:, 3, 3, 0] // 255, 2), pixels)
  monkeypatch.setattr(generated, 'find', lambda judge, shape: generated.Judge('classifier', see, ()))
  views = Views(decompress=shifted, variations=lambda key, state, n: jnp.zeros((2, n, 4, 4, 1)))
  system = System(None, None, None, None, views)
  return Subject(config, system, {}, split, parallel.mesh(1))


def test_decompressions_keep_labels_and_pixels(subject):
  found = codes.decompressions(0, subject)
  assert found == pytest.approx({'equal_pixels/12': 0.75, 'label_kept/12': 11 / 12, 'label_of_originals/12': 11 / 12})


def test_decompressions_that_lose_the_label_are_noticed(subject):
  flipped = Views(decompress=lambda key, state, x: 1 - x)
  found = codes.decompressions(0, subject._replace(system=subject.system._replace(views=flipped)))
  assert found['equal_pixels/12'] == 0
  assert found['label_kept/12'] == pytest.approx(1 / 12)


@pytest.mark.parametrize(
  ('preprocess', 'likelihood', 'span'),
  [('threshold', 'bernoulli', 1), ('scale_symmetric', 'discretized_logistic', 2), ('threshold', 'gaussian', 1)],
)
def test_compression_has_bits_and_errors_for_each_number_of_steps(subject, preprocess, likelihood, span):
  """A nat a step and image; an error of a half, a quarter and an eighth in [0, 1]."""
  subject.config.data.preprocess, subject.config.model.likelihood = preprocess, likelihood

  def compress(key, state, x, steps, draw):
    assert state == {}
    kept = (jnp.arange(2) < steps)[None] * jnp.ones((x.shape[0], 1))
    return x + span * 0.5 ** (1 + steps), kept

  changed = subject._replace(system=subject.system._replace(views=Views(compress=compress)))
  found = codes.compression(0, changed)
  assert set(found) == {'bits_by_steps/12', 'mse_by_steps/12'}
  np.testing.assert_allclose(found['bits_by_steps/12'], np.arange(3) / np.log(2), rtol=1e-6)
  np.testing.assert_allclose(found['mse_by_steps/12'], [1 / 4, 1 / 16, 1 / 64], rtol=1e-5)


def test_decompressions_of_a_split_without_labels_are_one_line(subject):
  arrays = {'x': subject.split.arrays['x']}
  with pytest.raises(UserError, match='has no labels'):
    codes.decompressions(0, subject._replace(split=subject.split._replace(arrays=arrays)))


class Step:
  sharding = None


class FakeState:
  step = Step


def test_pictures_put_three_draws_beside_each_original(subject, monkeypatch):
  monkeypatch.setattr(gallery, 'call', lambda function, state, *args, static=(): np.asarray(function(*args)))
  x = (np.arange(48).reshape(3, 4, 4, 1) % 2).astype('f4')
  to_uint8 = preprocess.pixels(subject.config.data)
  image = gallery.decompressions(jax.random.key(0), subject.system, FakeState, x, to_uint8, columns=1)
  cells = np.stack([x, *[np.asarray(shifted(None, None, jnp.asarray(x)))] * 3], 1).reshape(-1, 4, 4, 1)
  np.testing.assert_array_equal(image, gallery.grid(np.asarray(to_uint8(cells)), 4))
  rows = gallery.variations(jax.random.key(0), subject.system, FakeState, x, to_uint8, columns=5)
  assert rows.shape == gallery.grid(np.zeros((10, 4, 4, 1), np.uint8), 5).shape
