"""Which published figure stands beside which run, and how older records and runs are read."""

import json

import pytest

from dgm_jax import config
from dgm_jax.errors import UserError
from dgm_jax.pages import catalogue, published, records

OMNIGLOT = ('data.name=omniglot', 'data.size=28', 'data.channels=1', 'data.invert=True')


def numbers(source, *overrides):
  found = published.find(source, published.settings(source, overrides))
  return {metric: value for metric, (value, _) in found.items()}


@pytest.mark.parametrize(
  ('source', 'overrides', 'expected'),
  [
    ('iwae_mnist.py:1x5', (), {'nll_nats': 85.54, 'active_units': 22}),
    ('iwae_mnist.py:1x5', ('system=vae.vae',), {'nll_nats': 86.47, 'active_units': 20}),
    ('iwae_mnist.py:1x5', ('budget=3', 'seed=7', 'save_every=0'), {'nll_nats': 85.54, 'active_units': 22}),
    ('iwae_mnist.py:1x5', OMNIGLOT, {}),
    ('iwae_mnist.py:1x5', ('data.preprocess=threshold',), {}),
    ('iwae_omniglot.py:1x5', (), {'nll_nats': 106.12, 'active_units': 34}),
    ('iwae_omniglot.py:1x5', ('data.name=mat:/my/data/chardata.mat',), {'nll_nats': 106.12, 'active_units': 34}),
    ('iwae_omniglot.py:1x5', ('data.name=mat:/chardata.mat/another.mat',), {}),
    ('iwae_omniglot.py:1x50', ('system=vae.vae',), {'nll_nats': 107.80, 'active_units': 28}),
    ('iwae_omniglot.py:small', (), {}),  # other images than the paper's
    ('iwae_mnist.py:1x5', ('model.hidden=((100, 100),)',), {}),
    ('iwae_mnist.py:1x5', ('batch_size=100',), {}),
    ('revnet_cifar10.py:revnet_38', (), {'error_percent': 7.24}),
    ('revnet_cifar10.py:revnet_38', ('model.network.memory=plain',), {'error_percent': 7.24}),
    ('revnet_cifar10.py:revnet_38', ('data.name=cifar100',), {}),
    ('revnet_cifar10.py:revnet_38', ('data.name=cifar100', 'model.classes=100'), {'error_percent': 28.96}),
    ('realnvp_cifar10.py', (), {'bits_per_dim': 3.49}),
    ('realnvp_cifar10.py:variational', (), {}),
    ('gated_pixelcnn.py:cifar10', (), {}),  # the paper does not say which network its figure is of
    ('pixelcnn.py:cifar10', (), {'bits_per_dim': 3.14}),
    ('pixelcnn.py:cifar10', ('conditional=True',), {}),
    ('pixelcnn_pp.py', ('data.train=train[:2400]',), {}),
    ('pixelrnn.py', (), {}),  # binarized afresh, where the published figure is of one binarization for good
    ('revnet_cifar10.py:cifar100_revnet_38', (), {'error_percent': 28.96}),
    ('nice_cifar10.py', (), {'bits_per_dim': 4.48}),
    ('irevnet_imagenet.py:bijective', (), {'error_percent': 26.7}),
    ('irevnet_imagenet.py:injective', (), {}),  # the paper does not determine its network
    ('resnet_imagenet.py', (), {'error_percent': 24.7}),
    ('disentangle.py:beta', (), {'beta_vae_metric': 0.9923}),
    ('disentangle.py:factor', (), {'factor_vae_metric': 0.82}),
    ('disentangle.py:factor', ('data.name=shapes3d',), {}),
  ],
)
def test_a_run_finds_the_figures_of_its_own_row_alone(source, overrides, expected):
  assert numbers(f'configs/{source}', *overrides) == expected


def test_a_likelihood_of_other_samples_is_not_the_rows_own():
  trained = published.settings('configs/iwae_mnist.py:1x5')
  assert published.find('x', trained, 5000)['nll_nats'][0] == 85.54
  assert published.find('x', trained, 1000) == {}
  row = published.find('x', trained)['nll_nats'][1]
  assert published.relation(row, 'x', trained, 1000) == published.NEAR
  other = published.settings('configs/iwae_mnist.py:1x5', ('batch_size=100',))
  assert published.relation(row, 'x', other, 5000) == published.NEAR  # trained otherwise
  exact = published.settings('configs/nice_mnist.py')
  assert published.find('x', exact, 5000)['nll_nats'][0] == -1980.5  # a density that is known takes no samples


def test_no_smaller_network_has_a_published_figure_of_its_own():
  rows = [row for table in published.tables() for row in table.rows]
  smaller = {source for row in rows for source in row.smaller if 'wgan_gp_25' not in source}
  assert len(smaller) > 15
  tiny = {
    f'configs/{name}.py:tiny' for name in ('iwae_mnist', 'pixelcnn_pp', 'glow_cifar10', 'disentangle', 'flow_toy')
  }
  for source in smaller | tiny:
    assert numbers(source) == {}, source


