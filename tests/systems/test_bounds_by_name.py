"""Bounds that the experiment names: their values, their gradients, and what they keep in the state."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from playing import begun, doubles, normal, once, played, settings_of

from dgm_jax import core, losses, systems
from dgm_jax import distributions as dist
from dgm_jax.errors import UserError
from dgm_jax.systems.parts import bounds, posteriors, priors, transformed
from dgm_jax.systems.parts.latents import Latent

KEY = jax.random.key(3)
MEAN, LOGVAR = jnp.asarray([[0.3, -1.0], [1.2, 0.4]]), jnp.asarray([[0.5, -0.7], [-1.1, 0.2]])
X = jnp.asarray([[1.0, 0, 1], [0.0, 0, 1]])


def settings_with(**model):
  settings = settings_of('nf_vae_mnist:tiny', posterior='diagonal', activation='tanh')
  for name, value in model.items():
    settings.model[name] = value
  return settings


def terms_of(kls):
  shape = kls[0].shape[:-1]
  zero = jnp.zeros(shape)
  return bounds.Terms(zero, zero, zero, [jnp.asarray(kl, jnp.float32) for kl in kls], [])


@pytest.mark.parametrize(('floor', 'groups'), [(0.7, 0), (1.5, 2), (2.0, 1), ((0.3, 2.5), 2)])
def test_free_bits_of_groups_are_the_greater_of_the_floor_and_the_mean_of_the_batch(floor, groups):
  random = np.random.default_rng(0)
  kls = [random.gamma(0.5, size=(5, size)) for size in (6, 4)]
  floors = floor if isinstance(floor, tuple) else (floor, floor)
  spent = 0
  for kl, least in zip(kls, floors, strict=True):
    parts = kl.reshape(5, groups or kl.shape[1], -1).sum(-1).mean(0)
    spent += np.maximum(parts, least).sum()
  value = bounds.free_bits(floor, groups)(terms_of(kls), None)[0]
  np.testing.assert_allclose(-value.mean(), spent, rtol=1e-5)
  several = terms_of([np.stack([kl, kl], 1) for kl in kls])
  np.testing.assert_allclose(-bounds.free_bits(floor, groups)(several, None)[0].mean(), spent, rtol=1e-5)


def test_free_bits_of_a_joint_divergence_are_those_of_one_group():
  kl = np.asarray([[3.0], [6.0]])
  assert -bounds.free_bits(7.84, 4)(terms_of([kl]), None)[0].mean() == pytest.approx(7.84)
  assert -bounds.free_bits(4.0, 4)(terms_of([kl]), None)[0].mean() == pytest.approx(4.5)


def test_free_bits_by_name():
  metrics, play = played(settings_with(bound='free_bits', free_bits=0.3, groups=2))
  play = play('model')
  system = systems.build(play.settings)
  mean, logvar = doubles(once(lambda: system.views.posterior(play.key, play.state, play.batch['x'])))
  kl = 0.5 * (np.exp(logvar) + mean**2 - 1 - logvar)
  spent = np.maximum(kl.reshape(4, 2, 2).sum(-1).mean(0), 0.3).sum()
  np.testing.assert_allclose(metrics['model/loss'], play.measured()['reconstruction_nats'].mean() + spent, rtol=1e-5)
  with pytest.raises(UserError, match=r'config.model.groups=3 does not divide the 4 latents of a level'):
    played(settings_with(bound='free_bits', free_bits=0.3, groups=3))


def test_soft_free_bits_weigh_the_divergence_and_keep_the_weight():
  settings = settings_with(bound='soft_free_bits', free_bits=1e-3)
  start = systems.build(settings).init(KEY, begun(settings)[2]).extra['gamma']
  assert (start, start.dtype) == (1.0, jnp.float32)
  weighed = lambda state: state.replace(extra={'gamma': jnp.float32(0.5)})
  metrics, play = played(settings, change=weighed)
  measured = play('model').measured()
  loss = measured['reconstruction_nats'].mean() + 0.5 * measured['kl_nats'].mean()
  np.testing.assert_allclose(metrics['model/loss'], loss, rtol=1e-5)
  assert play('model').after.extra['gamma'] == pytest.approx(0.55)
  assert metrics['model/gamma'] == 0.5
  settings.model.free_bits = 1000.0
  assert played(settings, change=weighed)[1]('model').after.extra['gamma'] == pytest.approx(0.45)


@pytest.mark.parametrize('name', ['sticking_the_landing', 'doubly_reparametrized', 'iwae'])
def test_gradients_of_bounds_by_name(name):
  """The encoder's gradient is that of its samples' path alone, weighed once or twice; the decoder's is plain."""
  settings = settings_with(bound=name, samples=3)
  system, state, batch = begun(settings)
  posterior = transformed.by_name(settings)
  model = bounds.compose(posterior, priors.standard(settings.model.latents[0]), transformed.decoder(settings))

  def loss(own):
    bound, _ = bounds.by_name(settings, model)
    terms = model.draw(KEY, state.replace(params=state.params | own), batch['x'], 3, True)
    return bound(terms, state)[0].sum()

  def path(own):
    """The importance weights with the parameters of log q constant."""
    now = state.replace(params=state.params | own)
    mean, logvar = system.views.posterior(KEY, now, batch['x'])
    z = model.draw(KEY, now, batch['x'], 3).latents[0].z
    held = [jax.lax.stop_gradient(a)[:, None] for a in (mean, logvar)]
    log_p = dist.standard_normal_log_prob(z)
    log_px_z = model.draw(KEY, now, batch['x'], 3).log_px_z
    return log_px_z + log_p - dist.normal_log_prob(z, *held)

  own = {name: state.params[name] for name in ('encoder', 'decoder')}
  found = jax.jit(jax.grad(loss))(own)
  log_weights = jax.jit(path)(own)
  share = jax.nn.softmax(log_weights, 1)
  factor = {'sticking_the_landing': jnp.full_like(share, 1 / 3), 'doubly_reparametrized': share**2, 'iwae': share}[name]
  if name == 'iwae':
    weights = lambda own: model.draw(KEY, state.replace(params=state.params | own), batch['x'], 3).log_weights
  else:
    weights = path
  expected = jax.jit(jax.grad(lambda own: (factor * weights(own)).sum()))(own)
  same = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)
  jax.tree.map(same, found['encoder'], expected['encoder'])
  plain = jnp.full_like(share, 1 / 3) if name == 'sticking_the_landing' else share
  decoders = jax.jit(jax.grad(lambda own: (plain * path(own)).sum()))(own)['decoder']
  jax.tree.map(same, found['decoder'], decoders)
  bound = losses.importance_weighted_bound(log_weights, axis=1)
  value = log_weights.mean(1) if name == 'sticking_the_landing' else bound
  np.testing.assert_allclose(loss(own), value.sum(), rtol=1e-5)


