"""Flow systems: what they count, and that density, code and draws belong together."""

import importlib.util
import math
import pathlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from dgm_jax import config as experiment
from dgm_jax import data, errors, systems
from dgm_jax.models import conditioners
from dgm_jax.models import flow as flows
from dgm_jax.models.dequantize import Dequantizer
from dgm_jax.pages import published
from dgm_jax.systems import flow as system_of_flows

NETWORKS = {
  'realnvp_dense': {'hidden': (8,), 'couplings': 4, 'activation': 'tanh'},
  'nice': {'hidden': (8, 8), 'couplings': 4, 'start': 'data'},
  'maf': {'hidden': (8,), 'layers': 2, 'activation': 'tanh'},
  'iaf': {'hidden': (8,), 'layers': 2, 'activation': 'tanh'},
  'planar': {'layers': 3},
  'realnvp': {'width': 4, 'blocks': 0, 'memory': 'plain'},
  'glow': {'width': 4, 'steps': 2, 'levels': 2},
}


def configured(name, variant):
  path = pathlib.Path(__file__).parents[2] / 'configs' / f'{name}.py'
  spec = importlib.util.spec_from_file_location(path.stem, path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module.get_config(variant)


def settings(name, shape, **changes):
  config = experiment.defaults()
  config.system = f'flow.{name}'
  config.data.update({'shape': shape, 'examples': 100, 'preprocess': 'dequantize' if len(shape) == 3 else 'identity'})
  config.model = {
    'network': NETWORKS[name], 'noise': 'normal', 'alpha': 0.0, 'dequantization': 'uniform', 'dequantizer_width': 3,
    'momentum': 0.5, 'l2': 0.0, 'temperature': 1.0,
  }  # fmt: skip
  config.optimizer = {'model': experiment.optimizer()}
  config.steps = 10
  config.model.update(changes)
  return config


def shaken(state, size=0.1):
  """With parameters away from their start, what is never trained excepted."""

  rng = np.random.default_rng(0)

  def one(path, leaf):
    if path[-1].key in ('order', 'sign'):
      return leaf
    return leaf + np.asarray(size * rng.normal(size=leaf.shape), leaf.dtype)

  return state.replace(params=jax.tree_util.tree_map_with_path(one, state.params))


def ready(name, shape, n=200, size=0.1, **changes):
  system = systems.build(settings(name, shape, **changes))
  x = jax.random.uniform(jax.random.key(3), (n, *shape))
  return system, shaken(jax.jit(system.init)(jax.random.key(0), {'x': x}), size), x


@pytest.mark.parametrize('name', ['nice', 'realnvp'])
def test_the_identity_on_uniform_data_has_exactly_eight_bits(name):
  # The logit of a uniform number is logistic.
  network = NETWORKS[name] | ({'scales': 1} if name == 'realnvp' else {})
  system, state, x = ready(name, (8, 8, 1), noise='logistic', alpha=1e-6, network=network)
  nothing = state.replace(
    params=jax.tree.map(jnp.zeros_like, state.params),
    extra={'stats': jax.tree_util.tree_map_with_path(
      lambda path, leaf: jnp.full(leaf.shape, (path[-1].key == 'variance') * (1 - 1e-4)), state.extra['stats'],
    )},
  )  # fmt: skip
  measured = jax.jit(system.evaluate)(jax.random.key(0), nothing, {'x': x})
  np.testing.assert_allclose(measured['bits_per_dim'], 8, atol=2e-5)
  np.testing.assert_allclose(measured['nll_nats'], 0, atol=1e-3)


@pytest.mark.parametrize('name', ['nice', 'realnvp', 'glow', 'maf'])
def test_the_likelihood_of_an_image_is_its_code_and_the_jacobian(name):
  # Shaken twice as much, codes of 100 deviations come out, from which no computer finds its way back.
  system, state, x = ready(name, (4, 4, 1), size=0.05, alpha=0.05)
  encode = lambda x: system.views.encode(None, state, x)

  z = jax.jit(encode)(x)
  jacobian = jax.jit(jax.jacrev(lambda one: encode(one.reshape(1, 4, 4, 1))[0]))(x[0].ravel())
  noise = -0.5 * jnp.square(z[0]).sum() - 8 * math.log(2 * math.pi)
  got = jax.jit(lambda x: system.views.log_prob(None, state, x))(x[:1])[0]
  np.testing.assert_allclose(got, noise + jnp.linalg.slogdet(jacobian)[1], rtol=2e-5)
  np.testing.assert_allclose(jax.jit(system.views.decode)(None, state, z), x, atol=1e-5)


@pytest.mark.parametrize('name', ['realnvp_dense', 'maf', 'iaf', 'planar'])
def test_density_and_draws_of_the_plane_belong_together(name):
  system, state, _ = ready(name, (2,))
  line = jnp.linspace(-1.5, 2.5, 401)
  x = jnp.stack(jnp.meshgrid(line, line), -1).reshape(-1, 2)
  log_prob = jax.jit(lambda x: system.views.log_prob(None, state, x))
  mass = np.exp(np.asarray(log_prob(x), np.float64)) * float(line[1] - line[0]) ** 2
  assert abs(mass.sum() - 1) < 1e-3
  drawn = jax.jit(system.sample, static_argnums=2)(jax.random.key(4), state, 20_000)
  moments = lambda x, p: np.stack([p @ x, p @ x**2])
  error = 5 * np.stack([np.std(drawn, 0), np.std(drawn**2, 0)]) / math.sqrt(20_000)
  share = np.full(20_000, 1 / 20_000)
  assert (np.abs(moments(np.asarray(drawn), share) - moments(np.asarray(x), mass)) < error).all()
  values = np.asarray(log_prob(drawn), np.float64)
  assert abs(values.mean() - mass @ np.asarray(log_prob(x))) < 5 * values.std() / math.sqrt(20_000)


@pytest.mark.parametrize('couplings', [1, 2, 5])
def test_a_dense_flow_has_every_coupling_that_it_is_asked_for(couplings):
  part = flows.realnvp_dense((3,), (4,), couplings, memory='reversible')
  x = jax.ShapeDtypeStruct((6, 3), 'float32')
  params = jax.eval_shape(lambda x: part.init(jax.random.key(0), x), x)
  gains = [leaf for path, leaf in jax.tree_util.tree_leaves_with_path(params) if path[-1].key == 'scale']
  assert sum(leaf.size for leaf in gains) == couplings  # one g for each
  z, _, _ = jax.eval_shape(lambda params, x: part.forward(params, None, x), params, x)
  assert z.shape == (6, 3)


# Papamakarios et al. 2017, table 2, MNIST in logit space; the networks are those of the released program.
TABLE = {('couplings', 5): 1323.2, ('couplings', 10): 1370.7, ('layers', 5): 1300.5, ('layers', 10): 1313.1}


@pytest.mark.parametrize(('variant', 'counted'), [('', 'couplings'), ('maf', 'layers')])
def test_a_flow_of_mnist_stands_beside_the_row_of_its_own_size(variant, counted):
  config = configured('realnvp_mnist', variant)
  network = config.model.network
  rows = [row for table in published.tables() for row in table.rows if 'nll_logit_nats' in row.figures]
  own = [row for row in rows if row.experiment.endswith(f'realnvp_mnist.py{":" * bool(variant)}{variant}')]
  assert [row.figures['nll_logit_nats'] for row in own] == [TABLE[counted, network[counted]]]
  assert network.hidden == (1024, 1024)


def test_an_average_of_the_parameters_is_kept_and_is_what_is_measured():
  config = settings('glow', (4, 4, 1), average=0.75)
  config.model.network.update({'steps': 1, 'levels': 1})
  system, x = systems.build(config), jax.random.uniform(jax.random.key(3), (20, 4, 4, 1))
  state = jax.jit(system.init)(jax.random.key(0), {'x': x})
  new, _ = jax.jit(system.step)(jax.random.key(1), state, {'x': x})
  mean = jax.tree.map(lambda old, one: 0.75 * old + 0.25 * one, state.params, new.params)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), new.extra['ema'], mean)
  measure = jax.jit(lambda state: system.evaluate(jax.random.key(2), state, {'x': x})['nll_nats'])
  alone = {'stats': new.extra['stats'], 'ema': {}}
  np.testing.assert_allclose(measure(new), measure(new.replace(params=mean, extra=alone)), atol=1e-4)
  assert np.abs(measure(new) - measure(new.replace(extra=alone))).max() > 1e-3


