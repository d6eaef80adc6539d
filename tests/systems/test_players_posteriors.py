"""Losses of autoencoders with a flow in the posterior or in the prior, in NumPy, of what the networks give."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from playing import HALF, bernoulli, doubles, flat, log_mean_exp, normal, once, played, settings_of

from dgm_jax.internal.noise import standard_normal
from dgm_jax.models import vae
from dgm_jax.nn import made


def assert_same(value, formula):
  np.testing.assert_allclose(value, formula, rtol=3e-5, atol=1e-5)


def sigmoid(x):
  return 1 / (1 + np.exp(-x))


def encoded(play, size):
  """(mean, logvar [B, 1, Z], context [B, F], noise [B, k, Z]) of an example's encoder, float64."""
  model = play.settings.model
  module = vae.ContextEncoder(model.hidden[0], model.latents[0], size, activation=model.activation)
  params = {'params': play.state.params['encoder']['network']}
  shape = (4, model.samples, *model.latents)
  (mean, logvar, context), noise = once(
    lambda: (module.apply(params, play.batch['x']), standard_normal(play.key, shape))
  )
  mean, logvar, context, noise = doubles((mean, logvar, context, noise))
  return mean[:, None], logvar[:, None], context, noise


def fits(play, z):
  """log p(x|z) [B, k] of independent bits."""
  model = play.settings.model
  decoder = vae.Decoder(model.hidden, model.latents, (4, 4, 1), 1, activation=model.activation)
  params = {'params': play.state.params['decoder']}
  (logits,) = once(lambda: decoder.apply(params, jnp.asarray(z, jnp.float32), method='pixels'))
  return bernoulli(flat(play.x)[:, None], np.asarray(logits, np.float64)).sum(-1)


def compare(metrics, play, log_px_z, log_q, log_p, objective):
  assert_same(metrics['model/loss'], -objective.mean())
  measured = play.measured()
  assert_same(measured['neg_elbo_nats'], -(log_px_z - log_q + log_p).mean(1))
  assert_same(measured['reconstruction_nats'], -log_px_z.mean(1))
  assert_same(measured['kl_nats'], (log_q - log_p).mean(1))
  assert_same(measured['neg_bound_nats'], -log_mean_exp(log_px_z - log_q + log_p, 1))


def planar(numbers, z):
  """Rezende & Mohamed 2015, equations 10 to 12; two maps, and the bound of w u is 0 at 0."""
  b, u, w = np.split(numbers, [2, 2 + 2 * z.shape[-1]], -1)  # the alphabet's order: b, u, w of both maps
  total = 0
  for i in range(2):
    own_u, own_w = (a.reshape(4, 2, -1)[:, i] for a in (u, w))
    along = (own_u * own_w).sum(-1, keepdims=True)
    held = np.log1p(np.expm1(1) * np.exp(along)) - 1
    own_u = own_u + (held - along) * own_w / (own_w**2).sum(-1, keepdims=True)
    bent = np.tanh((z * own_w[:, None]).sum(-1) + b[:, i, None])
    z, total = z + own_u[:, None] * bent[..., None], total + np.log1p((1 - bent**2) * held)
  return z, total


@pytest.mark.parametrize('of', ['joint', 'divergence'])
def test_nf_vae(of):
  """Equation 20: log q less beta log p(x, z), with beta = min(1, 0.01 + t / T); and the divergence weighted instead."""
  settings = settings_of('nf_vae_mnist:tiny', samples=2, activation='tanh', warm_up_of=of)
  settings.model.update({'warm_up': 20, 'warm_up_from': 0.01})
  metrics, play = played(settings)
  play = play('model')
  mean, logvar, context, noise = encoded(play, 2 * 9)
  base = mean + np.exp(0.5 * logvar) * noise
  z, log_det = planar(context, base)
  log_q, log_p = normal(base, mean, logvar).sum(-1) - log_det, normal(z, 0, 0).sum(-1)
  log_px_z, beta = fits(play, z), 0.01 + 3 / 20
  joint, divergence = beta * (log_px_z + log_p) - log_q, log_px_z - beta * (log_q - log_p)
  compare(metrics, play, log_px_z, log_q, log_p, joint if of == 'joint' else divergence)


