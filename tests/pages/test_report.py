"""The page of a run: what it shows, from fabricated runs."""

import base64
import html.parser
import json
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image, ImageSequence

from dgm_jax.commands import report
from dgm_jax.errors import UserError
from dgm_jax.internal.metrics import better
from dgm_jax.pages import run_page, svg
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
  write_lines(folder / 'timing.jsonl', [{'step': step, 'steps_per_s': 20.0, 'seconds': 41.0} for step in (10, 20)])
  config = {'system': 'vae.vae', 'steps': 300, 'data': {'name': 'digits'}, 'note': '<script>&', 'log': {'wandb': ''}}
  config |= {'seed': 3, 'source': 'configs/vae_digits.py', 'overrides': ['note=<script>&']}
  (folder / 'config.json').write_text(json.dumps(config))
  env = {'versions': {'jax': '0.10.2'}, 'device': 'cpu', 'devices': 2, 'parameters': {'encoder': 1200, 'decoder': 34}}
  (folder / 'env.json').write_text(json.dumps(env))
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
  assert 'http' not in text.replace('http://www.w3.org/2000/svg', '')  # a name, which nothing fetches
  assert [set(attrs) for attrs in page.all('script')] == [set()] and not page.all('link')
  assert all(attrs['src'].startswith('data:image/png;base64,') for attrs in page.all('img'))


def test_the_page_has_every_curve_once(workdir):
  page = Page(report.write_report(workdir).read_text())
  drawn = [attrs['aria-label'] for attrs in page.all('svg', role='img')]
  # figures that were held out come first, those of training alone after them, timings in their own section
  assert drawn == ['active_units', 'loss', 'neg_elbo_nats', 'kl', 'steps_per_s']
  assert len(page.all('figure', **{'class': 'curve'})) == 5
  assert len(page.all('polyline')) == 4  # training loss, linear and logarithmic, its empty companion kl, steps/s
  assert len(page.all('circle')) == 4  # the three figures that were measured once, loss twice


def test_the_page_has_the_newest_picture_of_each_name(workdir):
  page = Page(report.write_report(workdir).read_text())
  shown = ['long name at step 200', 'samples at step 100', 'samples at step 300']
  assert [attrs['alt'] for attrs in page.all('img')] == shown
  assert ['hidden' in attrs for attrs in page.all('img')] == [False, True, False]
  newest = (workdir / 'pictures' / 'samples_00000300.png').read_bytes()
  assert base64.b64decode(page.all('img')[2]['src'].partition(',')[2]) == newest
  (slider,) = page.all('input')
  assert (slider['min'], slider['max'], slider['value']) == ('0', '1', '1')


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
  assert 'vae.vae · digits · step 300 of 300' in cells
  assert 'seed 3 · 1,234 parameters (encoder 1,200, decoder 34) · 1 min 22 s · 2 x cpu' in cells
  command = f"dgm train --config=configs/vae_digits.py '--config.note=<script>&' '--workdir={workdir}'"
  assert command in ' '.join(' '.join(cells).split())
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
    ([], 'give one of --workdir=DIR with or without --gif, --topic=NAME, --migrate, and --results and --tables'),
    (['--migrate', '--check'], 'give one of'),
    (['--results', '--tables'], 'give one of'),
    (['--workdir=a', '--results'], 'give one of'),
    (['--workdir=a', '--check'], 'give one of'),
    (['--check'], 'give one of'),
    (['--results', 'more'], 'give one of'),
    (['--workdri=a'], 'Did you mean: workdir'),
    (['--compare'], 'give one of'),
    (['--gif', '--results'], 'give one of'),
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
  (other / 'config.json').write_text(json.dumps({'system': 'gan.gan', 'steps': 300}))
  (other / 'evaluation_test.json').write_text(json.dumps({'metrics': {'modes': 25.0, 'nll_nats': 90}}))
  write_lines(other / 'metrics.jsonl', [{'step': step, 'split': 'train', 'loss': 1.0 * step} for step in (10, 20)])
  page = tmp_path / 'new' / 'page.html'
  report.main(['report', '--compare', str(workdir), str(other), f'--out={page}'])
  printed = [line.split() for line in capsys.readouterr().out.splitlines()]
  assert printed[:7] == [
    ['measured', 'on', 'vae<1>', 'other'], ['system', 'vae.vae', 'gan.gan'],
    ['nll_nats', 'test', '86.761', '*', '90'], ['active_units', 'test', '19'], ['modes', 'test', '25'],
    ['nll_nats', 'valid', '87.5'], ['active_units', 'valid', '19'],
  ]  # fmt: skip
  assert printed[7][:3] == ['loss', 'valid,', 'in']
  assert ['system', '"vae.vae"', '"gan.gan"'] in printed and ['data.name', '"digits"'] in printed
  assert not [line for line in printed if line[:1] == ['steps']]  # which are the same
  assert printed[-1] == [str(page)]
  text = page.read_text()
  shown = Page(text)
  assert text.count('<img') == 3 and 'vae&lt;1&gt;' in text and 'vae<1>' not in text
  assert [attrs['class'] for attrs in shown.all('td') if 'class' in attrs] == ['best']
  (loss,) = [json.loads(each['data-points'])['series'] for each in shown.all('figure') if '"other: train"' in str(each)]
  assert list(loss) == ['vae<1>: train', 'vae<1>: valid', 'other: train']  # over one another
  with pytest.raises(UserError, match=r'has no figures: train into it'):
    report.comparison([tmp_path])


