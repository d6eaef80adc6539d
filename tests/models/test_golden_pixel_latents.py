"""Networks of VLAE and PixelVAE are the architectures of their papers: their numbers are those of plain NumPy."""

import numpy as np
import pytest
from golden import assert_same, conv, correlate, dense, elu, given, padded, relu, sides, sigmoid, transposed, wave
from test_golden_pixels import before, causal, gated, masked_conv, plain, pointwise, taps, told, weight_normed

from dgm_jax.models import latent_maps, pixel_vae
from dgm_jax.models.local_pixelcnn import LUMINANCE, LocalPixelCNN, WindowPixelCNN
from dgm_jax.models.pixelcnn import GatedPixelCNN


@pytest.mark.parametrize('tied', [True, False])
def test_local_pixelcnn(tied):
  """Chen et al. 2017, arXiv:1611.02731, appendix A: six masked layers in residual pairs, 1x1 blocks between them."""
  image, condition = wave(2, 4, 5, 1), wave(2, 4, 5, 3)
  variables, out = given(LocalPixelCNN(2, features=3, layers=6, pointwise=4, tied=tied), image, condition)
  p, x = variables['params'], np.asarray(image, np.float64)
  up, down, left, right, last = causal(3)
  strict = taps(p['first'], x, up, down, left, right, last)
  x = strict + dense(p['condition_in'], np.asarray(condition, np.float64), bias=False)

  def masked(x, index):
    return taps(p[f'masked_{0 if tied else index}'], elu(x), up, down, left, right, last + 1)

  def block(x, index):
    layers = p[f'blocks_{index}']
    return x + plain(layers['NormConv_1'], elu(plain(layers['NormConv_0'], elu(x))))

  x = x + masked(x, 0)
  for pair in (1, 2):
    for index in (2 * pair - 2, 2 * pair - 1):
      x = block(x, index)
    x = x + masked(masked(x, 2 * pair - 1), 2 * pair)
  assert sum(name.startswith('masked') for name in p) == (1 if tied else 5)
  assert_same(out, plain(p['head'], elu(x)))


@pytest.mark.parametrize(('grey', 'channels'), [(False, 1), (True, 3)])
def test_window_pixelcnn(grey, channels):
  """Two rows of four pixels above and two before, then gated residual 1x1 blocks with a condition."""
  image, condition = wave(1, 4, 5, channels), wave(1, 2)
  variables, out = given(WindowPixelCNN(2, wide=4, high=2, features=3, blocks=2, grey=grey), image, condition)
  p, x, c = variables['params'], np.asarray(image, np.float64), np.asarray(condition, np.float64)
  x = (x @ np.array(LUMINANCE))[..., None] if grey else x
  x = np.concatenate([x, np.ones_like(x[..., :1])], -1)
  x = taps(p['first'], x, 2, 0, 2, 1, 2) + told(p, 'condition_in', c)
  for i in range(2):
    layers = p[f'stack_{i}']
    act = lambda x: elu(np.concatenate([x, -x], -1))
    y = plain(layers['NormConv_1'], act(plain(layers['NormConv_0'], act(x))))
    y = y + dense(layers['Dense_0'], c, bias=False)[:, None, None]
    a, b = np.split(y, 2, -1)
    x = x + a * sigmoid(b)
  assert_same(out, plain(p['head'], elu(x)))


@pytest.mark.parametrize('groups', [1, 3])
def test_gated_head(groups):
  """Gulrajani et al. 2017, arXiv:1611.05013, and its program: two gated 1x1 layers that the condition enters."""
  image, condition = wave(1, 4, 4, groups), wave(1, 2)
  network = GatedPixelCNN(2 * groups, features=3, layers=0, head=3, groups=groups, first=5, gated_head=2)
  variables, out = given(network, image, condition)
  p, v, c = variables['params'], np.asarray(image, np.float64), np.asarray(condition, np.float64)
  layer, half = p['stack_0'], 2
  y = taps(layer['down'], v, half + 1, 1, half, half)
  across = masked_conv(layer['across'], v, groups, True, before(5)) + dense(layer['link'], y, bias=False)
  h = pointwise(layer['out'], gated(across + told(layer, 'condition_across', c), groups), groups)
  for i in range(2):
    head = p[f'GatedPointwise_{i}']
    h = gated(pointwise(head['Pointwise_0'], h, groups) + told(head, 'Dense_0', c), groups)
  assert_same(out, pointwise(p['last'], h, groups))


def test_pairs():
  """The encoder and the map of mnist_pixelvae_train.py, 28 -> 14 -> 7 -> 4."""
  image = wave(1, 7, 6, 1)
  variables, (mean, logvar) = given(pixel_vae.PairEncoder(2, channels=(2, 3)), image)
  p, h = variables['params'], np.asarray(image, np.float64)
  for i, stride in enumerate((1, 2, 1, 2, 1, 1)):
    h = relu(conv(p[f'Conv_{i}'], h, stride))
  assert h.shape == (1, 2, 2, 3)
  both = dense(p['NormalHead_0']['Dense_0'], h.reshape(1, -1))
  assert_same(mean, both[:, :2])
  assert_same(logvar, 2 * both[:, 2:])

  variables, out = given(pixel_vae.PairMap((7, 6), features=5, channels=(2, 3)), wave(1, 4))
  p = variables['params']
  h = relu(dense(p['Dense_0'], np.asarray(wave(1, 4), np.float64))).reshape(1, 2, 2, 3)
  h = conv(p['Conv_1'], relu(conv(p['Conv_0'], h)))
  for i, (height, width) in enumerate(((4, 3), (7, 6))):
    h = relu(transposed(p[f'TransposedConv_{i}'], relu(h)))[:, :height, :width]
    h = conv(p[f'Conv_{2 + i}'], h)
  assert_same(out, h)


