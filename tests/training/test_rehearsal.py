"""What does not fit together is one line before the folder is touched."""

import importlib.util
import pathlib

import jax
import pytest

from dgm_jax import config as experiment
from dgm_jax import training
from dgm_jax.errors import UserError

CONFIGS = pathlib.Path(__file__).parents[2] / 'configs'


def config_of(name, **changes):
  """'glow_cifar10:tiny' with changed keys, as the command line would change them."""
  stem, _, variant = name.partition(':')
  spec = importlib.util.spec_from_file_location(stem, CONFIGS / f'{stem}.py')
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  config = module.get_config(variant)
  with config.unlocked():
    for key, value in changes.items():
      config.update_from_flattened_dict({key.replace('__', '.'): value})
    config.overrides = tuple(f'{key.replace("__", ".")}={value}' for key, value in changes.items())
  return config


def refusal(folder, name, **changes):
  with pytest.raises(UserError) as caught:
    training.build_run(config_of(name, **changes), folder / 'run', devices=1)
  assert not (folder / 'run').exists() and '\n' not in str(caught.value)
  return str(caught.value)


@pytest.mark.parametrize(
  ('name', 'size', 'fitting'),
  [
    ('glow_cifar10:tiny', 7, 8), ('glow_cifar10:tiny', 10, 12), ('realnvp_cifar10:tiny', 9, 10),
    ('irevnet_cifar10:tiny', 9, 8),
  ],
)  # fmt: skip
def test_a_size_that_a_flow_cannot_halve_is_answered_by_one_that_fits(name, size, fitting, tmp_path, unchecked):
  assert f'try --config.data.size={fitting}' in refusal(tmp_path, name, data__size=size)
  training.build_run(config_of(name, data__size=fitting), tmp_path, devices=1)


@pytest.mark.parametrize(
  ('changes', 'said'),
  [
    ({'best': 'nll'}, "config.best is 'nll', which vae.vae does not measure; it measures kl_nats, neg_bound_nats"),
    ({'best': 'neg_elbo_nat'}, "did you mean 'neg_elbo_nats'?"),
    ({'evals': ('mean.images',)}, "dgm_jax.evals.mean has no 'images'"),
    ({'model__hidden': ((0,),)}, 'of vae.vae cannot be built (ZeroDivisionError'),
    ({'model__channels': ('a',)}, "change --config.model.channels=('a',)"),
    ({'steps': 0, 'epochs': 0.5, 'optimizer__model__warmup_steps': 80}, 'warmup_steps=80 is longer than the run of 41'),
  ],
)
def test_settings_that_cannot_be_built_are_named(changes, said, tmp_path, unchecked):
  assert said in refusal(tmp_path, 'vae_digits:tiny', **changes)


def test_a_batch_that_the_moves_of_a_step_do_not_divide_is_named(tmp_path):
  assert 'try --config.batch_size=16' in refusal(tmp_path, 'wgan_gp_25gaussians:tiny', batch_size=17)
  assert 'must be a multiple of' in refusal(tmp_path, 'cifar_gan:tiny', batch_size=17)


def test_a_warm_up_longer_than_the_run_is_refused_at_once():
  config = config_of('vae_digits:tiny', optimizer__model__warmup_steps=13)
  with pytest.raises(UserError, match=r'config\.optimizer\.model\.warmup_steps=13 is longer than the run of 12 steps'):
    experiment.check(config)
  config.optimizer.model.warmup_steps = 12
  experiment.check(config)


def test_both_drivers_are_rehearsed(tmp_path):
  for driver in ('jit', 'pmap'):
    training.build_run(config_of('vae_digits:tiny', parallel=driver), tmp_path, devices=min(2, jax.device_count()))
  assert "config.parallel='pmap' averages gradients" in refusal(tmp_path, 'baselines:tiny_gaussian', parallel='pmap')
