"""Scores of codes beside the factors that they are codes of, in double precision on the host.

Definitions and settings are those of Locatello et al. 2019, arXiv:1811.12359, appendix C, and of its released code.

Axes: N examples, Z latents, K factors.
"""

import numpy as np

__all__ = [
  'dci', 'entropies', 'explicitness', 'importances', 'information', 'information_beside_others',
  'information_drawn', 'mig', 'modularity', 'pairwise_information', 'sap', 'total_correlation',
]  # fmt: skip

BINS = 20  # of equal width, over the range of each latent


def information(codes: np.ndarray, factors: np.ndarray, bins: int = BINS) -> np.ndarray:
  """Computes the mutual information of each latent, in bins, and each factor, [Z, K] nats.

  Args:
    codes: [N, Z].
    factors: whole numbers [N, K].
    bins: of a latent.
  """
  binned = discrete(codes, bins)
  return np.array([[_information(code, factor) for factor in factors.T] for code in binned.T])


def discrete(codes: np.ndarray, bins: int = BINS) -> np.ndarray:
  """Finds the bin of each code [N, Z] among bins of equal width over the latent's range: whole numbers [N, Z]."""
  edges = [np.histogram_bin_edges(code, bins)[:-1] for code in np.asarray(codes, np.float64).T]
  return np.stack([np.digitize(code, edge) for code, edge in zip(codes.T, edges, strict=True)], 1)


def information_beside_others(mean: np.ndarray, logvar: np.ndarray, noise: np.ndarray) -> float:
  """Computes the information of codes on one factor given all others, in nats: I(z; factor | the others).

  The factor is uniform. With z drawn for value k of n, the information is
  ln n + E ln (q(z | k) / sum over all values j of q(z | j)). It is at most ln n, and at most the divergence from the
  prior. If all values have one posterior, it is 0. No latent need have the information alone.

  Args:
    mean: of Gaussian posteriors [J, n, Z]: J settings of the other factors, all n values of this one.
    logvar: likewise.
    noise: standard normal [S, J, n, Z], S draws of each posterior.
  """
  mean, logvar = np.asarray(mean, np.float64), np.asarray(logvar, np.float64)
  z = (mean + np.exp(0.5 * logvar) * noise)[:, :, :, None]  # [S, J, n drawn for, 1, Z]
  off = np.square(z - mean[:, None]) * np.exp(-logvar[:, None]) + logvar[:, None]
  log_q = -0.5 * off.sum(-1)
  own = np.diagonal(log_q, axis1=-2, axis2=-1)
  return float(np.log(mean.shape[1]) + (own - np.logaddexp.reduce(log_q, -1)).mean())


def information_drawn(log_px: np.ndarray) -> float:
  """Computes a lower bound in nats of I(drawing; factor | the others), the information of drawings on one factor.

  Under the drawing of the value k each value's image has a likelihood. A guess of the value is q(j) = p(image j |
  drawing)^t / their sum, and the bound is ln n + E ln q(k). Pixels err together, so that their product is too sure.
  Hence t <= 1 is chosen among a few on every other setting, and the bound is taken on the rest. This is done both ways,
  so that the choice adds nothing. If all values have one drawing, the bound is about 0.

  Args:
    log_px: [J, n, n] nats, of J >= 2 settings of the other factors: each value's drawing (rows), each value's image.

  Reference: Barber & Agakov 2003, equation 3.
  """
  log_w = np.append(2.0 ** -np.arange(10), 0.0)[:, None, None, None] * np.asarray(log_px, np.float64)
  own = np.diagonal(log_w, axis1=-2, axis2=-1) - np.logaddexp.reduce(log_w, -1)  # [t, J, n]
  halves = own[:, ::2].mean((1, 2)), own[:, 1::2].mean((1, 2))
  chosen = [score[choice.argmax()] for score, choice in (halves, halves[::-1])]
  return float(np.log(log_w.shape[-1]) + np.mean(chosen))


def entropies(factors: np.ndarray) -> np.ndarray:
  """Computes the entropy of each factor in the sample, [K] nats."""
  return np.array([_information(factor, factor) for factor in factors.T])


def mig(shared: np.ndarray, entropy: np.ndarray) -> float:
  """Computes the mutual information gap, averaged over factors.

  The gap is the information of the best latent on a factor less that of the second, over the entropy.

  Args:
    shared: [Z, K] nats, `information`.
    entropy: [K] nats, `entropies`; a factor with entropy 0, which has one value, is left out.

  Raises:
    ValueError: every factor has entropy 0.

  Reference: Chen et al. 2018, arXiv:1802.04942, equation 6.
  """
  best = np.sort(np.concatenate([shared, np.zeros((1, shared.shape[1]))]), 0)[::-1]
  there = entropy > 0
  if not there.any():
    raise ValueError(f'entropy: got {entropy}, expected a factor of two values or more')
  return float(((best[0] - best[1])[there] / entropy[there]).mean())


def modularity(shared: np.ndarray) -> float:
  """Measures how far each latent has information on one factor alone, averaged over latents.

  A latent without information on any factor has 0. Factors without information in any latent are counted. If there is a
  single factor, a latent with information on it has it on that factor alone.

  Reference: Ridgeway & Mozer 2018, arXiv:1802.05312, section 3.
  """
  squares = np.square(shared)
  best = squares.max(1)
  others = (squares.sum(1) - best) / (np.where(best > 0, best, 1) * max(shared.shape[1] - 1, 1))
  return float(np.where(best > 0, 1 - others, 0).mean())


