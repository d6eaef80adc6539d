"""A study in small: its figures, its curves, its page, and when a factor counts as told."""

import json
import types

import numpy as np
import pytest

from dgm_jax.commands import study
from dgm_jax.data import preprocess
from dgm_jax.errors import UserError
from dgm_jax.evals import disentanglement
from dgm_jax.pages import disentanglement_study, records, svg
from dgm_jax.pictures import gallery
from dgm_jax.runs import workdir
from dgm_jax.views import Views


@pytest.fixture(scope='module')
def small():
  config = disentanglement_study.settings('disentanglement', 'tiny_capacity', steps=8, size=16)
  config.data.update({'name': 'sprites', 'valid_size': 0})
  few = disentanglement.Protocol(train=120, test=100, group=4)
  return disentanglement_study.trained(config, 'gamma', (50.0,), (0, 3), few)


def test_every_member_is_measured_and_followed(small):
  page, drawn = small
  assert [(m['gamma'], m['seed']) for m in page['members']] == [(50, 0), (50, 3)]
  assert page['factors'] == ['shape', 'scale', 'orientation', 'x', 'y']
  kl, told, shown = (np.array(page['curves'][name]) for name in ('kl', 'told', 'drawn'))
  assert (kl.shape, told.shape, shown.shape) == ((5, 2, 3), (5, 2, 5), (5, 2, 5))
  assert page['curves']['step'] == [0, 2, 4, 6, 8]
  # 8 steps of 12: the rise of the capacity is shortened with the run.
  np.testing.assert_allclose(page['capacity'], 2.0 * np.minimum(1, np.array([0, 2, 4, 6, 8]) / 67))
  assert ((told >= 0) & (told <= 1)).all() and ((shown >= 0) & (shown <= 1)).all()
  for number, member in enumerate(page['members']):
    # The same latents of other images.
    assert member['kl_nats'] == pytest.approx(kl[-1, number].sum(), rel=0.1)
    assert member['open_latents'] == (kl[-1, number] > 0.1).sum()
    assert 0 <= member['factor_vae_metric'] <= 1
  assert drawn.keys() == {'gamma_50', 'gamma_50_in_time'}
  assert drawn['gamma_50'].shape == (5 * 17 + 1, 9 * 17 + 1, 3)
  rows, columns = 3 * 5, 1 + 5  # three values of every factor; itself and its drawings at five times
  assert drawn['gamma_50_in_time'].shape == gallery.grid(np.zeros((rows * columns, 16, 16, 1), np.uint8), columns).shape


def test_a_strip_has_each_image_and_what_was_drawn_of_it_first_to_last():
  pixels = lambda x: preprocess.to_uint8('scale', x)
  at = lambda value: np.full((2, 56, 56, 1), value, np.float32) + np.array([0.0, 0.5])[:, None, None, None]
  image = disentanglement_study.strip(at(0.1), [at(0.2), at(0.9), at(0.3), at(0.9), at(0.4)], pixels, columns=3)
  got = image[28::57, 28::57, 0]
  np.testing.assert_allclose(got, 255 * np.array([[0.1, 0.2, 0.3, 0.4], [0.6, 0.7, 0.8, 0.9]]), atol=1)


def test_a_summary_is_mean_and_spread_over_the_seeds_of_a_weight(small):
  page = small[0]
  found = disentanglement_study.summary(page)['found']
  assert list(found) == ['gamma 50']
  each = [member['reconstruction_nats'] for member in page['members']]
  got = found['gamma 50']['reconstruction_nats']
  assert got == {'mean': pytest.approx(np.mean(each)), 'spread': pytest.approx(np.std(each)), 'each': each}
  assert 'curves' not in disentanglement_study.summary(page)
  assert disentanglement_study.summary(page)['capacity_nats'] == pytest.approx(2.0 * 8 / 67)
  told = disentanglement_study.summary(page)['opened']
  assert told['unit'] == 'nats of capacity' and [one['seed'] for one in told['members']] == [0, 3]
  assert told['members'][0]['drawn'].keys() == set(page['factors'])
  summary = disentanglement_study.summary(page | {'wall_seconds': 1.0, **workdir.environment()})
  records.check('it', summary, records.STUDY_FIELDS)
  assert summary['trained_at'] == summary['measured_at'] == workdir.commit()
  *networks, whole = summary['parameters'].values()
  assert whole == sum(networks) > 100
  run, *_ = records._of_study('it', summary)
  assert run.seeds == 2 and run.page['settings']['model']['gamma'] == 50.0
  before = page | {'curves': {name: curve for name, curve in page['curves'].items() if name != 'drawn'}}
  assert 'drawn' not in disentanglement_study.summary(before)['opened']['members'][0]  # pages of older versions


