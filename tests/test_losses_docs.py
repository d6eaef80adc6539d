"""docs/losses.md: a row for every function, and examples that do what they say."""

import inspect
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dgm_jax import distributions, losses

PAGE = (pathlib.Path(__file__).parents[1] / 'docs/losses.md').read_text()
VAE, WGAN_GP, SCORE_FUNCTION = re.findall(r'```python\n(import .*?)```', PAGE, re.DOTALL)


def run(example):
  names = {}
  exec(compile(example, 'docs/losses.md', 'exec'), names)
  return names


def test_every_function_has_a_row():
  rows = re.findall(r'^\| `(\w+)` \|', PAGE, re.MULTILINE)
  both = [(module, name) for module in (losses, distributions) for name in module.__all__]
  assert sorted(rows) == sorted(name for module, name in both if not inspect.isclass(getattr(module, name)))


def test_a_row_cites_the_papers_of_the_docstring():
  papers = dict(re.findall(r'^\| `(\w+)` \|.*\| ([^|]+) \|$', PAGE, re.MULTILINE))
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
