"""A variational autoencoder trained by each estimator of the encoder's gradient.

The encoder's gradient is that of E_q log p(x|z) - KL(q || p): the second term is in closed form, the first is
estimated. Axes: B batch, k samples, Z latents.
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

DECAY = 0.9  # of the running means that baselines are made of


class Surrogate(NamedTuple):
  """An objective with the gradient wanted, the running means that it keeps, and the least number of samples."""

  objective: Callable  # (terms, running) -> ([B] to be maximised, baseline of each reward log p(x|z))
  update: Callable  # (terms, squared length of the score [B, k]) -> what the running means are means of
  start: dict[str, float]
  samples: int = 1
  detach: Callable = jax.lax.stop_gradient  # of the samples


def reparametrized(config: ConfigDict) -> System:
  """The gradient goes through the sample z = mean + sigma noise.

  Reference: Kingma & Welling 2014, arXiv:1312.6114, section 2.4.
  """
  objective = lambda terms, running: (losses.elbo(terms.log_px_z.mean(1), terms.kl.mean(1)), 0.0)
  return _system(config, Surrogate(objective, _nothing, {}, detach=lambda z: z))


def score(config: ConfigDict) -> System:
  """The log-derivative trick alone: log p(x|z) d log q(z|x).

  Reference: Williams 1992, doi:10.1007/BF00992696, equation 3.
  """
  return _system(config, Surrogate(lambda terms, running: _scored(terms, 0.0), _nothing, {}))


def constant_baseline(config: ConfigDict) -> System:
  """The log-derivative trick with a running mean of the reward taken off.

  Reference: Mnih & Gregor 2014, arXiv:1402.0030, section 2.3.
  """
  objective = lambda terms, running: _scored(terms, running['reward'])
  return _system(config, Surrogate(objective, lambda terms, square: {'reward': terms.log_px_z.mean()}, {'reward': 0.0}))


def optimal_baseline(config: ConfigDict) -> System:
  """The log-derivative trick with the constant of least variance, E[f s^2] / E[s^2] for a score of length s.

  Reference: Greensmith et al. 2004, Variance reduction techniques for gradient estimates, theorem 8.
  """

  def objective(terms, running):
    return _scored(terms, running['weighted'] / running['weight'])

  def update(terms, square):
    return {'weighted': (square * terms.log_px_z).mean(), 'weight': square.mean()}

  return _system(config, Surrogate(objective, update, {'weighted': 0.0, 'weight': 1.0}))


def leave_one_out(config: ConfigDict) -> System:
  """The log-derivative trick where the other samples' mean reward is taken off; two samples or more.

  Reference: Kool et al. 2019, Buy 4 REINFORCE samples, get a baseline for free, equation 8.
  """

  def objective(terms, running):
    return _scored(terms, losses.leave_one_out_baseline(terms.log_px_z, axis=1))

  return _system(config, Surrogate(objective, _nothing, {}, samples=2))


def vimco(config: ConfigDict) -> System:
  """The bound of k samples, each with what the others tell as its baseline; two samples or more.

  Reference: Mnih & Rezende 2016, arXiv:1602.06725, equations 8 to 10.
  """

  def objective(terms, running):
    del running
    log_weights = terms.log_px_z + terms.log_p - terms.log_q
    rest = jax.lax.stop_gradient(losses.leave_one_out_baseline(terms.log_px_z, axis=1))
    return losses.vimco_surrogate(log_weights, terms.log_q, axis=1), rest

  return _system(config, Surrogate(objective, _nothing, {}, samples=2))


def _nothing(terms: bounds.Terms, square: jax.Array) -> dict:
  """No running means."""
  return {}


def _scored(terms: bounds.Terms, baseline):
  """The log-derivative trick for the reward, and the divergence in closed form."""
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
  model = bounds.compose(posteriors.of_family(family, surrogate.detach), family.prior, decoder)

  def loss(key: Key, state: State, batch: Batch):
    terms, running = model.draw(key, state, batch['x'], samples), state.extra['baseline']
    objective, baseline = surrogate.objective(terms, running)
    now = surrogate.update(terms, family.square_score(terms.latents[0].z, *terms.latents[0].numbers))
    new = jax.tree.map(lambda old, now: DECAY * old + (1 - DECAY) * now, running, now)
    # What multiplies the score: its spread is what the gradient's variance comes from.
    signal = jax.lax.stop_gradient(terms.log_px_z) - baseline
    return -objective.mean(), ({'baseline': jax.lax.stop_gradient(new)}, {'signal_rms_nats': _rms(signal)})

  def networks(key: Key, batch: Batch):
    return model.networks(key, batch)[0], {'baseline': jax.tree.map(jnp.float32, surrogate.start)}

  def gradient(key: Key, state: State, batch: Batch):
    """The estimate of the loss's gradient in the encoder's parameters."""
    own = lambda encoder: loss(key, state.replace(params=state.params | {'encoder': encoder}), batch)[0]
    return jax.grad(own)(state.params['encoder'])

  move = descend(model=Player(loss, optim.make(config, 'model'), model.owns))
  views = {'gradient': gradient, 'layers': None, 'kl_per_dim': None}  # the numbers of bits are logits, not means
  return bounds.close(config, model._replace(networks=networks), move, bounds.neg_bound, **views)


def _rms(x: jax.Array) -> jax.Array:
  return jnp.sqrt(jnp.square(x).mean())
