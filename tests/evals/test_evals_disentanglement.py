"""Metrics of codes: one on the factors themselves, chance on noise, known vectors, loops, symmetries."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict
from sklearn.metrics import mutual_info_score

from dgm_jax import data
from dgm_jax.core import State, System
from dgm_jax.data import sprites
from dgm_jax.data.factors import Simulator
from dgm_jax.errors import UserError
from dgm_jax.evals import disentanglement, scores
from dgm_jax.runs.subject import Subject
from dgm_jax.runtime import parallel
from dgm_jax.views import Views

SIZES = (3, 6, 40, 32, 32)
FEW = disentanglement.Protocol(train=1500, test=600, group=64)
ROTATION = np.linalg.qr(np.random.default_rng(5).normal(size=(5, 5)))[0]


def standard(factors):
  """The factors, of mean 0 and variance 1."""
  size = np.array(SIZES)
  return (factors - (size - 1) / 2) / np.sqrt((size**2 - 1) / 12)


def noise(factors, width=10):
  return np.random.default_rng(factors[:50].sum()).normal(size=(len(factors), width))


def ideal_and_noise(factors):
  return np.concatenate([standard(factors), noise(factors, 5)], 1)


CODES = {
  'ideal': standard,
  'ideal_and_noise': ideal_and_noise,
  'twice': lambda factors: np.repeat(standard(factors), 2, 1),
  'rotated': lambda factors: standard(factors) @ ROTATION,
  'noise': noise,
}


def random(seed=0):
  return np.random.default_rng(seed)


@pytest.mark.parametrize(
  ('name', 'low', 'high'),
  [('ideal', 1, 1), ('ideal_and_noise', 1, 1), ('twice', 1, 1), ('rotated', 0.6, 0.95), ('noise', 0.14, 0.26)],
)
def test_the_beta_vae_metric(name, low, high):
  assert low <= disentanglement.beta_vae(CODES[name], SIZES, random(), FEW) <= high


@pytest.mark.parametrize(
  ('name', 'low', 'high'),
  [('ideal', 1, 1), ('ideal_and_noise', 1, 1), ('twice', 1, 1), ('rotated', 0.35, 0.95), ('noise', 0.14, 0.26)],
)
def test_the_factor_vae_metric(name, low, high):
  assert low <= disentanglement.factor_vae(CODES[name], SIZES, random(), FEW) <= high


def test_latents_that_hardly_move_have_no_vote():
  faint = lambda factors: np.concatenate([standard(factors), 1e-3 * np.zeros((len(factors), 1))], 1)
  assert disentanglement.factor_vae(faint, SIZES, random(), FEW) == 1
  still = lambda factors: np.zeros((len(factors), 4))
  assert disentanglement.factor_vae(still, SIZES, random(), FEW) == 0


def test_votes_are_those_of_loops():
  few = disentanglement.Protocol(train=60, test=40, group=7)
  found = disentanglement.factor_vae(CODES['rotated'], SIZES, random(3), few)
  again = random(3)  # the same draws in the same order
  variance = CODES['rotated'](disentanglement.draw(again, SIZES, 60)).var(0, ddof=1)
  ballots = []
  for n in (60, 40):
    held = again.integers(0, 5, n)
    drawn = disentanglement.draw(again, SIZES, n, 7)
    votes = []
    for factor, group in zip(held, drawn, strict=True):
      for example in group:
        example[factor] = group[0][factor]
      votes.append((int(np.argmin(CODES['rotated'](group).var(0, ddof=1) / variance)), int(factor)))
    ballots.append(votes)
  majority = {d: np.bincount([k for latent, k in ballots[0] if latent == d], minlength=5).argmax() for d in range(5)}
  assert found == pytest.approx(np.mean([majority[d] == k for d, k in ballots[1]]), abs=1e-12)


def test_features_agree_on_their_factor_alone():
  features, which = disentanglement._differences(lambda f: f.astype(float), SIZES, random(), 300, 16)
  rows = np.arange(300)
  assert not features[rows, which].any()
  others = np.delete(features, 0, 1)[which == 0].mean(0)
  size = np.array(SIZES[1:])
  np.testing.assert_allclose(others, (size**2 - 1) / (3 * size), rtol=0.1)  # E|a - b| of independent, uniform values


def sample(code, n=10_000, seed=0):
  factors = disentanglement.draw(random(seed), SIZES, n)
  return code(factors), factors


@pytest.mark.parametrize(
  ('name', 'mig', 'modularity'),
  [('ideal', 0.896, 1.0), ('ideal_and_noise', 0.895, 0.835), ('twice', 0.0, 1.0), ('noise', 0.0, 0.662)],
)
def test_gap_and_modularity_on_the_grid(name, mig, modularity):
  z, factors = sample(CODES[name])
  shared = scores.information(z, factors)
  assert scores.mig(shared, scores.entropies(factors)) == pytest.approx(mig, abs=0.01)
  assert scores.modularity(shared) == pytest.approx(modularity, abs=0.04)


def test_information_gap_and_modularity_are_those_of_loops():
  z, factors = sample(CODES['rotated'], 500)
  shared, binned = scores.information(z, factors), scores.discrete(z)
  for i in range(5):
    edges = np.histogram(z[:, i], 20)[1]
    np.testing.assert_array_equal(binned[:, i], [sum(value >= edge for edge in edges[:-1]) for value in z[:, i]])
    for j in range(5):
      assert shared[i, j] == pytest.approx(mutual_info_score(binned[:, i], factors[:, j]), abs=1e-6)
  gaps, alone = [], []
  for j in range(5):
    first, second = sorted(shared[:, j])[::-1][:2]
    counts = np.bincount(factors[:, j]) / 500
    gaps.append((first - second) / -(counts * np.log(counts)).sum())
  for row in shared:
    best = row.argmax()
    alone.append(1 - sum(v**2 for j, v in enumerate(row) if j != best) / (row[best] ** 2 * 4))
  assert scores.mig(shared, scores.entropies(factors)) == pytest.approx(np.mean(gaps), abs=1e-6)
  assert scores.modularity(shared) == pytest.approx(np.mean(alone), abs=1e-6)


EYE = np.eye(10)


@pytest.mark.parametrize(
  ('importance', 'disentangled', 'complete'),
  [
    (5 * EYE, 1, 1),
    (np.array([[1.0, 0], [0, 1], [0, 0]]), 1, 1),
    (np.zeros((10, 10)), 0, 0),
    (np.concatenate([EYE, EYE]), 1, 1 - np.log(2) / np.log(20)),
    (EYE[:5].repeat(2, 1)[:, :10], 1 - np.log(2) / np.log(10), 1),
    (EYE[:2], 1, 1),
  ],
)
def test_concentration_of_importances(importance, disentangled, complete):
  np.testing.assert_allclose(scores.dci(importance), (disentangled, complete), atol=1e-6)


@pytest.mark.parametrize(
  ('shared', 'expected'),
  [
    (EYE, 1), (np.diag([1.0, 1, 0]), 2 / 3), (np.zeros((3, 3)), 0), (np.concatenate([EYE, EYE]), 1),
    (np.eye(5).repeat(2, 1), 1 - 1 / 9),
  ],
)  # fmt: skip
def test_modularity_of_shared_information(shared, expected):
  assert scores.modularity(shared) == pytest.approx(expected)


def small(code, n, seed=0):
  """Codes and factors of three factors of 3, 4 and 5 values."""
  factors = random(seed).integers(0, (3, 4, 5), (n, 3))
  return code(factors - np.array([1, 1.5, 2])), factors


MIXED = {
  'ideal': lambda f: np.concatenate([f, random().normal(size=(len(f), 1))], 1),
  'noise': lambda f: random().normal(size=(len(f), 3)),
}


@pytest.mark.parametrize('name', MIXED)
def test_trees_lines_and_planes_on_a_small_grid(name):
  train, test = small(MIXED[name], 250), small(MIXED[name], 300, 1)
  importance, accuracy = scores.importances(train, test)
  disentangled, complete = scores.dci(importance)
  explicit, gap = scores.explicitness(train, test), scores.sap(train, test)
  if name == 'ideal':
    assert min(disentangled, complete, accuracy) > 0.99
    assert explicit > 0.8  # values between the outermost have no half-plane of their own
    assert 0.15 < gap < 0.7
  else:
    assert max(disentangled, complete) < 0.15
    assert abs(explicit - 0.5) < 0.06
    assert gap < 0.08
    assert accuracy < 0.4


def test_no_metric_knows_the_order_or_the_sign_of_latents():
  order, sign = np.array([7, 2, 9, 0, 5, 1, 8, 3, 6, 4]), np.where(np.arange(10) % 3, 1, -1)
  mixed = lambda factors: np.concatenate([standard(factors) @ ROTATION, noise(factors, 5)], 1)
  turned = lambda factors: mixed(factors)[:, order] * sign
  few = disentanglement.Protocol(train=300, test=200, group=16)
  both = [disentanglement.scored(code, (*SIZES[:2], 4, 5, 6), random(), few) for code in (mixed, turned)]
  assert both[0].keys() == both[1].keys()
  for name, value in both[0].items():
    # Bins are closed on one side and the solvers stop near their optimum.
    assert both[1][name] == pytest.approx(value, abs=1e-2), name


def test_a_factor_of_one_value_changes_no_score():
  train, test = small(MIXED['ideal'], 120), small(MIXED['ideal'], 80, 1)
  still = lambda pair: (pair[0], np.concatenate([np.full((len(pair[0]), 1), 7), pair[1]], 1))

  def found(train, test):
    gap = scores.mig(scores.information(*train), scores.entropies(train[1]))
    return gap, scores.explicitness(train, test), scores.sap(train, test)

  assert found(still(train), still(test)) == found(train, test)
  few = [(codes[:40], factors[:40, :2]) for codes, factors in map(still, (train, test))]
  importance, accuracy = scores.importances(*few)
  assert importance.shape == (4, 1) and accuracy == 1 and scores.dci(importance)[1] > 0.99
  ideal = lambda factors: factors[:, 1:] - np.array([1, 1.5])
  protocol = disentanglement.Protocol(train=120, test=80, group=8)
  every = disentanglement.scored(ideal, (1, 3, 4), random(), protocol)
  assert every['beta_vae_metric'] == every['factor_vae_metric'] == 1
  assert every['modularity'] > 0.9 and every['mig'] > 0.9


def test_of_factors_that_are_all_still_nothing_is_measured():
  codes, still = noise(np.ones((40, 1), int), 2), np.full((40, 2), 3)
  for score in (scores.explicitness, scores.sap, scores.importances):
    with pytest.raises(ValueError, match='two values or more'):
      score((codes, still), (codes, still))
  with pytest.raises(ValueError, match='two values or more'):
    scores.mig(scores.information(codes, still), scores.entropies(still))


def test_one_latent_and_one_factor_have_scores():
  factor = np.arange(40)[:, None] % 4
  shared = scores.information(factor + 0.0, factor)
  assert scores.mig(shared, scores.entropies(factor)) == pytest.approx(1)
  assert scores.modularity(shared) == 1
  assert scores.pairwise_information(factor + 0.0) == 0
  assert scores.dci(np.ones((1, 1))) == pytest.approx((1, 1), abs=1e-6)


def test_total_correlation_of_a_normal():
  r = 0.8
  assert scores.total_correlation(np.array([[4, 2 * r], [2 * r, 1]])) == pytest.approx(-0.5 * np.log(1 - r**2))
  assert scores.total_correlation(np.diag([1.0, 2, 3])) == pytest.approx(0)
  z = random().normal(size=(5000, 3))
  assert scores.pairwise_information(z) < 0.05
  assert scores.pairwise_information(np.repeat(z[:, :1], 2, 1)) == pytest.approx(
    scores.entropies(scores.discrete(z[:, :1]))[0]
  )


def test_a_coder_draws_and_encodes_in_chunks_and_a_table_says_the_same():
  simulator = Simulator(('a', 'b'), (3, 4), lambda key, f: jnp.asarray(f[:, :, None, None], jnp.uint8), True)
  encode = jax.jit(lambda x: x.reshape(x.shape[0], -1) * 2.0)
  codes_of = disentanglement.coder(encode, simulator, rows=5)
  factors = random().integers(0, (3, 4), (12, 2)).astype(np.int32)
  np.testing.assert_array_equal(codes_of(factors), 2 * factors)
  table = disentanglement.prepared(codes_of, simulator, FEW)
  assert table is not codes_of
  np.testing.assert_array_equal(table(factors), 2 * factors)
  assert disentanglement.prepared(codes_of, simulator._replace(fixed=False), FEW) is codes_of


def centroid_system():
  """An encoder that knows places and areas: three codes, of which the third is the area."""

  def encode(key, state, x):
    del key, state
    mass, line = x.sum((1, 2, 3)), jnp.arange(x.shape[1], dtype=jnp.float32)
    across, down = x.sum((1, 3)) @ line / mass, x.sum((2, 3)) @ line / mass
    return jnp.stack([across, down, mass / 10], 1)

  posterior = lambda key, state, x: (encode(key, state, x), jnp.zeros((x.shape[0], 3)))
  views = Views(encode=encode, posterior=posterior)
  return System(None, None, None, None, views)


@pytest.fixture(scope='module')
def subject():
  config = ConfigDict(
    {
      'data': {'name': 'sprites', 'preprocess': 'scale', 'levels': 256, 'size': 16, 'channels': 0, 'invert': False},
      'seed': 0,
    }
  )
  state = State(jnp.zeros((), jnp.int32), {}, {}, {})
  return Subject(config, centroid_system(), state, data.Split('', 0, {}), parallel.mesh())


def test_all_metrics_of_an_encoder_of_sprites(subject):
  few = disentanglement.Protocol(train=200, test=120, group=16)
  simulator = data.simulator(subject.config.data)
  assert (simulator.sizes, simulator.fixed) == (SIZES, True)
  codes_of = disentanglement.coder(disentanglement.encoder(subject, 'encode'), simulator, rows=512)
  found = disentanglement.scored(codes_of, SIZES, random(), few)
  # Both places and the scale are told, shape and orientation are not: 3 of 5 factors, and chance for the others.
  assert 0.6 < found['factor_vae_metric'] < 0.95
  assert 0.6 < found['beta_vae_metric'] < 1
  assert found['voting_latents'] == 3
  z, factors = codes_of(disentanglement.draw(random(), SIZES, 200)), disentanglement.draw(random(), SIZES, 200)
  assert np.corrcoef(z[:, 0], factors[:, 3])[0, 1] > 0.99
  assert np.corrcoef(z[:, 1], factors[:, 4])[0, 1] > 0.99
  areas = disentanglement.encoder(subject, 'logvar')(sprites.render(jnp.asarray(factors[:512]), 16))
  assert not np.asarray(areas).any()


def test_the_measurement_of_a_trained_system_is_all_of_them(subject, monkeypatch):
  # Trees of 113 classes take minutes: what they make of codes is tested on a small grid.
  monkeypatch.setattr(scores, 'importances', lambda train, test: (np.eye(3, 5), 0.5))
  few = disentanglement.Protocol(train=120, test=100, group=4)
  found = disentanglement.disentanglement(0, subject, few)
  assert found['dci_disentanglement'] == pytest.approx(1)
  assert found['dci_informativeness'] == 0.5
  codes_of, sizes = disentanglement.of_means(0, subject, few)
  again = disentanglement.scored(codes_of, sizes, random(), few)
  assert {name: found[name] for name in again} == again
  # The posterior's variances are one, so that draws are less dependent than means.
  covariance = np.cov(codes_of(disentanglement.draw(random(), sizes, 120)).astype(float).T)
  expected = scores.total_correlation(covariance + np.eye(3))
  assert found['total_correlation_of_samples_nats'] == pytest.approx(expected)
  assert expected < scores.total_correlation(covariance)


def test_data_without_factors_are_refused(subject):
  config = ConfigDict(subject.config.to_dict() | {'data': subject.config.data.to_dict() | {'name': 'digits'}})
  with config.unlocked():
    config.data.update({'train': 'train', 'test': 'test', 'valid_size': 0})
  with pytest.raises(UserError, match='not known'):
    disentanglement.disentanglement(0, subject._replace(config=config))


def test_information_beside_the_others_is_that_of_the_binary_channel():
  # Two values, posteriors N(-a, 1) and N(a, 1): the closed form is ln 2 - E ln(1 + exp(-2 a z)), z from N(a, 1).
  a, (z, weight) = 0.7, np.polynomial.hermite_e.hermegauss(80)
  exact = np.log(2) - (weight * np.log1p(np.exp(-2 * a * (a + z)))).sum() / weight.sum()
  mean = np.tile(np.array([[-a], [a]]), (200, 1, 1))
  noise = np.random.default_rng(0).standard_normal((200, *mean.shape))
  got = scores.information_beside_others(mean, np.zeros_like(mean), noise)
  assert got == pytest.approx(exact, abs=0.005)


def test_what_drawings_tell_is_the_information_of_a_channel_whatever_the_pixels_repeat():
  # Drawings show the true one of two values in 90 of 100 settings and the other in the rest, each 8 times too sure.
  log_odds = 8 * np.log(0.9 / 0.1)
  right = np.array([[0.0, -log_odds], [-log_odds, 0.0]])
  log_px = np.stack([right] * 90 + [right[::-1]] * 10)
  bits = -(0.9 * np.log2(0.9) + 0.1 * np.log2(0.1))
  assert scores.information_drawn(log_px) == pytest.approx(np.log(2) * (1 - bits), abs=1e-12)
  assert scores.information_drawn(np.zeros((3, 4, 4)) - 7.0) == pytest.approx(0.0, abs=1e-12)
  surely_wrong = np.stack([right[::-1]] * 4)  # the bound of no knowledge is left
  assert scores.information_drawn(surely_wrong) == pytest.approx(0.0, abs=1e-12)
  assert scores.information_drawn(np.stack([1e4 * np.eye(5)] * 2)) == pytest.approx(np.log(5))
  # Of two drawings the first says value 0 with 0.9, the second nothing: ln 2 + (ln 0.9 + ln 0.5) / 2.
  unequal = np.log([[0.9, 0.1], [0.5, 0.5]])
  assert scores.information_drawn(np.stack([unequal] * 2)) == pytest.approx(np.log(2) + np.log(0.45) / 2)


@pytest.mark.parametrize(('apart', 'wanted'), [(0.0, 0.0), (50.0, np.log(7))])
def test_information_beside_the_others_is_none_of_equal_posteriors_and_all_of_distant_ones(apart, wanted):
  mean = np.arange(7.0)[None, :, None] * np.array([apart, 0.0, 0.0])
  logvar = np.full(mean.shape, -0.4)
  noise = np.random.default_rng(1).standard_normal((3, *mean.shape))
  assert scores.information_beside_others(mean, logvar, noise) == pytest.approx(wanted, abs=1e-12)


def test_information_beside_the_others_of_unequal_posteriors_is_that_of_quadrature():
  random = np.random.default_rng(2)
  mean, logvar = random.standard_normal((3, 4, 1)), random.uniform(-2, 1, (3, 4, 1))
  line, own = np.linspace(-14, 14, 20_001), []
  for m, v in zip(mean[..., 0], np.exp(logvar[..., 0]), strict=True):
    density = np.exp(-0.5 * (line[:, None] - m) ** 2 / v) / np.sqrt(2 * np.pi * v)
    part = density * np.log(np.maximum(density, 1e-300) / np.maximum(density.mean(1, keepdims=True), 1e-300))
    own.append(part.mean(1).sum() * (line[1] - line[0]))
  got = scores.information_beside_others(mean, logvar, random.standard_normal((40_000, *mean.shape)))
  assert got == pytest.approx(np.mean(own), abs=0.005)
