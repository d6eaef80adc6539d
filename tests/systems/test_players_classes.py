"""Each player's loss in a game with labels is the paper's formula of what the networks give."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from playing import log_softmax, once, played, settings_of, softplus

from dgm_jax.nn.norm import running, spectral
from dgm_jax.systems.parts import games


def assert_same(value, formula):
  np.testing.assert_allclose(value, formula, rtol=2e-5, atol=1e-6)


def judged(play, game, of_batch):
  """(z, labels) of generated examples, and what the critic says of real and of generated ones."""
  state, batch = play.state, play.batch
  keys = jax.random.split(play.key, 4)
  labels = jax.random.permutation(jax.random.fold_in(keys[0], 1), batch['y'])
  inputs = games.latents(game, keys[0], len(play.x))
  if game.classes:
    inputs = inputs[0], (labels if of_batch else inputs[1])

  def bounded(name):
    at = state.extra.get(f'{name}_spectral')
    return state.params[name] if at is None else spectral(state.params[name], at, 1.0)[0]

  def both():
    told = inputs if game.classes else (inputs,)
    fake = game.networks['generator'].apply({'params': bounded('generator')}, *told, mutable=['batch_stats'])[0]
    variables = {'params': bounded('critic')}
    if 'critic_codebook' in state.extra:
      variables['codebook'] = state.extra['critic_codebook']
    say = lambda x, y: game.networks['critic'].apply(
      variables, x, *([y] if game.classes else []), mutable=['commitment', 'codebook']
    )
    return say(batch['x'], batch['y']), say(fake, told[-1])

  (real, of_real), (fake, of_fake) = once(both)
  return inputs, real, fake, (of_real, of_fake)


def cross_entropy(logits, labels):
  return -log_softmax(logits)[np.arange(len(labels)), np.asarray(labels)].mean()


def hinges(logits, labels, clamp):
  logits = np.asarray(logits, np.float64)
  apart = 1 - logits[np.arange(len(labels)), np.asarray(labels)][:, None] + logits
  return (np.maximum(apart, 0) if clamp else apart).mean()


LOSSES = {
  'cross_entropy': (cross_entropy, cross_entropy),
  'multi_hinge': (lambda *a: hinges(*a, True), lambda *a: hinges(*a, False)),
}
HINGE = (lambda a, b: np.maximum(0, 1 - a) + np.maximum(0, 1 + b), lambda b: -b)
LOGISTIC = (lambda a, b: softplus(-a) + softplus(b), lambda b: softplus(-b))
HEADS = {'gan.sngan': 'none', 'gan.biggan': 'projection', 'gan.acgan': 'auxiliary', 'gan.tac_gan': 'twin'}


def game_of(settings):
  head = HEADS[settings.system]
  return games.build(settings, **({'head': head, 'classes': settings.model.classes} if head != 'none' else {}))


@pytest.mark.parametrize(
  ('system', 'objective', 'class_loss'),
  [
    ('gan.sngan', 'hinge', 'cross_entropy'), ('gan.biggan', 'nonsaturating', 'cross_entropy'),
    ('gan.acgan', 'nonsaturating', 'multi_hinge'), ('gan.tac_gan', 'hinge', 'cross_entropy'),
  ],
)  # fmt: skip
def test_games_with_labels(system, objective, class_loss):
  """Miyato et al. 2018, equations 16 and 17; Odena et al. 2017, equations 2 and 3; Gong et al. 2019, equation 6."""
  options = {'objective': objective, 'class_loss': class_loss, 'class_weight': 0.7, 'critic_steps': 1}
  settings = settings_of('class_mixture:tiny', **options)
  settings.system, settings.conditional = system, system != 'gan.sngan'
  settings.model.critic.constraints = {'spectral': 1.0}
  metrics, play = played(settings, 6)
  game, classified = game_of(settings), HEADS[system] in ('auxiliary', 'twin')
  of_values, told = HINGE if objective == 'hinge' else LOGISTIC
  learn, tell = LOSSES[class_loss]

  turn = play('discriminator')
  (_, *labels), real, fake, _ = judged(turn, game, classified)
  values = [np.asarray(said.value, np.float64) for said in (real, fake)]
  loss = of_values(*values).mean()
  if classified:
    terms = learn(real.logits, turn.batch['y']) + (learn(fake.twin, labels[0]) if system == 'gan.tac_gan' else 0)
    assert_same(metrics['discriminator/classes'], terms)
    right = np.asarray(real.logits).argmax(1) == np.asarray(turn.batch['y'])
    assert_same(metrics['discriminator/class_accuracy'], right.mean())
    assert sorted(np.asarray(labels[0])) == sorted(np.asarray(turn.batch['y']))
    loss += 0.7 * terms
  assert_same(metrics['discriminator/loss'], loss)

  turn = play('generator')
  # The generator meets the critic's new directions, which its own move leaves as they are.
  moved = turn._replace(state=turn.state.replace(extra=turn.after.extra))
  (_, *labels), _, fake, _ = judged(moved, game, classified)
  loss = told(np.asarray(fake.value, np.float64)).mean()
  if classified:
    terms = tell(fake.logits, labels[0]) - (tell(fake.twin, labels[0]) if system == 'gan.tac_gan' else 0)
    loss += 0.7 * terms
  assert_same(metrics['generator/loss'], loss)
  new = spectral(turn.state.params['critic'], turn.state.extra['critic_spectral'], 1.0)[1]
  jax.tree.map(assert_same, turn.after.extra['critic_spectral'], new)


def test_quantized_features_orthogonal_weights_and_all_that_moves():
  """Zhao et al. 2020, equations 8 and 9; Brock et al. 2019, equation 3; the rest moves as in the programs."""
  settings = settings_of('biggan_cifar10:tiny_fq', (8, 8, 1), critic_steps=1)
  settings.model.quantize.update({'feed': False, 'both': True})
  settings.model.generator.regularisers = {'orthogonal': 0.3}
  metrics, play = played(settings, 6)
  game, turn = game_of(settings), play('discriminator')
  _, real, fake, seen = judged(turn, game, False)
  paid = sum(np.asarray(leaf, np.float64).mean() for of in seen for leaf in jax.tree.leaves(of['commitment']))
  assert_same(metrics['discriminator/commitment'], paid)
  values = [np.asarray(said.value, np.float64) for said in (real, fake)]
  assert_same(metrics['discriminator/loss'], HINGE[0](*values).mean() + paid)

  books = jax.tree.map(jnp.add, *(of['codebook'] for of in seen))  # one pass over both
  first = running(turn.state.extra['critic_codebook'], books, 0.8)
  directions = {
    name: spectral(turn.state.params[name], turn.state.extra[f'{name}_spectral'], 1.0)[1]
    for name in ('generator', 'critic')
  }
  extra = turn.state.extra | {'critic_codebook': first}
  extra |= {f'{name}_spectral': tree for name, tree in directions.items()}
  turn = play('generator')
  _, _, fake, (_, seen) = judged(turn._replace(state=turn.state.replace(extra=extra)), game, False)
  weights = turn.state.params['generator']
  kernels = [
    leaf for name, part in weights.items() if name != 'shared' for leaf in jax.tree.leaves(part) if leaf.ndim > 1
  ]
  grams = [np.asarray(k, np.float64).reshape(-1, k.shape[-1]) for k in kernels]
  grams = [k.T @ k for k in grams]
  penalty = 0.3 * sum(((gram - np.diag(np.diag(gram))) ** 2).sum() for gram in grams)
  paid = sum(np.asarray(leaf, np.float64).mean() for leaf in jax.tree.leaves(seen['commitment']))
  assert_same(metrics['generator/penalty'], penalty)
  assert_same(metrics['generator/loss'], -np.asarray(fake.value, np.float64).mean() + penalty + paid)
  after = turn.after.extra
  jax.tree.map(assert_same, after['critic_codebook'], running(first, seen['codebook'], 0.8))
  for name, tree in directions.items():
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), after[f'{name}_spectral'],
      spectral(turn.state.params[name], tree, 1.0)[1],
    )  # fmt: skip
