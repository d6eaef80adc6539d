"""Each player's loss is the paper's formula of what the networks give; games are in test_players_games.py."""

import importlib
import inspect
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from playing import (
  HALF,
  TABLE,
  bernoulli,
  divergence,
  doubles,
  flat,
  log_mean_exp,
  log_softmax,
  normal,
  once,
  played,
  settings_of,
  softplus,
)  # fmt: skip

from dgm_jax import core, losses, systems
from dgm_jax.errors import UserError
from dgm_jax.internal.noise import standard_normal
from dgm_jax.models.disentangle import LatentDiscriminator
from dgm_jax.models.vae import Decoder, Encoder
from dgm_jax.systems import classifier, vq
from dgm_jax.systems.parts import augmentations, code_priors, posteriors


def assert_same(value, formula):
  np.testing.assert_allclose(value, formula, rtol=3e-5, atol=1e-6)


def test_the_table_names_every_system():
  """A new system belongs in it, and its formula in a test."""
  found = set()
  for module in [name for name in systems.__all__ if not callable(getattr(systems, name, None))]:
    family = importlib.import_module(f'dgm_jax.systems.{module}')
    for name, function in vars(family).items():
      if (
        inspect.isfunction(function)
        and name in family.__all__
        and inspect.signature(function).return_annotation is core.System
      ):
        found.add(f'{module}.{name}')
  assert found == set(TABLE)


def log_px_z(kind, x, numbers):
  """[..., D] of pixels, whatever they are."""
  if kind == 'bernoulli':
    return bernoulli(x, numbers[0])
  if kind == 'gaussian':
    return normal(x, *numbers)
  mean, scale = numbers[0], np.exp(np.maximum(numbers[1], -7))
  at = lambda place: 1 / (1 + np.exp(-(place - mean) / scale))
  upper, lower = np.where(x > 0.999, 1, at(x + 1 / 255)), np.where(x < -0.999, 0, at(x - 1 / 255))
  return np.log(upper - lower)


def coders(settings, state):
  """(encode, decode), functions of arrays and a method, by the parameters of a state."""
  model = settings.model
  if 'encoder' in model:  # a network of its own each
    own = [{'hidden': (tuple(part.hidden),), 'activation': part.activation} for part in (model.encoder, model.decoder)]
  else:
    hidden = model.hidden if isinstance(model.hidden[0], tuple) else (model.hidden,)
    own = 2 * [{'hidden': hidden, 'activation': model.activation}]
  latents = model.latents if isinstance(model.latents, tuple) else (model.latents,)
  parameters = 1 if model.likelihood == 'bernoulli' else 2
  decoder = Decoder(latents=latents, shape=tuple(settings.data.shape), num_parameters=parameters, **own[1])
  modules = {'encoder': Encoder(latents=latents, **own[0]), 'decoder': decoder}
  bound = lambda name: lambda *args, method: modules[name].apply({'params': state.params[name]}, *args, method=method)
  return bound('encoder'), bound('decoder')


@pytest.mark.parametrize('name', ['vae_digits:tiny', 'vae_mnist:tiny_gaussian', 'vae_mnist:tiny_logistic'])
def test_vae(name):
  """Kingma & Welling 2014, equation 10."""
  settings = settings_of(name, samples=2)
  metrics, play = played(settings)
  play = play('model')
  encode, decode = coders(settings, play.state)
  (mean, logvar), noise = once(lambda: (encode(play.batch['x'], method='first'), standard_normal(play.key, (4, 2, 4))))
  z = np.asarray(mean)[:, None] + np.exp(0.5 * np.asarray(logvar))[:, None] * np.asarray(noise)
  numbers = once(lambda: decode(jnp.asarray(z), method='pixels'))
  fits = log_px_z(settings.model.likelihood, flat(play.x)[:, None], np.asarray(numbers, np.float64)).sum(-1)
  kl, (mean, logvar) = divergence(np.asarray(mean), np.asarray(logvar)).sum(1), (np.asarray(mean), np.asarray(logvar))
  assert_same(metrics['model/loss'], -(fits.mean(1) - kl).mean())
  found, ratio = play.measured(), normal(z, mean[:, None], logvar[:, None]).sum(-1) - normal(z, 0, 0).sum(-1)
  assert_same(found['neg_elbo_nats'], kl - fits.mean(1))
  assert_same(found['neg_bound_nats'], -log_mean_exp(fits - ratio, 1))
  assert_same(found['reconstruction_nats'], -fits.mean(1))
  assert_same(found['kl_nats'], kl)


