"""Autoregressive networks are the architectures of their papers: their numbers are those of plain NumPy."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden import assert_same, correlate, dense, elu, given, padded, relu, sigmoid, wave

from dgm_jax.models.pixelcnn import GatedPixelCNN, PixelCNN
from dgm_jax.models.pixelcnn_pp import PixelCNNpp
from dgm_jax.models.pixelrnn import PixelRNN
from dgm_jax.models.pixelsnail import PixelSNAIL
from dgm_jax.nn import attention, recurrent


def taps(params, x, up, down, left, right, last=None, stride=1):
  """A causal convolution: rows `up` to `down` above, `left` columns before to `right` after, `last` in the lowest."""
  kernel = params['kernel'] if 'kernel' in params else weight_normed(params)
  height, width = up - down + 1, left + right + 1
  full = np.zeros((height * width, *kernel.shape[1:]))
  full[: len(kernel)] = kernel
  assert len(kernel) == (height - 1) * width + (width if last is None else last)
  # The window of (r, c) begins `up` rows above and `left` columns before.
  grown = padded(x, (up, 0), (left, max(right, 0)))
  grown = grown[:, : grown.shape[1] - down, : grown.shape[2] + min(right, 0)]
  return correlate(grown, full.reshape(height, width, *kernel.shape[1:]), stride) + params['bias']


def weight_normed(params):
  """Salimans & Kingma 2016, equation 2."""
  direction = params['direction']
  axes = tuple(range(direction.ndim - 1))
  return direction / np.sqrt((direction**2).sum(axes, keepdims=True)) * params['scale']


def pointwise(params, x, groups=1, strict=False, bias=True):
  """1x1: each color sees itself and those before it; strictly, only those before it."""
  step, size = x.shape[-1] // groups, next(iter(params.values())).shape[-1]
  assert sum(name.startswith('bias') for name in params) == groups * bias
  outs = []
  for g in range(groups):
    seen = x[..., : step * (g + (not strict))]
    y = seen @ params[f'kernel_{g}'][0] if seen.shape[-1] else np.zeros((*x.shape[:-1], size))
    outs.append(y + params.get(f'bias_{g}', 0))
  return np.concatenate(outs, -1)


def masked_conv(params, x, groups, strict, shape):
  """All before the pixel, and at the pixel the colors that come first."""
  up, down, left, right, last = shape
  if groups == 1 and not strict:
    right, last = max(right, 0), last + 1
  y = taps(params['before'], x, up, down, left, right, last)
  return y + pointwise(params['here'], x, groups, strict, bias=False) if groups > 1 else y


def causal(size):
  half = size // 2
  return half, 0, half, half, half


def before(size):
  return 0, 0, size // 2, -1, size // 2


def head(params, x, first, count, groups=1):
  for i in range(first, first + count):
    x = pointwise(params[f'Pointwise_{i}'], relu(x), groups)
  return x


def told(params, name, condition):
  return dense(params[name], condition, bias=False)[:, None, None] if condition is not None else 0


@pytest.mark.parametrize('groups', [1, 3])
def test_pixelcnn(groups):
  """Van den Oord et al. 2016, arXiv:1601.06759, figure 5 and table 1."""
  image, condition = wave(1, 4, 4, groups), wave(1, 2) if groups == 1 else None
  network = PixelCNN(2 * groups, hidden=3, blocks=2, head=3, groups=groups, first=5)
  variables, out = given(network, image, condition)
  p = variables['params']
  x = masked_conv(p['MaskedConv_0'], np.asarray(image, np.float64), groups, True, causal(5))
  for i in range(2):
    y = pointwise(p[f'Pointwise_{2 * i}'], relu(x), groups) + told(p, f'Dense_{i}', condition)
    y = masked_conv(p[f'MaskedConv_{i + 1}'], relu(y), groups, False, causal(3))
    x = x + pointwise(p[f'Pointwise_{2 * i + 1}'], relu(y), groups)
  assert_same(out, head(p, x, 4, 3, groups))
  assert (PixelCNN(1).hidden, PixelCNN(1).blocks, PixelCNN(1).head, PixelCNN(1).first) == (16, 7, 32, 7)


def gated(y, groups):
  """Van den Oord et al. 2016, arXiv:1606.05328, equation 2, of each color."""
  parts = np.split(y, 2 * groups, -1)
  return np.concatenate([np.tanh(a) * sigmoid(b) for a, b in zip(parts[::2], parts[1::2], strict=True)], -1)


@pytest.mark.parametrize('groups', [1, 3])
def test_gated_pixelcnn(groups):
  """Figure 2 of the same: rows above in the vertical stack, which tells the horizontal one and is told nothing."""
  image, condition = wave(1, 4, 4, groups), wave(1, 2) if groups == 1 else None
  network = GatedPixelCNN(2 * groups, features=3, layers=2, head=3, groups=groups, first=5)
  variables, out = given(network, image, condition)
  p, v = variables['params'], np.asarray(image, np.float64)
  h = v
  for i in range(3):
    layer, size, first = p[f'stack_{i}'], 3 if i else 5, not i
    half = size // 2
    y = taps(layer['down'], v, half + first, int(first), half, half)
    across = masked_conv(layer['across'], h, groups, first, before(size)) + dense(layer['link'], y, bias=False)
    v = gated(y + told(layer, 'condition_down', condition), 1)
    new = pointwise(layer['out'], gated(across + told(layer, 'condition_across', condition), groups), groups)
    h = new if first else h + new
  assert_same(out, head(p, h, 0, 2, groups))


def resnet(params, x, shape, act, other=None, condition=None):
  """Salimans et al. 2017, section 2 and program: x + a sigmoid(b)."""
  layers = iter(f'NormConv_{i}' for i in range(3))
  layer = lambda h, at: taps(params[next(layers)], h, *at) if at else plain(params[next(layers)], h)
  y = layer(act(x), shape)
  if other is not None:
    y = y + layer(act(other), None)
  y = layer(act(y), shape)
  if condition is not None:
    y = y + dense(params['Dense_0'], condition, bias=False)[:, None, None]
  a, b = np.split(y, 2, -1)
  return x + a * sigmoid(b)


def plain(params, x):
  return x @ weight_normed(params) + params['bias']


def concat_elu(x):
  return elu(np.concatenate([x, -x], -1))


ABOVE, BEFORE = (1, 0, 1, 1), (1, 0, 1, 0)


def larger(params, x):
  """A position makes the two squares of its own, and with three columns that on its left."""
  kernel = weight_normed(params)
  batch, height, width, _ = x.shape
  out = np.zeros((batch, 2 * height, 2 * width + 1, kernel.shape[-1]))
  for i in range(2):
    for j in range(kernel.shape[1]):
      shift = j - (kernel.shape[1] == 3)
      columns = [2 * c + shift for c in range(width)]
      for c, column in enumerate(columns):
        if column >= 0:
          out[:, i::2, column] += x[:, :, c] @ kernel[i, j]
  return out[:, :, :-1] + params['bias']


def stream(p, x, others, shape, condition):
  """Two resolutions of one block down and two (one at the coarsest) up, the maps of the way down taken up again."""
  made, kept, act = [], [x], concat_elu
  for level in range(2):
    x = resnet(p[f'down_{level}_0'], x, shape, act, others[len(made)], condition)
    made.append(x)
    kept.append(x)
    if level == 0:
      x = taps(p['smaller_0'], x, *shape, stride=2)
      kept.append(x)
  x = kept.pop()
  for level in (1, 0):
    for block in range(1 + (level == 0)):
      skip, other = kept.pop(), others[len(made)]
      x = resnet(
        p[f'up_{level}_{block}'], x, shape, act, skip if other is None else np.concatenate([other, skip], -1), condition
      )
      made.append(x)
    if level:
      x = larger(p['larger_0'], x)
  return made


def test_pixelcnn_pp():
  """Salimans et al. 2017, figure 2 and program."""
  image, condition = wave(1, 4, 4, 1), wave(1, 2)
  network = PixelCNNpp(3, features=2, blocks=1, levels=2)
  variables, out = given(network, image, condition)
  p = variables['params']
  read = np.concatenate([np.asarray(image, np.float64), np.ones((1, 4, 4, 1))], -1)
  above = stream(p['above'], taps(p['first_above'], read, 2, 1, 1, 1), [None] * 5, ABOVE, np.asarray(condition))
  x = taps(p['first_row'], read, 1, 1, 1, 1) + taps(p['first_column'], read, 1, 0, 1, -1)
  x = stream(p['before'], x, above, BEFORE, np.asarray(condition))[-1]
  assert_same(out, plain(p['head'], elu(x)), 1e-3)
  assert (network.dropout, PixelCNNpp(1).features, PixelCNNpp(1).blocks, PixelCNNpp(1).levels) == (0.5, 192, 5, 3)


def attended(query, key, value):
  """Chen et al. 2018, section 2: the softmax of the scores of earlier positions; the first sees nothing."""
  scores = np.exp(np.einsum('bmk,bnk->bmn', query, key) / math.sqrt(query.shape[-1]))
  scores = scores * np.tril(np.ones(scores.shape[1:]), -1)
  total = scores.sum(-1, keepdims=True)
  return np.einsum('bmn,bnv->bmv', scores / np.where(total > 0, total, 1), value)


def test_attention():
  query, key, value = wave(2, 6, 4), wave(2, 6, 4, start=1.0), wave(2, 6, 3, start=2.0)
  expected = attended(*(np.asarray(a, np.float64) for a in (3 * query, key, value)))
  both = jax.jit(lambda *a: [attention.attend_in_chunks(*a, chunk) for chunk in (6, 2)])
  for out in both(3 * query, key, value):
    assert_same(out, expected)


def test_pixelsnail():
  """Chen et al. 2018, figure 2 and program."""
  image = wave(1, 3, 4, 1)
  variables, out = given(PixelSNAIL(3, features=2, blocks=1, resnets=2, keys=2, values=3), image, wave(1, 2))
  p, pixels = variables['params'], np.asarray(image, np.float64)
  read = np.concatenate([pixels, np.ones((1, 3, 4, 1))], -1)
  x = taps(p['NormConv_0'], read, 1, 1, 1, 1) + taps(p['NormConv_1'], read, 1, 0, 1, -1)
  for i in range(2):
    x = resnet(p[f'GatedResnet_{i}'], x, BEFORE, elu, None, np.asarray(wave(1, 2), np.float64))
  where = np.stack(np.meshgrid(np.arange(3) / 3 - 0.5, np.arange(4) / 4 - 0.5, indexing='ij'), -1)[None]
  q = p['CausalAttention_0']
  content = plain(q['content'], resnet(q['content_block'], np.concatenate([pixels, x, where], -1), None, elu))
  query = plain(q['query'], resnet(q['query_block'], np.concatenate([x, where], -1), None, elu))
  flat = lambda a: a.reshape(1, 12, -1)
  found = attended(flat(query), flat(content[..., :2]), flat(content[..., 2:])).reshape(1, 3, 4, 3)
  x = resnet(p['GatedResnet_2'], x, None, elu, found)
  assert_same(out, plain(p['NormConv_2'], elu(x)), 1e-3)


def lstm(gates, cell, groups=1):
  """Van den Oord et al. 2016, equation 3: output, forget and input gates, and what is new, of each color."""
  parts = [np.split(color, 4, -1) for color in np.split(gates, groups, -1)]
  out, forget, keep, new = (np.concatenate(gate, -1) for gate in zip(*parts, strict=True))
  cell = sigmoid(forget + 1) * cell + sigmoid(keep) * np.tanh(new)
  return sigmoid(out) * np.tanh(cell), cell


def test_an_lstm_of_two_colors():
  y, cell = wave(2, 16), wave(2, 4)
  for got, expected in zip(recurrent.lstm(y, cell, (2, 2)), lstm(np.asarray(y), np.asarray(cell), 2), strict=True):
    assert_same(got, expected)


def row_lstm(p, x, condition):
  """Row by row: three outputs of the row above, and the input's row before the pixel."""
  y = masked_conv(p['inward'], x, 1, False, before(3)) + told(p, 'condition', condition)
  h, cell = (np.broadcast_to(start, (*x.shape[:1], x.shape[2], p['start'].shape[-1])) for start in p['start'])
  rows = []
  for r in range(x.shape[1]):
    beside = np.pad(h, [(0, 0), (1, 1), (0, 0)])
    h, cell = lstm(y[:, r] + sum(beside[:, i : i + x.shape[2]] @ p['across'][i] for i in range(3)), cell)
    rows.append(h)
  return np.stack(rows, 1)


