"""Losses and bounds of diffusion models, in NumPy, of what the network gives."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from playing import bernoulli, flat, normal, played, settings_of
from scipy import stats

from dgm_jax import losses, models
from dgm_jax.internal.noise import standard_normal


def assert_same(value, formula):
  np.testing.assert_allclose(value, formula, rtol=2e-4, atol=1e-4)


class Model:
  """The formulas of one experiment; `rows` of an array are one number for each example."""

  def __init__(self, play, clip):
    self.model, self.state, self.clip = play.settings.model, play.state, clip
    self.steps, self.levels = self.model.steps, play.settings.data.levels
    self.schedule = losses.diffusion_schedule(self.steps, name=self.model.schedule)
    settings = self.model.to_dict()['denoiser']
    count = 1 + (self.model.get('variance') == 'learned' and self.model.likelihood != 'bernoulli')
    network = models.DENOISERS[settings.pop('network')](outputs=count, steps=self.steps, **settings)
    self.apply = jax.jit(lambda x, t, rngs: network.apply({'params': self.state.params['model']}, x, t, rngs=rngs))
    units = self.state.extra.get('model_units', {'mean': 0.0, 'scale': 1.0})
    self.mean, self.scale = (np.float64(units[name]) for name in ('mean', 'scale'))
    self.y = (np.asarray(play.batch['x'], np.float64) - self.mean) / self.scale

  def rows(self, table, t):
    return np.asarray(table)[t].reshape(-1, 1, 1, 1)

  def diffused(self, key, t):
    """x_t, and its noise if the kernels are normal."""
    left = self.rows(self.schedule.alpha_bar, t)
    if self.model.likelihood == 'bernoulli':
      return np.float64(jax.random.bernoulli(key, jnp.float32(0.5 + left * (self.y - 0.5)))), None
    noise = np.float64(standard_normal(key, (len(self.y), self.y[0].size))).reshape(self.y.shape)
    return np.sqrt(left) * self.y + np.sqrt(1 - left) * noise, noise

  def outputs(self, x, t, rngs=None):
    return np.moveaxis(np.float64(self.apply(jnp.float32(x), jnp.asarray(t), rngs)), -1, 0)

  def noise(self, output, x, t):
    """Ho et al. 2020, section 3.2; Salimans & Ho 2022, appendix D."""
    left = self.rows(self.schedule.alpha_bar, t)
    alpha = 1 - self.rows(self.schedule.beta, t)
    if self.model.predicts == 'mean':  # of p(x_{t-1}|x_t) less sqrt(alpha) x, in units of sqrt(beta)
      mean = np.sqrt(alpha) * x + np.sqrt(1 - alpha) * output
      return (x - np.sqrt(alpha) * mean) * np.sqrt(1 - left) / (1 - alpha)
    output = np.sqrt(left) * output + np.sqrt(1 - left) * x if self.model.predicts == 'velocity' else output
    if self.clip:
      x_0 = np.clip((x - np.sqrt(1 - left) * output) / np.sqrt(left), -1, 1)
      output = (x - np.sqrt(left) * x_0) / np.sqrt(1 - left)
    return output

  def step(self, outputs, x, t):
    """Mean and variance of p(x_{t-1}|x_t): Ho et al. 2020, equation 11."""
    left, beta = self.rows(self.schedule.alpha_bar, t), self.rows(self.schedule.beta, t)
    mean = (x - beta / np.sqrt(1 - left) * self.noise(outputs[0], x, t)) / np.sqrt(1 - beta)
    if self.model.variance == 'learned':
      return mean, beta / (beta + (1 - beta) * np.exp(-outputs[1]))
    return mean, np.broadcast_to(beta, x.shape)

  def term(self, outputs, x, t):
    """KL(q(x_{t-1}|x_t, x_0) || p), or -log p(x_0|x_1) at t = 1."""
    before, beta = self.rows(self.schedule.alpha_bar, np.asarray(t) - 1), self.rows(self.schedule.beta, t)
    left = self.rows(self.schedule.alpha_bar, t)
    if self.model.likelihood == 'bernoulli':
      return self.bits(outputs[0], x, t, before, beta)
    mean, variance = self.step(outputs, x, t)
    about = (np.sqrt(before) * beta * self.y + np.sqrt(1 - beta) * (1 - before) * x) / (1 - left)
    own = np.where(before < 1, beta * (1 - before) / (1 - left), 1.0)
    kl = 0.5 * (np.log(variance / own) + (own + (about - mean) ** 2) / variance - 1)
    first = -normal(self.y, mean, np.log(variance))
    if self.model.likelihood == 'discretized_normal':
      half, deviation = 1 / (self.levels - 1), np.sqrt(variance)
      high = np.where(self.y > 1 - half, np.inf, (self.y + half - mean) / deviation)
      low = np.where(self.y < half - 1, -np.inf, (self.y - half - mean) / deviation)
      first = -np.log(stats.norm.cdf(high) - stats.norm.cdf(low) + 1e-300)
    return flat(np.where(before < 1, kl, first)).sum(1)

  def bits(self, logits, x, t, before, beta):
    """Austin et al. 2021, equation 4, for two states: by Bayes' rule for x_{t-1} = 1."""
    ones = 1 / (1 + np.exp(-logits))
    seen = lambda bit: np.where(x == bit, 1 - beta / 2, beta / 2)
    prior = lambda bit, x_0: 0.5 + before * ((bit == x_0) - 0.5)
    one = lambda x_0: seen(1) * prior(1, x_0) / (seen(1) * prior(1, x_0) + seen(0) * prior(0, x_0))
    q, p = one(self.y), ones * one(np.ones(1)) + (1 - ones) * one(np.zeros(1))
    kl = q * np.log(np.maximum(q, 1e-300) / p) + (1 - q) * np.log(np.maximum(1 - q, 1e-300) / (1 - p))
    return flat(np.where(before < 1, kl, -bernoulli(self.y, logits))).sum(1)

  def prior(self):
    left = self.schedule.alpha_bar[-1]
    if self.model.likelihood == 'bernoulli':
      ones = 0.5 + left * (self.y - 0.5)
      return flat(ones * np.log(2 * ones) + (1 - ones) * np.log(2 - 2 * ones)).sum(1)
    return flat(0.5 * (left * self.y**2 - left - np.log(1 - left))).sum(1)