def decoder(**more):
  logits = lambda z: jnp.stack([z[..., 0], z[..., -1], z.sum(-1)], -1)
  log_prob = lambda key, state, x, z: dist.bernoulli_log_prob(x if z.ndim == 2 else x[:, None], logits(z))
  return bounds.Decoder(
    init=lambda key, x: {}, log_prob=log_prob, mean=None, sample=None, bits=None, **more
  )  # fmt: skip


def test_levels_drawn_from_the_top_have_their_divergences_in_closed_form():
  """q(z_1|x) and q(z_0|x, z_1), p(z_0|z_1) = N(z_1 / 2, 1): the divergence of level 0 is that at the sample of z_1."""
  top, low = jnp.asarray([[0.3, -0.2], [1.0, 0.4]]), jnp.asarray([[0.1, 0.2], [0.3, -0.4]])
  below = lambda key, state, z: (0.5 * z, jnp.zeros_like(z))
  draw = lambda key, state, x, k: [Latent(low, (MEAN, LOGVAR)), Latent(top, (LOGVAR, MEAN))]
  plain = posteriors.chain(lambda key, x: {}, lambda key, state, x: (MEAN, LOGVAR), (2,))._replace(draw=draw)
  of = lambda top_down: bounds.compose(
    plain._replace(top_down=top_down), priors.standard(2), decoder(below=(below,))
  ).draw(KEY, None, X)
  closed, sampled = of(True), of(False)
  mean, logvar, middle = (np.asarray(a, np.float64) for a in (MEAN, LOGVAR, 0.5 * top))
  expected = 0.5 * (np.exp(logvar) + (mean - middle) ** 2 - 1 - logvar)
  np.testing.assert_allclose(closed.kls[0], expected, rtol=1e-5)
  at_sample = normal(np.asarray(low), mean, logvar) - normal(np.asarray(low), middle, 0)
  np.testing.assert_allclose(sampled.kls[0], at_sample, rtol=1e-4, atol=1e-6)
  np.testing.assert_array_equal(closed.log_weights, sampled.log_weights)  # weights are of the samples in any case


