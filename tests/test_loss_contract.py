"""What every function of the losses and distributions keeps: gradients, jit, vmap, float32, clear shape errors."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from jax.test_util import check_grads

from dgm_jax import distributions as dist
from dgm_jax import losses

RANDOM = np.random.default_rng(0)
KEY = jax.random.key(0)


def real(*shape):
  return jnp.asarray(RANDOM.normal(size=shape), jnp.float32)


BITS = jnp.asarray([[0, 1, 1], [1, 0, 1]], jnp.float32)
PIXELS = jnp.asarray([[0, 7, 255], [127, 128, 254]]) / 127.5 - 1

# name -> (function of the arguments that it is differentiable in, those arguments)
CASES = {
  'bernoulli_log_prob': (lambda logits: dist.bernoulli_log_prob(BITS.astype(logits.dtype), logits), (real(2, 3),)),
  'discretized_logistic_log_prob': (
    lambda mean, log_scale: dist.discretized_logistic_log_prob(PIXELS, mean, log_scale),
    (real(2, 3), real(2, 3) - 1),
  ),
  'gaussian_kl': (dist.gaussian_kl, (real(2, 3), real(2, 3), real(2, 3), real(2, 3))),
  'gaussian_kl_per_dim': (dist.gaussian_kl_per_dim, (real(2, 3), real(2, 3), real(2, 3), real(2, 3))),
  'gaussian_kl_standard': (dist.gaussian_kl_standard, (real(2, 3), real(2, 3))),
  'gaussian_kl_standard_per_dim': (dist.gaussian_kl_standard_per_dim, (real(2, 3), real(2, 3))),
  'normal_entropy': (dist.normal_entropy, (real(2, 3),)),
  'normal_log_prob': (dist.normal_log_prob, (real(2, 3), real(2, 3), real(2, 3))),
  'normal_sample': (lambda mean, logvar: dist.normal_sample(KEY, mean, logvar), (real(2, 3), real(2, 3))),
  'standard_normal_log_prob': (dist.standard_normal_log_prob, (real(2, 3),)),
  'active_units': (losses.active_units, (real(5, 3),)),
  'beta_elbo': (losses.beta_elbo, (real(4), real(4), real())),
  'bits_per_dim': (lambda nats: losses.bits_per_dim(nats, 12), (real(4),)),
  'dequantize': (lambda x: losses.dequantize(KEY, x), (jnp.asarray([3.0, 250.0]),)),
  'elbo': (losses.elbo, (real(4), real(4))),
  'free_bits': (lambda kl: losses.free_bits(kl, 0.5), (jnp.asarray([[0.1, 3.0], [0.2, 4.0]]),)),
  'importance_weighted_bound': (losses.importance_weighted_bound, (real(5, 2),)),
}
NOT_DIFFERENTIABLE = {'active_units'}

# name -> (call with one wrong argument, the three things that the message must say)
WRONG = {
  'bernoulli_log_prob': (lambda: dist.bernoulli_log_prob(BITS, real(2, 4)), ('logits', '(2, 4)', '[2, 3]')),
  'discretized_logistic_log_prob': (
    lambda: dist.discretized_logistic_log_prob(PIXELS, PIXELS, real(3)),
    ('log_scale', '(3,)', '[2, 3]'),
  ),
  'gaussian_kl': (
    lambda: dist.gaussian_kl(real(2, 3), real(2, 3), real(2, 2), real(2, 3)),
    ('mean_p', '(2, 2)', '[2, 3]'),
  ),
  'gaussian_kl_per_dim': (
    lambda: dist.gaussian_kl_per_dim(real(2, 3), real(3, 3), real(2, 3), real(2, 3)),
    ('logvar_q', '(3, 3)', '[2, 3]'),
  ),
  'gaussian_kl_standard': (lambda: dist.gaussian_kl_standard(real(2, 3), real(2)), ('logvar', '(2,)', '[2, 3]')),
  'gaussian_kl_standard_per_dim': (
    lambda: dist.gaussian_kl_standard_per_dim(real(2, 3), real(2)),
    ('logvar', '(2,)', '[2, 3]'),
  ),
  'normal_entropy': (lambda: dist.normal_entropy(real()), ('logvar', '()', '[..., D]')),
  'normal_log_prob': (
    lambda: dist.normal_log_prob(real(2, 3), real(2, 3), real(2, 5)),
    ('logvar', '(2, 5)', '[2, 3]'),
  ),
  'normal_sample': (lambda: dist.normal_sample(KEY, real(2, 3), real(2, 5)), ('logvar', '(2, 5)', '[2, 3]')),
  'standard_normal_log_prob': (lambda: dist.standard_normal_log_prob(real()), ('x', '()', '[..., D]')),
  'active_units': (lambda: losses.active_units(real(0, 3)), ('posterior_means', '(0, 3)', 'one example')),
  'beta_elbo': (lambda: losses.beta_elbo(real(4), real(4), real(4)), ('beta', '(4,)', '[]')),
  'bits_per_dim': (lambda: losses.bits_per_dim(real(4), 0), ('dims', '0', 'positive')),
  'dequantize': (lambda: losses.dequantize(KEY, real(4), 17), ('bits', '17', '1 to 16')),
  'elbo': (lambda: losses.elbo(real(4), real(4, 1)), ('kl', '(4, 1)', '...=(4,)')),
  'free_bits': (lambda: losses.free_bits(real(0, 3), 0.1), ('kl_per_dim', '(0, 3)', 'one example')),
  'importance_weighted_bound': (
    lambda: losses.importance_weighted_bound(real(3), axis=1),
    ('log_weights', '(3,)', 'axis 1'),
  ),
}


@pytest.fixture
def unchecked():
  """Turns jaxtyping off: the library's own message is what a user sees."""
  jaxtyping.config.update('jaxtyping_disable', True)
  yield
  jaxtyping.config.update('jaxtyping_disable', False)


