"""Distances and scores in closed form, by the formulas that published figures are made with, and on any devices."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from dgm_jax import config as experiment
from dgm_jax import data
from dgm_jax.data import points
from dgm_jax.errors import UserError
from dgm_jax.evals import distances, generated, modes
from dgm_jax.evals.judges import inception
from dgm_jax.pictures import nearest, plane
from dgm_jax.pictures.gallery import grid
from dgm_jax.runs.subject import Subject
from dgm_jax.runtime import parallel

RANDOM = np.random.default_rng(11)


def moments(x, cuts=1):
  out = distances.no_moments(x.shape[1])
  for part in np.array_split(x, cuts):
    out = distances.add(out, part)
  return out


def exact(mean, cov):
  """Moments of a normal, as if measured."""
  return distances.Moments(3, np.asarray(mean, float), 2 * np.asarray(cov, float))


def test_moments_are_the_plain_ones_however_the_rows_are_cut():
  x = RANDOM.normal(1e4, 1.0, (501, 7))
  for cuts in (1, 3, 50):
    found = moments(x, cuts)
    np.testing.assert_allclose(found.mean, x.mean(0), rtol=1e-14)
    np.testing.assert_allclose(distances.covariance(found), np.cov(x, rowvar=False), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
  ('a', 'b', 'apart', 'expected'),
  [
    (np.diag([1.0, 4, 9]), np.diag([4.0, 1, 9]), [0, 0, 0], 2.0),
    ([[4.0]], [[9.0]], [3.0], 9 + 1),
    ([[2, 0.5], [0.5, 1]], [[1, -0.3], [-0.3, 3]], [0, 0], 0.9293118549677737),  # they do not commute
    (np.zeros((2, 2)), np.eye(2), [1, 0], 3.0),  # a point
  ],
)
def test_frechet_distance_in_closed_form(a, b, apart, expected):
  zero = np.zeros(len(apart))
  np.testing.assert_allclose(distances.frechet(exact(zero, a), exact(apart, b)), expected, rtol=1e-12)
  np.testing.assert_allclose(distances.frechet(exact(apart, b), exact(zero, a)), expected, rtol=1e-12)


def test_frechet_distance_agrees_with_the_published_formulas():
  x, y = RANDOM.normal(size=(300, 20)) @ RANDOM.normal(size=(20, 20)), RANDOM.normal(0.3, 1.0, (200, 20))
  a, b = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
  apart = np.square(x.mean(0) - y.mean(0)).sum() + np.trace(a + b)
  by_root = apart - 2 * np.trace(scipy.linalg.sqrtm(a @ b)).real  # TTUR
  by_eigenvalues = apart - 2 * np.sqrt(np.linalg.eigvals(a @ b).astype(complex)).real.sum()  # torch-fidelity
  found = distances.frechet(moments(x, 4), moments(y, 3))
  np.testing.assert_allclose(found, by_root, rtol=1e-9)
  np.testing.assert_allclose(found, by_eigenvalues, rtol=1e-9)
  turn = np.linalg.qr(RANDOM.normal(size=(20, 20)))[0]
  np.testing.assert_allclose(distances.frechet(moments(3 * x @ turn + 5), moments(3 * y @ turn + 5)), 9 * found, 1e-9)
  assert abs(distances.frechet(moments(x), moments(x))) < 1e-8


def test_frechet_distance_of_two_samples_of_one_normal():
  # (2 d + d (d + 1) / 2) / N, 2.208 at d = 64, N = 1000; measured 2.20 +- 0.08.
  found = [distances.frechet(*(moments(RANDOM.normal(size=(1000, 64))) for _ in range(2))) for _ in range(4)]
  np.testing.assert_allclose(np.mean(found), 2.208, atol=0.12)


def test_kernel_distance_by_hand():
  # X = {(1, 0), (0, 1)}, Y = {(1, 1), (0, 0)}, d = 2: 1 + 1 - 2 * 2.1875.
  assert distances.kernel(np.eye(2), np.array([[1.0, 1], [0, 0]])) == pytest.approx(-2.375, rel=1e-14)


def test_kernel_distance_agrees_with_its_definition_term_by_term():
  x, y = RANDOM.normal(size=(9, 5)), RANDOM.normal(0.5, 1.0, (7, 5))
  k = lambda a, b: (a @ b / 5 + 1) ** 3
  pairs = lambda z: np.mean([k(a, b) for a, b in itertools.permutations(z, 2)])
  expected = pairs(x) + pairs(y) - 2 * np.mean([k(a, b) for a in x for b in y])
  assert distances.kernel(x, y) == pytest.approx(expected, rel=1e-12)


def test_kernel_distance_of_normals_is_the_closed_form():
  # a = |shift|^2 / d = 1/4: 3 a + 3 a^2 + a^3 + (3 a + 6 a^2) / d + 6 a / d^2 = 0.971069 at d = 64.
  draw = lambda shift: RANDOM.normal(shift, 1.0, (500, 64))
  found = [distances.kernel(draw(0.0), draw(0.5)) for _ in range(30)]
  np.testing.assert_allclose(np.mean(found), 0.971069, atol=4 * 0.034 / math.sqrt(30))
  mean, deviation = distances.kernel_subsets(draw(0.0), draw(0.0), 20, 300)
  assert abs(mean) < 0.01 and 0 < deviation < 0.01


def test_inception_score_in_closed_form():
  certain = np.tile(np.eye(10), (100, 1))
  assert distances.inception_score(certain, 1) == pytest.approx((10.0, 0.0), abs=1e-9)
  assert distances.inception_score(np.full((100, 10), 0.1)) == pytest.approx((1.0, 0.0), abs=1e-12)
  sure = 0.9 * certain + 0.1 / 9 * (1 - certain)
  assert distances.inception_score(sure, 1)[0] == pytest.approx(5.799546, rel=1e-6)
  # One certain row a split: within a split there is nothing to tell apart.
  assert distances.inception_score(np.eye(2).repeat(50, 0), 100) == pytest.approx((1.0, 0.0))
  assert distances.inception_score(np.eye(2).repeat(50, 0), 1)[0] == pytest.approx(2.0)


def test_coverage_of_identical_distributions_is_the_closed_form():
  # 1 - prod_i (N - i) / (2 N - i): 0.9692 with five neighbours, 0.8758 with three, at N = 500.
  pairs = RANDOM.normal(size=(8, 2, 500, 4))
  five, three = ([distances.density_coverage(*pair, k) for pair in pairs] for k in (5, 3))
  mean = lambda found, name: np.mean([one[name] for one in found])
  ratio = lambda k: 1 - math.prod((500 - i) / (1000 - i) for i in range(1, k + 1))
  assert (ratio(5), ratio(3)) == pytest.approx((0.9692, 0.8758), abs=1e-4)
  np.testing.assert_allclose((mean(five, 'coverage'), mean(three, 'coverage')), (ratio(5), ratio(3)), atol=0.02)
  np.testing.assert_allclose(mean(five, 'density'), 1.0, atol=0.05)


def test_precision_and_recall_by_hand():
  real = np.array([[0.0], [1], [2], [10]])  # distances to the second neighbour: 2, 1, 2, 9
  fake = np.array([[-1.0], [3.5], [40], [41]])  # 41, 36.5, 36.5, 37.5
  # -1 and 3.5 lie in real balls (of 0 and 10), 40 and 41 in none; the ball of -1 reaches to 40.
  assert distances.manifolds(real, fake, 2) == {'precision': 0.5, 'recall': 1.0}
  assert distances.manifolds(fake, real, 2) == {'precision': 1.0, 'recall': 0.5}
  # Balls of 0 (-2, 2), 1 (0, 2), 2 (0, 4), 10 (1, 19): those of 0, 2 and 10 hold one, one and one of the four.
  assert distances.density_coverage(real, fake, 2) == {'density': 3 / 8, 'coverage': 3 / 4}


def test_manifolds_at_the_extremes():
  x = RANDOM.normal(size=(600, 8))  # more rows than are held at a time
  assert distances.manifolds(x, x) == {'precision': 1.0, 'recall': 1.0}
  assert distances.density_coverage(x, x)['coverage'] == 1.0
  assert distances.manifolds(x, x + 1e3) == {'precision': 0.0, 'recall': 0.0}
  assert distances.density_coverage(x, x + 1e3) == {'density': 0.0, 'coverage': 0.0}
  collapsed = np.tile(x[:1], (100, 1))
  found = distances.manifolds(x, collapsed)
  assert found['precision'] == 1.0 and found['recall'] < 0.01
  assert distances.density_coverage(x, collapsed)['coverage'] < 0.05


def test_noise_is_told_from_a_mixture():
  """A square of the grid's size finds most modes as evenly as the mixture does; two figures tell it."""
  grid = points.MIXTURES['25gaussians']
  noise = np.random.default_rng(1).uniform(-2.5 / 1.414, 2.5 / 1.414, (2500, 2))
  found = modes.compared(noise, grid)
  assert list(found)[:3] == [f'high_quality_percent{mark}/2500' for mark in ('', '_chance', '_ideal')]
  assert found['modes/2500'] > 18 and found['kl_modes_nats/2500'] < 0.02
  # A cell is 40 deviations wide: 9 pi / 1600 of it lie within three.
  chance = 100 * 9 * math.pi / 1600
  assert abs(found['high_quality_percent_chance/2500'] - chance) < 0.8
  assert abs(found['high_quality_percent/2500'] - chance) < 0.8
  assert found['high_quality_percent_ideal/2500'] > 98
  assert 14 < found['distance_in_deviations_chance/2500'] < 18
  assert abs(found['distance_in_deviations_ideal/2500'] - 1.177) < 0.05


