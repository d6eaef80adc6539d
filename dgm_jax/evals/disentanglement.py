"""How far each latent is one factor: the metrics of the field, for any encoder and any simulator of images.

Images are drawn and encoded in compiled chunks; where the factors determine the image and the metrics want more codes
than there are images, every image is encoded once. Draws of factors and scores are NumPy's, in double precision.

Axes: n draws, L examples of a draw, Z latents, K factors.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dgm_jax import data
from dgm_jax.data import preprocess
from dgm_jax.data.factors import Simulator
from dgm_jax.evals import scores
from dgm_jax.runs.subject import Subject
from dgm_jax.runtime import signals
from dgm_jax.views import needs

__all__ = ['disentanglement']

Random = np.random.Generator
CodesOf = Callable[[np.ndarray], np.ndarray]  # factors int [n, K] -> codes [n, Z]
ROWS = 2048  # images drawn and encoded in one program
BLOCK = 250  # draws whose codes are held at a time


class Protocol(NamedTuple):
  """Numbers of a measurement; the defaults are those of Locatello et al. 2019."""

  train: int = 10_000  # features, votes or examples to fit on
  test: int = 5_000
  group: int = 64  # L, examples of a feature or a vote
  prune: float = 0.05  # latents of a smaller standard deviation have no vote


PUBLISHED = Protocol()


@needs('encode')
def disentanglement(seed: int, subject: Subject, protocol: Protocol = PUBLISHED) -> dict[str, float]:
  """Computes all metrics of the means of the posterior.

  A perfect code of the factors has 1 in the beta-VAE's and FactorVAE's metrics, DCI and modularity. On dSprites it has
  only 0.90 in MIG and 0.25 in SAP: there are fewer bins, and fewer lines, than values of a position. Noise has 0.2,
  0.2, 0, and 0.66 in modularity.

  Raises:
    UserError: the factors of the data are not known.
  """
  codes_of, sizes = of_means(seed, subject, protocol)
  random = np.random.default_rng(seed)
  figures = scored(codes_of, sizes, random, protocol) | trees(codes_of, sizes, random, protocol)
  return figures | of_samples(seed, subject, codes_of, protocol)


def of_means(seed: int, subject: Subject, protocol: Protocol) -> tuple[CodesOf, Sequence[int]]:
  """Returns the means of the posterior as a function of the factors, and the number of values of each factor."""
  simulator = data.simulator(subject.config.data)
  return prepared(coder(encoder(subject, 'encode'), simulator, seed), simulator, protocol), simulator.sizes


def of_samples(seed: int, subject: Subject, codes_of: CodesOf, protocol: Protocol) -> dict[str, float]:
  """Computes the total correlation of samples of the posterior, as a normal, if the system has their variances."""
  if not subject.system.views.posterior:
    return {}
  simulator = data.simulator(subject.config.data)
  factors = draw(np.random.default_rng(seed), simulator.sizes, protocol.train)
  variances = np.exp(coder(encoder(subject, 'logvar'), simulator, seed)(factors).astype(np.float64)).mean(0)
  covariance = np.cov(codes_of(factors).astype(np.float64).T) + np.diag(variances)
  return {'total_correlation_of_samples_nats': scores.total_correlation(covariance)}


def scored(codes_of: CodesOf, sizes: Sequence[int], random: Random, protocol: Protocol = PUBLISHED) -> dict[str, float]:
  """Computes all metrics of a code but those of `trees`.

  Args:
    codes_of: factors [n, K] -> codes [n, Z].
    sizes: values of each factor.
    random: for the draws of factors.
    protocol: the numbers of draws.
  """
  train, test = (_examples(codes_of, sizes, random, n) for n in (protocol.train, protocol.test))
  shared, entropy = scores.information(*train), scores.entropies(train[1])
  return {
    'beta_vae_metric': beta_vae(codes_of, sizes, random, protocol),
    'factor_vae_metric': factor_vae(codes_of, sizes, random, protocol),
    'mig': scores.mig(shared, entropy),
    'modularity': scores.modularity(shared[:, entropy > 0]),
    'explicitness': scores.explicitness(train, test),
    'sap': scores.sap(train, test),
    'total_correlation_of_means_nats': scores.total_correlation(np.cov(train[0].T) + 1e-12 * np.eye(len(shared))),
    'pairwise_information_nats': scores.pairwise_information(train[0]),
    'voting_latents': float((train[0].std(0, ddof=1) >= protocol.prune).sum()),
  }


def trees(codes_of: CodesOf, sizes: Sequence[int], random: Random, protocol: Protocol = PUBLISHED) -> dict[str, float]:
  """Computes DCI by gradient-boosted trees. Factors of many values take minutes."""
  importance, accuracy = scores.importances(
    *(_examples(codes_of, sizes, random, n) for n in (protocol.train, protocol.test))
  )
  disentangled, complete = scores.dci(importance)
  return {
    'dci_disentanglement': disentangled, 'dci_completeness': complete, 'dci_informativeness': accuracy
  }  # fmt: skip


def beta_vae(codes_of: CodesOf, sizes: Sequence[int], random: Random, protocol: Protocol = PUBLISHED) -> float:
  """Measures how well a linear classifier of mean |z - z'| finds the factor that pairs of examples agree on.

  The accuracy is held-out.

  Reference: Higgins et al. 2017, beta-VAE, section 3, algorithm 1.
  """
  from sklearn.linear_model import LogisticRegression

  fitted, tested = (_differences(codes_of, sizes, random, n, protocol.group) for n in (protocol.train, protocol.test))
  return float(LogisticRegression(max_iter=1000).fit(*fitted).score(*tested))


def factor_vae(codes_of: CodesOf, sizes: Sequence[int], random: Random, protocol: Protocol = PUBLISHED) -> float:
  """Measures how well the latent that varies least, by majority vote, finds the factor that is held fixed.

  The accuracy is held-out.

  Reference: Kim & Mnih 2018, arXiv:1802.05983, section 4.
  """
  variance = codes_of(draw(random, sizes, protocol.train)).astype(np.float64).var(0, ddof=1)
  voting = np.sqrt(variance) >= protocol.prune
  if not voting.any():
    return 0.0
  votes = np.zeros((2, len(variance), len(sizes)))
  for table, n in zip(votes, (protocol.train, protocol.test), strict=True):
    least, factor = _least(codes_of, sizes, random, n, protocol.group, np.where(voting, variance, np.nan))
    np.add.at(table, (least, factor), 1)
  return float(votes[1][np.arange(len(variance)), votes[0].argmax(1)].sum() / protocol.test)


def draw(random: Random, sizes: Sequence[int], *shape: int) -> np.ndarray:
  """Draws independent, uniform factors, int32 [*shape, K]."""
  return random.integers(0, sizes, (*shape, len(sizes)), np.int32)


def encoder(subject: Subject, which: str) -> Callable[[np.ndarray], jax.Array]:
  """Compiles the function of images uint8 [n, H, W, C] to posterior means or log-variances, [n, Z].

  It gives the means if `which` is 'encode', and the log-variances if it is 'logvar'.
  """
  prepare = preprocess.evaluation(subject.config.data)
  views, key, replicated = subject.system.views, jax.random.key(0), subject.state.step.sharding

  def encode(state, images):
    x = prepare(key, {'x': images, 'index': jnp.arange(images.shape[0])})['x']
    return views.encode(key, state, x) if which == 'encode' else views.posterior(key, state, x)[1]

  compiled = jax.jit(encode, out_shardings=replicated)
  return lambda images: compiled(subject.state, images)


def coder(encode: Callable, simulator: Simulator, seed: int = 0, rows: int = ROWS) -> CodesOf:
  """Returns the function that gives the codes of images with chosen factors.

  Args:
    encode: images uint8 [rows, H, W, C] -> codes [rows, Z].
    simulator: draws the images.
    seed: of what the factors leave open; two calls draw anew.
    rows: images at a time; the last ones are filled up.
  """
  key, calls = jax.random.key(seed), iter(range(2**32))

  def codes_of(factors: np.ndarray) -> np.ndarray:
    filled = np.concatenate([factors, np.repeat(factors[:1], -len(factors) % rows, 0)])
    parts = []
    for chunk in filled.reshape(-1, rows, factors.shape[1]):
      signals.poll()
      images = np.asarray(simulator.draw(jax.random.fold_in(key, next(calls)), chunk))
      parts.append(np.asarray(encode(images)))
    return np.concatenate(parts)[: len(factors)]

  return codes_of


def prepared(codes_of: CodesOf, simulator: Simulator, protocol: Protocol) -> CodesOf:
  """Returns the same function from a table of every image's code, if that is less work."""
  images, wanted = math.prod(simulator.sizes), 3 * protocol.group * (protocol.train + protocol.test)
  if not simulator.fixed or images > wanted:
    return codes_of
  bases = np.array([math.prod(simulator.sizes[i + 1 :]) for i in range(len(simulator.sizes))])
  table = codes_of(np.stack(np.unravel_index(np.arange(images), tuple(simulator.sizes)), 1).astype(np.int32))
  return lambda factors: table[factors @ bases]