def test_every_function_has_a_case_a_wrong_shape_and_a_docstring():
  public = set(dist.__all__) | set(losses.__all__)
  assert public == set(CASES) == set(WRONG)
  for name in public:
    doc = getattr(dist, name, None) or getattr(losses, name)
    for part in ('Args:', 'Returns:', 'Raises:', 'Reference:'):
      assert part in doc.__doc__, (name, part)


@pytest.mark.parametrize('name', CASES)
def test_jit_vmap_and_precision(name):
  function, arguments = CASES[name]
  expected = function(*arguments)
  close = lambda a, b: np.testing.assert_allclose(a, b, 2e-6, 2e-6)
  jax.tree.map(close, jax.jit(function)(*arguments), expected)
  twice = jax.tree.map(lambda a: jnp.stack([a, a]), arguments)
  jax.tree.map(close, jax.vmap(function)(*twice), jax.tree.map(lambda a: jnp.stack([a, a]), expected))
  narrow = [a.astype(jnp.bfloat16) for a in arguments]
  got, wide = function(*narrow), function(*[a.astype(jnp.float32) for a in narrow])
  jax.tree.map(np.testing.assert_array_equal, got, wide)
  assert all(a.dtype in (jnp.float32, jnp.int32) for a in jax.tree.leaves(got))


@pytest.mark.parametrize('name', sorted(set(CASES) - NOT_DIFFERENTIABLE))
def test_gradients(name):
  function, arguments = CASES[name]
  check_grads(function, arguments, order=1, modes=('fwd', 'rev'), atol=2e-2, rtol=2e-2, eps=1e-2)


@pytest.mark.parametrize('name', WRONG)
def test_a_wrong_shape_names_argument_got_and_expected(name, unchecked):
  call, parts = WRONG[name]
  with pytest.raises(ValueError) as error:
    jax.eval_shape(call)
  for part in parts:
    assert part in str(error.value)


def test_import_is_light():
  program = (
    'import sys, time, jax; start = time.process_time(); import dgm_jax.losses; '
    'print(time.process_time() - start, [m for m in sys.modules '
    "if m.split('.')[0] in ('flax', 'orbax', 'tensorflow_datasets', 'grain', 'optax', 'chex')])"
  )
  run = subprocess.run(
    [sys.executable, '-c', program],
    capture_output=True,
    text=True,
    check=True,
    env=dict(os.environ, OMP_NUM_THREADS='1'),
  )
  seconds, heavy = run.stdout.split(' ', 1)
  assert float(seconds) <= 0.3
  assert heavy.strip() == '[]'
