"""What a code holds, by how many of the previous bits the decoder sees: a toy of 16 bits with one global bit.

Axes: B batch, D bits of an example, Z bits of a code, S = 2^Z codes.

Reference: Chen et al. 2017, arXiv:1611.02731, section 2.2.
"""

import itertools
import math
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dgm_jax import config as experiment
from dgm_jax import distributions, losses
from dgm_jax.core import System
from dgm_jax.nn.blocks import MLP
from dgm_jax.pages.topics import short_runs
from dgm_jax.pages.topics.page import Figures, Row, Topic
from dgm_jax.systems.parts import bounds, priors
from dgm_jax.systems.parts.latents import Decoder, Latent, Posterior

__all__ = ['information_preference']

BITS, REPEAT = 16, 0.9  # a bit repeats the one before it with this probability, or with one minus it
CODE = 3  # bits of the latent code
PRICE = 10.0  # of a nat of code in the first quarter of the steps
STEPS, BATCH, TEST, HIDDEN = 4000, 64, 40_000, 32
CASES = {0: 'no previous bit', 1: 'one previous bit', BITS - 1: 'every previous bit'}


def information_preference() -> Topic:
  """Trains decoders that see no, one and every previous bit, and puts their divergences beside ln 2."""
  measured = {previous: short_runs.means(train(previous)) for previous in CASES}
  exact, shared = entropy(), information()
  rows = []
  for previous, divergence in ((1, shared), (BITS - 1, 0.0)):
    figures, name = measured[previous], CASES[previous]
    rows.append(Row(f'{name}: -ELBO, the entropy', exact, figures['neg_elbo_nats'], 0.08))
    rows.append(Row(f'{name}: KL', divergence, figures['kl_nats'], 0.02))
  table = [
    [CASES[previous], figures['neg_elbo_nats'], figures['kl_nats'], figures['kl_nats'] / math.log(2)]
    for previous, figures in measured.items()
  ]
  table.append(['entropy; information about the global bit', exact, shared, shared / math.log(2)])
  return Topic(
    'Information preference',
    'Sixteen bits in a row. The first is fair. One global bit says whether each other bit repeats the one before it (in'
    ' nine of ten places) or differs from it. A code of three bits goes to decoders that see more or less of the bits'
    ' before the one that they draw. What a decoder can find out by itself it does not take from the code, which costs'
    ' nats: ten times their number in the first quarter of the steps, so that the decoder learns first. With all'
    ' previous bits the code stays empty. With one, which does not tell the global bit, the code holds that bit, ln 2'
    ' nats, and nothing else. With none it is nearly full, of details, and the bound is far from the entropy.',
    rows=rows,
    figures=[Figures('nats an example', ('the decoder sees', '-ELBO', 'KL', 'bits of code'), table)],
    pictures={'repeating rows above, alternating rows below': _picture()},
  )


def entropy() -> float:
  """Computes the entropy of the 16 bits, in nats, by the numbers of changes between neighbours."""
  ways, log_joint = _patterns()
  log_p = np.logaddexp(*log_joint)
  return float(math.log(2) - (ways * np.exp(log_p) * log_p).sum())


def information() -> float:
  """Computes the information that the 16 bits have about the global bit, in nats; nearly ln 2."""
  ways, log_joint = _patterns()
  log_posterior = log_joint - np.logaddexp(*log_joint)
  return float(math.log(2) + (ways * np.exp(log_joint) * log_posterior).sum())


def _patterns() -> tuple[np.ndarray, np.ndarray]:
  """Returns the numbers of patterns with 0 to 15 changes, and the log-probability of each and a global bit [2, 16]."""
  changes = np.arange(BITS)
  ways = np.array([math.comb(BITS - 1, int(count)) for count in changes])
  few = changes * math.log(1 - REPEAT) + (BITS - 1 - changes) * math.log(REPEAT)
  return ways, np.stack([few, few[::-1]]) - math.log(2)


def draw(key: jax.Array, n: int) -> dict[str, jax.Array]:
  """Draws n examples [n, 1, 16, 1], and their global bits [n] as 'y'."""
  for_start, for_global, for_changes = jax.random.split(key, 3)
  start = jax.random.bernoulli(for_start, shape=(n, 1))
  other = jax.random.bernoulli(for_global, shape=(n,))
  changes = jax.random.bernoulli(for_changes, 1 - REPEAT, (n, BITS - 1)) ^ other[:, None]
  bits = jnp.cumsum(jnp.concatenate([start, changes], 1).astype(jnp.int32), 1) % 2
  return {'x': bits.reshape(n, 1, BITS, 1).astype(jnp.float32), 'y': other.astype(jnp.int32)}


