"""Priors over codes, and the whole path: autoencoder, priors, images from the priors' checkpoint alone."""

import itertools
import json
import shutil
from statistics import NormalDist
from types import SimpleNamespace

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl import flags
from PIL import Image
from test_vq import config

from dgm_jax import config as experiment
from dgm_jax import training
from dgm_jax.commands import extract, sample
from dgm_jax.errors import UserError
from dgm_jax.evals import codes as measured
from dgm_jax.evals import generated, rejection
from dgm_jax.models.code_prior import enlarge
from dgm_jax.runs import graft, workdir
from dgm_jax.runs.subject import Subject
from dgm_jax.runtime import cluster, parallel
from dgm_jax.systems import vq
from dgm_jax.systems.parts import code_priors
from dgm_jax.views import Views

LABELS = jnp.eye(10)


@pytest.fixture(scope='module')
def two_levels():
  """Priors over one code above four, of a codebook of two, with parameters at random.

  Not with those of their start: of a map of a single position it makes deviations of one by dividing by almost nothing.
  """
  settings = config('vqvae2_mnist', 'tiny_prior')
  settings.model.vqvae.update({'codes': 2, 'strides': (2, 4)})
  made = code_priors.build_priors(settings, vq.autoencoder(settings))
  label, found = LABELS[:3], code_priors.random_codes(made, jax.random.key(0), 3)
  start = lambda key: {name: code_priors.init_prior(prior, key, found, label, name) for name, prior in made.items()}
  leaves, tree = jax.tree.flatten(jax.eval_shape(start, jax.random.key(1)))
  keys = jax.random.split(jax.random.key(2), len(leaves))
  drawn = [0.7 * jax.random.normal(key, leaf.shape) for key, leaf in zip(keys, leaves, strict=True)]
  return made, jax.tree.unflatten(tree, drawn)


def test_codes_have_a_probability_given_each_label_and_their_nats_are_named_so(two_levels):
  made, params = two_levels
  found = {'top': jnp.array([[[0]], [[1]]]), 'bottom': jnp.array([[[0, 1], [1, 0]], [[1, 1], [0, 0]]])}
  view = vq._log_prob_classes(made, 10, lambda key, state, x: found)
  told = jnp.broadcast_to(LABELS[7][None], (2, 10))

  @jax.jit
  def both(params):
    expected = sum(code_priors.log_prob(made[name], params[name], found, told, name) for name in made)
    return view(None, SimpleNamespace(params=params), jnp.zeros((2, 8, 8, 1))), expected

  each, expected = both(params)
  assert each.shape == (2, 10)
  np.testing.assert_allclose(each[:, 7], expected, rtol=1e-4)
  for conditional, given in ((True, '_given_label'), (False, '')):
    settings = config('vqvae2_mnist', 'tiny_prior')
    settings.conditional = conditional
    system = vq.prior(settings)
    batch = {'x': jax.ShapeDtypeStruct((2, 8, 8, 1), 'float32'), 'y': jax.ShapeDtypeStruct((2,), 'int32')}
    state = jax.eval_shape(system.init, jax.random.key(0), batch)
    named = jax.eval_shape(system.evaluate, jax.random.key(0), state, batch)
    assert set(named) == {f'{name}{given}' for name in ('nll_codes_nats', 'bits_per_code_top', 'bits_per_code_bottom')}
    assert (system.views.log_prob_classes is not None) == conditional
    assert workdir.best(settings) == f'nll_codes_nats{given}'


