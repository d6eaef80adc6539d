"""Diffusion as a whole: the null model, estimates of the bound, samplers against one another, settings refused."""

import math
import types

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from playing import KEY, batch_of, begun, settings_of

from dgm_jax import losses, systems
from dgm_jax.errors import UserError
from dgm_jax.systems import diffusion as family
from dgm_jax.systems.parts import diffusion

TOY, BITS, IMAGES = 'deep_diffusion_toy:tiny', 'deep_diffusion_toy:tiny_bits', 'ddpm_cifar10:tiny'
MORE = {'steps': 8, 'sampler': {'steps': 8, 'eta': 1.0}}


def standardised_to(deviation, n=512, shape=(4, 4, 1)):
  """Images whose values have the mean 0.5 and this deviation, exactly."""
  random = np.random.default_rng(0)
  x = random.normal(size=(n, *shape))
  return {'x': jnp.asarray(0.5 + deviation * (x - x.mean()) / x.std(), jnp.float32)}


@pytest.mark.parametrize('predicts', ['mean', 'velocity'])
def test_an_untrained_diffusion_is_the_null_model_of_cifar10(predicts):
  """One normal of all pixels: 8.0505 bits, for the deviation of the training set's 150 million values."""
  deviation = math.sqrt(64.1501**2 + 1 / 12) / 256
  settings = settings_of('deep_diffusion_cifar10:tiny', predicts=predicts, schedule='fraction', steps=100)
  settings.model.sampler.steps, settings.model.evaluated = 100, 99
  batch, system = standardised_to(deviation), systems.build(settings)
  state = jax.jit(system.init)(KEY, batch)
  np.testing.assert_allclose(state.extra['model_units']['scale'], deviation, rtol=1e-4)
  metrics = {name: np.asarray(value, np.float64) for name, value in jax.jit(system.evaluate)(KEY, state, batch).items()}
  bits = metrics['bits_per_dim']
  assert abs(bits.mean() - 8.0505) < 1e-4 + 4 * bits.std() / math.sqrt(len(bits))
  exact = 0.5 * (np.asarray(batch['x'], np.float64) - 0.5) ** 2 / deviation**2 + 0.5 * math.log(
    2 * math.pi * deviation**2
  )
  apart = metrics['neg_elbo_nats'] - exact.reshape(len(bits), -1).sum(1)
  assert abs(apart.mean()) < 4 * apart.std() / math.sqrt(len(bits)) and apart.std() < 5


def test_a_uniform_last_step_of_diffusion_is_eight_bits():
  """-log p(x_0|x_1) of a density of 1 on [0, 1), in units of its deviation, and no other divergence."""
  settings = settings_of('deep_diffusion_cifar10:tiny')
  system, state, _ = begun(settings)
  scale = float(state.extra['model_units']['scale'])
  uniform = 16 * math.log(1 / scale)  # log of the density of standardised data
  assert float(system.views.bits(KEY, state, -uniform + 16 * math.log(1 / scale))) == pytest.approx(8, abs=1e-6)


@pytest.mark.parametrize('name', [TOY, BITS, IMAGES])
def test_an_estimate_of_the_diffusion_bound_has_the_full_sum_as_its_mean(name):
  settings = settings_of(name, times='logarithmic' if name == TOY else 'uniform', **MORE)
  settings.model.evaluated, settings.nll.samples = 1, 100
  system, state, _ = begun(settings)
  x = batch_of(settings, 1)['x']
  x = jnp.repeat(x.round() if name == BITS else x, 1000 if name == IMAGES else 4000, 0)
  one = np.asarray(jax.jit(system.evaluate)(KEY, state, {'x': x})['neg_elbo_nats'], np.float64)
  full = -np.asarray(jax.jit(system.views.log_prob)(jax.random.key(1), state, x), np.float64)
  error = math.sqrt((one.var() + full.var()) / len(x))
  assert abs(one.mean() - full.mean()) < 4 * error
  settings.nll.samples = 3
  strided = -np.asarray(jax.jit(systems.build(settings).views.log_prob)(KEY, state, x), np.float64)
  assert abs(strided.mean() - full.mean()) < 4 * math.sqrt((strided.var() + full.var()) / len(x))
  assert full.std() < strided.std() < one.std()