class PreviousBits(nn.Module):
  """The logit of each bit given each code, the place, and so many of the bits before it."""

  previous: int
  hidden: int

  @nn.compact
  def __call__(self, x: Float[Array, 'B D'], codes: Float[Array, 'S Z']) -> Float[Array, 'B S D']:
    padded = jnp.pad(2 * x - 1, ((0, 0), (self.previous, 0)))
    windows = [padded[:, None, start : start + x.shape[1], None] for start in range(self.previous)]
    h = nn.Dense(self.hidden)(jnp.eye(x.shape[1]))[None, None] + nn.Dense(self.hidden)(codes)[None, :, None]
    if windows:
      h = h + nn.Dense(self.hidden)(jnp.concatenate(windows, -1))
    h = nn.elu(nn.Dense(self.hidden)(nn.elu(h)))
    return jnp.broadcast_to(nn.Dense(1)(h)[..., 0], (x.shape[0], len(codes), x.shape[1]))


def all_codes() -> jax.Array:
  """Returns every code as signs, [S, Z]."""
  return jnp.asarray(list(itertools.product((-1.0, 1.0), repeat=CODE)))


def decoder(previous: int) -> Decoder:
  """Returns the decoder that sees so many previous bits; its log p(x|z) is the mean over the codes of q(z|x).

  It takes the logits of q in the place of z, so that no code has to be sampled. Samples are drawn bit by bit, given the
  code of the bits or the logits z: 1 where they are positive. The 'mean' is a sample, too.
  """
  network = PreviousBits(previous, HIDDEN)

  def init(key, x):
    return network.init(key, x.reshape(-1, BITS), all_codes())['params']

  def log_prob(key, state, x, z):
    del key
    x = x.reshape(-1, BITS)
    logits = network.apply({'params': state.params['decoder']}, x, all_codes())
    log_q = jax.nn.log_sigmoid(z[:, None] * all_codes()[None]).sum(-1)
    return (jnp.exp(log_q) * distributions.bernoulli_log_prob(x[:, None], logits)).sum(1)

  def bits(nats):
    return losses.bits_per_dim(nats, BITS)

  def sample(key, state, z):
    codes, uniform = jnp.where(z > 0, 1.0, -1.0), jax.random.uniform(key, (z.shape[0], BITS))
    logits_of = lambda x, code: network.apply({'params': state.params['decoder']}, x[None], code[None])[0, 0]

    def draw_bit(x, place):
      logits = jax.vmap(logits_of)(x, codes)
      bit = uniform[:, place] < jax.nn.sigmoid(logits[:, place])
      return x.at[:, place].set(bit.astype(x.dtype)), None

    x, _ = jax.lax.scan(draw_bit, jnp.zeros((z.shape[0], BITS)), jnp.arange(BITS))
    return x.reshape(-1, 1, BITS, 1)

  return Decoder(init=init, log_prob=log_prob, mean=sample, sample=sample, bits=bits)


def posterior(hidden: Sequence[int] = (64, 64)) -> Posterior:
  """Returns the posterior of independent bits, whose logits stand in the place of a sample."""

  class Encoder(nn.Module):
    """Logits of the code's bits."""

    @nn.compact
    def __call__(self, x):
      return nn.Dense(CODE)(MLP(hidden, 'elu')(2 * x.reshape(-1, BITS) - 1))

  network = Encoder()

  def init(key, x):
    return network.init(key, x)['params']

  def means(key, state, x):
    del key
    return [network.apply({'params': state.params['encoder']}, x)]

  def sample(key, state, x, k):
    del k
    (logits,) = means(key, state, x)
    return [Latent(logits, (logits,), jnp.zeros(x.shape[0]))]  # log q is not used: the divergence has a closed form

  return Posterior(init=init, draw=sample, means=means)


def build(previous: int, steps: int = STEPS) -> System:
  """Returns the autoencoder whose decoder sees so many previous bits, with fair bits as the prior of its code.

  In the first quarter of the steps the divergence has the weight `PRICE`, then 1.
  """
  config = experiment.defaults()
  config.model = {}
  config.optimizer = {'model': experiment.optimizer(learning_rate=5e-3, schedule='cosine')}
  config.update({'steps': steps, 'batch_size': BATCH})
  model = bounds.compose(posterior(), priors.fair_bits(CODE), decoder(previous))
  return bounds.system(config, model, bounds.beta(lambda state: jnp.where(state.step < steps // 4, PRICE, 1.0)))


def train(previous: int, steps: int = STEPS) -> short_runs.Run:
  """Trains the autoencoder whose decoder sees so many previous bits."""
  system, batch, first = build(previous, steps), lambda key: draw(key, BATCH), draw(jax.random.key(1), BATCH)
  state, curves = short_runs.loop(system, batch, first, steps)
  return short_runs.Run(system, state, curves, draw(jax.random.key(2), TEST), first)


def _picture() -> np.ndarray:
  """Draws a few examples as rows of squares, sorted by their global bit."""
  x, y = (np.asarray(draw(jax.random.key(3), 16)[name]) for name in ('x', 'y'))
  rows = x[np.argsort(y, kind='stable')].reshape(16, BITS)
  return (255 * (1 - rows)).astype(np.uint8).repeat(12, 0).repeat(12, 1)[..., None]
