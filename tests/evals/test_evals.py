"""Figures of a whole split: exact whatever the batch size and the number of devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dgm_jax import config as experiment
from dgm_jax import data, systems
from dgm_jax.commands import evaluate
from dgm_jax.core import State, System
from dgm_jax.data import preprocess
from dgm_jax.errors import UserError
from dgm_jax.evals import latent, likelihood, mean
from dgm_jax.runs.subject import Subject
from dgm_jax.runtime import parallel
from dgm_jax.views import Views

SIZE = 23
PIXELS = np.random.default_rng(0).integers(0, 256, (SIZE, 4, 3, 1), np.uint8)
SPLIT = data.Split('pixels:test', SIZE, {'x': PIXELS, 'y': np.arange(SIZE, dtype=np.int32)})


def experiment_with(name='scale', **changes):
  config = experiment.defaults()
  config.update({'system': 'vae.vae', 'steps': 1, **changes})
  config.data.update({'preprocess': name, 'shape': (4, 3, 1)})
  return config


def state_of(devices=1, **params):
  state = State(jnp.zeros((), jnp.int32), params, {}, {})
  return jax.device_put(state, parallel.replicated(parallel.mesh(devices)))


def brightness(key, state, batch):
  """Two figures of an example, one of them a vector; the factor is the model's."""
  del key
  x = batch['x'] * state.params['factor']
  return {'sum': x.sum((1, 2, 3)), 'rows': x.sum((2, 3)), 'place': batch['index']}


@pytest.mark.parametrize('devices', [1, 8])
@pytest.mark.parametrize('batch_size', [1, 8, 10, SIZE, 100])
def test_every_example_is_measured_once_in_order(batch_size, devices):
  run = mean.per_example(brightness, SPLIT, experiment_with(), parallel.mesh(devices), batch_size)
  measured = run(3, state_of(devices, factor=jnp.float32(2)))
  np.testing.assert_array_equal(measured['place'], np.arange(SIZE))
  np.testing.assert_allclose(measured['sum'], PIXELS.sum((1, 2, 3)) * 2 / 255, rtol=1e-6)
  np.testing.assert_allclose(measured['rows'], PIXELS.sum((2, 3)) * 2 / 255, rtol=1e-6)


def test_the_mean_of_a_ragged_split_is_the_plain_mean():
  system = System(None, None, lambda key, state, batch: {'sum': batch['x'].sum((1, 2, 3))}, None)
  for batch_size, devices in ((10, 1), (10, 8), (23, 1)):
    config = experiment_with(eval_batch_size=batch_size)
    subject = Subject(config, system, state_of(devices), SPLIT, parallel.mesh(devices))
    assert mean.metrics(0, subject) == pytest.approx({'sum': PIXELS.sum() / SIZE / 255}, rel=1e-6)


def test_means_are_taken_in_double_precision():
  # In float32 the ones are lost beside 2^24.
  values = np.array([2.0**24] + [1.0] * 15, np.float32)
  assert mean.means({'a': values}) == {'a': (2**24 + 15) / 16}


def test_noise_of_an_evaluation_follows_the_seed_and_differs_between_batches():
  def noise(key, state, batch):
    return {'noise': jax.random.uniform(key, batch['x'].shape[:1])}

  run = mean.per_example(noise, SPLIT, experiment_with(), parallel.mesh(1), 8)
  once, again, other = (run(seed, state_of())['noise'] for seed in (0, 0, 1))
  np.testing.assert_array_equal(once, again)
  assert len(np.unique(np.concatenate([once, other]))) == 2 * SIZE


@pytest.mark.parametrize('name', ['dynamic_binarize', 'dequantize'])
def test_an_image_is_binarized_and_dequantized_once_for_good(name):
  def see(key, state, batch):
    return {'x': batch['x']}

  config = experiment_with(name)
  first = mean.per_example(see, SPLIT, config, parallel.mesh(1), 8)(0, state_of())['x']
  second = mean.per_example(see, SPLIT, config, parallel.mesh(8), 10)(1, state_of(8))['x']
  np.testing.assert_array_equal(first, second)
  fixed = getattr(preprocess, f'static_{name.removeprefix("dynamic_")}')
  batch = SPLIT.fetch(jax.tree.map(jnp.asarray, SPLIT.arrays), jnp.arange(SIZE))
  np.testing.assert_array_equal(first, fixed(jax.random.key(9), batch)['x'])
  np.testing.assert_array_equal(mean.images(SPLIT, config, 5), first[:5])
  assert mean.images(SPLIT, config, 100).shape == (SIZE, 4, 3, 1)


# Models whose latents are known functions of the image.


def subject_with(layers=None, log_prob=None, devices=1, **changes):
  bits = lambda key, state, nats: nats / (12 * np.log(2)) + 8
  views = Views(layers=layers, log_prob=log_prob, bits=bits)
  mesh = parallel.mesh(devices)
  return Subject(experiment_with(**changes), System(None, None, None, None, views), state_of(devices), SPLIT, mesh)


