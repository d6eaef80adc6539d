"""Losses of ladders in NumPy, of what the networks give."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from playing import KEY, batch_of, bernoulli, doubles, flat, log_mean_exp, normal, once, played, settings_of

from dgm_jax import distributions, systems
from dgm_jax.internal.noise import standard_normal
from dgm_jax.models import conv_ladder, deep_ladder, iaf_ladder, ladder


def assert_same(value, formula):
  np.testing.assert_allclose(value, formula, rtol=3e-5, atol=1e-5)


def kl(q, p):
  """KL of two normals, of each number."""
  return 0.5 * (p[1] - q[1] + (np.exp(q[1]) + (q[0] - p[0]) ** 2) / np.exp(p[1]) - 1)


def networks(play, module, shapes, training):
  """(levels, parameters of the pixels) in training, or with the statistics of the state, float64."""
  sizes = [int(np.prod(shape)) for shape in shapes]
  parts = jnp.split(standard_normal(play.key, (4, 2, sum(sizes))).reshape(8, -1), np.cumsum(sizes)[:-1], -1)
  noise = [
    part.reshape(8, shape[2], *shape[:2]).transpose(0, 2, 3, 1) if len(shape) == 3 else part
    for part, shape in zip(parts, shapes, strict=True)
  ]
  variables = {'params': {name: play.state.params[name] for name in ('encoder', 'decoder')}}
  found = {name: play.state.extra.get(f'{name}_statistics') for name in ('encoder', 'decoder')}
  variables['batch_stats'] = {name: part for name, part in found.items() if part is not None}

  def apply():
    if training:
      return module.apply(variables, play.batch['x'], noise, mutable=['batch_stats'])
    return module.apply(variables, play.batch['x'], noise), {}

  out, statistics = once(apply)
  return doubles(out), statistics


def divergences(rungs, order):
  """The divergence of each level [B, k, ...]: at the sample below the top of a ladder inferred bottom up."""
  found = []
  for level, rung in enumerate(rungs):
    sampled = order == 'bottom_up' and level < len(rungs) - 1
    own = normal(rung.z, *rung.q) - normal(rung.z, *rung.p) if sampled else kl(rung.q, rung.p)
    found.append(own.reshape(4, 2, -1))
  return found


@pytest.mark.parametrize('order', ['factorised', 'bottom_up', 'top_down'])
def test_ladder(order):
  """The divergences of all levels are weighted alike, from 0 to 1 over the warm-up."""
  variant = {'factorised': 'tiny_deck', 'bottom_up': 'tiny_bottom_up', 'top_down': 'tiny'}[order]
  metrics, play = played(settings_of(f'hvae_mnist:{variant}', samples=2))
  play, model = play('model'), play('model').settings.model
  module = ladder.Ladder(model.hidden, model.latents, (4, 4, 1), 1, order)
  shapes = [(size,) for size in model.latents]
  likely = lambda logits: bernoulli(flat(play.x)[:, None], logits.reshape(4, 2, -1)).sum(-1)
  (rungs, (logits,)), statistics = networks(play, module, shapes, True)
  spent = sum(own.sum(-1) for own in divergences(rungs, order))
  assert_same(metrics['model/loss'], -(likely(logits) - 3 / 8 * spent).mean())
  for name in ('encoder', 'decoder'):
    old, new = play.state.extra[f'{name}_statistics'], statistics['batch_stats'][name]
    mixed = jax.tree.map(lambda a, b: 0.99 * a + 0.01 * b, old, new)
    jax.tree.map(assert_same, play.after.extra[f'{name}_statistics'], mixed)
  (rungs, (logits,)), _ = networks(play, module, shapes, False)
  kls, measured = divergences(rungs, order), play.measured()
  spent = sum(own.sum(-1) for own in kls)
  ratio = sum((normal(r.z, *r.q) - normal(r.z, *r.p)).reshape(4, 2, -1).sum(-1) for r in rungs)
  assert_same(measured['neg_elbo_nats'], -(likely(logits) - spent).mean(1))
  assert_same(measured['reconstruction_nats'], -likely(logits).mean(1))
  assert_same(measured['kl_nats'], spent.mean(1))
  assert_same(measured['neg_bound_nats'], -log_mean_exp(likely(logits) - ratio, 1))
  for level, own in enumerate(kls, 1):
    assert_same(measured[f'kl_nats_layer_{level}'], own.sum(-1).mean(1))


def test_ladder_of_gated_blocks():
  """Free bits of a whole level: of the mean over the batch and the samples."""
  settings = settings_of('hvae_mnist:tiny_conv', (8, 8, 1), samples=2, free_bits=15.0)
  settings.model.network.dropout = 0.0
  grown = lambda path, leaf: (8 if any(key.key == 'posterior' for key in path) else 1) * leaf

  def start(state):
    made = jax.jit(systems.build(settings).init)(KEY, batch_of(settings))
    params = jax.tree_util.tree_map_with_path(grown, made.params)
    return state.replace(params=params, extra=made.extra)

  metrics, play = played(settings, change=start)
  play, own = play('model'), {'features': 6, 'blocks': 1, 'dropout': 0.0}
  encoder = conv_ladder.GatedEncoder((0, 1), **own)
  decoder = conv_ladder.GatedDecoder((0, 1), (8, 8, 1), 1, 1, latents=2, **own)
  module, shapes = conv_ladder.Tower(encoder, decoder), [(4, 4, 2), (2, 2, 2)]
  likely = lambda logits: bernoulli(flat(play.x)[:, None], logits.reshape(4, 2, -1)).sum(-1)
  (rungs, (logits,)), statistics = networks(play, module, shapes, True)
  spent = [own.sum(-1).mean() for own in divergences(rungs, 'top_down')]
  assert min(spent) < 15 < max(spent)
  assert_same(metrics['model/loss'], -likely(logits).mean() + np.maximum(spent, 15).sum())
  old, new = play.state.extra['decoder_statistics'], statistics['batch_stats']['decoder']
  jax.tree.map(
    assert_same, play.after.extra['decoder_statistics'], jax.tree.map(lambda a, b: 0.99 * a + 0.01 * b, old, new)
  )
  (rungs, (logits,)), _ = networks(play, module, shapes, False)
  kls, measured = divergences(rungs, 'top_down'), play.measured()
  assert_same(measured['neg_elbo_nats'], -(likely(logits) - sum(own.sum(-1) for own in kls)).mean(1))
  for level, own in enumerate(kls, 1):
    assert_same(measured[f'kl_nats_layer_{level}'], own.sum(-1).mean(1))


def test_vdvae():
  """The bound of a mixture of logistics in one level below another, with all settings but the average."""
  settings = settings_of('hvae_cifar10:tiny', (8, 8, 3), average=0.0, samples=2)
  metrics, play = played(settings)
  play, widths = play('model'), {'features': 6, 'middle': 4}
  encoder = deep_ladder.DeepEncoder('8x1,8d4,2x1', '2x1,8m2', **widths)
  decoder = deep_ladder.DeepDecoder('2x1,8m2', 20, 1, 2, **widths)
  module, shapes = conv_ladder.Tower(encoder, decoder), [(8, 8, 2), (2, 2, 2)]
  (rungs, (params,)), _ = networks(play, module, shapes, False)
  table = jnp.asarray(params, 'float32').reshape(4, 2, 8, 8, 20)
  x = jnp.broadcast_to(play.batch['x'][:, None], (4, 2, 8, 8, 3))
  mixture = distributions.logistic_mixture_split(table, 3)
  log_px_z = np.asarray(distributions.logistic_mixture_log_prob(x, mixture, 256), np.float64).sum((2, 3))
  kls = divergences(rungs, 'top_down')
  bound = (log_px_z - sum(own.sum(-1) for own in kls)).mean(1)
  assert_same(metrics['model/loss'], -bound.mean())
  measured = play.measured()
  assert_same(measured['neg_elbo_nats'], -bound)
  assert_same(measured['bits_per_dim'], -bound / 192 / np.log(2))


def test_ladder_iaf():
  """Free bits of each map: of its divergence at the samples, summed over positions, in the mean."""
  settings = settings_of('iaf_vae_cifar10:tiny', (4, 4, 1), average=0.0, samples=2, free_bits=2.02)
  metrics, play = played(settings)
  play = play('model')
  module = conv_ladder.Tower(iaf_ladder.Encoder(2, 4, 2), iaf_ladder.Decoder((4, 4, 1), 2, 4, 2))
  (rungs, params), _ = networks(play, module, [(2, 2, 2)] * 2, False)
  x = jnp.broadcast_to(play.batch['x'].reshape(4, 1, 16), (4, 2, 16))
  params = [jnp.asarray(param, 'float32').reshape(4, 2, 16) for param in params]
  log_px_z = np.asarray(distributions.discretized_logistic_log_prob(x, *params, 256), np.float64)
  kls = [(rung.log_q - normal(rung.z, *rung.p)).reshape(4, 2, 4, 2) for rung in rungs]
  spent = np.array([own.sum(2).mean((0, 1)) for own in kls])
  assert spent.min() < 2.02 < spent.max()
  assert_same(metrics['model/loss'], -log_px_z.mean() + np.maximum(spent, 2.02).sum())
  measured, bound = play.measured(), log_px_z - sum(own.sum((2, 3)) for own in kls)
  assert_same(measured['neg_elbo_nats'], -bound.mean(1))
  assert_same(measured['neg_bound_nats'], -log_mean_exp(bound, 1))
  assert_same(measured['bits_per_dim'], -bound.mean(1) / 16 / np.log(2))
