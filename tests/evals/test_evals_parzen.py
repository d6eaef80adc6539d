"""Parzen windows against closed forms, and how many generated images are judged."""

import math
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest
from playing import settings_of

from dgm_jax import data
from dgm_jax.errors import UserError
from dgm_jax.evals import generated, parzen
from dgm_jax.runs.subject import Subject
from dgm_jax.runtime import parallel

RANDOM = np.random.default_rng(7)


def test_one_centre_is_a_normal():
  x, centre = RANDOM.normal(size=(1200, 3)), RANDOM.normal(size=(1, 3))
  expected = -0.5 * np.square((x - centre) / 0.4).sum(1) - 3 * (0.5 * math.log(2 * math.pi) + math.log(0.4))
  np.testing.assert_allclose(parzen.log_density(x, centre, 0.4), expected, rtol=1e-6)


def test_the_density_is_the_mean_over_centres_and_integrates_to_one():
  centres, line = np.array([[-1.0], [0.5], [2.0]]), np.linspace(-8, 9, 4001)[:, None]
  density = np.exp(parzen.log_density(line, centres, 0.7))
  np.testing.assert_allclose(density.sum() * (line[1, 0] - line[0, 0]), 1, rtol=1e-6)
  each = np.stack([np.exp(parzen.log_density(line, centre[None], 0.7)) for centre in centres])
  np.testing.assert_allclose(density, each.mean(0), rtol=1e-9)


def subject_of(drawn, real, **settings):
  """A generator that draws `drawn`, uint8 [n, 2, 2, 1], again and again, on a split `real`."""
  config = settings_of('gan_mnist:tiny', (8, 8, 1))
  with config.unlocked():
    config.data.update({'shape': (2, 2, 1), 'preprocess': 'scale', 'valid_size': 100} | settings)
  tiled = np.resize(drawn, (generated.CHUNK, 2, 2, 1)) / 255
  system = SimpleNamespace(sample=lambda key, state, n: jnp.asarray(tiled, jnp.float32), views={})
  split = data.Split('', len(real), {'x': real, 'y': np.zeros(len(real))})
  return Subject(config, system, (), split, parallel.mesh(1))


def test_the_width_is_the_best_on_validation_images(monkeypatch):
  """Pixels around a grey with the deviation s: of one centre there, s is the width that fits best."""
  around = lambda n: np.clip(np.round(255 * RANDOM.normal(0.5, 0.13, (n, 2, 2, 1))), 0, 255).astype('u1')
  subject = subject_of(np.full((1, 2, 2, 1), 128, 'u1'), around(400))
  monkeypatch.setattr(parzen.data, 'load', lambda settings, name: data.Split('', 500, {'x': around(500)}))
  found = parzen.parzen(0, subject)
  assert found['parzen_width/10k'] == pytest.approx(10 ** (-1 + 1 / 9), rel=1e-6)  # 0.129
  expected = -4 * (0.5 * math.log(2 * math.pi * 0.129**2) + 0.5)
  assert abs(found['parzen_log_likelihood_nats/10k'] - expected) < 0.3
  assert 0 < found['parzen_standard_error_nats/10k'] < 0.2
  with pytest.raises(UserError, match=r'config\.data\.valid_size > 0'):
    parzen.parzen(0, subject_of(np.zeros((1, 2, 2, 1), 'u1'), around(5), valid_size=0))


def test_as_many_images_are_judged_as_are_asked_for(monkeypatch):
  seen = []
  monkeypatch.setattr(generated, 'find', lambda judge, shape: generated.Judge('', None, None))
  monkeypatch.setattr(generated, 'compare', lambda real, fake, splits: {'inception_score': float(splits)})
  monkeypatch.setattr(generated.distances, 'frechet', lambda a, b: 0.0)
  monkeypatch.setattr(generated.distances, 'kernel_subsets', lambda a, b: (0.0, 0.0))
  pixels = RANDOM.integers(256, size=(300, 2, 2, 1), dtype=np.uint8)
  monkeypatch.setattr(generated.data, 'load', lambda settings, name: data.Split('', 300, {'x': pixels}))
  monkeypatch.setattr(generated, 'samples', lambda seed, subject, count: iter([pixels[:1].repeat(count, 0)]))
  blank = lambda judge, mesh, chunks: (
    seen.append(sum(map(len, chunks))) or generated.Seen(np.full((50, 2), 0.5), None, SimpleNamespace())
  )
  monkeypatch.setattr(generated, 'look', blank)
  subject = subject_of(pixels[:1], pixels)
  assert set(generated.classifier(0, subject)) >= {'inception_score/300', 'least_share_percent/300'}
  assert seen == [300, 300, 300, 300]  # real, generated, training images, noise
  subject.config.generated.update({'samples': 5000, 'splits': 4})
  assert generated.classifier(0, subject)['inception_score/5k'] == 4
  assert seen[4:] == [300, 5000, 300, 5000]