def test_active_units_are_those_whose_mean_varies_with_the_image():
  # Means: a constant, two that vary with a variance of 0.0099 and 0.0101 over the split, and a label.
  y = np.arange(SIZE)
  unit = (y - y.mean()) / y.std()

  def layers(key, state, x):
    del key, state
    label = jnp.asarray(unit, jnp.float32)[_places(x)]
    means = jnp.stack([jnp.full_like(label, 7), jnp.sqrt(0.0099) * label, jnp.sqrt(0.0101) * label, label], 1)
    kl = jnp.stack([jnp.zeros_like(label), label**2, 3 + label, jnp.ones_like(label)], 1)
    return [(means, kl)]

  for devices in (1, 8):
    figures = latent.units(0, subject_with(layers, devices=devices, eval_batch_size=10))
    assert set(figures) == {'active_units', 'kl_per_dimension_nats'}
    assert figures['active_units'] == 2
    np.testing.assert_allclose(figures['kl_per_dimension_nats'], [3, 1, 1, 0], atol=1e-5)  # the largest first


def test_layers_are_counted_from_the_data_upwards():
  def layers(key, state, x):
    del key, state
    place = jnp.asarray(_places(x), jnp.float32)[:, None]
    return [(place * jnp.ones((1, 3)), place * 0 + jnp.ones((1, 3))), (place * 0, place * 0 + 2)]

  assert latent.units(0, subject_with(layers, eval_batch_size=10)) == {
    'active_units_layer_1': 3,
    'kl_per_dimension_nats_layer_1': [1, 1, 1],
    'active_units_layer_2': 0,
    'kl_per_dimension_nats_layer_2': [2],
  }


def _places(x):
  """Which images of the split these are."""
  table = jnp.asarray(PIXELS, jnp.float32) / 255
  return jnp.abs(x[:, None] - table[None]).sum((2, 3, 4)).argmin(1)


def test_likelihood_is_the_mean_with_its_standard_error_and_in_bits():
  asked = []

  def log_prob(key, state, x, labels=None):
    asked.append(x.shape[0])
    return -x.sum((1, 2, 3))

  nats = PIXELS.sum((1, 2, 3)) / 255
  for devices in (1, 8):
    subject = subject_with(log_prob=log_prob, devices=devices, nll={'samples': 7, 'rows': 90})
    figures = likelihood.nll(0, subject)
    assert figures == pytest.approx(
      {
        'nll_nats': nats.mean(),
        'nll_standard_error_nats': nats.std() / np.sqrt(SIZE),
        'nll_bits_per_dim': nats.mean() / (12 * np.log(2)) + 8,
      },
      rel=1e-5,
    )
  # Nine images at a time, so that ten samples of each are 90 rows; on eight devices, sixteen
  assert asked == [9, 16]


def test_likelihood_of_evenly_strided_examples():
  log_prob = lambda key, state, x, labels=None: -x.sum((1, 2, 3))
  nats = PIXELS.sum((1, 2, 3)) / 255
  for devices, examples in ((1, 5), (8, 5), (1, SIZE), (1, 0)):
    subject = subject_with(log_prob=log_prob, devices=devices, nll={'samples': 7, 'rows': 90, 'examples': examples})
    rows = [i * SIZE // examples for i in range(examples)] if examples else np.arange(SIZE)
    figures = likelihood.nll(0, subject)
    assert figures['nll_nats'] == pytest.approx(nats[rows].mean(), rel=1e-5)
    assert figures['nll_standard_error_nats'] == pytest.approx(nats[rows].std() / np.sqrt(len(rows)), rel=1e-4)
    expected = {'nll_nats': 7} | ({'nll_examples': examples} if examples else {})
    assert evaluate._samples(subject.config, figures) == expected
  with pytest.raises(UserError, match=f'config.nll.examples={SIZE + 1} is more than the {SIZE} of .*: take fewer'):
    likelihood.nll(0, subject_with(log_prob=log_prob, nll={'examples': SIZE + 1}))


def test_a_real_model_has_one_likelihood_on_one_device_and_on_eight():
  config = experiment_with('dynamic_binarize', eval_batch_size=8, nll={'samples': 6, 'rows': 80})
  config.model = {
    'hidden': ((5,),), 'latents': (2,), 'channels': (), 'activation': 'tanh', 'likelihood': 'bernoulli', 'samples': 2,
  }  # fmt: skip
  config.optimizer = {'model': experiment.optimizer()}
  system, random = systems.build(config), np.random.default_rng(1)
  shapes = jax.eval_shape(system.init, jax.random.key(0), {'x': jnp.zeros((1, 4, 3, 1))}).params
  params = jax.tree.map(lambda leaf: jnp.float32(random.normal(size=leaf.shape)), shapes)

  def figures(devices):
    subject = Subject(config, system, state_of(devices, **params), SPLIT, parallel.mesh(devices))
    return likelihood.nll(0, subject) | mean.metrics(0, subject) | latent.units(0, subject)

  one, eight = figures(1), figures(8)
  assert set(one) == {
    'nll_nats', 'nll_standard_error_nats', 'nll_bits_per_dim', 'neg_elbo_nats', 'neg_bound_nats',
    'reconstruction_nats', 'kl_nats', 'active_units', 'kl_per_dimension_nats',
  }  # fmt: skip
  for name, value in one.items():
    np.testing.assert_allclose(eight[name], value, rtol=1e-5, err_msg=name)
  assert one['nll_nats'] < one['neg_bound_nats'] < one['neg_elbo_nats']
  assert one['nll_bits_per_dim'] == pytest.approx(one['nll_nats'] / (12 * np.log(2)), rel=1e-5)
  assert sum(one['kl_per_dimension_nats']) == pytest.approx(one['kl_nats'], rel=1e-5)