def test_all_codes_have_probability_one_and_are_drawn_as_often_as_they_should(two_levels):
  made, params = two_levels
  every = jnp.asarray(list(itertools.product((0, 1), repeat=5)))
  found = {'top': every[:, :1].reshape(32, 1, 1), 'bottom': every[:, 1:].reshape(32, 2, 2)}

  @jax.jit
  def log_prob(params, label):
    spread = jnp.broadcast_to(label[None], (32, 10))
    return [code_priors.log_prob(made[name], params[name], found, spread, name) for name in made]

  top, bottom = (np.exp(np.asarray(nats, 'f8')) for nats in log_prob(params, LABELS[4]))
  np.testing.assert_allclose(top[[0, 16]].sum(), 1, atol=1e-5)
  np.testing.assert_allclose(bottom.reshape(2, 16).sum(1), 1, atol=1e-5)
  assert np.abs(bottom[:16] - bottom[16:]).max() > 1e-2  # it is told the code above,
  others = log_prob(params, LABELS[5])
  assert all(np.abs(np.exp(a) - b).max() > 1e-3 for a, b in zip(others, (top, bottom), strict=True))  # and the label
  n, p = 20_000, top * bottom

  def draw(key, temperature):
    return code_priors.sample(made, key, params, n, jnp.broadcast_to(LABELS[4][None], (n, 10)), temperature)

  draw = jax.jit(draw)
  drawn = draw(jax.random.key(3), 1.0)
  number = np.concatenate([drawn['top'].reshape(n, 1), drawn['bottom'].reshape(n, 4)], 1) @ 2 ** np.arange(5)[::-1]
  counts = np.bincount(number, minlength=32)
  assert (np.abs(counts - n * p) < 5 * np.sqrt(n * p * (1 - p)) + 1).all()
  cold = draw(jax.random.key(3), 1e-4)  # each code the likeliest
  assert all(len(np.unique(np.asarray(each), axis=0)) == 1 for each in cold.values())


def test_a_position_above_is_repeated_over_those_it_covers():
  rows = enlarge(jnp.arange(6.0).reshape(1, 2, 3, 1), (3, 5))[0, ..., 0]
  np.testing.assert_array_equal(rows, [[0, 0, 1, 1, 2], [0, 0, 1, 1, 2], [3, 3, 4, 4, 5]])


def run(monkeypatch, module, *argv):
  """A command of the package in this process, which keeps its own cache of programs."""
  monkeypatch.setattr(cluster, 'start', lambda **_: None)
  names = set(flags.FLAGS)
  module.define_flags()
  try:
    module.main([module.__name__, *map(str, argv)])
  finally:
    for name in set(flags.FLAGS) - names:
      delattr(flags.FLAGS, name)


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
  """An autoencoder of two levels, and priors over its codes whose folder is all that is left."""
  folder = tmp_path_factory.mktemp('runs')
  first, second = folder / 'vqvae2', folder / 'prior'
  stages = config('vqvae2_mnist', 'tiny'), config('vqvae2_mnist', 'tiny_prior')
  stages[1].graft = {'vqvae': str(first)}
  frozen = None
  for settings, path in zip(stages, (first, second), strict=True):
    settings.update({'steps': 4, 'eval_every': 0, 'picture_every': 0, 'log_every': 2})
    experiment.check(settings)
    state = training.fit(settings, path)
    frozen = frozen or parallel.fetch(state.params['vqvae'])
  lines = (first / 'metrics.jsonl').read_text().splitlines()
  shutil.copytree(first, folder / 'kept')
  shutil.rmtree(first)
  return frozen, parallel.fetch(state), json.loads(lines[0]), folder / 'kept', second


def test_the_priors_leave_the_autoencoder_as_it_was(runs):
  frozen, state, *_ = runs
  chex.assert_trees_all_equal(state.params['vqvae'], frozen)
  assert set(state.opt) == {'top', 'bottom'}


def test_the_log_tells_how_much_of_the_codebooks_is_in_use(runs):
  line = runs[2]
  assert {f'model/{name}_{level}' for name in ('usage', 'perplexity') for level in ('top', 'bottom')} <= set(line)


def test_the_checkpoint_of_the_priors_draws_images_by_itself(runs, monkeypatch):
  run(monkeypatch, sample, f'--workdir={runs[4]}', '--n=6', '--class=3', '--temperature=0.8')
  draws = np.load(runs[4] / 'samples/samples.npy')
  assert (draws.shape, draws.dtype) == ((6, 8, 8, 1), np.uint8)
  with Image.open(runs[4] / 'samples/samples.png') as image:
    assert image.size[0] > 6 * 8


def test_extracted_codes_are_those_of_the_images(runs, tmp_path, monkeypatch):
  frozen, *_, first, second = runs
  run(monkeypatch, extract, f'--workdir={first}', '--split=valid', f'--out={tmp_path / "a.npz"}')
  with np.load(tmp_path / 'a.npz') as found:
    assert {name: found[name].shape for name in found} == {'top': (100, 2, 2), 'bottom': (100, 4, 4), 'y': (100,)}
    subject = workdir.open_subject(second, 'valid')
    x = jnp.asarray(subject.split.arrays['x'].astype('f4') / 255)
    network = vq.autoencoder(subject.config)
    expected = network.apply({'params': jax.tree.map(jnp.asarray, frozen)}, x, method='encode')
    np.testing.assert_array_equal(found['top'], expected[0])
    np.testing.assert_array_equal(found['bottom'], expected[1])


