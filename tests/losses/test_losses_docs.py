"""docs/losses.md: a row for every function, and examples that do what they say."""

import inspect
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dgm_jax import distributions, losses

PAGE = (pathlib.Path(__file__).parents[2] / 'docs/losses.md').read_text()
FUNCTIONS, STATIC = PAGE.split('## Static arguments')
VAE, WGAN_GP, SCORE_FUNCTION = re.findall(r'```python\n(import .*?)```', PAGE, re.DOTALL)


def run(example):
  names = {}
  exec(compile(example, 'docs/losses.md', 'exec'), names)
  return names


def test_every_function_has_a_row():
  rows = re.findall(r'^\| `(\w+)` \|', FUNCTIONS, re.MULTILINE)
  both = [(module, name) for module in (losses, distributions) for name in module.__all__]
  assert sorted(rows) == sorted(name for module, name in both if not inspect.isclass(getattr(module, name)))


def test_a_row_cites_the_papers_of_the_docstring():
  papers = dict(re.findall(r'^\| `(\w+)` \|.*\| ([^|]+) \|$', FUNCTIONS, re.MULTILINE))
  for name, paper in papers.items():
    source = (getattr(losses, name, None) or getattr(distributions, name)).__doc__.split('Reference:')[1]
    author = paper.split()[0].replace('ń', 'n')
    assert author.lower() in source.lower(), (name, paper)


@pytest.mark.parametrize('example', [VAE, WGAN_GP, SCORE_FUNCTION])
def test_an_example_has_about_twenty_lines(example):
  assert len([line for line in example.splitlines() if line.strip()]) <= 22


def test_the_variational_autoencoder_beats_independent_pixels():
  names = run(VAE)
  p = np.asarray(names['x']).mean(0).clip(1e-6, 1 - 1e-6)
  independent = -(p * np.log(p) + (1 - p) * np.log(1 - p)).sum()
  assert names['history'][-1] < 0.8 * independent < names['history'][0]


def test_wgan_gp_moves_the_generator_to_the_data():
  names = run(WGAN_GP)
  samples = np.asarray(names['generator'](0.5 * jax.random.normal(jax.random.key(7), (2000, 2))))
  np.testing.assert_allclose(samples.mean(0), [3, -1], atol=0.15)
  np.testing.assert_allclose(samples.std(0), [0.5, 0.5], atol=0.1)


def test_the_score_function_finds_the_target():
  names = run(SCORE_FUNCTION)
  assert jnp.all((names['logits'] > 1.5) == (names['target'] > 0.5))
  assert jnp.all(jnp.abs(names['logits']) > 1.5)
  # The exact gradient at zero logits is +-1/4; the reward's spread makes a single sample far noisier than eight.
  assert names['variance'].shape == (1, 4) and 0 < names['variance'].max() < 0.1


def test_the_example_of_the_readme_is_a_bound(unchecked):
  page = (pathlib.Path(__file__).parents[2] / 'README.md').read_text()
  blocks = re.findall(r'```python\n(.*?)```', page, re.DOTALL)
  (example,) = [block for block in blocks if 'importance_weighted_bound' in block]
  names = run(example)
  log_px_z = np.asarray(names['x']) @ np.full(784, -2.0) - 784 * np.log1p(np.exp(-2))  # the same for all k samples
  np.testing.assert_allclose(names['bound'], log_px_z, rtol=1e-5)  # for posterior and prior are one
  with pytest.raises(ValueError, match=r'both need the same number of axes: write x\[None\]'):
    run(example.replace('x[None]', 'x'))
  with pytest.raises(ValueError, match=r'with ...=\(5, 4\); nothing is broadcast here: write jnp.broadcast_to\(kl, '):
    jax.eval_shape(losses.elbo, jnp.zeros((5, 4)), jnp.zeros(4))