def test_a_smaller_network_belongs_to_the_row_of_its_main_config_on_the_same_data():
  row = next(r for table in published.tables() for r in table.rows if 'pixelcnn_pp.py:small' in ''.join(r.smaller))
  small = 'configs/pixelcnn_pp.py:small'
  related = lambda *overrides: published.relation(row, small, published.settings(small, overrides))
  assert related() == published.SMALLER
  assert related('data.train=train[:2400]') == related('conditional=True') == related('data.name=cifar100') == ''
  assert published.relation(row, 'configs/mine.py', published.settings(small)) == ''


def test_every_row_is_whole():
  for table in published.tables():
    for row in table.rows:
      assert row.figures and row.data and row.protocol and row.source and row.name, row
      assert not (row.config and row.nearest), row
      assert row.differs or not row.nearest, row
      if row.experiment:
        assert published.settings(row.experiment, row.overrides)


def test_every_figure_of_the_deck_has_an_experiment():
  rows = [row for table in published.tables() if table.slide for row in table.rows]
  without = {row.name for row in rows if not row.experiment and any(value != '-' for value in row.figures.values())}
  assert not without


def test_a_change_takes_the_type_of_what_is_there():
  made = catalogue.read('configs/iwae_mnist.py:1x5', ['data.name=7', 'model.samples=3', 'conditional=True', 'epochs=2'])
  assert (made.data.name, made.model.samples, made.conditional, made.epochs) == ('7', 3, True, 2.0)
  with pytest.raises(UserError, match=r"'model\.sample=3' changes a key that is not there"):
    catalogue.read('configs/iwae_mnist.py:1x5', ['model.sample=3'])
  with pytest.raises(UserError, match='run this in a clone'):
    catalogue.read('configs/none.py')


def test_a_run_from_before_published_figures_had_a_table_still_opens(tmp_path):
  page = config.to_json(catalogue.read('configs/vae_digits.py:tiny'))
  old = page | {'published': {'nll_nats': {'value': 1.0, 'source': 'a paper'}}}
  (tmp_path / 'config.json').write_text(json.dumps(old))
  loaded = config.load(tmp_path)
  assert 'published' not in loaded
  config.check(loaded)
  assert config.to_json(loaded) == page


# --- older records ---

TEXT = """
from dgm_jax.config import defaults
def get_config(variant=''):
  config = defaults()
  config.update({'system': 'vq.prior', 'conditional': True})
  config.published = {'nll_nats': {'value': 1.0, 'source': 'a paper'}}
  config.model = {'network': {'width': 3, 'memory': 'plain'}}
  return config
"""


def old(**changes):
  kept = ('seed', 'data', 'split', 'device', 'steps', 'examples_seen', 'wall_seconds', 'versions', 'evaluation_seconds')
  page = dict.fromkeys(kept, 1) | {
    'system': 'vq.prior', 'config': 'configs/x.py:y', 'overrides': ['model.network.width=4'], 'commit': 'abc',
    'metrics': {'nll_nats': 3.0, 'bits_per_code_top': 2.0, 'mse': 1.0}, 'samples': {},
    'published': {'nll_nats': {'value': 2.0, 'source': 'by hand'}},
  }  # fmt: skip
  return page | changes


def test_an_older_record_loses_its_published_figures_and_says_what_it_was():
  asked = []
  shown = lambda commit, path: (asked.append((commit, path)), TEXT)[1]
  new = records.migrated(old(), shown)
  assert asked == [('abc', 'configs/x.py')]
  records.check('it', new, records.FIELDS)
  assert new['settings']['model'] == {'network': {'width': 4}} and new['settings']['conditional'] is True
  assert (new['trained_at'], new['measured_at'], new['parameters'], new['weights']) == (None, 'abc', None, None)
  assert new['metrics'] == {'nll_codes_nats_given_label': 3.0, 'bits_per_code_top_given_label': 2.0, 'mse': 1.0}
  assert new['renamed'] == {
    'nll_codes_nats_given_label': 'nll_nats', 'bits_per_code_top_given_label': 'bits_per_code_top'
  }  # fmt: skip
  assert records.migrated(new, shown) == new and len(asked) == 1


def test_a_folder_is_migrated_once_and_other_records_are_left_alone(tmp_path, monkeypatch):
  monkeypatch.setattr(records, 'at_commit', lambda commit, path: TEXT)
  study = {'steps': 1, 'size': 32, 'weight': 'beta', 'found': {}, 'config': 'configs/x.py', 'commit': 'abc'}
  pages = {'a': old(), 'bench_a': {'commit': 'abc'}, 'study_x': {'one': study}}
  for name, page in pages.items():
    (tmp_path / f'{name}.json').write_text(json.dumps(page))
  assert [path.stem for path in records.migrate(tmp_path)] == ['a', 'study_x']
  assert records.migrate(tmp_path) == []
  read = {name: json.loads((tmp_path / f'{name}.json').read_text()) for name in pages}
  assert read['bench_a'] == pages['bench_a'] and 'published' not in read['a']
  assert read['study_x']['one']['settings']['data']['size'] == 32
  assert read['study_x']['one']['trained_at'] == read['study_x']['one']['measured_at'] == 'abc'


def test_a_commit_that_is_not_there_is_named():
  with pytest.raises(UserError, match=r'configs/x\.py at commit 0123 is not in the history'):
    records.at_commit('0123', 'configs/x.py')
