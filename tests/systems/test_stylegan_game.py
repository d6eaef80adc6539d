"""The game of StyleGAN: each player's loss is the paper's formula, nobody moves another's numbers, and images grow."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from playing import KEY, batch_of, begun, played, settings_of, softplus

from dgm_jax import systems
from dgm_jax.errors import UserError
from dgm_jax.nn.style import double, halve
from dgm_jax.runs import checkpoint, graft
from dgm_jax.systems.parts import games, style
from dgm_jax.systems.parts.objectives import choose_objective, critic_loss, generator_loss, regularisers

SHAPE = (8, 8, 1)
FADE = 3 * 16 / 100  # of the third step of 16 images in 100


def settings(variant='tiny', shape=SHAPE, **changes):
  return settings_of(f'stylegan_mnist:{variant}', shape, **changes)


def judge_of(config, state):
  """(key, x) -> values of the real and of the generated examples, and the slopes at the real ones."""
  networks = {name: network.clone(fade=jnp.float32(FADE)) for name, network in games.build(config).networks.items()}

  def apply(name, x, key):
    variables = {'params': state.params[name]}
    return networks[name].apply(variables, x, rngs={'dropout': key}, mutable=['batch_stats'])[0]

  def both(key, x):
    for_z, for_fake, for_real, last = jax.random.split(key, 4)
    real = double(halve(x)) + (x - double(halve(x))) * FADE
    fake = apply('generator', jax.random.normal(for_z, (len(x), 4)), for_fake)
    value = lambda x: apply('critic', x, for_real)[0]
    return value(real), apply('critic', fake, last)[0], jax.grad(lambda x: value(x).sum())(real)

  both = jax.jit(both)
  return lambda key, x: (np.asarray(array, np.float64) for array in both(key, x))


def test_losses_are_the_logistic_ones_with_a_lazy_penalty():
  """Goodfellow et al. 2014; Mescheder et al. 2018, equation 9, as in NVlabs/stylegan, D_logistic_simplegp."""
  config = settings()
  config.model.critic.regularisers = {'r1': 3.0, 'drift': 0.5}
  metrics, _ = played(config, 8)
  _, state, batch = begun(config, 8)
  judged, of_critic, of_generator = judge_of(config, state), [], []
  for turn, key in enumerate(jax.random.split(KEY, 2)):
    x = batch['x'][turn::2]
    real, fake, slope = judged(jax.random.fold_in(key, 0), x)
    penalty = 3.0 * 0.5 * (slope**2).sum((1, 2, 3)).mean() + 0.5 * (real**2).mean()
    of_critic.append((softplus(-real) + softplus(fake)).mean() + (0 if turn else 2 * penalty))
    if not turn:
      np.testing.assert_allclose(metrics['discriminator/penalty'], 2 * penalty, rtol=1e-4)
    _, fake, _ = judged(jax.random.fold_in(key, 1), x)
    of_generator.append(softplus(-fake).mean())
  np.testing.assert_allclose(metrics['discriminator/loss'], np.mean(of_critic), rtol=1e-4)
  np.testing.assert_allclose(metrics['generator/loss'], np.mean(of_generator), rtol=1e-4)


def test_a_move_brings_nothing_of_the_other_player():
  config = settings()
  growing, objective = style.build(config), choose_objective(config.model)
  state = jax.eval_shape(systems.build(config).init, KEY, batch_of(config, 8))
  make = {
    'critic': lambda game: critic_loss(game, objective, regularisers(config.model)),
    'generator': lambda game: generator_loss(game, objective, []),
  }
  for name, loss in make.items():
    _, (extra, _) = jax.eval_shape(style.late(growing, loss), KEY, state, batch_of(config, 8))
    assert set(extra) == {f'{name}_statistics'}


def test_real_images_fade_in_and_are_mirrored():
  config = settings(mirror=True)
  growing = style.build(config)
  _, state, batch = begun(config, 64)
  x = batch['x']
  at = lambda step: np.asarray(style.shown(growing, state.replace(step=jnp.int32(step)), x))
  np.testing.assert_allclose(at(0), double(halve(x)), atol=1e-6)
  np.testing.assert_allclose(at(7), x, atol=1e-6)  # 7 x 16 images are more than 100
  seen = np.asarray(style.trained_on(growing, KEY, state.replace(step=jnp.int32(7)), batch)['x'])
  mirrored = np.abs(seen - x).max((1, 2, 3)) > 1e-5
  assert 16 < mirrored.sum() < 48
  np.testing.assert_allclose(seen[mirrored], x[mirrored][:, :, ::-1], atol=1e-6)
  np.testing.assert_array_equal(style.shown(style.build(settings(fade=0)), state, x), x)


def test_the_average_halves_in_the_images_that_are_given():
  config = settings(half_life=10_000, lazy=4)
  for minibatch, decay in ((32, 0.997784), (64, 0.995574), (128, 0.991167), (256, 0.982412)):
    config.batch_size = 4 * minibatch
    np.testing.assert_allclose(style.decay(config), decay, atol=5e-7)
  assert style.decay(settings(half_life=0)) == 0


@pytest.mark.parametrize(
  ('shape', 'changes', 'message'),
  [
    ((12, 12, 1), {}, r'gan\.stylegan takes square images of 4, 8, 16, \.\.\. pixels a side, .* \(12, 12, 1\)'),
    ((8, 4, 1), {}, 'takes square images'),
    ((4, 4, 1), {}, r'config\.model\.fade=100 needs images of 8 x 8 or more: set it to 0'),
    (SHAPE, {'lazy': 3}, r'config\.batch_size=16 must be a multiple of 12, 3 turns x groups of 4 .*batch_size=12'),
    (SHAPE, {'prior': 'uniform'}, r"config\.model\.prior='uniform' must be normal"),
    (SHAPE, {'half_life': -1}, r'config\.model\.half_life counts images'),
    (SHAPE, {'fade': -1}, r'config\.model\.fade counts images'),
    (SHAPE, {'latents': 5, 'generator.layers': 0}, r'layers=0 maps nothing: config\.model\.latents=5 must be'),
    (SHAPE, {'generator.mixing': 1.5}, r'generator\.mixing must be in \[0, 1\], got 1\.5'),
    (SHAPE, {'generator.constant': 'zeros'}, r'config\.model\.generator\.constant must be one of ones, normal'),
    (SHAPE, {'generator.network': 'dcgan'}, r'config\.model\.generator\.network must be one of style, traditional'),
  ],
)  # fmt: skip
def test_mistakes_are_one_line(shape, changes, message):
  config = settings(shape=shape)
  config.model.update_from_flattened_dict(changes)
  with pytest.raises(UserError, match=message):
    systems.build(config)


def test_other_pixels_and_groups_of_devices_are_refused():
  config = settings()
  config.data.preprocess = 'scale'
  with pytest.raises(UserError, match='must be scale_symmetric'):
    systems.build(config)
  config = settings()
  config.parallel = 'pmap'
  with pytest.raises(UserError, match=r'must be a multiple of 64, 2 turns x 8 devices x groups of 4'):
    systems.build(config)


def test_images_have_a_slope_outside_the_range_and_samples_are_within_it():
  """As the released program measures lengths of paths on images before they are clipped."""
  system = systems.build(settings())
  state = jax.jit(system.init)(KEY, batch_of(settings(), 4))
  state = state.replace(params=jax.tree.map(lambda x: 40.0 * x, state.params))

  def images(key):
    w = system.views.map_latents(key, state, jax.random.normal(key, (4, 4)))
    x = system.views.synthesize(key, state, w[:, None], jnp.zeros(4, jnp.int32), jnp.zeros(()))
    return x, system.sample(key, state, 4)

  x, drawn = jax.jit(images)(KEY)
  assert np.abs(x).max() > 1 >= np.abs(drawn).max()


def test_a_generator_of_a_larger_size_begins_where_the_smaller_one_ended(tmp_path):
  small, large = systems.build(settings(shape=(4, 4, 1), fade=0)), systems.build(settings())
  batch = batch_of(settings(), 4)
  half = batch | {'x': halve(batch['x'])}
  before = jax.jit(small.init)(KEY, half)
  moved = jax.tree.map(lambda x: x + 0.125, before.extra['ema']['generator'])
  before = before.replace(extra=before.extra | {'ema': {'generator': moved}})
  with checkpoint.saving(tmp_path, 1, '') as manager:
    checkpoint.save(manager, before, {}, {})
  fresh = jax.jit(large.init)(jax.random.key(1), batch)
  after = graft.graft(fresh, dict.fromkeys(('generator', 'critic'), str(tmp_path)), fresh=True)
  assert set(after.params['critic']) - set(before.params['critic']) == {'layers_8', 'from_rgb_8'}
  chex.assert_trees_all_equal(after.extra['ema_statistics'], before.extra['ema_statistics'])
  chex.assert_trees_all_equal(after.extra['critic_statistics'], before.extra['critic_statistics'])

  def images(system, state):
    z = jax.random.normal(KEY, (4, 4))
    w = system.views.map_latents(KEY, state, z)
    styles = system.views.styles(KEY, state, w, jnp.full(4, 0.5))
    x = system.views.synthesize(KEY, state, styles, jnp.zeros(4, jnp.int32), jnp.zeros(()))
    return x, system.views.critic(KEY, state, batch['x'] if system is large else half['x'])

  (grown, critic), (old, old_critic) = jax.jit(lambda: (images(large, after), images(small, before)))()
  np.testing.assert_allclose(grown, double(old), rtol=1e-5, atol=1e-5)
  np.testing.assert_allclose(critic, old_critic, rtol=1e-5, atol=1e-5)
