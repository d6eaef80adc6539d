"""What is known of the data before the first step: what is said of it, and what is refused, the folder unchanged."""

import re

import jax
import numpy as np
import pytest
from PIL import Image

from dgm_jax import data, training
from dgm_jax.commands import evaluate
from dgm_jax.data import checks, load
from dgm_jax.errors import UserError
from dgm_jax.evals import generated, measuring
from dgm_jax.evals.mean import Subject
from dgm_jax.pages import catalogue
from dgm_jax.pictures import gallery
from dgm_jax.runs import lines, workdir

RANDOM = np.random.default_rng(0)
PIXELS = RANDOM.integers(0, 256, (60, 8, 8)).astype(np.uint8)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
  monkeypatch.setenv('DGM_JAX_CACHE', str(tmp_path / 'cache'))


def config_of(name, source='configs/vae_digits.py:tiny', **changes):
  config = catalogue.read(source, [f'{key}={value}' for key, value in changes.items()])
  config.data.name, config.data.valid_size = name, 0
  config.log.tensorboard = False
  return config


def npz(tmp_path, **arrays):
  path = tmp_path / 'data.npz'
  np.savez(path, **arrays)
  return f'npz:{path}'


def refused(tmp_path, config, said):
  """The run is refused by this line, and its folder is not there."""
  with pytest.raises(UserError, match=said) as caught:
    training.fit(config, tmp_path / 'run')
  assert str(caught.value).isprintable()
  assert not [path for path in (tmp_path / 'run').rglob('*') if path.name != 'lock.json']


def figures(folder):
  return [line for line in lines.read(folder / 'metrics.jsonl') if line['split'] == 'test'][-1]


# What is refused.


PARTS = {'x_train': PIXELS, 'x_valid': PIXELS[:9], 'x_test': PIXELS[:9]}
LABELS = {'y_train': np.arange(60) % 3, 'y_valid': np.arange(9) % 3, 'y_test': np.arange(9) % 3}
IDENTITY = {'data.preprocess': 'identity'}


@pytest.mark.parametrize(
  ('arrays', 'said'),
  [
    ({'x_test': PIXELS[:9, :7]}, r'examples of .*:test have the shape 7x8x1, those of .*:train 8x8x1: store all parts'),
    ({'x_valid': PIXELS[:9, :, :7]}, r'examples of .*:valid have the shape 8x7x1'),
    ({'x_test': np.zeros((9, 8, 8), np.float32)}, ':train holds uint8 and .*:test float32: store all parts alike'),
    ({'x_train': PIXELS % 2}, 'holds pixels of 0 and 1, which dynamic_binarize takes for black: store 255'),
  ],
)
def test_parts_that_do_not_fit_are_refused_before_the_first_step(tmp_path, arrays, said):
  config = config_of(npz(tmp_path, **PARTS | arrays))
  if said.startswith(':train holds'):
    config.data.preprocess = 'identity'
  refused(tmp_path, config, said)


@pytest.mark.parametrize(
  ('arrays', 'said'),
  [
    ({'y_test': None}, ':test has no labels, which this system needs'),
    ({'y_train': None}, ':train has no labels'),
    ({'y_test': np.arange(9)}, ':test has the label 8, but config.model.classes=3: raise the latter'),
    ({'y_valid': np.array([3] * 9)}, ':valid has the label 3'),
    ({'y_train': np.arange(60) - 1}, 'y_train of .* goes from -1 to 58: labels must be classes, counted from 0'),
    ({'y_train': np.arange(60) + 2**32}, 'y_train of .* goes from 4294967296'),
    ({'y_train': np.arange(60) % 2}, ':valid has examples of class 2, of which there are none to train on'),
  ],
)
@pytest.mark.parametrize('source', ['configs/classifier_mnist.py:tiny', 'configs/pixelcnn.py:tiny'])
def test_labels_that_a_system_cannot_use_are_refused_before_the_first_step(tmp_path, source, arrays, said):
  there = {name: array for name, array in (PARTS | LABELS | arrays).items() if array is not None}
  config = config_of(npz(tmp_path, **there), source)
  if 'classifier' in source:
    config.model.network.classes = 3
  else:
    config.conditional, config.model.classes = True, 3
  refused(tmp_path, config, said)


