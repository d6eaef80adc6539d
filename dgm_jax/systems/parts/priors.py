"""Priors p(z) of the top level of latents: normal, of fair bits, a mixture of posteriors, or a flow to normal noise.

Axes: ... any leading axes, Z latents, K pseudo-inputs.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from dgm_jax import config as experiment
from dgm_jax import distributions, models, views
from dgm_jax.internal.noise import standard_normal
from dgm_jax.models import flow as flows
from dgm_jax.nn.norm import running
from dgm_jax.nn.reversible import Bijection
from dgm_jax.systems.parts.latents import Posterior, Prior

__all__ = [
  'FLOWS', 'PRIORS', 'by_name', 'fair_bits', 'flow', 'from_flow', 'normal', 'pseudo_inputs', 'standard', 'vamp',
]  # fmt: skip

FLOWS = {
  'af': flows.af, 'iaf': flows.iaf, 'maf': flows.maf, 'nice': flows.nice, 'planar': flows.planar,
  'realnvp_dense': flows.realnvp_dense,
}  # fmt: skip
OF_IMAGES = ('glow', 'realnvp')
STARTS = 256  # samples of N(0, I) that a flow's data-dependent start is made from


def standard(latents: int) -> Prior:
  """Returns the prior N(0, I)."""

  def sample(key, state, n):
    del state
    return standard_normal(key, (n, latents))

  def log_prob(key, state, z):
    del key, state
    return distributions.standard_normal_log_prob(z)

  def kl(key, state, mean, logvar):
    del key, state
    return distributions.gaussian_kl_standard_per_dim(mean, logvar)

  return Prior(view=views.Prior(sample=sample, log_prob=log_prob, normal=True), kl=kl)


def fair_bits(latents: int) -> Prior:
  """Returns the prior of independent bits that are 1 with probability one half."""

  def sample(key, state, n):
    del state
    return distributions.bernoulli_sample(key, jnp.zeros((n, latents)))

  def log_prob(key, state, z):
    del key, state
    return jnp.full(z.shape[:-1], -latents * jnp.log(2.0))

  def kl(key, state, logits):
    del key, state
    return jnp.log(2.0) - distributions.bernoulli_entropy(logits[..., None])

  return Prior(view=views.Prior(sample=sample, log_prob=log_prob), kl=kl)


def pseudo_inputs(normal: Callable, shape: Sequence[int], count: int) -> Prior:
  """Returns the prior that is the mixture of the posteriors of `count` trained images.

  Args:
    normal: (key, state, x) -> mean and logvar [K, Z] of the posterior of images x [K, *shape] in [0, 1].
    shape: the shape of an image.
    count: K.

  Reference: Tomczak & Welling 2018, arXiv:1705.07120, equation 9.
  """

  def components(key, state):
    return normal(key, state, jnp.clip(state.params['pseudo_inputs']['images'], 0, 1))

  def log_prob(key, state, z):
    mean, logvar = (a.reshape(*(1,) * (z.ndim - 1), *a.shape) for a in components(key, state))
    log_q = distributions.normal_log_prob(z[..., None, :], mean, logvar)
    top = jax.lax.stop_gradient(log_q.max(-1, keepdims=True))
    # For equal densities log(mean) is exact; log(sum) - log(K) leaves a rounding error.
    return top[..., 0] + jnp.log(jnp.exp(log_q - top).mean(-1))

  def sample(key, state, n):
    for_index, for_noise = jax.random.split(key)
    mean, logvar = (a[jax.random.randint(for_index, (n,), 0, count)] for a in components(key, state))
    return distributions.normal_sample(for_noise, mean, logvar)

  def init(key, x):
    del x
    return {'pseudo_inputs': {'images': 0.05 + 0.01 * jax.random.normal(key, (count, *shape))}}

  return Prior(view=views.Prior(sample=sample, log_prob=log_prob), init=init, owns=('pseudo_inputs',))


def from_flow(part: Bijection, latents: int, momentum: float = 0.99) -> Prior:
  """Returns the prior of latents that a flow maps to noise N(0, I), with the network 'prior'.

  Args:
    part: the flow, from latents [B, Z] to noise.
    latents: Z.
    momentum: of the running statistics of its layers, if they have any.
  """

  def start(key):
    z = standard_normal(key, (STARTS, latents))
    params = part.init(key, z)
    return params, jax.tree.map(lambda leaf: leaf.astype(jnp.float32), part.forward(params, None, z)[2])

  def init(key, x):
    del x
    return {'prior': start(key)[0]}

  def extra(key, x):
    del x
    statistics = start(key)[1]
    return {'prior_statistics': statistics} if jax.tree.leaves(statistics) else {}

  def density(state, stats, z):
    noise, log_det, used = part.forward(state.params['prior'], stats, z.reshape(-1, latents))
    noise = noise.reshape(noise.shape[0], -1)
    return (distributions.standard_normal_log_prob(noise) + log_det).reshape(z.shape[:-1]), used

  def log_prob(key, state, z):
    del key
    return density(state, state.extra.get('prior_statistics', {}), z)[0]

  def train(key, state, z):
    del key
    log_p, used = density(state, None, z)
    if 'prior_statistics' not in state.extra:
      return log_p, {}
    return log_p, {'prior_statistics': running(state.extra['prior_statistics'], used, momentum)}

  def sample(key, state, n):
    noise = standard_normal(key, (n, latents))
    return part.inverse(state.params['prior'], state.extra.get('prior_statistics', {}), noise)[0]

  def leak(key, state, z):
    del key
    params, stats = state.params['prior'], state.extra.get('prior_statistics', {})
    noise = lambda one: part.forward(params, stats, one[None])[0].reshape(-1)

    def error(one):
      said = part.forward(params, stats, one[None])[1][0]
      return said - jnp.linalg.slogdet(jax.jacfwd(noise)(one))[1]

    return {'log_det_error_nats': jax.lax.map(error, z)}

  view = views.Prior(sample=sample, log_prob=log_prob)
  return Prior(view=view, init=init, owns=('prior',), train=train, extra=extra, leak=leak)


def by_name(config: ConfigDict, latents: int, posterior: Posterior) -> Prior:
  """Returns the prior `config.model.prior` of Z latents, N(0, I) if there is no such key.

  Raises:
    UserError: there is no such prior, or it does not fit the rest of the experiment.
  """
  build = experiment.choose('config.model.prior', config.model.get('prior', 'normal'), PRIORS)
  return build(config, latents, posterior)


def normal(config: ConfigDict, latents: int, posterior: Posterior) -> Prior:
  """Returns N(0, I)."""
  del config, posterior
  return standard(latents)


def flow(config: ConfigDict, latents: int, posterior: Posterior) -> Prior:
  """Returns the prior of the flow `config.model.prior_flow` with the settings `config.model.prior_network`.

  Raises:
    UserError: there is no such flow of vectors, or it has no such setting.
  """
  del posterior
  name, settings = config.model.get('prior_flow', 'af'), config.model.get('prior_network', {})
  experiment.require(
    name not in OF_IMAGES,
    f'config.model.prior_flow={name} maps images, but latents are vectors of {latents}: take one of {", ".join(FLOWS)}',
  )
  build = experiment.choose('config.model.prior_flow', name, FLOWS)
  settings = settings.to_dict() if isinstance(settings, ConfigDict) else settings
  _check(name, settings)
  part = models.build('config.model.prior_network', build, settings, shape=(latents,), dtype=config.dtype)
  return from_flow(part, latents)


def _check(name: str, settings: Mapping[str, Any]) -> None:
  """Refuses settings of a flow that are out of range."""
  for key in ('layers', 'couplings'):
    experiment.require(
      settings.get(key, 1) >= 1, f'config.model.prior_network.{key} must be at least 1, got {settings.get(key)}'
    )
  if 'elementwise' in settings:
    allowed = flows.AUTOREGRESSIVE if name == 'af' else flows.ELEMENTWISE
    experiment.one_of('config.model.prior_network.elementwise', settings['elementwise'], allowed)


def vamp(config: ConfigDict, latents: int, posterior: Posterior) -> Prior:
  """Returns the mixture of the posteriors of `config.model.pseudo_inputs` trained images.

  Raises:
    UserError: the posterior is not normal, or there is no pseudo-input.
  """
  del latents
  count = config.model.get('pseudo_inputs', 0)
  experiment.require(count >= 1, f'config.model.pseudo_inputs must be at least 1, got {count}')
  experiment.require(
    posterior.normal is not None,
    'config.model.prior=vamp is a mixture of normal posteriors: set config.model.posterior=diagonal, or another prior',
  )
  return pseudo_inputs(posterior.normal, tuple(config.data.shape), count)


PRIORS = {'normal': normal, 'flow': flow, 'vamp': vamp}
