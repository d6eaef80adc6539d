"""Models whose top level is bits under a Boltzmann machine, smoothed, with continuous layers below.

The machine's chains are in the entry 'chains' of `State.extra`, its log-normalizer in 'log_z'. Training estimates the
log-normalizer roughly every 100 steps, and follows it by the chains' weights between. The view `normalizer`
estimates it for figures.

Axes: B batch, k samples, M = B k rows, N bits, Z latents of a continuous layer, C chains. [...] is [B] or [B, k].

Reference: Rolfe 2017, arXiv:1609.02200.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dgm_jax import config as experiment
from dgm_jax import distributions, losses, views
from dgm_jax.core import Batch, Key, Metrics, Move, State
from dgm_jax.distributions import boltzmann
from dgm_jax.internal.noise import standard_normal, uniform
from dgm_jax.models.discrete_vae import DiscreteVAE, Noise, Rows
from dgm_jax.systems.parts import ladders
from dgm_jax.systems.parts.latents import Latent, Model, Terms, log_normal
from dgm_jax.systems.parts.likelihoods import Likelihood

__all__ = ['Bits', 'compose', 'machine_of', 'persistent']

REFRESH = 100  # steps between estimates of the log-normalizer in training
SWEEPS = 100  # between the chains and a sample, and between two rows of the view `gibbs`
PICTURED = 5  # states of the view `gibbs`


class Bits(NamedTuple):
  """A discrete variational autoencoder as a value."""

  module: DiscreteVAE
  likelihood: Likelihood
  chains: int  # C
  sweeps: int  # of a step
  coupled: bool  # whether the machine's weights are trained; else they stay 0
  normalize: Callable  # (key, machine) -> its log-normalizer [] nats
  follow: Callable  # the same at less cost

  @property
  def left(self) -> int:
    """The number of bits of the machine's left half."""
    return self.module.bits // 2

  @property
  def overlapping(self) -> bool:
    """Whether the smoothing gives zeta a density for both values of a bit."""
    return self.module.smoothing.log_odds is not None


def machine_of(bits: Bits, state: State) -> boltzmann.Machine:
  """Returns the machine of a state. If it is to have no weights, they stay at the zeros that they start from."""
  own = state.params['prior']
  left, right = own['bias'][: bits.left], own['bias'][bits.left :]
  return boltzmann.Machine(left, right, own['kernel'] if bits.coupled else jax.lax.stop_gradient(own['kernel']))


def persistent(bits: Bits, move: Move) -> Move:
  """Returns the move with sweeps of the chains, and the change of the log-normalizer that the move has brought.

  Reference: Tieleman 2008, doi:10.1145/1390156.1390290; of the log-normalizer, Desjardins et al. 2011, On tracking the
  partition function.
  """

  def apply(key: Key, state: State, batch: Batch) -> tuple[State, Metrics]:
    for_move, for_sweeps = jax.random.split(key)
    new, metrics = move.apply(for_move, state, batch)
    chains, (before, after) = state.extra['chains'], (machine_of(bits, each) for each in (state, new))
    # By the machine before: chains that the gradient was computed from are low in the energy that it has raised.
    swept = boltzmann.gibbs(for_sweeps, before, chains, bits.sweeps)
    left = swept[:, : bits.left].astype(jnp.float32)
    change = boltzmann.free_energy(before, left) - boltzmann.free_energy(after, left)
    followed = state.extra['log_z'] + jax.nn.logsumexp(change) - math.log(bits.chains)
    anew = lambda: bits.follow(jax.random.fold_in(for_sweeps, 1), after)
    log_z = jax.lax.cond(state.step % REFRESH == 0, anew, lambda: followed)
    moved = (swept != chains).any(1).mean(dtype=jnp.float32)
    new = new.replace(extra=new.extra | {'chains': swept, 'log_z': log_z})
    return new, metrics | {'chains/moved': moved, 'chains/log_z_nats': log_z}

  return Move(move.init, apply)


