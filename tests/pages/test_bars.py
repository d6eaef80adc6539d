"""Figures of each class or layer as bars: which belong together, and how high each is."""

import json

import pytest
from test_report import Page

from dgm_jax.commands import report
from dgm_jax.pages import svg
from dgm_jax.pages.bars import bars, families


def test_figures_whose_names_differ_by_a_number_alone_belong_together():
  figures = {
    'one': {'fid_class_0/1k': 2.0, 'fid_class_10/1k': 4, 'fid/1k': 3.0, 'kl_nats_layer_1': 5.0, 'kl_nats_layer_2': 0.5},
    'two': {'fid_class_0/1k': 1.0, 'kl_layer_1': [1.0, 2.0], 'kl_layer_2': [3.0], 'alone_step_4': 1.0},
  }
  assert families(figures) == {
    'fid/1k by class': {'one': {0: 2.0, 10: 4.0}, 'two': {0: 1.0}},
    'kl_nats by layer': {'one': {1: 5.0, 2: 0.5}},
  }


def test_bars_are_as_high_as_their_values():
  page = Page(bars('a<b', {'test': {0: 4.0, 1: 1.0, 2: float('nan')}, 'valid': {0: -1.0}}))
  drawn = page.all('rect', fill=svg.COLOURS['test']) + page.all('rect', fill=svg.COLOURS['valid'])
  assert [float(attrs['height']) for attrs in drawn] == [0.8 * svg.HEIGHT, 0.2 * svg.HEIGHT, 0.2 * svg.HEIGHT]
  tops = [float(attrs['y']) for attrs in drawn]
  assert tops == [0, 0.6 * svg.HEIGHT, 0.8 * svg.HEIGHT]  # those below 0 hang
  lefts = [float(attrs['x']) for attrs in drawn]
  assert lefts[1] - lefts[0] == pytest.approx(svg.WIDTH / 3, abs=0.02)
  assert lefts[2] - lefts[0] == pytest.approx(0.4 * svg.WIDTH / 3, abs=0.02)
  text = ' '.join(page.text)
  assert '2.5' in text and '1 not finite' in text and '-1' in text


@pytest.mark.parametrize('value', [0.0, float('nan')])
def test_bars_without_height_have_a_frame(value):
  assert 'NaN' not in bars('loss', {'test': {0: value, 1: value}})
  assert len(Page(bars('loss', {'test': {0: value, 1: value}})).all('svg')) == 1


def test_the_page_of_a_run_and_the_comparison_of_two_have_the_bars(tmp_path):
  for name in ('one', 'two'):
    folder = tmp_path / name
    folder.mkdir()
    (folder / 'metrics.jsonl').write_text('{"step": 1, "split": "train", "loss": 1.0}\n')
    page = {'metrics': {f'fid_class_{k}': 1.0 + k for k in range(10)}}
    (folder / 'evaluation_test.json').write_text(json.dumps(page))
  page = Page(report.write_report(tmp_path / 'one').read_text())
  assert len(page.all('rect', fill=svg.COLOURS['test'])) == 10
  assert 'fid by class' in page.text
  _, html = report.comparison([tmp_path / 'one', tmp_path / 'two'])
  assert len(Page(html).all('rect')) == 20 + 2  # and the frames of two charts
