"""What each objective adds to the bound; who moves whom; the density ratio against its closed form."""

import importlib.util
import pathlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dgm_jax import losses, systems
from dgm_jax.errors import UserError
from dgm_jax.models.disentangle import LatentDiscriminator
from dgm_jax.systems import disentangle

CONFIG = pathlib.Path(__file__).parents[2] / 'configs' / 'disentangle.py'
KEY = jax.random.key(0)
BATCH = {'x': jnp.asarray(np.random.default_rng(0).random((8, 4, 4, 1)), jnp.float32)}


def experiment(variant, **model):
  spec = importlib.util.spec_from_file_location('disentangle_config', CONFIG)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  config = module.get_config(variant)
  config.data.update({'shape': (4, 4, 1), 'examples': 1000})
  config.model.update(model)
  return config


def first(config):
  """A system, its first state made a little livelier, and the metrics of one step."""
  system = systems.build(config)
  state = system.init(KEY, BATCH)
  state = state.replace(params=state.params | jax.tree.map(lambda p: p + 0.1, {'encoder': state.params['encoder']}))
  return system, state, *jax.jit(system.step)(KEY, state, BATCH)


class Pass(NamedTuple):
  """Images through encoder and decoder."""

  log_px_z: jax.Array  # [B]
  kl: jax.Array  # [B, Z]
  z: jax.Array
  mean: jax.Array
  logvar: jax.Array


def passed(config, state, x=BATCH['x'], key=KEY):
  terms = disentangle._model(config).draw(key, state, x)
  return Pass(terms.log_px_z, *terms.kls, *disentangle._codes(terms))


@pytest.mark.parametrize('beta', [1.0, 4.0])
def test_beta_weighs_the_divergence(beta):
  config = experiment('tiny', beta=beta)
  _, state, _, metrics = first(config)
  seen = passed(config, state)
  expected = np.mean(-seen.log_px_z + beta * seen.kl.sum(1))
  np.testing.assert_allclose(metrics['model/loss'], expected, rtol=1e-6)
  np.testing.assert_allclose(metrics['model/kl_nats'], seen.kl.sum(1).mean(), rtol=1e-6)


def test_at_beta_1_it_is_a_variational_autoencoder():
  config = experiment('tiny', beta=1.0)
  state = first(config)[1]
  plain = config.copy_and_resolve_references()
  plain.system = 'vae.vae'
  plain.model = {
    'hidden': ((16,),), 'latents': (3,), 'channels': (), 'activation': 'relu', 'likelihood': 'bernoulli', 'samples': 1
  }  # fmt: skip
  config.model.decoder.activation = 'relu'
  alike, other = systems.build(config), systems.build(plain)
  (ours, a), (theirs, b) = (jax.jit(system.step)(KEY, state, BATCH) for system in (alike, other))
  np.testing.assert_allclose(a['model/loss'], b['model/loss'], rtol=1e-6)
  jax.tree.map(lambda p, q: np.testing.assert_allclose(p, q, atol=1e-6), ours.params, theirs.params)


@pytest.mark.parametrize(('step', 'capacity'), [(0, 0.0), (50, 1.0), (100, 2.0), (900, 2.0)])
def test_capacity_rises_and_then_stays(step, capacity):
  config = experiment('tiny_capacity')
  system, state, _, _ = first(config)
  _, metrics = jax.jit(system.step)(KEY, state.replace(step=jnp.asarray(step)), BATCH)
  assert metrics['model/capacity_nats'] == capacity
  seen = passed(config, state)
  expected = -seen.log_px_z.mean() + 10 * abs(seen.kl.sum(1).mean() - capacity)
  np.testing.assert_allclose(metrics['model/loss'], expected, rtol=1e-6)