def test_a_graft_that_does_not_fit_is_one_line(runs, tmp_path):
  _, state, *_, second = runs
  with pytest.raises(UserError, match=r"takes 'autoencoder' from .* no such network; it has bottom, top, vqvae"):
    graft.graft(state, {'autoencoder': str(second)})
  wider = state.params['vqvae'] | {'codebook_top': np.zeros((16, 4), 'f4')}
  place = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  like = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=place), wider)
  with pytest.raises(UserError, match=r'codebook_top is float32\[8,4\] there and float32\[16,4\] here'):
    graft.graft(state.replace(params={'vqvae': like}), {'vqvae': str(second)})
  with pytest.raises(UserError, match='has no checkpoint'):
    graft.graft(state, {'vqvae': str(tmp_path)})


def test_the_best_of_several_draws_is_the_one_that_the_judge_is_surest_of(monkeypatch):
  settings = config('vqvae2_mnist', 'tiny_prior')
  see = lambda state, x: (x.reshape(len(x), -1)[:, :10] / 30.0, None)
  monkeypatch.setattr(rejection.generated, 'find', lambda judge, shape: generated.Judge('classifier', see, ()))
  view = lambda key, state, n, labels, temperature: jax.random.uniform(key, (n, 8, 8, 1)) * temperature
  subject = Subject(settings, SimpleNamespace(views=Views(draw=view)), (), None, None)
  kept = rejection.draw(5, subject, 4, 7, best_of=3)
  turns = [np.asarray(view(jax.random.fold_in(jax.random.key(5), i), (), 4, None, 1.0)) for i in range(3)]
  sure = [np.asarray(jax.nn.softmax(see((), np.round(255 * x))[0])[:, 7]) for x in turns]
  np.testing.assert_array_equal(kept, np.stack(turns)[np.argmax(sure, 0), np.arange(4)])
  np.testing.assert_array_equal(rejection.draw(5, subject, 4, None, 0.5), view(jax.random.key(5), (), 4, None, 0.5))
  with pytest.raises(UserError, match='told labels from 0 to 9'):
    rejection.draw(5, subject, 4, 10)


def test_what_each_level_is_worth_is_the_error_without_it():
  """Images whose pixels are the sum of what two levels hold; of a single level nothing is left without it."""
  views = Views(
    codes=lambda key, state, x: {'top': x * 0 + 0.5, 'bottom': x - 0.5},
    image=lambda key, state, codes: sum(codes.values()),
  )
  subject, x = SimpleNamespace(system=SimpleNamespace(views=views)), jnp.full((2, 1, 2, 1), 0.75)
  found = measured._errors(subject, ('top', 'bottom'))(None, None, {'x': x})
  assert {name: float(each[0]) for name, each in found.items()} == {
    'mse': 0, 'mse_without_top': 0.25, 'mse_without_bottom': 0.0625
  }  # fmt: skip
  assert set(measured._errors(subject, ('top',))(None, None, {'x': x})) == {'mse'}


def test_principal_components_get_their_bits_where_they_gain_most():
  # On a line, uniformly: with b bits the step is 2 / 2^b, and its error a twelfth of its square.
  t, axis = np.linspace(-1, 1, 4096)[:, None], np.array([[3.0, 0, 4, 0]])
  for bits in (1, 3):
    found = measured.pca(t * axis + 1, t * axis + 1, bits)
    np.testing.assert_allclose(found, (2 / 2**bits) ** 2 / 12 * 25 / 4, rtol=0.01)
  # Beside it one that is 64 times as wide: it gets the first six bits, and a seventh is as good for either.
  both = np.stack([64 * np.repeat(t[::64, 0], 64), np.tile(t[::64, 0], 64)], 1)
  narrow = both[:, 1].var()
  wide = np.square(both[:, 0] - measured.nearest_level(both[:, 0], measured.lloyd(both[:, 0], 32))).mean()
  np.testing.assert_allclose(measured.pca(both, both, 5), (narrow + wide) / 2, rtol=1e-3)


def test_levels_of_a_normal_are_lloyd_and_maxs():
  values = NormalDist().inv_cdf
  table = measured.lloyd(np.array([values((i + 0.5) / 20_000) for i in range(20_000)]), 4)
  np.testing.assert_allclose(table, [-1.5104, -0.4528, 0.4528, 1.5104], atol=0.02)
