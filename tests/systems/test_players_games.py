"""Each player's loss in a game is the paper's formula of what the networks give."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from playing import HALF, KEY, begun, log_softmax, once, played, settings_of, softplus

from dgm_jax import systems
from dgm_jax.systems import gan, semi_supervised
from dgm_jax.systems.parts import games


def assert_same(value, formula):
  np.testing.assert_allclose(value, formula, rtol=2e-5, atol=1e-6)


def seen(module, params, x, key):
  """A network in training."""
  return module.apply({'params': params}, x, rngs={'dropout': key}, mutable=['batch_stats'])[0]


def judged(play, keys, z):
  """(value, features) of the real and of the generated examples."""
  game, params = games.build(play.settings), play.state.params

  def both():
    fake = generated(play, game, z, keys[0])
    return [
      seen(game.networks['critic'], params['critic'], x, key)
      for x, key in ((play.batch['x'], keys[1]), (fake, keys[2]))
    ]

  return once(both)


def generated(play, game, z, key):
  reference = play.state.extra.get('reference')
  z = z if reference is None else jnp.concatenate([reference, z])
  return seen(game.networks['generator'], play.state.params['generator'], z, key)[game.references :]


def latents(play, n=None):
  return games.build(play.settings).prior(jax.random.split(play.key, 4)[0], n or len(play.x))


def discriminator(play):
  """Goodfellow et al. 2014, equation 1; the real label of Salimans et al. 2016, section 3.4."""
  (real, _), (fake, _) = judged(play, jax.random.split(play.key, 4)[1:], latents(play))
  label = play.settings.model.real_label
  return (label * softplus(-real) + (1 - label) * softplus(real) + softplus(fake)).mean()


def generator(play):
  """Goodfellow et al. 2014, section 3 and equation 1; feature matching of Salimans et al. 2016, section 3.1."""
  (_, real), (value, fake) = judged(play, jax.random.split(play.key, 4)[1:], latents(play))
  if play.settings.model.objective == 'nonsaturating':
    return softplus(-value).mean()
  if play.settings.model.objective == 'minimax':
    return -softplus(value).mean()
  apart = np.asarray(real, np.float64).mean(0) - np.asarray(fake, np.float64).mean(0)
  return (apart**2).sum() / apart.size  # the program's mean over features


def test_gan_and_its_generators_losses():
  for loss in ('nonsaturating', 'minimax', 'feature_matching'):
    metrics, play = played(settings_of('gan_mnist:tiny', objective=loss))
    assert_same(metrics['generator/loss'], generator(play('generator')))
    if loss == 'minimax':
      assert_same(metrics['discriminator/loss'], discriminator(play('discriminator')))
      (real, _), (fake, _) = judged(play('discriminator'), jax.random.split(play('discriminator').key, 4)[1:],
                                    latents(play('discriminator')))  # fmt: skip
      assert_same(metrics['discriminator/real_accuracy'], (np.asarray(real) > 0).mean())
      assert_same(metrics['discriminator/fake_accuracy'], (np.asarray(fake) < 0).mean())


@pytest.mark.parametrize('objective', ['least_squares', 'hinge', 'wasserstein'])
def test_objectives_by_name(objective):
  """Mao et al. 2017, equation 9; Miyato et al. 2018, equations 16 and 17; Arjovsky et al. 2017, algorithm 1."""
  metrics, play = played(settings_of('dcgan_mnist:tiny_without_dense', objective=objective))
  turn, (_, *keys) = play('discriminator'), jax.random.split(play('discriminator').key, 4)
  real, fake = (np.asarray(value, np.float64) for value, _ in judged(turn, keys, latents(turn)))
  of_critic, _ = FORMULAS[objective](real, fake)
  assert_same(metrics['discriminator/loss'], of_critic.mean())
  if objective == 'wasserstein':
    assert_same(metrics['discriminator/distance'], real.mean() - fake.mean())
  else:
    middle = {'least_squares': 0.5, 'hinge': 0}[objective]
    assert_same(metrics['discriminator/real_accuracy'], (real > middle).mean())
    assert_same(metrics['discriminator/fake_accuracy'], (fake < middle).mean())
  assert ('discriminator/distance' in metrics) == (objective == 'wasserstein')
  turn, (_, *keys) = play('generator'), jax.random.split(play('generator').key, 4)
  fake = np.asarray(judged(turn, keys, latents(turn))[1][0], np.float64)
  assert_same(metrics['generator/loss'], FORMULAS[objective](fake, fake)[1].mean())


# (values of real, of generated examples) -> what critic and generator minimise
FORMULAS = {
  'least_squares': lambda real, fake: (((real - 1) ** 2 + fake**2) / 2, (fake - 1) ** 2 / 2),
  'hinge': lambda real, fake: (np.maximum(0, 1 - real) + np.maximum(0, 1 + fake), -fake),
  'wasserstein': lambda real, fake: (fake - real, -fake),
}


def test_regularisers_by_name_add_up():
  """Mescheder et al. 2018, equation 9; Gulrajani et al. 2017, equation 3; Brock et al. 2019, equation 3."""
  settings = settings_of('dcgan_mnist:tiny_without_dense', objective='hinge')
  settings.model.critic.update({'norm': 'none', 'regularisers': {'r1': 3.0, 'orthogonal': 0.2, 'gradient_penalty': 2}})
  metrics, play = played(settings)
  turn, (_, *keys) = play('discriminator'), jax.random.split(play('discriminator').key, 4)
  game, critic = games.build(settings), turn.state.params['critic']
  value = lambda x: seen(game.networks['critic'], critic, x, keys[1])[0]
  slope = jax.grad(lambda x: value(x).sum())

  def outputs():
    fake = generated(turn, game, latents(turn), keys[0])
    e = jax.random.uniform(keys[2], (len(turn.x), 1, 1, 1))
    real = turn.batch['x']
    return value(real), value(fake), slope(real), slope(e * real + (1 - e) * fake)

  real, fake, at_real, between = (np.asarray(leaf, np.float64) for leaf in once(outputs))
  square = lambda leaf: (leaf.reshape(len(leaf), -1) ** 2).sum(1)
  r1, penalty = 0.5 * square(at_real).mean(), ((np.sqrt(square(between)) - 1) ** 2).mean()
  kernels = [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(critic) if leaf.ndim > 1]
  products = [leaf.reshape(-1, leaf.shape[-1]).T @ leaf.reshape(-1, leaf.shape[-1]) for leaf in kernels]
  orthogonal = sum(((product - np.diag(np.diag(product))) ** 2).sum() for product in products)
  total = 3 * r1 + 0.2 * orthogonal + 2 * penalty
  assert min(3 * r1, 0.2 * orthogonal, 2 * penalty) > 1e-3  # none is lost in the sum
  assert_same(metrics['discriminator/penalty'], total)
  assert_same(metrics['discriminator/loss'], FORMULAS['hinge'](real, fake)[0].mean() + total)


def test_a_lazy_penalty_is_in_the_first_of_its_turns_as_many_times():
  settings = settings_of('dcgan_mnist:tiny_without_dense', objective='hinge', lazy=2)
  settings.model.critic.update({'norm': 'none', 'regularisers': {'r1': 3.0}})
  metrics, _ = played(settings, 8)
  _, state, batch = begun(settings, 8)
  game, critic = games.build(settings), state.params['critic']
  total = lambda x: seen(game.networks['critic'], critic, x, KEY)[0].sum()
  slope = np.asarray(once(lambda: jax.grad(total)(batch['x'][::2])), np.float64)
  assert_same(metrics['discriminator/penalty'], 2 * 3 * 0.5 * (slope**2).sum() / 4)  # of the first half of the batch


def test_dcgan():
  metrics, play = played(settings_of('dcgan_mnist:tiny_without_dense'))
  assert_same(metrics['discriminator/loss'], discriminator(play('discriminator')))
  assert_same(metrics['generator/loss'], generator(play('generator')))


def test_improved_gan_is_held_to_its_mean_over_time():
  metrics, play = played(settings_of('gan_mnist:tiny_improved', historical=0.3, objective='feature_matching'))
  for name, network, formula in (('discriminator', 'critic', discriminator), ('generator', 'generator', generator)):
    state = play(name).state
    squares = jax.tree.map(
      lambda a, b: ((np.asarray(a) - np.asarray(b)) ** 2).sum(), state.params[network], state.extra['history'][network]
    )
    assert_same(metrics[f'{name}/loss'], formula(play(name)) + 0.3 * sum(jax.tree.leaves(squares)))


def wasserstein(play):
  """Generated examples as the critic sees them, and its values."""
  game, (_, for_fake, for_critic, _) = games.build(play.settings), jax.random.split(play.key, 4)
  fake = generated(play, game, latents(play), for_fake)
  judge = lambda x: seen(game.networks['critic'], play.state.params['critic'], x, for_critic)[0]
  return fake, judge


@pytest.mark.parametrize('name', ['gan_points:tiny_wgan', 'wgan_gp_25gaussians:tiny'])
def test_wasserstein_games(name):
  """Arjovsky et al. 2017, algorithm 1; Gulrajani et al. 2017, equation 3."""
  settings = settings_of(name, critic_steps=1, ratio=2)
  metrics, play = played(settings)
  turn, game = play('critic'), games.build(settings)

  def outputs():
    fake, judge = wasserstein(turn)
    e = jax.random.uniform(jax.random.split(turn.key, 4)[3], (len(turn.x), 1, 1, 1))
    slope = jax.grad(lambda x: judge(x).sum())(e * turn.batch['x'] + (1 - e) * fake)
    return judge(turn.batch['x']), judge(fake), slope

  real, fake, slope = map(np.asarray, once(outputs))
  assert_same(metrics['critic/distance'], real.mean() - fake.mean())
  penalty = (np.sqrt((slope.reshape(4, -1) ** 2).sum(1)) - 1) ** 2 if 'gp' in name else np.zeros(4)
  if 'gp' in name:
    assert_same(metrics['critic/penalty'], settings.model.penalty * penalty.mean())
  assert ('critic/penalty' in metrics) == ('gp' in name)
  assert_same(metrics['critic/loss'], fake.mean() - real.mean() + settings.model.penalty * penalty.mean())
  turn, bound = play('generator'), np.inf if 'gp' in name else settings.model.clip
  # The critic's weights are clipped after its move, and before the generator's.
  critic = jax.tree.map(lambda leaf: np.clip(leaf, -bound, bound), turn.state.params['critic'])
  for_z, for_fake, for_critic = jax.random.split(turn.key, 3)
  z = game.prior(for_z, 2 * len(turn.x))
  value = once(lambda: seen(game.networks['critic'], critic, generated(turn, game, z, for_fake), for_critic)[0])
  assert_same(metrics['generator/loss'], -np.asarray(value).mean())


def information(play, z, features, key):
  """Chen et al. 2016, equation 5 and appendix C: a class of ten, codes uniform on (-1, 1), deviations of one."""
  model = play.settings.model
  norm = games.normalisation('', 'batch', model)
  recognizer = gan.Recognizer(model.classes, model.continuous, **model.recognizer.to_dict(), norm=norm, dtype='float32')
  logits, mean = once(lambda: seen(recognizer, play.state.params['recognizer'], features, key))
  code, rest = np.asarray(z)[:, model.latents : -model.continuous], np.asarray(z)[:, -model.continuous :]
  categorical = (code * log_softmax(logits)).sum(1) + math.log(model.classes)
  gaussian = (-HALF - 0.5 * (rest - np.asarray(mean)) ** 2).sum(1) + model.continuous * math.log(2)
  return categorical.mean(), gaussian.mean()


def test_infogan_both_players_raise_the_information():
  metrics, play = played(settings_of('infogan_mnist:tiny', weight=0.7, gaussian_weight=0.3))
  turn = play('discriminator')
  for_z, *keys = jax.random.split(turn.key, 5)
  z = gan._sample_latents(turn.settings.model, for_z, len(turn.x))
  assert z.shape == (4, 4 + 10 + 2)
  np.testing.assert_array_equal(np.sort(np.asarray(z[:, 4:14]), 1), np.eye(10)[[9] * 4])
  (real, _), (fake, features) = judged(turn, keys, z)
  categorical, gaussian = information(turn, z, features, keys[3])
  assert_same(metrics['discriminator/categorical_information_nats'], categorical)
  assert_same(metrics['discriminator/gaussian_information_nats'], gaussian)
  value = (softplus(-np.asarray(real)) + softplus(np.asarray(fake))).mean()
  assert_same(metrics['discriminator/loss'], value - 0.7 * categorical - 0.3 * gaussian)
  turn = play('generator')
  for_z, *keys = jax.random.split(turn.key, 4)
  z, game = gan._sample_latents(turn.settings.model, for_z, len(turn.x)), games.build(turn.settings)
  critic = turn.state.params['critic']
  fake, features = once(lambda: seen(game.networks['critic'], critic, generated(turn, game, z, keys[0]), keys[1]))
  categorical, gaussian = information(turn, z, features, keys[2])
  assert_same(metrics['generator/loss'], softplus(-np.asarray(fake)).mean() - 0.7 * categorical - 0.3 * gaussian)


def test_infogan_without_classes_raises_the_information_of_continuous_codes_alone():
  metrics, play = played(settings_of('infogan_faces:tiny', weight=0.7, gaussian_weight=0.3))
  turn = play('generator')
  for_z, *keys = jax.random.split(turn.key, 4)
  z, game = gan._sample_latents(turn.settings.model, for_z, len(turn.x)), games.build(turn.settings)
  assert z.shape == (4, 4 + 5) and np.abs(z).max() <= 1
  critic = turn.state.params['critic']
  fake, features = once(lambda: seen(game.networks['critic'], critic, generated(turn, game, z, keys[0]), keys[1]))
  recognizer = gan._coded_game(turn.settings).networks['recognizer']
  codes = once(lambda: seen(recognizer, turn.state.params['recognizer'], jnp.asarray(features), keys[2]))[1]
  gaussian = 5 * math.log(2) - (HALF + 0.5 * np.square(np.asarray(z[:, 4:]) - np.asarray(codes))).sum(1).mean()
  assert metrics['discriminator/categorical_information_nats'] == 0
  assert_same(metrics['generator/loss'], softplus(-np.asarray(fake)).mean() - 0.3 * gaussian)
  views = systems.build(turn.settings).views
  assert views.continuous_sweeps and not views.class_sweeps and not views.cluster


def test_semi_supervised_classes_and_features():
  """Salimans et al. 2016, section 5; half of the adversarial part and the mean over features as in the program."""
  metrics, play = played(settings_of('improved_gan_mnist:tiny', labels=10), 8)
  turn = play('discriminator')
  state, settings = turn.state, turn.settings
  critic = semi_supervised.NoisyClassifier(tuple(settings.model.critic_hidden), 10)
  generator = semi_supervised.SoftplusGenerator(tuple(settings.model.generator_hidden), settings.data.shape)

  def judge(x, key):
    variables = {'params': state.params['critic'], 'constants': state.extra['critic_constants']}
    return critic.apply(variables, x, rngs={'noise': key})

  def generate(key):
    z = jax.random.uniform(key, (4, settings.model.latents))
    return generator.apply({'params': state.params['generator']}, z, mutable=['batch_stats'])[0]

  for_z, for_choice, *noise = jax.random.split(turn.key, 5)
  known, x = state.extra['labelled'], turn.batch['x']
  chosen = semi_supervised.shuffle(for_choice, 10, 4)
  shown = lambda: (known['x'][chosen], x[::2], generate(for_z))
  right, real, made = once(lambda: [judge(images, key)[0] for images, key in zip(shown(), noise, strict=True)])
  supervised = -log_softmax(right)[np.arange(4), np.asarray(known['y'])[chosen]].mean()
  odds = lambda logits: np.log(np.exp(np.asarray(logits, np.float64)).sum(1))
  unsupervised = 0.5 * (softplus(-odds(real)) + softplus(odds(made))).mean()
  assert_same(metrics['discriminator/labelled_nats'], supervised)
  assert_same(metrics['discriminator/unlabelled_nats'], unsupervised)
  assert_same(metrics['discriminator/loss'], supervised + unsupervised)
  for_z, *noise = jax.random.split(play('generator').key, 3)
  shown = lambda: (x[1::2], generate(for_z))
  features = once(lambda: [judge(images, key)[1] for images, key in zip(shown(), noise, strict=True)])
  real, made = map(np.asarray, features)
  assert_same(metrics['generator/loss'], ((real.mean(0) - made.mean(0)) ** 2).mean())
