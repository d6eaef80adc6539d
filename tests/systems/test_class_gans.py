"""Games with labels: who moves what, which labels are drawn, settled statistics, truncation, and what is refused."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from playing import KEY, begun, settings_of

from dgm_jax import core, systems
from dgm_jax.errors import UserError
from dgm_jax.evals import standing
from dgm_jax.runs.subject import Subject
from dgm_jax.systems.parts import class_views, games
from dgm_jax.systems.parts.objectives import choose_objective, critic_loss, generator_loss


def built(name='biggan_cifar10:tiny_fq', **model):
  settings = settings_of(name, (8, 8, 1), **model)
  game = games.build(settings, head='projection', classes=10)
  system = systems.build(settings)
  batch = {'x': jnp.zeros((4, 8, 8, 1)), 'y': jnp.arange(4)}
  return settings, game, system, jax.eval_shape(system.init, KEY, batch), batch


@pytest.mark.parametrize(
  ('everywhere', 'both', 'by_critic', 'by_generator'),
  [
    (False, False, set(), set()),
    (True, False, {'generator_spectral'}, {'critic_spectral'}),
    (False, True, set(), {'critic_codebook'}),
  ],
)
def test_a_move_changes_what_is_beside_the_other_network_only_if_the_config_says_so(
  everywhere, both, by_critic, by_generator
):
  settings = settings_of('biggan_cifar10:tiny_fq', (8, 8, 1))
  settings.model.spectral.everywhere, settings.model.quantize.both = everywhere, both
  settings, game, _, state, batch = built(spectral=settings.model.spectral, quantize=settings.model.quantize)
  objective = choose_objective(settings.model)
  entries = lambda loss: set(jax.eval_shape(loss, KEY, state, batch)[1][0])
  assert entries(critic_loss(game, objective, [], True)) == {'critic_spectral', 'critic_codebook'} | by_critic
  assert entries(generator_loss(game, objective, [])) == {'generator_spectral', 'generator_statistics'} | by_generator


def test_separate_passes_move_the_codes_once_each():
  settings, game, _, state, batch = built()
  shapes = jax.eval_shape(critic_loss(game, choose_objective(settings.model), []), KEY, state, batch)[1][0]
  assert set(shapes) == {'critic_spectral', 'critic_codebook', 'generator_spectral'}


def test_labels_of_generated_examples():
  _, game, *_ = built()
  game = game._replace(shares=(0.5, 0.25, 0.25) + (0.0,) * 7)
  batch = {'x': jnp.zeros((6, 1)), 'y': jnp.asarray([3, 3, 7, 1, 0, 9])}
  z, y = games.latents(game, KEY, 6, batch)
  assert z.shape == (6, 6)
  assert sorted(np.asarray(y)) == [0, 1, 3, 3, 7, 9]
  drawn = np.bincount(games.latents(game, KEY, 4000)[1], minlength=10) / 4000
  np.testing.assert_allclose(drawn[:3], [0.5, 0.25, 0.25], atol=0.04)


def test_a_picture_of_very_many_classes_has_the_first_hundred():
  _, _, system, state, _ = built(classes=1000)
  shape = jax.eval_shape(lambda state: system.views.classes(KEY, state, 2), state).shape
  assert shape == (200, 8, 8, 1)


DEVIATIONS = {2: 0.879625661, 1: 0.5395600938, 0.5: 0.28388229, 0.04: 0.0230915475, np.inf: 1.0}


def test_truncated_latents_have_the_deviation_of_a_truncated_normal():
  _, game, _, state, _ = built(latents=100)
  draw = jax.jit(lambda bound: class_views.draw_inputs(game, KEY, state.replace(extra={'truncation': bound}), 2000)[0])
  for bound, deviation in DEVIATIONS.items():
    z = np.asarray(draw(jnp.float32(bound)))
    assert np.abs(z).max() <= bound
    np.testing.assert_allclose(z.std(), deviation, rtol=0.01)


def test_latents_without_a_truncation_are_finite():
  """A truncated normal with infinite bounds may be the least float: one of these 200,000 draws is."""
  _, game, _, state, _ = built(latents=100)
  state = state.replace(extra={'truncation': jnp.float32(np.inf)})
  z = class_views.draw_inputs(game, jax.random.key(7), state, 2000)[0]
  assert np.abs(z).max() <= class_views.FARTHEST


def test_samples_are_no_examples_of_their_own_statistics():
  """Settled statistics and chunks of samples have different random numbers."""

  def settle(key, state, number, truncation):
    return state.replace(extra={'seen': state.extra['seen'].at[number].set(jax.random.normal(key))})

  system = core.system(None, core.Move(None, None), None, None, settle=settle)
  config = settings_of('biggan_cifar10:tiny_fq', (8, 8, 1))
  state = core.State(jnp.int32(0), {}, {}, {'seen': jnp.zeros(config.model.standing)})
  subject = Subject(config, system, state, None, None)
  chunks = [jax.random.normal(jax.random.fold_in(jax.random.key(5), number)) for number in range(4)]
  for settled in (standing.settled(5, subject), standing.chosen(5, subject, 'standing', None)):
    assert np.all(settled.state.extra['seen']) and not np.isin(settled.state.extra['seen'], chunks).any()


def test_a_batch_of_statistics_is_one_of_training():
  settings = settings_of('biggan_cifar10:tiny_fq', (8, 8, 1))
  settings.update({'batch_size': 24, 'accumulate': 3})
  system, batch = systems.build(settings), {'x': jnp.zeros((24, 8, 8, 1)), 'y': jnp.arange(24) % 10}
  state = jax.eval_shape(system.init, KEY, batch)
  drawn = []

  def draw_inputs(game, key, state, n):
    drawn.append(n)
    return games.latents(game, key, n)

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(class_views, 'draw_inputs', draw_inputs)
    jax.eval_shape(system.views.settle, KEY, state, jnp.int32(0), jnp.float32(1))
  assert drawn == [24 // (2 * 3)]  # two moves of the critic, three slices


def test_settled_statistics_are_means_over_batches_of_the_averaged_network():
  settings = settings_of('biggan_cifar10:tiny', (8, 8, 1))
  system, state, _ = begun(settings)
  game = games.build(settings, head='projection', classes=10)
  found = standing.settled_state(KEY, system, state, 2, 0.7)
  assert 'ema' not in found.extra
  np.testing.assert_allclose(found.extra['truncation'], 0.7)
  averaged = core.averaged(state)

  @jax.jit
  def seen(number):
    key = jax.random.fold_in(KEY, number)
    at = averaged.replace(extra=averaged.extra | {'truncation': jnp.float32(0.7)})
    inputs = class_views.draw_inputs(game, key, at, 8)
    # As the network is sampled: with as many steps of the power method.
    return games.generate(game, averaged, inputs, key, games.POWER_STEPS)[1]['batch_stats']

  mean = jax.tree.map(lambda a, b: (a + b) / 2, seen(0), seen(1))
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), found.extra['generator_statistics'], mean
  )
  assert found.params['generator'] is not None
  chex.assert_trees_all_equal(found.params['generator'], averaged.params['generator'])


def test_an_average_that_starts_late_is_the_network_before():
  move = core.average('generator', 0.9, 'generator_statistics', start=2)
  extra = {'ema': {'generator': jnp.zeros(1)}, 'ema_statistics': {'generator_statistics': jnp.zeros(1)}}
  state = core.State(jnp.int32(1), {'generator': jnp.ones(1)}, {}, extra | {'generator_statistics': jnp.full(1, 5.0)})
  early = move.apply(KEY, state, {})[0].extra
  assert (early['ema']['generator'][0], early['ema_statistics']['generator_statistics'][0]) == (1, 5)
  late = move.apply(KEY, state.replace(step=jnp.int32(2)), {})[0].extra
  np.testing.assert_allclose(late['ema']['generator'], 0.1, rtol=1e-5)


def test_a_critic_of_styles_quantizes_too():
  settings = settings_of('stylegan_mnist:tiny', (8, 8, 1))
  fq = settings_of('biggan_cifar10:tiny_fq').model.quantize.to_dict()
  with settings.unlocked():
    settings.model.quantize = fq | {'layers': ('layers_8',)}
  system, batch = systems.build(settings), {'x': jnp.zeros((settings.batch_size, 8, 8, 1))}
  state = jax.eval_shape(system.init, KEY, batch)
  assert state.extra['critic_codebook']['quantize_layers_8']['counts'].shape == (8,)
  new, metrics = jax.eval_shape(system.step, KEY, state, batch)
  assert {'discriminator/commitment', 'generator/commitment'} <= set(metrics)
  assert jax.tree.structure(new) == jax.tree.structure(state)
  codes = jax.eval_shape(system.views.feature_codes, KEY, state, batch['x'][:5])
  assert {name: leaf.shape for name, leaf in codes.items()} == {'layers_8': (5, 4, 4)}
  settings.model.quantize.layers = ('layers_16',)
  with pytest.raises(UserError, match='layers_16, which images of 8 x 8 do not reach'):
    systems.build(settings)


@pytest.mark.parametrize(
  ('key', 'value', 'message'),
  [
    ('conditional', False, r'gan\.biggan is told labels: set config\.conditional=True'),
    ('model.classes', 1, r'config\.model\.classes=1 must be the number of classes'),
    ('model.quantize.layers', ('block_7',), r'an element of config\.model\.quantize\.layers must be one of block_0'),
    ('model.quantize.layers', (), r'config\.model\.quantize\.layers is empty'),
    ('model.quantize.decay', 1.0, r'config\.model\.quantize\.decay must be'),
    ('model.latents', 7, r'config\.model\.latents=7 must be a multiple of 2'),
    ('model.standing', -1, r'config\.model\.standing must be a number of batches'),
    ('model.generator.regularisers', {'r1': 1.0}, r'a key of config\.model\.generator\.regularisers must be one of'),
    ('model.critic.network', 'dcgan', r"config\.model\.critic\.network='dcgan' takes no labels"),
    ('model.generator.attention', (4,), r'an element of config\.model\.generator\.attention must be one of 8'),
    ('model.critic.attention', (8,), r'an element of config\.model\.critic\.attention must be one of 4'),
    ('data.shape', (9, 9, 1), r'takes images whose height and width 2 divides'),
  ],
)
def test_a_game_that_cannot_be_is_refused(key, value, message):
  settings = settings_of('biggan_cifar10:tiny_fq', (8, 8, 1))
  *parents, last = key.split('.')
  inner = settings
  for parent in parents:
    inner = inner[parent]
  with inner.unlocked():
    inner[last] = value
  with pytest.raises(UserError, match=message):
    systems.build(settings)


def test_a_layer_without_a_norm_must_be_there():
  spectral = {'everywhere': True, 'free': ('clasifier',)}
  system = systems.build(settings_of('biggan_cifar10:tiny_fq', (8, 8, 1), spectral=spectral))
  with pytest.raises(UserError, match=r'an element of config\.model\.spectral\.free must be one of .*, value, '):
    jax.eval_shape(system.init, KEY, {'x': jnp.zeros((4, 8, 8, 1)), 'y': jnp.arange(4)})


def test_quantization_names_what_it_lacks():
  settings = settings_of('biggan_cifar10:tiny_fq', (8, 8, 1))
  with settings.unlocked():
    settings.model.quantize = {'layers': ('block_0',), 'codes': 4}
  with pytest.raises(UserError, match=r'config\.model\.quantize lacks commitment: set'):
    systems.build(settings)
  settings = settings_of('dcgan_mnist:tiny', quantize={'layers': ('block_0',)})
  with pytest.raises(UserError, match='quantize is for critics whose layers have names'):
    systems.build(settings)


@pytest.mark.parametrize(('statistics', 'system', 'message'), [
  ('running', 'biggan_cifar10:tiny_fq', '--truncation=0.5 needs batch statistics that are settled at it'),
  ('', 'dcgan_mnist:tiny', r'gan\.dcgan has no view settle, which --truncation'),
])  # fmt: skip
def test_truncation_without_settled_statistics_is_refused(statistics, system, message):
  settings = settings_of(system, (8, 8, 1))
  subject = Subject(settings, systems.build(settings), None, None, None)
  with pytest.raises(UserError, match=message):
    standing.chosen(0, subject, statistics, 0.5)