def test_splits_of_the_inception_score_are_shuffled():
  """Sure probabilities of ten classes that come class by class: unshuffled, each split would have one class alone."""
  assert distances.inception_score(np.eye(10).repeat(100, 0))[0] > 9


def test_modes_of_the_mixture_itself_and_of_worse_ones():
  grid = points.MIXTURES['25gaussians']
  found = modes.coverage(points.mixture(RANDOM, 20_000, grid), grid)
  assert found['modes'] == 25
  np.testing.assert_allclose(found['high_quality_percent'], 100 * (1 - math.exp(-4.5)), atol=0.4)
  np.testing.assert_allclose(found['distance_in_deviations'], math.sqrt(2 * math.log(2)), atol=0.03)
  assert found['kl_modes_nats'] < 3 * 24 / 40_000
  assert modes.coverage(np.repeat(grid.centres[:5], 4, 0), grid)['kl_modes_nats'] == pytest.approx(math.log(5))
  off = grid.centres[:3] + np.array([[4 * grid.deviation, 0]])
  assert modes.coverage(off, grid) | {'kl_modes_nats': 0} == {
    'modes': 0, 'high_quality_percent': 0, 'kl_modes_nats': 0, 'distance_in_deviations': pytest.approx(4)
  }  # fmt: skip