def test_training_and_measuring_are_told_apart_and_parts_keep_their_state():
  """Each part returns what it has updated in training alone, and starts it in `networks`."""
  first = lambda key, state, x: (MEAN, LOGVAR)
  posterior = posteriors.chain(lambda key, x: {}, first, (2,))
  train = lambda key, state, x, k: (posterior.draw(key, state, x, k), {'encoder_statistics': jnp.float32(2)})
  posterior = posterior._replace(train=train, extra=lambda key, x: {'encoder_statistics': jnp.float32(0)})
  log_prob = decoder().log_prob
  half = lambda key, state, x, z: (0.5 * log_prob(key, state, x, z), {'decoder_statistics': jnp.float32(3)})
  standard = priors.standard(2)
  prior = standard._replace(
    train=lambda key, state, z: (standard.view.log_prob(key, state, z), {'prior_statistics': jnp.float32(4)})
  )
  parts = posterior, prior, decoder(train=half, extra=lambda key, x: {'decoder_statistics': jnp.float32(1)})
  model = bounds.compose(*parts)
  assert model.networks(KEY, {'x': X})[1] == {'encoder_statistics': 0, 'decoder_statistics': 1}
  measured, trained = (model.draw(KEY, None, X, 2, training) for training in (False, True))
  assert measured.extra == {} and measured.weigh is None
  assert trained.extra == {'encoder_statistics': 2, 'decoder_statistics': 3, 'prior_statistics': 4}
  np.testing.assert_allclose(trained.log_px_z, 0.5 * measured.log_px_z)
  np.testing.assert_array_equal(trained.latents[0].z, measured.latents[0].z)


def test_averages_are_kept_of_all_networks_and_of_no_other_run():
  system, state, batch = begun(settings_with(average=0.5, bound='elbo'))
  assert set(state.extra['ema']) == {'encoder', 'decoder'}
  start = system.init(KEY, batch)
  after = jax.jit(system.step)(KEY, start, batch)[0]
  middle = jax.tree.map(lambda a, b: 0.5 * (a + b), *(doubles(at.params) for at in (start, after)))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), doubles(after.extra['ema']), middle)
  kl = lambda state: np.asarray(system.evaluate(KEY, state, batch)['kl_nats'])
  assert np.abs(kl(after) - kl(core.unaveraged(after))).max() > 0
  assert 'ema' not in begun(settings_with(bound='elbo'))[1].extra


@pytest.mark.parametrize('name', ['iwae', 'doubly_reparametrized'])
def test_a_bound_of_samples_needs_their_number(name):
  settings = settings_with(bound=name)
  del settings.model['samples']
  with pytest.raises(UserError, match=f'config.model.samples is missing, which config.model.bound={name} needs'):
    systems.build(settings)


def test_one_sample_without_an_axis_is_the_bound_of_one_sample():
  weights = jnp.asarray([-3.0, 2.0])
  one = bounds.Terms(weights, jnp.zeros(2), jnp.zeros(2), [], [])
  of_axis = bounds.Terms(weights[:, None], jnp.zeros((2, 1)), jnp.zeros((2, 1)), [], [])
  np.testing.assert_allclose(bounds.neg_bound(one)['neg_bound_nats'], -weights)
  np.testing.assert_allclose(bounds.neg_bound(of_axis)['neg_bound_nats'], -weights)


@pytest.mark.parametrize('name', ['pixelvae_cifar10:tiny', 'iwae_mnist:tiny'])
def test_a_joint_warm_up_of_two_levels_is_refused(name):
  settings = settings_of(name, bound='warm_up', warm_up=5, warm_up_of='joint')
  with pytest.raises(UserError, match=r"one level of latents, got .* set config.model.warm_up_of='divergence'"):
    systems.build(settings)
  settings.model.warm_up_of = 'divergence'
  systems.build(settings)
