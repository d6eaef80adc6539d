"""Ladders of latents in plain NumPy."""

import jax.numpy as jnp
import numpy as np
import pytest
from golden import assert_same, dense, given, leaky, wave

from dgm_jax.models import ladder
from dgm_jax.nn.blocks import MLP, NormalHead


def normed(p, stats, x):
  """Dense layers without biases, each followed by the batch's normalisation and a leaky rectifier."""
  for i in range(sum(name.startswith('Dense') for name in p)):
    norm, own = p[f'BatchNorm_{i}'], stats[f'BatchNorm_{i}']
    x = (dense(p[f'Dense_{i}'], x, bias=False) - own['mean']) / np.sqrt(own['variance'] + 1e-5)
    x = leaky(x * norm['scale'] + norm['bias'], 0.1)
  return x


def head(p, h):
  """Sonderby et al. 2016, equation 4."""
  mean, raw = np.split(dense(p['Dense_0'], h), 2, -1)
  return mean, np.log(np.logaddexp(0, raw) + 1e-6)


def test_dense_layers_with_batch_normalisation():
  x = wave(5, 4)
  variables, out = given(MLP((6, 3), 'leaky_relu', norm=True), x)
  assert_same(out, normed(variables['params'], variables['batch_stats'], np.asarray(x, np.float64)))


def test_a_head_with_the_variance_softplus():
  x = 3 * wave(4, 5)
  variables, (mean, logvar) = given(NormalHead(3, variance='softplus'), x)
  expected = head(variables['params'], np.asarray(x, np.float64))
  assert_same(mean, expected[0])
  assert_same(logvar, expected[1])


def sampled(normal, noise):
  return normal[0] + np.exp(0.5 * normal[1]) * noise


def product(q, p):
  """The product of two normal densities, of which the second may be everywhere the same."""
  own, other = np.exp(-q[1]), np.exp(-p[1])
  return (own * q[0] + other * p[0]) / (own + other), -np.log(own + other)


@pytest.mark.parametrize('order', ['factorised', 'bottom_up', 'top_down'])
@pytest.mark.parametrize('rows', [2, 6])
def test_a_ladder_of_three_levels(order, rows):
  """Two images, of which each is sampled once or three times."""
  hidden, latents = ((5, 4), (4,), (3,)), (3, 2, 2)
  module = ladder.Ladder(hidden, latents, (2, 2, 1), 1, order)
  x, noise = wave(2, 2, 2, 1), [wave(rows, size, start=i) for i, size in enumerate(latents)]
  variables, (rungs, (logits,)) = given(module, x, noise)
  (up, down), stats = (variables['params'][name] for name in ('encoder', 'decoder')), variables['batch_stats']
  eps, h = [np.asarray(e, np.float64) for e in noise], np.asarray(x, np.float64).reshape(2, -1)

  def body(level, p, name, h):
    return normed(p[f'bodies_{level}'], stats[name][f'bodies_{level}'], h)

  def prior(level, above):
    return head(down[f'heads_{level}'], body(level + 1, down, 'decoder', above))

  said = []
  for level in range(3):  # z of the level below in place of h, bottom up
    h = body(level, up, 'encoder', h)
    said.append(tuple(np.repeat(each, rows // len(each), 0) for each in head(up[f'heads_{level}'], h)))
    if order == 'bottom_up':
      h = sampled(said[-1], eps[level])
  standard = (np.zeros((rows, 2)), np.zeros((rows, 2)))
  z, qs, ps = [None] * 3, list(said), [None, None, standard]
  for level in (2, 1, 0):
    if level < 2:
      ps[level] = prior(level, z[level + 1])
      qs[level] = product(said[level], ps[level]) if order == 'top_down' else said[level]
    z[level] = sampled(qs[level], eps[level])
  for level, rung in enumerate(rungs):
    assert_same(rung.z, z[level])
    for found, expected in ((rung.q, qs[level]), (rung.p, ps[level])):
      for got, numbers in zip(found, expected, strict=True):
        assert_same(got, numbers)
  assert_same(logits, dense(down['output'], body(0, down, 'decoder', z[0])))


def test_samples_of_a_ladder_are_of_its_priors():
  hidden, latents = ((5,), (4,), (3,)), (3, 2, 2)
  module = ladder.Ladder(hidden, latents, (2, 2, 1), 1)
  noise = [wave(3, size, start=i) for i, size in enumerate(latents)]
  variables, (rungs, (logits,)) = given(module, wave(3, 2, 2, 1), noise)
  generate = lambda noise, top: module.apply(variables, noise, top, method='generate')[0]
  z = [jnp.asarray(rung.z, jnp.float32) for rung in rungs]
  assert_same(generate(noise, z[::-1]), logits)
  p, stats = variables['params']['decoder'], variables['batch_stats']['decoder']
  body = lambda level, h: normed(p[f'bodies_{level}'], stats[f'bodies_{level}'], h)
  eps = [np.asarray(e, np.float64) for e in noise]
  for top in ([], z[:1:-1]):
    h = np.asarray(top[0] if top else eps[2], np.float64)
    for level in (1, 0):
      h = sampled(head(p[f'heads_{level}'], body(level + 1, h)), eps[level])
    assert_same(generate(noise, top), dense(p['output'], body(0, h)))