def test_labels_that_a_system_does_not_use_may_be_missing(tmp_path):
  config = config_of(npz(tmp_path, **PARTS, y_train=LABELS['y_train']))
  training.fit(config, tmp_path / 'run')


@pytest.mark.parametrize(
  ('array', 'changes', 'said'),
  [
    (PIXELS.astype(float), {}, r'values from 0 to 255, but this model is for values in \[0, 1\]: store x.astype'),
    (PIXELS, {}, r'values from 0 to 255, but this model is for values in \[0, 1\]'),
    (PIXELS / 127.5 - 1, {}, r'values from -1 to 1, .* in \[0, 1\]: store \(x \+ 1\) / 2'),
    (RANDOM.normal(size=(60, 8, 8)), {}, r'for values in \[0, 1\]: store values in this range'),
    (PIXELS / 100, {'model.likelihood': 'discretized_logistic'}, r'in \[-1, 1\]: store x.astype.*x / 127.5 - 1'),
  ],
)
def test_values_that_the_likelihood_cannot_mean_are_refused(tmp_path, array, changes, said):
  np.save(tmp_path / 'x.npy', array)
  refused(tmp_path, config_of(f'npy:{tmp_path}/x.npy', **IDENTITY | changes), said)


@pytest.mark.parametrize('source', ['configs/gan_mnist.py:tiny', 'configs/dcgan_mnist.py:tiny'])
def test_values_that_a_generator_cannot_reach_are_refused(tmp_path, source):
  np.save(tmp_path / 'x.npy', PIXELS.astype(float))
  refused(tmp_path, config_of(f'npy:{tmp_path}/x.npy', source, **IDENTITY), r'model is for values in \[')


@pytest.mark.parametrize(
  ('array', 'said'),
  [
    (PIXELS[:, None], r'shape \(60, 1, 8, 8\).*channels come first here: save x.transpose\(0, 2, 3, 1\)'),
    (PIXELS[:, None] / 255, r'channels come first here'),
    (PIXELS.transpose(1, 2, 0)[:, :, None] / 255, r'examples seem to be on the last axis: save x.transpose\(3, 0'),
    (PIXELS.astype(np.int64), r'holds int64: images must be uint8 .*save x.astype\(np.uint8\)'),
    (PIXELS > 127, r'holds bool: .*save 255 \* x.astype\(np.uint8\)'),
    (PIXELS[..., None, None] / 255, r'floats must be \[N, ...\], points \[N, D\] or images'),
    (PIXELS.reshape(60, 64) / 255, r'vae.vae takes images; config.data has points of \(64,\)'),
    (PIXELS + 1j, 'holds complex128'),
    (np.full((60, 8, 8), np.inf), 'not finite'),
  ],
)
def test_arrays_that_are_no_images_are_refused(tmp_path, array, said):
  np.save(tmp_path / 'x.npy', array)
  refused(tmp_path, config_of(f'npy:{tmp_path}/x.npy', **IDENTITY), said)


# What is trained on, and what is said of it.


@pytest.mark.parametrize(
  ('array', 'likelihood'),
  [
    (PIXELS / 255, 'bernoulli'),
    (PIXELS / 127.5 - 1, 'discretized_logistic'),
    (PIXELS.astype(float), 'gaussian'),
    (RANDOM.normal(size=(60, 8, 8)), 'gaussian'),
  ],
)
def test_floats_in_four_ranges_have_the_figures_that_they_should(tmp_path, capsys, array, likelihood):
  np.save(tmp_path / 'x.npy', array)
  config = config_of(f'npy:{tmp_path}/x.npy', **IDENTITY | {'model.likelihood': likelihood, 'steps': 0, 'epochs': 1.0})
  training.fit(config, tmp_path / 'run')
  low, high = np.float32(array).min(), np.float32(array).max()
  assert capsys.readouterr().out.splitlines()[:4] == [
    f'data: npy:{tmp_path}/x.npy: images 8x8x1, float32 values from {low:g} to {high:g}',
    'data: train: 48 images, no labels',
    'data: valid: 6 images, no labels',
    'data: test: 6 images, no labels',
  ]
  subject = workdir.open_subject(tmp_path / 'run', 'test')
  x = load(config.data, 'test').arrays['x']
  assert {tuple(row) for row in x.reshape(6, 64)} <= {tuple(row) for row in np.float32(array).reshape(60, 64)}
  assert subject.split.shape == (8, 8, 1)


