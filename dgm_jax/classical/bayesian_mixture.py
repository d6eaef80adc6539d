"""Mean field for mixtures of normals: q(z) q(parameters), the parameters conjugate, or a point.

With Dirichlet and Gauss-Wishart factors this is the variational Bayesian mixture. With a point it is EM, update for
update.

Axes: N examples, D dimensions, K components, F features.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import digamma, gammaln

from dgm_jax.classical import em, mean_field
from dgm_jax.classical.mixture import Mixture, Responsibilities, Structure, full, natural, respond, split

__all__ = ['conjugate', 'fit', 'point', 'prior']


class NormalWishart(NamedTuple):
  """A Dirichlet over the weights, and a Gauss-Wishart over mean and precision of each component.

  As a prior it is the same for all components: the K axis has size 1.
  """

  concentration: jax.Array  # [K]
  mean_precision: jax.Array  # [K] b: the mean given the precision L has precision b L
  means: jax.Array  # [K, D]
  dof: jax.Array  # [K] degrees of freedom, > D - 1
  scale_inverses: jax.Array  # [K, D, D] inverses of the Wishart's scale matrices


class Parameters(NamedTuple):
  """A family of factors q(parameters), as functions for mean field."""

  structure: Structure
  update: Callable[[Responsibilities], Any]  # responsibilities -> the best factor
  expected: Callable[[Any], jax.Array]  # [K, F] expected natural parameters
  divergence: Callable[[Any], jax.Array]  # [] nats, from the prior


def prior(x: jax.Array, concentration: float, mean_precision: float = 1.0, dof: float | None = None) -> NormalWishart:
  """Returns the prior of one component with the data's mean and covariance.

  Args:
    x: [N, D].
    concentration: of the Dirichlet; below 1, superfluous components lose their weight.
    mean_precision: of the mean, in units of the precision.
    dof: degrees of freedom of the Wishart; D if None.
  """
  one = lambda value: jnp.full(1, value, x.dtype)
  covariance = jnp.cov(x.T).reshape(1, x.shape[1], x.shape[1])
  dof = float(x.shape[1]) if dof is None else dof
  return NormalWishart(one(concentration), one(mean_precision), x.mean(0)[None], one(dof), covariance)


def conjugate(prior: NormalWishart, components: int) -> Parameters:
  """Returns the factors that follow from the model's conjugacy: Dirichlet and Gauss-Wishart.

  Reference: Bishop 2006, Pattern Recognition and Machine Learning, equations 10.57 to 10.63.
  """
  structure, dims = full(), prior.means.shape[1]

  def update(statistics: Responsibilities) -> NormalWishart:
    counts, means, covariances = split(structure, statistics.sums, dims)
    mean_precision = prior.mean_precision + counts
    centre = (prior.mean_precision[:, None] * prior.means + counts[:, None] * means) / mean_precision[:, None]
    offset = means - prior.means
    weight = (prior.mean_precision * counts / mean_precision)[:, None, None]
    scatter = counts[:, None, None] * covariances + weight * offset[:, :, None] * offset[:, None, :]
    return NormalWishart(
      prior.concentration + counts, mean_precision, centre, prior.dof + counts, prior.scale_inverses + scatter
    )

  def divergence(q: NormalWishart) -> jax.Array:
    return _dirichlet_kl(q.concentration, prior.concentration, components) + _normal_wishart_kl(q, prior).sum()

  return Parameters(structure=structure, update=update, expected=expected_natural, divergence=divergence)


def point(structure: Structure, dims: int, regularization: float = 0.0) -> Parameters:
  """Returns point factors under a flat prior; the bound excludes the entropy of a point, an infinite constant.

  Reference: Bishop 2006, Pattern Recognition and Machine Learning, section 9.4.
  """

  def update(statistics: Responsibilities) -> Mixture:
    return em.maximise(structure, statistics, dims, regularization)

  def expected(mixture: Mixture) -> jax.Array:
    return natural(structure, mixture)

  def divergence(mixture: Mixture) -> jax.Array:
    return jnp.zeros((), mixture.means.dtype)

  return Parameters(structure=structure, update=update, expected=expected, divergence=divergence)


def expected_natural(q: NormalWishart) -> jax.Array:
  """Computes E_q of the natural parameters, [K, F].

  Reference: Bishop 2006, Pattern Recognition and Machine Learning, equations 10.64 to 10.66.
  """
  precisions, log_dets = full().precisions(q.scale_inverses)
  dims = q.means.shape[1]
  halves = 0.5 * (q.dof[:, None] - jnp.arange(dims, dtype=q.dof.dtype)[None])
  log_dets = log_dets + digamma(halves).sum(1) + dims * jnp.log(2.0)
  log_weights = digamma(q.concentration) - digamma(q.concentration.sum())
  spread = 0.5 * dims / q.mean_precision  # of the mean around its own
  return full().natural(log_weights - spread, q.means, q.dof[:, None, None] * precisions, log_dets)


def bound(parameters: Parameters, factors: mean_field.Factors) -> jax.Array:
  """Computes the evidence lower bound in nats, []: E log p(x, z, parameters) + H[q(z)] + H[q(parameters)]."""
  latent, q = factors['latent'], factors['parameters']
  energy = jnp.vdot(parameters.expected(q), latent.sums, precision='highest')
  return energy + latent.entropy - parameters.divergence(q)


def fit(
  parameters: Parameters, x: jax.Array, start: Responsibilities, sweeps: int, tolerance: float = 0.0
) -> mean_field.Ascent:
  """Ascends by coordinates over q(parameters) and q(z), in this order, from responsibilities.

  Args:
    parameters: `conjugate(...)` or `point(...)`.
    x: [N, D], centred.
    start: `mixture.statistics` of the initial responsibilities.
    sweeps: most sweeps.
    tolerance: nats that a sweep must gain; if negative, all sweeps are run.

  Returns:
    factors 'parameters' and 'latent', and the bound after every update.

  Reference: Bishop 2006, Pattern Recognition and Machine Learning, section 10.2.1.
  """

  def update_parameters(q):
    return parameters.update(q['latent'])

  def update_latent(q):
    return respond(parameters.structure, parameters.expected(q['parameters']), x)[0]

  updates = {'parameters': update_parameters, 'latent': update_latent}
  factors = {'parameters': parameters.update(start), 'latent': start}
  return mean_field.ascend(updates, lambda q: bound(parameters, q), factors, sweeps, tolerance)


def mean_mixture(q: NormalWishart) -> Mixture:
  """Returns the mixture with the expected weights, means and precisions."""
  covariances = q.scale_inverses / q.dof[:, None, None]
  return Mixture(q.concentration / q.concentration.sum(), q.means, covariances)


def _dirichlet_kl(q, prior, components):
  prior = jnp.broadcast_to(prior, (components,))
  log_normalizer = lambda a: gammaln(a.sum()) - gammaln(a).sum()
  return log_normalizer(q) - log_normalizer(prior) + jnp.sum((q - prior) * (digamma(q) - digamma(q.sum())))


def _normal_wishart_kl(q: NormalWishart, prior: NormalWishart) -> jax.Array:
  """Computes KL(q || prior) of each component, [K] nats."""
  dims = q.means.shape[1]
  precisions, log_dets = full().precisions(q.scale_inverses)  # W, and ln |W|
  _, prior_log_dets = full().precisions(prior.scale_inverses)
  halves = lambda dof: 0.5 * (dof[:, None] - jnp.arange(dims, dtype=dof.dtype)[None])
  expected_log_dets = log_dets + digamma(halves(q.dof)).sum(1) + dims * jnp.log(2.0)
  ratio = prior.mean_precision / q.mean_precision
  offset = q.means - prior.means
  distance = jnp.einsum('kd,kde,ke->k', offset, precisions, offset, precision='highest')
  normal = dims * (ratio - 1 - jnp.log(ratio)) + prior.mean_precision * q.dof * distance
  log_normalizer = lambda dof, log_dets: -0.5 * dof * (log_dets + dims * jnp.log(2.0)) - gammaln(halves(dof)).sum(1)
  trace = jnp.einsum('kde,kde->k', jnp.broadcast_to(prior.scale_inverses, precisions.shape), precisions)
  wishart = log_normalizer(q.dof, log_dets) - log_normalizer(prior.dof, prior_log_dets)
  wishart += 0.5 * (q.dof - prior.dof) * expected_log_dets + 0.5 * q.dof * (trace - dims)
  return 0.5 * normal + wishart
