"""The page of the deck holds a row for every slide, and each row's command ends well at the size of a test."""

import os
import pathlib
import re
import time

import page
import pytest
import readme
import run

from dgm_jax import config as experiment
from dgm_jax.internal.files import import_file

ROWS = page.rows()
COMMANDS = sorted({command for row in ROWS for command in row.commands})
SLIDES = [line.split(' | ') for line in (pathlib.Path(__file__).parent / 'slides.txt').read_text().splitlines()]
BELOW = 'VLAE table, MNIST'  # a row that stands for the rows of the second table
# Of the deck's rows these are whose programs no other test trains.
TURNS = 3
ALONE = (
  'nice_cifar10', 'deep_gmm_cifar10', 'revnet_imagenet', 'irevnet_imagenet', 'infogan_faces', 'iwae_omniglot',
)  # fmt: skip


def named(phrase):
  """The rows that a phrase names: whose slide it is, or is part of."""
  same = [row for row in ROWS if row.slide == phrase]
  return same or [row for row in ROWS if phrase in row.slide]


@pytest.mark.parametrize(('slide', 'phrase'), SLIDES)
def test_every_slide_has_a_row(slide, phrase):
  assert len(named(phrase)) == 1, f'{slide}: docs/deck.md has {len(named(phrase))} rows with {phrase!r}'


def test_every_row_is_of_a_slide_or_says_that_it_is_not():
  of_slides = {row.slide for _, phrase in SLIDES for row in named(phrase)}
  others = [row.slide for row in ROWS if row.slide not in of_slides]
  assert not [slide for slide in others if '(beyond the deck)' not in slide]


def test_every_row_has_a_command():
  without = [row.slide for row in ROWS if not row.commands]
  assert without == [BELOW]


@pytest.mark.parametrize('command', COMMANDS)
def test_what_a_command_reads_is_trained_by_another(command, tmp_path):
  for name in page.read_folders(command):
    assert page.trainer(name), f'no command of docs/deck.md trains {name}'
  words = page.small(command, tmp_path)
  for source in re.findall(r'--config=(\S+)', ' '.join(words)):
    stem, variant = re.fullmatch(r'configs/(\w+)\.py:(\w+)', source).groups()
    config = import_file(page.ROOT / 'configs' / f'{stem}.py').get_config(variant)
    assert config.data.name == 'digits' or not config.data.name.startswith(('folder', 'mnist', 'cifar', 'image'))
  for source in re.findall(r'--config=(\S+)', command):  # the experiment itself is there
    stem, _, variant = source.removeprefix('configs/').partition('.py')
    import_file(page.ROOT / 'configs' / f'{stem}.py').get_config(*filter(None, [variant.removeprefix(':')]))


def test_measurements_and_topics_that_commands_name_are_there():
  for command in COMMANDS:
    only, topic = re.search(r'evaluate .*--only=(\S+)', command), re.search(r'--topic=(\S+)', command)
    for name in only[1].split(',') if only else ():
      assert experiment.by_path('dgm_jax.evals', name if '.' in name else f'{name}.{name}'), command
    assert not topic or (page.ROOT / 'dgm_jax/pages/topics' / f'{topic[1]}.py').exists(), command


def test_small_variants_are_the_nearest():
  expected = {
    'configs/disentangle.py:factor': 'tiny_factor', 'configs/disentangle.py:beta_1': 'tiny',
    'configs/disentangle.py:capacity_color': 'tiny_capacity', 'configs/baselines.py:gaussian': 'tiny_gaussian',
    'configs/vqvae2_cifar10.py:prior_pp': 'tiny_prior_pp', 'configs/vae_digits.py': 'tiny',
    'configs/stylegan_mnist.py:traditional_small_8': 'tiny_traditional',
  }  # fmt: skip
  for source, variant in expected.items():
    assert page.tiny(source).partition(':')[2] == variant, source
  assert page.tiny('configs/stylegan_ffhq.py:fq_16').startswith('configs/stylegan_mnist.py:tiny')


def test_a_command_that_fails_is_named(tmp_path):
  wrong = run.run('python -m dgm_jax.report --topic=none_such', tmp_path, set())
  assert 'report --topic=none_such' in wrong and 'exit 2' in wrong and 'none_such' in wrong.splitlines()[-1]


TURN = int(os.environ.get('DECK_TURN', time.time() // 86_400)) % TURNS  # another third every day


@pytest.mark.parametrize('name', ALONE[TURN::TURNS])
def test_rows_that_no_other_test_trains_end_well(name, tmp_path):
  (command,) = [command for command in COMMANDS if f'configs/{name}.py' in command]
  assert not run.run(command, tmp_path, set())


README = readme.commands()
# Of these one is run every day; the others take long, and `make readme` runs them.
CHEAP = [line for line in README[1:] if not re.search('benchmark|study|--topic|vqvae2', line)]
TURN_OF_README = int(time.time() // 86_400) % len(CHEAP)


def test_the_readme_has_its_commands_in_order():
  assert README[:2] == ['make train', 'dgm train --config=vae_digits --workdir=runs/vae']
  text = readme.README.read_text()
  assert text.splitlines()[2:4] == [line for line in text.splitlines() if line.startswith('    make ')]
  assert len(text.splitlines()) < 160
  for verb in ('evaluate', 'sample', 'report', 'list', 'benchmark', 'study'):
    assert any(command.startswith(f'dgm {verb} ') for command in README), verb
  assert any('--checkpoint=best' in command for command in README)


@pytest.mark.parametrize('command', README)
def test_what_a_command_of_the_readme_reads_was_trained_above(command, tmp_path):
  earlier = README[: README.index(command)]
  folders = set(re.findall(r'runs/\w+', command)) - {page.trained(readme.as_python(command))}
  assert folders == {page.trained(readme.as_python(first)) for first in readme.needs(command, earlier)}
  assert all(':tiny' in word for word in readme.small(command, tmp_path) if word.startswith('--config=configs'))


@pytest.mark.parametrize('command', CHEAP[TURN_OF_README:][:1])
def test_a_command_of_the_readme_ends_well(command, tmp_path):
  """Another one every day, after those that train what it reads; `make readme` runs all in order."""
  readme.write_data(tmp_path)
  for one in (*readme.needs(command, README), command):
    assert not readme.call(one, tmp_path)
