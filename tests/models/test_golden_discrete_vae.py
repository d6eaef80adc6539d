"""Networks of the discrete variational autoencoder in plain NumPy."""

import jax.numpy as jnp
import numpy as np
import pytest
from golden import assert_same, dense, given, relu, sigmoid, wave

from dgm_jax.distributions import smoothing
from dgm_jax.models.discrete_vae import DiscreteVAE, Noise, group_sizes

BITS, GROUPS, LATENTS, BETA = 5, 3, 2, 3.0


def test_groups_are_as_equal_as_they_can_be():
  assert group_sizes(5, 3) == [2, 2, 1]
  assert group_sizes(8, 2) == [4, 4]
  assert group_sizes(4, 4) == [1, 1, 1, 1]


def normed(layers, norms, stats, x):
  """Dense layers, each followed by its normalisation and a rectifier."""
  for layer, norm, own in zip(layers, norms, stats, strict=True):
    x = (dense(layer, x, bias=False) - own['mean']) / np.sqrt(own['variance'] + 1e-5)
    x = relu(x * norm['scale'] + norm['bias'])
  return x


def mlp(p, stats, x):
  count = sum(name.startswith('Dense') for name in p)
  names = [(f'Dense_{i}', f'BatchNorm_{i}') for i in range(count)]
  return normed([p[a] for a, _ in names], [p[b] for _, b in names], [stats[b] for _, b in names], x)


def layer(p, stats, number, shared, x):
  """Mean and log-variance of a continuous layer of one hidden layer."""
  own = 0 if shared else number
  x = normed([p[f'dense_{own}_0']], [p[f'norms_{number}_0']], [stats[f'norms_{number}_0']], x)
  mean, raw = np.split(dense(p[f'heads_{own}']['Dense_0'], x), 2, -1)
  return mean, np.log(np.logaddexp(0, raw) + 1e-6)


def inverse(rho, logits):
  """Of the spike and exponential; Rolfe 2017, section 2.1."""
  q = sigmoid(logits)
  return np.log1p(np.maximum(rho + q - 1, 0) / q * np.expm1(BETA)) / BETA


def inputs(zeta, below, layers):
  """Smoothed bits, layers so far, and zeros."""
  missing = [np.zeros((len(zeta), LATENTS))] * (layers - len(below))
  return np.concatenate([zeta, *below, *missing], 1)


@pytest.mark.parametrize(('layers', 'shared', 'rows'), [(0, True, 6), (2, True, 2), (2, False, 6)])
def test_groups_layers_and_pixels(layers, shared, rows):
  """Two images, of which each is sampled once or three times."""
  smooth = smoothing.spike_exponential(BETA)
  module = DiscreteVAE((2, 2, 1), 1, BITS, GROUPS, smooth, (4,), (3,), (3,), layers, LATENTS, shared)
  x = wave(2, 2, 2, 1)
  rho = 0.5 + 0.45 * wave(rows, BITS)
  noise = Noise(rho, rho, [wave(rows, LATENTS, start=i) for i in range(layers)])
  variables, (found, (pixels,)) = given(module, x, noise)
  (up, down), stats = (variables['params'][name] for name in ('encoder', 'decoder')), variables['batch_stats']
  wide = np.repeat(np.asarray(x, float).reshape(2, -1), rows // 2, 0)
  zeta, logits, at = np.zeros((rows, 0)), [], 0
  for group, size in enumerate((2, 2, 1)):
    hidden = mlp(up[f'bodies_{group}'], stats['encoder'][f'bodies_{group}'], np.concatenate([wide, zeta], 1))
    logits.append(dense(up[f'heads_{group}'], hidden))
    zeta = np.concatenate([zeta, inverse(np.asarray(rho, float)[:, at : at + size], logits[-1])], 1)
    at += size
  assert_same(found.logits, np.concatenate(logits, 1))
  assert_same(found.bits.zeta, zeta)
  np.testing.assert_array_equal(found.bits.bits, zeta > 0)
  assert 0.2 < (zeta > 0).mean() < 0.9
  below = []
  for number in range(layers):
    h = inputs(zeta, below, layers)
    q = layer(up['continuous'], stats['encoder']['continuous'], number, shared, np.concatenate([wide, h], 1))
    p = layer(down['continuous'], stats['decoder']['continuous'], number, shared, h)
    below.append(q[0] + np.exp(0.5 * q[1]) * np.asarray(noise.layers[number], float))
    for got, expected in zip(
      (found.rungs[number].z, *found.rungs[number].q, *found.rungs[number].p), (below[-1], *q, *p), strict=True
    ):
      assert_same(got, expected)
  hidden = mlp(down['body'], stats['decoder']['body'], inputs(zeta, below, layers))
  assert_same(pixels, dense(down['output'], hidden))
  assert ('dense_1_0' in up.get('continuous', {})) == (layers > 0 and not shared)


def test_samples_are_of_the_priors_and_means_are_of_the_means():
  smooth = smoothing.spike_exponential(BETA)
  module = DiscreteVAE((2, 2, 1), 1, BITS, GROUPS, smooth, (4,), (), (3,), 2, LATENTS)
  x, rho = wave(3, 2, 2, 1), 0.5 + 0.45 * wave(3, BITS)
  noise = Noise(rho, rho, [wave(3, LATENTS, start=i) for i in range(2)])
  variables, (means, _) = given(module, x, noise, means=True)
  q = sigmoid(means.logits)
  assert_same(means.bits.zeta, q * (1 / (1 - np.exp(-BETA)) - 1 / BETA))
  zeta = jnp.asarray(means.bits.zeta, 'f4')
  pixels = np.asarray(module.apply(variables, zeta, noise.layers, method='generate')[0], float)
  down, stats, below = variables['params']['decoder'], variables['batch_stats']['decoder']['continuous'], []
  for number in range(2):
    p = layer(down['continuous'], stats, number, True, inputs(means.bits.zeta, below, 2))
    below.append(p[0] + np.exp(0.5 * p[1]) * np.asarray(noise.layers[number], float))
  assert_same(pixels, dense(down['output'], inputs(means.bits.zeta, below, 2)))
