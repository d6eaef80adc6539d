"""The loss of the discrete variational autoencoder in NumPy, of what the networks give."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from playing import KEY, bernoulli, doubles, flat, log_mean_exp, normal, once, played, settings_of, softplus

from dgm_jax.distributions import boltzmann, smoothing
from dgm_jax.internal.noise import standard_normal, uniform
from dgm_jax.models.discrete_vae import DiscreteVAE, Noise


def assert_same(value, formula):
  np.testing.assert_allclose(value, formula, rtol=3e-5, atol=1e-5)


def bits_at(state):
  """The state with chains and a log-normalizer."""
  chains = (np.arange(state.extra['chains'].size).reshape(state.extra['chains'].shape) * 7 % 5 < 2).astype('i1')
  return state.replace(extra=state.extra | {'chains': jnp.asarray(chains), 'log_z': jnp.float32(3.7)})


def networks(play, training):
  """(rows, logits of the pixels), in training or with the statistics of the state; two samples of four images."""
  model = play.settings.model
  smooth = smoothing.SMOOTHINGS[model.smoothing](model.beta)
  module = DiscreteVAE(
    (4, 4, 1), 1, model.bits, model.bit_groups, smooth, model.hidden, model.pixel_hidden, model.prior_hidden,
    model.layers, model.latents, model.shared,
  )  # fmt: skip
  rho = uniform(play.key, (4, 2, model.bits)).reshape(8, -1)
  other = uniform(jax.random.fold_in(play.key, 3), (8, model.bits))
  normals = standard_normal(jax.random.fold_in(play.key, 2), (4, 2, model.layers * model.latents)).reshape(8, -1)
  noise = Noise(rho, other, jnp.split(normals, model.layers, 1) if model.layers else [])
  names = ('encoder', 'decoder')
  variables = {'params': {name: play.state.params[name] for name in names}}
  variables['batch_stats'] = {name: play.state.extra[f'{name}_statistics'] for name in names}
  options = {'mutable': ['batch_stats']} if training else {}
  out = doubles(once(lambda: module.apply(variables, play.batch['x'], noise, **options)))
  return out[0] if training else out


def kl(q, p):
  return 0.5 * (p[1] - q[1] + (np.exp(q[1]) + (q[0] - p[0]) ** 2) / np.exp(p[1]) - 1)


def divergence(rows, play):
  """Rolfe 2017, equation 11: the value of the divergence of the bits, [4, 2]; the right half counts by its means."""
  prior, half = doubles(play.state.params['prior']), rows.logits.shape[1] // 2
  q = 1 / (1 + np.exp(-rows.logits))
  entropy = softplus(rows.logits) - q * rows.logits
  coupled = np.einsum('ni,ij,nj->n', rows.bits.expected[:, :half], prior['kernel'], q[:, half:])
  return (-entropy.sum(1) - q @ prior['bias'] - coupled + 3.7).reshape(4, 2)


@pytest.mark.parametrize('name', ['tiny', 'tiny_layers', 'tiny_power'])
def test_discrete_vae(name):
  metrics, play = played(settings_of(f'dvae_mnist:{name}', samples=2), change=bits_at)
  play = play('model')
  likely = lambda pixels: bernoulli(flat(play.x)[:, None], pixels.reshape(4, 2, -1)).sum(-1)
  rows, (pixels,) = networks(play, True)
  spent = sum((kl(rung.q, rung.p).sum(1).reshape(4, 2) for rung in rows.rungs), divergence(rows, play))
  assert_same(metrics['model/loss'], (spent - likely(pixels)).mean())
  rows, (pixels,) = networks(play, False)
  measured, layers = play.measured(), [kl(rung.q, rung.p).sum(1).reshape(4, 2) for rung in rows.rungs]
  spent = sum(layers, divergence(rows, play))
  assert_same(measured['neg_elbo_nats'], (spent - likely(pixels)).mean(1))
  assert_same(measured['kl_nats'], spent.mean(1))
  z, half, prior = rows.bits.bits, rows.logits.shape[1] // 2, doubles(play.state.params['prior'])
  log_p = z @ prior['bias'] + np.einsum('ni,ij,nj->n', z[:, :half], prior['kernel'], z[:, half:]) - 3.7
  log_q = bernoulli(z, rows.logits).sum(1)
  for rung in rows.rungs:
    log_q = log_q + (normal(rung.z, *rung.q) - normal(rung.z, *rung.p)).sum(1)
  assert_same(measured['neg_bound_nats'], -log_mean_exp(likely(pixels) + (log_p - log_q).reshape(4, 2), 1))
  for level, own in enumerate([*layers[::-1], divergence(rows, play)], 1):
    if layers:
      assert_same(measured[f'kl_nats_layer_{level}'], own.mean(1))


def test_chains_move_and_the_normalizer_follows():
  """Chains take the sweeps under the machine before the step; nobody moved, so the normalizer stays."""
  _, play = played(settings_of('dvae_mnist:tiny'), change=bits_at)
  play, half = play('model'), 3
  prior = play.state.params['prior']
  machine = boltzmann.Machine(prior['bias'][:half], prior['bias'][half:], prior['kernel'])
  key = jax.random.split(KEY)[1]
  expected = jax.jit(boltzmann.gibbs, static_argnums=3)(key, machine, play.state.extra['chains'], 2)
  np.testing.assert_array_equal(play.after.extra['chains'], expected)
  assert play.after.extra['chains'].dtype == jnp.int8
  assert float(play.after.extra['log_z']) == pytest.approx(3.7, abs=1e-5)
