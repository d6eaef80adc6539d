"""Networks without kept activations: their gradients, statistics, memory, parameters and inverses."""

import importlib
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from parameters import at_random

from dgm_jax import optim, systems
from dgm_jax.models import flow, resnet
from dgm_jax.nn import coupling
from dgm_jax.nn import reversible as rev
from dgm_jax.systems import classifier

BOTTLENECK = (1, 3, 1)
SHAPE = (4, 4, 3)
WIDE = (32, 32, 64, 128)
COUNTS = [  # (network, settings, parameters with 10 classes, with 100)
  (resnet.resnet, {}, 464_154, 470_004),
  (resnet.revnet, {}, 464_890, 475_060),
  (resnet.resnet, {'units': (18,) * 3}, 1_727_962, 1_733_812),
  (resnet.revnet, {'units': (9,) * 3, 'channels': WIDE}, 1_729_194, 1_740_804),
  (resnet.resnet, {'units': (18,) * 3, 'kernels': BOTTLENECK}, 1_703_258, 1_726_388),
  (resnet.revnet, {'units': (9,) * 3, 'channels': WIDE, 'kernels': BOTTLENECK}, 1_748_778, 1_794_948),
]


def start(network, x):
  def init(x):
    params = {'features': network.features.init(jax.random.key(0), x)}
    h = network.features.forward(params['features'], None, x)[0]
    return params | {'head': network.head.init(jax.random.key(1), h)}

  return jax.jit(init)(x)


def count(network):
  shapes = jax.eval_shape(lambda x: start(network, x), jax.ShapeDtypeStruct((1, 32, 32, 3), 'float32'))
  return sum(leaf.size for leaf in jax.tree.leaves(shapes))


@pytest.mark.parametrize(('build', 'settings', 'ten', 'hundred'), COUNTS)
def test_the_published_networks_have_their_numbers_of_parameters(build, settings, ten, hundred):
  assert count(build((32, 32, 3), 10, **settings)) == ten
  # What the classes add: their columns of the last layer.
  last = settings.get('channels', (32, 32, 64, 112) if build is resnet.revnet else (16, 16, 32, 64))[-1]
  last *= 4 if settings.get('kernels') else 1
  assert ten + 90 * (last + 1) == hundred


def test_irevnet_has_its_number_of_parameters():
  assert count(resnet.irevnet((32, 32, 3), 10)) == 6_274_826


def part_and_loss(name, memory, act=jax.nn.softplus):
  if name == 'glow':
    part = flow.glow((*SHAPE[:2], 1), width=5, steps=2, levels=2, memory=memory, act=jnp.tanh)
    return part, lambda params, x: sum(jnp.square(z).sum() for z in jax.tree.leaves(part.forward(params, None, x)[0]))
  if name == 'revnet':
    network = resnet.revnet(SHAPE, 3, (2, 3), (4, 4, 8), memory=memory, act=act)
  else:
    network = resnet.irevnet(SHAPE, 3, (2, 2), (1, 2), 2, memory=memory, act=act)
  return network, lambda params, x: jnp.square(resnet.logits(network, params, None, x)[0]).mean()


@pytest.mark.parametrize(
  ('name', 'act', 'dtype', 'tolerance'),
  [
    *((name, jax.nn.softplus, 'float64', 1e-9) for name in ('revnet', 'irevnet', 'glow')),
    *((name, jax.nn.softplus, 'float32', 1e-5) for name in ('revnet', 'irevnet', 'glow')),
    ('revnet', jax.nn.relu, 'float32', 5e-2),  # of recomputed numbers some fall on the other side of 0
  ],
)
def test_the_gradient_is_that_of_automatic_differentiation(name, act, dtype, tolerance):
  channels = 1 if name == 'glow' else 3
  with jax.enable_x64(dtype == 'float64'):
    x = jax.random.normal(jax.random.key(2), (4, *SHAPE[:2], channels)).astype(dtype)
    plain, loss = part_and_loss(name, 'plain', act)
    if name == 'glow':  # whose rotations are no arrays at random
      params = jax.jit(plain.init)(jax.random.key(0), x)
    else:
      params = at_random(jax.eval_shape(lambda x: start(plain, x), x))
    rng = np.random.default_rng(0)
    shake = lambda p: np.asarray(p + 0.05 * rng.normal(size=p.shape), dtype)
    params = jax.tree_util.tree_map_with_path(lambda at, p: p if at[-1].key in ('order', 'sign') else shake(p), params)
    losses = loss, part_and_loss(name, 'reversible', act)[1]
    grads = jax.device_get([jax.jit(jax.grad(loss))(params, x) for loss in losses])
    size = max(np.abs(leaf).max() for leaf in jax.tree.leaves(grads[0]))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=tolerance * size), *grads)