def compose(bits: Bits) -> Model:
  """Returns the model, with the networks 'encoder', 'decoder' and 'prior', the machine."""
  module = bits.module

  def networks(key: Key, batch: Batch):
    x = batch['x'][: ladders.STARTS]
    for_params, for_noise, for_chains = jax.random.split(key, 3)
    with experiment.naming('config.model'):
      variables = module.init(for_params, x, _noise(bits, for_noise, x.shape[:1]))
    params, statistics = variables['params'], variables.get('batch_stats', {})
    bias = bits.likelihood.init_bias(batch['x'].mean(0).ravel()).ravel()
    decoder = params['decoder'] | {'output': params['decoder']['output'] | {'bias': bias}}
    prior = {'bias': jnp.zeros(module.bits), 'kernel': jnp.zeros((bits.left, module.bits - bits.left))}
    params = params | {'decoder': decoder, 'prior': prior}
    fair = uniform(for_chains, (bits.chains, module.bits)) < 0.5
    extra = {'chains': fair.astype(jnp.int8), 'log_z': jnp.float32(module.bits * math.log(2))}
    return params, extra | {f'{name}_statistics': part for name, part in statistics.items()}

  def draw(key: Key, state: State, x: jax.Array, k: int | None = None, training: bool = False) -> Terms:
    axes = (x.shape[0],) if k is None else (x.shape[0], k)
    for_dropout = jax.random.fold_in(key, 1) if training else None
    (rows, params), entries = ladders.apply(module, state, for_dropout, x, _noise(bits, key, axes))
    return _terms(bits, state, axes, x, rows, params)._replace(extra=entries)

  def means(key, state, x):
    del key
    rows, _ = _means(bits, state, x)
    return [*(rung.z for rung in reversed(rows.rungs)), rows.bits.zeta]

  def sample(key: Key, state: State, n: int) -> jax.Array:
    for_prior, for_layers, for_data = jax.random.split(key, 3)
    zeta = _smoothed(bits, for_prior, _states(bits, for_prior, state, n))
    params = _generate(bits, state, zeta, _normals(bits, for_layers, (n,)))
    return bits.likelihood.sample(for_data, params).reshape(n, *module.shape)

  owns = (*ladders.NETWORKS, 'prior')
  return Model(networks, draw=draw, sample=sample, owns=owns, views=_views(bits), means=means, levels=module.layers + 1)


def _normals(bits: Bits, key: Key, axes: tuple[int, ...]) -> list[jax.Array]:
  """Returns the noise of the continuous layers, [M, Z] each."""
  module, rows = bits.module, math.prod(axes)
  if not module.layers:
    return []
  noise = standard_normal(jax.random.fold_in(key, 2), (*axes, module.layers * module.latents))
  return jnp.split(noise.reshape(rows, -1), module.layers, -1)


def _noise(bits: Bits, key: Key, axes: tuple[int, ...]) -> Noise:
  """Returns the noise of samples of the posterior."""
  rows = math.prod(axes)
  rho = uniform(key, (*axes, bits.module.bits)).reshape(rows, -1)
  other = uniform(jax.random.fold_in(key, 3), rho.shape) if bits.overlapping else rho
  return Noise(rho, other, _normals(bits, key, axes))


def _terms(bits: Bits, state: State, axes: tuple[int, ...], x: jax.Array, rows: Rows, params) -> Terms:
  """Returns the terms of samples, from rows to `axes`; the levels are the continuous layers from the data up, and z."""
  machine, shaped = machine_of(bits, state), lambda array: array.reshape(*axes, -1)
  z, logits, log_z = shaped(rows.bits.bits), shaped(rows.logits), state.extra['log_z']
  divergence = losses.overlapping_divergence if bits.overlapping else losses.boltzmann_divergence
  kl = divergence(logits, shaped(rows.bits.expected), machine, state.extra['chains'], log_z=log_z)
  kls, latents, ratio = [kl[..., None]], [Latent(shaped(rows.bits.zeta), None)], jnp.zeros(axes)
  for rung in rows.rungs:
    own, q, p = shaped(rung.z), tuple(map(shaped, rung.q)), tuple(map(shaped, rung.p))
    kls.append(distributions.gaussian_kl_per_dim(*q, *p))
    latents.append(Latent(own, q))
    ratio = ratio + (log_normal(own, *q) - log_normal(own, *p)).sum(-1)
  return Terms(
    log_px_z=ladders.log_likelihood(bits.likelihood, axes, x, params),
    log_q=distributions.bernoulli_log_prob(z, logits) + ratio,
    log_p=-boltzmann.energy(machine, z) - log_z,
    kls=kls[::-1],
    latents=latents[::-1],
  )


