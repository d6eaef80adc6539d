"""Variational autoencoders against closed forms: probabilistic PCA, golden numbers, formulas written out in NumPy."""

import importlib.util
import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from dgm_jax import config as experiment
from dgm_jax import losses, optim, systems
from dgm_jax.core import State
from dgm_jax.internal.noise import standard_normal
from dgm_jax.nn.blocks import NormalHead, side_by_side
from dgm_jax.systems import vae
from dgm_jax.systems.parts import bounds, likelihoods

KEY = jax.random.key(0)
LOG_2PI = np.log(2 * np.pi)


def experiment_of(shape, system='vae.vae', likelihood='bernoulli', dtype='float32', **model):
  config = experiment.defaults()
  config.update({'system': system, 'steps': 1, 'dtype': dtype})
  config.data.shape = shape
  config.model = {
    'hidden': ((),), 'latents': (1,), 'channels': (), 'activation': 'tanh', 'likelihood': likelihood, 'samples': 1,
    **model,
  }  # fmt: skip
  config.optimizer = {'model': experiment.optimizer(name='sgd', learning_rate=1.0)}
  return config


def state_of(encoder, decoder):
  return State(jnp.zeros((), jnp.int32), {'encoder': encoder, 'decoder': decoder}, {}, {})


def dense(kernel, bias):
  return {'kernel': jnp.asarray(kernel, jnp.float32), 'bias': jnp.asarray(bias, jnp.float32)}


def linear_gaussian(weights, offset, noise, posterior_mean, posterior_offset, posterior_std):
  """The state of p(x|z) = N(W z + b, noise), q(z|x) = N(M x + c, posterior_std^2), without hidden layers.

  Args: W [D, Z], b [D], noise [] variance, M [Z, D], c [Z], posterior_std [Z].
  """
  encoder = np.concatenate([posterior_mean.T, np.zeros_like(posterior_mean.T)], 1)
  decoder = np.concatenate([weights.T, np.zeros_like(weights.T)], 1)
  return state_of(
    {'heads_0': {'Dense_0': dense(encoder, [*posterior_offset, *np.log(posterior_std)])}},
    {'output': dense(decoder, [*offset, *np.full(len(offset), np.log(noise))])},
  )


@pytest.fixture(scope='module')
def pca():
  """400 points in five dimensions, and the maximum-likelihood probabilistic PCA with two latents."""
  random = np.random.default_rng(0)
  x = random.normal(size=(400, 2)) @ random.normal(size=(2, 5)) * 1.5 + 0.4 * random.normal(size=(400, 5)) + 1
  mean, covariance = x.mean(0), np.cov(x.T, bias=True)
  values, vectors = np.linalg.eigh(covariance)
  noise, top = values[:3].mean(), slice(3, 5)
  weights = vectors[:, top] * np.sqrt(values[top] - noise)  # [D, Z], orthogonal columns
  spread = values[top]  # of W'W + noise, which is diagonal
  to_mean = weights.T / spread[:, None]
  state = linear_gaussian(weights, mean, noise, to_mean, -to_mean @ mean, np.sqrt(noise / spread))
  log_prob = stats.multivariate_normal(mean, weights @ weights.T + noise * np.eye(5)).logpdf(x)
  return x.astype('f4').reshape(-1, 1, 5, 1), state, log_prob


def test_at_the_pca_optimum_every_importance_weight_is_the_likelihood(pca):
  x, state, log_prob = pca
  config = experiment_of((1, 5, 1), likelihood='gaussian', latents=(2,), samples=3)
  system = systems.build(config)
  measured = jax.jit(system.evaluate)(KEY, state, {'x': x})
  # q is the posterior, so that p(x, z) / q(z|x) = p(x) whatever z: not an average, an identity.
  np.testing.assert_allclose(-measured['neg_bound_nats'], log_prob, rtol=2e-5)
  config.nll.update({'samples': 4, 'rows': 800})
  estimate = jax.jit(systems.build(config).views.log_prob)(KEY, state, x)
  np.testing.assert_allclose(estimate, log_prob, rtol=2e-5)


