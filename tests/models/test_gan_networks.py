"""Normalisations and minibatch features by hand, and the networks' shapes, sizes and rules by their papers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dgm_jax.models import adversary, dcgan, inception, resnet_gan, semi_supervised
from dgm_jax.nn import minibatch
from dgm_jax.nn.norm import BatchNorm, LayerNorm, VirtualBatchNorm, running

KEY = jax.random.key(3)
PLAIN = np.random.default_rng(3).normal(2.0, 3.0, (6, 4, 4, 5)).astype('f4')
X = jnp.asarray(PLAIN)


def size(tree):
  return sum(leaf.size for leaf in jax.tree.leaves(tree))


def sizes(module, *shape):
  return jax.eval_shape(module.init, KEY, jnp.zeros(shape))


def batch_norm(x, eps=1e-5):
  axes = tuple(range(x.ndim - 1))
  return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + eps)


def test_batch_norm_uses_what_it_sees_where_it_may_write_and_what_was_kept_elsewhere():
  layer = BatchNorm()
  variables = layer.init(KEY, X)
  y, seen = layer.apply(variables, X, mutable=['batch_stats'])
  np.testing.assert_allclose(y, batch_norm(PLAIN), atol=1e-5)
  np.testing.assert_allclose(seen['batch_stats']['mean'], X.mean((0, 1, 2)), rtol=1e-5)
  kept = running({'mean': jnp.zeros(5), 'variance': jnp.ones(5)}, seen['batch_stats'], 0.75)
  np.testing.assert_allclose(kept['variance'], 0.75 + 0.25 * X.var((0, 1, 2)), rtol=1e-5)
  y = layer.apply({'params': variables['params'], 'batch_stats': kept}, X)
  np.testing.assert_allclose(
    y, (PLAIN - 0.25 * PLAIN.mean((0, 1, 2))) / np.sqrt(np.asarray(kept['variance']) + 1e-5), rtol=1e-4, atol=1e-5
  )


@pytest.mark.parametrize('x', [X, X[:, 0, 0]])
def test_virtual_batch_norm(x):
  layer = VirtualBatchNorm(references=3)
  variables = layer.init(KEY, x)
  y = layer.apply(variables, x)
  np.testing.assert_allclose(
    y[:3], batch_norm(np.asarray(x)[:3]), atol=1e-5
  )  # the reference: plain batch normalisation
  changed = x.at[4:].set(-7.0)
  np.testing.assert_array_equal(layer.apply(variables, changed)[:4], y[:4])  # no example sees its neighbours
  assert np.abs(layer.apply(variables, changed)[4] - y[4]).max() > 0.1
  # The fourth row: its own moments are a quarter of those of the batch that it makes with the reference.
  np.testing.assert_allclose(y[3], batch_norm(np.asarray(x)[:4])[3], rtol=1e-4, atol=1e-5)


def test_virtual_batch_norm_far_from_the_origin():
  layer, far = VirtualBatchNorm(references=3), X + 3000.0
  np.testing.assert_allclose(layer.apply(layer.init(KEY, X), far), layer.apply(layer.init(KEY, X), X), atol=5e-3)


def test_layer_norm_is_of_each_example_over_all_its_numbers():
  layer = LayerNorm()
  params = {'scale': jnp.arange(1.0, 6), 'bias': jnp.ones(5)}
  normal = (PLAIN - PLAIN.mean((1, 2, 3), keepdims=True)) / np.sqrt(PLAIN.var((1, 2, 3), keepdims=True) + 1e-5)
  np.testing.assert_allclose(layer.apply({'params': params}, X), normal * np.arange(1, 6) + 1, rtol=1e-4, atol=1e-5)


def test_similarity_by_hand():
  # |(1, 2) - (1, 4)| = 2 in the first kernel, 0 in the second; an example is not compared with itself.
  projected = jnp.array([[[1.0, 2.0], [5.0, 5.0]], [[1.0, 4.0], [5.0, 5.0]]])
  np.testing.assert_allclose(minibatch.similarity(projected), [[0.135335, 1.0]] * 2, 1e-5)
  np.testing.assert_allclose(minibatch.similarity(jnp.ones((7, 3, 2))), np.full((7, 3), 6.0))


def test_minibatch_discrimination_starts_by_its_first_batch():
  h = X[:, 0, 0]
  layer = minibatch.MinibatchDiscrimination(kernels=4, dims=3)
  params = layer.init(KEY, h)['params']
  y = layer.apply({'params': params}, h)
  np.testing.assert_array_equal(y[:, :5], h)
  np.testing.assert_allclose(y[:, 5:].mean(0), np.zeros(4), atol=1e-6)
  params = jax.tree.map(np.asarray, params)
  unit = params['theta'] / np.linalg.norm(params['theta'], axis=0)
  projected = np.einsum('bf,fkd->bkd', h, unit) * np.exp(params['log_scale'])[:, None]
  apart = np.abs(projected[:, None] - projected[None]).sum(-1) + 1e6 * np.eye(6)[..., None]
  np.testing.assert_allclose(apart.min(1).mean(0), np.full(4, 2.0), rtol=1e-5)
  slope = jax.grad(lambda h: layer.apply({'params': params}, h)[:, 5:].sum())(h)
  assert np.isfinite(slope).all() and np.abs(slope).max() > 0


def normed(**options):
  return BatchNorm(**options)


@pytest.mark.parametrize(
  ('module', 'shape', 'parameters'),
  [
    (dcgan.Generator((1024, 512, 256, 128), (64, 64, 3), norm=normed), (1, 100), 18_855_040),
    (dcgan.Critic((128, 256, 512, 1024), norm=normed), (1, 64, 64, 3), 17_232_768),
    (dcgan.Generator((512, 256, 128, 64), (64, 64, 3), kernel=4, norm=normed), (1, 100), 3_576_704),
    (dcgan.Critic((64, 128, 256, 512), kernel=4, norm=normed), (1, 64, 64, 3), 2_765_568),
    (dcgan.Generator((256, 128, 64), (28, 28, 1), bias=True, output='sigmoid'), (1, 128), 1_554_177),
    (dcgan.Critic((64, 128, 256), bias=True), (1, 28, 28, 1), 1_030_145),
    (dcgan.Generator((128, 64), (28, 28, 1), (1024,), 4, 'sigmoid', True, normed), (1, 74), 6_645_121),
    (dcgan.Critic((64, 128), (1024,), 4, 0.1, True, normed), (1, 28, 28, 1), 6_556_992 + 1025),
    (dcgan.Recognizer(10, 2, norm=normed), (1, 1024), 133_134),
    (adversary.DenseGenerator((512,) * 3, (2,)), (1, 2), 527_874),
    (adversary.DenseCritic((512,) * 3), (1, 2), 527_361),
    (adversary.DenseGenerator((1200, 1200), (28, 28, 1)), (1, 100), 2_503_984),
    (adversary.MaxoutCritic((240, 240)), (1, 28, 28, 1), 1_231_441),
    (resnet_gan.Generator((32, 32, 3), norm=normed), (1, 128), 1_204_483),
    (resnet_gan.Critic(), (1, 32, 32, 3), 1_053_825),
    # Weights and shifts, and the ten lengths of the last layer.
    (semi_supervised.NoisyClassifier(), (1, 28, 28, 1), 1_538_760 + 10),
  ],
)
def test_networks_are_as_large_as_the_papers(module, shape, parameters):
  assert size(sizes(module, *shape)['params']) == parameters


@pytest.mark.parametrize('shape', [(64, 64, 3), (32, 32, 3), (28, 28, 1)])
def test_dcgan_in_every_size(shape):
  generator = dcgan.Generator((8, 6, 4), shape, norm=normed)
  z = jax.random.normal(KEY, (5, 3))
  x, _ = generator.apply(generator.init(KEY, z), 50 * z, mutable=['batch_stats'])
  assert x.shape == (5, *shape) and x.dtype == jnp.float32
  assert np.abs(x).max() <= 1
  critic = dcgan.Critic((4, 6, 8), norm=normed)
  variables = critic.init(KEY, x)
  values, features = critic.apply(variables, x)
  side = -(-shape[0] // 8)
  assert (values.shape, features.shape) == ((5,), (5, 8 * side * side))
  assert len(variables['batch_stats']) == 2  # the first layer has none
  linear = variables['params']['Verdict_0']['Dense_0']['kernel'][:, 0]
  np.testing.assert_allclose(values, features @ linear, rtol=1e-4, atol=1e-6)


def test_weight_norm_starts_with_outputs_of_mean_zero_and_variance_one():
  layer = semi_supervised.WeightNormDense(7, learned=False)
  h = X.reshape(6, -1)
  variables = layer.init(KEY, h)
  y = layer.apply(variables, h)
  np.testing.assert_allclose(y.mean(0), np.zeros(7), atol=1e-5)
  np.testing.assert_allclose(y.var(0), np.ones(7), rtol=1e-4)
  assert set(variables['params']) == {'theta', 'bias'}  # no player can change the length
  longer = jax.tree.map(lambda p: p, variables) | {
    'params': variables['params'] | {'theta': 5 * variables['params']['theta']}
  }
  np.testing.assert_allclose(layer.apply(longer, h), y, rtol=1e-4, atol=1e-5)


def test_noise_is_drawn_only_where_there_is_a_key():
  network = semi_supervised.NoisyClassifier((8,), 3)
  variables = network.init({'params': KEY, 'noise': KEY}, X)
  np.testing.assert_array_equal(network.apply(variables, X)[0], network.apply(variables, X)[0])
  one, two = (network.apply(variables, X, rngs={'noise': jax.random.key(i)})[0] for i in range(2))
  assert np.abs(one - two).max() > 0.01


def test_inception_is_as_large_as_the_graph_of_published_figures():
  variables = sizes(inception.Inception(), 1, 299, 299, 3)
  assert size(variables['params']) == 23_850_960
  head = variables['params']['kernel'].size + variables['params']['bias'].size
  assert size(variables['params']) - head == 21_785_568
  logits, features = jax.eval_shape(inception.Inception().apply, variables, jnp.zeros((2, 299, 299, 3)))
  assert (logits.shape, features.shape) == ((2, 1008), (2, 2048))


def test_inceptions_resize_takes_corners_not_middles():
  x = jnp.arange(4.0).reshape(1, 4, 1, 1) * jnp.ones((1, 4, 4, 1))
  # Row i of 8 lies at i / 2; past the last row there is nothing but the last row.
  np.testing.assert_allclose(inception.resize(x, 8)[0, :, 0, 0], [0, 0.5, 1, 1.5, 2, 2.5, 3, 3], atol=1e-6)


def test_inceptions_means_leave_the_padding_out():
  np.testing.assert_allclose(inception._mean(jnp.ones((1, 4, 4, 2))), np.ones((1, 4, 4, 2)), rtol=1e-6)