def test_times_have_the_probabilities_that_they_say():
  for spread in diffusion.SPREADS:
    t, weight = diffusion.times(jnp.linspace(0, 1, 100_001)[:-1], spread, 2, 6)
    shares = np.bincount(np.asarray(t), minlength=7) / 100_000
    assert shares[:2].sum() == 0 and len(shares) == 7
    for step in range(2, 7):
      assert float(weight[t == step].max()) * shares[step] == pytest.approx(1, rel=1e-3)


def test_slices_of_a_batch_have_steps_of_their_own_that_are_averaged():
  """The steps are evenly spread over each slice: with `accumulate` the estimate has the same mean."""
  settings = settings_of(TOY)
  system, state, batch = begun(settings, 8)
  settings.accumulate = 2
  whole = jax.jit(systems.build(settings).step)(KEY, state, batch)[1]['model/loss']
  step = jax.jit(system.step)
  parts = [
    step(key, state, {name: value[i::2] for name, value in batch.items()})[1]['model/loss']
    for i, key in enumerate(jax.random.split(KEY))
  ]
  np.testing.assert_allclose(whole, np.mean(parts), rtol=1e-5)


# Samplers.


def normals(eta, stride, variance='posterior', predicts='noise'):
  own = diffusion.Reverse(losses.diffusion_schedule(8, name='cosine'), predicts, variance, clip=False)
  return own, diffusion.normal(own, stride, eta=eta)


def test_diffusion_by_ancestors_is_the_implicit_sampler_at_eta_one():
  """Of the x_0 that the network says, q(x_{t-1}|x_t, x_0) has the mean and the variance of Song et al.'s step."""
  own, kernels = normals(1.0, 1)
  x = jax.random.normal(KEY, (6, 2000))
  outputs = jax.random.normal(jax.random.key(1), (6, 1, 1)) * jnp.ones((6, 2000, 1))
  t = jnp.asarray([2, 3, 4, 6, 7, 8])
  left = np.float32(own.schedule.alpha_bar[np.asarray(t)])[:, None]
  x_0 = (x - np.sqrt(1 - left) * outputs[..., 0]) / np.sqrt(left)
  mean, variance = losses.diffusion_posterior(x_0, x, t, own.schedule)
  np.testing.assert_allclose(diffusion.transition(own, outputs, x, t)[0], mean, rtol=1e-3, atol=1e-4)
  cold = kernels.step(KEY, outputs, x, t, 0.0)
  np.testing.assert_allclose(cold, mean, rtol=1e-3, atol=1e-4)
  warm = np.asarray(kernels.step(KEY, outputs, x, t, 1.0) - cold)
  np.testing.assert_allclose(warm.var(1), variance, rtol=0.15)
  still = normals(0.0, 1)[1].step(KEY, outputs, x, t, 1.0)
  before = np.float32(own.schedule.alpha_bar[np.asarray(t) - 1])[:, None]
  expected = np.sqrt(before) * x_0 + np.sqrt(1 - before) * outputs[..., 0]  # Song et al. 2021, equation 12
  np.testing.assert_allclose(still, expected, rtol=1e-3, atol=1e-4)


def test_the_chain_of_all_steps_ends_at_a_sample_and_others_at_a_mean():
  own = diffusion.Reverse(losses.diffusion_schedule(8, name='cosine'), 'noise', 'forward', clip=False)
  x, k = jax.random.normal(KEY, (1, 5000)), jnp.asarray([1])
  for stride, levels, deviation in ((1, 0, math.sqrt(own.schedule.beta[1])), (2, 0, 0.0), (1, 256, 0.0)):
    kernels = diffusion.normal(own, stride, levels=levels)
    cold, warm = (kernels.step(KEY, jnp.zeros((1, 5000, 1)), x, k, temperature) for temperature in (0.0, 1.0))
    assert float((warm - cold).std()) == pytest.approx(deviation, rel=0.05)


