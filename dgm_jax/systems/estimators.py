"""A variational autoencoder trained by each estimator of the encoder's gradient.

The encoder's gradient is that of E_q log p(x|z) - KL(q || p). The second term is in closed form, the first is
estimated.

Axes: B batch, k samples, Z latents.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from dgm_jax import config as experiment
from dgm_jax import losses, optim
from dgm_jax.core import Batch, Key, Player, State, System, descend
from dgm_jax.systems.parts import bounds, likelihoods, posteriors

__all__ = ['constant_baseline', 'leave_one_out', 'optimal_baseline', 'reparametrized', 'score', 'vimco']

DECAY = 0.9  # of the running means that baselines are computed from


class Surrogate(NamedTuple):
  """An objective with the estimated gradient, its running means, and the least number of samples."""

  objective: Callable  # (terms, running) -> ([B] to maximise, baseline of each reward log p(x|z))
  update: Callable  # (terms, squared length of the score [B, k]) -> new values of the running means
  init: dict[str, float]  # initial running means
  samples: int = 1
  detach: Callable = jax.lax.stop_gradient  # applied to the samples


def reparametrized(config: ConfigDict) -> System:
  """Builds the estimator whose gradient passes through the sample z = mean + sigma noise.

  Reference: Kingma & Welling 2014, arXiv:1312.6114, section 2.4.
  """

  def objective(terms, running):
    del running
    return losses.elbo(terms.log_px_z.mean(1), terms.kl.mean(1)), 0.0

  return _system(config, Surrogate(objective=objective, update=_no_means, init={}, detach=_attach))


def score(config: ConfigDict) -> System:
  """Builds the log-derivative estimator without a baseline: log p(x|z) d log q(z|x).

  Reference: Williams 1992, doi:10.1007/BF00992696, equation 3.
  """

  def objective(terms, running):
    del running
    return _scored(terms, 0.0)

  return _system(config, Surrogate(objective=objective, update=_no_means, init={}))


def constant_baseline(config: ConfigDict) -> System:
  """Builds the log-derivative estimator that subtracts a running mean of the reward.

  Reference: Mnih & Gregor 2014, arXiv:1402.0030, section 2.3.
  """

  def objective(terms, running):
    return _scored(terms, running['reward'])

  def update(terms, square):
    del square
    return {'reward': terms.log_px_z.mean()}

  return _system(config, Surrogate(objective=objective, update=update, init={'reward': 0.0}))


def optimal_baseline(config: ConfigDict) -> System:
  """Builds the log-derivative estimator with the constant baseline of least variance.

  It is E[f s^2] / E[s^2] for a reward f and a score of length s.

  Reference: Greensmith et al. 2004, Variance reduction techniques for gradient estimates, theorem 8.
  """

  def objective(terms, running):
    return _scored(terms, running['weighted'] / running['weight'])

  def update(terms, square):
    return {'weighted': (square * terms.log_px_z).mean(), 'weight': square.mean()}

  return _system(config, Surrogate(objective=objective, update=update, init={'weighted': 0.0, 'weight': 1.0}))


def leave_one_out(config: ConfigDict) -> System:
  """Builds the log-derivative estimator that subtracts the mean reward of the other samples; needs two samples or more.

  Reference: Kool et al. 2019, Buy 4 REINFORCE samples, get a baseline for free, equation 8.
  """

  def objective(terms, running):
    del running
    return _scored(terms, losses.leave_one_out_baseline(terms.log_px_z, axis=1))

  return _system(config, Surrogate(objective=objective, update=_no_means, init={}, samples=2))


def vimco(config: ConfigDict) -> System:
  """Builds the estimator of the k-sample bound, with a baseline per sample from the others; needs two samples or more.

  Reference: Mnih & Rezende 2016, arXiv:1602.06725, equations 8 to 10.
  """

  def objective(terms, running):
    del running
    log_weights = terms.log_px_z + terms.log_p - terms.log_q
    rest = jax.lax.stop_gradient(losses.leave_one_out_baseline(terms.log_px_z, axis=1))
    return losses.vimco_surrogate(log_weights, terms.log_q, axis=1), rest

  return _system(config, Surrogate(objective=objective, update=_no_means, init={}, samples=2))


def _no_means(terms: bounds.Terms, square: jax.Array) -> dict:
  """Returns no running means."""
  del terms, square
  return {}


def _attach(z: jax.Array) -> jax.Array:
  """Returns the samples as they are, so that gradients pass through them."""
  return z


def _scored(terms: bounds.Terms, baseline):
  """Returns the log-derivative surrogate of the reward less the divergence in closed form, and the baseline."""
  baseline = jnp.broadcast_to(jax.lax.stop_gradient(baseline), terms.log_q.shape)
  surrogate = losses.score_function_surrogate(terms.log_q, terms.log_px_z, baseline)
  return losses.elbo(surrogate.mean(1), terms.kl.mean(1)), baseline


def _system(config: ConfigDict, surrogate: Surrogate) -> System:
  settings, samples = config.model, bounds.samples_of(config)
  family = experiment.choose('config.model.posterior', settings.posterior, posteriors.FAMILIES)(config)
  experiment.require(
    samples >= surrogate.samples,
    f'{config.system} takes config.model.samples of {surrogate.samples} or more, got {samples}',
  )
  experiment.require(
    family.prior.view.normal or surrogate.detach is jax.lax.stop_gradient,
    f'{config.system} needs latents that pass gradients: set config.model.posterior=normal, or another system',
  )
  decoder = likelihoods.decoder(config, (tuple(settings.hidden),), (settings.latents,), settings.activation)
  model = bounds.compose(posteriors.from_family(family, surrogate.detach), family.prior, decoder)

  def loss(key: Key, state: State, batch: Batch):
    terms, running = model.draw(key, state, batch['x'], samples), state.extra['baseline']
    objective, baseline = surrogate.objective(terms, running)
    now = surrogate.update(terms, family.square_score(terms.latents[0].z, *terms.latents[0].params))
    new = jax.tree.map(lambda old, now: DECAY * old + (1 - DECAY) * now, running, now)
    # The factor of the score: its spread causes the gradient's variance.
    signal = jax.lax.stop_gradient(terms.log_px_z) - baseline
    return -objective.mean(), ({'baseline': jax.lax.stop_gradient(new)}, {'signal_rms_nats': _rms(signal)})

  def networks(key: Key, batch: Batch):
    return model.networks(key, batch)[0], {'baseline': jax.tree.map(jnp.float32, surrogate.init)}

  def gradient(key: Key, state: State, batch: Batch):
    """Estimates the loss's gradient with respect to the encoder's parameters."""
    own = lambda encoder: loss(key, state.replace(params=state.params | {'encoder': encoder}), batch)[0]
    return jax.grad(own)(state.params['encoder'])

  move = descend(model=Player(loss, optim.make(config, 'model'), model.owns))
  # The params of bits are logits, not means; what is compared between estimators is the gradient, not the likelihood.
  views = {'gradient': gradient, 'layers': None, 'kl_per_dim': None, 'log_prob': None, 'log_likelihood': None}
  return bounds.close(config, model._replace(networks=networks), move, bounds.neg_bound, **views)


def _rms(x: jax.Array) -> jax.Array:
  return jnp.sqrt(jnp.square(x).mean())
