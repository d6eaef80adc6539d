"""Networks of diffusion models from fixed weights, once more in plain NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden import assert_same, conv, dense, given, sigmoid, wave
from playing import softplus

from dgm_jax.models import denoiser

T = jnp.asarray([1, 4, 7])
STEPS = 7
ACTIVATIONS = {'tanh': np.tanh, 'sigmoid': sigmoid}


def place(t, spacing):
  return (t - 1) / (STEPS - 1) if spacing == 'linear' else np.log(t) / np.log(STEPS)


def bumps(count, spacing):
  """Sohl-Dickstein et al. 2015, equation 63, with the width of the program."""
  centres, width = np.linspace(0, 1, count), 0.5 / (count - 1)
  heights = np.exp(-((place(np.asarray(T, np.float64), spacing)[:, None] - centres) ** 2) / (2 * width**2))
  return heights / heights.sum(1, keepdims=True)


def readout(p, h, count, spacing, outputs):
  """Linear functions of the features, each a sum over bumps of t."""
  heads = dense(p['Dense_0'], h)
  heads = heads.reshape(*h.shape[:-1], -1, count)
  weights = bumps(count, spacing).reshape(3, *[1] * (h.ndim - 1), count)
  return (heads * weights).sum(-1).reshape(*h.shape[:-1], -1, outputs)


def mlp(p, h, activation):
  for name in sorted(p):
    h = activation(dense(p[name], h))
  return h


@pytest.mark.parametrize('spacing', ['linear', 'logarithmic'])
def test_bumps_sum_to_one_and_are_those_of_the_paper(spacing):
  got = denoiser.bumps(T, STEPS, 4, spacing)
  np.testing.assert_allclose(got.sum(1), 1, rtol=1e-6)
  np.testing.assert_allclose(got, bumps(4, spacing), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(('activation', 'waves'), [('sigmoid', 0), ('tanh', 2)])
def test_dense(activation, waves):
  x = wave(3, 2, 2, 1)
  module = denoiser.Dense(2, STEPS, (4, 3), activation, 3, 'logarithmic', waves)
  variables, out = given(module, x, T)
  p, h = variables['params'], np.asarray(x, np.float64).reshape(3, 4)
  if waves:
    angles = np.pi * place(np.asarray(T, np.float64), 'logarithmic')[:, None] * np.array([1, 2])
    h = np.concatenate([h, np.sin(angles), np.cos(angles)], 1)
  h = mlp(p['MLP_0'], h, ACTIVATIONS[activation])
  assert_same(out, readout(p['Readout_0'], h, 3, 'logarithmic', 2).reshape(3, 2, 2, 1, 2))


def test_radial():
  x = wave(3, 2)
  variables, out = given(denoiser.Radial(2, STEPS, units=5, bumps=3), x, T)
  p = variables['params']
  square = ((np.asarray(x, np.float64)[:, None] - p['centres'][None]) ** 2).sum(-1)
  h = np.exp(-square / (2 * np.exp(p['log_width']) ** 2))
  assert_same(out, readout(p['Readout_0'], h, 3, 'linear', 2))


def at_all_scales(p, h, first, scales):
  total = conv(p[f'Conv_{first}'], h)
  for scale in range(1, scales):
    side = 2**scale
    b, height, width, c = h.shape
    small = h.reshape(b, height // side, side, width // side, side, c).mean((2, 4))
    total += conv(p[f'Conv_{first + scale}'], small, bias=False).repeat(side, 1).repeat(side, 2)
  return softplus(total)


@pytest.mark.parametrize('beside', [0, 3])
def test_multi_scale(beside):
  x = wave(3, 4, 8, 2)
  module = denoiser.MultiScale(
    2, STEPS, features=3, layers=2, scales=3, dense=beside, dense_layers=2, dense_features=2, upper=4, upper_layers=3,
    bumps=3,
  )  # fmt: skip
  variables, out = given(module, x, T)
  p, h = variables['params'], np.asarray(x, np.float64)
  for layer in range(2):
    h = at_all_scales(p, h, 3 * layer, 3)
  if beside:
    of_all = mlp(p['MLP_0'], np.asarray(x, np.float64).reshape(3, -1), np.tanh)
    h = np.concatenate([h, of_all.reshape(3, 4, 8, 2)], -1)
  h = mlp(p[f'MLP_{int(beside > 0)}'], h, np.tanh)
  assert_same(out, readout(p['Readout_0'], h, 3, 'linear', 2).reshape(3, 4, 8, 2, 2))


def test_a_network_of_the_paper_says_nothing_initially():
  module = denoiser.MultiScale(2, STEPS, 3, 1, 1, 0, upper=4, upper_layers=2, bumps=2)
  variables = module.init(jax.random.key(0), wave(3, 4, 4, 1), T)
  assert not module.apply(variables, wave(3, 4, 4, 1), T).any()
