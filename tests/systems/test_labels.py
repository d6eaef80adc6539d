"""Labels that samples of conditional systems are told: drawn from the training set's shares, by rows in pictures."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_vq import config as settings_of

from dgm_jax import config as experiment
from dgm_jax import core, data, systems
from dgm_jax.pictures import gallery
from dgm_jax.runs import workdir
from dgm_jax.systems import vq
from dgm_jax.systems.parts import labels, raster
from dgm_jax.views import Views

KEY = jax.random.key(4)
SHARES = (0.7, 0.0, 0.2, 0.1, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)


def pixelcnn():
  settings = settings_of('gated_pixelcnn', 'tiny')
  settings.conditional = True
  return settings


def prior():
  return settings_of('vqvae2_mnist', 'tiny_prior')


@pytest.fixture(params=[pixelcnn, prior], ids=['pixels', 'codes'])
def told(request, monkeypatch):
  """A system with the shares above, and the conditions that its network is drawn with."""
  settings, conditions = request.param(), []
  with settings.unlocked():
    settings.data.update({'shape': (8, 8, 1), 'examples': 100, 'class_shares': SHARES})
  if settings.system == 'vq.prior':
    monkeypatch.setattr(vq.code_priors, 'sample', lambda made, key, params, n, y, t: conditions.append(y) or n)
    monkeypatch.setattr(vq, 'views', lambda network: {'codes': None, 'image': lambda key, state, n: jnp.zeros(n)})
  else:
    drawn = lambda key, drawing, given, known: conditions.append(drawing.condition) or given
    monkeypatch.setattr(raster, 'sample_incremental', drawn)
  state = core.State(0, {'model': {}}, {}, {})
  return systems.build(settings), state, conditions


def test_samples_have_the_classes_of_the_training_set(told):
  system, state, conditions = told
  system.sample(KEY, state, 4000)
  system.sample(jax.random.fold_in(KEY, 1), state, 4000)
  first, second = (np.asarray(one) for one in conditions)
  np.testing.assert_allclose(first.mean(0), SHARES, atol=0.03)
  assert (first != second).any()  # by the key


def test_pictures_have_a_class_to_each_row(told):
  system, state, conditions = told
  system.views.row_sample(KEY, state, 36)
  np.testing.assert_array_equal(conditions[0].argmax(1), np.repeat(np.arange(6), 6))
  assert (conditions[0].argmax(1) == labels.labels_by_row(36, 10)).all()


def test_the_grid_of_samples_is_the_one_by_rows(monkeypatch):
  seen = []
  monkeypatch.setattr(gallery, 'call', lambda draw, *rest, **kwargs: seen.append(draw) or np.zeros((4, 2, 2, 1), 'u1'))
  by_rows, plain = object(), object()
  gallery.samples(KEY, SimpleNamespace(views=Views(row_sample=by_rows), sample=plain), None, 4, np.asarray)
  gallery.samples(KEY, SimpleNamespace(views=Views(), sample=plain), None, 4, np.asarray)
  assert seen == [by_rows, plain]


def test_the_shares_are_those_of_the_training_examples(tmp_path):
  settings, split = pixelcnn(), data.Split('', 8, {'x': np.zeros((8, 8, 8, 1), 'u1'), 'y': np.array([0, 0, 0, 3] * 2)})
  shares = workdir.resolve(settings, split).data.class_shares
  assert shares == (0.75, 0, 0, 0.25, 0, 0, 0, 0, 0, 0)
  settings.conditional = False
  assert workdir.resolve(settings, split).data.class_shares == ()


def test_a_run_from_before_the_shares_goes_on():
  old, new = experiment.to_json(pixelcnn()), experiment.to_json(pixelcnn())
  new['data']['class_shares'] = list(SHARES)
  del old['data']['class_shares']
  assert workdir.differences(old, new) == []
  assert workdir.differences(new, new | {'data': new['data'] | {'class_shares': [1.0]}}) != []
