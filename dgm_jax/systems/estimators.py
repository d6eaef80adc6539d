"""A variational autoencoder trained by each estimator of the encoder's gradient.

The encoder's gradient is that of E_q log p(x|z) - KL(q || p): the second term is in closed form, the first is
estimated. Axes: B batch, k samples, Z latents.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from dgm_jax import config as experiment
from dgm_jax import losses, optim
from dgm_jax.core import Batch, Key, Metrics, Player, State, System, descend, system
from dgm_jax.models.vae import Decoder
from dgm_jax.systems.parts import likelihoods, posteriors
from dgm_jax.systems.parts.likelihoods import LIKELIHOODS
from dgm_jax.views import Prior

__all__ = ['constant_baseline', 'leave_one_out', 'optimal_baseline', 'reparametrized', 'score', 'vimco']

DECAY = 0.9  # of the running means that baselines are made of


class Parts(NamedTuple):
  """The posterior, the decoder, what its numbers mean, and the number of samples."""

  posterior: posteriors.Posterior
  decoder: Decoder
  likelihood: likelihoods.Likelihood
  samples: int


class Terms(NamedTuple):
  """What every surrogate is made of."""

  log_px_z: jax.Array  # [B, k] nats, the reward
  log_q: jax.Array  # [B, k] nats
  log_prior: jax.Array  # [B, k] nats
  kl: jax.Array  # [B] nats
  square_score: jax.Array  # [B, k]


class Surrogate(NamedTuple):
  """An objective with the gradient wanted, the running means that it keeps, and the least number of samples."""

  objective: Callable  # (terms, running) -> ([B] to be maximised, baseline of each reward)
  update: Callable  # terms -> what the running means are means of
  start: dict[str, float]
  samples: int = 1
  detach: Callable = jax.lax.stop_gradient  # of the samples


def reparametrized(config: ConfigDict) -> System:
  """The gradient goes through the sample z = mean + sigma noise.

  Reference: Kingma & Welling 2014, arXiv:1312.6114, section 2.4.
  """
  objective = lambda terms, running: (losses.elbo(terms.log_px_z.mean(1), terms.kl), 0.0)
  return _system(config, Surrogate(objective, lambda terms: {}, {}, detach=lambda z: z))


def score(config: ConfigDict) -> System:
  """The log-derivative trick alone: log p(x|z) d log q(z|x).

  Reference: Williams 1992, doi:10.1007/BF00992696, equation 3.
  """
  return _system(config, Surrogate(lambda terms, running: _scored(terms, 0.0), lambda terms: {}, {}))


def constant_baseline(config: ConfigDict) -> System:
  """The log-derivative trick with a running mean of the reward taken off.

  Reference: Mnih & Gregor 2014, arXiv:1402.0030, section 2.3.
  """
  objective = lambda terms, running: _scored(terms, running['reward'])
  return _system(config, Surrogate(objective, lambda terms: {'reward': terms.log_px_z.mean()}, {'reward': 0.0}))


def optimal_baseline(config: ConfigDict) -> System:
  """The log-derivative trick with the constant of least variance, E[f s^2] / E[s^2] for a score of length s.

  Reference: Greensmith et al. 2004, Variance reduction techniques for gradient estimates, theorem 8.
  """

  def objective(terms, running):
    return _scored(terms, running['weighted'] / running['weight'])

  def update(terms):
    return {'weighted': (terms.square_score * terms.log_px_z).mean(), 'weight': terms.square_score.mean()}

  return _system(config, Surrogate(objective, update, {'weighted': 0.0, 'weight': 1.0}))


def leave_one_out(config: ConfigDict) -> System:
  """The log-derivative trick where the other samples' mean reward is taken off; two samples or more.

  Reference: Kool et al. 2019, Buy 4 REINFORCE samples, get a baseline for free, equation 8.
  """

  def objective(terms, running):
    return _scored(terms, losses.leave_one_out_baseline(terms.log_px_z, axis=1))

  return _system(config, Surrogate(objective, lambda terms: {}, {}, samples=2))


def vimco(config: ConfigDict) -> System:
  """The bound of k samples, each with what the others tell as its baseline; two samples or more.

  Reference: Mnih & Rezende 2016, arXiv:1602.06725, equations 8 to 10.
  """

  def objective(terms, running):
    del running
    log_weights = terms.log_px_z + terms.log_prior - terms.log_q
    rest = jax.lax.stop_gradient(losses.leave_one_out_baseline(terms.log_px_z, axis=1))
    return losses.vimco_surrogate(log_weights, terms.log_q, axis=1), rest

  return _system(config, Surrogate(objective, lambda terms: {}, {}, samples=2))


def _scored(terms: Terms, baseline):
  """The log-derivative trick for the reward, and the divergence in closed form."""
  baseline = jnp.broadcast_to(jax.lax.stop_gradient(baseline), terms.log_q.shape)
  surrogate = losses.score_function_surrogate(terms.log_q, terms.log_px_z, baseline)
  return losses.elbo(surrogate.mean(1), terms.kl), baseline


def _system(config: ConfigDict, surrogate: Surrogate) -> System:
  parts = _parts(config)
  experiment.require(
    parts.samples >= surrogate.samples,
    f'{config.system} takes config.model.samples of {surrogate.samples} or more, got {parts.samples}',
  )
  experiment.require(
    parts.posterior.reparametrized or surrogate.detach is jax.lax.stop_gradient,
    f'{config.system} needs latents that pass gradients: set config.model.posterior=normal, or another system',
  )

  def loss(key: Key, state: State, batch: Batch):
    terms = draw(parts, key, state, batch['x'], surrogate.detach)
    running = state.extra['baseline']
    objective, baseline = surrogate.objective(terms, running)
    new = jax.tree.map(lambda old, now: DECAY * old + (1 - DECAY) * now, running, surrogate.update(terms))
    # What multiplies the score: its spread is what the gradient's variance comes from.
    signal = jax.lax.stop_gradient(terms.log_px_z) - baseline
    return -objective.mean(), ({'baseline': jax.lax.stop_gradient(new)}, {'signal_rms_nats': _rms(signal)})

  move = descend(model=Player(loss, optim.make(config, 'model'), ('encoder', 'decoder')))
  start = lambda key, batch: _networks(parts, key, batch, surrogate.start)

  def gradient(key: Key, state: State, batch: Batch):
    """The estimate of the loss's gradient in the encoder's parameters."""
    own = lambda encoder: loss(key, state.replace(params=state.params | {'encoder': encoder}), batch)[0]
    return jax.grad(own)(state.params['encoder'])

  return system(start, move, _evaluate(parts), _sample(parts), gradient=gradient, **_views(parts))


def _rms(x: jax.Array) -> jax.Array:
  return jnp.sqrt(jnp.square(x).mean())


def _parts(config: ConfigDict) -> Parts:
  model = config.model
  experiment.require(model.samples >= 1, f'config.model.samples must be at least 1, got {model.samples}')
  posterior = experiment.choose('config.model.posterior', model.posterior, posteriors.POSTERIORS)(config)
  likelihood = experiment.choose('config.model.likelihood', model.likelihood, LIKELIHOODS)(config.data.levels)
  decoder = Decoder(
    (tuple(model.hidden),), (model.latents,), tuple(config.data.shape), likelihood.parameters,
    activation=model.activation, dtype=config.dtype,
  )  # fmt: skip
  return Parts(posterior, decoder, likelihood, model.samples)


def _networks(parts: Parts, key: Key, batch: Batch, running: dict):
  """Fresh parameters; the output's bias is set so that the first guess is the mean of the data."""
  for_encoder, for_decoder = jax.random.split(key)
  x = batch['x']
  decoder = parts.decoder.init(for_decoder, jnp.zeros((1, parts.decoder.latents[-1])))['params']
  decoder['output']['bias'] = parts.likelihood.start(x.mean(0).ravel()).ravel()
  extra = {'baseline': {name: jnp.float32(value) for name, value in running.items()}}
  return {'encoder': parts.posterior.init(for_encoder, x[:1]), 'decoder': decoder}, extra