def test_iwae():
  """Burda et al. 2016, equation 8, two stochastic layers."""
  settings = settings_of('iwae_mnist:tiny')
  metrics, play = played(settings)
  play = play('model')
  encode, decode = coders(settings, play.state)

  def networks():
    noise = standard_normal(play.key, (4, 3, 10))
    mean, logvar = (a[:, None] for a in encode(play.batch['x'], method='first'))
    low = mean + jnp.exp(0.5 * logvar) * noise[..., :6]
    above = encode(low, 1, method='above')
    top = above[0] + jnp.exp(0.5 * above[1]) * noise[..., 6:]
    return low, top, (mean, logvar), above, decode(top, 1, method='below'), decode(low, method='pixels')

  low, top, first, above, below, (logits,) = jax.tree.map(np.asarray, once(networks))
  weights = bernoulli(flat(play.x)[:, None], np.asarray(logits, np.float64)).sum(-1)
  weights += normal(low, *below).sum(-1) + normal(top, 0, 0).sum(-1)
  weights -= normal(low, *first).sum(-1) + normal(top, *above).sum(-1)
  assert_same(metrics['model/loss'], -log_mean_exp(weights, 1).mean())


def test_vamp():
  """Tomczak & Welling 2018, equations 9 and 10, at step 3 of 12 of the warm-up."""
  settings = settings_of('vamp_mnist:tiny', samples=2, warmup=12)
  metrics, play = played(settings)
  play = play('model')
  encode, decode = coders(settings, play.state)
  images = jnp.clip(play.state.params['pseudo_inputs']['images'], 0, 1)

  def networks():
    mean, logvar = encode(play.batch['x'], method='first')
    z = mean[:, None] + jnp.exp(0.5 * logvar)[:, None] * standard_normal(play.key, (4, 2, 4))
    return mean, logvar, z, decode(z, method='pixels')[0], encode(images, method='first')

  mean, logvar, z, logits, components = doubles(once(networks))
  each = normal(z[:, :, None], *components).sum(-1)  # [4, 2, 6], log q(z|u_k)
  ratio = normal(z, mean[:, None], logvar[:, None]).sum(-1) - (np.log(np.exp(each).sum(-1)) - math.log(6))
  fits = bernoulli(flat(play.x)[:, None], logits).sum(-1)
  assert_same(metrics['model/loss'], -(fits - 3 / 12 * ratio).mean())
  found = play.measured()
  assert_same(found['kl_nats'], ratio.mean(1))
  assert_same(found['neg_elbo_nats'], (ratio - fits).mean(1))
  assert_same(found['neg_bound_nats'], -log_mean_exp(fits - ratio, 1))