def test_dense():
  variables, (mean, logvar) = given(pixel_vae.DenseEncoder(2, hidden=(3,)), wave(2, 2, 2, 1))
  p = variables['params']
  h = np.tanh(dense(p['MLP_0']['Dense_0'], np.asarray(wave(2, 2, 2, 1), np.float64).reshape(2, -1)))
  both = dense(p['NormalHead_0']['Dense_0'], h)
  assert_same(mean, both[:, :2])
  assert_same(logvar, 2 * both[:, 2:])
  variables, out = given(pixel_vae.DenseMap((2, 3), features=2, hidden=(3,)), wave(2, 4))
  p = variables['params']
  h = np.tanh(dense(p['MLP_0']['Dense_0'], np.asarray(wave(2, 4), np.float64)))
  assert_same(out, dense(p['Dense_0'], h).reshape(2, 2, 3, 2))


def norm_conv(params, x, stride=1):
  """A weight-normalised convolution, 'SAME'."""
  kernel = weight_normed(params)
  pads = [sides(n, k, stride) for n, k in zip(x.shape[1:3], kernel.shape[:2], strict=True)]
  return correlate(padded(x, *pads), kernel, stride) + params['bias']


def block(params, x):
  """A residual block, or one of dense steps."""
  if 'NormConv_2' not in params:
    return x + norm_conv(params['NormConv_1'], elu(norm_conv(params['NormConv_0'], elu(x))))
  y = x
  for i in range(3):
    y = np.concatenate([y, norm_conv(params[f'NormConv_{i}'], elu(y))], -1)
  return x + norm_conv(params['NormConv_3'], elu(y))


@pytest.mark.parametrize('dense_steps', [False, True])
def test_maps(dense_steps):
  """Chen et al. 2017, appendix B: blocks, a convolution of stride 2, blocks, a 1x1 convolution to the map, and back."""
  name = 'DenseSteps' if dense_steps else 'Block'
  options = {'widths': (2, 3), 'blocks': (1, 1), 'dense': dense_steps}
  variables, (mean, logvar) = given(latent_maps.MapEncoder(8, **options), wave(1, 4, 4, 1))
  p = variables['params']
  h = block(p[f'{name}_0'], norm_conv(p['NormConv_0'], np.asarray(wave(1, 4, 4, 1), np.float64)))
  h = block(p[f'{name}_1'], norm_conv(p['NormConv_1'], elu(h), 2))
  both = conv(p['Conv_0'], elu(h))
  assert_same(mean, both[..., :2].reshape(1, -1))
  assert_same(logvar, 2 * both[..., 2:].reshape(1, -1))
  variables, out = given(latent_maps.MapDecoder((4, 4), features=2, **options), wave(1, 8))
  p = variables['params']
  h = norm_conv(p['NormConv_0'], np.asarray(wave(1, 8), np.float64).reshape(1, 2, 2, 2))
  h = transposed(p['TransposedConv_0'], elu(block(p[f'{name}_0'], h)))
  assert_same(out, norm_conv(p['NormConv_1'], elu(block(p[f'{name}_1'], h))))


def test_ladder():
  variables, out = given(latent_maps.LadderEncoder((8, 2), widths=(2, 3), blocks=(1, 1), top_width=2), wave(1, 4, 4, 1))
  p = variables['params']
  h = block(p['Block_0'], norm_conv(p['NormConv_0'], np.asarray(wave(1, 4, 4, 1), np.float64)))
  h = block(p['Block_1'], norm_conv(p['NormConv_1'], elu(h), 2))
  both = conv(p['Conv_0'], elu(h))
  top = elu(block(p['Block_2'], norm_conv(p['NormConv_2'], elu(h), 2))).reshape(1, -1)
  high = dense(p['NormalHead_0']['Dense_0'], top)
  expected = (both[..., :2].reshape(1, -1), 2 * both[..., 2:].reshape(1, -1)), (high[:, :2], 2 * high[:, 2:])
  for own, level in zip(out, expected, strict=True):
    for parameter, value in zip(own, level, strict=True):
      assert_same(parameter, value)


def test_masked_map():
  """A latent's parameters depend on the positions before it and, at its position, on the channels before it."""
  variables, out = given(latent_maps.MaskedMap((2, 3, 2), 2, (4, 4)), wave(1, 12))
  p, h = variables['params'], np.asarray(wave(1, 12), np.float64).reshape(1, 2, 3, 2)
  for i in range(2):
    h = relu(masked_conv(p[f'MaskedConv_{i}'], h, 2, not i, causal(3)))
  h = pointwise(p['last'], h, 2).reshape(1, 2, 3, 2, 2)
  assert_same(out, np.concatenate([h[..., n].reshape(1, -1) for n in range(2)], -1))
