"""Autoregressive networks: what each number depends on, what the images' probabilities add up to, how they are drawn.

All networks are small, with parameters far from their start, so that nothing cancels by chance.
"""

import importlib.util
import itertools
import json
import math
import pathlib
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from parameters import at_random

from dgm_jax import config as experiment
from dgm_jax import data, systems
from dgm_jax.evals import causality, labels
from dgm_jax.models.pixelcnn import GatedPixelCNN, PixelCNN
from dgm_jax.models.pixelcnn_pp import PixelCNNpp
from dgm_jax.models.pixelrnn import PixelRNN
from dgm_jax.models.pixelsnail import PixelSNAIL
from dgm_jax.nn import attention, masked, recurrent
from dgm_jax.nn.attention import attend, attend_in_chunks
from dgm_jax.pages.topics import receptive_field
from dgm_jax.runs import workdir
from dgm_jax.runs.subject import Subject
from dgm_jax.runtime import parallel
from dgm_jax.systems.parts import pixels, raster, sensitivity
from dgm_jax.views import Views

SETTINGS = SimpleNamespace(levels=4, components=2)
NETWORKS = {
  'pixelcnn': (PixelCNN, {'hidden': 6, 'blocks': 1, 'head': 6, 'first': 3}),
  'gated': (GatedPixelCNN, {'features': 7, 'layers': 2, 'head': 12, 'first': 3}),
  'diagonal': (PixelRNN, {'hidden': 9, 'layers': 2, 'head': 24, 'first': 3}),
  'row': (PixelRNN, {'hidden': 6, 'layers': 2, 'layer': 'row_lstm', 'head': 6, 'first': 3}),
  'pp': (PixelCNNpp, {'features': 5, 'blocks': 1, 'levels': 2}),
  'snail': (PixelSNAIL, {'features': 5, 'blocks': 1, 'resnets': 1, 'keys': 3, 'values': 4, 'chunk': 7}),
}
CASES = [
  (name, channels, 'logistic_mixture' if channels == 3 and name in ('pp', 'snail') else kind)
  for name in NETWORKS
  for channels, kind in ((1, 'bernoulli'), (3, 'categorical'))
]


def make(name, channels, kind, height, width, condition=None):
  """The network, what its numbers mean, and random parameters: gains about one, kernels that keep the scale."""
  network, settings = NETWORKS[name]
  pixel = getattr(pixels, kind)(channels, SETTINGS)
  module = network(pixel.num_parameters, groups=pixel.groups, **settings)
  x = jax.random.normal(jax.random.key(3), (2, height, width, channels))
  params = jax.eval_shape(module.init, jax.random.key(0), x, condition)['params']
  return module, pixel, at_random(params)


def drawing(name, channels, kind, height, width, condition=None):
  module, pixel, params = make(name, channels, kind, height, width, condition)
  return raster.PixelModel(module, params, pixel, condition)


