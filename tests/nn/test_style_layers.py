"""Layers of style-based generators and their critics, by numbers that were computed apart in double precision."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dgm_jax import losses
from dgm_jax.nn import minibatch, style
from dgm_jax.nn.equalised import EqualConv, EqualDense
from dgm_jax.nn.norm import running

KEY = jax.random.key(0)
X = jnp.array([[[[1.0, -2], [2, 0]], [[4, 1], [-1, 3]]]])
SCALE, SHIFT = jnp.array([[0.5, -0.25]]), jnp.array([[0.1, -0.3]])
NINE = jnp.arange(1, 10.0).reshape(1, 3, 3, 1) / 10


def same(value, expected, rtol=2e-6, atol=2e-7):
  np.testing.assert_allclose(value, expected, rtol=rtol, atol=atol)


def test_adaptive_instance_normalisation():
  y = style.modulate(X, SCALE, SHIFT)
  same(
    y[0],
    [
      [[-0.3160251465, -1.3400628663], [0.5160251465, -0.5080125733]],
      [[2.1801257326, -0.0919874267], [-1.9801257326, 0.7400628663]],
    ],
  )
  same(y.mean((1, 2)), SHIFT, atol=1e-6)
  same(y.std((1, 2)), [[1.4999999977, 0.7499999988]])
  same(style.modulate(3 * X + 5, SCALE, SHIFT), y, atol=1e-5)  # it removes what is affine
  np.testing.assert_array_equal(style.modulate(jnp.full((1, 2, 2, 2), 7.0), SCALE, SHIFT)[0, 1, 1], SHIFT[0])


def test_pixel_norm_and_its_precision():
  same(style.pixel_norm(jnp.array([3.0, -4, 1, 2])), [1.0954451143, -1.4605934857, 0.3651483714, 0.7302967429])
  low = jnp.full((1, 300), 1.01, jnp.bfloat16)  # whose squares bfloat16 could not add up
  assert style.pixel_norm(low).dtype == jnp.bfloat16
  same(style.pixel_norm(low).astype('f4'), np.ones((1, 300)), atol=4e-3)


STYLED = {
  'noise': jnp.array([0.3, -0.2]), 'bias': jnp.array([0.1, -0.1]),
  'style': {'kernel': jnp.array([[0.2, 0.1, -0.3, 0.4], [-0.5, 0.6, 0.7, 0.8]]), 'bias': jnp.zeros(4)},
}  # fmt: skip
NOISE, W = jnp.array([[0.5, -1], [1, 0]]).reshape(1, 2, 2, 1), jnp.array([[0.7, -0.4]])


def test_a_styled_layer_normalises_after_its_rectifier():
  y = style.StyledLayer().apply({'params': STYLED}, X, W, NOISE)
  same(
    y[0],
    [
      [[-0.7713258774, -0.8980152172], [-0.3595832253, -0.523788356]],
      [[1.5868365844, -0.1079807324], [-1.8418567728, 1.4166472206]],
    ],
    atol=1e-6,
  )
  scale, shift = jnp.array([[0.2404163056, -0.1202081528]]), jnp.array([[-0.3464823228, -0.0282842712]])
  before = X + NOISE * STYLED['noise'].reshape(1, 1, 1, 2) + STYLED['bias'].reshape(1, 1, 1, 2)
  wrong = style.modulate(before, jnp.zeros((1, 2)), jnp.zeros((1, 2)))
  wrong = jax.nn.leaky_relu(wrong, 0.2) * (scale + 1)[:, None, None] + shift[:, None, None]
  same(wrong[0, 0, 0], [-0.3974200258, -0.2778218293], atol=1e-6)
  assert np.abs(wrong - y)[0, 0, 0].min() > 0.3


def test_a_styled_layer_starts_without_noise_and_a_plain_one_has_no_style():
  layer = style.StyledLayer()
  params = layer.init(KEY, X, W, NOISE)['params']
  np.testing.assert_array_equal(*(layer.apply({'params': params}, X, W, times * NOISE) for times in (1, 5)))
  plain = layer.init(KEY, X)['params']
  assert set(plain) == {'bias'}
  same(jnp.square(layer.apply({'params': plain}, X)).mean(-1), np.ones((1, 2, 2)))


def test_equalised_layers():
  x, kernel, bias = jnp.array([[1.0, -2, 0.5]]), jnp.array([[0.2, -1], [0.4, 0.3], [-0.6, 0.8]]), jnp.array([0.5, -0.5])
  y = EqualDense(2).apply({'params': {'kernel': kernel, 'bias': bias}}, x)
  same(y, [[-0.2348469228, -1.4797958971]])
  same(jax.nn.leaky_relu(y, style.SLOPE), [[-0.0469693846, -0.2959591794]])
  same(
    EqualDense(2, gain=1.0, use_bias=False).apply({'params': {'kernel': kernel}}, x), [[-0.5196152423, -0.692820323]]
  )
  slow = EqualDense(2, multiplier=0.01)
  same(slow.apply({'params': {'kernel': kernel / 0.01, 'bias': bias}}, x), [[-0.7298469228, -0.9847958971]])
  assert 50 < slow.init(KEY, jnp.zeros((1, 400)))['params']['kernel'].std() < 150
  grid = jnp.array([[0.1, -0.2, 0.3], [0.4, 0.5, -0.6], [-0.7, 0.8, 0.9]]).reshape(3, 3, 1, 1)
  same(
    EqualConv(1, use_bias=False).apply({'params': {'kernel': grid}}, NINE)[0, ..., 0],
    [
      [0.3299831646, 0.2922708029, 0.1697056275],
      [0.5751135154, 0.5044028372, 0.2922708029],
      [-0.0282842712, 0.1225651754, 0.3299831646],
    ],
  )
  many, wide = jax.random.normal(KEY, (400, 300)), EqualDense(500)
  same(wide.apply(wide.init(KEY, many), many).var(), 2.0, rtol=0.05)  # gain^2 E x^2


def test_blur_doubling_and_halving():
  impulse = jnp.zeros((1, 5, 5, 1)).at[0, 2, 2, 0].set(1)
  same(style.blur(impulse)[0, 1:4, 1:4, 0], np.outer([1, 2, 1], [1, 2, 1]) / 16)
  ones = style.blur(jnp.ones((1, 4, 4, 1)))[0, ..., 0]
  same(ones[:2, :2], [[0.5625, 0.75], [0.75, 1]])
  same(style.blur(NINE)[0, ..., 0], [[0.13125, 0.225, 0.20625], [0.325, 0.5, 0.425], [0.35625, 0.525, 0.43125]])
  double = style.double(X)
  assert double[0, :, :, 0].tolist() == [[1, 1, 2, 2], [1, 1, 2, 2], [4, 4, -1, -1], [4, 4, -1, -1]]
  np.testing.assert_array_equal(style.halve(double), X)
  same(style.halve(X)[0, 0, 0], [1.5, 0.5])


ROWS = jnp.array([(0.0, 1), (2, -1), (1, 3), (-3, 1), (5, 0), (1, 1), (0, -2), (2, 4)]).reshape(8, 1, 1, 2)


def test_deviations_of_contiguous_groups():
  same(minibatch.deviations(ROWS[:4], 4), [1.642521131])
  same(minibatch.deviations(ROWS, 4), [1.642521131, 2.0179461039])
  strided = ROWS[jnp.array([0, 2, 4, 6, 1, 3, 5, 7])]  # as in the released program
  same(minibatch.deviations(strided, 4), [1.9321642279, 1.9234549626])
  same(minibatch.deviations(jnp.ones((4, 3)), 4), [1e-4])
  same(minibatch.deviations(ROWS[jnp.array([3, 1, 0, 2])], 4), [1.642521131])
  with pytest.raises(ValueError, match='deviations over groups of 4 need a batch that 4 divides, got 6'):
    minibatch.deviations(ROWS[:6], 4)


def test_the_layer_of_deviations_appends_that_of_the_group_or_outside_training_the_kept_one():
  layer = minibatch.MinibatchDeviation()
  y, statistics = layer.apply({}, ROWS, mutable=['batch_stats'])
  np.testing.assert_array_equal(y[..., :2], ROWS)
  same(y[:, 0, 0, 2], [1.642521131] * 4 + [2.0179461039] * 4)
  same(statistics['batch_stats']['deviation'], (1.642521131 + 2.0179461039) / 2)
  kept = {'batch_stats': {'deviation': jnp.array(0.25)}}
  same(layer.apply(kept, ROWS[:3])[:, 0, 0, 2], [0.25] * 3)
  assert layer.init(KEY, ROWS[:1])['batch_stats']['deviation'].shape == ()


MATRIX, B = jnp.array([[2, 0.5], [0.5, -1]]), jnp.array([0.3, -0.7])
REAL, FAKE = jnp.array([[1.0, 2], [-0.5, 0.25]]), jnp.array([[0.0, -1], [1.5, 0.5]])


def quadratic(x, b=B):
  return 0.5 * ((x @ MATRIX) * x).sum(1) + x @ b + 0.2


def test_penalties_and_losses_of_a_quadratic_critic(monkeypatch):
  same(quadratic(REAL), [-0.9, 0.03125], atol=1e-6)
  same(quadratic(FAKE), [0.4, 2.8])
  r1 = lambda b: 10 * losses.r1_penalty(lambda x: quadratic(x, b), REAL)
  same(r1(B), [78.65, 8.853125])
  same(jax.grad(lambda b: r1(b).mean())(B), [13.625, -17])
  same(losses.minimax_discriminator(quadratic(REAL), quadratic(FAKE)).mean(), 2.8454230997)
  same(losses.nonsaturating_generator(quadratic(FAKE)).mean(), 0.2860240393)
  monkeypatch.setattr(jax.random, 'uniform', lambda key, shape, *_: jnp.array([0.25, 0.6]).reshape(shape))
  same(10 * losses.gradient_penalty(quadratic, REAL, FAKE, KEY), [0.6291759362, 1.6161002144], rtol=1e-5)
  linear = lambda x: x @ jnp.array([3.0, 4]) + 7
  same(10 * losses.r1_penalty(linear, REAL), [125, 125])  # gamma / 2 |w|^2


def test_the_average_of_styles_moves_by_a_two_hundredth():
  once = running({'w': jnp.zeros(())}, {'w': jnp.ones(())}, 0.995)
  same(running(once, {'w': jnp.array(3.0)}, 0.995)['w'], 0.019975, rtol=1e-5)
