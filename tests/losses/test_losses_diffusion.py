"""The bound of diffusion models: its kernels, Gaussian data for which it is exact, and bits that can be enumerated."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from dgm_jax import distributions, losses

ENTROPY = 0.5 * math.log(2 * math.pi * math.e)
HERMITE = np.array([-math.sqrt(3), 0.0, math.sqrt(3)]), np.array([1, 4, 1]) / 6  # exact for polynomials of degree 5


def steps_of(t, n):
  return jnp.full(n, t, jnp.int32)


def test_diffusion_posterior_of_ho_at_500():
  schedule = losses.diffusion_schedule(1000, name='linear')
  mean, variance = losses.diffusion_posterior(jnp.asarray([0.3]), jnp.asarray([-0.7]), steps_of(500, 1), schedule)
  assert float(mean[0]) == pytest.approx(-0.6949536478, abs=2e-7)
  assert float(variance[0]) == pytest.approx(0.0100313554, abs=1e-9)
  assert schedule.alpha_bar[-1] == pytest.approx(4.0358e-5, rel=1e-4)


def test_diffusion_posterior_is_bayes_rule():
  """The product of q(x_{t-1}|x_0) and q(x_t|x_{t-1}), as a function of x_{t-1}."""
  schedule = losses.diffusion_schedule(7, name='fraction')
  x_0, x_t, t = jnp.asarray([0.4, -1.0, 2.0]), jnp.asarray([-0.3, 0.2, 1.1]), np.array([2, 5, 7])
  mean, variance = losses.diffusion_posterior(x_0, x_t, jnp.asarray(t), schedule)
  before, alpha = schedule.alpha_bar[t - 1], 1 - schedule.beta[t]
  precision = 1 / (1 - before) + alpha / (1 - alpha)
  weighted = np.sqrt(before) * x_0 / (1 - before) + np.sqrt(alpha) * x_t / (1 - alpha)
  np.testing.assert_allclose(variance, 1 / precision, rtol=1e-6)
  np.testing.assert_allclose(mean, weighted / precision, rtol=1e-5)
  first, zero = losses.diffusion_posterior(x_0, x_t, steps_of(1, 3), schedule)
  np.testing.assert_allclose(first, x_0, rtol=1e-6)
  np.testing.assert_array_equal(zero, 0)


def test_diffusion_schedules():
  fraction = losses.diffusion_schedule(1000, name='fraction')
  np.testing.assert_allclose(fraction.alpha_bar[[500, 1000]], [0.5, 1e-3], rtol=1e-2)  # a T-th of the variance a step
  np.testing.assert_allclose(1 / fraction.beta[1:], np.linspace(1000, 2, 1000))
  short = losses.diffusion_schedule(100, name='linear')
  np.testing.assert_allclose(short.beta[[1, 100]], [1e-3, 0.2])
  cosine = losses.diffusion_schedule(10, name='cosine')
  angle = 0.5 * math.pi * (np.array([0.0, 0.5]) + 0.008) / 1.008
  assert cosine.alpha_bar[5] == pytest.approx(np.cos(angle[1]) ** 2 / np.cos(angle[0]) ** 2)
  assert cosine.beta[-1] == 0.999 and cosine.alpha_bar[0] == 1 and cosine.steps == 10
  halved = losses.strided_schedule(short, 2)
  np.testing.assert_array_equal(halved.alpha_bar, short.alpha_bar[::2])
  np.testing.assert_allclose(np.cumprod(1 - halved.beta), halved.alpha_bar)
  with pytest.raises(ValueError, match="got 'sine', expected fraction, linear or cosine"):
    losses.diffusion_schedule(4, name='sine')


def bound(schedule, variance, kind):
  """Minus the bound of data N(0, variance), exactly: expectations of quadratics, by three points an axis.

  The mean of each reverse step is the true one, the first step is exact, and the variance of the others is of a kind.
  """
  nodes, weights = HERMITE
  a, b = (axis.ravel() for axis in np.meshgrid(nodes, nodes, indexing='ij'))
  mass = np.outer(weights, weights).ravel()
  x_0 = math.sqrt(variance) * a
  beta, left = schedule
  of = lambda t: left[t] * variance + 1 - left[t]  # the variance of x_t
  t = np.repeat(np.arange(1, schedule.steps + 1), len(a))
  rows = lambda array: jnp.asarray(np.tile(array, schedule.steps), jnp.float32)
  x_t = np.asarray(losses.diffusion(rows(x_0), rows(b), jnp.asarray(t), schedule), np.float64)
  slope = np.sqrt(1 - beta[t]) * of(t - 1) / of(t)
  optimal = of(t - 1) - slope**2 * of(t)
  posterior = beta[t] * (1 - left[t - 1]) / (1 - left[t])
  chosen = {'forward': beta[t], 'optimal': optimal, 'posterior': np.where(t > 1, posterior, 1.0)}[kind]
  logvar = np.log(np.where(t == 1, optimal, chosen))
  f32 = lambda array: jnp.asarray(array, jnp.float32)
  inside = losses.diffusion_divergence(rows(x_0), f32(x_t), jnp.asarray(t), f32(slope * x_t), f32(logvar), schedule)
  first = -distributions.normal_log_prob(rows(x_0)[:, None], f32(slope * x_t)[:, None], f32(logvar)[:, None])
  terms = np.where(t == 1, np.asarray(first, np.float64), np.asarray(inside, np.float64))
  prior = np.asarray(losses.diffusion_prior_divergence(jnp.asarray(x_0), schedule), np.float64)
  return terms.reshape(-1, len(a)).sum(0) @ mass + prior @ mass


@pytest.mark.parametrize('steps', [2, 10, 1000])
def test_diffusion_of_standard_normal_data_by_its_own_forward_kernel_is_exact(steps):
  schedule = losses.diffusion_schedule(steps, name='fraction')
  assert bound(schedule, 1.0, 'forward') == pytest.approx(ENTROPY, abs=2e-5)
  assert pytest.approx(1.4189385, abs=1e-7) == ENTROPY


@pytest.mark.parametrize(
  ('steps', 'kind', 'excess'),
  [
    (10, 'forward', 0.034877), (100, 'forward', 0.005348), (1000, 'forward', 0.000560), (10, 'optimal', 0.000926),
    (10, 'posterior', 0.0938), (1000, 'posterior', 0.2798),
  ],
)  # fmt: skip
def test_diffusion_of_normal_data_is_above_the_entropy_by_the_choice_of_variance(steps, kind, excess):
  schedule = losses.diffusion_schedule(steps, name='fraction')
  entropy = ENTROPY + 0.5 * math.log(0.25)
  tolerance = 5e-5 if kind == 'posterior' else 1e-6 + 2e-8 * steps
  assert bound(schedule, 0.25, kind) - entropy == pytest.approx(excess, abs=tolerance)


def test_diffusion_divergence_is_that_of_two_normals_and_none_at_the_first_step():
  schedule = losses.diffusion_schedule(5, name='cosine')
  random = np.random.default_rng(0)
  x_0, x_t, mean, logvar = jnp.asarray(random.normal(size=(4, 2, 2, 1, 3)), jnp.float32)
  t = jnp.asarray([1, 5])
  got = losses.diffusion_divergence(x_0, x_t, t, mean, logvar, schedule)
  about, variance = losses.diffusion_posterior(x_0, x_t, t, schedule)
  flat = lambda array: array[1].reshape(1, -1)
  expected = distributions.gaussian_kl(flat(about), jnp.full((1, 6), jnp.log(variance[1])), flat(mean), flat(logvar))
  assert got[0] == 0
  np.testing.assert_allclose(got[1], expected[0], rtol=1e-5)


def test_diffusion_of_the_prior_is_the_divergence_of_normals():
  schedule = losses.diffusion_schedule(3, name='fraction')
  x_0 = jnp.asarray([[0.5, -2.0], [1.0, 0.0]])
  left = schedule.alpha_bar[-1]
  expected = distributions.gaussian_kl_standard(math.sqrt(left) * x_0, jnp.full((2, 2), math.log(1 - left)))
  np.testing.assert_allclose(losses.diffusion_prior_divergence(x_0, schedule), expected, rtol=1e-5)


# Binomial kernels, on six bits.

BITS = 6
ALL = np.array(list(itertools.product((0, 1), repeat=BITS)), np.float64)  # [64, 6]
WAVES = np.sin(1.7 * np.arange(BITS)[None] + 0.9 * np.arange(len(ALL))[:, None]) * 2  # logits of x_0 given x_t


def forward(schedule, t):
  """[64, 64], q(x_t|x_{t-1}) from row to column, by counting bits that differ."""
  flips = np.abs(ALL[:, None] - ALL[None]).sum(-1)
  half = schedule.beta[t] / 2
  return half**flips * (1 - half) ** (BITS - flips)


def reverse(schedule, t, logits):
  """[64, 64], p(x_{t-1}|x_t) from row to column, in float64: a product over bits, by Bayes' rule for each."""
  half, before = schedule.beta[t] / 2, schedule.alpha_bar[t - 1]
  ones = 1 / (1 + np.exp(-logits))
  likelihood = lambda x: np.where(x == ALL, 1 - half, half)  # of x_t given x_{t-1} = x
  prior = lambda x, x_0: 0.5 + before * ((x == x_0) - 0.5)  # of x_{t-1} = x given x_0
  given = lambda x_0: likelihood(1) * prior(1, x_0) / (likelihood(1) * prior(1, x_0) + likelihood(0) * prior(0, x_0))
  one = ones * given(1) + (1 - ones) * given(0)
  return np.where(ALL[None] == 1, one[:, None], 1 - one[:, None]).prod(-1)