def test_the_elbo_at_the_pca_optimum_is_the_maximum_of_the_likelihood(pca):
  x, state, log_prob = pca
  system = systems.build(experiment_of((1, 5, 1), likelihood='gaussian', latents=(2,), samples=500))
  measured = jax.jit(system.evaluate)(KEY, state, {'x': x})
  # ln |C| + tr(C^-1 S) = sum of the logarithms of the kept eigenvalues and of the noise, + D, at the optimum
  values = np.linalg.eigvalsh(np.cov(x.reshape(-1, 5).T, bias=True))
  noise = values[:3].mean()
  closed = -0.5 * (5 * LOG_2PI + np.log(values[3:]).sum() + 3 * np.log(noise) + 5)
  np.testing.assert_allclose(log_prob.mean(), closed, rtol=1e-4)
  # The divergence is in closed form here and the reconstruction is sampled: 200,000 draws of standard deviation
  # sqrt(Z / 2) = 1 give a standard error of 0.0023.
  np.testing.assert_allclose(-measured['neg_elbo_nats'].mean(), closed, atol=4 * 0.0023)
  np.testing.assert_allclose(
    measured['neg_elbo_nats'], measured['reconstruction_nats'] + measured['kl_nats'], rtol=1e-5
  )


def test_the_pca_optimum_is_a_fixed_point_of_training(pca):
  x, state, _ = pca
  config = experiment_of((1, 5, 1), 'vae.iwae', 'gaussian', latents=(2,), samples=1000)
  step = jax.jit(systems.build(config).step)

  def slope(scale):
    """The length of a step at rate 1 from the optimum with all parameters scaled."""
    old = ready(config, state.replace(params=jax.tree.map(lambda p: scale * p, state.params)))
    moved = jax.tree.map(lambda a, b: np.square(a - b).sum(), old.params, step(KEY, old, {'x': x})[0].params)
    return np.sqrt(sum(jax.tree.leaves(moved)))

  # At the optimum only the noise of the draws is left: scores of standard deviation up to 20 over 632 = sqrt(400,000).
  assert slope(1.0) < 0.15
  assert slope(0.9) > 1


def ready(config, state):
  return state.replace(opt={'model': optim.make(config, 'model').init(state.params)})


# p(z) = N(0, 1), p(x|z) = N(z, 1), x = 1, q = N(1/2, 1), though the posterior's variance is 1/2: ln p(x) = -1.515512.
# L1 = -1/4 - E[e^2]/2 - ln(2 pi)/2 = -1.668939; the others by quadrature.
GOLDEN = {1: -1.668939, 2: -1.567304, 5: -1.5322, 50: -1.5170}


@pytest.fixture(scope='module')
def one_dimension():
  state = linear_gaussian(np.eye(1), [0.0], 1.0, np.zeros((1, 1)), [0.5], np.ones(1))
  config = experiment_of((1, 1, 1), likelihood='gaussian')
  return vae._standard(config), systems.build(config), state, jnp.ones((40_000, 1, 1, 1))


@pytest.mark.parametrize('k', GOLDEN)
def test_golden_bounds_in_one_dimension(one_dimension, k):
  model, _, state, x = one_dimension
  estimate = jax.jit(lambda x: bounds.log_prob(model, KEY, state, x, k, k * len(x)))
  bound = np.asarray(estimate(x))
  error = bound.std() / np.sqrt(len(x))
  assert error < 0.004
  assert abs(bound.mean() - GOLDEN[k]) < 4 * error + 2e-4
  assert bound.mean() < -1.515512 + 4 * error


def test_the_elbo_in_one_dimension(one_dimension):
  _, system, state, x = one_dimension
  measured = jax.jit(system.evaluate)(KEY, state, {'x': x})
  np.testing.assert_allclose(measured['kl_nats'], np.full(len(x), 0.125), rtol=1e-6)  # (1/2)^2 / 2
  # The reconstruction is -ln(2 pi)/2 - (1/2 - e)^2 / 2, of variance 3/4: a standard error of 0.0043
  np.testing.assert_allclose(-measured['neg_elbo_nats'].mean(), GOLDEN[1], atol=4 * 0.0043)