def radial(numbers, z):
  """Rezende & Mohamed 2015, equation 14: y = z + b h (z - c), h = 1 / (a + r), and its determinant."""
  dims, total = z.shape[-1], 0
  a, b, c = np.split(numbers, [2, 4], -1)  # the alphabet's order: alpha, beta, centre of both maps
  for i in range(2):
    own = np.logaddexp(0, a[:, i, None])
    b_hat, away = np.logaddexp(0, b[:, i, None]) - own, z - c.reshape(4, 2, 1, dims)[:, i]
    r = np.sqrt((away**2).sum(-1))
    h = 1 / (own + r)
    z = z + (b_hat * h)[..., None] * away
    total = total + (dims - 1) * np.log(1 + b_hat * h) + np.log(1 + b_hat * h - b_hat * r * h**2)
  return z, total


def sylvester(numbers, z):
  """Van den Berg et al. 2018, equations 8 to 13: y = z + Q R tanh(S Q' z + b), by the determinant of its Jacobian."""
  dims, total, reflections = z.shape[-1], 0, 2
  sizes = np.cumsum([2 * dims, 2 * dims, 2 * reflections * dims, 2 * dims])
  bias, inner, normals, outer, upper = np.split(numbers, sizes, -1)
  for i in range(2):
    own_bias, own_inner, own_outer = (a.reshape(4, 2, dims)[:, i] for a in (bias, inner, outer))
    both, axes = upper.reshape(4, 2, dims, dims)[:, i], normals.reshape(4, 2, reflections, dims)[:, i]
    moved, log_dets = np.empty_like(z), np.empty(z.shape[:2])
    for n in range(4):
      turn = np.eye(dims)
      for v in axes[n]:
        turn = (np.eye(dims) - 2 * np.outer(v, v) / (v @ v)) @ turn  # Q', the first reflection first
      r = np.triu(both[n], 1) + np.diag(np.tanh(own_outer[n]))
      s = np.triu(both[n].T, 1) + np.diag(np.tanh(own_inner[n]))
      bent = np.tanh(z[n] @ (s @ turn).T + own_bias[n])
      moved[n] = z[n] + bent @ (turn.T @ r).T
      jacobian = np.eye(dims) + (turn.T @ r)[None] @ ((1 - bent**2)[..., None] * (s @ turn)[None])
      log_dets[n] = np.linalg.slogdet(jacobian)[1]
    z, total = moved, total + log_dets
  return z, total


@pytest.mark.parametrize(('flow', 'size'), [(radial, 6), (sylvester, 36)])
def test_nf_vae_of_other_maps(flow, size):
  """The bound without a warm-up; two maps, in NumPy."""
  name = flow.__name__
  settings = settings_of(f'nf_vae_mnist:tiny_{name}', samples=2, activation='tanh', bound='elbo')
  if flow is sylvester:
    settings.model.flow.reflections = 2  # not 3: of sines they would be one reflection, its own inverse
  metrics, play = played(settings)
  play = play('model')
  mean, logvar, context, noise = encoded(play, 2 * size)
  base = mean + np.exp(0.5 * logvar) * noise
  z, log_det = flow(context, base)
  assert np.abs(log_det).min() > 1e-3
  log_q, log_p = normal(base, mean, logvar).sum(-1) - log_det, normal(z, 0, 0).sum(-1)
  log_px_z = fits(play, z)
  compare(metrics, play, log_px_z, log_q, log_p, log_px_z - log_q + log_p)


def masked(p, x, numbers, context=None):
  """Germain et al. 2015; a context enters the first layer, and reaches the first dimension by units of degree 0."""
  dims, count = x.shape[-1], sum(name.startswith('kernel') for name in p)
  degrees, shift = np.arange(dims) + 1, (0 if context is None else context @ p['context']['kernel'])
  for i in range(count):
    last, size = i == count - 1, p[f'kernel_{i}'].shape[1]
    hidden = np.arange(size) % (dims - 1) + 1 if context is None else np.arange(size) % dims
    out = np.tile(np.arange(dims) + 1, numbers) if last else hidden
    seen = degrees[:, None] < out[None] if last else degrees[:, None] <= out[None]
    x = x @ (p[f'kernel_{i}'] * seen) + p[f'bias_{i}'] + (shift if i == 0 else 0)
    x, degrees = (x if last else np.where(x > 0, x, p_act(x))), out
  return x


