"""Runs from before a key: they open, compute what they did, and keep their best step."""

import functools
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dgm_jax import config as experiment
from dgm_jax import training
from dgm_jax.errors import UserError
from dgm_jax.internal import metrics, older
from dgm_jax.internal.files import import_file
from dgm_jax.models import conditioners
from dgm_jax.runs import workdir

ROOT = pathlib.Path(__file__).parents[2]


def opened(tmp_path, **page):
  (tmp_path / 'config.json').write_text(json.dumps({'data': {}, 'model': {'network': {}}} | page))
  return experiment.load(tmp_path)


@pytest.mark.parametrize(
  ('system', 'key', 'before'),
  [
    ('flow.glow', 'network.edge', 'image'),
    ('flow.realnvp', 'network.channel_factor', 2.0),
    ('disentangle.tc_vae', 'divergence', 'sampled'),
  ],
)
def test_a_run_from_before_a_key_computes_what_it_did(system, key, before, tmp_path):
  read = lambda config: config.model.get_ref(key).get() if '.' not in key else config.model.network[key.split('.')[1]]
  assert read(opened(tmp_path, system=system)) == before
  later = opened(tmp_path, system=system, generated={'samples': 0, 'splits': 10})
  assert key.split('.')[-1] not in (later.model.network if '.' in key else later.model)


def test_planar_maps_of_a_run_from_before_are_not_the_identity_at_zero(tmp_path):
  network = lambda **page: opened(tmp_path, system='flow.planar', **page).model.network.to_dict()
  nll = {'samples': 5000, 'rows': 1000}
  assert network(nll=nll) == {'identity': False}
  assert network(nll=nll | {'examples': 0}) == {}


def test_averaged_weights_have_one_name(tmp_path):
  page = opened(tmp_path, system='autoregressive.pixelcnn_pp', model={'ema': 0.9995, 'network': {}})
  assert page.model.to_dict() == {'average': 0.9995, 'network': {}}


def test_both_players_losses_have_one_name(tmp_path):
  page = opened(tmp_path, system='gan.dcgan', model={'generator_loss': 'minimax', 'real_label': 0.9})
  assert page.model.to_dict() == {'objective': 'minimax', 'real_label': 0.9}


def test_old_names_are_read_on_the_command_line():
  assert older.flag('--config.model.generator_loss=minimax') == '--config.model.objective=minimax'
  assert older.flag('--config.model.ema=0.9') == '--config.model.average=0.9'
  for word in ('--config.model.latents=3', '--config.data.ema=1', '--workdir=config.model.ema', 'ema=3'):
    assert older.flag(word) == word


def test_other_runs_get_no_key_of_those_systems(tmp_path):
  page = opened(tmp_path, system='vae.vae')
  assert page.model.to_dict() == {'network': {}}
  assert page.generated.to_dict() == {'samples': 0, 'splits': 10}


def test_the_choice_of_the_best_step_has_its_new_name(tmp_path):
  assert opened(tmp_path, system='vq.prior', best='nll_nats', conditional=True).best == 'nll_codes_nats_given_label'
  assert opened(tmp_path, system='vae.vae', best='nll_nats', conditional=False).best == 'nll_nats'
  for name in ('nll_nats', 'bits_per_dim'):
    assert metrics.once(metrics.named(name, 'autoregressive.pixelcnn', True)) == name
  assert metrics.once(metrics.named('nll_nats', 'vq.prior', True)) == 'nll_nats'


def test_the_edge_channel_of_before_is_one_at_the_border_of_the_image():
  x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 4, 5, 2)), jnp.float32)
  before, now = conditioners.EDGES['image'](x), conditioners.EDGES['padding'](x)
  np.testing.assert_array_equal(before[..., :2], now[..., :2])
  np.testing.assert_array_equal(before[0, 1:-1, 1:-1, 2].sum(), 2 * 4 + 2 * 5 - 4)
  assert not before[0, 0].any() and not before[0, :, 0].any()
  np.testing.assert_array_equal(now[0, ..., 2].sum(), 2 * 6 + 2 * 7 - 4)
  assert not now[0, 1:-1, 1:-1, 2].any()
  same = lambda edge: conditioners.ZeroConv(3, edge).init(jax.random.key(0), x)
  assert jax.tree.map(jnp.shape, same('image')) == jax.tree.map(jnp.shape, same('padding'))


