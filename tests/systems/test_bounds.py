"""Bounds of models put together from values, and the prior of pseudo-inputs against what it must be."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from playing import begun, divergence, doubles, flat, normal, settings_of
from scipy import stats

from dgm_jax import config as experiment
from dgm_jax import core, data, systems
from dgm_jax import distributions as dist
from dgm_jax.errors import UserError
from dgm_jax.evals import surgery
from dgm_jax.evals.mean import Subject
from dgm_jax.internal.noise import standard_normal
from dgm_jax.runtime import parallel
from dgm_jax.systems.parts import bounds, posteriors

KEY = jax.random.key(3)


def vamp(shape=(4, 4, 1), **model):
  """(system, state, batch) with images of pseudo-inputs in [0.1, 0.9], and weights that tell them apart."""
  system, state, batch = begun(settings_of('vamp_mnist:tiny', shape, **model))
  state = state.replace(params=jax.tree.map(lambda p: 1.5 * p, state.params))
  images = state.params['pseudo_inputs']['images']
  inside = 0.5 + 0.4 * jnp.sin(7.3 * jnp.arange(images.size, dtype='f4')).reshape(images.shape)
  return system, with_images(state, inside), batch


def with_images(state, images):
  return state.replace(params=state.params | {'pseudo_inputs': {'images': jnp.asarray(images)}})


def components(system, state):
  """Mean and log-variance [K, Z] of the posteriors of the pseudo-inputs."""
  found = jax.jit(system.views.posterior)(KEY, state, state.params['pseudo_inputs']['images'])
  return [np.asarray(a, np.float64) for a in found]


def test_the_density_is_the_mean_of_those_of_the_pseudo_inputs():
  system, state, _ = vamp()
  mean, logvar = components(system, state)
  z = np.random.default_rng(0).normal(size=(5, 3, 4)).astype('f4')
  each = normal(z[..., None, :], mean, logvar).sum(-1)
  expected = np.logaddexp.reduce(each, -1) - np.log(6)
  for shape in ((5, 3, 4), (15, 4)):
    found = jax.jit(system.views.prior.log_prob)(KEY, state, z.reshape(shape))
    np.testing.assert_allclose(found, expected.reshape(shape[:-1]), rtol=1e-5)


def test_the_density_integrates_to_one():
  system, state, _ = vamp(latents=(1,))
  mean, logvar = components(system, state)
  assert mean.std() > 0.1
  reach = 12 * np.exp(0.5 * logvar.max()) + np.abs(mean).max()
  grid = np.linspace(-reach, reach, 20_001)
  log_prob = jax.jit(system.views.prior.log_prob)(KEY, state, jnp.asarray(grid[:, None], jnp.float32))
  assert np.trapezoid(np.exp(np.asarray(log_prob, np.float64)), grid) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize('count', [1, 7, 500])
def test_of_an_image_that_is_every_pseudo_input_the_divergence_is_nothing(count):
  system, state, batch = vamp(pseudo_inputs=count, samples=3)
  evaluate = jax.jit(system.evaluate)
  x = jnp.repeat(batch['x'][:1], count, 0)
  state = with_images(state, x)
  np.testing.assert_array_equal(evaluate(KEY, state, {'x': x})['kl_nats'], np.zeros(count))
  # Alone, the encoder's products may be added up in another order.
  np.testing.assert_allclose(evaluate(KEY, state, {'x': x[:1]})['kl_nats'], [0], atol=2e-6)
  assert evaluate(KEY, state, {'x': 1 - x[:1]})['kl_nats'][0] > 0.01


def test_of_pseudo_inputs_that_are_the_data_the_marginal_divergence_is_nothing():
  config = settings_of('vamp_mnist:tiny', pseudo_inputs=100)
  config.data.preprocess = 'threshold'
  split = data.load(config.data, 'valid')
  config.data.update({'shape': (8, 8, 1), 'examples': 1000})
  system = systems.build(config)
  x = jnp.asarray(split.arrays['x'] > 127, jnp.float32)
  state = system.init(KEY, {'x': x})
  state = state.replace(params=jax.tree.map(lambda p: 1.5 * p, state.params))  # posteriors that are apart
  subject = lambda state: Subject(config, system, state, split, parallel.mesh(1))
  same, apart = (surgery.surgery(0, subject(s)) for s in (with_images(state, x), with_images(state, 0 * x)))
  # The two densities are one, and what is left of their difference is rounding of numbers of about ten.
  assert abs(same['marginal_kl_nats']) < 4 * same['marginal_kl_standard_error_nats'] + 1e-6
  assert apart['marginal_kl_nats'] > 10 * apart['marginal_kl_standard_error_nats'] > 0
  assert same['mutual_information_nats'] > 1


def test_gradients_reach_the_pseudo_inputs_inside_their_range():
  system, state, batch = vamp()
  images = np.array(state.params['pseudo_inputs']['images'])
  images[:, 0, 0], images[:, 1, 1] = -0.2, 1.3
  kl = lambda images: system.evaluate(KEY, with_images(state, images), batch)['kl_nats'].sum()
  slope = np.asarray(jax.jit(jax.grad(kl))(jnp.asarray(images)))[..., 0]
  outside = np.zeros((4, 4), bool)
  outside[0, 0] = outside[1, 1] = True
  assert (slope[:, outside] == 0).all()
  assert (slope[:, ~outside] != 0).all()


def test_draws_from_the_prior_have_its_moments():
  system, state, _ = vamp(latents=(1,))
  mean, logvar = components(system, state)
  z = np.asarray(jax.jit(system.views.prior.sample, static_argnums=2)(KEY, state, 40_000))[:, 0]
  variance = np.exp(logvar).mean() + mean.var()
  assert abs(z.mean() - mean.mean()) < 4 * np.sqrt(variance / len(z))
  assert z.var() == pytest.approx(variance, rel=0.05)


def test_a_joint_prior_gives_one_divergence_for_a_level():
  system, state, batch = vamp()
  assert system.views.kl_per_dim is None
  ((mean, kl),) = jax.jit(system.views.layers)(KEY, state, batch['x'])
  assert (mean.shape, kl.shape) == ((4, 4), (4, 1))


@pytest.mark.parametrize(
  ('settings', 'message'),
  [
    ({'pseudo_inputs': 0}, 'config.model.pseudo_inputs must be at least 1, got 0'),
    ({'warmup': 0}, 'config.model.warmup must be at least 1, got 0'),
    ({'samples': 0}, 'config.model.samples must be at least 1, got 0'),
    ({'latents': (4, 2), 'hidden': ((8,), (8,))}, 'config.model.latents must be of one layer'),
    ({'likelihood': 'discretized_logistic'}, 'config.model.likelihood=discretized_logistic has pixels in'),
  ],
)
def test_settings_that_do_not_fit_are_refused(settings, message):
  with pytest.raises(UserError, match=message):
    systems.build(settings_of('vamp_mnist:tiny', **settings))


# Models whose parts are values.

MEAN, LOGVAR = jnp.asarray([[0.3, -1.0], [1.2, 0.4]]), jnp.asarray([[0.5, -0.7], [-1.1, 0.2]])
X = jnp.asarray([[1.0, 0, 1], [0.0, 0, 1]])


def decoder(below=()):
  logits = lambda z: jnp.stack([z[..., 0], z[..., -1], z.sum(-1)], -1)
  return bounds.Decoder(
    init=lambda key, x: {},
    log_prob=lambda key, state, x, z: dist.bernoulli_log_prob(x if z.ndim == 2 else x[:, None], logits(z)),
    mean=lambda key, state, z: jax.nn.sigmoid(logits(z)),
    sample=lambda key, state, z: jnp.round(jax.nn.sigmoid(logits(z))),
    bits=lambda nats: nats / 3,
    below=below,
  )


def flow(key, state, x, k):
  """z = mean + sigma noise as a map of the noise, its density by the change of variables."""
  noise = standard_normal(key, (2, k, 2))
  log_q = dist.standard_normal_log_prob(noise) - 0.5 * LOGVAR.sum(-1)[:, None]
  return [bounds.Latent(MEAN[:, None] + jnp.exp(0.5 * LOGVAR)[:, None] * noise, None, log_q)]


def test_units_of_a_posterior_without_parameters_are_counted_by_its_means():
  codes = jnp.arange(4.0).reshape(2, 2)
  gaussian = posteriors.chain(lambda key, x: {}, lambda key, state, x: (MEAN, LOGVAR), (2,))

  def draw(key, state, x, k):
    (own,) = flow(key, state, x, 1)
    return [bounds.Latent(own.z[:, 0], None, own.log_q[:, 0])]

  mapped = gaussian._replace(draw=draw, means=lambda key, state, x: [codes], closed=False)
  model = bounds.compose(mapped, posteriors.standard(2), decoder())
  assert model.views['kl_per_dim'] is None
  system = bounds.close(experiment.defaults(), model, core.Move(lambda params: {}, None))
  ((means, _),) = system.views.layers(KEY, core.State(jnp.int32(0), {}, {}, {}), X)
  np.testing.assert_array_equal(means, codes)


def test_a_lower_level_may_have_a_density_of_its_own():
  below = lambda key, state, z: (0.5 * z, jnp.zeros_like(z))
  z = jnp.asarray([[0.3, -0.2], [1.0, 0.4]])
  log_q = jnp.asarray([-1.5, 2.0])
  plain = posteriors.chain(lambda key, x: {}, lambda key, state, x: (MEAN, LOGVAR), (2,))
  two = lambda key, state, x, k: [bounds.Latent(z, None, log_q), bounds.Latent(z, (MEAN, LOGVAR))]
  model = bounds.compose(plain._replace(draw=two), posteriors.standard(2), decoder()._replace(below=(below,)))
  terms = model.draw(KEY, None, X)
  log_p = -0.5 * ((np.asarray(z) * 0.5) ** 2).sum(1) - math.log(2 * math.pi)  # z - 0.5 z, of variance 1
  np.testing.assert_allclose(terms.kls[0][:, 0], log_q - log_p, rtol=1e-5)


def test_a_posterior_without_a_closed_form_has_the_weights_of_one_that_has():
  gaussian = posteriors.chain(lambda key, x: {}, lambda key, state, x: (MEAN, LOGVAR), (2,))
  mapped = gaussian._replace(draw=flow)
  model = lambda posterior: bounds.compose(posterior, posteriors.standard(2), decoder())
  plain, moved = (model(posterior).draw(KEY, None, X, 3) for posterior in (gaussian, mapped))
  np.testing.assert_allclose(moved.log_weights, plain.log_weights, rtol=1e-5)
  np.testing.assert_allclose(plain.kl, np.repeat(divergence(MEAN, LOGVAR).sum(-1)[:, None], 3, 1), rtol=1e-6)
  np.testing.assert_allclose(moved.kl, moved.log_px_z - moved.log_weights, rtol=1e-5)
  assert [kl.shape for kl in plain.kls] == [(2, 1, 2)] and [kl.shape for kl in moved.kls] == [(2, 3, 1)]


def terms(k):
  random = np.random.default_rng(1)
  axes = (5,) if k is None else (5, k)
  kls = [jnp.asarray(random.gamma(1.0, size=(*axes, size)), jnp.float32) for size in (3, 2)]
  log = [jnp.asarray(random.normal(size=axes), jnp.float32) for _ in range(3)]
  return bounds.Terms(*log, kls, [])


@pytest.mark.parametrize('k', [None, 1, 4])
def test_bounds_of_levels_and_samples(k):
  found = terms(k)
  state = type('At', (), {'step': jnp.int32(3)})
  fits, q, p, *kls = (np.asarray(a, np.float64).reshape(5, k or 1, -1) for a in (*found[:3], *found.kls))
  fits, ratio, kl = fits[..., 0], (q - p)[..., 0], sum(a.sum(-1) for a in kls)
  np.testing.assert_allclose(found.kl, kl.reshape(found.kl.shape), rtol=1e-6)
  value = lambda bound: np.asarray(bound(found, state)[0], np.float64)
  np.testing.assert_allclose(value(bounds.elbo), (fits - kl).mean(1), rtol=1e-5)
  settings = experiment.defaults()
  settings.model = {'warmup': 4}
  warm = bounds.beta(bounds.ramp(settings, 'warmup', 2.0))
  np.testing.assert_allclose(value(warm), (fits - 1.5 * kl).mean(1), rtol=1e-5)
  np.testing.assert_allclose(value(bounds.beta(3.0)), (fits - 3 * kl).mean(1), rtol=1e-5)
  spent = sum(np.maximum(a.mean((0, 1)), 0.9).sum() for a in kls)
  np.testing.assert_allclose(value(bounds.free_bits(0.9)).mean(), fits.mean() - spent, rtol=1e-5)
  held = fits.mean() - 7 * abs(kl.mean() - 2)
  np.testing.assert_allclose(value(bounds.capacity(lambda state: 2.0, 7.0)).mean(), held, rtol=1e-5)
  if k:
    expected = np.log(np.exp(fits - ratio).mean(1))
    np.testing.assert_allclose(value(bounds.iwae), expected, rtol=1e-5)
    np.testing.assert_allclose(bounds.neg_bound(found)['neg_bound_nats'], -expected, rtol=1e-5)


def test_a_bound_and_a_network_may_bring_entries_of_the_state_up_to_date():
  model = bounds.compose(
    posteriors.chain(lambda key, x: {}, lambda key, state, x: (MEAN, LOGVAR), (2,)), posteriors.standard(2), decoder()
  )
  noting = model._replace(draw=lambda *args: model.draw(*args)._replace(extra={'statistics': jnp.float32(2.0)}))
  settings = experiment.defaults()
  settings.steps = 1
  settings.optimizer = {'model': experiment.optimizer()}
  bound = lambda terms, state: (bounds.elbo(terms, state)[0], ({'weight': jnp.float32(5.0)}, {'at': jnp.float32(1.0)}))
  _, (extra, metrics) = bounds.player(settings, noting, bound).loss(KEY, None, {'x': X})
  assert extra == {'statistics': 2.0, 'weight': 5.0}
  assert metrics.keys() == {'at', 'kl_nats', 'neg_elbo_nats', 'reconstruction_nats'} and metrics['at'] == 1.0


def test_a_linear_gaussian_model_under_its_own_posterior_has_the_exact_likelihood():
  """With one latent p(x) is N(b, w w' + L L') and the posterior is normal, of variance 1 / (1 + w' (L L')^-1 w)."""
  system, state, batch = begun(settings_of('collapse:tiny', (2, 2, 1), latents=1))
  x, p = flat(batch['x']), doubles(state.params['decoder'])
  w, b, scale = p['mean']['kernel'][0], p['mean']['bias'], np.exp(p['log_std'])
  tril = scale[:, None] * (np.tril(p['below'], -1) + np.eye(4))
  solved = np.linalg.solve(tril @ tril.T, w)
  variance = 1 / (1 + w @ solved)
  dense = {'kernel': variance * solved[:, None], 'bias': np.array([-variance * solved @ b])}
  encoder = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), {'Dense_0': dense, 'logvar': np.log([variance])})
  state = state.replace(params=state.params | {'encoder': encoder})
  expected = stats.multivariate_normal(b, np.outer(w, w) + tril @ tril.T).logpdf(x)
  np.testing.assert_allclose(jax.jit(system.views.log_prob)(KEY, state, batch['x']), expected, rtol=1e-4)


def test_fair_bits():
  prior, logits = posteriors.fair_bits(3), jnp.asarray([[0.3, -2.0, 0.0]])
  p = 1 / (1 + np.exp(-np.asarray(logits, np.float64)))
  expected = p * np.log(2 * p) + (1 - p) * np.log(2 * (1 - p))
  np.testing.assert_allclose(prior.kl(KEY, None, logits), expected, rtol=1e-5, atol=1e-7)
  bits = np.asarray(prior.view.sample(KEY, None, 4000))
  assert set(np.unique(bits)) == {0, 1} and np.abs(bits.mean(0) - 0.5).max() < 4 * 0.5 / np.sqrt(4000)
  np.testing.assert_allclose(prior.view.log_prob(KEY, None, jnp.asarray(bits)), -3 * np.log(2), rtol=1e-6)


def test_the_prior_passes_its_gradient_to_the_encoder():
  """The loss differentiated, against the formula: the encoder is the posterior and, at the pseudo-inputs, the prior."""
  settings = settings_of('vamp_mnist:tiny')
  system, state, batch = begun(settings, step=10**6)
  moved = []
  original = core._descend_one

  def note(player, opt, key, state, batch):
    loss = lambda own: player.loss(key, state.replace(params=state.params | own), batch)[0]
    moved.append((jax.grad(loss)({name: state.params[name] for name in player.owns}), key))
    return original(player, opt, key, state, batch)

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(core, '_descend_one', note)
    system.step(KEY, state, batch)
  ((gradients, key),) = moved

  def formula(encoder):
    own = state.replace(params=state.params | {'encoder': encoder})
    x = batch['x'].reshape(len(batch['x']), -1)
    mean, logvar = system.views.posterior(KEY, own, batch['x'])
    noise = standard_normal(key, (*mean.shape[:1], 1, mean.shape[1]))
    z = mean[:, None] + jnp.exp(0.5 * logvar)[:, None] * noise
    images = jnp.clip(own.params['pseudo_inputs']['images'], 0, 1)
    prior_mean, prior_logvar = system.views.posterior(KEY, own, images)
    density = lambda at, mu, log: -0.5 * (jnp.square(at - mu) * jnp.exp(-log) + log + math.log(2 * math.pi)).sum(-1)
    log_p = jax.nn.logsumexp(density(z[..., None, :], prior_mean[None, None], prior_logvar[None, None]), -1) - math.log(
      len(images)
    )
    log_q = density(z, mean[:, None], logvar[:, None])
    pixels = jnp.clip(system.views.decode(KEY, own, z[:, 0]).reshape(x.shape), 1e-7, 1 - 1e-7)
    log_px = (x * jnp.log(pixels) + (1 - x) * jnp.log1p(-pixels)).sum(-1)
    return -(log_px[:, None] - (log_q - log_p)).mean()

  expected = jax.grad(formula)(state.params['encoder'])
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-3, atol=1e-4), gradients['encoder'], expected)


@pytest.mark.parametrize(
  ('name', 'system', 'change', 'message'),
  [
    ('vae_digits:tiny', 'vae.vamp', {}, 'config.model.pseudo_inputs is missing, which vae.vamp needs'),
    ('vae_digits:tiny', 'vae.vae', {'latents': (0,)}, r'config.model.latents must be at least 1, got \(0,\)'),
    ('vae_estimators:tiny', '', {'activation': 'foo'}, "config.model.activation must be one of .*, got 'foo'"),
    ('vae_estimators:tiny', '', {'latents': 0}, r'config.model.latents must be at least 1, got \(0,\)'),
    ('vae_estimators:tiny_discrete', '', {'latents': 0}, r'config.model.latents must be at least 1, got \(0,\)'),
  ],
)
def test_settings_that_do_not_fit_are_one_line(name, system, change, message):
  settings = settings_of(name, **change)
  settings.system = system or settings.system
  with pytest.raises(UserError, match=message):
    systems.build(settings)
