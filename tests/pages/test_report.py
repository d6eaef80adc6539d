"""The page of a run: what it shows, from fabricated runs."""

import html.parser
import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from dgm_jax.commands import report
from dgm_jax.errors import UserError
from dgm_jax.pages import svg
from dgm_jax.pictures import gallery
from dgm_jax.runtime import cli
from dgm_jax.training import log

VOID = {'meta', 'img', 'br', 'hr', 'link', 'input'}


class Page(html.parser.HTMLParser):
  """Checks that tags nest, and keeps every tag with its attributes and all text."""

  def __init__(self, text: str):
    super().__init__()
    self.open, self.tags, self.text = [], [], []
    self.feed(text)
    self.close()
    assert not self.open

  def handle_starttag(self, tag, attrs):
    self.tags.append((tag, dict(attrs)))
    if tag not in VOID:
      self.open.append(tag)

  def handle_startendtag(self, tag, attrs):
    self.tags.append((tag, dict(attrs)))

  def handle_endtag(self, tag):
    assert self.open.pop() == tag

  def handle_data(self, data):
    self.text.append(data)

  def all(self, tag, **attributes):
    return [attrs for name, attrs in self.tags if name == tag and attributes.items() <= attrs.items()]


@pytest.fixture
def workdir(tmp_path):
  """A run with four metrics, one of them in two splits, one timing, and three pictures of two names."""
  folder = tmp_path / 'vae<1>'
  (folder / 'pictures').mkdir(parents=True)
  metrics = [{'step': step, 'split': 'train', 'loss': 100 / step, 'kl': 'nan'} for step in range(10, 310, 10)]
  metrics += [{'step': 300, 'split': 'valid', 'loss': 0.5, 'neg_elbo_nats': 91.234567}]
  metrics += [{'step': 300, 'split': 'test', 'active_units': 19.0}]
  write_lines(folder / 'metrics.jsonl', metrics)
  write_lines(folder / 'timing.jsonl', [{'step': step, 'steps_per_s': 20.0} for step in (10, 20)])
  config = {'system': 'vae.vae', 'steps': 300, 'data': {'name': 'digits'}, 'note': '<script>&', 'log': {'wandb': ''}}
  (folder / 'config.json').write_text(json.dumps(config))
  (folder / 'env.json').write_text(json.dumps({'versions': {'jax': '0.10.2'}, 'device': 'cpu', 'devices': 2}))
  for split, value in (('test', 86.761234), ('valid', 87.5)):
    record = {'metrics': {'nll_nats': value, 'active_units': 19}, 'samples': {'nll_nats': 5000}}
    (folder / f'evaluation_{split}.json').write_text(json.dumps(record))
  for name, shade in (('samples_00000100', 1), ('samples_00000300', 2), ('long_name_00000200', 3)):
    gallery.write_png(folder / 'pictures' / f'{name}.png', np.full((2, 2, 1), shade, np.uint8))
  return folder


def write_lines(path: pathlib.Path, records) -> None:
  path.write_text(''.join(json.dumps(record) + '\n' for record in records))


def test_the_page_stands_alone(workdir):
  path = report.write_report(workdir)
  text = path.read_text()
  page = Page(text)
  assert path == workdir / 'report.html'
  assert 'http' not in text
  assert not page.all('script') and not page.all('link')
  assert all(attrs['src'].startswith('data:image/png;base64,') for attrs in page.all('img'))


def test_the_page_has_every_curve_once(workdir):
  page = Page(report.write_report(workdir).read_text())
  drawn = [attrs['aria-label'] for attrs in page.all('svg', role='img')]
  # figures that were held out come first, those of training alone after them, timings in their own section
  assert drawn == ['active_units', 'loss', 'neg_elbo_nats', 'kl', 'steps_per_s']
  assert len(page.all('figure', **{'class': 'curve'})) == 5
  assert len(page.all('polyline')) == 3  # training loss, its empty companion kl, steps/s
  assert len(page.all('circle')) == 3  # the three figures that were measured once


def test_the_page_has_the_newest_picture_of_each_name(workdir):
  page = Page(report.write_report(workdir).read_text())
  assert [attrs['alt'] for attrs in page.all('img')] == ['long name at step 200', 'samples at step 300']
  newest = (workdir / 'pictures' / 'samples_00000300.png').read_bytes()
  assert report.base64.b64decode(page.all('img')[1]['src'].partition(',')[2]) == newest