def explicitness(train: tuple[np.ndarray, np.ndarray], test: tuple[np.ndarray, np.ndarray]) -> float:
  """Computes the area under the ROC curve of a linear classifier of each value of each factor, averaged.

  Chance is 1/2.

  Args:
    train: codes [N, Z] and factors [N, K] to fit on; a factor of one value is left out.
    test: likewise, to measure on; values that are not in it are left out.

  Raises:
    ValueError: every factor has one value only.

  Reference: Ridgeway & Mozer 2018, arXiv:1802.05312, section 3.
  """
  from sklearn.linear_model import LogisticRegression
  from sklearn.metrics import roc_auc_score

  mean, deviation = train[0].mean(0), np.maximum(train[0].std(0), 1e-12)
  scale = lambda codes: (codes - mean) / deviation
  areas = []
  for factor in _varied(train[1], test[1]):
    fitted, asked = train[1][:, factor], test[1][:, factor]
    model = LogisticRegression(max_iter=1000).fit(scale(train[0]), fitted)
    chance = model.predict_proba(scale(test[0]))
    there = [(value, column) for column, value in enumerate(model.classes_) if 0 < (asked == value).sum() < len(asked)]
    areas.append(np.mean([roc_auc_score(asked == value, chance[:, column]) for value, column in there]))
  return float(np.mean(areas))


def sap(train: tuple[np.ndarray, np.ndarray], test: tuple[np.ndarray, np.ndarray]) -> float:
  """Computes the separated attribute predictability: accuracy of the best latent less that of the second, averaged.

  Each latent alone predicts each factor of two values or more. The classifier is a linear support vector machine with
  balanced classes and C = 0.01.

  Raises:
    ValueError: every factor has one value only.

  Reference: Kumar et al. 2018, arXiv:1711.00848, section 3.
  """
  from sklearn.svm import LinearSVC

  def accuracy(latent: int, factor: int) -> float:
    model = LinearSVC(C=0.01, class_weight='balanced', dual=False, max_iter=10_000)
    model.fit(train[0][:, [latent]], train[1][:, factor])
    return float((model.predict(test[0][:, [latent]]) == test[1][:, factor]).mean())

  scores = np.array([[accuracy(z, k) for k in _varied(train[1])] for z in range(train[0].shape[1])])
  best = np.sort(np.concatenate([scores, np.zeros((1, scores.shape[1]))]), 0)[::-1]
  return float((best[0] - best[1]).mean())


def importances(train: tuple[np.ndarray, np.ndarray], test: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, float]:
  """Computes importances of latents to gradient-boosted trees, and the trees' mean accuracy.

  There are trees for each factor of two values or more.

  Returns: importances [Z, K], and the accuracy.

  Raises:
    ValueError: every factor has one value only.
  """
  from sklearn.ensemble import GradientBoostingClassifier

  columns, accuracies = [], []
  for factor in _varied(train[1]):
    fitted, asked = train[1][:, factor], test[1][:, factor]
    model = GradientBoostingClassifier(random_state=0).fit(train[0], fitted)
    columns.append(model.feature_importances_)
    accuracies.append(model.score(test[0], asked))
  return np.stack(columns, 1), float(np.mean(accuracies))


def dci(importance: np.ndarray) -> tuple[float, float]:
  """Computes disentanglement and completeness of importances [Z, K].

  They are one less the normalised entropy of rows, and of columns.

  Reference: Eastwood & Williams 2018, A framework for the quantitative evaluation of disentangled representations.
  """
  return _concentration(importance), _concentration(importance.T)


def total_correlation(covariance: np.ndarray) -> float:
  """Computes the total correlation in nats of the normal with this covariance [Z, Z]."""
  return float(0.5 * (np.log(np.diag(covariance)).sum() - np.linalg.slogdet(covariance)[1]))


def pairwise_information(codes: np.ndarray, bins: int = BINS) -> float:
  """Computes the mean mutual information of two latents, in bins, in nats; 0 for one latent."""
  shared = information(codes, discrete(codes, bins), bins)
  return float(shared[~np.eye(len(shared), dtype=bool)].mean()) if len(shared) > 1 else 0.0


def _information(a: np.ndarray, b: np.ndarray) -> float:
  """Computes the mutual information of two columns of whole numbers [N], in nats."""
  _, a = np.unique(a, return_inverse=True)
  _, b = np.unique(b, return_inverse=True)
  joint = np.zeros((a.max() + 1, b.max() + 1))
  if 1 in joint.shape:
    return 0.0  # exactly: there is but one value
  np.add.at(joint, (a, b), 1 / len(a))
  apart = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
  there = joint > 0
  return float(max(0.0, (joint[there] * np.log(joint[there] / apart[there])).sum()))


def _concentration(importance: np.ndarray) -> float:
  """Computes one less each row's entropy over its maximum, weighed by the rows' sums.

  A row of one column is concentrated.
  """
  total = importance.sum()
  if total <= 0:
    return 0.0
  row = importance + 1e-11
  share = row / row.sum(1, keepdims=True)
  entropy = -(share * np.log(share)).sum(1) / np.log(max(importance.shape[1], 2))
  return float(((1 - entropy) * importance.sum(1) / total).sum())


def _varied(*tables: np.ndarray) -> np.ndarray:
  """Finds the columns that have two values or more in each table [N, K]. The others carry no information.

  Raises:
    ValueError: no column has.
  """
  varying = np.flatnonzero(np.all([(table != table[:1]).any(0) for table in tables], 0))
  if not len(varying):
    raise ValueError('factors: each has one value only, expected two values or more of one factor at least')
  return varying
