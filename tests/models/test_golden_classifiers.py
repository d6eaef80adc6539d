"""Classifiers are the architectures of their papers: their logits are those of plain NumPy."""

import jax
import numpy as np
from golden import assert_same, batch_norm, correlate, dense, given, layer, padded, relu, squeezed, wave, windows
from playing import doubles, filled

from dgm_jax.models import resnet


def residual(p, x, count, stride=1, fresh=False, epsilon=1e-3):
  """He et al. 2016, arXiv:1603.05027, figure 1b."""
  norms = (p[f'BatchNorm_{i}'] for i in range(count))
  for i in range(count):
    x = x if fresh and i == 0 else relu(batch_norm(next(norms), x, epsilon))
    x = same_size(p[f'Conv_{i}'], x, stride if i == 0 else 1)
  return x


def same_size(p, x, stride=1):
  """As much padding on every side, whatever the stride."""
  half = (p['kernel'].shape[0] - 1) // 2
  assert set(p) == {'kernel'}
  return correlate(padded(x, (half, half), (half, half)), p['kernel'], stride)


def shortcut(x, features, stride):
  x = windows(x, stride=2, size=2).mean(0) if stride == 2 else x
  return np.pad(x, [(0, 0)] * 3 + [(0, features - x.shape[-1])])


def classified(network, x, alone=False):
  """(parameters, logits, statistics) of a classifier whose weights are sines."""
  like = jax.eval_shape(lambda: network.features.init(jax.random.key(0), x))
  features = filled(like)
  h = jax.eval_shape(lambda: network.features.forward(features, None, x)[0])
  head = filled(jax.eval_shape(network.head.init, jax.random.key(0), h))
  params = {'features': features, 'head': head}
  y, seen = jax.jit(lambda params: resnet.logits(network, params, None, x))(params)
  if alone:  # an image by itself, with the statistics of all
    assert_same(jax.jit(lambda params: resnet.logits(network, params, seen, x[:1])[0])(params), y[:1], 1e-3)
  return doubles(params), np.asarray(y, np.float64)


def head(p, h, epsilon=1e-3):
  return dense(p['Dense_0'], relu(batch_norm(p['BatchNorm_0'], h, epsilon)).mean((1, 2)))


def stem(p, x):
  assert p['Conv_0']['kernel'].shape[:2] == (3, 3)
  return relu(batch_norm(p['BatchNorm_0'], same_size(p['Conv_0'], x), 1e-3))


def test_a_large_stem():
  """7x7 with stride 2, then the greatest of 3x3 with stride 2: He et al. 2016, arXiv:1512.03385, table 1."""
  x = wave(2, 8, 8, 2)
  variables, (out, _) = given(resnet.Stem(3, large=True), x, mutable=['batch_stats'])
  p = variables['params']
  assert p['Conv_0']['kernel'].shape == (7, 7, 2, 3)
  h = relu(batch_norm(p['BatchNorm_0'], same_size(p['Conv_0'], np.asarray(x, np.float64), 2), 1e-3))
  around = np.pad(h, [(0, 0), (0, 1), (0, 1), (0, 0)])  # of a map of even size, behind its end
  assert_same(out, windows(around, stride=2, size=3).max(0), 1e-3)
  assert out.shape == (2, 2, 2, 3)


def test_resnet():
  """He et al. 2016, arXiv:1603.05027; two stages, the second at half the size."""
  x = wave(3, 4, 4, 1)
  p, y = classified(resnet.resnet((4, 4, 1), 3, (2, 2), (2, 2, 3)), x, alone=True)
  q, h = p['features'], stem(p['features']['0'], np.asarray(x, np.float64))
  for stage, width in enumerate((2, 3)):
    first, rest = q[str(1 + 2 * stage)], layer(q[str(2 + 2 * stage)], 0)
    stride = 1 + stage
    h = shortcut(h, width, stride) + residual(first['Residual_0'], h, 2, stride, fresh=stage == 0)
    h = h + residual(rest['Residual_0'], h, 2)
  assert_same(y, head(p['head'], h), 1e-3)


def test_bottlenecks_have_a_quarter_of_the_channels_and_projections():
  x = wave(2, 4, 4, 2)
  variables, (out, _) = given(resnet.Unit(8, (1, 3, 1), 2), x, mutable=['batch_stats'])
  p, h = variables['params'], np.asarray(x, np.float64)
  assert p['Residual_0']['Conv_1']['kernel'].shape == (3, 3, 2, 2)
  assert_same(out, same_size(p['Shortcut_0']['Conv_0'], h, 2) + residual(p['Residual_0'], h, 3, 2), 1e-3)


def test_revnet():
  """Gomez et al. 2017, equation 6: y1 = x1 + F(x2), y2 = x2 + G(y1), the first unit of a stage with shortcuts."""
  x = wave(3, 4, 4, 1)
  p, y = classified(resnet.revnet((4, 4, 1), 3, (2, 2), (4, 4, 6), memory='plain'), x)
  q = p['features']
  a, b = np.split(stem(q['0'], np.asarray(x, np.float64)), 2, -1)
  for stage, width in enumerate((2, 3)):
    first, rest, stride = q[str(2 + 2 * stage)], layer(q[str(3 + 2 * stage)], 0), 1 + stage
    a = shortcut(a, width, stride) + residual(first['Residual_0'], b, 2, stride, fresh=stage == 0)
    b = shortcut(b, width, stride) + residual(first['Residual_1'], a, 2)
    a = a + residual(rest['0'], b, 2)
    b = b + residual(rest['1'], a, 2)
  assert_same(y, head(p['head'], np.concatenate([a, b], -1)), 1e-3)


def test_irevnet():
  """Jacobsen et al. 2018, section 3: (x1, x2) -> (S x2, F(x2) + S x1), behind zeros for the channels that lack."""
  x = wave(3, 4, 4, 1)
  p, y = classified(resnet.irevnet((4, 4, 1), 3, (1, 2), (1, 2), 2, memory='plain'), x)
  q, h = p['features'], np.pad(np.asarray(x, np.float64), [(0, 0)] * 3 + [(0, 3)])
  assert resnet.SMALL_EPSILON == 1e-5
  a, b = np.split(h, 2, -1)
  blocks = [(q['2'], 1, True), (q['3'], 2, False), (layer(q['4'], 0), 1, False)]
  for block, stride, fresh in blocks:
    (network,) = block.values()
    moved = residual(network, b, 3, stride, fresh, 1e-5)
    a, b = (squeezed(a), squeezed(b)) if stride == 2 else (a, b)
    a, b = b, a + moved
  assert_same(y, head(p['head'], np.concatenate([a, b], -1), 1e-5), 1e-3)
