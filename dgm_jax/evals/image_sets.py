"""Figures of sets of images by the features of a network, for images of one's own.

Images are uint8 [N, H, W, C]. Features are those of a judge by its name, as `config.judge` has it: a classifier's run,
file or name in weights/, or 'inception:FILE#SHA256', with which figures compare with published ones. Or they are a
function of one's own, uint8 [n, H, W, C] -> [n, F].
"""

from collections.abc import Callable

import numpy as np

from dgm_jax.errors import UserError
from dgm_jax.evals import distances, generated
from dgm_jax.runtime import parallel

__all__ = ['fid', 'inception_score', 'kid', 'manifolds']

Features = str | Callable[[np.ndarray], np.ndarray]


def fid(x: np.ndarray, y: np.ndarray, features: Features) -> float:
  """Computes the Frechet distance of two sets of images, by the means and covariances of their features.

  Reference: Heusel et al. 2017, arXiv:1706.08500, equation 6.
  """
  moments = (distances.add(distances.no_moments(h.shape[1]), h) for h in _features(features, x, y))
  return distances.frechet(*moments)


def kid(x: np.ndarray, y: np.ndarray, features: Features) -> float:
  """Computes the kernel distance of two sets of images, a mean over subsets of at most 1000.

  Reference: Binkowski et al. 2018, arXiv:1801.01401, equation 4.
  """
  return distances.kernel_subsets(*_features(features, x, y))[0]


def manifolds(real: np.ndarray, fake: np.ndarray, features: Features) -> dict[str, float]:
  """Computes precision, recall, density and coverage of generated images.

  Reference: Kynkaanniemi et al. 2019, arXiv:1904.06991; Naeem et al. 2020, arXiv:2002.09797.
  """
  pair, k = _features(features, real, fake), generated.NEIGHBOURS
  return distances.manifolds(*pair, k['manifolds']) | distances.density_coverage(*pair, k['density_coverage'])


def inception_score(x: np.ndarray, judge: str, splits: int = 10) -> float:
  """Computes exp(mean KL(p(y|x) | p(y))) of a judge's classes, a mean over splits.

  Reference: Salimans et al. 2016, arXiv:1606.03498, section 4.
  """
  return distances.inception_score(_see(judge, x).probabilities, splits)[0]


def _features(features: Features, *sets: np.ndarray) -> list[np.ndarray]:
  """Computes the features [N, F] of each set.

  Raises:
    UserError: a set holds no uint8 images.
  """
  if isinstance(features, str):
    return [_see(features, images).features for images in sets]
  return [np.asarray(features(_checked(images)), np.float64) for images in sets]


def _see(judge: str, images: np.ndarray) -> generated.Seen:
  images = _checked(images)
  chunk = generated.chunk_of(images.shape[1:])
  chunks = (images[start : start + chunk] for start in range(0, len(images), chunk))
  return generated.look(generated.find(judge, images.shape[1:]), parallel.mesh(), chunks)


def _checked(images: np.ndarray) -> np.ndarray:
  images = np.asarray(images)
  if images.ndim != 4 or images.dtype != np.uint8 or len(images) < 2:
    raise UserError(f'images are {images.dtype} {images.shape}: give two or more as uint8 [N, H, W, C]')
  return images
