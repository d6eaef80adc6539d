"""A file of a trained model: what is opened is what was written, and what cannot be opened is named."""

import json
import pathlib

import chex
import jax
import numpy as np
import pytest
from absl import flags
from safetensors import numpy as tensors

import dgm_jax
from dgm_jax import api
from dgm_jax import config as experiment
from dgm_jax.commands import export
from dgm_jax.errors import UserError
from dgm_jax.runs import weights, workdir

X = np.random.default_rng(0).integers(256, size=(20, 8, 8, 1), dtype=np.uint8)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  folder = tmp_path_factory.mktemp('weights') / 'run'
  config = experiment.named_config('vqvae_mnist:tiny')  # statistics, whole numbers, an average
  config.update({'eval_every': 0, 'picture_every': 0})
  api.fit(config, steps=4, workdir=folder)
  return folder


def command(monkeypatch, *words):
  values = flags.FlagValues()
  for name in ('string', 'enum', 'integer', 'bool'):
    define = getattr(flags, f'DEFINE_{name}')
    monkeypatch.setattr(export.flags, f'DEFINE_{name}', lambda *a, d=define, **k: d(*a, **k, flag_values=values))
  monkeypatch.setattr(export.flags, 'FLAGS', values)
  monkeypatch.setattr('dgm_jax.runtime.cpu.keep_programs', lambda cache: None)
  export.define_flags()
  export.main(['export', *words])


def test_a_file_answers_as_its_run_does(folder, tmp_path, monkeypatch):
  np.savez(tmp_path / 'x.npz', x=X)
  file = tmp_path / 'there' / 'tiny.safetensors'
  command(monkeypatch, str(folder), f'--out={file}', f'--check={tmp_path / "x.npz"}')
  run, model = dgm_jax.load(folder), dgm_jax.load(file)
  np.testing.assert_array_equal(model.reconstruct(X), run.reconstruct(X))
  assert model.evaluate(X, only=('mean.metrics',)) == run.evaluate(X, only=('mean.metrics',)) == model.card['check']
  assert model.card['system'] == 'vq.vae' and model.card['licence'] == 'Apache-2.0'
  assert 'ema' not in model.state.extra and not model.state.opt
  chex.assert_trees_all_equal(model.params, run.params)
  monkeypatch.setattr(weights, 'FOLDER', file.parent)
  assert weights.find('tiny') == file
  with pytest.raises(UserError, match='tny is no file, and not in there/, which has tiny'):
    weights.find('tny')


def test_half_the_bytes_are_half_the_file(folder, tmp_path):
  subject = workdir.open_subject(folder, '')
  sizes = []
  for dtype in ('float32', 'bfloat16'):
    weights.save_weights(subject, {}, tmp_path / dtype, dtype)
    sizes.append((tmp_path / dtype).stat().st_size)
  opened, _ = weights.open_weights(tmp_path / 'bfloat16')
  assert {leaf.dtype for leaf in jax.tree.leaves(opened.state.params)} == {np.dtype('float32')}
  assert sizes[1] < 0.75 * sizes[0]
  for a, b in zip(jax.tree.leaves(opened.state.params), jax.tree.leaves(subject.state.params), strict=True):
    np.testing.assert_allclose(a, b, rtol=2**-8, atol=1e-6)


def test_programs_need_only_jax(folder, tmp_path, monkeypatch):
  digits = tmp_path / 'run'
  api.fit('vae_digits:tiny', steps=2, workdir=digits)
  command(monkeypatch, f'--workdir={digits}', f'--out={tmp_path / "vae"}', '--stablehlo', '--n=3')
  model = dgm_jax.load(tmp_path / 'vae.safetensors')
  read = lambda name: jax.export.deserialize((tmp_path / f'vae.{name}.stablehlo').read_bytes())
  np.testing.assert_array_equal(read('sample').call(np.uint32(5)), model.sample(3, seed=5))
  nats = np.asarray(read('log_prob').call(X[:3]))
  np.testing.assert_allclose(nats, model.programs(3)['log_prob'][0](X[:3]), rtol=1e-5)
  assert nats.shape == (3,)


def test_a_file_of_another_kind_is_named(folder, tmp_path):
  subject = workdir.open_subject(folder, '')
  good = tmp_path / 'good.safetensors'
  weights.save_weights(subject, {}, good)
  arrays = tensors.load_file(good)
  (tmp_path / 'cut').write_bytes(good.read_bytes()[:200])
  tensors.save_file(arrays, tmp_path / 'bare')
  said = {'format': '1', 'config': json.dumps(experiment.to_json(subject.config)), 'card': '{}'}
  few = dict(list(arrays.items())[1:])
  tensors.save_file(few, tmp_path / 'few', {'dgm_jax': json.dumps(said)})
  messages = {'cut': 'cannot be read: ', 'bare': 'is of format None, not 1', 'few': 'does not fit vq.vae'}
  for name, message in messages.items():
    with pytest.raises(UserError, match=f'{message}.*give a file that `dgm export` has written'):
      weights.open_weights(tmp_path / name)


def test_the_models_of_this_clone_give_the_figures_of_their_cards():
  """On 500 test digits, whatever their numbers were rounded to."""
  here = pathlib.Path(__file__).parents[1] / 'data' / 'digits500.npz'
  with np.load(here) as digits:
    x, y = digits['x'], digits['y']
  files = sorted(weights.FOLDER.glob('*.safetensors'))
  assert files and sum(file.stat().st_size for file in files) < 25e6
  for file in files:
    assert file.stat().st_size < 4e6
    model = dgm_jax.load(file)
    figures = model.evaluate(x, y, only=('mean.metrics',))
    assert figures.keys() == model.card['check'].keys()
    for name, value in model.card['check'].items():
      np.testing.assert_allclose(figures[name], value, rtol=2e-3, atol=2e-2, err_msg=f'{file.stem} {name}')
