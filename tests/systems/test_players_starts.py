"""What systems begin with, and parts of them that no loss shows."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden import doubles
from playing import KEY, batch_of, flat, settings_of

from dgm_jax import systems
from dgm_jax.models import deep_mixture
from dgm_jax.nn import bijections, made, norm, quantize
from dgm_jax.systems import classifier
from dgm_jax.systems.parts import bounds, noise


def started(settings, n=16):
  """(first state, batch) of an experiment."""
  system, batch = systems.build(settings), batch_of(settings, n)
  return system, jax.jit(system.init)(KEY, batch), batch


def test_a_collapse_begins_at_the_mean_and_the_spread_of_the_data():
  _, state, batch = started(settings_of('collapse:tiny', (2, 2, 1)))
  x = flat(batch['x'])
  np.testing.assert_allclose(state.params['decoder']['mean']['bias'], x.mean(0), rtol=1e-5)
  np.testing.assert_allclose(state.params['decoder']['log_std'], 0.5 * np.log(x.var(0) + 0.01), rtol=1e-4)


def test_pseudo_inputs_begin_dark_and_apart():
  _, state, _ = started(settings_of('vamp_mnist:tiny', (8, 8, 1), pseudo_inputs=50))
  images = np.asarray(state.params['pseudo_inputs']['images'])
  assert images.shape == (50, 8, 8, 1)
  assert images.mean() == pytest.approx(0.05, abs=1e-3) and images.std() == pytest.approx(0.01, rel=0.1)


def test_a_deep_mixture_begins_by_centring_and_scaling_the_data():
  _, state, batch = started(settings_of('deep_gmm:tiny', (2, 2, 1)))
  x, p = flat(batch['x']), doubles(state.params['mixture'])
  near = p['kernel_0'] * np.sqrt(x.var(0) + 1e-3) - np.eye(4)
  assert near.std() > 0.005 and np.abs(near).max() < 0.25
  # Of the mean of the data a component makes what was drawn for its shift, with deviation one half.
  assert np.abs(p['kernel_0'] @ x.mean(0) + p['bias_0']).max() < 2
  drawn = np.asarray(deep_mixture._near_identity(jax.random.key(2), (50, 4, 4))) - np.eye(4)
  assert np.std(drawn) == pytest.approx(0.1 / 2, rel=0.1)


def test_a_deep_mixture_of_whitened_data_begins_by_whitening():
  _, state, batch = started(settings_of('deep_gmm_cifar10:tiny', (2, 2, 1)))
  x, p = flat(batch['x']), doubles(state.params['mixture'])
  w, v = np.linalg.eigh(np.cov(x, rowvar=False, bias=True))
  near = p['kernel_0'] @ (v * np.sqrt(w) @ v.T) - np.eye(4)
  assert near.std() > 0.005 and np.abs(near).max() < 0.25
  assert np.abs(p['kernel_0'] @ x.mean(0) + p['bias_0']).max() < 2


def test_a_classifier_begins_with_the_statistics_of_centred_images():
  settings = settings_of('revnet_cifar10:tiny')
  _, state, batch = started(settings)
  parts = classifier.build_parts(settings, classifier.networks.revnet)
  mean = np.asarray(batch['x']).mean(0)
  np.testing.assert_allclose(state.extra['mean'], mean, rtol=1e-5)
  see = lambda x: classifier.networks.logits(parts.network, state.params['classifier'], None, x)[1]
  seen = jax.jit(see)(batch['x'] - jnp.asarray(mean)[None])
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), state.extra['stats'], seen)


def test_priors_of_latents_and_what_is_seen_of_points():
  z = np.asarray(noise.wide_uniform(KEY, 4000, 2))
  assert z.std() == pytest.approx(1, rel=0.03) and np.abs(z).max() <= math.sqrt(3)
  assert np.abs(np.asarray(noise.uniform(KEY, 4000, 2))).max() <= 1
  images, points = (systems.build(settings_of('wgan_gp_25gaussians:tiny', shape)).views for shape in ((4, 4, 1), (2,)))
  assert images.decode and images.prior and images.critic and points.critic
  assert points.decode is None and points.prior is None


def test_a_reference_batch_of_latents_goes_with_virtual_normalisation_alone():
  for name, count in (('gan_mnist:tiny_improved', 4), ('gan_mnist:tiny', 0)):
    settings = settings_of(name, (4, 4, 1))
    settings.model.references = 4
    state = jax.eval_shape(systems.build(settings).init, KEY, batch_of(settings, 4))
    assert ('reference' in state.extra) == (count > 0)
    assert not count or state.extra['reference'].shape == (count, settings.model.latents)


def test_the_likelihood_is_taken_in_chunks_of_at_most_so_many_rows(monkeypatch):
  taken, original = [], bounds.compose

  def noting(*parts):
    model = original(*parts)
    return model._replace(draw=lambda *args: taken.append(args[-1]) or model.draw(*args))

  monkeypatch.setattr(bounds, 'compose', noting)
  settings = settings_of('vae_digits:tiny', (2, 2, 1))
  system, state, batch = started(settings, 2)
  for rows, fitting in ((8, 4), (12, 6), (1, 1), (100, 12)):
    taken.clear()
    settings.nll.update({'samples': 12, 'rows': rows})
    jax.eval_shape(systems.build(settings).views.log_prob, KEY, state, batch['x'])
    assert set(taken) == {fitting}
  assert system.views.posterior
  assert not systems.build(settings_of('iwae_mnist:tiny')).views.posterior


@pytest.mark.parametrize('layer', [norm.BatchNorm(), norm.VirtualBatchNorm(3), norm.LayerNorm()])
def test_small_variances_are_not_blown_up(layer):
  """Deviations of 1e-3 against an epsilon of 1e-5."""
  x = 1e-3 * jnp.asarray(np.random.default_rng(0).normal(size=(400, 6)), jnp.float32)
  variables = layer.init(KEY, x)
  y = np.asarray(layer.apply(variables, x, mutable=['batch_stats'])[0])[3:]
  x = np.asarray(x, np.float64)
  if isinstance(layer, norm.VirtualBatchNorm):  # each by the references and itself
    reference = x[:3]
    mean = (3 * reference.mean(0) + x[3:]) / 4
    square = (3 * (reference**2).mean(0) + x[3:] ** 2) / 4
    expected = (x[3:] - mean) / np.sqrt(square - mean**2 + 1e-5)
    first = np.asarray(layer.apply(variables, jnp.asarray(x, jnp.float32)))[:3]
    np.testing.assert_allclose(first, (reference - reference.mean(0)) / np.sqrt(reference.var(0) + 1e-5), rtol=1e-3)
  else:
    axis = 0 if isinstance(layer, norm.BatchNorm) else 1
    expected = ((x - x.mean(axis, keepdims=True)) / np.sqrt(x.var(axis, keepdims=True) + 1e-5))[3:]
  np.testing.assert_allclose(y, expected, rtol=2e-3, atol=1e-5)


def test_what_is_noted_of_a_batch_passes_it_no_gradient():
  z = jnp.asarray(np.random.default_rng(1).normal(size=(12, 2)), jnp.float32)
  slope = jax.jit(jax.grad(lambda z: quantize.k_means(KEY, z, 3).sum()))(z)
  np.testing.assert_array_equal(slope, np.zeros((12, 2)))
  seen = lambda z: sum(leaf.sum() for leaf in bijections.batch_norm().forward({}, None, z)[2].values())
  np.testing.assert_array_equal(jax.jit(jax.grad(seen))(z), np.zeros((12, 2)))


def test_a_masked_network_begins_with_zeros_behind_weights_that_are_none():
  module, x = made.MADE((5,), 2), jnp.asarray([[0.3, -1.0, 2.0]])
  variables = module.init(KEY, x)
  np.testing.assert_array_equal(module.apply(variables, x), np.zeros((1, 6)))
  assert np.abs(np.asarray(variables['params']['kernel_0'])).min() > 0