NAMES = (
  'deep_diffusion_toy:tiny',
  'deep_diffusion_toy:tiny_bits',
  'deep_diffusion_cifar10:tiny',
  'ddpm_cifar10:tiny_bound',
)


def started(name):
  settings = settings_of(name)
  if name == 'deep_diffusion_toy:tiny_bits':
    settings.data.preprocess = 'dynamic_binarize'
  metrics, play = played(settings)
  return metrics, play('model')


@pytest.mark.parametrize('name', NAMES)
def test_a_step_of_the_bound_for_each_example(name):
  """Sohl-Dickstein et al. 2015, equation 14: T times one of its terms, and the divergence of the prior."""
  metrics, play = started(name)
  model = Model(play, clip=False)
  for_times, for_noise, for_dropout = jax.random.split(play.key, 3)
  t = 1 + np.int64((np.asarray(jax.random.uniform(for_times)) + np.arange(4) / 4) % 1 * model.steps)
  assert sorted(t) == [1, 2, 3, 4]
  x, _ = model.diffused(for_noise, t)
  term = model.term(model.outputs(x, t, {'dropout': for_dropout}), x, t)
  if model.model.likelihood == 'normal':  # counted once for each step: what -log p(x_0|x_1) is near
    offset = 0.5 * math.log(2 * math.pi * math.e * model.schedule.beta[1]) * 16
    term = term - offset * (t == 1) + offset / model.steps
  assert_same(metrics['model/loss'], (model.steps * term + model.prior()).mean())


def test_the_squared_error_of_the_noise():
  """Ho et al. 2020, equation 14, summed over dimensions."""
  metrics, play = started('ddpm_cifar10:tiny')
  model = Model(play, clip=False)
  for_times, for_noise, for_dropout = jax.random.split(play.key, 3)
  t = 1 + np.int64((np.asarray(jax.random.uniform(for_times)) + np.arange(4) / 4) % 1 * model.steps)
  x, noise = model.diffused(for_noise, t)
  output = model.outputs(x, t, {'dropout': for_dropout})[0]
  assert_same(metrics['model/loss'], flat((output - noise) ** 2).sum(1).mean())


def test_the_squared_error_of_the_velocity():
  settings = settings_of('ddpm_cifar10:tiny', predicts='velocity', schedule='cosine')
  metrics, play = played(settings)
  play = play('model')
  model = Model(play, clip=False)
  for_times, for_noise, for_dropout = jax.random.split(play.key, 3)
  t = 1 + np.int64((np.asarray(jax.random.uniform(for_times)) + np.arange(4) / 4) % 1 * model.steps)
  x, noise = model.diffused(for_noise, t)
  left = model.rows(model.schedule.alpha_bar, t)
  error = model.outputs(x, t, {'dropout': for_dropout})[0] - np.sqrt(left) * noise + np.sqrt(1 - left) * model.y
  assert_same(metrics['model/loss'], flat(error**2).sum(1).mean())


@pytest.mark.parametrize('name', NAMES)
def test_evaluation_is_the_first_step_and_some_others(name):
  _, play = started(name)
  play = play._replace(state=play.state.replace(extra={k: v for k, v in play.state.extra.items() if k != 'ema'}))
  model = Model(play, clip='ddpm' in name)
  for_times, for_noise = jax.random.split(play.key)
  for_first, for_others = jax.random.split(for_noise)
  ones = np.ones(4, int)
  x, _ = model.diffused(for_first, ones)
  first = model.term(model.outputs(x, ones), x, ones) + 16 * math.log(model.scale)
  u, others = np.asarray(jax.random.uniform(for_times, (4,))), np.zeros(4)
  for i, key in enumerate(jax.random.split(for_others, 2)):
    t = 2 + np.int64((u + i) / 2 * (model.steps - 1))
    x, _ = model.diffused(key, t)
    others += (model.steps - 1) / 2 * model.term(model.outputs(x, t), x, t)
  measured = play.measured()
  assert_same(measured['first_step_nats'], first)
  assert_same(measured['prior_nats'], model.prior())
  assert_same(measured['neg_elbo_nats'], first + others + model.prior())
  grey = 8 if model.model.likelihood == 'normal' else 0  # bits of a level of the density of [0, 1]
  assert_same(measured['bits_per_dim'], measured['neg_elbo_nats'] / 16 / np.log(2) + grey)