def test_the_likelihood_does_not_depend_on_how_the_samples_are_chunked(one_dimension):
  model, _, state, _ = one_dimension
  x = jnp.linspace(-1, 2, 4).reshape(4, 1, 1, 1)
  log_prob = jax.jit(lambda samples, rows: bounds.log_prob(model, KEY, state, x, samples, rows), static_argnums=(0, 1))

  @partial(jax.jit, static_argnums=(0, 1))
  def by_hand(chunks, size):
    terms = jax.vmap(lambda key: model.draw(key, state, x, size))(jax.random.split(KEY, chunks))
    weights = terms.log_weights  # [chunks, B, size]
    return losses.importance_weighted_bound(weights.swapaxes(0, 1).reshape(len(x), -1), 1)

  # 6 samples of 4 images, so many rows at a time; 23 hold two chunks of three samples
  for rows, chunks in ((24, 1), (23, 2), (1, 6)):
    np.testing.assert_allclose(log_prob(6, rows), by_hand(chunks, 6 // chunks), rtol=1e-6)


# Two stochastic layers, written out in NumPy.

TWO = {'hidden': ((4,), (3,)), 'latents': (3, 2)}


@pytest.fixture(scope='module')
def two_layers():
  """A random model of 2x3x1 binary images with two stochastic layers, its step by gradient, five images."""
  config = experiment_of((2, 3, 1), 'vae.iwae', samples=3, **TWO)
  system = systems.build(config)
  x = jax.random.bernoulli(KEY, 0.4, (5, 2, 3, 1)).astype(jnp.float32)
  state = jax.jit(system.init)(KEY, {'x': x})
  noisy = jax.tree.map(
    lambda p: p + 0.3 * np.random.default_rng(p.size).normal(size=p.shape).astype('f4'), state.params
  )
  return vae._standard(config), system, state.replace(params=noisy), x


def affine(params, h):
  return h @ np.asarray(params['kernel'], np.float64) + np.asarray(params['bias'], np.float64)


def head(params, level, h):
  """Mean and standard deviation of a layer."""
  out = affine(params[f'heads_{level[1]}']['Dense_0'], np.tanh(affine(params[f'bodies_{level[0]}']['Dense_0'], h)))
  mean, log_std = np.split(out, 2, -1)
  return mean, np.exp(log_std)


def written_out(params, x, noise):
  """log p(x|h1), log p(h1|h2), log p(h2), log q(h1|x), log q(h2|h1), [B, k] each, and the divergence of layer 2."""
  encoder, decoder = params['encoder'], params['decoder']
  x = np.asarray(x, np.float64).reshape(len(x), 1, -1)
  q1 = head(encoder, (0, 0), x)
  h1 = q1[0] + q1[1] * noise[0]
  q2 = head(encoder, (1, 1), h1)
  h2 = q2[0] + q2[1] * noise[1]
  p1 = head(decoder, (1, 0), h2)
  logits = affine(decoder['output'], np.tanh(affine(decoder['bodies_0']['Dense_0'], h1)))
  normal = lambda z, q: stats.norm.logpdf(z, *q).sum(-1)
  log_px = stats.bernoulli.logpmf(x.astype(int), 1 / (1 + np.exp(-logits))).sum(-1)
  kl2 = 0.5 * (q2[0] ** 2 + q2[1] ** 2 - 1 - 2 * np.log(q2[1])).sum(-1)
  return log_px, normal(h1, p1), normal(h2, (0, 1)), normal(h1, q1), normal(h2, q2), kl2


def test_two_layers_agree_with_the_formula_written_out(two_layers):
  model, _, state, x = two_layers
  noise = np.split(np.asarray(standard_normal(KEY, (5, 3, 5)), np.float64), [3], -1)
  log_px, log_p1, log_p2, log_q1, log_q2, kl2 = written_out(state.params, x, noise)
  terms = jax.jit(lambda state: model.draw(KEY, state, x, 3))(state)
  np.testing.assert_allclose(terms.log_px_z, log_px, rtol=1e-5)
  np.testing.assert_allclose(terms.log_q - terms.log_p, log_q1 + log_q2 - log_p1 - log_p2, rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(terms.kl, log_q1 - log_p1 + kl2, rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(sum(t.sum(-1) for t in terms.kls), terms.kl, rtol=1e-5, atol=1e-5)


def gradients(two_layers, loss):
  """The slope of a scalar of the terms, at the key that the step is given."""
  model, _, state, x = two_layers
  return jax.jit(jax.grad(lambda params: loss(model.draw(KEY, state.replace(params=params), x, 3))))(state.params)


def one_step(two_layers, name):
  """What one step of plain gradient descent at rate 1 takes off the parameters, and the step's metrics."""
  _, _, state, x = two_layers
  config = experiment_of((2, 3, 1), name, samples=3, **TWO)
  new, metrics = jax.jit(systems.build(config).step)(KEY, ready(config, state), {'x': x})
  return jax.tree.map(lambda a, b: a - b, state.params, new.params), metrics


def test_iwae_moves_by_the_gradient_of_the_normalised_weights(two_layers):
  def weighted(terms):
    log_weights = terms.log_weights
    weights = jax.lax.stop_gradient(jax.nn.softmax(log_weights, 1))
    return -(weights * log_weights).sum(1).mean()

  moved, metrics = one_step(two_layers, 'vae.iwae')
  expected = gradients(two_layers, weighted)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), moved, expected)
  _, system, state, x = two_layers
  measured = jax.jit(system.evaluate)(KEY, state, {'x': x})
  np.testing.assert_allclose(metrics['model/loss'], measured['neg_bound_nats'].mean(), rtol=1e-6)


def test_vae_moves_by_the_mean_gradient_of_its_samples(two_layers):
  moved, metrics = one_step(two_layers, 'vae.vae')
  expected = gradients(two_layers, lambda terms: (terms.kl - terms.log_px_z).mean())
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), moved, expected)
  _, system, state, x = two_layers
  measured = jax.jit(system.evaluate)(KEY, state, {'x': x})
  np.testing.assert_allclose(metrics['model/loss'], measured['neg_elbo_nats'].mean(), rtol=1e-6)