@pytest.mark.parametrize(('name', 'count', 'radius'), [('8gaussians', 8, 1.4144), ('25gaussians', 25, None)])
def test_points_have_the_released_scales(name, count, radius):
  mixture = points.MIXTURES[name]
  assert len(np.unique(mixture.centres.round(6), axis=0)) == count
  if radius:
    np.testing.assert_allclose(np.linalg.norm(mixture.centres, axis=1), np.full(8, radius), rtol=1e-4)
  else:
    np.testing.assert_allclose(np.diff(np.unique(mixture.centres[:, 0])), np.full(4, 0.7072), rtol=1e-4)
  x = points.parts(name, None)['test']()['x']
  assert x.shape == (10_000, 2) and x.dtype == np.float32
  assert modes.coverage(x, mixture)['modes'] == count


def test_points_of_a_line_and_of_a_roll():
  x = points.parts('gaussian', None)['train']()['x']
  np.testing.assert_allclose((x.mean(), x.std()), (2, 1), atol=0.02)
  roll = 7.5 * points.parts('swiss_roll', None)['train']()['x']
  radius = np.linalg.norm(roll, axis=1)
  assert 3.5 < radius.min() < 4.72 < 14.1 < radius.max() < 15.5
  assert (points.parts('swiss_roll', None)['train']()['x'] * 7.5 == roll).all()  # the same draw again
  with pytest.raises(UserError, match='no points named'):
    points.parts('9gaussians', None)


def test_plane_puts_samples_over_data_over_the_critics_heights():
  data, fake = np.array([[0.0, 0.5], [-0.8, -0.8]]), np.array([[0.5, 0.0]])
  picture = plane.draw(data, fake, lambda x: x[:, 0], reach=1.0)
  assert picture.shape == (256, 256, 3)
  assert (picture[64 - 1, 128] == plane.DATA).all()  # up is up
  assert (picture[128 - 1, 192] == plane.SAMPLE).all()
  greys = picture[200, :, 0]
  assert (np.diff(greys.astype(int)) >= 0).all() and len(np.unique(greys)) == plane.BANDS
  line = plane.draw(data[:, :1], fake[:, :1], lambda x: x[:, 0])
  assert line.shape == (256, 256, 3) and len(np.unique(line)) > 3


def test_clusters_are_matched_one_to_one():
  y = np.array([0, 0, 1, 1, 2, 2])
  assert generated.matched(np.array([2, 2, 0, 0, 1, 1]), y) == 1.0
  assert generated.matched(np.array([1, 1, 1, 1, 0, 0]), y) == pytest.approx(4 / 6)