def test_the_page_tells_settings_and_figures(workdir):
  page = Page(report.write_report(workdir).read_text())
  cells = [text for text in page.text if text.strip()]
  row = cells.index('nll_nats')
  assert cells[row : row + 6] == [
    'nll_nats',
    '86.761 (5000 samples)',
    '87.5 (5000 samples)',
    'active_units',
    '19',
    '19',
  ]
  assert cells[cells.index('data.name') + 1] == '"digits"'
  assert cells[cells.index('note') + 1] == '"<script>&"'  # escaped: Page found no script tag
  assert cells[cells.index('versions.jax') + 1] == '"0.10.2"'
  assert 'vae.vae · digits · step 300 of 300 · 2 x cpu' in cells
  assert 'vae<1>' in cells


def test_a_page_of_metrics_alone(tmp_path):
  write_lines(tmp_path / 'metrics.jsonl', [{'step': 1, 'split': 'train', 'loss': 1.0}])
  page = Page(report.write_report(tmp_path).read_text())
  assert [text for text in page.text if text in ('Figures', 'Curves', 'Pictures', 'Speed', 'Settings')] == ['Curves']


def test_the_page_of_a_run_in_progress(workdir):
  with (workdir / 'metrics.jsonl').open('a') as file:
    file.write('{"step": 310, "spl')
  assert 'step 300 of 300' in report.write_report(workdir).read_text()


def test_the_page_takes_what_the_writer_wrote(tmp_path):
  settings = type('Config', (), {'log': type('Log', (), {'tensorboard': False, 'wandb': ''})})
  with log.open(tmp_path, 0, 2, settings) as writer:
    writer.metrics(2, 'test', {'loss': float('inf')})
    writer.picture(2, 'samples', np.zeros((4, 4, 3), np.uint8))
  page = Page(report.write_report(tmp_path).read_text())
  assert len(page.all('img')) == 1
  assert ', 1 not finite' in page.text


@pytest.mark.parametrize('made', [False, True])
def test_a_folder_without_a_run_is_one_line(tmp_path, made, capsys):
  folder = tmp_path / 'run'
  if made:
    folder.mkdir()
  with pytest.raises(SystemExit) as caught:
    cli.run(report.main, ['report', f'--workdir={folder}'])
  out, err = capsys.readouterr()
  assert caught.value.code == 2 and out == ''
  assert err.startswith(f'error: --workdir={folder}: no ') and err.count('\n') == 1
  assert not (folder / 'report.html').exists()


def test_a_damaged_settings_file_is_named(workdir):
  (workdir / 'config.json').write_text('{')
  with pytest.raises(UserError, match=r'config\.json: not JSON'):
    report.write_report(workdir)


def test_the_command_prints_the_path(workdir, capsys):
  report.main(['report', f'--workdir={workdir}'])
  assert capsys.readouterr().out == f'{workdir}/report.html\n'


@pytest.mark.parametrize(
  ('argv', 'message'),
  [
    ([], 'give one of --workdir=DIR, --topic=NAME, --migrate, and --results and --tables'),
    (['--migrate', '--check'], 'give one of'),
    (['--results', '--tables'], 'give one of'),
    (['--workdir=a', '--results'], 'give one of'),
    (['--workdir=a', '--check'], 'give one of'),
    (['--check'], 'give one of'),
    (['--results', 'more'], 'give one of'),
    (['--workdri=a'], 'Did you mean: workdir'),
    (['--compare'], 'give one of'),
    (['--compare', '--results', 'a'], 'give one of'),
  ],
)
def test_a_wrong_command_line_is_one_line(argv, message):
  with pytest.raises(UserError, match=message) as caught:
    report.main(['report', *argv])
  assert '\n' not in str(caught.value)


def test_runs_side_by_side(workdir, tmp_path, capsys):
  other = tmp_path / 'other'
  other.mkdir()
  (other / 'config.json').write_text(json.dumps({'system': 'gan.gan'}))
  (other / 'evaluation_valid.json').write_text(json.dumps({'metrics': {'modes': 25.0, 'nll_nats': 90}}))
  page = tmp_path / 'new' / 'page.html'
  report.main(['report', '--compare', str(workdir), str(other), f'--out={page}'])
  lines = [line.split() for line in capsys.readouterr().out.splitlines()]
  assert lines[:5] == [
    ['vae<1>', 'other'], ['system', 'vae.vae', 'gan.gan'], ['nll_nats', '86.761', '90'], ['active_units', '19'],
    ['modes', '25'],
  ]  # fmt: skip
  assert lines[5:] == [[str(page)]]
  text = page.read_text()
  assert text.count('<img') == 2 and 'vae&lt;1&gt;' in text and 'vae<1>' not in text
  with pytest.raises(UserError, match=r'has no figures: run python -m dgm_jax.evaluate'):
    report.comparison([tmp_path])