def estimator(name, bits=False):
  """metrics and what they are made of: reward, log q, log prior [B, k], KL [B], squared length of the score, play."""
  settings = settings_of(f'vae_estimators:{"tiny_discrete" if bits else "tiny"}')
  settings.system = f'estimators.{name}'
  metrics, play = played(settings)
  play = play('model')
  family, (_, decode) = posteriors.FAMILIES[settings.model.posterior](settings), coders(settings, play.state)

  def networks():
    numbers = family.encode(play.state.params['encoder'], play.batch['x'])
    if bits:
      noise = jax.random.logistic(play.key, (4, 4, 4))
      z = (noise < numbers[0][:, None]).astype(jnp.float32)
    else:
      z = numbers[0][:, None] + jnp.exp(0.5 * numbers[1])[:, None] * jax.random.normal(play.key, (4, 4, 4))
    return numbers, z, decode(z, method='pixels')[0]

  numbers, z, logits = jax.tree.map(lambda a: np.asarray(a, np.float64), once(networks))
  reward = bernoulli(flat(play.x)[:, None], logits).sum(-1)
  if bits:
    p = 1 / (1 + np.exp(-numbers[0]))
    log_q, log_prior = bernoulli(z, numbers[0][:, None]).sum(-1), np.full((4, 4), -4 * math.log(2))
    kl = (p * np.log(2 * p) + (1 - p) * np.log(2 * (1 - p))).sum(1)
    return metrics, reward, log_q, log_prior, kl, ((z - p[:, None]) ** 2).sum(-1), play
  (mean, logvar), (at, spread) = numbers, (n[:, None] for n in numbers)
  log_q, log_prior = normal(z, at, spread).sum(-1), normal(z, 0, 0).sum(-1)
  slopes = (z - at) / np.exp(spread), 0.5 * ((z - at) ** 2 / np.exp(spread) - 1)  # of log q in mean and log-variance
  return metrics, reward, log_q, log_prior, divergence(mean, logvar).sum(1), sum((s**2).sum(-1) for s in slopes), play


@pytest.mark.parametrize('name', ['reparametrized', 'score', 'constant_baseline', 'optimal_baseline', 'leave_one_out'])
def test_estimators(name):
  """The bound, or the reward less its baseline times the score; the formulas' numbers are in the systems' papers."""
  metrics, reward, _, _, kl, square, play = estimator(name)
  running = {key: float(value) for key, value in play.state.extra['baseline'].items()}
  others = (reward.sum(1, keepdims=True) - reward) / 3
  weighted = lambda: running['weighted'] / running['weight']
  baselines = {'constant_baseline': lambda: running['reward'], 'optimal_baseline': weighted,
               'leave_one_out': lambda: others}  # fmt: skip
  signal = reward - baselines.get(name, lambda: 0.0)()
  assert_same(metrics['model/signal_rms_nats'], np.sqrt((signal**2).mean()))
  # Where a score multiplies the reward, the value is the reward's: the score itself counts as zero.
  assert_same(metrics['model/loss'], -(reward.mean(1) - kl).mean())
  now = {'reward': reward.mean(), 'weighted': (square * reward).mean(), 'weight': square.mean()}
  for key, value in play.after.extra['baseline'].items():
    assert_same(value, 0.9 * running[key] + 0.1 * now[key])


@pytest.mark.parametrize('bits', [False, True])
def test_vimco_is_the_bound_of_all_samples(bits):
  """Mnih & Rezende 2016, equation 5."""
  metrics, reward, log_q, log_prior, kl, _, play = estimator('vimco', bits)
  others = (reward.sum(1, keepdims=True) - reward) / 3
  assert_same(metrics['model/signal_rms_nats'], np.sqrt(((reward - others) ** 2).mean()))
  bound = log_mean_exp(reward + log_prior - log_q, 1)
  assert_same(metrics['model/loss'], -bound.mean())
  found = play.measured()
  assert_same(found['neg_bound_nats'], -bound)
  assert_same(found['neg_elbo_nats'], kl - reward.mean(1))
  assert_same(found['reconstruction_nats'], -reward.mean(1))
  assert_same(found['kl_nats'], kl)


@pytest.mark.parametrize('bits', [False, True])
def test_the_squared_length_of_a_score_is_that_of_its_gradient(bits):
  settings = settings_of(f'vae_estimators:{"tiny_discrete" if bits else "tiny"}')
  family = posteriors.FAMILIES[settings.model.posterior](settings)
  z, numbers = (
    jnp.asarray([[[0.0, 1, 1, 0]]]),
    tuple(jnp.asarray([[[0.3, -0.4, 0.9, 0.1]]]) * i for i in (1, 2)[: 2 - bits]),
  )
  slopes = jax.jit(jax.grad(lambda numbers: family.log_prob(z, *numbers).sum()))(numbers)
  assert_same(family.square_score(z, *numbers)[0, 0], sum((np.asarray(slope) ** 2).sum() for slope in slopes))
  assert family.prior.view.normal != bits
  assert_same(family.mean(numbers), numbers[0] if not bits else 1 / (1 + np.exp(-np.asarray(numbers[0]))))