def dependence(name, channels, kind, height, width):
  """|d number / d input| summed over a variable's numbers, [variables, variables], a variable being a channel or,
  where channels are joint, a pixel."""
  module, pixel, params = make(name, channels, kind, height, width)
  images = jax.random.normal(jax.random.key(4), (6, height, width, channels))  # some rectifiers are off at any of them
  change = jnp.zeros(images.shape[1:])
  numbers = lambda change: module.apply({'params': params}, images + change[None])
  jacobian = np.abs(np.asarray(jax.jit(jax.jacfwd(numbers))(change))).sum(0)
  place, units = height * width, pixel.groups
  table = jacobian.reshape(place, units, -1, place, units, channels // units)
  return table.sum((2, 5)).reshape(place * units, place * units)


@pytest.mark.parametrize(('name', 'channels', 'kind'), CASES)
def test_a_number_depends_on_what_comes_before_it_and_on_nothing_else(name, channels, kind):
  table = dependence(name, channels, kind, 4, 4)
  before = np.tril(np.ones(table.shape, bool), -1)
  assert (table[~before] == 0).all()
  if name not in ('pixelcnn', 'row'):  # which have a blind spot
    assert (table[before] > 0).all()


@pytest.mark.parametrize(('name', 'channels', 'kind'), CASES)
@pytest.mark.parametrize('conditional', [False, True])
def test_drawing_with_a_memory_gives_the_pixels_of_drawing_without(name, channels, kind, conditional):
  condition = jax.random.normal(jax.random.key(5), (2, 4, 4, 3) if channels == 1 else (2, 3)) if conditional else None
  subject = drawing(name, channels, kind, 4, 4, condition)
  given = jnp.zeros((2, 4, 4, channels))
  known = jnp.zeros((2, 4, 4), bool)
  fast, slow = (
    jax.jit(lambda key, sampler=sampler: sampler(key, subject, given, known))(jax.random.key(6))
    for sampler in (raster.sample_incremental, raster.sample_naive)
  )
  np.testing.assert_array_equal(fast, slow)
  assert len(np.unique(fast)) >= 2


def test_known_pixels_stay_and_the_others_follow_from_them():
  subject = drawing('gated', 1, 'bernoulli', 4, 4)
  given = jax.random.bernoulli(jax.random.key(7), 0.5, (2, 4, 4, 1)).astype(jnp.float32)
  known = jnp.zeros((2, 4, 4), bool).at[:, :, ::2].set(True)
  draw = jax.jit(lambda key, sampler: sampler(key, subject, given, known), static_argnums=1)
  fast, slow = (draw(jax.random.key(8), sampler) for sampler in (raster.sample_incremental, raster.sample_naive))
  np.testing.assert_array_equal(fast, slow)
  np.testing.assert_array_equal(fast[:, :, ::2], given[:, :, ::2])


@pytest.mark.parametrize('name', ['pixelcnn', 'gated', 'diagonal', 'row', 'snail'])
def test_all_images_of_three_by_three_have_probability_one_and_are_drawn_as_often_as_they_should(name):
  subject = drawing(name, 1, 'bernoulli', 3, 3)
  images = jnp.asarray(list(itertools.product((0.0, 1.0), repeat=9)), jnp.float32).reshape(512, 3, 3, 1)

  @jax.jit
  def log_prob(x):
    numbers = subject.network.apply({'params': subject.params}, subject.pixel.inputs(x))
    return subject.pixel.log_prob(x, numbers).sum((1, 2))

  probability = np.exp(np.asarray(log_prob(images), np.float64))
  assert abs(probability.sum() - 1) < 1e-6
  n = 4096
  nothing = jnp.zeros((n, 3, 3, 1))
  drawn = jax.jit(lambda key: raster.sample_incremental(key, subject, nothing, jnp.zeros((n, 3, 3), bool)))(
    jax.random.key(9)
  )
  counts = np.bincount(np.asarray(drawn).reshape(n, 9).astype(int) @ 2 ** np.arange(8, -1, -1), minlength=512)
  expected = n * probability
  often = expected >= 5
  observed = np.append(counts[often], counts[~often].sum())
  predicted = np.append(expected[often], expected[~often].sum())
  chi2, freedom = ((observed - predicted) ** 2 / predicted).sum(), len(observed) - 1
  assert chi2 < freedom + 4 * np.sqrt(2 * freedom)  # four standard deviations of chi^2


@pytest.mark.parametrize(('blocks', 'count'), [(0, 24), (1, 39), (3, 78), (7, 192)])
def test_pixelcnn_sees_what_its_kernels_leave_of_406_pixels(blocks, count):
  assert receptive_field.field(PixelCNN(1, hidden=1, blocks=blocks, head=1)).sum() == count


def test_two_stacks_and_one_diagonal_layer_see_all_406_previous_pixels():
  for network in (GatedPixelCNN(1, features=1, layers=7, head=1, size=5), PixelRNN(1, hidden=1, layers=1, head=1)):
    seen = receptive_field.field(network).ravel()
    assert seen[:406].all()
    assert not seen[406:].any()


def test_a_row_layer_sees_a_cone():
  seen = receptive_field.field(PixelRNN(1, hidden=1, layers=1, layer='row_lstm', head=1))
  assert sorted(map(tuple, np.argwhere(seen).tolist())) == receptive_field.cone()


def test_skewing_is_undone_exactly_and_makes_columns_of_diagonals():
  x = jax.random.normal(jax.random.key(0), (2, 3, 5, 2))
  y = recurrent.skew(x)
  assert y.shape == (2, 3, 7, 2)
  np.testing.assert_array_equal(recurrent.unskew(y), x)
  np.testing.assert_array_equal(y[:, jnp.arange(3), 4], x[:, jnp.arange(3), 4 - jnp.arange(3)])


def test_a_row_lstm_of_kernel_one_is_an_lstm_down_each_column():
  layer = recurrent.RowLSTM((4,), 1)
  x = jax.random.normal(jax.random.key(0), (1, 5, 3, 2))
  whole, params = jax.jit(lambda x: layer.init_with_output(jax.random.key(1), x, (), None, masked.WHOLE))(x)
  apart = jax.jit(lambda x: layer.apply(params, x, (), None, masked.WHOLE))(x.transpose(2, 1, 0, 3))
  np.testing.assert_allclose(whole, apart.transpose(2, 1, 0, 3), rtol=1e-5, atol=1e-6)


def test_the_first_position_attends_to_nothing_and_the_order_of_the_others_does_not_matter(monkeypatch):
  query, key, value = (jax.random.normal(jax.random.key(i), (2, 6, n)) for i, n in enumerate((3, 3, 4)))
  out = attend(query, key, value)
  np.testing.assert_array_equal(out[:, 0], 0)
  np.testing.assert_allclose(out[:, 1], value[:, 0], rtol=1e-5)
  mixed = jnp.array([3, 1, 0, 2, 4, 5])
  np.testing.assert_allclose(attend(query, key[:, mixed], value[:, mixed])[:, 4:], out[:, 4:], rtol=1e-5, atol=1e-6)
  for few in (0, attention.FEW):
    monkeypatch.setattr(attention, 'FEW', few)
    np.testing.assert_allclose(attend_in_chunks(query, key, value, 4), out, rtol=1e-5, atol=1e-6)


def test_attention_over_64x64_is_held_within_two_gibibytes():
  shape = lambda n: jax.ShapeDtypeStruct((4, 64 * 64, n), 'float32')
  loss = lambda q, k, v: jnp.square(attend_in_chunks(q, k, v, 512)).sum()
  program = jax.jit(jax.grad(loss, argnums=(0, 1, 2))).lower(shape(16), shape(16), shape(128)).compile()
  assert program.memory_analysis().temp_size_in_bytes < 2**31 / 4


def test_a_condition_without_weights_changes_nothing():
  condition = jnp.ones((2, 3))
  module, pixel, params = make('gated', 1, 'bernoulli', 4, 4, condition)
  for layer in params.values():
    for name in [name for name in layer if name.startswith('condition')]:
      layer[name]['kernel'] = jnp.zeros_like(layer[name]['kernel'])
  x = pixel.inputs(jax.random.bernoulli(jax.random.key(2), 0.5, (2, 4, 4, 1)).astype(jnp.float32))
  apply = jax.jit(module.apply)
  np.testing.assert_array_equal(apply({'params': params}, x, condition), apply({'params': params}, x, None))


def test_a_started_weight_normalised_layer_has_the_deviation_it_was_given():
  from dgm_jax.nn.weightnorm import NormConv

  x = 3 + 2 * jax.random.normal(jax.random.key(0), (8, 6, 6, 3))
  layer = NormConv(5, masked.rectangle(1, 0, 1, 0), deviation=0.5)
  y, _ = jax.jit(layer.init_with_output)(jax.random.key(1), x)
  np.testing.assert_allclose(y.mean((0, 1, 2)), 0, atol=1e-5)
  np.testing.assert_allclose(y.std((0, 1, 2)), 0.5, rtol=1e-4)


@pytest.mark.parametrize(
  'network', [PixelCNN(1, blocks=4), PixelCNN(1, blocks=15), GatedPixelCNN(1, layers=10, size=5)]
)
def test_networks_of_any_depth_start_near_even_odds(network):
  image = jax.random.bernoulli(jax.random.key(0), 0.3, (4, 12, 12, 1)).astype(jnp.float32)
  logits = jax.jit(lambda key: network.apply(network.init(key, image), image))(jax.random.key(1))
  assert 0.01 < float(logits.std()) < 1


def test_the_kernels_hold_less_than_two_thirds_of_the_full_ones():
  assert masked.causal(7, False).count == 24
  assert masked.causal(3, True).count == 5
  assert masked.rectangle(2, 0, 2, 2).count == 15


def test_a_network_that_looks_ahead_is_found_out():
  x = jax.random.normal(jax.random.key(0), (6, 2, 3, 1))
  pixel, first = pixels.bernoulli(1, SETTINGS), jnp.arange(6)
  own = SimpleNamespace(apply=lambda variables, read, condition: read)
  found = sensitivity.gradients(jax.random.key(1), own, {}, pixel, x, first)
  assert (found['later'] > 0).all()
  flat = lambda read: jnp.pad(read.reshape(6, 6)[:, :-1], ((0, 0), (1, 0))).reshape(read.shape)
  before = SimpleNamespace(apply=lambda variables, read, condition: flat(read))
  found = sensitivity.gradients(jax.random.key(1), before, {}, pixel, x, first)
  np.testing.assert_array_equal(found['later'], 0)
  np.testing.assert_array_equal(found['earlier'] > 0, first > 0)


@pytest.fixture(scope='module')
def conditional():
  """A small system that is told the label, on the built-in digits, as it is when it starts."""
  config = gated_config().get_config('tiny')
  config.conditional = True
  split = data.load(config.data, 'test')
  config = workdir.resolve(config, split)
  experiment.check(config)
  system = systems.build(config)
  batch = {'x': jnp.zeros((4, *config.data.shape)), 'y': jnp.arange(4)}
  state = jax.jit(system.init)(jax.random.key(0), batch)
  return Subject(config, system, state, split, parallel.mesh())


def gated_config():
  path = pathlib.Path(__file__).parents[2] / 'configs' / 'gated_pixelcnn.py'
  spec = importlib.util.spec_from_file_location('gated_pixelcnn', path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def test_the_measurement_of_causality_takes_every_variable(conditional):
  found = causality.causality(0, conditional)
  assert found['gradient_by_later_pixels'] == 0
  assert found['gradient_by_earlier_pixels'] > 0


def test_classes_are_drawn_in_rows_each_given_its_label(conditional):
  views, key = conditional.system.views, jax.random.key(3)
  state = jax.tree.map(lambda p: p, conditional.state)
  state.params['model'] = jax.tree.map(lambda p: p + 0.5 * jax.random.normal(key, p.shape), state.params['model'])
  rows = jax.jit(views.classes, static_argnums=2)(key, state, 2)
  labels = jnp.repeat(jnp.arange(10), 2)
  given = jnp.zeros((20, *conditional.config.data.shape))
  told = jax.jit(views.complete)(key, state, given, jnp.zeros(given.shape[:3], bool), labels)
  np.testing.assert_array_equal(rows, told)
  others = jax.jit(views.complete)(key, state, given, jnp.zeros(given.shape[:3], bool), labels[::-1])
  assert (rows != others).any()


@pytest.mark.parametrize('apart', [0.0, 1e3])
def test_without_a_label_the_density_is_the_mixture_over_labels_by_their_shares(conditional, apart):
  def log_prob_classes(key, state, x):
    return -apart * (1 - jax.nn.one_hot(x[:, 0, 0, 0].astype(int), 10)) - 3.0

  y = np.arange(20, dtype=np.int32) % 10
  split, shares = data.Split('', 20, {'x': y[:, None, None, None], 'y': y}), np.arange(10) / 45
  config = conditional.config.copy_and_resolve_references()
  config.data.preprocess = 'identity'
  with config.unlocked():
    config.data.class_shares = tuple(map(float, shares))
  system = conditional.system._replace(views=Views(log_prob_classes=log_prob_classes))
  found = labels.labels(0, conditional._replace(config=config, system=system, split=split))
  np.testing.assert_allclose(found['nll_nats_given_label'], 3.0, rtol=1e-6)
  # The label 0 is on no training image: there the others' densities are all there is.
  gain = np.where(y > 0, -np.log(np.maximum(shares[y], 1e-9)), apart).mean() if apart else 0.0
  np.testing.assert_allclose(found['label_gain_nats'], gain, rtol=1e-5, atol=1e-5)
  np.testing.assert_allclose(found['nll_nats'], 3.0 + gain, rtol=1e-5)
  np.testing.assert_allclose(found['bits_per_dim'], found['nll_nats'] / math.log(2), rtol=1e-5)
  assert found['label_found'] == pytest.approx(0.9 if apart else 0.1)


def test_no_recorded_network_looks_ahead():
  for path in sorted((pathlib.Path(__file__).parents[2] / 'results').glob('*.json')):
    record = json.loads(path.read_text())
    if not isinstance(record.get('settings'), dict):  # of a benchmark
      continue
    system, model = record.get('system', ''), record['settings'].get('model', {})
    by_pixels = system.startswith('autoregressive.') or model.get('decoder') == 'pixels'
    if by_pixels and 'metrics' in record:
      metrics = record['metrics']
      assert metrics['gradient_by_later_pixels'] == 0, path
      assert metrics['gradient_by_earlier_pixels'] > 0, path
      # What a small network reaches only by looking ahead.
      nats, bits = (next(metrics[key] for key in metrics if key.startswith(name)) for name in ('nll_nats', 'bits_per'))
      assert bits > 2.8 if record['data'] == 'cifar10' else nats > 77.5, path


def test_a_block_of_the_published_pixelsnail_trains_on_64x64_within_two_gibibytes():
  settings = {'features': 256, 'blocks': 1, 'resnets': 4, 'keys': 16, 'values': 128}
  image = jax.ShapeDtypeStruct((4, 64, 64, 3), 'float32')
  network = PixelSNAIL(10, chunk=512, **settings)
  params = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, 64, 64, 3)))
  loss = lambda params, image: jnp.square(network.apply(params, image)).mean()
  memory = jax.jit(jax.grad(loss)).lower(params, image).compile().memory_analysis()
  assert memory.temp_size_in_bytes + memory.argument_size_in_bytes + memory.output_size_in_bytes < 2**31


def test_pixelsnail_in_chunks_is_pixelsnail():
  module, pixel, params = make('snail', 1, 'bernoulli', 4, 4)
  x = pixel.inputs(jax.random.bernoulli(jax.random.key(2), 0.5, (2, 4, 4, 1)).astype(jnp.float32))
  chunks, whole = (jax.jit(module.clone(chunk=chunk).apply)({'params': params}, x) for chunk in (2, 1024))
  np.testing.assert_allclose(chunks, whole, rtol=1e-5, atol=1e-5)
