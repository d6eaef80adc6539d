"""Systems in closed form beside their mathematics, the golden variances, the collapse toy, and the page of topics."""

import itertools
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict
from scipy import stats

from dgm_jax import config as experiment
from dgm_jax import errors, systems
from dgm_jax.classical import em, mixture
from dgm_jax.commands import report
from dgm_jax.models import dequantize
from dgm_jax.models.deep_mixture import DeepMixture
from dgm_jax.pages.topics import collapse, elbo_forms, estimators, page
from dgm_jax.systems.parts import likelihoods, pixels


def build(name, shape, **model):
  config = experiment.defaults()
  config.system, config.model = name, model
  config.optimizer = {'model': experiment.optimizer()}
  config.steps = 10
  with config.unlocked():
    config.data.shape = shape
  return systems.build(config)


def images(n, shape, seed=0):
  return jnp.asarray(np.random.default_rng(seed).random((n, *shape)), jnp.float32)


# --- estimators ---


def test_the_golden_variances_and_unbiasedness_by_enumeration():
  rows = [*estimators._variances(), *estimators._unbiased()]
  assert [row.predicted for row in rows[:6]] == [4, 30, 18, 14, 14, 16 / 3]
  assert [row.tolerance for row in rows[6:]] == [1e-12] * 4
  assert [row.name for row in rows if not row.holds] == []


def test_estimators_agree_in_mean_and_baselines_take_variance_away():
  """The encoder's gradient at one state and batch, over the estimators' noise."""
  model = {
    'posterior': 'normal', 'likelihood': 'bernoulli', 'hidden': (6,), 'latents': 2, 'samples': 2, 'activation': 'tanh',
  }  # fmt: skip
  x = {'x': jnp.round(images(8, (3, 3, 1)))}
  found = {}
  for name in ('reparametrized', 'score', 'leave_one_out'):
    system = build(f'estimators.{name}', (3, 3, 1), **model)
    state = system.init(jax.random.key(0), x)
    gradient = lambda key, system=system, state=state: system.views.gradient(key, state, x)
    head = jax.jit(jax.vmap(lambda key, gradient=gradient: gradient(key)['heads_0']['Dense_0']['kernel']))
    draws = head(jax.random.split(jax.random.key(1), 4000))
    found[name] = np.asarray(draws, np.float64).reshape(4000, -1)
  for name in ('score', 'leave_one_out'):
    error = np.sqrt((found[name].var(0) + found['reparametrized'].var(0)) / 4000)
    assert (np.abs(found[name].mean(0) - found['reparametrized'].mean(0)) < 5 * error).all()
  spread = {name: draws.var(0).sum() for name, draws in found.items()}
  assert spread['score'] > 3 * spread['leave_one_out'] > 3 * spread['reparametrized']


def test_discrete_latents_cannot_be_reparametrized_and_leave_one_out_takes_two():
  model = {'likelihood': 'bernoulli', 'hidden': (6,), 'latents': 2, 'activation': 'tanh'}
  with pytest.raises(errors.UserError, match='needs latents that pass gradients'):
    build('estimators.reparametrized', (3, 3, 1), posterior='bernoulli', samples=2, **model)
  with pytest.raises(errors.UserError, match='samples of 2 or more'):
    build('estimators.leave_one_out', (3, 3, 1), posterior='normal', samples=1, **model)


# --- mixtures ---