def test_keys_that_came_later_are_filled_in_as_todays_configs_have_them(tmp_path):
  """The run opens, and is the same experiment as its own config of today."""
  page = experiment.to_json(vae_digits())
  (tmp_path / 'whole').mkdir()
  (tmp_path / 'whole' / 'config.json').write_text(json.dumps(page))
  for path in ('keep', 'data.levels', 'log.wandb', 'optimizer.model.eps_root', 'model.channels', 'model.samples'):
    *parents, last = path.split('.')
    functools.reduce(lambda inner, key: inner[key], parents, page).pop(last)
  older_run = opened(tmp_path, **page)
  assert older_run == experiment.load(tmp_path / 'whole')
  assert not workdir.differences(experiment.to_json(older_run), experiment.to_json(vae_digits()))
  changed = vae_digits()
  changed.model.samples = 3
  told = workdir.differences(experiment.to_json(older_run), experiment.to_json(changed))
  assert told == ['model.samples: 1 -> 3']


def test_a_page_names_no_program_that_is_run(tmp_path):
  """`source` is data: only files of the package's own clone are read for later keys."""
  (tmp_path / 'evil.py').write_text('raise SystemExit("it ran")')
  page = experiment.to_json(vae_digits()) | {'source': str(tmp_path / 'evil.py')}
  assert opened(tmp_path, **page).source == page['source']


def test_a_damaged_page_is_one_line(tmp_path):
  for content in ('[]', '{"optimizer": 3}', '{"data": null}', '{"model": [1]}', '"text"', '{"source": 5}', '\xff'):
    (tmp_path / 'config.json').write_text(content)
    with pytest.raises(UserError, match=r'config\.json cannot be read'):
      experiment.load(tmp_path)


def vae_digits():
  path = pathlib.Path(__file__).parents[2] / 'configs' / 'vae_digits.py'
  config = import_file(path).get_config('tiny')
  with config.unlocked():
    config.source = 'configs/vae_digits.py:tiny'
  return config


def test_a_longer_run_says_what_becomes_of_its_learning_rate(tmp_path, capsys):
  config = vae_digits()
  config.update({'eval_every': 0, 'picture_every': 0, 'steps': 4})
  training.fit(config, tmp_path / 'run')
  said = capsys.readouterr().out
  assert 'schedule' not in said
  lines = ['tracing a step, an evaluation and a sample of vae.vae ...', 'making the start state of vae.vae ...']
  assert said.splitlines()[:2] == lines  # no silence before the first step
  config.steps = 8
  training.fit(config, tmp_path / 'run')
  said = capsys.readouterr().out
  assert 'the run of 4 steps now has 8, over which the cosine schedule of config.optimizer.model is stretched' in said
  assert 'its learning rate at step 4 is 0.0005 and was 0' in said


def test_a_conditional_run_is_taken_up_again_though_its_metrics_have_a_name_of_their_own(tmp_path, monkeypatch):
  """The best metric of a network that is told the label is written with the name that the system gives it."""
  config = import_file(ROOT / 'configs' / 'vqvae2_mnist.py').get_config('tiny_prior')
  assert config.conditional and config.best == 'nll_codes_nats'
  monkeypatch.setattr(workdir.checkpoint, 'steps', lambda folder: [4])
  workdir.claim(tmp_path, config)
  workdir.compare(tmp_path, config, False)
  config.seed = 7
  with pytest.raises(UserError, match='seed: 0 -> 7'):
    workdir.compare(tmp_path, config, False)