def test_memory_does_not_grow_with_depth():
  residual = lambda features: resnet.Residual(features)
  unit = rev.chain(*(coupling.coupling(residual, coupling.additive(), kept) for kept in (1, 0)))

  def temporary(blocks, memory):
    part = resnet.MEMORY[memory](rev.repeat(blocks, unit))
    x = (jax.ShapeDtypeStruct((4, 8, 8, 4), 'float32'),) * 2
    params = jax.eval_shape(lambda x: part.init(jax.random.key(0), x), x)
    loss = lambda params, x: sum(jnp.square(y).mean() for y in part.forward(params, None, x)[0])
    return jax.jit(jax.grad(loss)).lower(params, x).compile().memory_analysis().temp_size_in_bytes

  few, some, many = (temporary(blocks, 'reversible') for blocks in (9, 54, 150))
  assert abs(some - few) <= 0.01 * few
  assert abs(many - few) <= 0.01 * few
  few, some, many = (temporary(blocks, 'plain') for blocks in (9, 54, 150))
  slope = (some - few) / 45
  assert slope > 4 * 8 * 8 * 4 * 4  # a map of one stream and more
  assert abs((many - some) / 96 - slope) <= 0.05 * slope


def load(name):
  path = pathlib.Path(__file__).parents[2] / 'configs' / f'{name}.py'
  spec = importlib.util.spec_from_file_location(path.stem, path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def settings(name, **changes):
  config = load(name).get_config('tiny')
  config.data.update({'shape': (8, 8, 1), 'examples': 1297})
  config.model.network.update(changes)
  return config


def build(name, **changes):
  return systems.build(settings(name, **changes))


def images(n=12, shape=(8, 8, 1)):
  return {'x': jax.random.uniform(jax.random.key(5), (n, *shape)), 'y': jnp.arange(n) % 10}


def test_running_statistics_take_in_each_batch_exactly_once():
  batch, states = images(), {}
  for memory in ('plain', 'reversible'):
    system = build('revnet_cifar10', memory=memory)
    state = jax.jit(system.init)(jax.random.key(0), batch)
    start, states[memory] = state, jax.jit(system.step)(jax.random.key(1), state, batch)[0]
  # Momentum 0.5, one step: the batch's own statistics are what this doubles.
  seen = jax.tree.map(lambda new, old: 2 * new - old, states['plain'].extra['stats'], start.extra['stats'])
  assert max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(seen)) > 0.1
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
    states['reversible'].extra['stats'], states['plain'].extra['stats'],
  )  # fmt: skip
  stem = seen['features']['0']['BatchNorm_0']
  assert (stem['variance'] > 0).all()