def test_the_page_has_the_table_the_curves_and_the_pictures(small, tmp_path):
  page, drawn = small
  plain = json.loads(json.dumps(page)) | {'wall_seconds': 1.0}
  disentanglement_study.keep(tmp_path, 'capacity_small', drawn)
  disentanglement_study.write_page(tmp_path, 'disentanglement', {'capacity_small': plain})
  text = (tmp_path / 'study.html').read_text()
  assert text.count('data:image/png') == 2
  assert 'latent 2' in text and '<title>Study: disentanglement</title>' in text and 'class="scroll"' in text
  assert 'capacity C in nats' in text
  assert 'gamma 50, seed 3' in text
  first = plain['members'][0]['kl_nats'], plain['members'][1]['kl_nats']
  assert f'{np.mean(first):.3g} +- {np.std(first):.2g}' in text
  one = plain | {'members': plain['members'][:1]}
  alone = disentanglement_study.table({'capacity_small': one})
  assert '+-' not in alone and f'{first[0]:.3g}' in alone and 'figures of one seed' in alone
  assert 'capacity_small, gamma 50' in disentanglement_study.table({'capacity_small': plain})


def test_a_factor_is_told_from_when_on_its_share_stays():
  told = np.array([[0.6, 0.0, 0.7], [0.6, 0.7, 0.0], [0.6, 0.8, 0.0], [0.6, 0.8, 0.1]])
  assert disentanglement_study.opened(told, 0.15) == [0, 1, 4]
  page = {'capacity': [0.0, 2.0, 4.0, 6.0], 'factors': ['x', 'scale', 'shape'], 'curves': {'step': [0, 1, 2, 3]}}
  page['curves']['kl'] = [[[1.0, 2.0]], [[3.0, 0.5]], [[3.0, 1.0]], [[3.0, 3.0]]]
  page |= {'weight': 'gamma', 'members': [{'gamma': 3.0, 'seed': 7}]}
  page['curves'] |= {'alone': told[:, None], 'drawn': told[:, None] - 0.15}
  (found,) = disentanglement_study.openings(page)
  assert found['gamma'] == 3.0 and found['seed'] == 7
  assert found['alone'] == {'x': 0.0, 'scale': 2.0, 'shape': None}
  assert found['alone_kl_nats'] == {'x': 3.0, 'scale': 3.5, 'shape': None}
  assert list(found['drawn'].items()) == [('scale', 2.0), ('shape', None), ('x', None)]


def test_what_is_told_is_told_of_the_factor_that_the_code_is_made_of():
  sizes = (3, 4, 2)
  factors = disentanglement_study._varied(sizes)
  for number in range(3):
    codes = 100.0 * factors[:, number, None] * np.array([1.0, 0.0])
    np.testing.assert_allclose(
      disentanglement_study._information_of_codes(sizes, codes, np.zeros_like(codes)), np.eye(3)[number], atol=1e-9
    )


def test_what_is_drawn_is_what_the_decoder_makes_of_the_codes():
  sizes = (3, 2)
  factors = disentanglement_study._varied(sizes)
  images = np.concatenate([np.eye(size)[factors[:, i]] for i, size in enumerate(sizes)], 1)
  decode = lambda key, state, z: np.concatenate([np.full((len(z), 3), 1 / 3), np.clip(z[:, 3:], 0.01, 0.99)], 1)
  system = types.SimpleNamespace(views=Views(decode=decode))  # all codes tell both factors, drawings the second
  sure = np.full_like(images, -30.0)
  np.testing.assert_allclose(disentanglement_study._information_of_codes(sizes, images, sure), 1.0)
  posterior = images, sure
  shares = disentanglement_study._information_of_images(
    sizes, disentanglement_study._likelihoods(system, None, images, posterior, sizes)
  )
  np.testing.assert_allclose(shares, [0.0, 1 - np.log1p(99.0**-2) / np.log(2)], atol=1e-5)


def test_every_study_names_experiments_that_take_its_weight():
  for variant, (weight, values) in study.STUDIES['disentanglement'].items():
    config = disentanglement_study.settings('disentanglement', variant)
    assert weight in config.model
    assert all(value > 0 for value in values)


def test_weights_must_be_numbers():
  assert study._numbers(['1', '2.5']) == (1.0, 2.5)
  with pytest.raises(UserError, match='must be numbers'):
    study._numbers(['much'])


def test_more_lines_have_more_colours():
  chart = svg.chart('lines', {'a': [(0, 1), (1, 2)], 'train': [(0, 1), (1, 3)], 'b': [(0, 2), (1, 2)]})
  assert [chart.count(f'stroke="{colour}"') for colour in (svg.OTHER, svg.COLOURS['train'], svg.MORE[1])] == [2] * 3