@pytest.mark.parametrize('devices', [1, 8])
def test_a_judge_sees_every_image_once_on_any_devices(devices):
  images = RANDOM.integers(256, size=(1300, 2, 2, 1), dtype=np.uint8)

  def see(state, pixels):
    x = pixels.reshape(len(pixels), -1).astype(jnp.float32)
    return x[:, :3] * state, x

  judge = generated.Judge('classifier', see, jnp.float32(0.01))
  seen = generated.look(judge, parallel.mesh(devices), generated._cut(images))
  np.testing.assert_array_equal(seen.features, images.reshape(1300, -1))
  np.testing.assert_allclose(seen.probabilities, jax.nn.softmax(0.01 * images.reshape(1300, -1)[:, :3]), rtol=1e-5)
  np.testing.assert_allclose(seen.moments.mean, images.reshape(1300, -1).mean(0), rtol=1e-12)


def test_samples_are_compared_with_the_split_and_so_are_training_images(monkeypatch):
  """Samples that are the split's own images have the distance 0, and training images, in their place, have not."""
  config = experiment.defaults()
  config.data.update({'name': 'digits', 'shape': (8, 8, 1)})
  split = data.load(config.data, 'test')
  own = generated.first(split, split.size)

  def see(state, pixels):
    x = pixels.reshape(len(pixels), -1)[:, 18:22].astype(jnp.float32) / 255
    return x, x

  monkeypatch.setattr(generated, 'find', lambda judge, shape: generated.Judge('classifier', see, jnp.zeros(())))
  monkeypatch.setattr(generated, 'samples', lambda seed, subject, count: generated._cut(own))
  found = generated.classifier(3, Subject(config, None, None, split, parallel.mesh(1)))
  count = len(own)
  assert found[f'fid_classifier/{count}'] == pytest.approx(0, abs=1e-5)
  x = own.reshape(count, -1)[:, 18:22] / 255
  others = generated.first(data.load(config.data, 'train'), count).reshape(count, -1)[:, 18:22] / 255
  between = distances.frechet(moments(x), moments(others))
  assert found[f'fid_classifier_real/{count}'] == pytest.approx(between, rel=1e-4) and between > 1e-3
  noise = np.random.default_rng(3).integers(256, size=(count, 8, 8, 1)).reshape(count, -1)[:, 18:22] / 255
  apart = distances.frechet(moments(x), moments(noise))
  assert found[f'fid_classifier_noise/{count}'] == pytest.approx(apart, rel=0.2) and apart > 0.05


@pytest.mark.parametrize(('side', 'chunk'), [(28, 1000), (128, 1000), (256, 248), (512, 56), (1024, 8)])
def test_a_program_makes_fewer_of_larger_images(side, chunk):
  assert generated.chunk_of((side, side, 3)) == chunk


def test_names_of_figures_bear_the_judge_and_the_number_of_samples():
  assert generated._named('fid', '_classifier', 10_000) == 'fid_classifier/10k'
  assert generated._named('fid_real', '_classifier', 10_000) == 'fid_classifier_real/10k'
  assert generated._named('inception_score', '', 400) == 'inception_score/400'
  assert generated._named('least_share_percent', '_classifier', 400) == 'least_share_percent_classifier/400'


def test_without_its_weights_inception_says_so(tmp_path):
  with pytest.raises(UserError, match=r'no Inception weights at .*nothing may be called FID'):
    inception.judge(f'{tmp_path}/weights.npz#00')
  np.savez(tmp_path / 'weights.npz', kernel=np.zeros(3))
  with pytest.raises(UserError, match='has the SHA-256'):
    inception.judge(f'{tmp_path}/weights.npz#00')


def test_neighbours_are_the_nearest_training_images():
  train = RANDOM.integers(256, size=(50, 3, 3, 1), dtype=np.uint8)
  images = np.stack([train[7], train[31], np.clip(train[2].astype(int) + 2, 0, 255).astype(np.uint8)])
  index, apart = nearest.neighbours(images, train)
  np.testing.assert_array_equal(index, [7, 31, 2])
  np.testing.assert_allclose(apart[:2], [0, 0], atol=1e-4)
  assert 0 < apart[2] <= 2
  drawn = nearest.picture(images[:2], train, columns=2)
  np.testing.assert_array_equal(drawn, grid(np.concatenate([images[:2], images[:2]]), 2))
