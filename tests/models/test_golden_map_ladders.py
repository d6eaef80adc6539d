"""Ladders of maps in plain NumPy: that of gated residual blocks, and the very deep one."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden import assert_same, conv, elu, given, sigmoid, transposed, wave

from dgm_jax.models import conv_ladder, deep_ladder


def normed(p, stats, x):
  return (x - stats['mean']) / np.sqrt(stats['variance'] + 1e-5) * p['scale'] + p['bias']


def block(p, stats, x, resize='', gated=True):
  """Normalisation, nonlinearity, convolution, twice; then a gate."""
  assert ('resize' in p, 'gate' in p) == (bool(resize), gated)
  if resize:
    x = transposed(p['resize'], x) if resize == 'up' else conv(p['resize'], x, 2)
  h = x
  for i in range(2):
    h = conv(p[f'conv_{i}'], elu(normed(p[f'norm_{i}'], stats[f'norm_{i}'], h)), bias=i == 1)
  if gated:
    a, b = np.split(conv(p['gate'], h), 2, -1)
    h = elu(a) * sigmoid(b)
  return x + h


def merged(p, stats, x, y):
  return block(p['block'], stats['block'], conv(p['linear'], np.concatenate([x, y], -1)))


def split(params):
  return np.split(params, 2, -1)


def sampled(normal, noise):
  return normal[0] + np.exp(0.5 * normal[1]) * noise


def doubled(x):
  """Bilinear, each pixel in the middle of its square, the border repeated."""
  for axis in (1, 2):
    pad = [(1, 1) if i == axis else (0, 0) for i in range(4)]
    wide, n = np.pad(x, pad, mode='edge'), x.shape[axis]
    before, after = (np.take(wide, range(start, start + n), axis) for start in (0, 2))
    x = np.stack([0.25 * before + 0.75 * x, 0.75 * x + 0.25 * after], axis + 1)
    x = x.reshape(*x.shape[:axis], -1, *x.shape[axis + 2 :])
  return x


def a_gated_ladder():
  down = (0, 1)
  settings = {'features': 3, 'blocks': 2, 'dropout': 0.2}
  encoder = conv_ladder.GatedEncoder(down, **settings)
  decoder = conv_ladder.GatedDecoder(down, (6, 7, 1), 2, 2, latents=2, **settings)
  return conv_ladder.Tower(encoder, decoder), conv_ladder.gated_shapes((6, 7, 1), down, 2)


def climbed(p, stats, x):
  """Images of 6x7 are padded to 8x8: a row on either side, and a column to the right."""
  h = elu(conv(p['input'], np.pad(x, [(0, 0), (1, 1), (0, 1), (0, 0)]), 2))
  h = block(p['first'], stats['first'], h, gated=False)
  features = []
  for level in range(2):
    for i in range(2):
      name = f'block_{level}_{i}'
      h = block(p[name], stats[name], h, 'down' if (level, i) == (1, 0) else '')
    features.append(h)
  return features


def descended(p, stats, features, noise):
  """The levels from the top: z, q and p of each, and the map of pixels."""
  found, h = [], None
  for i, own in enumerate(('rungs_0', 'rungs_1')):
    w, s, eps = p[own], stats[own], noise[1 - i]
    prior = split(conv(w['prior'], h)) if i else [np.repeat(half, len(eps), 0) for half in split(w['top'])]
    q = prior
    if features is not None:
      told = np.repeat(features[1 - i], len(eps) // len(features[1 - i]), 0)
      q = split(conv(w['posterior'], merged(w['merge'], s['merge'], told, h) if i else told))
    z = sampled(q, eps)
    out = conv(w['latents'], z)
    out = merged(w['skip'], s['skip'], out, h) if i else out
    for j in range(2):
      out = block(w[f'block_{j}'], s[f'block_{j}'], out, 'up' if (i, j) == (0, 0) else '')
    found.append((z, q, prior))
    h = out
  h = doubled(h)
  for j in range(2):
    h = block(p[f'last_{j}'], stats[f'last_{j}'], h)
  return found[::-1], conv(p['output'], h)[:, 1:7, :7]


@pytest.mark.parametrize('rows', [2, 4])
def test_a_ladder_of_gated_blocks(rows):
  module, shapes = a_gated_ladder()
  assert shapes == [(4, 4, 2), (2, 2, 2)]
  x, noise = wave(2, 6, 7, 1), [wave(rows, *shape, start=i) for i, shape in enumerate(shapes)]
  variables, (rungs, params) = given(module, x, noise)
  p, stats, eps = variables['params'], variables['batch_stats'], [np.asarray(e, np.float64) for e in noise]
  features = climbed(p['encoder'], stats['encoder'], np.asarray(x, np.float64))
  levels, out = descended(p['decoder'], stats['decoder'], features, eps)
  for rung, (z, q, prior) in zip(rungs, levels, strict=True):
    assert_same(rung.z, z, 5e-4)
    for got, expected in zip((*rung.q, *rung.p), (*q, *prior), strict=True):
      assert_same(got, expected, 5e-4)
  for i, param in enumerate(params):  # means, then log-variances
    assert_same(param, out[..., i : i + 1].reshape(rows, -1), 5e-4)


def test_samples_of_gated_blocks_are_of_the_priors():
  module, shapes = a_gated_ladder()
  noise = [wave(2, *shape, start=i) for i, shape in enumerate(shapes)]
  variables, (rungs, params) = given(module, wave(2, 6, 7, 1), noise)
  single = jax.tree.map(lambda leaf: jnp.asarray(leaf, 'float32'), variables)
  both = jax.jit(lambda top: module.apply(single, noise, top, method='generate'))
  eps = [np.asarray(e, np.float64) for e in noise]
  _, out = descended(variables['params']['decoder'], variables['batch_stats']['decoder'], None, eps)
  for i, param in enumerate(both([])):
    assert_same(param, out[..., i : i + 1].reshape(2, -1), 5e-4)
  for found, expected in zip(both([jnp.asarray(r.z, 'float32') for r in rungs[::-1]]), params, strict=True):
    assert_same(found, expected, 5e-4)
  mean, logvar = module.apply(single, method='top_prior')
  for found, expected in zip((mean, logvar), split(variables['params']['decoder']['rungs_0']['top']), strict=True):
    assert_same(found, expected)


def test_the_first_outputs_of_a_layer_have_mean_0_and_the_deviation():
  x = 3 * wave(5, 4, 4, 3) + 1
  for layer in (conv_ladder.Conv(6), conv_ladder.Conv(6, 3, 2, deviation=0.1), conv_ladder.Conv(6, up=True)):
    out = layer.apply(jax.jit(layer.init)(jax.random.key(0), x), x)
    np.testing.assert_allclose(out.mean((0, 1, 2)), np.zeros(6), atol=2e-5)
    np.testing.assert_allclose(out.std((0, 1, 2)), np.full(6, layer.deviation), rtol=1e-3)


def test_dropout_of_a_block_takes_whole_maps():
  module, x = conv_ladder.Block(gated=False, dropout=0.5), wave(2, 4, 4, 6)
  variables = module.init(jax.random.key(0), x)
  plain = np.asarray(module.apply(variables, x) - x)
  off = np.asarray(module.apply(variables, x, rngs={'dropout': jax.random.key(1)}) - x)
  blank = (off == 0).all((1, 2))
  assert 0 < blank.sum() < blank.size and np.abs(plain).min((1, 2)).max() > 0
  assert (off != 0).any((1, 2))[~blank].all()


def gelu(x):
  return 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def deep(p, x, residual=False):
  """The sides of the kernels are 1, 3, 3, 1, on small maps 1 each."""
  side = 3 if x.shape[1] > 2 else 1
  h = x
  for i, size in enumerate((1, side, side, 1)):
    assert p[f'Conv_{i}']['kernel'].shape[:2] == (size, size)
    h = conv(p[f'Conv_{i}'], gelu(h))
  return x + h if residual else h


def test_a_very_deep_ladder():
  """Sides 1, 1, 4, 8 from the top, each with a map of its own to begin with; two samples of an image."""
  down, up = '8x1,8d2,4x1,4d4,1x1', '1x2,4m1,8m4'
  encoder = deep_ladder.DeepEncoder(down, up, 5, 3)
  decoder = deep_ladder.DeepDecoder(up, 4, 1, 2, 5, 3)
  module, sides = conv_ladder.Tower(encoder, decoder), (8, 4, 1, 1)
  x, noise = wave(2, 8, 8, 1), [wave(4, side, side, 2, start=i) for i, side in enumerate(sides)]
  variables, (rungs, (params,)) = given(module, x, noise)
  (above, below), eps = (variables['params'][name] for name in ('encoder', 'decoder')), [np.asarray(e) for e in noise]
  h = conv(above['input'], np.asarray(x, np.float64))
  maps = {8: deep(above['DeepBlock_0'], h, True)}
  h = deep(above['DeepBlock_1'], maps[8], True).reshape(2, 4, 2, 4, 2, 5).mean((2, 4))
  maps[4] = deep(above['DeepBlock_2'], h, True)
  h = deep(above['DeepBlock_3'], maps[4], True).mean((1, 2), keepdims=True)
  maps[1] = deep(above['DeepBlock_4'], h, True)
  h = np.zeros((1, 1, 1, 5))
  for depth, side in enumerate(reversed(sides)):
    p = below[f'rungs_{depth}']
    assert ('start' in p) == (depth != 1)
    if depth != 1:
      times = side // h.shape[1]
      h = p['start'] + np.repeat(np.repeat(h, times, 1), times, 2)
    h = np.repeat(h, 4 // len(h), 0)
    said = deep(p['prior'], h)
    q = deep(p['posterior'], np.concatenate([h, np.repeat(maps[side], 2, 0)], -1))
    rung = rungs[3 - depth]
    for got, expected in zip(
      (*rung.p, *rung.q), (said[..., :2], 2 * said[..., 2:4], q[..., :2], 2 * q[..., 2:]), strict=True
    ):
      assert_same(got, expected, 5e-4)
    z = sampled((q[..., :2], 2 * q[..., 2:]), eps[3 - depth])
    assert_same(rung.z, z, 5e-4)
    h = deep(p['block'], h + said[..., 4:] + conv(p['latents'], z), True)
  assert_same(params, conv(below['output'], h * below['gain'] + below['shift']).reshape(4, -1), 5e-4)
  single = jax.tree.map(lambda leaf: jnp.asarray(leaf, 'float32'), variables)
  top = module.apply(single, method='top_prior')
  for got, expected in zip(top, rungs[3].p, strict=True):
    assert_same(np.repeat(got, 4, 0), expected)


def test_the_start_of_a_very_deep_ladder():
  """Priors begin at N(0, 1), and last layers are scaled by the root of the number of blocks."""
  down, up = '8x1,8d8,1x2', '1x1,8m1'
  module = conv_ladder.Tower(deep_ladder.DeepEncoder(down, up, 200, 50), deep_ladder.DeepDecoder(up, 4, 1, 2, 200, 50))
  noise = [jnp.zeros((1, side, side, 2)) for side in (8, 1)]
  params = jax.jit(module.init)(jax.random.key(0), wave(1, 8, 8, 1), noise)['params']
  for rung in ('rungs_0', 'rungs_1'):
    own = params['decoder'][rung]
    assert not np.asarray(own['prior']['Conv_3']['kernel']).any()
    np.testing.assert_allclose(own['block']['Conv_3']['kernel'].std(), math.sqrt(1 / 2 / 3 / 50), rtol=0.05)
    np.testing.assert_allclose(own['latents']['kernel'].std(), math.sqrt(1 / 2 / 3 / 2), rtol=0.15)
  for i in range(4):
    kernel = params['encoder'][f'DeepBlock_{i}']['Conv_3']['kernel']
    np.testing.assert_allclose(kernel.std(), math.sqrt(1 / 4 / 3 / 50), rtol=0.05)
  np.testing.assert_allclose(params['encoder']['DeepBlock_0']['Conv_0']['kernel'].std(), math.sqrt(1 / 600), rtol=0.05)


@pytest.mark.parametrize(
  ('parse', 'text', 'message'),
  [
    (deep_ladder.parse_down, '32x3,12x2', r"12x2 in '32x3,12x2' follows maps of side 32: halve with 32d2 before it"),
    (deep_ladder.parse_down, '32x3,32m2', r"got '32m2' in '32x3,32m2'; write 32x11 for blocks, 32d2"),
    (deep_ladder.parse_down, '9d2', r"9d2 in '9d2' divides a side of 9 by 2"),
    (deep_ladder.parse_down, '32d2,32x1', 'follows maps of side 16'),
    (deep_ladder.parse_up, '1x1,4x2', r"4x2 in '1x1,4x2' follows levels of side 1: mix them in with 4m1"),
    (deep_ladder.parse_up, '4m1', r"4m1 in '4m1' mixes in side 1, but the levels above it have side none"),
    (deep_ladder.parse_up, '4x1,6m4', r'6m4 .* mixes in side 4'),
    (deep_ladder.parse_up, '', "got '' in ''"),
  ],
)
def test_resolutions_that_do_not_fit_are_refused(parse, text, message):
  with pytest.raises(ValueError, match=message):
    parse(text)


def test_resolutions_are_read():
  blocks = deep_ladder.parse_down('32x11,32d2,16x6,16d2,8x6,8d2,4x3,4d4,1x3')
  assert (len(blocks), blocks[11], blocks[-1]) == (33, (32, 2), (1, 1))
  levels = deep_ladder.parse_up('1x1,4m1,4x2,8m4,8x5,16m8,16x10,32m16,32x21')
  assert (len(levels), levels[:3], levels[-1]) == (43, [(1, 0), (4, 1), (4, 0)], (32, 0))