def test_images_come_back_from_their_last_features():
  batch = images()
  system = build('irevnet_cifar10', blocks=(3, 3), stream=2, first=2)
  state = jax.jit(system.init)(jax.random.key(0), batch)
  step = jax.jit(system.step)
  squares = sum(np.square(leaf).sum() for leaf in jax.tree.leaves(state.params))  # gains and biases decay, too
  for i in range(3):
    state, metrics = step(jax.random.key(i), state, batch)
    if i == 0:
      decayed = metrics['model/loss'] - metrics['model/cross_entropy_nats']
      np.testing.assert_allclose(decayed, 0.5 * 5e-4 * squares, rtol=1e-4)
  made = classifier.build_parts(settings('irevnet_cifar10', blocks=(3, 3), stream=2, first=2), resnet.irevnet)
  features = jax.jit(lambda x: classifier.features(made, state, x))(batch['x'])
  assert features.shape == (12, 2, 2, 16)
  np.testing.assert_allclose(jax.jit(system.views.reconstruct)(None, state, batch['x']), batch['x'], atol=1e-4)


def test_the_normalisations_of_an_irevnet_have_the_small_number_of_its_program():
  network = resnet.irevnet(SHAPE, 3, (1, 1), (1, 2), 2)
  h = 0.003 * jax.random.normal(jax.random.key(0), (50, 1, 1, 4))
  params = network.head.init(jax.random.key(1), h)
  normal = (h - h.mean(0)[None]) / np.sqrt(h.var(0) + 1e-5)[None]
  dense = params['Dense_0']
  expected = np.maximum(normal, 0)[:, 0, 0] @ dense['kernel'] + dense['bias'][None]
  np.testing.assert_allclose(network.head.forward(params, None, h)[0], expected, atol=1e-5)


def test_the_rate_of_a_revnet_falls_after_40_and_60_thousand_steps():
  config = load('revnet_cifar10').get_config()
  config.data.examples = 50_000 - config.data.valid_size
  assert optim.stage_ends(config) == [40_000, 60_000, 80_000]


def test_a_bijective_network_keeps_volume_and_reaches_every_feature():
  network = resnet.irevnet((4, 4, 1), 3, (1, 1), (1, 2), 2, first=2, act=jnp.tanh)
  with jax.enable_x64(True):
    x = jax.random.normal(jax.random.key(0), (3, 4, 4, 1), 'float64')
    params = jax.jit(network.features.init)(jax.random.key(1), x)
    forward, inverse = jax.jit(network.features.forward), jax.jit(network.features.inverse)
    h, _, stats = forward(params, None, x)
    flat = lambda one: network.features.forward(params, stats, one.reshape(1, 4, 4, 1))[0].ravel()
    sign, log_det = np.linalg.slogdet(jax.jit(jax.jacrev(flat))(x[0].ravel()))
    np.testing.assert_allclose([abs(sign), log_det], [1, 0], atol=1e-9)
    arbitrary = jax.random.normal(jax.random.key(2), h.shape, 'float64')
    there = forward(params, stats, inverse(params, stats, arbitrary)[0])[0]
    np.testing.assert_allclose(there, arbitrary, atol=1e-9)


def test_the_channels_of_padding_come_back_as_zeros(monkeypatch):
  pad = coupling.pad
  kept = lambda kept, channels: rev.permutation(lambda x: pad(kept, channels).forward({}, None, x)[0], lambda y: y)
  monkeypatch.setattr(coupling, 'pad', kept)
  network = resnet.irevnet(SHAPE, 3, (2, 2), (1, 2), 4)
  # A stream of nothing but zeros has no variance, so that its normalisation magnifies the rounding of float32.
  with jax.enable_x64(True):
    x = jax.random.normal(jax.random.key(0), (4, *SHAPE), 'float64')
    params = jax.jit(network.features.init)(jax.random.key(1), x)
    h, _, stats = jax.jit(network.features.forward)(params, None, x)
    back = jax.jit(network.features.inverse)(params, stats, h)[0]
    assert back.shape == (4, 4, 4, 8)
    np.testing.assert_allclose(back[..., :3], x, atol=1e-7)
    np.testing.assert_allclose(back[..., 3:], 0, atol=1e-7)


def test_a_layer_without_an_inverse_says_so():
  part = rev.one_way(resnet.Head(3))
  with pytest.raises(ValueError, match='Head has no inverse'):
    part.inverse({}, None, jnp.zeros((1, 3)))
