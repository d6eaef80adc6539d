"""Runs from before a key: they open, compute what they did, and keep their best step."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dgm_jax import config as experiment
from dgm_jax.internal import metrics, older
from dgm_jax.models import conditioners


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
