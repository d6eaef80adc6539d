"""Ladders against a linear one whose evidence is known, and against autoencoders of one and two levels."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from playing import KEY, begun, settings_of

from dgm_jax import config as experiment
from dgm_jax import systems
from dgm_jax.core import State
from dgm_jax.errors import UserError
from dgm_jax.models import ladder
from dgm_jax.systems.parts import ladders, likelihoods, pixels

# z3 ~ N(0, 1), z2 = .9 z3 + .5 e, z1 = -1.2 z2 + .6 e, x = .8 z1 + .3 + .4 e, x = 1.1.
SLOPES, NOISES, SHIFT, X = (0.8, -1.2, 0.9), (0.4, 0.6, 0.5), 0.3, 1.1
LOG_PX = -1.3093946362


def linear():
  """Mean and covariance [3, 3] of z given x, and the covariance of z, from the data up, float64."""
  covariance = np.ones((1, 1))
  for slope, noise in zip(SLOPES[:0:-1], NOISES[:0:-1], strict=True):
    below = slope * covariance[:1]
    variance = slope**2 * covariance[:1, :1] + noise**2
    covariance = np.block([[variance, below], [below.T, covariance]])
  gain = SLOPES[0] * covariance[:, 0] / (SLOPES[0] ** 2 * covariance[0, 0] + NOISES[0] ** 2)
  return gain * (X - SHIFT), covariance - np.outer(gain, SLOPES[0] * covariance[0]), covariance


def layer(slope, bias, variance):
  """A linear layer of mean and log-deviation."""
  kernel, bias = np.asarray([[slope, 0]], 'f4'), np.asarray([bias, 0.5 * np.log(variance)], 'f4')
  return {'kernel': kernel, 'bias': bias}


def posteriors_of(order):
  """The layers of the encoder; x is one number."""
  mean, given, covariance = linear()
  own = np.diag(given)
  if order == 'factorised':
    return [layer(0, mean[level], 1 / np.linalg.inv(given)[level, level]) for level in range(3)]
  if order == 'bottom_up':
    slopes = [covariance[level, level + 1] / covariance[level, level] for level in range(2)]
    above = [
      layer(slope, 0, covariance[level + 1, level + 1] - slope**2 * covariance[level, level])
      for level, slope in enumerate(slopes)
    ]
    return [layer(0, mean[0], own[0]), *above]
  messages, slope, variance = [], SLOPES[0], NOISES[0] ** 2
  for below, noise in zip(SLOPES[1:], NOISES[1:], strict=True):  # what x says of a level under a flat prior
    messages.append(layer(1 / slope, -SHIFT / slope, variance / slope**2))
    slope, variance = slope * below, variance + (slope * noise) ** 2
  return [*messages, layer(0, mean[2], own[2])]


def measured(order, monkeypatch):
  """(bound, [divergence of each level], [bound of each sample]), expectations by quadrature."""
  module = ladder.Ladder(((), (), ()), (1, 1, 1), (1, 1, 1), 2, order, 'precision', 'tanh', False, 'exp')
  shapes = [(1,)] * 3
  model = ladders.compose(ladders.Ladder(module, shapes, likelihoods.gaussian(), (1, 1, 1), None, order != 'bottom_up'))
  own = {f'heads_{level}': {'Dense_0': found} for level, found in enumerate(posteriors_of(order))}
  prior = {f'heads_{level}': {'Dense_0': layer(SLOPES[level + 1], 0, NOISES[level + 1] ** 2)} for level in range(2)}
  output = {'kernel': np.asarray([[SLOPES[0], 0]], 'f4'), 'bias': np.asarray([SHIFT, 2 * np.log(NOISES[0])], 'f4')}
  params = {'encoder': own, 'decoder': prior | {'output': output}}
  state = State(step=jnp.int32(0), params=params, opt={}, extra={})
  nodes, weights = np.polynomial.hermite_e.hermegauss(3)  # exact for squares
  grid = np.stack(np.meshgrid(nodes, nodes, nodes), -1).reshape(1, -1, 3).astype('f4')
  weights = (weights[:, None, None] * weights[:, None] * weights).ravel() / weights.sum() ** 3
  monkeypatch.setattr(ladders, 'standard_normal', lambda key, shape: grid.reshape(shape))
  terms = jax.jit(lambda: model.draw(KEY, state, jnp.full((1, 1, 1, 1), X), 27))()
  mean = lambda values: float(np.asarray(values, np.float64)[0] @ weights)
  return mean(terms.log_weights), [mean(kl[..., 0]) for kl in terms.kls], np.asarray(terms.log_weights)[0]


def joint_divergence(mean, covariance):
  prior = linear()[2]
  solved = np.linalg.solve(prior, covariance)
  return 0.5 * (np.trace(solved) + mean @ np.linalg.solve(prior, mean) - 3 - np.linalg.slogdet(solved)[1])


@pytest.mark.parametrize(
  ('order', 'bound', 'divergences'),
  [
    ('top_down', LOG_PX, (0.4011824521, 0.1871019896, 0.2495850096)),
    ('factorised', -1.7515406154, (0.4403543699, 0.5180863794, 0.4679830715)),
  ],
)
def test_exact_bound_of_the_best_posterior_of_a_linear_ladder(order, bound, divergences, monkeypatch):
  mean, covariance, _ = linear()
  found, kls, samples = measured(order, monkeypatch)
  assert found == pytest.approx(bound, abs=1e-6)
  np.testing.assert_allclose(kls, divergences, atol=1e-6)
  if order == 'factorised':
    covariance = np.diag(1 / np.diag(np.linalg.inv(covariance)))
  else:
    np.testing.assert_allclose(samples, LOG_PX, atol=2e-6)
  assert sum(kls) == pytest.approx(joint_divergence(mean, covariance), abs=1e-6)


def test_exact_bound_of_the_ladder_inferred_bottom_up(monkeypatch):
  """The levels are a Markov chain given x from either end."""
  found, kls, samples = measured('bottom_up', monkeypatch)
  np.testing.assert_allclose(samples, LOG_PX, atol=3e-6)
  assert found == pytest.approx(LOG_PX, abs=1e-6)
  assert sum(kls) == pytest.approx(joint_divergence(*linear()[:2]), abs=1e-6)


def test_exact_evidence_is_that_of_a_normal():
  variance = SLOPES[0] ** 2 * linear()[2][0, 0] + NOISES[0] ** 2
  assert variance == pytest.approx(1.367296)
  assert -0.5 * (np.log(2 * np.pi * variance) + (X - SHIFT) ** 2 / variance) == pytest.approx(LOG_PX, abs=1e-9)


def test_merge_by_precision_is_the_product_of_densities():
  q, p = (jnp.float32(0.7), jnp.log(0.3)), (jnp.float32(-0.2), jnp.log(0.8))
  mean, logvar = ladder.precision(q, p)
  assert float(mean) == pytest.approx(0.4545454545, abs=1e-6)
  assert float(jnp.exp(logvar)) == pytest.approx(0.2181818182, abs=1e-6)
  z = np.linspace(-1, 2, 7)
  log = lambda mean, logvar: -0.5 * (float(logvar) + (z - float(mean)) ** 2 / np.exp(float(logvar)))
  rest = log(*q) + log(*p) - log(mean, logvar)
  np.testing.assert_allclose(rest, rest[0], atol=1e-5)


def test_merge_by_precision_is_finite_for_variances_of_any_size():
  big, small = jnp.float32(200.0), jnp.float32(-200.0)
  for q, p in ((big, small), (small, big), (big, big), (small, small)):
    mean, logvar = ladder.precision((jnp.float32(1.0), q), (jnp.float32(-1.0), p))
    assert np.isfinite(mean) and float(logvar) == pytest.approx(min(q, p), abs=1)


def test_merge_of_a_residual_of_zeros_has_no_divergence():
  settings = settings_of('hvae_mnist:tiny', merge='residual')
  settings.model.variance = 'exp'
  system, state, batch = begun(settings)
  blank = {name: jax.tree.map(jnp.zeros_like, part) for name, part in state.params['encoder'].items()}
  state = state.replace(params=state.params | {'encoder': blank})
  found = jax.jit(system.evaluate)(KEY, state, batch)
  for level in (1, 2, 3):
    np.testing.assert_array_equal(found[f'kl_nats_layer_{level}'], 0)
  prior = (jnp.asarray([0.3, -1.0]), jnp.asarray([0.4, 0.2]))
  chex.assert_trees_all_equal(ladder.residual((jnp.zeros(2), jnp.zeros(2)), prior), prior)


def test_merge_by_a_residual_moves_the_prior_in_units_of_its_deviation():
  mean, logvar = ladder.residual((jnp.float32(0.7), jnp.float32(0.3)), (jnp.float32(-0.2), jnp.float32(0.8)))
  assert (float(mean), float(logvar)) == (pytest.approx(-0.2 + 0.7 * np.exp(0.4)), pytest.approx(1.1))


def test_merge_by_addition_adds_means_and_log_deviations():
  mean, logvar = ladder.add((jnp.float32(0.7), jnp.float32(0.3)), (jnp.float32(-0.2), jnp.float32(0.8)))
  assert (float(mean), float(logvar)) == (pytest.approx(0.5), pytest.approx(1.1))


PLAIN = {'activation': 'tanh', 'samples': 3, 'bound': 'elbo'}


@pytest.mark.parametrize('order', ['factorised', 'bottom_up', 'top_down'])
def test_merge_of_a_ladder_of_one_level_is_an_autoencoder(order):
  assert_an_autoencoder(order, ((6, 5),), (4,))


def test_merge_of_two_levels_bottom_up_is_an_autoencoder_of_two_layers():
  assert_an_autoencoder('bottom_up', ((6, 5), (5,)), (4, 3))


def assert_an_autoencoder(order, hidden, latents):
  """All metrics of a step, of `evaluate` and of the view `layers` are those of `vae.vae` with the same networks."""
  variant = {'factorised': 'tiny_deck', 'bottom_up': 'tiny_bottom_up', 'top_down': 'tiny'}[order]
  ours = settings_of(f'hvae_mnist:{variant}', hidden=hidden, latents=latents, norm=False, variance='exp', **PLAIN)
  theirs = settings_of('iwae_mnist:tiny', hidden=hidden, latents=latents, **PLAIN)
  theirs.system = 'vae.vae'
  (system, state, batch), (other, like, _) = begun(ours), begun(theirs)
  shapes = lambda tree: jax.tree.map(lambda leaf: leaf.shape, tree)
  assert shapes(state.params) == shapes(like.params)

  def asked(system):
    return system.evaluate(KEY, state, batch), system.views.layers(KEY, state, batch['x'])

  found, expected = jax.jit(lambda: asked(system))(), jax.jit(lambda: asked(other))()
  assert expected[0].keys() <= found[0].keys()
  found = ({name: found[0][name] for name in expected[0]}, found[1])
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6), found, expected)


def test_levels_below_those_of_the_posterior_are_means_of_the_prior():
  """With all levels of the posterior the images are those of its samples; the top level alone is decoded."""
  system, state, batch = begun(settings_of('hvae_mnist:tiny'))
  views, x = system.views, batch['x']
  images = np.asarray(jax.jit(views.levels)(KEY, state, x))
  assert images.shape == (3, *x.shape)
  assert np.abs(images[1:] - images[:-1]).max((1, 2, 3, 4)).min() > 1e-4
  model = systems.ladder.networks.Ladder(
    ((12, 12), (8,), (6,)), (4, 3, 2), (4, 4, 1), 1, 'top_down', 'precision', 'leaky_relu', True, 'softplus'
  )
  variables = {'params': state.params}
  variables['batch_stats'] = {name: state.extra[f'{name}_statistics'] for name in ('encoder', 'decoder')}
  noise = jnp.split(ladders.standard_normal(KEY, (4, 9)), (4, 7), -1)
  rungs, (logits,) = jax.jit(lambda: model.apply(variables, x, noise))()
  np.testing.assert_allclose(images[2], jax.nn.sigmoid(logits).reshape(x.shape), rtol=1e-5)
  np.testing.assert_allclose(images[0], jax.jit(views.decode)(KEY, state, rungs[2].z), rtol=1e-5)
  layers = jax.jit(views.layers)
  pairs = list(zip(layers(KEY, state, x), layers(jax.random.key(7), state, x), strict=True))
  for (mean, _), (again, _) in pairs:  # active units are those whose mean varies with x, whatever is drawn above them
    np.testing.assert_array_equal(mean, again)
  assert all((kl != other).any() for (_, kl), (_, other) in pairs[:2])


def test_batch_statistics_begin_with_those_of_a_batch_and_move_with_each_step():
  settings = settings_of('hvae_mnist:tiny')
  system, _, batch = begun(settings)
  state = jax.jit(system.init)(KEY, batch)
  variances = [leaf for leaf in jax.tree.leaves(state.extra['decoder_statistics']) if leaf.min() > 0]
  assert len(variances) >= 3  # of three bodies; zeros would be statistics that no batch has
  new, _ = jax.jit(system.step)(KEY, state, batch)
  for name in ('encoder_statistics', 'decoder_statistics'):
    moved = [
      np.abs(a - b).max() for a, b in zip(*map(jax.tree.leaves, (state.extra[name], new.extra[name])), strict=True)
    ]
    assert max(moved) > 0


@pytest.mark.parametrize(
  ('variant', 'model', 'message'),
  [
    ('tiny', {'hidden': ((8,), (8,))}, r'config.model.hidden=.* must list the widths of as many levels as'),
    ('tiny', {'merge': 'product'}, 'config.model.merge must be one of add, precision, residual'),
    ('tiny_deck', {'merge': 'add'}, 'config.model.merge is of ladder.top_down alone'),
    ('tiny', {'variance': 'log'}, 'config.model.variance must be one of exp, softplus'),
    ('tiny', {'activation': 'gated'}, 'config.model.activation=gated is without batch normalisation'),
    ('tiny', {'latents': (4, 0, 2)}, 'config.model.latents must be at least 1'),
    ('tiny', {'warm_up_of': 'joint'}, r"one level of latents, got 3 levels: set config.model.warm_up_of='divergence'"),
    ('tiny', {'bound': 'free_bits', 'free_bits': (1.0, 2.0)}, 'must be one number, or one for each of 3 levels'),
    ('tiny', {'bound': 'sticking_the_landing'}, 'needs a normal posterior of one level'),
  ],
)  # fmt: skip
def test_what_a_ladder_refuses(variant, model, message):
  settings = settings_of(f'hvae_mnist:{variant}')
  for name, value in model.items():
    settings.model[name] = value
  with pytest.raises(UserError, match=message):
    systems.build(settings)


NETWORK = {'name': 'gated', 'down': (0, 1), 'latents': 2, 'features': 6, 'blocks': 1, 'dropout': 0.0}


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'name': 'plain'}, 'config.model.network.name must be one of gated'),
    ({'down': (0, 2)}, r'config.model.network.down=\(0, 2\) must list the halvings below each level, at most as many'),
    ({'down': ()}, 'must list the halvings below each level'),
    ({'latents': 0}, 'config.model.network.latents must be at least 1, got 0'),
    ({'dropout': 1.0}, r'config.model.network.dropout must be in \[0, 1\), got 1.0'),
    ({'widths': 3}, r'a key of config.model.network \(GatedEncoder\) must be one of'),
  ],
)
def test_what_a_ladder_of_maps_refuses(change, message):
  settings = settings_of('hvae_mnist:tiny_conv')
  settings.model.network = NETWORK | change
  with pytest.raises(UserError, match=message):
    systems.build(settings)


@pytest.mark.parametrize(
  ('model', 'message'),
  [
    (
      {'down': '32x3,12x2'},
      "config.model.down: 12x2 in '32x3,12x2' follows maps of side 32: halve with 32d2 before it",
    ),
    ({'up': '2x1,8x2'}, "config.model.up: 8x2 in '2x1,8x2' follows levels of side 2: mix them in with 8m2"),
    ({'down': '16x1,16d4,4x1', 'up': '4x1,16m4'}, r'are of images of side 16 and 16, config.data has \(8, 8, 3\)'),
    ({'up': '4x1,8m4'}, "config.model.up='4x1,8m4' has levels of sides that config.model.down='8x1,8d4,2x1' never"),
    ({'latents': 0}, 'config.model.latents must be at least 1'),
    ({'components': 0}, 'config.model.components must be at least 1, got 0'),
    ({'likelihood': 'poisson'}, 'config.model.likelihood must be one of'),
  ],
)
def test_what_a_very_deep_ladder_refuses(model, message):
  with pytest.raises(UserError, match=message):
    systems.build(settings_of('hvae_cifar10:tiny', (8, 8, 3), **model))


@pytest.mark.parametrize(
  ('shape', 'model', 'message'),
  [
    ((4, 4, 1), {'latents': 3}, 'config.model.features=4 must be a multiple of config.model.latents=3'),
    ((4, 4, 1), {'blocks': 0}, 'config.model.blocks must be at least 1, got 0'),
    ((4, 4, 1), {'likelihood': 'bernoulli'}, 'config.model.likelihood must be one of discretized_logistic'),
    ((5, 5, 1), {}, r'images of \(5, 5, 1\), whose sides a stride of 2 must divide: set --config.data.size=6'),
    ((4, 4, 1), {'groups': 3}, 'config.model.groups=3 does not divide'),
  ],
)
def test_what_a_ladder_of_autoregressive_steps_refuses(shape, model, message):
  settings = settings_of('iaf_vae_cifar10:tiny', shape, **model)
  with pytest.raises(UserError, match=message):
    system, _, batch = begun(settings)
    jax.eval_shape(system.step, KEY, jax.eval_shape(system.init, KEY, batch), batch)


def test_maps_of_latents_are_vectors_channel_by_channel():
  """So that groups of latents side by side, which free bits are for, are maps."""
  system, state, batch = begun(settings_of('hvae_mnist:tiny_conv', (8, 8, 1)))
  (_, low), (mean, top) = jax.jit(system.views.layers)(KEY, state, batch['x'])
  assert (low.shape, top.shape, mean.shape) == ((4, 32), (4, 8), (4, 8))
  maps = jnp.arange(16.0).reshape(2, 2, 2, 2)
  flat = ladders._flat(maps, (2,))
  np.testing.assert_array_equal(flat[0], [0, 2, 4, 6, 1, 3, 5, 7])
  np.testing.assert_array_equal(ladders._maps(flat, (2, 2, 2)), maps)
  prior = system.views.prior
  z = jax.jit(prior.sample, static_argnums=2)(KEY, state, 500)
  assert z.shape == (500, 8) and not prior.normal
  top = state.params['decoder']['rungs_0']['top'][0]
  expected = np.asarray(top[..., :2]).transpose(2, 0, 1).ravel()
  np.testing.assert_allclose(z.mean(0), expected, atol=0.25)
  spread = np.exp(0.5 * np.asarray(top[..., 2:]).transpose(2, 0, 1).ravel())
  np.testing.assert_allclose(z.std(0), spread, rtol=0.15)
  normal = -0.5 * ((np.asarray(z) - expected) / spread) ** 2 - np.log(spread) - 0.5 * np.log(2 * np.pi)
  np.testing.assert_allclose(prior.log_prob(KEY, state, z), normal.sum(-1), rtol=1e-4)


def test_the_mean_of_a_mixture_of_logistics_is_that_of_its_samples():
  pixel = pixels.logistic_mixture(3, settings_of('hvae_cifar10:tiny').model)
  likelihood = likelihoods.logistic_mixture((1, 2, 3), pixel)
  table = jnp.asarray(0.4 * np.sin(1.7 * np.arange(40)).reshape(2, 20), 'float32')
  table = table.reshape(2, 10, 2).at[:, 4:7].add(-3).reshape(1, 40)  # narrow, so that little is cut
  rows = (jnp.repeat(table, 20_000, 0),)
  x = jax.jit(likelihood.sample)(KEY, rows)
  np.testing.assert_allclose(x.mean(0), likelihood.mean((table,))[0], atol=0.01)
  single = jnp.full((4, 6), 3 / 255)
  several = likelihood.log_prob(single[:, None], (jnp.broadcast_to(table, (4, 5, 40)),))
  np.testing.assert_allclose(several, jnp.full((4, 5), likelihood.log_prob(single[:1], (table,))[0]), rtol=1e-6)


def test_an_order_that_does_not_exist_is_refused():
  settings = settings_of('hvae_mnist:tiny')
  settings.system = 'ladder.sideways'
  with pytest.raises(UserError, match='has no'):
    experiment.by_path('dgm_jax.systems', settings.system)
