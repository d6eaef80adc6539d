"""Figures by class, of labelled normals, and of codes, on numbers of which they are known."""

import numpy as np
import pytest
from scipy.stats import norm

from dgm_jax.data import points
from dgm_jax.evals import classes, codebooks, distances, generated, modes
from dgm_jax.pictures import densities

RANDOM = np.random.default_rng(3)
LABELS = np.repeat([0, 1, 2], 400)
CENTRES = 5 * np.eye(3)[LABELS]


def judged(features, label):
  moments = distances.add(distances.no_moments(features.shape[1]), features)
  return generated.Seen(0.7 * np.eye(3)[label] + 0.1, features, moments)


def normals(deviation, shift=0.0):
  return CENTRES + shift + deviation * RANDOM.normal(size=CENTRES.shape)


def compared(fake, label=LABELS):
  return classes.compare(judged(normals(1.0), LABELS), LABELS, judged(fake, label), LABELS)


def test_figures_by_class_of_normals():
  """Of N(m, s^2 I) from N(m', I) the distance is |m - m'|^2 + D (1 - s)^2 and the ratio of variances s^2."""
  same, narrow = compared(normals(1.0)), compared(normals(0.5, 1.0))
  assert same['intra_fid'] < 0.1
  np.testing.assert_allclose([same['diversity'], narrow['diversity']], [1, 0.25], rtol=0.06)
  np.testing.assert_allclose(narrow['intra_fid'], 3 + 3 * 0.25, rtol=0.08)
  np.testing.assert_allclose(narrow['intra_fid'], np.mean([narrow[f'fid_class_{k}'] for k in range(3)]), rtol=1e-6)
  np.testing.assert_allclose(
    narrow['diversity'], np.mean([narrow[f'diversity_class_{k}'] for k in range(3)]), rtol=1e-6
  )


def test_one_image_a_class_has_the_greatest_accuracy_and_no_diversity():
  one = compared(CENTRES)
  assert (one['class_accuracy_percent'], one['least_class_accuracy_percent'], one['diversity']) == (100, 100, 0)
  wrong = np.where(np.arange(1200) < 100, 1, LABELS)  # a quarter of the first class
  found = compared(CENTRES, wrong)
  np.testing.assert_allclose(found['class_accuracy_percent'], 100 - 100 / 12)
  np.testing.assert_allclose(found['least_class_accuracy_percent'], 75)


def test_diversity_is_one_for_few_images_of_the_law():
  """Of three images the variance about their own mean is 2 / 3 of the law's, of forty 39 / 40."""
  few, many = np.repeat(np.arange(3), 3), np.repeat(np.arange(3), 40)
  draw = lambda labels: np.random.default_rng(1).normal(size=(len(labels), 600))
  found = classes.compare(judged(draw(many), many), many, judged(draw(few), few), few)
  np.testing.assert_allclose(found['diversity'], 1, atol=0.1)


def test_a_judge_of_other_classes_tells_no_accuracy():
  wide = judged(CENTRES, LABELS)._replace(probabilities=np.full((1200, 1008), 1 / 1008))
  found = classes.compare(judged(normals(1.0), LABELS), LABELS, wide, LABELS)
  assert not any('accuracy' in name for name in found) and found['diversity'] == 0


def test_names_of_figures_by_class():
  figures = {'class_accuracy_percent': 1.0, 'least_class_accuracy_percent': 2.0, 'intra_fid': 3.0, 'fid_class_0': 4.0}
  together = {'class_accuracy_percent_classifier/1k': 1, 'least_class_accuracy_percent_classifier/1k': 2}
  together |= {'intra_fid_classifier/1k': 3}
  assert classes.named(figures, 'classifier', 10, 1000) == together | {'fid_classifier_class_0/1k': 4}
  assert classes.named(figures, 'classifier', 100, 1000) == together


def test_distances_of_labelled_normals():
  """Samples at the quantiles have none; shifted ones have the shift, and wider ones E|z| times what they are wider."""
  steps = (np.arange(4000) + 0.5) / 4000
  means, deviations = points.CLASSES
  exact = norm.ppf(steps)[None] * deviations[:, None] + means[:, None]
  found = modes.by_class(RANDOM.permuted(exact, axis=1))
  np.testing.assert_allclose([found['wasserstein_sum'], found['mean_class_2']], [0, 4], atol=1e-9)
  np.testing.assert_allclose(found['deviation_class_1'], 2, rtol=1e-3)
  exact[0] += 0.7
  exact[2] = 2 * exact[2] - 4
  found = modes.by_class(exact)
  np.testing.assert_allclose(found['wasserstein_class_0'], 0.7, rtol=1e-6)
  np.testing.assert_allclose(found['wasserstein_class_2'], 3 * np.sqrt(2 / np.pi), rtol=1e-3)
  np.testing.assert_allclose(found['wasserstein_sum'], 0.7 + 3 * np.sqrt(2 / np.pi), rtol=1e-3)


def test_labelled_points_are_those_normals():
  arrays = points.parts('3classes', None)['train']()
  assert arrays['x'].shape == (100_000, 1) and arrays['x'].dtype == np.float32
  found = modes.by_class(np.stack([arrays['x'][arrays['y'] == k, 0][:30_000] for k in range(3)]))
  assert found['wasserstein_sum'] < 0.1


def test_histograms_of_points_by_class():
  x = np.stack([np.full(50, -1.0), np.linspace(-1, 1, 50)])
  image = densities.draw(x, np.linspace(-1, 1, 400))
  assert (image.dtype, image.shape) == (np.uint8, (3 * 61, 360, 1))
  dark = (image[..., 0] == densities.INK).reshape(3, 61, 360).sum((1, 2))
  assert dark[0] == 4 * densities.HEIGHT  # all in one bar, as high as the panel
  assert dark[1] > 40 * dark[0]


@pytest.mark.parametrize(
  ('real', 'fake', 'expected'),
  [
    ([[0, 1], [2, 3]], [[0, 1], [2, 3]], (4, 4, 4, 0)),
    ([[0, 0]], [[1, 1]], (2, 1, 1, 1)),
    ([0, 0, 1, 1], [0, 1, 1, 1], (2, 2, 4 / 27**0.25, 0.25)),
  ],
)
def test_codes_of_real_and_of_generated_features(real, fake, expected):
  found = codebooks.usage(np.array(real), np.array(fake), 6)
  names = ('codes_used', 'perplexity_real', 'perplexity_fake', 'code_distance')
  np.testing.assert_allclose([found[name] for name in names], expected, rtol=1e-6)