def disentangled(system, n=4, **model):
  """metrics, and what came through the networks: (log p(x|z) [B], KL [B, Z], z, mean, logvar), and the play."""
  settings = settings_of('disentangle:tiny_factor', **model)
  settings.system = f'disentangle.{system}'
  metrics, play = played(settings, n)
  play = play('model')
  encode, decode = coders(settings, play.state)
  x = play.batch['x'][::2] if system == 'factor_vae' else play.batch['x']

  def networks():
    mean, logvar = encode(x, method='first')
    z = mean + jnp.exp(0.5 * logvar) * standard_normal(play.key, mean.shape)
    return z, mean, logvar, decode(z, method='pixels')[0]

  z, mean, logvar, logits = (np.asarray(a, np.float64) for a in once(networks))
  fits, kl = bernoulli(flat(x), logits).sum(1), divergence(mean, logvar)
  assert_same(metrics['model/reconstruction_nats'], -fits.mean())
  assert_same(metrics['model/kl_nats'], kl.sum(1).mean())
  if system == 'beta_vae':
    found = play.measured()
    assert_same(found['neg_elbo_nats'], kl.sum(1) - fits)
    assert_same(found['reconstruction_nats'], -fits)
    assert_same(found['kl_nats'], kl.sum(1))
  return metrics, play, (fits, kl, z, mean, logvar)


def test_beta_vae():
  """Higgins et al. 2017, equation 4."""
  metrics, _, (fits, kl, *_) = disentangled('beta_vae', beta=3.0)
  assert_same(metrics['model/loss'], -(fits - 3 * kl.sum(1)).mean())


def test_capacity_vae():
  """Burgess et al. 2018, equation 8, at step 3 of 10."""
  metrics, _, (fits, kl, *_) = disentangled('capacity_vae', gamma=7.0, capacity=25.0, capacity_steps=10)
  assert_same(metrics['model/capacity_nats'], 7.5)
  assert_same(metrics['model/loss'], -fits.mean() + 7 * abs(kl.sum(1).mean() - 7.5))


def test_dip_vae():
  """Kumar et al. 2018, equations 6 and 7."""
  for covariance in ('means', 'aggregate'):
    options = {'off_diagonal': 5.0, 'diagonal_ratio': 2.0, 'covariance': covariance}
    metrics, _, (fits, kl, _, mean, logvar) = disentangled('dip_vae', **options)
    matrix = np.cov(mean.T, bias=True) + (np.diag(np.exp(logvar).mean(0)) if covariance == 'aggregate' else 0)
    penalty = 10 * ((np.diag(matrix) - 1) ** 2).sum() + 5 * ((matrix - np.diag(np.diag(matrix))) ** 2).sum()
    assert_same(metrics['model/penalty'], penalty)
    assert_same(metrics['model/loss'], penalty - (fits - kl.sum(1)).mean())


@pytest.mark.parametrize(('divergence', 'estimator'), [('sampled', 'stratified'), ('closed', 'minibatch')])
def test_tc_vae(divergence, estimator):
  """Chen et al. 2018, equations 4, S4 and S6, of 1000 examples; Locatello et al. 2019, with the closed divergence."""
  options = {'beta': 6.0, 'estimator': estimator, 'divergence': divergence}
  metrics, _, (fits, kl, z, mean, logvar) = disentangled('tc_vae', **options)
  stratified = np.full((4, 4), 1 / 3)
  stratified[np.arange(4), np.arange(4)] = 1 / 1000
  stratified[np.arange(4), (np.arange(4) + 1) % 4] = 997 / 3000
  each = normal(z[:, None], mean[None], logvar[None])  # [B, B, Z]
  mixed = lambda logs, w: np.log((w * np.exp(logs)).sum(1))
  parts = lambda w: (mixed(each.sum(-1), w), mixed(each, w[..., None]).sum(-1))
  joint, product = parts(stratified if estimator == 'stratified' else np.full((4, 4), 1 / 4000))
  own, prior = normal(z, mean, logvar).sum(1), normal(z, 0, 0).sum(1)
  total = kl.sum(1) + 5 * (joint - product)
  if divergence == 'sampled':
    total = (own - joint) + 6 * (joint - product) + (product - prior)
  assert_same(metrics['model/total_correlation_nats'], np.subtract(*parts(stratified)).mean())
  assert_same(metrics['model/loss'], (total - fits).mean())