def test_capacity_draws_the_mean_divergence_up_to_it_and_down_to_it():
  # With a decoder that sees nothing of z, only the divergence moves the encoder.
  for capacity, goes_up in ((50.0, True), (0.0, False)):
    config = experiment('tiny_capacity', capacity=capacity, capacity_steps=1, gamma=10.0)
    config.optimizer.model.learning_rate = 1e-3
    system, state, _, _ = first(config)
    blind = jax.tree.map(jnp.zeros_like, state.params['decoder'])
    state = state.replace(params=state.params | {'decoder': blind}, step=jnp.asarray(1))
    new, metrics = jax.jit(system.step)(KEY, state, BATCH)
    before, after = passed(config, state).kl.sum(1).mean(), passed(config, new).kl.sum(1).mean()
    np.testing.assert_allclose(metrics['model/kl_nats'], before, rtol=1e-6)
    assert (after > before) == goes_up


@pytest.mark.parametrize(
  ('settings', 'weights'),
  [
    ({}, losses.minibatch_weights),  # as Locatello et al. have it
    ({'divergence': 'sampled'}, losses.minibatch_weights),  # and Chen et al.
    ({'divergence': 'sampled', 'estimator': 'stratified'}, losses.stratified_weights),
  ],
)
def test_the_total_correlation_of_plain_weights_joins_the_closed_or_the_drawn_divergence(settings, weights):
  config = experiment('tiny_tc', beta=6.0, **settings)
  _, state, _, metrics = first(config)
  seen = passed(config, state)
  noise = (seen.z - seen.mean) * np.exp(-0.5 * seen.logvar)
  drawn = 0.5 * (seen.z**2 - noise**2 - seen.logvar).sum(1)  # log q(z|x) - log p(z)
  divergence = drawn if settings else seen.kl.sum(1)
  of = lambda weights: losses.minibatch_total_correlation(
    seen.z, seen.mean, seen.logvar, dataset_size=1000, log_weights=weights
  ).total_correlation.mean()
  expected = (divergence - seen.log_px_z).mean() + 5 * of(weights)
  np.testing.assert_allclose(metrics['model/loss'], expected, rtol=1e-5)
  np.testing.assert_allclose(metrics['model/total_correlation_nats'], of(losses.stratified_weights), rtol=1e-4)


@pytest.mark.parametrize('covariance', ['means', 'aggregate'])
def test_the_penalty_is_that_of_the_covariance_in_numpy(covariance):
  config = experiment('tiny_dip', off_diagonal=2.0, diagonal_ratio=5.0, covariance=covariance)
  _, state, _, metrics = first(config)
  seen = passed(config, state)
  matrix = np.cov(np.asarray(seen.mean, np.float64).T, bias=True)
  if covariance == 'aggregate':
    matrix += np.diag(np.exp(np.asarray(seen.logvar, np.float64)).mean(0))
  own = np.diag(matrix)
  penalty = 2 * ((matrix**2).sum() - (own**2).sum()) + 10 * ((own - 1) ** 2).sum()
  np.testing.assert_allclose(metrics['model/penalty'], penalty, rtol=1e-5)
  expected = penalty + (seen.kl.sum(1) - seen.log_px_z).mean()
  np.testing.assert_allclose(metrics['model/loss'], expected, rtol=1e-5)


def leaves_equal(a, b):
  return all(jax.tree.leaves(jax.tree.map(lambda p, q: bool((p == q).all()), a, b)))


def test_neither_player_of_factor_vae_moves_the_other():
  systems_ = {gamma: first(experiment('tiny_factor', gamma=gamma)) for gamma in (0.0, 35.0)}
  (_, state, free, metrics), (_, _, held, _) = systems_.values()
  assert not leaves_equal(free.params['encoder'], held.params['encoder'])
  # The discriminator's move knows nothing of gamma,
  assert leaves_equal(free.params['discriminator'], held.params['discriminator'])
  # and the autoencoder's, where gamma is 0, nothing of the discriminator: it is that of a VAE on half of the batch.
  config = experiment('tiny', beta=1.0)
  config.optimizer.model.name = 'adam'
  alone = systems.build(config)
  half = {'x': disentangle._halves(BATCH['x'])[0]}
  mine = {name: state.params[name] for name in ('encoder', 'decoder')}
  start = alone.init(KEY, BATCH).replace(params=mine)
  new, plain = jax.jit(alone.step)(KEY, start, half)
  np.testing.assert_allclose(metrics['model/loss'], plain['model/loss'], rtol=1e-6)
  for name in mine:
    jax.tree.map(lambda p, q: np.testing.assert_allclose(p, q, atol=1e-6), new.params[name], free.params[name])