def test_one_step_of_the_mixture_system_is_one_step_of_em():
  system = build('latent.gmm', (1, 3, 1), components=3, covariance='full', power=0.0, regularization=1e-3)
  x = images(60, (1, 3, 1))
  state = system.init(jax.random.key(0), {'x': x})
  new, metrics = jax.jit(system.step)(jax.random.key(1), state, {'x': x})
  centred = x.reshape(60, 3) - x.reshape(60, 3).mean(0)[None]
  expected, evidence = em.step(mixture.full(), centred, mixture.Mixture(**state.params['mixture']), 1e-3)
  for name, value in expected._asdict().items():
    np.testing.assert_allclose(new.params['mixture'][name], value, rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(metrics['nll_nats'], -evidence / 60, rtol=1e-5)
  nll = system.evaluate(jax.random.key(0), new, {'x': x})['nll_nats']
  weights, means, covariances = (np.asarray(a, np.float64) for a in expected)
  density = sum(
    w * stats.multivariate_normal.pdf(np.asarray(centred), m, c)
    for w, m, c in zip(weights, means, covariances, strict=True)
  )
  np.testing.assert_allclose(nll, -np.log(density), rtol=1e-3, atol=1e-3)


def test_a_deep_mixture_is_the_flat_mixture_of_its_paths():
  """2 x 3 components in 4 dimensions: six normals whose moments come from composing the maps."""
  with jax.enable_x64(True):
    network = DeepMixture((2, 3), 4)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(20, 4)))
    params = jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), network.init(jax.random.key(0), x)['params'])
    params['logits_0'], params['logits_1'] = jnp.asarray([0.2, -0.4]), jnp.asarray([0.1, 0.7, -0.3])
    tops, log_weights = network.apply({'params': params}, x)
    deep = jax.nn.logsumexp(log_weights[None] - 0.5 * (jnp.square(tops) + np.log(2 * np.pi)).sum(-1), 1)
    flat, softmax = [], [np.asarray(jax.nn.log_softmax(params[f'logits_{i}'])) for i in range(2)]
    for i, j in itertools.product(range(2), range(3)):
      a, b = (np.linalg.inv(np.asarray(params[f'kernel_{n}'][k])) for n, k in ((0, i), (1, j)))
      mean = a @ (b @ -np.asarray(params['bias_1'][j]) - np.asarray(params['bias_0'][i]))
      normal = stats.multivariate_normal(mean, a @ b @ b.T @ a.T)
      flat.append(softmax[0][i] + softmax[1][j] + normal.logpdf(np.asarray(x)))
    np.testing.assert_allclose(deep, np.logaddexp.reduce(flat, 0), atol=1e-10)
    path = [jnp.asarray([1] * 20), jnp.asarray([2] * 20)]
    top = tops[:, 1 * 3 + 2]
    back = network.apply({'params': params}, top, path, method='generate')
    np.testing.assert_allclose(back, x, atol=1e-10)


# --- baselines ---


def test_the_normal_has_the_moments_of_all_batches_together():
  shape = (3, 2, 1)
  system = build('baseline.gaussian', shape, ridge=0.0)
  x = images(90, shape)
  state = system.init(jax.random.key(0), {'x': x})
  for part in jnp.split(x, 3):
    state, _ = system.step(jax.random.key(0), state, {'x': part})
  flat = np.asarray(x, np.float64).reshape(90, 6)
  density = stats.multivariate_normal(flat.mean(0), np.cov(flat.T, bias=True)).logpdf(flat)
  measured = system.evaluate(jax.random.key(0), state, {'x': x})
  np.testing.assert_allclose(measured['nll_nats'], -density, rtol=1e-4, atol=1e-4)
  np.testing.assert_allclose(measured['bits_per_dim'], -density / (6 * np.log(2)) + 8, rtol=1e-4, atol=1e-4)
  draws = np.asarray(system.sample(jax.random.key(1), state, 40_000)).reshape(-1, 6)
  np.testing.assert_allclose(draws.mean(0), flat.mean(0), atol=0.01)
  np.testing.assert_allclose(np.cov(draws.T), np.cov(flat.T, bias=True), atol=0.005)


def test_histograms_sum_to_one_and_count_every_pixel():
  shape = (1, 2, 1)
  x = jnp.asarray([[0, 3], [0, 1], [2, 3]], jnp.float32).reshape(3, *shape) / 3
  every = jnp.asarray(list(itertools.product(range(4), repeat=2)), jnp.float32).reshape(16, *shape) / 3
  # All pixels: levels 0, 1, 2, 3 seen 2, 1, 1, 2 times; each pixel: 2, 0, 1, 0 and 0, 1, 0, 2; all begun at one.
  expected = {'histogram': [(3, 2, 2, 3), (3, 2, 2, 3)], 'position_histogram': [(3, 1, 2, 1), (1, 2, 1, 3)]}
  for name, counts in expected.items():
    system = build(f'baseline.{name}', shape, levels=4)
    state, _ = system.step(jax.random.key(0), system.init(jax.random.key(0), {'x': x}), {'x': x})
    probs = np.exp(-np.asarray(system.evaluate(jax.random.key(0), state, {'x': every})['nll_nats']))
    first, second = (np.array(c) / sum(c) for c in counts)
    np.testing.assert_allclose(probs.reshape(4, 4), np.outer(first, second), rtol=1e-5)
    np.testing.assert_allclose(probs.sum(), 1, rtol=1e-5)


def test_uniform_is_eight_bits():
  system = build('baseline.uniform', (4, 4, 3), levels=256)
  measured = system.evaluate(jax.random.key(0), system.init(jax.random.key(0), {}), {'x': images(2, (4, 4, 3))})
  np.testing.assert_allclose(measured['bits_per_dim'], 8, rtol=1e-6)


