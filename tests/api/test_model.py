"""A trained system as a value: it says what the commands say, to the bit, and has no method that it cannot answer."""

import pathlib
import re

import chex
import numpy as np
import pytest
from absl import flags

import dgm_jax
from dgm_jax import api, data
from dgm_jax.api.offers import Offer
from dgm_jax.commands import sample
from dgm_jax.errors import UserError
from dgm_jax.evals import measuring
from dgm_jax.runs import workdir


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  folder = tmp_path_factory.mktemp('model') / 'run'
  api.fit('vae_digits:tiny', steps=4, workdir=folder)
  return folder


@pytest.fixture(scope='module')
def model(folder):
  return dgm_jax.load(folder)


@pytest.fixture(scope='module')
def held_out(model):
  return data.load(model.config.data, 'test')


def test_a_trained_model_draws_what_the_command_draws(model, folder, monkeypatch):
  values = flags.FlagValues()
  for name in ('string', 'enum', 'integer', 'float', 'list', 'bool'):
    define = getattr(flags, f'DEFINE_{name}')
    monkeypatch.setattr(sample.flags, f'DEFINE_{name}', lambda *a, d=define, **k: d(*a, **k, flag_values=values))
  monkeypatch.setattr(sample.flags, 'FLAGS', values)
  monkeypatch.setattr('dgm_jax.runtime.cpu.keep_programs', lambda cache: None)
  sample.define_flags()
  sample.main(['sample', f'--workdir={folder}', '--n=6', '--seed=3'])
  np.testing.assert_array_equal(model.sample(6, seed=3), np.load(folder / 'samples' / 'samples.npy'))
  assert (model.sample(6, seed=4) != model.sample(6, seed=3)).any()


def test_a_trained_model_measures_what_the_command_measures(model, folder, held_out):
  x = held_out.arrays['x']
  subject = workdir.open_subject(folder, 'test')
  figures = measuring.measure(subject, ('mean.metrics', 'likelihood.nll'))
  assert model.evaluate(x, only=('mean.metrics', 'likelihood.nll')) == figures
  nats = model.log_prob(x)
  assert (nats.shape, nats.dtype) == ((len(x),), np.float64)
  assert -nats.mean() == figures['nll_nats']
  np.testing.assert_allclose(model.bits_per_dim(x).mean(), figures['nll_bits_per_dim'], rtol=1e-6)
  np.testing.assert_array_equal(model.log_prob(x[:3] / 255.0), model.log_prob(x[:3]))
  assert (model.log_prob(x[:3], samples=10) != model.log_prob(x[:3])).any()


def test_codes_and_images_of_a_trained_model(model, held_out):
  x = held_out.arrays['x'][:3]
  z = model.encode(x)
  assert z.shape == (3, 4)
  np.testing.assert_array_equal(model.encode(x[..., 0]), z)
  np.testing.assert_array_equal(model.decode(z), model.reconstruct(x))
  way = model.interpolate(x[0], x[1], 5)
  assert (way.shape, way.dtype) == ((5, 8, 8, 1), np.uint8)
  np.testing.assert_array_equal(way[[0, -1]], model.decode(z[:2]))


def test_a_method_that_a_system_cannot_answer_is_not_there(model):
  assert not hasattr(model, 'complete') and 'complete' not in dir(model) and 'decode' in dir(model)
  assert 'keyword' not in model.params and set(model.params) == {'decoder', 'encoder'}
  with pytest.raises(AttributeError, match=r'vae\.vae has no complete: .* it has sample, log_prob, bits_per_dim'):
    model.complete  # noqa: B018
  assert 'masked' not in (dgm_jax.Model.complete.__doc__ or '') and 'mask' in dgm_jax.Model.complete.__doc__
  assert repr(model).startswith('<Model vae.vae on digits (8, 8, 1), step 4: ')


@pytest.mark.parametrize(
  ('x', 'message'),
  [
    (np.zeros((2, 9, 8, 1)), r'x has the shape \(2, 9, 8, 1\), and the model takes \[B, 8, 8, 1\]'),
    (np.zeros((0, 8, 8, 1)), r'x has the shape \(0, 8, 8, 1\)'),
    (np.full((2, 8, 8, 1), 255.0), 'x holds float64 from 255 to 255: give uint8 pixels, or floats from 0'),
    (np.full((2, 8, 8, 1), np.nan), 'x holds float64 from nan to nan'),
    (np.ones((2, 8, 8, 1), int), 'x holds int64 from 1 to 1'),
  ],
)
def test_examples_of_another_kind_are_refused(model, x, message):
  with pytest.raises(UserError, match=message):
    model.encode(x)


def test_labels_of_another_number_are_refused(model, held_out):
  with pytest.raises(UserError, match=r'y has the shape \(2,\), and there are 3 examples'):
    model.evaluate(held_out.arrays['x'][:3], [1, 2])


def test_what_cannot_be_loaded_is_named(folder, tmp_path):
  with pytest.raises(UserError, match='is no file, and not in weights/, which has '):
    dgm_jax.load(tmp_path / 'nothing')
  with pytest.raises(UserError, match='weights must be one of average, raw'):
    dgm_jax.load(folder, weights='mean')
  with pytest.raises(UserError, match="there is no experiment 'vae_digit'; did you mean 'vae_digits'"):
    dgm_jax.fit('vae_digit')
  with pytest.raises(UserError, match="no variant 'tny'; did you mean 'tiny'"):
    dgm_jax.fit('vae_digits:tny')


def test_a_fit_goes_on_in_its_folder_and_leaves_nothing_without_one(folder, tmp_path, monkeypatch, model):
  monkeypatch.setattr('tempfile.tempdir', str(tmp_path))
  again = dgm_jax.fit('vae_digits:tiny', steps=4)
  assert not list(tmp_path.iterdir())
  chex.assert_trees_all_equal(again.params, model.params)
  longer = dgm_jax.fit('vae_digits:tiny', steps=6, workdir=folder)
  assert int(longer.state.step) == 6


def test_the_package_has_its_parts_when_they_are_asked_for():
  assert dgm_jax.losses.elbo and dgm_jax.systems.vae and set(dgm_jax.__all__) <= set(dir(dgm_jax))
  with pytest.raises(AttributeError, match="'dgm_jax' has no attribute 'lod'; it has Model"):
    dgm_jax.lod  # noqa: B018


def test_the_readme_says_what_a_model_does():
  readme = (pathlib.Path(__file__).parents[2] / 'README.md').read_text()
  (code,) = [block for block in re.findall(r'```python\n(.*?)```', readme, re.S) if 'dgm_jax.fit' in block]
  said = {}
  exec(compile(code, 'README.md', 'exec'), said)
  assert (said['images'].shape, said['nats'].shape, said['between'].shape) == ((16, 8, 8, 1), (16,), (8, 8, 8, 1))
  assert 'nll_nats' in said['figures']
  names = set(re.findall(r'`(\w+)`', readme.split('A model has what its system can do:')[1].split(';')[0]))
  assert names == {name for name, own in vars(dgm_jax.Model).items() if isinstance(own, Offer)}