NORMAL, LOGISTIC = jnp.zeros((2, 3)), (jnp.zeros((2, 3)),) * 3
MIXTURE = distributions.LogisticMixture(jnp.zeros((2, 4)), *(jnp.zeros((2, 3, 4)),) * 3)
KEY = jax.random.key(0)
# Arguments that are Python numbers: (function, argument) -> the function of it, and a value.
NUMBERS = {
  ('active_units', 'threshold'): (lambda v: losses.active_units(NORMAL, threshold=v), 0.01),
  ('bits_per_dim', 'dims'): (lambda v: losses.bits_per_dim(jnp.zeros(2), v), 12),
  ('dequantize', 'bits'): (lambda v: losses.dequantize(KEY, NORMAL, bits=v), 5),
  ('discretized_logistic_log_prob', 'levels'): (lambda v: distributions.discretized_logistic_log_prob(*LOGISTIC, v), 9),
  ('discretized_logistic_sample', 'levels'): (
    lambda v: distributions.discretized_logistic_sample(KEY, *LOGISTIC[:2], v), 9
  ),
  ('discretized_normal_log_prob', 'levels'): (lambda v: distributions.discretized_normal_log_prob(*LOGISTIC, v), 9),
  ('diffusion_schedule', 'steps'): (lambda v: jnp.asarray(losses.diffusion_schedule(v).beta, 'f4'), 4),
  ('strided_schedule', 'stride'): (
    lambda v: jnp.asarray(losses.strided_schedule(losses.diffusion_schedule(4), v).beta, 'f4'), 2
  ),
  ('doubly_reparametrized_surrogate', 'axis'): (
    lambda v: losses.doubly_reparametrized_surrogate(lambda z: z.sum(-1), jnp.zeros((2, 3, 4)), v), 1
  ),
  ('elbo_surgery', 'n'): (lambda v: losses.elbo_surgery(NORMAL, NORMAL, KEY, v), 4),
  ('estimator_variance', 'n'): (lambda v: losses.estimator_variance(jax.random.normal, KEY, v), 4),
  ('importance_weighted_bound', 'axis'): (lambda v: losses.importance_weighted_bound(NORMAL, v), 1),
  ('leave_one_out_baseline', 'axis'): (lambda v: losses.leave_one_out_baseline(NORMAL, v), 1),
  ('logistic_mixture_log_prob', 'levels'): (lambda v: distributions.logistic_mixture_log_prob(NORMAL, MIXTURE, v), 9),
  ('logistic_mixture_sample', 'levels'): (lambda v: distributions.logistic_mixture_sample(KEY, MIXTURE, v), 9),
  ('logistic_mixture_split', 'channels'): (lambda v: distributions.logistic_mixture_split(NORMAL, v), 1),
  ('logit_transform', 'alpha'): (lambda v: losses.logit_transform(NORMAL, alpha=v), 0.1),
  ('logit_transform_inverse', 'alpha'): (lambda v: losses.logit_transform_inverse(NORMAL, alpha=v), 0.1),
  ('minibatch_total_correlation', 'dataset_size'): (
    lambda v: losses.minibatch_total_correlation(NORMAL, NORMAL, NORMAL, dataset_size=v), 9
  ),
  ('minibatch_weights', 'batch'): (lambda v: losses.minibatch_weights(v, 9), 3),
  ('minibatch_weights', 'dataset_size'): (lambda v: losses.minibatch_weights(3, v), 9),
  ('normal_mixture_sample', 'n'): (
    lambda v: distributions.normal_mixture_sample(KEY, jnp.zeros(2), NORMAL, NORMAL, v), 4
  ),
  ('perplexity', 'size'): (lambda v: losses.perplexity(jnp.zeros(2, 'i4'), v), 4),
  ('stratified_weights', 'batch'): (lambda v: losses.stratified_weights(v, 9), 3),
  ('stratified_weights', 'dataset_size'): (lambda v: losses.stratified_weights(3, v), 9),
  ('vimco_surrogate', 'axis'): (lambda v: losses.vimco_surrogate(NORMAL, NORMAL, v), 1),
}  # fmt: skip


def test_the_page_lists_the_arguments_that_jit_cannot_trace(unchecked):
  rows = re.findall(r'^\| ((?:`\w+`(?:, )?)+) \| ((?:`\w+`(?:, )?)+) \|$', STATIC, re.MULTILINE)
  told = {
    (name, which) for names, args in rows for name in re.findall(r'\w+', names) for which in re.findall(r'\w+', args)
  }
  numbers, functions = set(), set()
  for module in (losses, distributions):
    for name in module.__all__:
      for argument in inspect.signature(getattr(module, name)).parameters.values():
        numbers |= {(name, argument.name)} if argument.annotation in (int, float) else set()
        functions |= {(name, argument.name)} if 'Callable' in str(argument.annotation) else set()
  assert numbers == set(NUMBERS)
  for case, (function, value) in NUMBERS.items():
    jax.eval_shape(lambda function=function, value=value: function(value))
    if case in told:
      with pytest.raises((TypeError, jax.errors.ConcretizationTypeError)):
        jax.eval_shape(function, value)
    else:
      jax.eval_shape(function, value)
  assert told - numbers == functions