def draw(parts: Parts, key: Key, state: State, x: jax.Array, detach: Callable) -> Terms:
  """Draws k latents for each image x [B, H, W, C] and weighs them; `detach` is applied to the samples."""
  numbers = parts.posterior.encode(state.params['encoder'], x)
  z = detach(parts.posterior.sample(key, numbers, parts.samples))
  log_px_z = parts.likelihood.log_prob(x.reshape(x.shape[0], 1, -1), _decode(parts, state, z))
  return Terms(
    log_px_z, parts.posterior.log_prob(z, numbers), parts.posterior.log_prior(z), parts.posterior.kl(numbers),
    jax.lax.stop_gradient(parts.posterior.square_score(z, numbers)),
  )  # fmt: skip


def _decode(parts: Parts, state: State, z: jax.Array):
  return parts.decoder.apply({'params': state.params['decoder']}, z, method='pixels')


def _evaluate(parts: Parts) -> Callable:
  def evaluate(key: Key, state: State, batch: Batch) -> Metrics:
    terms = draw(parts, key, state, batch['x'], jax.lax.stop_gradient)
    log_weights = terms.log_px_z + terms.log_prior - terms.log_q
    return {
      'neg_elbo_nats': -losses.elbo(terms.log_px_z.mean(1), terms.kl),
      'neg_bound_nats': -losses.importance_weighted_bound(log_weights, axis=1),
      'reconstruction_nats': -terms.log_px_z.mean(1),
      'kl_nats': terms.kl,
    }

  return evaluate


def _sample(parts: Parts) -> Callable:
  def sample(key: Key, state: State, n: int) -> jax.Array:
    for_latents, for_pixels = jax.random.split(key)
    numbers = _decode(parts, state, parts.posterior.prior_sample(for_latents, n))
    return parts.likelihood.sample(for_pixels, numbers).reshape(n, *parts.decoder.shape)

  return sample


def _views(parts: Parts) -> dict[str, Any]:
  def numbers(key, state, x):
    del key
    return parts.posterior.encode(state.params['encoder'], x)

  def decode(key, state, z):
    del key
    return parts.likelihood.mean(_decode(parts, state, z)).reshape(z.shape[0], *parts.decoder.shape)

  def encode(key, state, x):
    return parts.posterior.code(numbers(key, state, x))

  return {
    'encode': encode, 'decode': decode,
    'reconstruct': lambda key, state, x: decode(key, state, encode(key, state, x)),
    'mean_sample': lambda key, state, n: decode(key, state, parts.posterior.prior_sample(key, n)),
    'prior': Prior(
      sample=lambda key, state, n: parts.posterior.prior_sample(key, n),
      log_prob=lambda key, state, z: parts.posterior.log_prior(z),
      normal=parts.posterior.reparametrized,
    ),
    'posterior': numbers if parts.posterior.reparametrized else None,
  }  # fmt: skip