def test_runs_that_were_only_trained_are_compared_and_equals_have_no_best(tmp_path):
  for name, value in (('a/run', 1.0), ('b/run', 1.0), ('c/run', float('nan'))):
    (tmp_path / name).mkdir(parents=True)
    write_lines(tmp_path / name / 'metrics.jsonl', [{'step': 1, 'split': 'valid', 'nll_nats': value, 'kl_nats': 0.1}])
  text, page = report.comparison([tmp_path / 'a/run', tmp_path / 'b/run'])
  assert 'a/run' in text and '*' not in text and 'class="best"' not in page
  text, page = report.comparison([tmp_path / 'a/run', tmp_path / 'c/run'])
  assert '1 *' in text and page.count('class="best"') == 1


@pytest.mark.parametrize(
  ('name', 'sign'), [('nll_nats', -1), ('fid_classifier/10k', -1), ('fid_classifier_noise/10k', 0), ('kl_nats', 0),
                     ('modes/2500', 1), ('modes_chance/2500', 0), ('fake_value', 0)]
)  # fmt: skip
def test_the_better_end_of_a_figure(name, sign):
  assert better(name) == sign


def test_training_and_held_out_data_of_a_quantity_share_a_frame():
  line = lambda split, **values: {'step': 5, 'split': split, **values}
  metrics = [
    line('train', **{'model/kl_nats': 1.0, 'model/loss': 2.0, 'a/mse': 3.0, 'b/mse': 4.0}),
    line('valid', kl_nats=5.0, mse=6.0), line('test', kl_nats=7.0),
  ]  # fmt: skip
  assert run_page.quantities(metrics) == {
    'kl_nats': {'train': [(5, 1.0)], 'valid': [(5, 5.0)], 'test': [(5, 7.0)]},
    'mse': {'train, b': [(5, 4.0)], 'train, a': [(5, 3.0)], 'valid': [(5, 6.0)]},
    'model/loss': {'train': [(5, 2.0)]},
  }


def test_figures_that_training_measured_stand_where_nothing_was_evaluated(tmp_path):
  metrics = [{'step': step, 'split': 'valid', 'nll_nats': 100.0 - step} for step in (1, 2)]
  write_lines(tmp_path / 'metrics.jsonl', metrics)
  page = Page(report.write_report(tmp_path).read_text())
  at = page.text.index('valid, in training')
  assert page.text[at + 1 : at + 3] == ['nll_nats', '98']