def exact(own):
  """In place of a network: the noise that is expected in x_t of data N(0, 1/4)."""

  def apply(params, x, t, rngs):
    del params, rngs
    left = jnp.asarray(own.schedule.alpha_bar, jnp.float32)[t][:, None]
    return (jnp.sqrt(1 - left) * x / (left / 4 + 1 - left))[..., None]

  return apply


@pytest.mark.parametrize(('eta', 'stride', 'deviation'), [(1.0, 1, 0.5), (0.0, 1, 0.5), (0.5, 1, 0.5), (0.0, 4, 0.5)])
def test_diffusion_of_a_normal_ends_at_the_data(eta, stride, deviation):
  """By 256 steps of the exact noise; without noise it is a map of N(0, 1) to N(0, 1/4), the flow of probability."""
  own = diffusion.Reverse(losses.diffusion_schedule(256, name='cosine'), 'noise', 'posterior', clip=False)
  chain = diffusion.Chain(exact(own), diffusion.normal(own, stride, eta=eta), 256 // stride, stride)
  start = jax.random.normal(KEY, (2, 4000))
  end = np.asarray(jax.jit(lambda x: diffusion.reverse(KEY, chain, None, x, chain.steps, chain.steps))(start))
  assert end.std() == pytest.approx(deviation, rel=0.04)
  if eta == 0:
    np.testing.assert_allclose(end, deviation * start, rtol=0.03, atol=1e-3)


def test_steps_of_stride_one_are_all_steps_and_pieces_are_the_whole_chain_in_one_program():
  settings = settings_of(TOY, **MORE)
  system, state, _ = begun(settings)
  whole = np.asarray(jax.jit(system.sample, static_argnums=2)(KEY, state, 3))
  own = diffusion.Reverse(losses.diffusion_schedule(8, name='cosine'), 'velocity', 'learned', clip=False)
  network = diffusion_network(settings)
  kernels = diffusion.normal(own, 1)

  @chex.assert_max_traces(n=1)
  def apply(params, x, t, rngs):
    return network.apply({'params': params}, x, t, rngs=rngs)

  chain = diffusion.Chain(apply, kernels, 8, 1)
  run = jax.jit(lambda x, first, count: diffusion.reverse(for_steps, chain, state.params['model'], x, first, count))
  for_start, for_steps = jax.random.split(KEY)
  x = kernels.start(for_start, (3, 4, 4, 1), 1.0)
  for first, count in ((8, 3), (5, 1), (4, 4)):
    x = run(x, first, count)
  units = state.extra['model_units']
  np.testing.assert_allclose(units['mean'] + units['scale'] * x, whole, rtol=1e-4, atol=1e-4)


def diffusion_network(settings):
  from dgm_jax import models

  network = settings.model.to_dict()['denoiser']
  return models.DENOISERS[network.pop('network')](outputs=2, steps=settings.model.steps, **network)


def test_a_binomial_step_draws_the_bit_before():
  """Shares of ones against q(x_{t-1}|x_t, x_0) averaged over p(x_0|x_t), by Bayes' rule."""
  schedule = losses.diffusion_schedule(6, name='fraction')
  kernels, n = diffusion.binomial(schedule, 2), 20_000
  before, left = schedule.alpha_bar[2], schedule.alpha_bar[4]
  chance = left / before / 2 + 0.5  # that x_4 is x_2
  ones = 1 / (1 + math.exp(-0.4))  # of x_0, by the network
  prior = lambda bit, x_0: 0.5 + before * ((bit == x_0) - 0.5)

  def one(x, x_0):
    seen = lambda bit: chance if bit == x else 1 - chance
    return seen(1) * prior(1, x_0) / (seen(1) * prior(1, x_0) + seen(0) * prior(0, x_0))

  for x in (0, 1):
    expected = ones * one(x, 1) + (1 - ones) * one(x, 0)
    drawn = kernels.step(KEY, jnp.full((1, n, 1), 0.4), jnp.full((1, n), float(x)), jnp.asarray([2]), 1.0)
    assert set(np.unique(drawn)) <= {0, 1}
    assert float(drawn.mean()) == pytest.approx(expected, abs=4 * 0.5 / math.sqrt(n))


@pytest.mark.parametrize('name', [TOY, BITS, IMAGES])
def test_a_completed_image_keeps_what_is_known(name):
  settings = settings_of(name, **MORE)
  system, state, batch = begun(settings)
  x = batch['x'].round() if name == BITS else batch['x']
  mask = jnp.zeros((4, 4, 4), bool).at[:, :2].set(True)
  done = np.asarray(jax.jit(system.views.complete)(KEY, state, x, mask))
  np.testing.assert_array_equal(done[:, :2], x[:, :2])
  other = np.asarray(jax.jit(system.views.complete)(KEY, state, x, ~mask))
  np.testing.assert_array_equal(other[:, 2:], x[:, 2:])
  assert (done[:, 2:] != np.asarray(x[:, 2:])).any()


def test_known_pixels_are_noisy_on_the_way():
  """The network sees the known pixels of q(x_t|image), whose squares are alpha_bar_t x_0^2 + 1 - alpha_bar_t."""
  own = diffusion.Reverse(losses.diffusion_schedule(8, name='cosine'), 'noise', 'posterior', clip=False)
  seen = {}

  def apply(params, x, t, rngs):
    jax.debug.callback(lambda t, square: seen.update({int(t): float(square)}), t[0], jnp.square(x[:, :, 0]).mean())
    return jnp.zeros((*x.shape, 1))

  chain = diffusion.Chain(apply, diffusion.normal(own, 2), 4, 2)
  image, mask = jnp.full((1, 5000, 2, 1), 2.0), jnp.zeros((1, 5000, 2), bool).at[:, :, 0].set(True)
  jax.block_until_ready(diffusion.reverse(KEY, chain, None, jnp.zeros(image.shape), 4, 4, 1.0, (image, mask)))
  jax.effects_barrier()
  for t in (2, 4, 6, 8):
    left = own.schedule.alpha_bar[t]
    assert seen[t] == pytest.approx(4 * left + 1 - left, rel=0.1)


def test_chains_begin_with_the_data_and_end_with_a_sample():
  settings = settings_of(TOY, **MORE)
  system, state, batch = begun(settings)
  chains = np.asarray(jax.jit(system.views.chains)(KEY, state, batch['x']))
  assert chains.shape == (2, 5, 4, 4, 4, 1)
  np.testing.assert_allclose(chains[0, 0], batch['x'], rtol=1e-5, atol=1e-5)
  np.testing.assert_allclose(
    chains[1, 0], jax.jit(system.sample, static_argnums=2)(KEY, state, 4), rtol=1e-3, atol=1e-3
  )
  np.testing.assert_allclose(chains[0, 4], chains[1, 4], atol=0.1)  # the same noise, and of the data hardly anything


def test_denoising_begins_where_the_chain_is_as_noisy():
  """Of normal data by the exact network, mean and variance are those of Bayes' rule, whatever the noise."""
  own = diffusion.Reverse(losses.diffusion_schedule(256, name='cosine'), 'noise', 'posterior', clip=False)
  chain = diffusion.Chain(exact(own), diffusion.normal(own, 1), 256, 1)
  parts = types.SimpleNamespace(chain=chain)
  state = types.SimpleNamespace(extra={'model_units': {'mean': 3.0, 'scale': 2.0}}, params={'model': None})
  x = jnp.full((2, 4000), 5.0)
  denoise = jax.jit(lambda deviation: family._denoise(parts)(KEY, state, x, deviation))
  for deviation in (0.3, 1.0, 4.0):  # the data are N(3, 1)
    drawn = np.asarray(denoise(deviation), np.float64)
    share = 1 / (1 + deviation**2)
    assert drawn.mean() == pytest.approx(3 + 2 * share, abs=0.05)
    assert drawn.std() == pytest.approx(math.sqrt(1 - share), rel=0.06)


# Settings that are refused.


@pytest.mark.parametrize(
  ('name', 'change', 'message'),
  [
    (TOY, {'model.steps': 1, 'model.sampler.steps': 1}, 'config.model.steps must be at least 2, got 1'),
    (TOY, {'model.schedule': 'fraction', 'model.steps': 2}, 'leaves alpha_bar_T = 0.25 of the variance'),
    (TOY, {'model.schedule': 'linear', 'model.rates': (1e-4, 1e-3)}, 'more than 0.2: x_T would not be noise'),
    (TOY, {'model.rates': (0.1,)}, 'must be two numbers above 0'),
    (TOY, {'model.sampler.steps': 3}, 'config.model.sampler.steps=3 must divide config.model.steps=4'),
    (TOY, {'model.sampler.steps': 0}, 'config.model.sampler.steps=0 must divide'),
    (TOY, {'model.sampler.eta': 1.5}, 'config.model.sampler.eta'),
    (TOY, {'data.preprocess': 'scale'}, "must be one of dequantize, static_dequantize, got 'scale'"),
    (BITS, {'data.preprocess': 'dequantize'}, 'must be one of threshold, dynamic_binarize, static_binarize, got'),
    (BITS, {'model.sampler.eta': 0.0}, 'config.model.sampler.eta=0.0 must be 1 for bits'),
    (TOY, {'model.predicts': 'data'}, 'config.model.predicts must be one of mean, noise, velocity'),
    (TOY, {'model.variance': 'none'}, 'config.model.variance must be one of learned, forward, posterior'),
    (TOY, {'model.times': 'even'}, 'config.model.times must be one of uniform, logarithmic'),
    (TOY, {'model.evaluated': 0}, 'config.model.evaluated must be at least 1'),
    (TOY, {'model.average': 1.0}, r'config.model.average must be in \[0, 1\)'),
    (TOY, {'model.likelihood': 'gaussian'}, 'config.model.likelihood must be one of normal, bernoulli'),
    (TOY, {'model.denoiser.network': 'mlp'}, 'config.model.denoiser.network must be one of dense, radial'),
    (TOY, {'model.denoiser.spacing': 'even'}, 'config.model.denoiser.spacing must be one of linear, logarithmic'),
    (TOY, {'model.denoiser.activation': 'sin'}, 'config.model.denoiser.activation must be one of tanh'),
    (TOY, {'model.denoiser.bumps': 1}, 'config.model.denoiser.bumps must be at least 2, got 1'),
    (IMAGES, {'data.preprocess': 'dequantize'}, 'of diffusion.ddpm must be one of scale_symmetric, got'),
    (IMAGES, {'model.likelihood': 'normal'}, 'of diffusion.ddpm must be one of discretized_normal, got'),
    (IMAGES, {'model.weights': 'none'}, 'config.model.weights must be one of simple, bound'),
    (IMAGES, {'model.variance': 'learned'}, "config.model.weights='simple' trains a network that predicts noise or"),
    (IMAGES, {'model.predicts': 'mean'}, "take weights='bound'"),
  ],
)
def test_settings_of_diffusion_that_are_refused(name, change, message):
  settings = settings_of(name)
  with settings.unlocked():
    settings.update_from_flattened_dict(change)
  with pytest.raises(UserError, match=message):
    systems.build(settings)


def test_a_network_that_an_image_does_not_fit_is_refused_in_a_line():
  for name, change in (('ddpm_cifar10:tiny', (1, 1, 1, 1)), ('deep_diffusion_cifar10:tiny', 5)):
    settings = settings_of(name)
    settings.model.denoiser['multipliers' if 'ddpm' in name else 'scales'] = change
    system = systems.build(settings)
    with pytest.raises(UserError, match=r'config.model.denoiser: .* need sides that .* divides'):
      jax.eval_shape(system.init, KEY, batch_of(settings))