def p_act(x):
  """Elu below 0."""
  return np.expm1(np.minimum(x, 0))


def test_iaf_vae():
  """Kingma et al. 2016, algorithm 1: z <- s z + (1 - s) m, the order reversed after each step."""
  metrics, play = played(settings_of('iaf_vae_mnist:tiny', samples=2, average=0.0))
  play = play('model')
  mean, logvar, context, noise = encoded(play, 5)
  base = mean + np.exp(0.5 * logvar) * noise
  z, log_det = base, 0
  for step in range(2):
    own = jax.tree.map(lambda leaf, step=step: leaf[step], doubles(play.state.params['encoder']['flow']['0']))
    m, raw = np.split(masked(own, z, 2, context[:, None]), 2, -1)
    s = sigmoid(raw + 2)
    z, log_det = (s * z + (1 - s) * m)[..., ::-1], log_det + np.log(s).sum(-1)
  log_q, log_p = normal(base, mean, logvar).sum(-1) - log_det, normal(z, 0, 0).sum(-1)
  log_px_z = fits(play, z)
  compare(metrics, play, log_px_z, log_q, log_p, log_px_z - log_q + log_p)


def test_af_vae():
  """Chen et al. 2017, section 3.2: log p(z) is that of the noise that the steps make of z, and their volume."""
  settings = settings_of('af_vae_mnist:tiny', samples=2, average=0.0)
  settings.model.prior_network = {'layers': 2, 'hidden': (8,), 'activation': 'elu', 'elementwise': 'gated'}
  metrics, play = played(settings)
  play, model = play('model'), settings.model
  module = vae.Encoder(model.hidden, model.latents, (), model.activation)
  params = {'params': play.state.params['encoder']}
  (mean, logvar), noise = once(
    lambda: (module.apply(params, play.batch['x'], method='first'), standard_normal(play.key, (4, 2, 4)))
  )
  mean, logvar, noise = doubles((mean, logvar, noise))
  z = mean[:, None] + np.exp(0.5 * logvar)[:, None] * noise
  y, log_det = z, 0
  for step in range(2):
    own = jax.tree.map(lambda leaf, step=step: leaf[step], doubles(play.state.params['prior']['1']['0']))
    m, raw = np.split(masked(own, y, 2), 2, -1)
    s = sigmoid(raw + 2)
    y, log_det = (s * y + (1 - s) * m)[..., ::-1], log_det + np.log(s).sum(-1)
  log_q, log_p = normal(z, mean[:, None], logvar[:, None]).sum(-1), (-HALF - 0.5 * y**2).sum(-1) + log_det
  log_px_z = fits(play, z)
  compare(metrics, play, log_px_z, log_q, log_p, log_px_z - log_q + log_p)


def test_an_average_replaces_the_networks_outside_of_training():
  play = played(settings_of('af_vae_mnist:tiny_maf'))[1]('model')
  assert set(play.after.extra['ema']) == {'encoder', 'decoder', 'prior'}
  assert set(play.after.extra['ema_statistics']) == {'prior_statistics'}
  moved = jax.tree.map(lambda a: 2 * a, play.state.extra['ema'])
  other = play._replace(state=play.state.replace(extra=play.state.extra | {'ema': moved}))
  assert np.abs(other.measured()['neg_elbo_nats'] - play.measured()['neg_elbo_nats']).max() > 1e-3
  # A step mixes a hundredth of the batch's statistics in, and a tenth of the result in the average.
  (old, new, ema) = (
    np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])
    for tree in (
      play.state.extra['prior_statistics'], play.after.extra['prior_statistics'],
      play.after.extra['ema_statistics'],
    )
  )  # fmt: skip
  assert np.abs(new - old).max() > 0
  start = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(play.state.extra['ema_statistics'])])
  np.testing.assert_allclose(ema, 0.9 * start + 0.1 * new, rtol=1e-5)


def test_the_masks_of_a_network_with_a_context():
  first, last = made.masks(3, (6,), 1, context=True)
  np.testing.assert_array_equal(first, [[0, 1, 1, 0, 1, 1], [0, 0, 1, 0, 0, 1], [0, 0, 0, 0, 0, 0]])
  np.testing.assert_array_equal(last[:, 0], [1, 0, 0, 1, 0, 0])
