"""The toy of 16 bits with one global bit: exact figures by enumeration, what decoders see, and what the code holds."""

import itertools
import math
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dgm_jax.pages.topics import information_preference as topic
from dgm_jax.pages.topics import short_runs

KEY = jax.random.key(0)


def test_entropy_and_information_are_those_of_all_65536_patterns():
  x = np.array(list(itertools.product((0, 1), repeat=16)))
  changed = x[:, 1:] != x[:, :-1]
  given = [0.5 * np.where(changed == other, 0.9, 0.1).prod(1) for other in (0, 1)]  # p(x|g)
  p = 0.5 * (given[0] + given[1])
  np.testing.assert_allclose(p.sum(), 1)
  np.testing.assert_allclose(topic.entropy(), -(p * np.log(p)).sum(), rtol=1e-10)
  information = sum((0.5 * own * np.log(own / p)).sum() for own in given)
  np.testing.assert_allclose(topic.information(), information, rtol=1e-10)
  assert math.log(2) - 1e-3 < information < math.log(2)


def test_draws_repeat_or_change_as_the_global_bit_says():
  batch = topic.draw(KEY, 40_000)
  x, y = np.asarray(batch['x']).reshape(-1, 16), np.asarray(batch['y'])
  changed = x[:, 1:] != x[:, :-1]
  np.testing.assert_allclose([changed[y == 0].mean(), changed[y == 1].mean()], [0.1, 0.9], atol=0.003)
  np.testing.assert_allclose([x[:, 0].mean(), y.mean()], 0.5, atol=0.01)


@pytest.mark.parametrize('previous', [0, 1, 15])
def test_a_decoder_sees_so_many_previous_bits_and_no_other(previous):
  network = topic.PreviousBits(previous, 8)
  x, codes = topic.draw(KEY, 3)['x'].reshape(3, 16), topic.all_codes()
  params = network.init(KEY, x, codes)
  reach = np.asarray(jax.jacobian(lambda x: network.apply(params, x[None], codes)[0, 0])(x[0])) != 0
  lag = np.arange(16)[:, None] - np.arange(16)[None]
  np.testing.assert_array_equal(reach, (lag >= 1) & (lag <= previous))
  # Positions whose window reaches over the edge are told apart by their place.
  assert np.abs(np.diff(network.apply(params, x, codes), axis=1)).max() > 1e-3


def test_the_bound_is_the_mean_over_all_codes():
  """sum_z q(z|x) (log p(x|z) + log p(z) - log q(z|x)), in NumPy."""
  system, batch = topic.build(1), topic.draw(KEY, 4)
  state = system.init(KEY, batch)
  measured = jax.jit(system.evaluate)(KEY, state, batch)
  on = 1 / (1 + np.exp(-np.asarray(system.views.encode(KEY, state, batch['x']), np.float64)))
  signs = np.array(list(itertools.product((-1, 1), repeat=3)))
  x = np.asarray(batch['x']).reshape(4, 16)
  logits = topic.PreviousBits(1, topic.HIDDEN).apply({'params': state.params['decoder']}, x, jnp.asarray(signs, 'f4'))
  logits = np.asarray(logits, np.float64)
  log_px_z = (x[:, None] * logits - np.logaddexp(0, logits)).sum(-1)
  q = np.where(signs[None] > 0, on[:, None], 1 - on[:, None]).prod(-1)
  np.testing.assert_allclose(measured['reconstruction_nats'], -(q * log_px_z).sum(1), rtol=1e-5)
  np.testing.assert_allclose(measured['kl_nats'], (q * (np.log(q) + 3 * np.log(2))).sum(1), rtol=1e-4, atol=1e-6)


@pytest.fixture(scope='module')
def run():
  """The autoencoder whose decoder sees one bit, trained by an optimised program: it runs longer than it compiles."""
  jax.config.update('jax_disable_most_optimizations', False)
  trained = topic.train(1)
  trained = trained._replace(test=jax.tree.map(lambda part: part[:10_000], trained.test))
  yield trained
  jax.config.update('jax_disable_most_optimizations', os.environ['JAX_DISABLE_MOST_OPTIMIZATIONS'] == '1')


def test_a_decoder_that_sees_one_bit_leaves_the_global_one_to_the_code(run):
  figures = short_runs.means(run)
  np.testing.assert_allclose(figures['kl_nats'], math.log(2), atol=0.02)
  np.testing.assert_allclose(figures['neg_elbo_nats'], topic.entropy(), atol=0.08)
  code = np.asarray(jax.jit(run.system.views.encode)(KEY, run.state, run.test['x'])) > 0
  agree = (code == np.asarray(run.test['y'])[:, None]).mean(0)
  assert np.maximum(agree, 1 - agree).max() > 0.98


def test_a_broken_code_costs_the_bound_what_it_told(run):
  """An encoder that says nothing has no divergence, and the figures of the topic are missed."""
  encoder = jax.tree.map(jnp.zeros_like, run.state.params['encoder'])
  figures = short_runs.means(run._replace(state=run.state.replace(params=run.state.params | {'encoder': encoder})))
  assert figures['kl_nats'] < 1e-6
  assert figures['neg_elbo_nats'] > topic.entropy() + 0.5


def test_bits_are_drawn_with_the_probabilities_of_the_decoder():
  """Of a decoder that sees one bit, bits are a Markov chain: the shares of ones at each place follow one another."""
  system, n = topic.build(1), 2000
  state = system.init(KEY, topic.draw(KEY, 4))
  state = state.replace(params=jax.tree.map(lambda leaf: 3 * leaf, state.params))
  code = jnp.asarray([1.0, 0.0, 1.0])
  drawn = jax.jit(system.views.emit)(KEY, state, jnp.tile(code, (n, 1)))
  assert drawn.shape == (n, 1, 16, 1)
  network = topic.PreviousBits(1, topic.HIDDEN)
  after = [
    network.apply({'params': state.params['decoder']}, jnp.full((1, 16), bit), 2 * code[None] - 1) for bit in (0.0, 1.0)
  ]
  zero, one = (1 / (1 + np.exp(-np.asarray(logits, np.float64)[0, 0])) for logits in after)
  share = [zero[0]]
  for place in range(1, 16):
    share.append(share[-1] * one[place] + (1 - share[-1]) * zero[place])
  assert np.ptp(share) > 0.1
  np.testing.assert_allclose(np.asarray(drawn).reshape(n, 16).mean(0), share, atol=5 * 0.5 / np.sqrt(n))