def test_the_bounds_at_one_sample_have_one_expectation(two_layers):
  model, _, state, x = two_layers
  terms = jax.jit(lambda key: model.draw(key, state, x, 20_000))(KEY)
  difference = np.asarray(terms.log_px_z - terms.log_weights - terms.kl, np.float64)  # [5, 20000]
  error = difference.std(1) / np.sqrt(difference.shape[1])
  assert (error > 0).all()
  assert (np.abs(difference.mean(1)) < 4 * error).all()


def test_the_bound_rises_with_the_samples_on_common_noise(two_layers):
  model, _, state, x = two_layers
  terms = jax.jit(lambda key: model.draw(key, state, x, 50))(KEY)
  weights = terms.log_weights
  bounds = [losses.importance_weighted_bound(weights.reshape(5, 50 // k, k), 2).mean(1) for k in (1, 5, 50)]
  assert (np.diff(np.stack(bounds), axis=0) > 0).all()


def test_the_divergences_of_the_dimensions_add_up(two_layers):
  _, _, state, x = two_layers
  system = systems.build(experiment_of((2, 3, 1), samples=1, **TWO))
  total = jax.jit(system.evaluate)(KEY, state, {'x': x})['kl_nats']
  layers = jax.jit(system.views.layers)(KEY, state, x)
  assert [(mean.shape, kl.shape) for mean, kl in layers] == [((5, 3), (5, 3)), ((5, 2), (5, 2))]
  np.testing.assert_allclose(sum(kl.sum(1) for _, kl in layers), total, rtol=1e-5)
  top = jax.jit(system.views.kl_per_dim)(KEY, state, x)
  np.testing.assert_array_equal(top, layers[-1][1])


def test_ancestral_samples_follow_the_chain_of_priors():
  # p(h2) = N(0, 1), p(h1|h2) = N(2 h2 + 1, 1/4), p(x|h1) = N(3 h1, 1/100): x has mean 3 and variance 9 (4 + 1/4) + 0.01
  system = systems.build(experiment_of((1, 1, 1), likelihood='gaussian', hidden=((), ()), latents=(1, 1)))
  decoder = {
    'heads_0': {'Dense_0': dense([[2.0, 0.0]], [1.0, np.log(0.5)])},
    'output': dense([[3.0, 0.0]], [0.0, np.log(0.01)]),
  }
  state = state_of({}, decoder)
  x = np.asarray(jax.jit(system.sample, static_argnums=2)(KEY, state, 40_000)).ravel()
  variance = 9 * 4.25 + 0.01
  assert abs(x.mean() - 3) < 4 * np.sqrt(variance / len(x))
  assert abs(x.var() - variance) < 4 * variance * np.sqrt(2 / len(x))
  # Pictures are decoded from the means, from the top down.
  np.testing.assert_allclose(system.views.decode(KEY, state, jnp.array([[0.0], [1.0]])).ravel(), [3, 9], rtol=1e-6)
  means = np.asarray(jax.jit(system.views.mean_sample, static_argnums=2)(KEY, state, 40_000)).ravel()
  assert abs(means.var() - 9 * 4.25) < 4 * variance * np.sqrt(2 / len(x))


# What a decoder's numbers mean.

DIMS = 3


def test_bits_per_dimension_of_uniform_pixels():
  # 256 values alike: ln 256 nats a pixel, or a density of 1 on [0, 1); binary pixels: one bit.
  for name, nats, bits in (
    ('discretized_logistic', DIMS * np.log(256), 8),
    ('gaussian', 0.0, 8),
    ('bernoulli', DIMS * np.log(2), 1),
  ):
    np.testing.assert_allclose(getattr(likelihoods, name)().bits(nats, DIMS), bits, rtol=1e-12)


def test_the_view_of_bits_counts_the_pixels_of_all_channels():
  system = systems.build(experiment_of((4, 5, 3), likelihood='gaussian'))
  np.testing.assert_allclose(system.views.bits(KEY, None, 60 * np.log(2)), 9, rtol=1e-6)


@pytest.mark.parametrize(
  ('name', 'numbers', 'values'),
  [
    ('bernoulli', (0.7,), np.array([0, 1])),
    # with both ends reached: the outer bins hold what the clipped draws heap up
    ('discretized_logistic', (0.8, -1.5), np.arange(256) / 127.5 - 1),
    ('discretized_logistic', (-0.3, -6.0), np.arange(256) / 127.5 - 1),
  ],
)
def test_discrete_samples_have_their_probabilities(name, numbers, values):
  likelihood = getattr(likelihoods, name)()
  n = 50_000
  x = likelihood.sample(KEY, tuple(jnp.full((n, 1), number, jnp.float32) for number in numbers))
  grid = jnp.asarray(values, jnp.float32)[:, None]
  expected = np.exp(likelihood.log_prob(grid, tuple(jnp.full((1, 1), number, jnp.float32) for number in numbers)))
  np.testing.assert_allclose(expected.sum(), 1, rtol=1e-4)
  nearest = np.abs(np.asarray(x) - values[None].astype('f4')).argmin(1)
  np.testing.assert_allclose(np.asarray(x)[:, 0], values[nearest], atol=1e-6)  # nothing between the values
  counts = np.bincount(nearest, minlength=len(values))
  assert (np.abs(counts - n * expected) < 5 * np.sqrt(n * expected * (1 - expected) + 1)).all()


def test_gaussian_numbers_are_mean_and_log_variance():
  likelihood = likelihoods.gaussian()
  numbers = (jnp.array([[0.2, 0.7]]), jnp.log(jnp.array([[0.04, 0.25]])))
  x = jnp.array([[0.5, 0.5]])
  expected = stats.norm.logpdf([0.5, 0.5], [0.2, 0.7], [0.2, 0.5]).sum()
  np.testing.assert_allclose(likelihood.log_prob(x, numbers), [expected], rtol=1e-5)
  np.testing.assert_array_equal(likelihood.mean(numbers), numbers[0])
  draws = likelihood.sample(KEY, jax.tree.map(lambda a: a.repeat(20_000, 0), numbers))
  np.testing.assert_allclose(draws.std(0), [0.2, 0.5], rtol=0.03)


@pytest.mark.parametrize('channels', [(), (3, 2)], ids=['dense', 'conv'])
@pytest.mark.parametrize('likelihood', ['bernoulli', 'gaussian', 'discretized_logistic'])
def test_a_fresh_model_guesses_the_mean_of_the_data(likelihood, channels):
  # Biases of hidden layers are zero, so that z = 0 reaches the output as its bias: three colours, odd sizes.
  low = -1 if likelihood == 'discretized_logistic' else 0
  mean = np.linspace(low + 0.1, 0.9, 5 * 3 * 3).reshape(5, 3, 3)
  x = np.clip(mean + np.array([-0.05, 0, 0.05]).reshape(3, 1, 1, 1), low, 1).astype('f4')
  system = systems.build(
    experiment_of((5, 3, 3), likelihood=likelihood, hidden=((4,),), latents=(2,), channels=channels)
  )
  guess = jax.jit(lambda x: system.views.decode(KEY, system.init(KEY, {'x': x}), jnp.zeros((1, 2))))(x)
  expected = np.broadcast_to(mean.mean((0, 1)), mean.shape) if channels else mean
  np.testing.assert_allclose(guess[0], expected, atol=1e-5)


def test_blank_pixels_start_within_reach():
  # The paper clips the mean to [.001, .999]: a logit of -6.9, not minus infinity.
  start = likelihoods.bernoulli().init_bias(jnp.array([0.0, 0.5, 1.0]))
  np.testing.assert_allclose(start, [[np.log(0.001 / 0.999), 0, np.log(0.999 / 0.001)]], rtol=1e-4)


@pytest.mark.parametrize('channels', [(), (3,), (3, 2, 4)], ids=['dense', 'one', 'three'])
@pytest.mark.parametrize('shape', [(7, 5, 3), (1, 1, 1), (9, 16, 2)])
def test_shapes_of_all_functions_with_three_stochastic_layers(shape, channels):
  model = {'hidden': ((4,), (3,), ()), 'latents': (6, 3, 2), 'channels': channels, 'samples': 3}
  system = systems.build(experiment_of(shape, likelihood='gaussian', **model))
  x = jax.ShapeDtypeStruct((4, *shape), 'float32')
  state = jax.eval_shape(system.init, KEY, {'x': x})
  evaluated = jax.eval_shape(system.evaluate, KEY, state, {'x': x})
  assert {leaf.shape for leaf in evaluated.values()} == {(4,)}
  drawn = jax.eval_shape(lambda state: system.sample(KEY, state, 7), state)
  assert (drawn.shape, drawn.dtype) == ((7, *shape), jnp.float32)
  layers = jax.eval_shape(system.views.layers, KEY, state, x)
  assert [(mean.shape, kl.shape) for mean, kl in layers] == [((4, n), (4, n)) for n in (6, 3, 2)]
  z = jax.eval_shape(system.views.encode, KEY, state, x)
  assert z.shape == (4, 2)
  assert jax.eval_shape(system.views.decode, KEY, state, z).shape == x.shape
  assert jax.eval_shape(system.views.reconstruct, KEY, state, x).shape == x.shape


def test_the_published_networks_have_the_published_sizes():
  spec = importlib.util.spec_from_file_location('iwae_mnist', 'configs/iwae_mnist.py')
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  # Weights and biases of the paper's appendix C, layer by layer.
  size = lambda *sizes: sum(a * b + b for a, b in itertools.pairwise(sizes))
  one = {'encoder': size(784, 200, 200, 2 * 50), 'decoder': size(50, 200, 200, 784)}
  two = {
    'encoder': size(784, 200, 200, 2 * 100) + size(100, 100, 100, 2 * 50),
    'decoder': size(50, 100, 100, 2 * 100) + size(100, 200, 200, 784),
  }
  for variant, expected in (('1x5', one), ('2x50', two)):
    config = module.get_config(variant)
    config.data.update({'shape': (28, 28, 1), 'examples': 59_600})
    state = jax.eval_shape(systems.build(config).init, KEY, {'x': jax.ShapeDtypeStruct((1, 28, 28, 1), 'float32')})
    assert {name: sum(leaf.size for leaf in jax.tree.leaves(net)) for name, net in state.params.items()} == expected


def test_the_heads_start_apart_with_the_fan_of_a_head_each():
  kernel = np.asarray(NormalHead(50).init(KEY, jnp.zeros((1, 200)))['params']['Dense_0']['kernel'])
  mean, log_std = np.split(kernel, 2, 1)
  bound = np.sqrt(6 / (200 + 50))
  for half in (mean, log_std):
    assert 0.99 * bound < np.abs(half).max() <= bound
    np.testing.assert_allclose(half.var(), bound**2 / 3, rtol=0.05)  # of the uniform distribution
  assert abs(np.corrcoef(mean.ravel(), log_std.ravel())[0, 1]) < 0.05
  three = side_by_side(3)(KEY, (10, 60))
  assert (np.abs(three).max(0) <= np.sqrt(6 / 30)).all()
  assert len({float(v) for v in three[0]}) == 60


def test_bfloat16_networks_leave_densities_and_parameters_in_float32():
  system = systems.build(experiment_of((2, 3, 1), dtype='bfloat16', hidden=((4,), (4,)), latents=(3, 2), channels=(2,)))
  x = jax.ShapeDtypeStruct((4, 2, 3, 1), 'float32')
  state = jax.eval_shape(system.init, KEY, {'x': x})
  new, metrics = jax.eval_shape(system.step, KEY, state, {'x': x})
  assert {leaf.dtype for leaf in jax.tree.leaves((state.params, new.params, metrics))} == {jnp.dtype('float32')}
  program = str(jax.make_jaxpr(system.evaluate)(KEY, state, {'x': x}))
  assert 'bf16' in program
