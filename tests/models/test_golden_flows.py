"""Flows are the architectures of their papers: their numbers are those of plain NumPy."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden import (
  assert_same,
  batch_norm,
  conv,
  correlate,
  dense,
  given,
  layer,
  padded,
  relu,
  sides_of,
  sigmoid,
  squeezed,
  wave,
)
from playing import doubles, filled

from dgm_jax.models import conditioners
from dgm_jax.models import flow as flows
from dgm_jax.nn import bijections, coupling, spline

X = wave(2, 2, 2, 2)


def run(part, x, stats=None):
  """(parameters, z, log-determinant) of a flow whose weights are sines; stacked layers are numbered."""
  like = jax.eval_shape(part.init, jax.random.key(0), x)
  params = filled(like)
  z, log_det, _ = jax.jit(lambda params, x: part.forward(params, stats, x))(params, x)
  return doubles(params), *jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), (z, log_det))


def mlp(params, x, act=relu):
  """Dense layers, the last of them linear."""
  count = len(params)
  for i in range(count):
    x = dense(params[f'Dense_{i}'], x)
    x = act(x) if i < count - 1 else x
  return x


def flat(x):
  return np.asarray(x, np.float64).reshape(len(x), -1)


def test_nice():
  """Dinh et al. 2014, section 5.1: even and odd dimensions move each other in turn, then one scaling."""
  p, z, log_det = run(flows.nice((2, 2, 2), (4, 3), 3), X)
  x = flat(X)
  even, odd = x[:, ::2], x[:, 1::2]
  for i in range(3):
    network = p['1'][str(1 + i)]
    even, odd = (even, odd + mlp(network, even)) if i % 2 == 0 else (even + mlp(network, odd), odd)
  joined = np.stack([even, odd], -1).reshape(2, 8)
  assert_same(z, joined * np.exp(p['2']['log_scale']))
  assert_same(log_det, np.full(2, p['2']['log_scale'].sum()))
  assert flows.STARTS['zeros'](X).shape == (2, 2, 2)
  spread = np.asarray(X).std(0) * math.sqrt(3) / math.pi  # a logistic's deviation is pi / sqrt(3)
  np.testing.assert_allclose(np.exp(flows.STARTS['data'](1000 * X)), 1 / (1000 * spread), rtol=0.02)


def test_nice_of_whitened_examples():
  """The same flow behind a fixed map, whose volume counts."""
  x = jax.random.normal(jax.random.key(1), (60, 2, 2, 2)) * jnp.arange(1.0, 9).reshape(1, 2, 2, 2)
  whole, plain = (flows.nice((2, 2, 2), (4,), 2, whitening=whitening) for whitening in (True, False))
  params = whole.init(jax.random.key(0), x)
  white, volume, _ = bijections.whitening().forward(params['1'], None, x.reshape(60, 8))
  np.testing.assert_allclose(np.cov(np.asarray(white), rowvar=False, bias=True), np.eye(8), atol=1e-3)
  z, log_det, _ = plain.forward({'1': params['2'], '2': params['3']}, None, white.reshape(x.shape))
  got = whole.forward(params, None, x)[:2]
  np.testing.assert_allclose(got[0], z, atol=1e-5)
  np.testing.assert_allclose(got[1], log_det + volume, rtol=1e-5)


def affine(p, kept):
  """Dinh et al. 2017, equation 4, shifted first; the logarithm of the scale is g tanh(.)."""
  shift, raw = np.split(mlp(p['Dense_0'], kept), 2, -1)
  return shift, p['scale'] * np.tanh(raw)


def test_realnvp_of_vectors():
  p, z, log_det = run(flows.realnvp_dense((2, 2, 2), (4,), 3), X)
  x = (flat(X) + p['1']['bias']) * np.exp(p['1']['log_scale'])
  total = np.full(2, p['1']['log_scale'].sum())
  halves = [x[:, ::2], x[:, 1::2]]
  for params, kept in ((layer(p['2']['1']['0'], 0), 0), (layer(p['2']['1']['1'], 0), 1), (p['2']['2'], 0)):
    shift, s = affine(params, halves[kept])
    halves[1 - kept] = (halves[1 - kept] + shift) * np.exp(s)
    total = total + s.sum(1)
  assert_same(z, np.stack(halves, -1).reshape(2, 8))
  assert_same(log_det, total)


def glow_net(p, x):
  """Kingma & Dhariwal 2018, program: 3x3, 1x1, 3x3; the padding told apart; normalised by the start."""
  h = framed(p['Conv_0'], x)
  h = relu((h + p['started_0']['bias']) * np.exp(p['started_0']['log_scale']))
  h = relu((conv(p['Conv_1'], h, bias=False) + p['started_1']['bias']) * np.exp(p['started_1']['log_scale']))
  return zero_conv(p['ZeroConv_0'], h)


def zero_conv(p, x):
  return (framed(p['Conv_0'], x) + p['Conv_0']['bias']) * np.exp(3 * p['log_scale'])


def framed(p, x):
  """A 3x3 convolution over the image within zeros, beside which a channel is one."""
  outside = np.pad(np.zeros((*x.shape[:3], 1)), [(0, 0), (1, 1), (1, 1), (0, 0)], constant_values=1)
  return correlate(np.concatenate([padded(x, (1, 1), (1, 1)), outside], -1), p['kernel'])


@pytest.mark.parametrize('edge', ['padding', 'image'])
def test_a_channel_beside_the_image_tells_where_it_ends(edge):
  out = np.asarray(conditioners.EDGES[edge](wave(2, 3, 4, 2)))
  rings = np.zeros((5, 6))
  rings[1:-1, 1:-1] = 1
  rings[2:-2, 2:-2] = 2  # 0 in the zeros around, 1 at the image's border, 2 within
  np.testing.assert_array_equal(out[..., 2], np.broadcast_to(rings == (edge == 'image'), (2, 5, 6)))
  np.testing.assert_array_equal(out[..., :2], np.pad(wave(2, 3, 4, 2), [(0, 0), (1, 1), (1, 1), (0, 0)]))


def glow_step(p, x):
  """Actnorm, 1x1 convolution, and the second half moved by the first: (x + shift) sigmoid(raw + 2)."""
  positions = x.shape[1] * x.shape[2]
  x, total = (x + p['0']['bias']) * np.exp(p['0']['log_scale']), positions * p['0']['log_scale'].sum()
  q = p['1']
  lower = np.tril(q['lower'], -1) + np.eye(x.shape[-1])
  upper = np.triu(q['upper'], 1) + np.diag(np.sign(q['sign']) * np.exp(q['log_scale']))
  x, total = x @ (lower[np.round(q['order']).astype(int)] @ upper), total + positions * q['log_scale'].sum()
  a, b = np.split(x, 2, -1)
  shift, raw = np.split(glow_net(p['2']['1'], a), 2, -1)
  scale = sigmoid(raw + 2)
  return np.concatenate([a, (b + shift) * scale], -1), total + np.log(scale).reshape(len(x), -1).sum(1)


def permuted(params):
  """Rotations need an order of channels and signs."""

  def leaf(path, value):
    name = path[-1].key
    if name == 'order':
      return jnp.broadcast_to((jnp.arange(value.shape[-1]) + 1.0) % value.shape[-1], value.shape)
    return jnp.where(value < 0, -1.0, 1.0) if name == 'sign' else value

  return jax.tree_util.tree_map_with_path(leaf, params)


def test_glow():
  """Section 3: two levels of two steps; what leaves is moved by what stays."""
  x, part = wave(2, 4, 4, 1), flows.glow((4, 4, 1), 3, 2, 2, 'plain')
  params = permuted(filled(jax.eval_shape(part.init, jax.random.key(0), x)))
  z, log_det, _ = jax.jit(lambda params, x: part.forward(params, None, x))(params, x)
  p, h, total = doubles(params), squeezed(np.asarray(x, np.float64)), 0
  for i in range(2):
    h, more = glow_step(layer(p['1'], i), h)
    total = total + more
  stays, leaves = np.split(h, 2, -1)
  shift, s = np.split(zero_conv(p['3'], stays), 2, -1)
  total = total + s.reshape(2, -1).sum(1)
  h = squeezed(stays)
  for i in range(2):
    h, more = glow_step(layer(p['4']['1'], i), h)
    total = total + more
  assert_same(z[0], h, 1e-3)
  assert_same(z[1], (leaves + shift) * np.exp(s), 1e-3)
  assert_same(log_det, total, 1e-3)


def made(p, x, act=relu):
  """Germain et al. 2015: what reaches the numbers of a dimension comes from those before it."""
  dims, count = x.shape[1], sum(name.startswith('kernel') for name in p)
  degrees = np.arange(dims) + 1
  for i in range(count):
    last = i == count - 1
    size = p[f'kernel_{i}'].shape[1]
    out = np.tile(np.arange(dims) + 1, size // dims) if last else np.arange(size) % (dims - 1) + 1
    seen = degrees[:, None] < out[None] if last else degrees[:, None] <= out[None]
    x = x @ (p[f'kernel_{i}'] * seen) + p[f'bias_{i}']
    x, degrees = (x if last else act(x)), out
  return x


def test_maf_turns_the_order_round():
  """Papamakarios et al. 2017, section 3: two layers, each with a batch normalisation, the order reversed between."""
  x = wave(4, 3)
  p, z, log_det = run(flows.maf((3,), (5,), 2), x)
  h = (flat(x) + p['1']['bias']) * np.exp(p['1']['log_scale'])
  total = np.full(4, p['1']['log_scale'].sum())
  for i in range(2):
    q = layer(p['2'], i)
    shift, s = np.split(made(q['0'], h), 2, -1)
    h, total = ((h + shift) * np.exp(s))[:, ::-1], total + s.sum(1)
    total = total - 0.5 * np.log(h.var(0) + 1e-5).sum() + q['3']['log_scale'].sum()
    h = (h - h.mean(0)) / np.sqrt(h.var(0) + 1e-5) * np.exp(q['3']['log_scale']) + q['4']['bias']
  assert_same(z, h, 1e-3)
  assert_same(log_det, total, 1e-3)


def test_iaf_is_read_against_its_order():
  """Kingma et al. 2016, section 3: what is drawn is moved by what was drawn before."""
  x = wave(3, 3)
  p, z, log_det = run(flows.iaf((3,), (5,), 1), x)
  h = (flat(x) + p['1']['bias']) * np.exp(p['1']['log_scale'])
  back = z[:, ::-1]
  shift, raw = np.split(made(layer(p['2'], 0)['0'], back), 2, -1)
  assert_same((back + shift) * np.exp(np.tanh(raw)), h, 1e-3)
  assert_same(log_det, p['1']['log_scale'].sum() - np.tanh(raw).sum(1), 1e-3)


def test_planar():
  """Rezende & Mohamed 2015, equations 10 to 12 and appendix A.1."""
  x = wave(3, 2)
  p, z, log_det = run(flows.planar((2,), 2), x)
  h, total = (flat(x) + p['1']['bias']) * np.exp(p['1']['log_scale']), p['1']['log_scale'].sum()
  for i in range(2):
    u, w, b = (layer(p['2'], i)[name] for name in 'uwb')
    u = u + (np.log1p(np.exp(u @ w) * math.expm1(1)) - 1 - u @ w) * w / (w @ w)
    bent = np.tanh(h @ w + b)
    total = total + np.log1p((1 - bent**2) * (u @ w))
    h = h + bent[:, None] * u
  assert_same(z, h * np.exp(p['3']['log_scale']) + p['4']['bias'])
  assert_same(log_det, total + p['3']['log_scale'].sum())


def weight_normed(p, i):
  """Salimans & Kingma 2016, equation 2, with a gain where there is one."""
  kernel, gain = p[f'Conv_{i}']['kernel'], p.get(f'WeightNorm_{i}', {}).get(f'Conv_{i}/kernel/scale', 1.0)
  return {**p[f'Conv_{i}'], 'kernel': kernel / np.sqrt((kernel**2).sum((0, 1, 2))) * gain}


def test_the_network_of_realnvp():
  """Dinh et al. 2017, section 4.1 and program: two pre-activated blocks and a sum of 1x1 skips."""
  x = wave(2, 4, 4, 1)
  variables, (out, _) = given(conditioners.ResNet(2, 3, 2, 2.0), x, mutable=['batch_stats'])
  p = variables['params']
  assert sides_of(p) == {(3, 3): 5, (1, 1): 4}
  gains = {name for name in p if name.startswith('WeightNorm')}
  assert gains == {f'WeightNorm_{i}' for i in (1, 2, 4, 5, 7, 8)}  # not where a normalisation or a gain follows
  apply = lambda i, h: conv(weight_normed(p, i), h, bias=i not in (3, 6))
  norm = lambda i, h: batch_norm(p[f'BatchNorm_{i}'], h, 1e-4, scale=False)
  h = 2 * norm(0, np.asarray(x, np.float64))
  h = apply(0, relu(np.concatenate([h, -h], -1)))
  skips = apply(1, h)
  for i in range(2):
    inner = apply(3 * i + 3, relu(norm(2 * i + 1, h)))
    h = h + apply(3 * i + 2, relu(norm(2 * i + 2, inner)))
    skips = skips + apply(3 * i + 4, h)
  assert_same(out, apply(8, relu(norm(5, skips))), 1e-3)


def test_couplings_of_a_checkerboard_move_each_colour_in_turn():
  """Dinh et al. 2017, sections 3.4 to 3.6: at the last scale 0, 1, 0, 1 are kept; first 0, 1, 0 of both kinds."""
  kept, original = [], coupling.coupling
  with pytest.MonkeyPatch.context() as monkeypatch:
    monkeypatch.setattr(coupling, 'coupling', lambda *args: kept.append(args[2]) or original(*args))
    flows.realnvp((8, 8, 1), 2, 1, 1)
    assert kept == [0, 1, 0, 1]
    kept.clear()
    flows.realnvp((8, 8, 1), 2, 1, 2)
    assert kept == [0, 1, 0] * 2 + [0, 1, 0, 1]


@pytest.mark.parametrize('kept', [0, 1])
def test_a_network_on_the_grid_sees_its_colour_where_it_is(kept):
  """Pixels with i + j even are the first half; the colours are told in two more channels."""
  seen = []

  def network(features):
    return lambda x: (
      seen.append(np.asarray(x))
      or jnp.broadcast_to(x[..., :1] * 0 + jnp.arange(16.0).reshape(1, 4, 4, 1), (*x.shape[:3], features))
    )

  out = conditioners.OnGrid(network, 4, kept).apply({}, wave(1, 2, 2, 2))
  board = (np.add.outer(np.arange(4), np.arange(4)) % 2 == kept)[None, ..., None]
  (image,) = seen
  assert image.shape == (1, 4, 4, 1 + 1)
  np.testing.assert_array_equal(image[..., 1:], board.astype(float))
  assert not image[..., :1][~board].any()
  squares = squeezed(image[..., :1])[..., [0, 3] if kept == 0 else [1, 2]]
  np.testing.assert_array_equal(squares, wave(1, 2, 2, 2))
  numbers = squeezed(np.arange(16.0).reshape(1, 4, 4, 1))[..., [1, 2] if kept == 0 else [0, 3]]
  np.testing.assert_array_equal(out, np.concatenate([numbers] * 2, -1))


def test_layers_that_start_from_their_first_batch():
  x = 3 * wave(4, 3, 3, 2) + 1
  layer = conditioners.Started()
  variables = jax.jit(lambda x: layer.init(jax.random.key(0), x))(x)
  y = np.asarray(layer.apply(variables, x))
  np.testing.assert_allclose(y.mean((0, 1, 2)), np.zeros(2), atol=1e-5)
  np.testing.assert_allclose(y.std((0, 1, 2)), np.ones(2), rtol=1e-4)


def test_a_spline_by_the_formula():
  """Durkan et al. 2019, equations 4 and 5, in each of its bins."""
  numbers, x = wave(6, 8), jnp.asarray([-2.7, -1.1, -0.2, 0.3, 1.6, 2.9])
  made = spline.knots(numbers, 3.0)
  y, log_slope = jax.jit(spline.forward)(made, x)
  raw = np.asarray(numbers, np.float64)
  for i in range(6):
    places = [3 * (2 * np.append(0, np.cumsum(softmax(part))) - 1) for part in (raw[i, :3], raw[i, 3:6])]
    slopes = np.array([1, *(1e-3 + np.log1p(np.exp(raw[i, 6:] + math.log(math.expm1(1 - 1e-3))))), 1])
    xs, ys = places
    k = np.searchsorted(xs, x[i]) - 1
    width, steep = xs[k + 1] - xs[k], (ys[k + 1] - ys[k]) / (xs[k + 1] - xs[k])
    t = (float(x[i]) - xs[k]) / width
    below = steep + (slopes[k + 1] + slopes[k] - 2 * steep) * t * (1 - t)
    expected = ys[k] + (ys[k + 1] - ys[k]) * (steep * t**2 + slopes[k] * t * (1 - t)) / below
    top = steep**2 * (slopes[k + 1] * t**2 + 2 * steep * t * (1 - t) + slopes[k] * (1 - t) ** 2)
    assert_same(y[i], expected, 1e-3)
    assert_same(log_slope[i], math.log(top / below**2), 1e-3)


def softmax(raw):
  shares = np.exp(raw) / np.exp(raw).sum()
  return 1e-3 + (1 - 1e-3 * len(raw)) * shares
