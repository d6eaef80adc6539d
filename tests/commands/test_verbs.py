"""The console command, experiments by name, their list, and the package as pip installs it."""

import os
import pathlib
import subprocess
import sys
import sysconfig

import pytest
from absl import flags

from dgm_jax.commands import listing, verbs
from dgm_jax.config import names
from dgm_jax.errors import UserError

ROOT = pathlib.Path(__file__).parents[2]


def call(monkeypatch, *words):
  monkeypatch.setattr(sys, 'argv', ['dgm', *words])
  verbs.run()


def test_the_console_command_names_its_verbs(monkeypatch, capsys):
  call(monkeypatch)
  said = capsys.readouterr().out
  assert all(f'\n{verb} ' in said for verb in verbs.VERBS)
  assert {name for name, _ in verbs.VERBS.values()} == {
    path.stem for path in (ROOT / 'dgm_jax' / 'commands').glob('[a-z]*.py')
  } - {'verbs'}
  assert {path.stem for path in (ROOT / 'dgm_jax').glob('[a-z]*.py')} >= set(verbs.VERBS)
  call(monkeypatch, '--version')
  assert capsys.readouterr().out.strip()


def test_an_unknown_verb_is_answered_with_the_nearest(monkeypatch, capsys):
  with pytest.raises(SystemExit, match='2'):
    call(monkeypatch, 'trian')
  assert capsys.readouterr().err.startswith("error: dgm has no verb 'trian'; did you mean 'train'?; it has train,")


@pytest.mark.parametrize(
  ('word', 'message'),
  [
    ('vae_mnits', "there is no experiment 'vae_mnits'; did you mean 'vae_mnist'?"),
    ('configs/vae_mnits.py:tiny', "there is no file configs/vae_mnits.py; did you mean 'vae_mnist'?"),
    ('', "there is no experiment ''; --list names them"),
  ],
)
def test_a_mistyped_experiment_is_answered_with_the_nearest(word, message, monkeypatch):
  monkeypatch.chdir(ROOT)
  with pytest.raises(UserError) as error:
    names.locate(word)
  assert message in str(error.value)


def test_an_experiment_is_known_by_its_name_and_by_its_file(monkeypatch):
  monkeypatch.chdir(ROOT)
  located = names.locate('vae_mnist:conv')
  assert located == f'{ROOT / "configs" / "vae_mnist.py"}:conv'
  assert names.source_of(located) == names.locate('configs/vae_mnist.py:conv') == 'configs/vae_mnist.py:conv'
  assert names.source_of('/elsewhere/x.py') == '/elsewhere/x.py'
  assert names.named_config('vae_digits:tiny').source == 'configs/vae_digits.py:tiny'


def test_experiments_are_listed_by_words(monkeypatch, capsys):
  values = flags.FlagValues()
  monkeypatch.setattr('dgm_jax.config.command_line.flags.FLAGS', values)
  listing.main(['list', 'flow', 'toy'])
  assert capsys.readouterr().out.startswith('flow_toy: ')
  listing.main(['list', 'OMNIGLOT'])
  said = capsys.readouterr().out
  assert 'paper: Gregor et al. 2016, arXiv:1604.08772' in said and 'vae_digits' not in said
  with pytest.raises(UserError, match='no experiment has nonsense: leave a word out'):
    listing.main(['list', 'nonsense'])


def test_every_experiment_can_be_listed():
  for name, module in names.experiments().items():
    parts = listing.described(module.__doc__)
    assert parts[0] and not any(f'{head}:' in part for head in listing.HEADS for part in parts), name


def test_a_wheel_trains_evaluates_samples_and_reports_in_an_empty_folder(tmp_path):
  """It sees the packages of the tests, but not the clone."""
  pip, env, home = (
    (sys.executable, '-m', 'pip', '--quiet', '--disable-pip-version-check'),
    tmp_path / 'env',
    tmp_path / 'x',
  )
  home.mkdir()

  surroundings = {name: value for name, value in os.environ.items() if name != 'PYTHONPATH'}

  def run(*words):
    done = subprocess.run(words, cwd=home, env=surroundings, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout

  run(*pip, 'wheel', '--no-deps', f'--wheel-dir={tmp_path}', str(ROOT))
  run(sys.executable, '-m', 'venv', '--without-pip', str(env))
  (site,) = env.glob('lib/python*/site-packages')
  (site / 'tests.pth').write_text(sysconfig.get_path('purelib') + '\n')
  (wheel,) = tmp_path.glob('*.whl')
  run(*pip, f'--python={env / "bin" / "python"}', 'install', '--no-deps', '--ignore-installed', str(wheel))
  dgm = str(env / 'bin' / 'dgm')
  assert 'vae_mnist' in run(dgm, 'list')
  assert str(ROOT) not in run(str(env / 'bin' / 'python'), '-c', 'import dgm_jax; print(dgm_jax.__file__)')
  assert 'report: ' in run(dgm, 'train', '--config=vae_digits:tiny', '--workdir=run')
  assert 'neg_elbo_nats = ' in run(dgm, 'evaluate', '--workdir=run', '--only=mean.metrics')
  assert 'samples.npy: 4 examples' in run(dgm, 'sample', '--workdir=run', '--n=4')
  assert 'report' in run(dgm, 'report', '--workdir=run')
