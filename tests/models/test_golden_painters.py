"""Painters of several steps from fixed weights, once more in plain NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden import assert_same, conv, dense, given, sigmoid, transposed, wave

from dgm_jax.models.conv_draw import ConvDrawCell
from dgm_jax.models.draw import DrawCell
from dgm_jax.models.painter import Painter

SHAPE = (4, 5, 2)
EVEN = (4, 6, 2)
T, N = 3, 2


def lstm(gates, cell):
  """Graves 2013 without peepholes; the forget gate is 1 larger."""
  out, forget, keep, new = np.split(gates, 4, -1)
  cell = sigmoid(forget + 1) * cell + sigmoid(keep) * np.tanh(new)
  return sigmoid(out) * np.tanh(cell), cell


def window(numbers, n):
  """Gregor et al. 2015, equations 19 to 26: filters of rows and columns, the intensity, and the box."""
  height, width = SHAPE[:2]
  filters, ends = [], []
  stride = (max(height, width) - 1) / (n - 1) * np.exp(numbers[:, 3])
  for raw, size in ((numbers[:, 1], height), (numbers[:, 0], width)):
    centre = (size + 1) / 2 * (raw + 1)
    means = centre[:, None] + (np.arange(1, n + 1) - n / 2 - 0.5) * stride[:, None]
    gaps = np.arange(1, size + 1) - means[..., None]
    weights = np.exp(-(gaps**2) / 2 / np.exp(numbers[:, 2])[:, None, None])
    filters.append(weights / weights.sum(-1, keepdims=True))
    ends.append((means[:, 0], means[:, -1]))
  (top, bottom), (left, right) = ends
  box = np.stack([left, top, right, bottom, np.exp(numbers[:, 2] / 2)], -1)
  return (*filters, np.exp(numbers[:, 4])[:, None, None, None]), box


def flat(*parts):
  return np.concatenate([part.reshape(len(part), -1) for part in parts], -1)


def draw(p, x, noise, read, write, kept=(True,) * T):
  """Gregor et al. 2015, equations 3 to 8; without x, samples. Returns the canvas and the steps."""
  n, made = noise.shape[1], []
  canvas = np.broadcast_to(p['canvas'], (n, *SHAPE))
  h_enc, c_enc, h_dec, c_dec = (np.broadcast_to(row, (n, row.size)) for row in p['start'])
  for own, posterior in zip(noise, kept, strict=True):
    z, mean, logvar, read_box, write_box = own, None, None, None, None
    if x is not None:
      error = x - sigmoid(canvas)
      seen = flat(x, error)
      if read:
        (rows, columns, intensity), read_box = window(dense(p['read_window'], h_dec), read)
        seen = flat(*(intensity * np.einsum('bnh,bhwc,bmw->bnmc', rows, a, columns) for a in (x, error)))
        seen = np.concatenate([a.reshape(n, read, read, 2) for a in np.split(seen, 2, -1)], -1).reshape(n, -1)
      h_enc, c_enc = lstm(dense(p['encoder'], np.concatenate([seen, h_dec, h_enc], -1)), c_enc)
      mean, log_std = np.split(dense(p['posterior']['Dense_0'], h_enc), 2, -1)
      logvar = 2 * log_std
      z = mean + np.exp(log_std) * own if posterior else own
    h_dec, c_dec = lstm(dense(p['decoder'], np.concatenate([z, h_dec], -1)), c_dec)
    patch = dense(p['output'], h_dec)
    if write:
      (rows, columns, intensity), write_box = window(dense(p['write_window'], h_dec), write)
      patch = np.einsum('bnh,bnmc,bmw->bhwc', rows, patch.reshape(n, write, write, 2), columns) / intensity
    canvas = canvas + patch.reshape(n, *SHAPE)
    made.append((z, mean, logvar, canvas, read_box, write_box, np.zeros_like(own), np.zeros_like(own)))
  return canvas, made


def painter(read, write, num_parameters=1):
  cell = DrawCell(SHAPE, 3, 2, read, write, lambda canvas: 1 / (1 + jnp.exp(-canvas)))
  return Painter(cell, T, SHAPE, num_parameters)


def double(x):
  return np.asarray(x, np.float64)


def same_steps(steps, made):
  of = steps.z, *(steps.posterior or (None, None)), steps.canvas, steps.read, steps.write, *steps.prior
  for got, *expected in zip(of, *made, strict=True):
    if got is None:
      assert expected == [None] * T
    else:
      assert_same(got, np.stack(expected))


def conv_lstm(p, x, h, cell, more=0):
  """Shi et al. 2015, equation 3, without peepholes."""
  return lstm(conv(p['Conv_0'], np.concatenate([x, h], -1)) + more, cell)


def head(p, h):
  mean, log_std = (part.reshape(len(h), -1) for part in np.split(conv(p, h), 2, -1))
  return mean, 2 * log_std


def conv_draw(p, x, noise, kept=(True,) * T):
  """Gregor et al. 2016, section 2; without x, samples. Returns the canvas and the steps."""
  n, made = noise.shape[1], []
  rows = [np.broadcast_to(row, (n, 2, 3, row.size)) for row in p['start']]
  (h_enc, c_enc, h_dec, c_dec), canvas = rows, np.broadcast_to(p['canvas'], (n, *EVEN))
  for own, keep in zip(noise, kept, strict=True):
    prior, posterior = head(p['prior'], h_dec), (None, None)
    chosen = prior
    if x is not None:
      gates = conv(p['from_image'], np.concatenate([x, x - sigmoid(canvas)], -1), 2, False)
      h_enc, c_enc = conv_lstm(p['encoder'], h_dec, h_enc, c_enc, gates)
      posterior = head(p['posterior'], h_enc)
      chosen = posterior if keep else prior
    z = chosen[0] + np.exp(chosen[1] / 2) * own
    gates = conv(p['from_canvas'], canvas, 2, False)
    h_dec, c_dec = conv_lstm(p['decoder'], z.reshape(n, 2, 3, -1), h_dec, c_dec, gates)
    canvas = canvas + transposed(p['output'], h_dec)
    made.append((z, *posterior, canvas, None, None, *prior))
  return canvas, made


def conv_painter():
  cell = ConvDrawCell(EVEN, 3, 3, 2, lambda canvas: 1 / (1 + jnp.exp(-canvas)))
  return Painter(cell, T, EVEN)


def test_conv_draw():
  x, noise, kept = wave(N, *EVEN), wave(T, N, 12, start=1.0), jnp.asarray([True, False, True])
  variables, (canvas, steps) = given(conv_painter(), x, noise, kept, trace=True)
  expected, made = conv_draw(variables['params']['cell'], *map(double, (x, noise)), kept)
  assert_same(canvas, expected)
  same_steps(steps, made)
  canvas, steps = conv_painter().apply(jax_floats(variables), noise, trace=True, method='generate')
  expected, made = conv_draw(variables['params']['cell'], None, double(noise))
  assert_same(canvas, expected)
  same_steps(steps, made)


@pytest.mark.parametrize(('read', 'write'), [(0, 0), (2, 3), (0, 2)])
def test_draw(read, write):
  x, noise, kept = wave(N, *SHAPE), wave(T, N, 2, start=1.0), jnp.asarray([True, False, True])
  variables, (canvas, steps) = given(painter(read, write), x, noise, kept, trace=True)
  p = variables['params']['cell']
  expected, made = draw(p, double(x), double(noise), read, write, kept)
  assert_same(canvas, expected)
  same_steps(steps, made)


@pytest.mark.parametrize(('read', 'write'), [(0, 0), (2, 3)])
def test_draw_generates_without_its_encoder(read, write):
  noise = wave(T, N, 2, start=1.0)
  start = (wave(N, *SHAPE), noise, jnp.ones(T, bool))
  whole = painter(read, write)
  variables, _ = given(whole, *start)
  canvas, steps = whole.apply(jax_floats(variables), noise, trace=True, method='generate')
  expected, made = draw(variables['params']['cell'], None, double(noise), read, write)
  assert_same(canvas, expected)
  same_steps(steps, made)


def jax_floats(tree):
  return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), tree)


def test_further_parameters_of_pixels_are_learned_for_each_channel():
  start = (wave(N, *SHAPE), wave(T, N, 2), jnp.ones(T, bool))
  whole = painter(0, 0, 3)
  variables, _ = given(whole, *start)
  canvas = wave(N, *SHAPE, start=2.0)
  first, *more = whole.apply(jax_floats(variables), canvas, method='pixels')
  np.testing.assert_array_equal(first, canvas.reshape(N, -1))
  for own, part in zip(variables['params']['spread'], more, strict=True):
    assert_same(part, np.broadcast_to(own, (N, *SHAPE)).reshape(N, -1), 1e-6)