def test_help_answers_without_jax():
  code = "import sys; from dgm_jax.commands import report; report.main(['report', '--help'])"
  code += "; sys.exit('jax' in sys.modules)"
  done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  assert '--workdir' in done.stdout and '--[no]results' in done.stdout and 'one page' in done.stdout.lower()


# --- curves ---


def test_a_chart_has_its_points_where_they_belong():
  drawn = svg.chart('loss', {'train': [(0, 10.0), (50, 0.0), (100, 5.0)]})
  # 320 x 170 pixels; y from -0.5 to 10.5 after 5% of air: 10 -> 170 * 0.5 / 11, 0 -> 170 * 10.5 / 11, 5 -> 85
  assert Page(drawn).all('polyline')[0]['points'] == '0,7.73 160,162.27 320,85'


def test_a_gentle_start_belongs_to_the_scale():
  points = [(step, 20.0 - step) for step in range(21)]  # without its first tenth the span is 18, with it 20
  assert Page(svg.chart('loss', {'train': points})).all('polyline')[0]['points'].startswith('0,7.73 ')


def test_a_steep_start_does_not_set_the_scale():
  points = [(0, 1000.0), *((step, 10.0 + step % 2) for step in range(1, 20))]
  first, second, *_ = Page(svg.chart('loss', {'train': points})).all('polyline')[0]['points'].split()
  assert float(first.split(',')[1]) < -1000  # far above the frame, where the inner svg clips it
  assert float(second.split(',')[1]) == pytest.approx(170 * 0.05 / 1.1, abs=0.01)


def test_series_keep_their_colours_and_their_last_values():
  drawn = svg.chart('a<b', {'train': [(0, 1.0), (1, 2.0)], 'test': [(1, 3.0)], 'timing': [(0, 4.0)]})
  page = Page(drawn)
  assert page.all('polyline')[0]['stroke'] == svg.COLOURS['train']
  assert [dot['fill'] for dot in page.all('circle')] == [svg.COLOURS['test'], svg.OTHER]
  assert [text for text in page.text if text.strip()][-6:] == ['train ', '2', 'test ', '3', 'timing ', '4']
  assert 'a<b' in page.text


def test_values_that_are_not_finite_are_left_out_and_counted():
  page = Page(svg.chart('loss', {'train': [(0, 1.0), (1, float('nan')), (2, 2.0), (3, float('inf'))]}))
  assert page.all('polyline')[0]['points'].count(',') == 2
  assert ', 2 not finite' in page.text


@pytest.mark.parametrize('values', [[2.0, 2.0], [0.0, 0.0], [-1e-30, -1e-30], [float('nan')] * 2, [1e300, 2e300]])
def test_a_chart_of_odd_values_stays_in_its_frame(values):
  page = Page(svg.chart('loss', {'train': [(0, values[0]), (1, values[1])]}))
  heights = [float(point.split(',')[1]) for point in page.all('polyline')[0]['points'].split()]
  assert all(0 <= height <= svg.HEIGHT for height in heights)


@pytest.mark.parametrize(
  ('low', 'high', 'expected'),
  [
    (0, 10, [0, 2, 4, 6, 8, 10]),
    (0.03, 0.31, [0.1, 0.2, 0.3]),
    (-1.2, 1.1, [-1, -0.5, 0, 0.5, 1]),
    (100, 48_000, [10_000, 20_000, 30_000, 40_000]),
    (86.7612, 86.7618, [86.7612, 86.7614, 86.7616, 86.7618]),
  ],
)
def test_ticks_are_round(low, high, expected):
  assert svg.ticks(low, high) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
  ('value', 'label'), [(0.25, '0.25'), (1500, '1500'), (20_000, '20k'), (1.5e6, '1.5M'), (-3e9, '-3G'), (0, '0')]
)
def test_tick_labels_are_short(value, label):
  assert svg.short(value) == label


def test_thinning_keeps_the_spikes():
  points = [(x, float(x % 7)) for x in range(10_000)]
  points[1234], points[8765] = (1234, 99.0), (8765, -99.0)
  kept = svg.thin(points, 50)
  assert len(kept) <= 100 and (1234, 99.0) in kept and (8765, -99.0) in kept
  assert kept == sorted(kept)
  assert svg.thin(points[:100], 50) == points[:100]
