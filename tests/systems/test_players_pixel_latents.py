"""The losses of VLAE and PixelVAE are the papers' formulas of what their networks give, in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from playing import bernoulli, divergence, doubles, flat, normal, once, played, settings_of

from dgm_jax.internal.noise import standard_normal
from dgm_jax.systems import pixel_latents
from dgm_jax.systems.parts import decoders, two_levels


def assert_same(value, formula):
  np.testing.assert_allclose(value, formula, rtol=3e-5, atol=1e-5)


def smaller(state):
  return state.replace(params=jax.tree.map(lambda leaf: 0.5 * leaf, state.params))


def encoded(settings, play, latents):
  """Mean and log-variance [B, Z], and the sample that the key gives."""
  posterior = pixel_latents.image_posterior(settings, latents)
  mean, logvar = doubles(once(lambda: posterior.normal(play.key, play.state, play.batch['x'])))
  z = mean + np.exp(0.5 * logvar) * np.asarray(standard_normal(play.key, mean.shape))
  return mean, logvar, z


def bits_given(settings, play, z):
  """log p(x|z) of binary images, [B] nats."""
  parts, params = decoders.pixel_network(settings), play.state.params['decoder']
  inputs = jnp.asarray(2 * play.x - 1)
  condition = decoders.condition_of(parts, params, jnp.asarray(z, jnp.float32))
  logits = once(lambda: parts.network.apply({'params': params['pixels']}, inputs, condition))
  return bernoulli(flat(play.x), flat(logits)).sum(1)


@pytest.mark.parametrize('name', ['pixelvae_mnist:tiny', 'pixelvae_mnist:tiny_upsample'])
def test_pixel_vae(name):
  """Gulrajani et al. 2017, equation 1, the divergence weighted by step / warm-up."""
  settings = settings_of(name)
  metrics, play = played(settings, 4, step=3, change=smaller)
  play = play('model')
  mean, logvar, z = encoded(settings, play, 4)
  reconstruction, kl = bits_given(settings, play, z), divergence(mean, logvar).sum(1)
  assert_same(metrics['model/loss'], -(reconstruction - 3 / 20 * kl).mean())
  measured = play.measured()
  assert_same(measured['neg_elbo_nats'], kl - reconstruction)
  assert_same(measured['bits_per_dim'], (kl - reconstruction) / (16 * np.log(2)))


@pytest.mark.parametrize('floor', [0.0, 50.0])
def test_vlae(floor):
  """Chen et al. 2017, equation 12, with max(floor, mean divergence) in place of the divergence."""
  settings = settings_of('vlae_mnist:tiny', free_bits=floor, average=0.0)
  metrics, play = played(settings, 4)
  play = play('model')
  mean, logvar, z = encoded(settings, play, 4)
  noise, params = z, doubles(play.state.params['prior'])
  (weights,) = [tree for tree in _trees(params) if 'kernel_0' in tree]
  for layer in range(2):  # mean-only, the order reversed after each
    noise = (noise + _made({name: leaf[layer] for name, leaf in weights.items()}, noise))[:, ::-1]
  log_p = normal(noise, 0.0, 0.0).sum(1)
  kl = normal(z, mean, logvar).sum(1) - log_p
  reconstruction = bits_given(settings, play, z)
  assert abs(kl.mean() - floor) > 1
  assert_same(metrics['model/loss'], -(reconstruction.mean() - max(floor, kl.mean())))
  assert_same(play.measured()['kl_nats'], kl)


def _trees(tree):
  """All dictionaries in a tree."""
  if isinstance(tree, dict):
    yield tree
    for child in tree.values():
      yield from _trees(child)


def _made(params, x):
  """A masked network of one hidden layer of degrees 1 to D - 1 in turn."""
  dims, width = params['kernel_0'].shape
  degrees = np.arange(width) % (dims - 1) + 1
  first = np.arange(1, dims + 1)[:, None] <= degrees[None]
  last = degrees[:, None] < np.arange(1, dims + 1)[None]
  h = np.maximum(x @ (params['kernel_0'] * first) + params['bias_0'], 0)
  return h @ (params['kernel_1'] * last) + params['bias_1']


def test_pixel_vae_of_two_levels():
  """Gulrajani et al. 2017, equation 2: the divergence of the map is from its prior given the vector."""
  settings = settings_of('pixelvae_cifar10:tiny', likelihood='categorical', levels=4)
  metrics, play = played(settings, 4, change=lambda state: smaller(smaller(state)))
  play = play('model')
  draw = two_levels.two_levels(settings).draw
  terms = doubles(once(lambda: draw(play.key, play.state, play.batch['x'])._replace(weigh=None, extra={})))
  (low, (mean, logvar), _), (high, top, _) = terms.latents
  between = two_levels.map_prior(settings)
  condition = decoders.condition_of(between, play.state.params['prior'], jnp.asarray(high, jnp.float32))
  apply = lambda: between.network.apply(
    {'params': play.state.params['prior']['pixels']},
    jnp.asarray(low, jnp.float32).reshape(-1, *between.shape),
    condition,
  )
  prior = [np.asarray(part, np.float64).reshape(low.shape) for part in np.split(np.asarray(once(apply)), 2, -1)]
  kl = (normal(low, mean, logvar) - normal(low, *prior)).sum(1) + divergence(*top).sum(1)
  assert_same(metrics['model/loss'], -(terms.log_px_z - 3 / 20 * kl).mean())
  assert_same(play.measured()['neg_elbo_nats'], kl - terms.log_px_z)
