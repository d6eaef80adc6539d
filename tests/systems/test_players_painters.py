"""Losses of systems that paint in steps, in NumPy, of what the network gives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from playing import bernoulli, divergence, doubles, flat, log_mean_exp, normal, once, played, settings_of

from dgm_jax.internal.noise import standard_normal
from dgm_jax.models.conv_draw import ConvDrawCell
from dgm_jax.models.draw import DrawCell
from dgm_jax.models.painter import Painter


def assert_same(value, formula):
  np.testing.assert_allclose(value, formula, rtol=3e-5, atol=1e-5)


def sigmoid(canvas):
  return 1 / (1 + jnp.exp(-canvas))


def noise_of(play, size):
  """[T, n k, Z] as the player draws it, a key for each step."""
  model = play.settings.model
  keys = jax.random.split(play.key, model.steps)
  return jnp.stack([standard_normal(own, (4 * model.samples, size)) for own in keys])


@pytest.mark.parametrize('name', ['tiny', 'tiny_attention'])
def test_draw(name):
  """Gregor et al. 2015, equations 9 to 12: -log p(x|c_T) and, over steps and latents, (mu^2 + s^2 - ln s^2 - 1) / 2."""
  metrics, play = played(settings_of(f'draw_mnist:{name}', samples=2))
  model = play('model').settings.model
  cell = DrawCell((4, 4, 1), model.hidden, *model.latents, model.read, model.write, sigmoid)
  compare(metrics, play('model'), cell, lambda x, canvas: bernoulli(flat(x), flat(canvas)).sum(-1))


@pytest.mark.parametrize('likelihood', ['bernoulli', 'gaussian'])
def test_conv_draw(likelihood):
  """Gregor et al. 2016, section 2: the divergence of each step is from the prior that the step before computes."""
  metrics, play = played(settings_of('conv_draw_mnist:tiny', samples=2, likelihood=likelihood))
  model, spread = play('model').settings.model, play('model').state.params['model'].get('spread')
  mean = sigmoid if likelihood == 'bernoulli' else lambda canvas: canvas
  cell = ConvDrawCell((4, 4, 1), model.features, model.kernel, *model.latents, mean)
  of_bits = lambda x, canvas: bernoulli(flat(x), flat(canvas)).sum(-1)
  of_reals = lambda x, canvas: normal(flat(x), flat(canvas), np.float64(spread[0, 0])).sum(-1)
  compare(metrics, play('model'), cell, of_bits if likelihood == 'bernoulli' else of_reals)


def compare(metrics, play, cell, density):
  """Two samples; steps and latents of the network, the rest in NumPy."""
  model = play.settings.model
  more = {'num_parameters': 1 + ('spread' in play.state.params['model'])}
  painter, noise = Painter(cell, model.steps, (4, 4, 1), **more), noise_of(play, cell.size)
  x = jnp.repeat(play.batch['x'], 2, 0)
  params = {'params': play.state.params['model']}
  canvas, steps = doubles(once(lambda: painter.apply(params, x, noise, jnp.ones(model.steps, bool))))
  log_px_z = density(x, canvas).reshape(4, 2)
  (mean, logvar), (of_mean, of_logvar) = steps.posterior, steps.prior
  scaled = (mean - of_mean) * np.exp(-of_logvar / 2)
  kl = divergence(scaled, logvar - of_logvar).sum((0, 2)).reshape(4, 2)
  assert_same(metrics['model/loss'], (kl - log_px_z).mean())
  log_q = normal(steps.z, *steps.posterior).sum((0, 2)).reshape(4, 2)
  log_p = normal(steps.z, *steps.prior).sum((0, 2)).reshape(4, 2)
  measured = play.measured()
  assert_same(measured['neg_elbo_nats'], (kl - log_px_z).mean(1))
  grey = 8 if more['num_parameters'] > 1 else 0  # bits of a level of the density of [0, 1]
  assert_same(measured['bits_per_dim'], (kl - log_px_z).mean(1) / 16 / np.log(2) + grey)
  assert_same(measured['kl_nats'], kl.mean(1))
  assert_same(measured['reconstruction_nats'], -log_px_z.mean(1))
  assert_same(measured['neg_bound_nats'], -log_mean_exp(log_px_z - log_q + log_p, 1))
