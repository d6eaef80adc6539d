"""Losses of models whose likelihood is exact are that likelihood, of what the networks give."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from playing import HALF, begun, bernoulli, doubles, flat, log_softmax, once, played, settings_of, softplus

from dgm_jax import models
from dgm_jax.systems import autoregressive, flow


def assert_same(value, formula):
  np.testing.assert_allclose(value, formula, rtol=3e-5, atol=1e-5)


FLOWS = {
  'nice': ('nice_mnist:tiny', {}, {'start': 'zeros'}),
  'realnvp': ('realnvp_cifar10:tiny', {'l2': 0.03}, {}),
  'realnvp_dense': ('realnvp_mnist:tiny', {'l2': 0.02}, {}),
  'glow': ('glow_cifar10:tiny', {'average': 0.0}, {'levels': 1, 'memory': 'plain'}),
  'maf': ('flow_toy:tiny_maf', {'noise': 'logistic'}, {'layers': 1}),
  'iaf': ('flow_toy:tiny_maf', {}, {'layers': 1}),
  'planar': ('flow_toy:tiny_maf', {'alpha': 0.05}, None),
}


@pytest.mark.parametrize('name', FLOWS)
def test_a_flow_climbs_its_likelihood(name):
  """log p(noise) + log-determinant, of the data in its own units (Dinh et al. 2017, equation 3 and section 4.1)."""
  stem, changes, network = FLOWS[name]
  settings = settings_of(stem, (2, 2, 1), **changes)
  settings.system = f'flow.{name}'
  settings.model.network = {'layers': 2} if network is None else settings.model.network.to_dict() | network
  metrics, play = played(settings)
  play, model = play('model'), settings.model
  made, x, log_q = flow.build_parts(settings, getattr(flow.flows, name)), play.x, np.zeros(4)
  if made.dequantizer:
    dequantize = lambda: made.dequantizer.apply({'params': play.state.params['dequantizer']}, play.batch['x'], play.key)
    noise, log_q = map(np.asarray, once(dequantize))
    x = (np.floor(256 * x) + noise) / 256
  opened, log_det = np.float64(x), np.zeros(4)
  if model.alpha:
    inside = model.alpha + (1 - 2 * model.alpha) * opened
    slope = (1 - 2 * model.alpha) / (inside * (1 - inside))
    opened, log_det = np.log(inside) - np.log1p(-inside), np.log(slope).reshape(4, -1).sum(1)
  params = play.state.params['flow']
  z, moved, _ = once(lambda: made.flow.forward(params, None, jnp.asarray(opened, jnp.float32)))
  z = np.concatenate([flat(leaf) for leaf in jax.tree.leaves(z)], 1)
  log_noise = -z - 2 * softplus(-z) if model.noise == 'logistic' else -HALF - 0.5 * z**2
  bound = (log_noise.sum(1) + np.asarray(moved) + log_det - log_q).mean()
  leaves = jax.tree_util.tree_leaves_with_path(doubles(params))
  gains = [leaf for path, leaf in leaves if path[-1].key.split('/')[-1] == 'scale']
  assert bool(gains) == name.startswith('realnvp')
  if name.startswith('realnvp'):  # outside training: the running statistics
    stats = play.state.extra['stats']
    z, moved, _ = once(lambda: made.flow.forward(params, stats, jnp.asarray(opened, jnp.float32)))
    z = np.concatenate([flat(leaf) for leaf in jax.tree.leaves(z)], 1)
    behind, found = (-HALF - 0.5 * z**2).sum(1) + np.asarray(moved), play.measured()
    assert_same(found['nll_nats'], log_q - behind - log_det)
    assert_same(found['bits_per_dim'], (log_q - behind - log_det) / (4 * math.log(2)) + 8)
    assert_same(found['nll_logit_nats'], log_q - behind)
  assert_same(metrics['model/nll_nats'], -bound)
  assert_same(metrics['model/loss'], -bound + model.l2 * sum((gain**2).sum() for gain in gains))


def mixed(x, numbers, components):
  """Salimans et al. 2017, section 2.1, for one channel: a mixture of logistics over 256 levels."""
  logits, means, scales = np.split(np.asarray(numbers, np.float64), 3, -1)
  steep = np.exp(-np.maximum(scales, -7))
  at = lambda place: 1 / (1 + np.exp(-(place - means) * steep))
  upper, lower = np.where(x > 0.999, 1, at(x + 1 / 255)), np.where(x < -0.999, 0, at(x - 1 / 255))
  return np.log((np.exp(log_softmax(logits)) * (upper - lower)).sum(-1))


PIXELS = {
  'pixelcnn': ('pixelcnn:tiny', {}),
  'pixelrnn': ('pixelrnn:tiny_row', {}),
  'gated_pixelcnn': ('gated_pixelcnn:tiny_levels', {'levels': 4}),
  'pixelcnn_pp': ('pixelcnn_pp:tiny', {'average': 0.0}),
  'pixelsnail': ('pixelsnail:tiny', {'average': 0.0}),
  'local_pixelcnn': ('vlae_mnist:tiny_unconditional', {'average': 0.0}),
}


@pytest.mark.parametrize('name', PIXELS)
def test_pixels_are_coded_one_after_another_with_dropout(name):
  """Van den Oord et al. 2016, equation 1, of bits, of levels and of mixtures of logistics."""
  stem, changes = PIXELS[name]
  settings = settings_of(stem, (4, 4, 1), **changes)
  if name not in ('pixelcnn', 'pixelrnn', 'local_pixelcnn'):
    settings.model.network.dropout = 0.5
  if name == 'pixelcnn_pp':
    settings.model.network.levels = 1
  smaller = lambda state: state.replace(params=jax.tree.map(lambda leaf: 0.3 * leaf, state.params))
  metrics, play = played(settings, 2, change=smaller)
  play, model = play('model'), settings.model
  network, x = autoregressive.build_parts(settings, models.AUTOREGRESSIVE[name]).network, play.x
  read = jnp.asarray(2 * x - 1 if model.likelihood == 'bernoulli' else x)
  told = jnp.asarray(np.eye(10)[np.asarray(play.batch['y'])], jnp.float32) if settings.conditional else None
  apply = lambda: network.apply({'params': play.state.params['model']}, read, told, rngs={'dropout': play.key})
  numbers = np.asarray(once(apply), np.float64)
  if model.network.get('dropout'):  # in training alone
    whole = once(lambda: network.apply({'params': play.state.params['model']}, read, told))
    assert np.abs(np.asarray(whole) - numbers).max() > 1e-3
  if model.likelihood == 'bernoulli':
    nats = bernoulli(x, numbers)
  elif model.likelihood == 'categorical':
    levels = np.round((x[..., 0] + 1) / 2 * 3).astype(int)
    nats = np.take_along_axis(log_softmax(numbers), levels[..., None], -1)
  else:
    nats = mixed(x, numbers, model.components)
  assert_same(metrics['model/loss'], -nats.reshape(2, -1).sum(1).mean())
  if name == 'pixelrnn':  # without dropout it is measured as it is trained
    assert_same(play.measured()['nll_nats'], -nats.reshape(2, -1).sum(1))
    assert_same(play.measured()['bits_per_dim'], -nats.reshape(2, -1).sum(1) / (16 * math.log(2)))


def test_deep_gmm():
  """Van den Oord & Schrauwen 2014, equation 3: the sum over all paths, each a normal."""
  metrics, play = played(settings_of('deep_gmm:tiny', (2, 2, 1)), change=near_identity)
  params, x = doubles(play('model').state.params['mixture']), flat(play('model').x)
  terms = []
  for i in range(2):
    for j in range(2):
      first, second = params['kernel_0'][i], params['kernel_1'][j]
      top = (x @ first.T + params['bias_0'][i]) @ second.T + params['bias_1'][j]
      weight = log_softmax(params['logits_0'])[i] + log_softmax(params['logits_1'])[j]
      volume = np.linalg.slogdet(first)[1] + np.linalg.slogdet(second)[1]
      terms.append(weight + volume + (-HALF - 0.5 * top**2).sum(1))
  assert_same(metrics['model/loss'], -np.log(np.exp(terms).sum(0)).mean())


def near_identity(state):
  kernels = {name: leaf + jnp.eye(4)[None] for name, leaf in state.params['mixture'].items() if 'kernel' in name}
  return state.replace(params={'mixture': state.params['mixture'] | kernels})


def test_gmm():
  """Cappe & Moulines 2009, equations 7 and 8: what a step says is the likelihood before it."""
  settings = settings_of('gmm:tiny', (2, 1, 1), covariance='full', components=2)
  system, state, batch = begun(settings, 6)
  spread = np.array([[[1.0, 0.2], [0.2, 0.5]], [[0.3, 0.0], [0.0, 0.4]]])
  mixture = {'weights': np.array([0.4, 0.6]), 'means': np.array([[0.1, -0.2], [0.3, 0.2]]), 'covariances': spread}
  old = {
    name: jnp.asarray(mixture[name], jnp.float32).reshape(like.shape) for name, like in state.params['mixture'].items()
  }
  state = state.replace(params={'mixture': old})
  state, metrics = jax.jit(system.step)(jax.random.key(0), state, batch)
  x = flat(batch['x']) - np.asarray(state.extra['centre'])
  white = np.einsum('kij,bkj->bki', np.linalg.inv(np.linalg.cholesky(spread)), x[:, None] - mixture['means'])
  logs = np.log(mixture['weights']) - 0.5 * np.linalg.slogdet(spread)[1] - 2 * HALF - 0.5 * (white**2).sum(-1)
  assert_same(metrics['nll_nats'], -np.log(np.exp(logs).sum(1)).mean())


def baseline(name, **model):
  settings = settings_of(f'baselines:tiny_{name}', (2, 2, 1), **model)
  system, state, batch = begun(settings, 6, step=1)
  return system, state, batch


def test_uniform_and_histograms():
  """Each level of each pixel alike; the share of a level where each count begins at one."""
  system, state, batch = baseline('uniform', levels=16)
  assert_same(system.step(None, state, batch)[1]['nll_nats'], 4 * math.log(16))
  drawn = np.asarray(system.sample(jax.random.key(0), state, 50))
  np.testing.assert_allclose(np.unique(drawn), np.arange(16) / 15, rtol=1e-6)
  for name, rows in (('histogram', 1), ('position_histogram', 4)):
    system, state, batch = baseline(name, levels=4)
    counts = np.arange(rows * 4).reshape(rows, 4) % 3
    state = state.replace(params={'histogram': {'counts': jnp.asarray(counts, jnp.int32)}})
    new, metrics = jax.jit(system.step)(jax.random.key(0), state, batch)
    levels, shares = np.round(flat(batch['x']) * 3).astype(int), (counts + 1) / (counts + 1).sum(1, keepdims=True)
    each = np.log([[shares[d % rows, level] for d, level in enumerate(row)] for row in levels])
    assert_same(metrics['nll_nats'], -each.sum(1).mean())
    hits = np.zeros((rows, 4))
    for row in levels:
      np.add.at(hits, (np.arange(4) % rows, row), 1)
    np.testing.assert_array_equal(new.params['histogram']['counts'], counts + hits)


def test_gaussian_is_that_of_all_batches():
  """After the second of two equal batches: the mean of means, and the covariance of all."""
  system, state, batch = baseline('gaussian', ridge=100.0)
  waves = np.array([[1, 1], [1, -1]]) / math.sqrt(2)  # cosines of two pixels
  turn = lambda x: np.einsum('bhwc,ih,jw->bijc', np.asarray(x, np.float64), waves, waves).reshape(len(x), -1)
  first, second = turn(batch['x'][::-1] * 0.5), turn(batch['x'])
  start = {'mean': first.mean(0), 'covariance': np.cov(first.T, bias=True)}
  state = state.replace(params={'gaussian': jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), start)})
  new, metrics = jax.jit(system.step)(jax.random.key(0), state, batch)
  both = np.concatenate([first, second])
  covariance = np.cov(both.T, bias=True)
  assert_same(new.params['gaussian']['mean'], both.mean(0))
  assert_same(new.params['gaussian']['covariance'], covariance)
  assert_same(metrics['variance'], np.trace(covariance) / 4)
  nats = -jax.jit(system.evaluate)(jax.random.key(0), new, batch)['nll_nats']
  spread, apart = covariance + 100 / 256**2 * np.eye(4), second - both.mean(0)
  exponent = -0.5 * np.einsum('bi,ij,bj->b', apart, np.linalg.inv(spread), apart)
  assert_same(nats, exponent - 0.5 * np.linalg.slogdet(spread)[1] - 4 * HALF)