def diagonal(p, way, x, condition):
  """From left to right: the outputs beside and above; beyond the image lies the start."""
  y = pointwise(p[f'inward_{way}'], x) + told(p, f'condition_{way}', condition)
  (batch, height, width, _), features = x.shape, p['start'].shape[-1]
  start, kernel = p['start'][way], p['across'][way]
  h, cell = np.zeros((batch, height, width, features)), np.zeros((batch, height, width, features))
  for r in range(height):
    for c in range(width):
      beside, past = (h[:, r, c - 1], cell[:, r, c - 1]) if c else np.broadcast_to(start[:, None], (2, batch, features))
      upper = h[:, r - 1, c] if r else np.broadcast_to(start[0], (batch, features))
      h[:, r, c], cell[:, r, c] = lstm(y[:, r, c] + np.concatenate([beside, upper], -1) @ kernel, past)
  return h


def both_diagonals(p, x, condition):
  there, back = diagonal(p, 0, x, condition), diagonal(p, 1, x[:, :, ::-1], condition)[:, :, ::-1]
  return there + np.concatenate([np.zeros_like(back[:, :1]), back[:, :-1]], 1)


@pytest.mark.parametrize('layer', ['row_lstm', 'diagonal_bilstm'])
def test_pixelrnn(layer):
  """Van den Oord et al. 2016, section 3 and table 1."""
  image, condition = wave(1, 3, 3, 1), wave(1, 2)
  variables, out = given(PixelRNN(2, hidden=2, layers=2, layer=layer, head=3, first=3), image, condition)
  p, x = variables['params'], np.asarray(image, np.float64)
  margin = int(layer == 'diagonal_bilstm')
  x = masked_conv(p['before'], np.pad(x, [(0, 0), (0, 0), (0, margin), (0, 0)]), 1, True, causal(3))
  for i in range(2):
    run = both_diagonals if margin else row_lstm
    x = x + pointwise(p[f'widen_{i}'], run(p[f'stack_{i}'], x, np.asarray(condition, np.float64)))
  assert_same(out, head(p, x, 0, 3)[:, :, :3])


def test_skewed_rows_come_back():
  x = wave(1, 3, 4, 2)
  skewed = np.asarray(recurrent.skew(x))
  for r in range(3):
    np.testing.assert_array_equal(skewed[:, r, r : r + 4], x[:, r])
  assert np.count_nonzero(skewed) == x.size
  np.testing.assert_array_equal(recurrent.unskew(jnp.asarray(skewed)), x)
  assert jax.eval_shape(recurrent.skew, x).shape == (1, 3, 6, 2)
