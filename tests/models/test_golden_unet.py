"""The U-Net from fixed weights, once more in plain NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden import assert_same, conv, dense, given, sigmoid, squeezed, wave

from dgm_jax.models import unet

T, STEPS = jnp.asarray([1, 4, 7]), 7


def swish(x):
  return x * sigmoid(x)


def group_norm(p, x, groups=2):
  b, h, w, c = x.shape
  parts = x.reshape(b, h * w, groups, c // groups)
  parts = (parts - parts.mean((1, 3), keepdims=True)) / np.sqrt(parts.var((1, 3), keepdims=True) + 1e-6)
  return parts.reshape(x.shape) * p['scale'] + p['bias']


def block(p, x, step):
  h = conv(p['Conv_0'], swish(group_norm(p['GroupNorm_0'], x)))
  h = h + dense(p['Dense_0'], swish(step))[:, None, None]
  h = conv(p['Conv_1'], swish(group_norm(p['GroupNorm_1'], h)))
  return (dense(p['Dense_1'], x) if 'Dense_1' in p else x) + h


def attention(p, x):
  b, c = x.shape[0], x.shape[-1]
  h = group_norm(p['GroupNorm_0'], x).reshape(b, -1, c)
  query, key, value = (dense(p[name], h) for name in ('query', 'key', 'value'))
  scores = np.einsum('bmc,bnc->bmn', query, key) / np.sqrt(c)
  weights = np.exp(scores - scores.max(-1, keepdims=True))
  weights /= weights.sum(-1, keepdims=True)
  return x + dense(p['output'], weights @ value).reshape(x.shape)


def waves(size):
  """1000 (t - 1) / T at rates from 1 to 1 / 10000."""
  angles = (np.asarray(T, np.float64) - 1)[:, None] * 1000 / STEPS * 10_000 ** -np.linspace(0, 1, size // 2)
  return np.concatenate([np.sin(angles), np.cos(angles)], 1)


def network(p, x, outputs, patch, attended):
  """Ho et al.'s, of multipliers (1, 2) and one block; `attended` resolutions have attention."""
  step = dense(p['step_1'], swish(dense(p['step_0'], waves(4))))
  places = iter(range(9))
  seen = lambda h: attention(p[f'Attention_{next(places)}'], h) if h.shape[1] in attended else h
  h = conv(p['input'], squeezed(x) if patch == 2 else x)
  first = h
  second = h = seen(block(p['Block_0'], h, step))
  third = h = conv(p['Conv_0'], h, 2)
  fourth = h = seen(block(p['Block_1'], h, step))
  h = attention(p[f'Attention_{next(places)}'], block(p['Block_2'], h, step))
  h = block(p['Block_3'], h, step)
  for number, beside in ((4, fourth), (5, third)):
    h = seen(block(p[f'Block_{number}'], np.concatenate([h, beside], -1), step))
  h = conv(p['Conv_1'], h.repeat(2, 1).repeat(2, 2))
  for number, beside in ((6, second), (7, first)):
    h = seen(block(p[f'Block_{number}'], np.concatenate([h, beside], -1), step))
  h = conv(p['output'], swish(group_norm(p['GroupNorm_0'], h)))
  if patch == 2:
    b, height, width, c = h.shape
    h = h.reshape(b, height, width, 2, 2, c // 4).transpose(0, 1, 3, 2, 4, 5).reshape(b, 2 * height, 2 * width, -1)
  return h.reshape(*x.shape, outputs)


@pytest.mark.parametrize(('patch', 'attended'), [(1, (4,)), (2, ())])
def test_unet(patch, attended):
  x = wave(3, 4 * patch, 4 * patch, 2)
  module = unet.UNet(2, STEPS, 4, (1, 2), 1, attended, groups=2, dropout=0.5, patch=patch)
  variables, out = given(module, x, T)
  assert_same(out, network(variables['params'], np.asarray(x, np.float64), 2, patch, attended), 1e-3)


def test_an_embedding_is_of_sines_and_cosines():
  np.testing.assert_allclose(unet.embedding(T, STEPS, 8), waves(8), atol=1e-4)


def test_a_unet_drops_units_with_noise_only():
  x = wave(3, 4, 4, 1)
  module = unet.UNet(1, STEPS, 4, (1,), 1, (), groups=2, dropout=0.5)
  params = jax.tree.map(lambda leaf: leaf + 0.1, jax.jit(module.init)(jax.random.key(0), x, T))
  apply = jax.jit(lambda key: module.apply(params, x, T, rngs={'dropout': key} if key is not None else None))
  assert (apply(None) == apply(None)).all()
  assert (apply(jax.random.key(1)) != apply(jax.random.key(2))).any()