def test_the_judge_sees_one_half_as_it_is_and_the_other_shuffled():
  config = experiment('tiny_factor')
  _, state, _, metrics = first(config)
  rows, others = disentangle._halves(BATCH['x'])
  np.testing.assert_array_equal(jnp.stack([rows, others], 1).reshape(BATCH['x'].shape), BATCH['x'])
  judge = LatentDiscriminator(tuple(config.model.discriminator))
  logit = lambda z: judge.apply({'params': state.params['discriminator']}, z)
  joint = logit(passed(config, state, rows).z)
  np.testing.assert_allclose(metrics['model/total_correlation_nats'], joint.mean(), rtol=1e-5)
  # Its loss at the start, with logits l and l': half of softplus(-l) + softplus(l').
  for_noise, for_shuffle = jax.random.split(jax.random.fold_in(KEY, 1))
  second = passed(config, state, others, for_noise).z
  apart = logit(losses.permute_latents(for_shuffle, second))
  expected = 0.5 * (np.logaddexp(0, -joint) + np.logaddexp(0, apart)).mean()
  np.testing.assert_allclose(metrics['discriminator/loss'], expected, rtol=1e-5)


def test_an_odd_batch_cannot_be_halved():
  system = systems.build(experiment('tiny_factor'))
  state = system.init(KEY, BATCH)
  with pytest.raises(UserError, match='must be even'):
    jax.eval_shape(system.step, KEY, state, {'x': BATCH['x'][:7]})


def test_weights_that_are_arguments_are_those_of_the_config():
  config = experiment('tiny')
  state = systems.build(config).init(KEY, BATCH)
  step = lambda beta: disentangle.beta_vae(config, beta).step(KEY, state, BATCH)[1]['model/loss']
  together = jax.jit(jax.vmap(step))(jnp.asarray([1.0, 4.0]))
  alone = [jax.jit(systems.build(experiment('tiny', beta=b)).step)(KEY, state, BATCH)[1] for b in (1.0, 4.0)]
  np.testing.assert_allclose(together, [metrics['model/loss'] for metrics in alone], rtol=1e-6)


@pytest.mark.parametrize(('name', 'value'), [('beta', -1.0), ('latents', 0)])
def test_settings_out_of_range_are_refused(name, value):
  with pytest.raises(UserError, match=name):
    systems.build(experiment('tiny', **{name: value}))


def test_the_density_ratio_finds_the_total_correlation_of_correlated_normals():
  # -ln(1 - r^2) / 2 = 0.5108 nats for two dimensions with r = 0.8.
  r, exact = 0.8, 0.510826
  network, tx = LatentDiscriminator((64, 64)), optax.adam(optax.cosine_decay_schedule(4e-3, 800))

  def latents(key, n):
    a, b = jax.random.normal(key, (2, n))
    return jnp.stack([a, r * a + (1 - r**2) ** 0.5 * b], 1)

  def loss(params, key):
    for_joint, for_other, for_shuffle = jax.random.split(key, 3)
    apart = losses.permute_latents(for_shuffle, latents(for_other, 512))
    logits = network.apply({'params': params}, jnp.concatenate([latents(for_joint, 512), apart]))
    return losses.total_correlation_discriminator(logits[:512], logits[512:]).mean()

  @jax.jit
  def train(key):
    params = network.init(key, jnp.zeros((1, 2)))['params']

    def one(carry, key):
      params, opt = carry
      updates, opt = tx.update(jax.grad(loss)(params, key), opt)
      return (optax.apply_updates(params, updates), opt), None

    (params, _), _ = jax.lax.scan(one, (params, tx.init(params)), jax.random.split(key, 800))
    return losses.total_correlation(network.apply({'params': params}, latents(jax.random.key(7), 50_000))).mean()

  assert abs(train(KEY) - exact) < 0.05 * exact