def test_factor_vae_and_its_judge():
  """Kim & Mnih 2018, algorithm 2."""
  metrics, play, (fits, kl, z, *_) = disentangled('factor_vae', 8, gamma=35.0)
  judge = LatentDiscriminator((16,))
  logit = lambda z: judge.apply({'params': play.state.params['discriminator']}, z)
  joint = np.asarray(once(lambda: logit(jnp.asarray(z, jnp.float32))), np.float64)
  assert_same(metrics['model/total_correlation_nats'], joint.mean())
  assert_same(metrics['model/loss'], -(fits - kl.sum(1)).mean() + 35 * joint.mean())
  for_noise, for_shuffle = jax.random.split(jax.random.fold_in(play.key, 1))

  def shuffled():
    mean, logvar = coders(play.settings, play.state)[0](play.batch['x'][1::2], method='first')
    z = mean + jnp.exp(0.5 * logvar) * standard_normal(for_noise, mean.shape)
    return logit(losses.permute_latents(for_shuffle, z))

  assert_same(metrics['discriminator/loss'], 0.5 * (softplus(-joint) + softplus(once(shuffled))).mean())


@pytest.mark.parametrize(
  ('name', 'decoder'), [('elbo', 'full'), ('annealing', 'diagonal'), ('free_bits', 'full'), ('capacity', 'diagonal')]
)
def test_collapse(name, decoder):
  """Lucas et al. 2019; Bowman et al. 2016; Kingma et al. 2016, equation 15; Burgess et al. 2018, equation 8."""
  settings = settings_of('collapse:tiny', decoder=decoder, warmup=12, floor=0.8, capacity=1.5, gamma=3.0)
  settings.system = f'collapse.{name}'
  metrics, play = played(settings)
  params, key = doubles(play('model').state.params), play('model').key
  encoder, decoder_params, x = params['encoder'], params['decoder'], flat(play('model').x)
  mean = x @ encoder['Dense_0']['kernel'] + encoder['Dense_0']['bias']
  logvar = np.broadcast_to(encoder['logvar'], mean.shape)
  z = mean + np.exp(0.5 * logvar) * np.asarray(standard_normal(key, mean.shape))
  at, spread = z @ decoder_params['mean']['kernel'] + decoder_params['mean']['bias'], np.exp(decoder_params['log_std'])
  tril = (
    np.diag(spread) if decoder == 'diagonal' else spread[:, None] * (np.tril(decoder_params['below'], -1) + np.eye(16))
  )
  white = np.linalg.solve(tril, (x - at).T).T
  fits = (-HALF - 0.5 * white**2).sum(1) - np.log(np.diag(tril)).sum()
  kl = divergence(mean, logvar)
  total = {
    'elbo': kl.sum(1), 'annealing': 3 / 12 * kl.sum(1), 'free_bits': np.maximum(kl.mean(0), 0.8).sum(),
    'capacity': 3 * abs(kl.sum(1).mean() - 1.5),
  }[name]  # fmt: skip
  assert_same(metrics['model/loss'], -(fits - total).mean())
  assert_same(metrics['model/kl_nats'], kl.sum(1).mean())