def test_floats_in_the_unit_interval_have_the_figures_of_the_pixels_they_are(tmp_path):
  ends = []
  for name, array, preprocess in (('pixels', PIXELS, 'scale'), ('floats', PIXELS.astype('f4') / 255, 'identity')):
    np.save(tmp_path / f'{name}.npy', array)
    training.fit(config_of(f'npy:{tmp_path}/{name}.npy', **{'data.preprocess': preprocess}), tmp_path / name)
    ends.append(figures(tmp_path / name)['neg_elbo_nats'])
  assert ends[0] == pytest.approx(ends[1], rel=1e-5)


def test_a_folder_of_many_kinds_is_told_before_training(tmp_path, capsys):
  root = tmp_path / 'pictures'
  for part, sizes in {'Train': (20, 10), 'Test': (4, 3), 'val': (2, 2)}.items():
    for name, size in zip(('cat', 'dog'), sizes, strict=True):
      (root / part / name).mkdir(parents=True)
      for i in range(size):
        pixels = PIXELS[(len(part) * 7 + len(name) + 3 * i + size) % 60]
        Image.fromarray(pixels).save(root / part / name / f'{i}{(".png", ".bmp")[i % 2]}')
  Image.fromarray(PIXELS[0]).save(root / 'Train' / 'stray.png')
  (root / 'Train' / 'cat' / 'notes.txt').write_text('none')
  (root / 'Train' / 'dog' / '.ipynb_checkpoints').mkdir()
  training.fit(config_of(f'folder:{root}'), tmp_path / 'run')
  said = capsys.readouterr().out.splitlines()
  assert re.fullmatch(f'data: folder:{root}: images 8x8x1, uint8 values from 0 to 255', said[0])
  assert said[1:4] == [
    'data: train: 30 images, class 0 (cat): 20, class 1 (dog): 10',
    'data: valid: 4 images, class 0 (cat): 2, class 1 (dog): 2',
    'data: test: 7 images, class 0 (cat): 4, class 1 (dog): 3',
  ]
  assert [line for line in said if line.startswith('data: left out')] == [
    'data: left out, hidden: 1 (Train/dog/.ipynb_checkpoints)',
    'data: left out, of other kinds than PNG, JPEG, BMP, WebP, GIF: 1 (Train/cat/notes.txt)',
    'data: left out, beside the class folders: 1 (Train/stray.png)',
  ]


def test_test_examples_that_are_trained_on_are_counted(tmp_path):
  config = config_of(npz(tmp_path, **PARTS | {'x_test': np.concatenate([PIXELS[:5], 255 - PIXELS[5:9]])}))
  splits = {name: load(config.data, name) for name in ('train', 'test')}
  assert 'data: 5 of the test examples are training examples, too' in checks.describe(splits, config.data)


def test_a_rare_class_that_is_not_trained_on_is_told():
  y = np.zeros(20, np.int32)
  test = y.copy()
  test[3] = 1
  pair = {'train': data.Split('npz:x:train', 20, {'x': PIXELS[:20, ..., None], 'y': y}, classes=('cat', 'dog'))}
  pair['test'] = data.Split('npz:x:test', 20, {'x': PIXELS[20:40, ..., None], 'y': test}, classes=('cat', 'dog'))
  checks.check_labels(pair, 2)
  said = checks.describe(pair, config_of('npz:x').data)
  assert 'data: test has class 1 (dog), of which there are no examples to train on' in said