def _states(bits: Bits, key: Key, state: State, n: int) -> jax.Array:
  """Samples n states of the machine [n, N], some sweeps after chains chosen at random."""
  chosen = jax.random.randint(jax.random.fold_in(key, 1), (n,), 0, bits.chains)
  return boltzmann.gibbs(jax.random.fold_in(key, 2), machine_of(bits, state), state.extra['chains'][chosen], SWEEPS)


def _smoothed(bits: Bits, key: Key, states: jax.Array) -> jax.Array:
  """Samples the smoothed bits of states [n, N]."""
  z = states.astype(jnp.float32)
  return bits.module.smoothing.conditional(uniform(jax.random.fold_in(key, 3), z.shape), z)


def _generate(bits: Bits, state: State, zeta: jax.Array, noise) -> tuple[jax.Array, ...]:
  return ladders.apply(bits.module, state, None, zeta, noise, method='generate')[0]


def _means(bits: Bits, state: State, x: jax.Array) -> tuple[Rows, tuple[jax.Array, ...]]:
  """Returns the posterior's means, each given the means before it, and the likelihood's parameters."""
  module, rows = bits.module, x.shape[0]
  zeros = jnp.zeros((rows, module.bits))
  noise = Noise(zeros, zeros, [jnp.zeros((rows, module.latents))] * module.layers)
  return ladders.apply(module, state, None, x, noise, True)[0]


def _views(bits: Bits) -> dict[str, Any]:
  """Returns the views. The codes are smoothed bits."""
  module = bits.module
  images = lambda params: bits.likelihood.mean(params).reshape(-1, *module.shape)

  def decoded(state: State, zeta: jax.Array) -> jax.Array:
    """Computes images by the means of the continuous layers' priors."""
    return images(_generate(bits, state, zeta, [jnp.zeros((zeta.shape[0], module.latents))] * module.layers))

  def encode(key, state, x):
    del key
    return _means(bits, state, x)[0].bits.zeta

  def decode(key, state, z):
    del key
    return decoded(state, z)

  def reconstruct(key, state, x):
    del key
    return images(_means(bits, state, x)[1])

  def sample_prior(key, state, n):
    return _smoothed(bits, key, _states(bits, key, state, n))

  def mean_sample(key, state, n):
    return images(_generate(bits, state, sample_prior(key, state, n), _normals(bits, key, (n,))))

  def gibbs(key, state, n):
    machine, chains = machine_of(bits, state), _states(bits, key, state, 1)

    def turn(chains, own):
      swept = boltzmann.gibbs(own, machine, chains, SWEEPS)
      zeta = _smoothed(bits, own, jnp.broadcast_to(swept, (n, module.bits)))
      return swept, images(_generate(bits, state, zeta, _normals(bits, own, (n,))))

    return jax.lax.scan(turn, chains, jax.random.split(key, PICTURED))[1]

  def normalizer(key, state):
    return {'log_z': bits.normalize(key, machine_of(bits, state))}

  def to_bits(key, state, nats):
    del key, state
    return bits.likelihood.bits(nats, math.prod(module.shape))

  return {
    'encode': encode, 'decode': decode, 'posterior': None, 'prior': views.Prior(sample=sample_prior),
    'reconstruct': reconstruct, 'mean_sample': mean_sample, 'gibbs': gibbs, 'normalizer': normalizer, 'bits': to_bits,
    'kl_per_dim': None,
  }  # fmt: skip
