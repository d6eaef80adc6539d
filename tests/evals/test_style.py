"""Figures and pictures of styles, by systems whose answers are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dgm_jax import config as experiment
from dgm_jax import data
from dgm_jax.core import State, system
from dgm_jax.errors import UserError
from dgm_jax.evals import draws, generated, style
from dgm_jax.pictures import style as pictures
from dgm_jax.runs.subject import Subject
from dgm_jax.runtime import parallel
from dgm_jax.views import Prior

KEY = jax.random.key(2)
STATE = State(jnp.zeros((), jnp.int32), {}, {}, {})
LAYERS, WIDTH = 4, 2


def synthesize(key, state, styles, number, strength):
  """Brightness: the first number of the style of layer 1. Noise is in the second pixel."""
  noise = jax.vmap(lambda n: jax.random.normal(jax.random.fold_in(key, n)))(number) * jnp.mean(strength)
  bright = jnp.tanh(styles[:, 1 % styles.shape[1], 0])
  return jnp.stack([bright, 0.1 * noise, bright, bright], 1).reshape(-1, 2, 2, 1)


def subject(monkeypatch, **changes):
  config = experiment.defaults()
  config.data.update({'shape': (2, 2, 1), 'preprocess': 'scale_symmetric'})
  config.system = 'gan.toy'
  views = {
    'prior': Prior(sample=lambda key, state, n: jax.random.normal(key, (n, WIDTH)), normal=True),
    'map_latents': lambda key, state, z: 3 * z,
    'styles': lambda key, state, w, psi: jnp.tile((psi[:, None] * w)[:, None], (1, LAYERS, 1)),
    'synthesize': synthesize,
    'truncated': lambda key, state, n, psi: jnp.full((n, 2, 2, 1), psi),
  } | changes  # fmt: skip
  see = lambda state, pixels: (_logits(pixels), pixels[:, 0, 0].astype('f4'))
  judge = generated.Judge('classifier', see, (), lambda state, pixels: pixels[:, 0, 0])
  monkeypatch.setattr(generated, 'find', lambda *_: judge)
  for name, number in {'CHUNK': 200, 'PAIRS': 400, 'PATHS': 400, 'SAMPLES': 800}.items():
    monkeypatch.setattr(style, name, number)
  toy = system(None, None, None, lambda key, state, n: jnp.zeros((n, 2, 2, 1)), **views)
  return Subject(config, toy, STATE, data.Split('', 0, {}), parallel.mesh(1))


def _logits(pixels):
  bright = pixels[:, 0, 0, 0].astype('f4') / 255 - 0.5
  return 20 * jnp.stack([bright, -bright], 1)


def test_the_class_of_a_mixed_image_is_that_of_the_source_of_the_layer_that_decides(monkeypatch):
  found = style.mixing(0, subject(monkeypatch))
  assert 100 < found['mixing_pairs/400'] < 300
  for cut, first in ((1, 0.0), (2, 100.0), (3, 100.0)):  # layer 1 is the second source's after a crossover of 1 alone
    assert found[f'mixing_{cut}_first_percent_classifier/400'] == first
    assert found[f'mixing_{cut}_second_percent_classifier/400'] == 100 - first
  assert len(found) == 7


def test_shares_are_of_pairs_of_two_classes_alone():
  first, second = np.array([0, 1, 2, 3]), np.array([0, 2, 1, 0])
  found = style.shares(np.array([[5, 1, 1, 7]]), first, second)
  assert found['mixing_pairs/4'] == 3
  np.testing.assert_allclose(found['mixing_1_first_percent_classifier/4'], 100 / 3)
  np.testing.assert_allclose(found['mixing_1_second_percent_classifier/4'], 100 / 3)


def test_speeds_of_linear_and_isometric_paths():
  matrix = jnp.array([[1, -2, 0.5], [0.4, 1, 2]])
  a, b = jnp.tile(jnp.array([0.3, -1]), (3, 1)), jnp.tile(jnp.array([1.0, 0.5]), (3, 1))
  t = jnp.array([0.0, 0.3, 0.9])
  np.testing.assert_allclose(style.speed(lambda t: style.line(a, b, t) @ matrix, t), [12.9225] * 3, rtol=1e-5)
  a, b = jnp.tile(jnp.array([2.0, 0]), (3, 1)), jnp.tile(jnp.array([0.0, 5]), (3, 1))
  np.testing.assert_allclose(style.speed(lambda t: style.arc(a, b, t), t), [2.4674011] * 3, rtol=1e-5)
  point = style.arc(jnp.array([[1.0, 0.2]]), jnp.array([[-0.3, 1.0]]), jnp.array([0.25]))
  np.testing.assert_allclose(point, [[0.8175746586, 0.5758226095]], rtol=1e-5)
  assert style.trimmed(np.array([-1e9, *[2.0] * 400, 1e9])) == 2.0


def test_figures_bear_the_judge_of_published_figures_by_its_own_name():
  """Without a mark they would look like the published ones, of another network."""
  judge = generated.Judge('', None, ())
  found = style.shares(np.zeros((1, 4)), np.zeros(4), np.ones(4), style._name(judge))
  assert (
    'mixing_1_first_percent_inception/4' in found and style._name(judge._replace(name='classifier')) == 'classifier'
  )


def test_path_length_of_a_generator_in_closed_form(monkeypatch):
  """Brightness is w itself here: along a line between two normals of deviation 3, E (b - a)^2 is 18, less the tails."""
  plain = lambda key, state, styles, number, strength: jnp.tile(styles[:, 0, :1, None, None] / 127.5, (1, 2, 2, 1))
  found = style.path_length(0, subject(monkeypatch, synthesize=plain))
  assert set(found) == {f'path_length_classifier_{a}_{b}/400' for a in 'zw' for b in ('full', 'end')}
  assert 12 < found['path_length_classifier_w_full/400'] < 20
  np.testing.assert_allclose(found['path_length_classifier_w_full/400'], found['path_length_classifier_w_end/400'])


def test_a_program_holds_as_many_images_as_fit():
  assert [style.chunk((size, size, 3)) for size in (32, 256, 512, 1024, 8192)] == [200, 200, 50, 10, 1]


def test_separability(monkeypatch):
  found = style.separability(0, subject(monkeypatch))
  for name in 'zw':
    np.testing.assert_allclose(found[f'separability_classifier_{name}/800'], 1.0, atol=0.05)
  random = np.random.default_rng(0)
  codes, inside = random.normal(size=(4000, 2)), random.random(4000) < 0.5  # no plane parts them
  np.testing.assert_allclose(style.conditional_entropy(codes, inside), np.log(2), atol=0.01)
  assert style.conditional_entropy(codes, inside & False) == 0


def test_a_judge_of_padded_images_sees_their_middle(monkeypatch):
  config = experiment.defaults()
  config.judge = 'runs/judge'
  config.data.update({'shape': (6, 6, 1), 'pad': 2})
  shapes = []
  judge = generated.Judge('classifier', lambda state, pixels: (pixels, pixels), (), lambda state, pixels: pixels)
  monkeypatch.setattr(generated, 'find', lambda name, shape: shapes.append((name, shape)) or judge)
  x = np.arange(36).reshape(1, 6, 6, 1)
  for see in (lambda x: generated.judge_of(config).see((), x)[0], lambda x: generated.judge_of(config).smooth((), x)):
    np.testing.assert_array_equal(see(x), x[:, 2:4, 2:4])
  config.data.size = 6
  np.testing.assert_array_equal(generated.judge_of(config).see((), x)[0], x)
  assert shapes == [('runs/judge', (2, 2, 1))] * 2 + [('runs/judge', (6, 6, 1))]


def test_pictures_of_styles(monkeypatch):
  toy, to_uint8 = subject(monkeypatch).system, lambda x: np.uint8(np.clip(127.5 * (np.asarray(x) + 1), 0, 255))
  drawn = {name: draw(KEY, STATE, None, to_uint8) for name, draw in pictures.available(toy).items()}
  assert set(drawn) == {'mixing', 'noise', 'truncations', 'style_walks'}
  for image in drawn.values():
    assert (image.dtype, image.ndim) == (np.uint8, 3)
  assert not pictures.available(system(None, None, None, None))
  assert pictures.blocks(18) == [(0, 4), (4, 8), (8, 18)]
  assert pictures.blocks(8) == [(0, 4), (4, 6), (6, 8)]
  assert pictures.blocks(4) == [(0, 2), (2, 4)]


def test_samples_at_a_truncation(monkeypatch):
  there = subject(monkeypatch)
  assert np.asarray(draws.draw(0, there, 2, truncation=0.5)).max() == 0.5
  with pytest.raises(UserError, match='--truncation goes with none of --class'):
    draws.draw(0, there, 2, label=3, truncation=0.5)
  with pytest.raises(UserError, match=r'gan\.toy has no view settle, which --truncation'):
    draws.settle(0, subject(monkeypatch, truncated=None), truncation=0.5)