def test_without_noise_every_draw_is_the_code_of_zeros():
  system, state, _ = ready('glow', (4, 4, 1))
  draws = jax.jit(system.views.draw, static_argnums=2)(jax.random.key(0), state, 3, None, 0.0)
  np.testing.assert_allclose(draws[0], draws[1], atol=1e-6)
  np.testing.assert_allclose(draws, jax.jit(system.views.decode)(None, state, jnp.zeros((3, 16))), atol=1e-6)


def test_scales_of_dense_couplings_move_from_the_start():
  network = conditioners.TanhScale(lambda features: conditioners.Dense(features, (5,)), 2, 1.0)
  x = jax.random.normal(jax.random.key(0), (9, 1))
  params = network.init(jax.random.key(1), x)['params']
  scales = lambda params: jnp.exp(network.apply({'params': params}, x)[:, 1]) @ x[:, 0]
  assert max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(jax.grad(scales)(params))) > 0.1


def test_realnvp_has_the_statistics_and_the_penalty_of_its_program():
  part = flows.realnvp((4, 4, 3), width=4, blocks=1, scales=1, memory='plain')
  x = jax.ShapeDtypeStruct((6, 4, 4, 3), 'float32')
  params = jax.eval_shape(lambda x: part.init(jax.random.key(0), x), x)
  seen = jax.eval_shape(lambda params, x: part.forward(params, None, x)[2], params, x)
  outer = [leaf.shape for path, leaf in jax.tree_util.tree_leaves_with_path(seen) if len(path) == 3]
  assert outer == [(3,)] * 8  # mean and variance by colour after each of four couplings
  # Of each coupling: the gain of its scales, and those of the block's second convolution, two skips and the last layer.
  ones = jax.tree.map(lambda leaf: np.ones(leaf.shape, leaf.dtype), params)
  assert float(system_of_flows._gains(ones)) == 4 * (1 + 4 + 4 + 4 + 2 * 3)