def test_dark_pictures_and_many_classes_are_told(tmp_path):
  config = config_of(npz(tmp_path, x=PIXELS // 16, y=np.arange(60) % 30))
  said = checks.describe({'train': load(config.data, 'train')}, config.data)
  assert said[1].startswith('data: train: 48 images of 30 classes, ')
  assert said[2] == 'data: no pixel is brighter than 15 of 255: is this meant to be dark?'


def test_of_sets_that_are_known_nothing_is_told():
  config = config_of('digits')
  splits = {name: load(config.data, name) for name in ('train', 'test')}
  assert checks.describe(splits, config.data) == [] and checks.digests(splits) == {}


# The same data at resume.


def test_data_that_has_changed_is_not_taken_for_the_old(tmp_path):
  root = tmp_path / 'pictures'
  root.mkdir()
  for i in range(30):
    Image.fromarray(PIXELS[i]).save(root / f'{i:02}.png')
  config = config_of(f'folder:{root}')
  training.fit(config, tmp_path / 'run')
  before = {path: path.read_bytes() for path in (tmp_path / 'run').iterdir() if path.is_file()}
  Image.fromarray(255 - PIXELS[7]).save(root / '07.png')
  with pytest.raises(UserError, match=r'holds a run of another config \(data.digest'):
    training.fit(config, tmp_path / 'run')
  assert all(path.read_bytes() == content for path, content in before.items() if path.name != 'lock.json')
  Image.fromarray(PIXELS[7]).save(root / '07.png')  # of another time, with what was there before
  training.fit(config, tmp_path / 'run')


def test_a_run_from_before_checksums_is_taken_up():
  page = {'data': {'name': 'folder:x'}}
  new = {'data': {'name': 'folder:x', 'digest': {'train': '01', 'test': '02'}}}
  assert workdir.differences(page, new) == [] == workdir.differences(new, page)
  partly = {'data': {'name': 'folder:x', 'digest': {'train': '01', 'test': '02', 'valid': '03'}}}
  assert workdir.differences(partly, new) == []
  other = {'data': {'name': 'folder:x', 'digest': {'train': '01', 'test': '04'}}}
  assert workdir.differences(other, new) == ['data.digest.test: "04" -> "02"']


def test_a_run_is_not_evaluated_on_examples_of_another_shape(tmp_path):
  config = config_of(npz(tmp_path, **PARTS))
  training.fit(config, tmp_path / 'run')
  npz(tmp_path, **PARTS | {'x_test': PIXELS[:9, :7]})
  with pytest.raises(
    UserError, match=r'examples of .*:test have the shape 7x8x1, those that .*run was trained on 8x8x1'
  ):
    workdir.open_subject(tmp_path / 'run', 'test')


# Small parts.


def test_a_part_of_one_image_can_be_measured_and_drawn(tmp_path, capsys):
  config = config_of(npz(tmp_path, **PARTS | {'x_valid': PIXELS[:1], 'x_test': PIXELS[:1]}))
  training.fit(config, tmp_path / 'run')
  assert 'no picture' not in capsys.readouterr().out
  subject = workdir.open_subject(tmp_path / 'run', 'test')
  found = measuring.measure(subject, tuple(config.evals))
  assert all(np.isfinite(value).all() for value in found.values())


def test_samples_are_not_judged_by_too_few_images():
  with pytest.raises(UserError, match='9 images are too few to judge samples by: 11 are needed'):
    generated._refuse_few(10, samples=1000, images=9)
  generated._refuse_few(10, samples=11, images=11)


def test_what_is_compared_with_labels_or_pixels_says_so_where_there_are_none():
  split = data.Split('mine:test', 20, {'x': PIXELS[:20, ..., None] / 255})
  with pytest.raises(UserError, match='mine:test holds float64, but samples are compared with uint8 images'):
    generated.first(split, 5)
  with pytest.raises(UserError, match='mine:test has no labels, which clusters are compared with'):
    generated.clusters(0, Subject(None, None, None, split, None))


def test_points_of_many_dimensions_are_drawn_by_their_first_two(tmp_path, capsys):
  np.save(tmp_path / 'x.npy', RANDOM.normal(size=(60, 5)))
  config = config_of(
    f'npy:{tmp_path}/x.npy', 'configs/gan_points.py:tiny', **IDENTITY | {'model.generator.output': 'linear'}
  )
  training.fit(config, tmp_path / 'run')
  assert 'no picture' not in capsys.readouterr().out
  subject = workdir.open_subject(tmp_path / 'run', '')
  picture = gallery.samples_like(jax.random.key(0), subject.system, subject.state, np.ones((9, 5), 'f4'), None)
  assert picture.shape == (256, 256, 3)


# A record's name.


@pytest.mark.parametrize('name', ['../x', 'a/b', '..', '.x', 'a\nb', '/x'])
def test_a_record_has_a_name_and_no_path(name):
  with pytest.raises(UserError, match='--name must be letters, digits'):
    evaluate.require_name('--name', name)
  evaluate.require_name('--name', 'vae_mnist-2+x.1')