@pytest.mark.parametrize('name', ['vqvae_mnist:tiny', 'vqvae2_mnist:tiny'])
def test_vq_vae(name):
  """Van den Oord et al. 2017, equation 3: means over pixels and over features, as in the program."""
  settings = settings_of(name, (8, 8, 1), variance=0.07, commitment=0.3)
  metrics, play = played(settings)
  play, network = play('model'), vq.autoencoder(settings)
  params = dict(play.state.params['vqvae'])
  if settings.model.codebook == 'ema':
    for level, kept in play.state.extra['codebooks'].items():  # Laplace's rule, appendix A.1
      counts, sums = doubles(kept['counts']), doubles(kept['sums'])
      smoothed = (counts + 1e-5) / (counts.sum() + len(counts) * 1e-5) * counts.sum()
      params[f'codebook_{level}'] = jnp.asarray(sums / smoothed[:, None], jnp.float32)
  passed = once(lambda: network.apply({'params': params}, play.batch['x']))
  squared = ((np.asarray(passed.x) - play.x) ** 2).mean()
  loss = squared / 0.07
  names = ('top', 'bottom') if len(network.strides) == 2 else ('top',)
  for level, z, found in zip(names, passed.z, passed.codes, strict=True):
    z, book = np.asarray(z, np.float64), np.asarray(params[f'codebook_{level}'], np.float64)
    np.testing.assert_array_equal(found, ((z[..., None, :] - book) ** 2).sum(-1).argmin(-1))
    apart = ((z - book[np.asarray(found)]) ** 2).mean()
    loss += apart * (0.3 + (settings.model.codebook == 'gradient'))
    assert_same(metrics[f'model/distance_{level}'], apart)
    assert_same(metrics[f'model/usage_{level}'], len(np.unique(found)) / 8)
  assert_same(metrics['model/mse'], squared)
  assert_same(metrics['model/loss'], loss)


def test_vq_prior():
  """Razavi et al. 2019, algorithm 2: each level's codes given those above and the label, with dropout."""
  settings = settings_of('vqvae2_mnist:tiny_prior', (8, 8, 1))
  settings.model.top = settings.model.bottom.to_dict() | {'dropout': 0.5}
  metrics, play = played(settings)
  turn, network = play('top'), vq.autoencoder(settings)
  params, made = turn.state.params, code_priors.build_priors(settings, network)
  found = once(lambda: network.apply({'params': params['vqvae']}, turn.batch['x'], method='encode'))
  label = jnp.asarray(np.eye(10)[np.asarray(turn.batch['y'])], jnp.float32)

  def logits(name, own, condition):
    prior = made[name].network
    read = params[name]['embedding'][own]
    return prior.apply({'params': params[name]['network']}, read, condition, rngs={'dropout': turn.key})

  def both():
    above = made['bottom'].conditioner.apply({'params': params['bottom']['conditioner']}, [found[0]])
    told = jnp.concatenate([above, jnp.broadcast_to(label[:, None, None], (*above.shape[:3], 10))], -1)
    return logits('top', found[0], label), logits('bottom', found[1], told)

  for name, own, numbers in zip(('top', 'bottom'), found, once(both), strict=True):
    own = np.asarray(own)
    nats = -np.take_along_axis(log_softmax(numbers), own[..., None], -1).sum((1, 2, 3)).mean()
    assert_same(metrics[f'{name}/loss'], nats)
    assert_same(metrics[f'{name}/bits_per_code'], nats / math.log(2) / own[0].size)
    old, kept = turn.state.extra['ema'][name]['embedding'], turn.after.extra['ema'][name]['embedding']
    assert_same(kept, 0.9 * np.asarray(old) + 0.1 * np.asarray(params[name]['embedding']))