def test_of_seventeen_levels_all_densities_are_of_the_same_thing():
  """Flat in its own space, a histogram, a density of dequantized pixels and a discretized one have log2 17 bits."""
  bits, shape = math.log2(17), (4, 4, 1)
  config = experiment.defaults()
  config.system, config.model = 'baseline.uniform', {'levels': 256}
  with config.unlocked():
    config.data.shape, config.data.levels = shape, 17
  uniform, x = systems.build(config), images(2, shape)
  measured = uniform.evaluate(jax.random.key(0), uniform.init(jax.random.key(0), {}), {'x': x})
  np.testing.assert_allclose(measured['bits_per_dim'], bits, rtol=1e-6)
  assert likelihoods.gaussian(17).bits(0.0, 16) == pytest.approx(bits)
  grid = jnp.arange(17.0)[:, None] / 8 - 1
  for numbers in ((jnp.zeros((1, 1)), jnp.full((1, 1), -2.0)), (jnp.full((1, 1), 0.3), jnp.full((1, 1), -0.5))):
    likelihood = likelihoods.discretized_logistic(17)
    np.testing.assert_allclose(np.exp(likelihood.log_prob(grid, numbers)).sum(), 1, rtol=1e-5)
    drawn = likelihood.sample(jax.random.key(0), tuple(jnp.broadcast_to(n, (500, 1)) for n in numbers))
    assert np.isin(np.round(8 * np.asarray(drawn) + 8, 4), np.arange(17)).all()
  mixture_of = pixels.logistic_mixture(1, ConfigDict({'components': 2}), 17)
  numbers = jnp.broadcast_to(jnp.asarray([0.2, -0.4, -0.5, 0.6, -1.0, -2.0])[None], (17, 6))
  np.testing.assert_allclose(np.exp(mixture_of.log_prob(grid, numbers)).sum(), 1, rtol=1e-5)
  flow = dequantize.Dequantizer(4, 17)
  levels = (jnp.arange(17.0) + 0.5).reshape(1, 17, 1, 1) / 17
  same = jax.tree.map(lambda p: p + 0.3, flow.init(jax.random.key(0), levels, jax.random.key(1)))
  log_q = flow.apply(same, levels, jax.random.key(2))[1]
  within = flow.apply(same, levels + 0.4 / 17, jax.random.key(2))[1]
  np.testing.assert_array_equal(log_q, within)  # it is told the level alone


# --- forms of the bound, collapse ---


def test_the_three_forms_of_the_bound_are_one_number():
  np.testing.assert_allclose(elbo_forms.linear_gaussian(1.0, 0.5, 1.0), -1.668939, atol=1e-6)
  for arguments in ((2.0, -0.3, 0.2), (-1.0, 1.5, 3.0)):
    np.testing.assert_allclose(np.ptp(elbo_forms.linear_gaussian(*arguments)), 0, atol=1e-12)


def test_the_latent_is_used_where_the_decoder_cannot_do_without():
  run = collapse._run(0.8, 'diagonal', 'elbo')
  bound, kl = collapse._rows('', run, -2.327051, 1.098612, 0.05)
  assert bound.holds and kl.holds
  assert kl.tolerance == 0.05 and bound.tolerance == 0.01


# --- the page ---


def test_the_page_marks_what_does_not_hold():
  rows = [page.Row('a < b', 1.0, 1.05, 0.1), page.Row('wrong', 1.0, 1.5, 0.1), page.Row('nan', 0.0, np.nan, 1.0)]
  topic = page.Topic(
    'A & B', 'text', rows, [page.Figures('more', ('', 'x'), [['y', 2.5]])], {'c': {'train': [(0, 1), (1, 2)]}},
    {'p': np.zeros((2, 2, 1), np.uint8)},
  )  # fmt: skip
  shown = page.text('name', topic)
  assert shown.count('DOES NOT HOLD') == 2 and 'A & B (name)' in shown
  document = page.document('A title', {'name': topic}, {'name': 1.5})
  assert (
    '<title>A title</title>' in document
    and document.count('class=missed') == 2
    and '1 of 3 predicted figures hold' in document
  )
  assert 'a &lt; b' in document and 'data:image/png;base64' in document and '<svg' in document


def test_the_command_writes_a_page_and_refuses_an_unknown_topic(tmp_path, monkeypatch, capsys):
  from dgm_jax.pages.topics import theory

  monkeypatch.setattr(theory.cluster, 'start', lambda: None)  # which turns a cache on, for the whole process
  monkeypatch.setattr(theory.experiment, 'by_path', lambda package, name: lambda: page.Topic(name, json.dumps(name)))
  report.main(['report', '--topic=em,surgery', f'--out={tmp_path / "page.html"}'])
  assert 'every predicted figure holds' in capsys.readouterr().out
  assert (tmp_path / 'page.html').read_text().count('<section') == 2
  with pytest.raises(errors.UserError, match="did you mean 'collapse'"):
    report.main(['report', '--topic=colapse'])
  with pytest.raises(errors.UserError, match='give one of'):
    report.main(['report', '--topic=em', '--results'])