def test_binomial_diffusion_is_the_product_of_its_steps():
  schedule = losses.diffusion_schedule(5, name='fraction')
  joint = np.eye(len(ALL))
  for t in range(1, 6):
    joint = joint @ forward(schedule, t)
    ones = np.asarray(losses.binomial_diffusion(ALL, steps_of(t, len(ALL)), schedule), np.float64)
    expected = np.where(ALL[None] == 1, ones[:, None], 1 - ones[:, None]).prod(-1)
    np.testing.assert_allclose(joint, expected, rtol=1e-5)


@pytest.mark.parametrize('steps', [3, 5])
def test_binomial_diffusion_bound_is_below_the_likelihood_by_enumeration(steps):
  """Of every six bits; and it is -log of the joint probability of all paths, on average over q."""
  schedule, n = losses.diffusion_schedule(steps, name='fraction'), len(ALL)
  kernels = [reverse(schedule, t, WAVES * t / steps) for t in range(1, steps + 1)]
  mass = np.full(n, 1 / n)
  for kernel in reversed(kernels):
    mass = mass @ kernel
  assert mass.sum() == pytest.approx(1)
  pairs = np.repeat(np.arange(n), n), np.tile(np.arange(n), n)  # of x_0 and x_t
  total = np.asarray(losses.binomial_prior_divergence(ALL, schedule), np.float64)
  exact, joint = np.zeros(n), np.eye(n)
  for t in range(1, steps + 1):
    logits = WAVES * t / steps
    joint_before, joint = joint, joint @ forward(schedule, t)
    at, x_0, x_t = steps_of(t, n * n), ALL[pairs[0]], ALL[pairs[1]]
    term = losses.binomial_divergence(x_0, x_t, at, jnp.asarray(logits[pairs[1]], jnp.float32), schedule)
    if t == 1:
      term = -distributions.bernoulli_log_prob(x_0, jnp.asarray(logits[pairs[1]], jnp.float32))
    total += (joint * np.asarray(term, np.float64).reshape(n, n)).sum(1)
    # E log q(x_t|x_{t-1}) / p(x_{t-1}|x_t), by the joint of x_{t-1} and x_t given x_0
    paths = joint_before[:, :, None] * forward(schedule, t)[None]
    exact += (paths * (np.log(forward(schedule, t)) - np.log(kernels[t - 1]).T)[None]).sum((1, 2))
  np.testing.assert_allclose(total, exact + BITS * math.log(2), rtol=1e-5)
  assert (total >= -np.log(mass) - 1e-9).all()