@pytest.mark.parametrize('name', ['resnet', 'revnet', 'irevnet'])
def test_reversible_classifiers(name):
  """Cross-entropy and half the squares of kernels, or of all (i-RevNet's program); images are moved and mirrored."""
  stem = 'irevnet_cifar10:tiny' if name == 'irevnet' else 'revnet_cifar10:tiny'
  settings = settings_of(stem, (4, 4, 1), l2=0.01, flip='horizontal', reach=1)
  settings.system = f'classifier.{name}'
  if name == 'resnet':
    del settings.model.network['memory']
  metrics, play = played(settings)
  play, made = play('model'), classifier.build_parts(settings, getattr(classifier.networks, name))
  place, side = jax.random.split(play.key)
  corners = np.asarray(jax.random.randint(place, (4, 2), 0, 3))
  padded = np.pad(play.x - np.asarray(play.state.extra['mean'])[None], [(0, 0), (1, 1), (1, 1), (0, 0)])
  x = np.stack([image[i : i + 4, j : j + 4] for image, (i, j) in zip(padded, corners, strict=True)])
  mirrored = np.asarray(jax.random.bernoulli(side, shape=(4, 1, 1, 1)))
  x, params = jnp.asarray(np.where(mirrored, x[:, :, ::-1], x)), play.state.params['classifier']
  y, _ = once(lambda: classifier.networks.logits(made.network, params, None, x))
  labels = np.asarray(play.batch['y'])
  nats = -log_softmax(y)[np.arange(4), labels].mean()
  decayed = [
    leaf
    for path, leaf in jax.tree_util.tree_leaves_with_path(doubles(params))
    if name == 'irevnet' or "'kernel'" in str(path[-1])
  ]
  assert_same(metrics['model/cross_entropy_nats'], nats)
  assert_same(metrics['model/error_percent'], 100 * (np.asarray(y).argmax(1) != labels).mean())
  assert_same(metrics['model/loss'], nats + 0.01 * 0.5 * sum((leaf**2).sum() for leaf in decayed))
  if name == 'revnet':  # outside training: nothing is moved, and the running statistics are used
    apart, stats = play.batch['x'] - play.state.extra['mean'][None], play.state.extra['stats']
    y = np.asarray(once(lambda: classifier.networks.logits(made.network, params, stats, apart)[0]))
    found = play.measured()
    assert_same(found['cross_entropy_nats'], -log_softmax(y)[np.arange(4), labels])
    assert_same(found['error_percent'], 100.0 * (y.argmax(1) != labels))


def test_a_classifier_trains_on_boxes_with_other_colours_and_measures_the_middle():
  settings = settings_of('revnet_imagenet:tiny', (8, 8, 3), colours=True)
  metrics, play = played(settings)
  play, made = play('model'), classifier.build_parts(settings, classifier.networks.revnet)
  assert made.crop == 6
  place, side = jax.random.split(play.key)
  boxes = augmentations.resized_crop(place, jnp.asarray(play.x, jnp.float32), 6)
  x = np.asarray(augmentations.colours(jax.random.fold_in(side, 1), boxes))
  mean = np.asarray(play.state.extra['mean'])
  assert mean.shape == (1, 1, 3)
  mirrored = np.asarray(jax.random.bernoulli(side, shape=(4, 1, 1, 1)))
  x = jnp.asarray(np.where(mirrored, x[:, :, ::-1], x) - mean[None])
  params, stats, labels = play.state.params['classifier'], play.state.extra['stats'], np.asarray(play.batch['y'])
  y, _ = once(lambda: classifier.networks.logits(made.network, params, None, x))
  assert_same(metrics['model/cross_entropy_nats'], -log_softmax(y)[np.arange(4), labels].mean())
  middle = jnp.asarray(play.x[:, 1:7, 1:7] - mean[None], jnp.float32)
  y = np.asarray(once(lambda: classifier.networks.logits(made.network, params, stats, middle)[0]))
  assert_same(play.measured()['cross_entropy_nats'], -log_softmax(y)[np.arange(4), labels])


@pytest.mark.parametrize(
  ('shape', 'changes', 'said'),
  [
    ((8, 8, 3), {'crop': 9}, r'config.model.crop must be in \[0, 8\], the side of the data, got 9'),
    ((8, 8, 3), {'crop': -1}, 'got -1'),
    ((8, 8, 1), {'colours': True}, 'config.model.colours=True needs images of 3 channels, got 1'),
  ],
)
def test_boxes_and_colours_that_cannot_be_are_refused(shape, changes, said):
  with pytest.raises(UserError, match=said):
    systems.build(settings_of('revnet_imagenet:tiny', shape, **changes))


def test_classifier():
  settings = settings_of('classifier_mnist:tiny')
  metrics, play = played(settings)
  play = play('model')
  network = classifier.Classifier(**settings.model.network.to_dict())
  apply = lambda: network.apply(
    {'params': play.state.params['classifier']}, play.batch['x'], rngs={'dropout': play.key}
  )
  assert_same(metrics['model/loss'], -log_softmax(once(apply)[0])[np.arange(4), np.asarray(play.batch['y'])].mean())