def test_realnvp_doubles_what_networks_of_checkerboards_see_and_no_others(monkeypatch):
  made = []

  def note(features, width, blocks, factor, dtype):
    made.append((width, factor))
    return nn.Dense(features, dtype=dtype)

  monkeypatch.setattr(conditioners, 'ResNet', note)
  part = flows.realnvp((4, 4, 1), width=4, blocks=1, scales=2, geometry='squeezed', memory='plain')
  jax.eval_shape(lambda x: part.init(jax.random.key(0), x), jax.ShapeDtypeStruct((2, 4, 4, 1), 'float32'))
  # Checkerboards of width 4, channels of twice as much, then the checkerboards of the next scale.
  assert list(dict.fromkeys(made)) == [(4, 2.0), (8, 1.0), (8, 2.0)]


def test_glow_tells_padding_from_what_is_in_the_image():
  x = jnp.zeros((1, 4, 5, 2))
  module = conditioners.ZeroConv(1)
  params = module.init(jax.random.key(0), x)['params']
  params['Conv_0']['kernel'] = params['Conv_0']['kernel'].at[:, :, 2].set(1.0)  # of the channel that tells
  count = np.full((4, 5), 0.0)  # of the nine numbers under the kernel, those outside
  count[[0, -1]] += 3
  count[:, [0, -1]] += 3
  count[np.ix_([0, -1], [0, -1])] -= 1
  np.testing.assert_array_equal(module.apply({'params': params}, x)[0, :, :, 0], count)


def test_learned_noise_has_a_density_on_its_bin():
  module, x = Dequantizer(3), jnp.full((40_000, 1, 1, 1), 100.5 / 256)
  params = module.init(jax.random.key(0), x[:1], jax.random.key(0))['params']
  params = jax.tree.map(lambda p: p + 0.3, params)
  u, log_q = module.apply({'params': params}, x, jax.random.key(1))
  assert ((u > 0) & (u < 1)).all()
  weights = np.exp(-np.asarray(log_q, np.float64))  # whose mean is the length of the bin, for any function too
  for values in (weights, weights * np.asarray(u).ravel() * 2):
    assert abs(values.mean() - 1) < 5 * values.std() / 200


def test_points_of_the_plane_are_the_same_everywhere_and_have_their_entropy():
  config = ConfigDict({**experiment.defaults().data, 'name': 'toy:ring', 'preprocess': 'identity'})
  ring = data.load(config, 'test').arrays['x']
  assert (ring.shape, ring.dtype) == ((50_000, 2), np.float32)
  np.testing.assert_array_equal(ring[:100], data.load(config, 'test').arrays['x'][:100])
  angle = np.arange(8) * np.pi / 4
  centres = 4 * np.stack([np.cos(angle), np.sin(angle)], 1)
  squares = np.square(ring[:, None] - centres[None]).sum(-1)
  log_prob = np.log(np.exp(-2 * squares).sum(1) / 8) - math.log(2 * math.pi * 0.25)
  assert abs(-log_prob.mean() - 3.5257) < 5 * log_prob.std() / math.sqrt(50_000)
  for name in ('banana', 'moons', 'pinwheel'):
    points = data.load(ConfigDict({**config, 'name': f'toy:{name}'}), 'valid').arrays['x']
    assert points.shape == (10_000, 2)
    assert 0.5 < points.std() < 3
  with pytest.raises(errors.UserError, match='there are ring, banana'):
    data.load(ConfigDict({**config, 'name': 'toy:rings'}), 'test')


def test_mistakes_are_answered_with_a_line():
  for changes, message in [
    ({'noise': 'cauchy'}, 'config.model.noise must be one of normal, logistic'),
    ({'alpha': 0.7}, r'config.model.alpha must be in \[0, 0.5\)'),
    ({'momentum': 1.0}, 'config.model.momentum must be in'),
    ({'average': 1.0}, 'config.model.average must be in'),
  ]:
    with pytest.raises(errors.UserError, match=message):
      systems.build(settings('glow', (8, 8, 1), **changes))
  config = settings('glow', (8, 8, 1))
  config.model.network.memory = 'none'
  with pytest.raises(errors.UserError, match='memory must be one of plain, reversible'):
    systems.build(config)
  with pytest.raises(errors.UserError, match='points of a plane'):
    systems.build(settings('planar', (2,), alpha=0.1))
  for preprocess in ('scale', 'identity'):  # whole levels have no density, nor is white one of 256 bins
    config = settings('glow', (8, 8, 1), dequantization='variational')
    config.data.preprocess = preprocess
    with pytest.raises(errors.UserError, match=r'preprocess .* must be one of dequantize, static_dequantize, got'):
      systems.build(config)
