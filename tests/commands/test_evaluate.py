"""Evaluation and samples: looked at before hours of work are spent, and what is there is kept."""

import importlib.util
import json
import pathlib

import pytest
from absl import flags

from dgm_jax import training
from dgm_jax.commands import evaluate
from dgm_jax.errors import UserError
from dgm_jax.runs import workdir

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
  folder = tmp_path_factory.mktemp('evaluate') / 'run'
  spec = importlib.util.spec_from_file_location('vae_digits', ROOT / 'configs' / 'vae_digits.py')
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  config = module.get_config('tiny')
  config.update({'steps': 2, 'eval_every': 0, 'picture_every': 0})
  with config.unlocked():
    config.source = 'configs/vae_digits.py:tiny'
  training.fit(config, folder)
  return folder


@pytest.fixture
def command(trained, monkeypatch, capsys):
  """Runs `evaluate` with flags of its own; returns what it printed."""

  def call(*words):
    values = flags.FlagValues()
    for name in ('string', 'enum', 'integer', 'list', 'bool'):
      define = getattr(flags, f'DEFINE_{name}')
      monkeypatch.setattr(evaluate.flags, f'DEFINE_{name}', lambda *a, d=define, **k: d(*a, **k, flag_values=values))
    monkeypatch.setattr(evaluate.flags, 'FLAGS', values)
    monkeypatch.setattr('dgm_jax.runtime.cpu.keep_programs', lambda cache: None)
    evaluate.define_flags()
    try:
      evaluate.main(['evaluate', f'--workdir={trained}', *words])
    finally:
      monkeypatch.undo()
    return capsys.readouterr().out

  return call


def test_a_measurement_that_cannot_be_made_costs_only_its_own_figures(command, trained, capsys):
  with pytest.raises(UserError, match='no judge of generated images'):
    command('--only=generated.classifier,mean.metrics', '--record', f'--results={trained / "results"}')
  said = capsys.readouterr().out
  assert 'no generated.classifier: no judge' in said and 'neg_elbo_nats = ' in said
  assert set(json.loads((trained / 'evaluation_test.json').read_text())['metrics']) >= {'kl_nats', 'neg_elbo_nats'}
  assert 'no record' in said and not (trained / 'results').exists()


def test_each_figure_is_printed_and_kept_as_soon_as_it_is_there(command, trained, monkeypatch, capsys):
  from dgm_jax.evals import latent

  def broken(seed, subject):
    raise RuntimeError('the machine burns')

  broken.needs = ()
  monkeypatch.setattr(latent, 'units', broken)
  with pytest.raises(RuntimeError, match='burns'):
    evaluate_in_order = command('--only=mean.metrics,latent.units', '--split=valid')
    assert not evaluate_in_order
  assert 'neg_elbo_nats = ' in capsys.readouterr().out
  assert 'neg_elbo_nats' in json.loads((trained / 'evaluation_valid.json').read_text())['metrics']


@pytest.mark.parametrize('content', [None, '{}', '{"device"'])
def test_a_missing_page_is_missed_before_anything_is_measured(content, command, trained, monkeypatch, capsys):
  page = trained / 'env.json'
  whole = page.read_text()
  page.unlink() if content is None else page.write_text(content)
  try:
    with pytest.raises(UserError, match=r'env\.json'):
      command()
  finally:
    page.write_text(whole)
  assert 'measuring' not in capsys.readouterr().out


def test_a_folder_that_cannot_be_written_is_found_before_anything_is_measured(command, monkeypatch, capsys):
  with pytest.raises(UserError, match='/proc/nowhere cannot be written'):
    command('--record', '--results=/proc/nowhere')
  assert 'measuring' not in capsys.readouterr().out

  def read_only(**options):
    raise OSError(30, 'Read-only file system')

  monkeypatch.setattr(workdir.tempfile, 'TemporaryFile', read_only)
  with pytest.raises(UserError, match=r'cannot be written \(Read-only file system\)'):
    command()


def test_a_measurement_that_is_not_there_is_named(command):
  with pytest.raises(UserError, match="has no 'images'"):
    command('--only=mean.images')


def test_a_figure_that_is_no_number_is_kept_as_a_string_and_not_recorded(command, trained, monkeypatch, capsys):
  from dgm_jax.evals import latent

  def broken(seed, subject):
    return {'bits': float('nan'), 'each': [1.0, float('inf')], 'fine': 2.0}

  broken.needs = ()
  monkeypatch.setattr(latent, 'units', broken)
  with pytest.raises(UserError, match='the figure bits is nan: it is kept beside the run, and not recorded'):
    command('--only=latent.units', '--split=train', '--record', f'--results={trained / "results"}')
  text = (trained / 'evaluation_train.json').read_text()
  strict = json.loads(text, parse_constant=lambda name: pytest.fail(name))
  assert strict['metrics'] == {'bits': 'nan', 'each': [1.0, 'inf'], 'fine': 2.0}
  assert not (trained / 'results').exists()
