"""Encoders with a context, maxout layers and the residual networks of autoencoders, in plain NumPy."""

import jax
import numpy as np
import pytest
from golden import assert_same, conv, dense, elu, given, transposed, wave

from dgm_jax.models import resnet_vae, vae
from dgm_jax.nn.blocks import MLP


def test_maxout_layers():
  """Goodfellow et al. 2013, equation 2, of four pieces."""
  x = wave(2, 5)
  variables, out = given(MLP((4, 3), 'maxout'), x)
  h = np.asarray(x, np.float64)
  for i, size in enumerate((4, 3)):
    every = dense(variables['params'][f'Dense_{i}'], h)
    assert every.shape == (2, 4 * size)
    h = np.max(np.split(every, 4, -1), 0)
  assert_same(out, h)
  kernel = np.asarray(MLP((300,), 'maxout').init(jax.random.key(0), wave(1, 500))['params']['Dense_0']['kernel'])
  assert 0.99 < np.abs(kernel).max() / np.sqrt(6 / 800) <= 1  # the fan of one piece, not of all


def head(p, h):
  both = dense(p['Dense_0'], h) if 'Dense_0' in p else normed(p, h)
  mean, log_std = np.split(both, 2, -1)
  return mean, 2 * log_std


def test_an_encoder_with_a_context():
  x = wave(2, 3, 3, 1)
  variables, (mean, logvar, context) = given(vae.ContextEncoder((4, 5), 2, 3), x)
  p, h = variables['params'], np.asarray(x, np.float64).reshape(2, -1)
  for i in range(2):
    h = np.tanh(dense(p['MLP_0'][f'Dense_{i}'], h))
  assert_same(context, dense(p['context'], h))
  for got, expected in zip((mean, logvar), head(p['NormalHead_0'], h), strict=True):
    assert_same(got, expected)


def kernel(p):
  """Salimans & Kingma 2016, equation 2."""
  v = p['direction']
  return p['scale'] * v / np.sqrt((v**2).sum(tuple(range(v.ndim - 1))))


def normed(p, x):
  return x @ kernel(p) + p['bias']


def block(p, x, stride=1, up=False):
  """Pre-activated, with a 1x1 (or transposed 2x2) convolution of x where the shape changes."""
  at = lambda i: {'kernel': kernel(p[f'NormConv_{i}']), 'bias': p[f'NormConv_{i}']['bias']}
  h = transposed(at(0), elu(x)) if up else conv(at(0), elu(x), stride)
  h = conv(at(1), elu(h))
  if up:
    return transposed(at(2), x) + h
  return (conv(at(2), x, stride) if len(p) == 3 else x) + h


@pytest.mark.parametrize('context', [0, 4])
def test_the_residual_encoder(context):
  """Kingma et al. 2016, appendix B: each scale halves the image, then keeps its size; then a dense layer."""
  x = wave(2, 7, 7, 1)
  variables, out = given(resnet_vae.Encoder((2, 3), 5, 2, context), x)
  p, h = variables['params'], np.asarray(x, np.float64)
  for i in range(2):
    h = block(p[f'Block_{2 * i}'], h, 2)
    h = block(p[f'Block_{2 * i + 1}'], h)
  assert h.shape == (2, 2, 2, 3)
  h = elu(normed(p['NormDense_0'], elu(h).reshape(2, -1)))
  expected = [*head(p['NormDense_1'], h), *([dense(p['context'], h)] if context else [])]
  assert len(out) == len(expected)
  for got, numbers in zip(out, expected, strict=True):
    assert_same(got, numbers)


def test_the_residual_decoder_is_the_mirror():
  z = wave(2, 2)
  variables, (first, second) = given(resnet_vae.Decoder((2, 3), 5, (7, 7, 1), 2), z)
  p = variables['params']
  h = elu(normed(p['NormDense_0'], np.asarray(z, np.float64)))
  h = normed(p['NormDense_1'], h).reshape(2, 2, 2, 3)
  for i, size in enumerate((4, 7)):  # 7 was made 4 and 2 on the way down
    h = block(p[f'Block_{2 * i}'], h)
    h = block(p[f'Block_{2 * i + 1}'], h, up=True)[:, :size, :size]
  assert h.shape[-1] == 2
  out = conv({'kernel': kernel(p['output']), 'bias': p['output']['bias']}, elu(h))
  assert_same(first, out[..., 0].reshape(2, -1))
  assert_same(second, out[..., 1].reshape(2, -1))


def test_networks_start_from_the_first_batch():
  x = 3 * wave(20, 7, 7, 1) + 1
  module = resnet_vae.Encoder((2, 3), 5, 2)
  mean, logvar = module.apply(jax.jit(module.init)(jax.random.key(0), x), x)
  both = np.concatenate([mean, 0.5 * logvar], -1)
  np.testing.assert_allclose(both.mean(0), np.zeros(4), atol=1e-5)
  np.testing.assert_allclose(both.std(0), np.full(4, 0.1), rtol=1e-3)