def _examples(codes_of: CodesOf, sizes: Sequence[int], random: Random, n: int) -> tuple[np.ndarray, np.ndarray]:
  factors = draw(random, sizes, n)
  return codes_of(factors).astype(np.float64), factors


def _factor(random: Random, sizes: Sequence[int], n: int) -> np.ndarray:
  """Draws the factor that each of n draws agrees on. It has two values or more, since all agree on the others."""
  varied = np.flatnonzero(np.asarray(sizes) > 1)
  return varied[random.integers(0, len(varied), n)]


def _differences(
  codes_of: CodesOf, sizes: Sequence[int], random: Random, n: int, group: int
) -> tuple[np.ndarray, np.ndarray]:
  """Computes features [n, Z], and the factor [n] on which the pairs of each agree."""
  features, factors = [], _factor(random, sizes, n)
  for shared in np.split(factors, range(BLOCK, n, BLOCK)):
    first, second = draw(random, sizes, 2, len(shared), group)
    rows = np.arange(len(shared))
    second[rows, :, shared] = first[rows, :, shared]
    z, other = (
      codes_of(np.stack([first, second]).reshape(-1, len(sizes))).astype(np.float64).reshape(2, len(shared), group, -1)
    )
    features.append(np.abs(z - other).mean(1))
  return np.concatenate(features), factors


def _least(
  codes_of: CodesOf, sizes: Sequence[int], random: Random, n: int, group: int, variance: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """Finds the latent [n] of least variance, as a share of its variance [Z], and the factor [n] held fixed.

  A latent whose variance is nan has no vote.
  """
  least, factors = [], _factor(random, sizes, n)
  for block in np.split(factors, range(BLOCK, n, BLOCK)):
    pairs, rows = draw(random, sizes, len(block), group), np.arange(len(block))
    pairs[rows, :, block] = pairs[rows, :1, block]
    z = codes_of(pairs.reshape(-1, len(sizes))).astype(np.float64).reshape(len(block), group, -1)
    least.append(np.nanargmin(z.var(1, ddof=1) / variance, 1))
  return np.concatenate(least), factors