def test_binomial_flip_is_precise_where_it_is_small():
  schedule = losses.diffusion_schedule(2000, name='fraction')
  x = jnp.zeros((1, 1))
  half, before = schedule.beta[2] / 2, (1 - schedule.alpha_bar[1]) / 2
  expected = half * before / (half * before + (1 - half) * (1 - before))
  got = losses.binomial_flip(x, x, jnp.asarray([2]), schedule)
  np.testing.assert_allclose(got[0, 0], expected, rtol=1e-5)
  assert expected < 1e-7


def test_a_discretized_normal_is_its_distribution_function_and_sums_to_one():
  levels = 9
  values = np.linspace(-1, 1, levels)[:, None]
  for mean, deviation in ((0.1, 0.2), (-3.0, 1.0), (0.9, 0.02)):
    rows = lambda number: jnp.full((levels, 1), number)
    got = distributions.discretized_normal_log_prob(values, rows(mean), rows(2 * math.log(deviation)), levels)
    edges = np.concatenate([[-np.inf], (values[1:, 0] + values[:-1, 0]) / 2, [np.inf]])
    centred = (edges - mean) / deviation
    lower, upper = stats.norm.logcdf(centred), stats.norm.logsf(centred)  # the smaller one is precise
    by_cdf = lower[1:] + np.log(-np.expm1(np.minimum(lower[:-1] - lower[1:], -1e-300)))
    by_tail = upper[:-1] + np.log(-np.expm1(np.minimum(upper[1:] - upper[:-1], -1e-300)))
    expected = np.where(centred[1:] + centred[:-1] > 0, by_tail, by_cdf)
    np.testing.assert_allclose(got, expected, rtol=2e-4, atol=2e-5)
    assert float(jax.nn.logsumexp(got)) == pytest.approx(0, abs=1e-5)


def test_a_discretized_normal_has_slopes_also_far_from_its_mean():
  def log_prob(mean):
    return distributions.discretized_normal_log_prob(jnp.asarray([[0.5]]), mean[None, None], jnp.asarray([[-9.0]]))[0]

  for mean in (0.5, -1.0, 5.0):
    slope = jax.grad(log_prob)(jnp.asarray(mean))
    assert np.isfinite(slope) and abs(slope) < 1e6
  assert float(jax.grad(log_prob)(jnp.asarray(-1.0))) == pytest.approx(1.5 * math.exp(9), rel=0.02)