def test_pictures_of_a_run_move_in_a_gif(workdir, capsys):
  report.main(['report', f'--workdir={workdir}', '--gif'])
  assert capsys.readouterr().out.splitlines()[1:] == [str(workdir / 'pictures' / 'samples.gif')]
  with Image.open(workdir / 'pictures' / 'samples.gif') as image:
    assert image.n_frames == 2 and image.size == (2, 2)
    shades = [np.asarray(frame.convert('L')) for frame in ImageSequence.Iterator(image)]
  assert [shade.max() for shade in shades] == [1, 2]
  (workdir / 'pictures' / 'samples_00000100.png').unlink()
  with pytest.raises(UserError, match=r'has no picture of several steps: train with --config\.picture_every=N'):
    report.write_gifs(workdir)


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
  assert [dot['fill'] for dot in page.all('circle')] == 2 * [svg.COLOURS['test'], svg.OTHER]
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
  ('value', 'label'),
  [(0.25, '0.25'), (1500, '1500'), (20_000, '20k'), (1.5e6, '1.5M'), (-3e9, '\N{MINUS SIGN}3G'), (0, '0')],
)
def test_tick_labels_are_short(value, label):
  assert svg.short(value) == label


def test_no_label_of_the_axes_leaves_the_drawing():
  """Labels of the left axis end 5 pixels left of the frame, and a character is at most 6.3 wide."""
  for values in ([-123456.78, -123456.2], [-1.5e-7, 2e-7], [-1e9, 3.0], [0.0, 1.0]):
    drawn = svg.chart('kl_nats', {'train': [(0, values[0]), (10_000_000, values[1])]})
    labels = re.findall('text-anchor="end">([^<]+)<', drawn)
    left, right = int(re.search(r'data-left="(\d+)"', drawn)[1]), float(re.search('viewBox="0 0 ([0-9.]+)', drawn)[1])
    assert labels and left - 5 - svg.LETTER * max(map(len, labels)) >= svg.NAME + 2
    last = re.findall(r'<text x="([0-9.]+)" y="185" text-anchor="middle">([^<]+)<', drawn)[-1]
    assert left + float(last[0]) + svg.LETTER * len(last[1]) / 2 <= right
    assert '>step</text>' in drawn and '>nats</text>' in drawn


@pytest.mark.parametrize(
  ('low', 'high', 'expected'),
  [
    (0.5, 300, [0.5, 1, 2, 5, 10, 20, 50, 100, 200]), (1e-3, 1e3, [1e-3, 1e-1, 1e1, 1e3]),
    (21.0, 24.0, [21, 22, 23, 24]), (1e-6, 1.0, [1e-6, 1e-4, 1e-2, 1]),
  ],
)  # fmt: skip
def test_ticks_of_a_logarithmic_scale_are_round(low, high, expected):
  assert svg.log_ticks(low, high) == pytest.approx(expected)


def test_a_logarithmic_scale_is_there_for_positive_values_alone():
  drawn = svg.chart('loss', {'train': [(0, 1.0), (1, 100.0), (2, 10.0)]})
  points = Page(drawn).all('polyline')
  low, high, middle = (float(point.split(',')[1]) for point in points[1]['points'].split())
  assert low - middle == pytest.approx(middle - high)
  assert 'class="log"' not in svg.chart('loss', {'train': [(0, 1.0), (1, 0.0)]})


@pytest.mark.parametrize(
  ('name', 'unit'),
  [('neg_elbo_nats', 'nats'), ('nll_bits_per_dim', 'bits per dimension'), ('share of a factor, by x', 'share'),
   ('steps_per_second', 'per second'), ('loss', 'loss'), ('x' * 40, 'value'), ('kl_nats_layer_1', 'nats')],
)  # fmt: skip
def test_an_axis_is_named_by_its_unit(name, unit):
  assert svg.unit(name) == unit


def test_thinning_keeps_the_spikes():
  points = [(x, float(x % 7)) for x in range(10_000)]
  points[1234], points[8765] = (1234, 99.0), (8765, -99.0)
  kept = svg.thin(points, 50)
  assert len(kept) <= 100 and (1234, 99.0) in kept and (8765, -99.0) in kept
  assert kept == sorted(kept)
  assert svg.thin(points[:100], 50) == points[:100]
