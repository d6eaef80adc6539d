"""The rows of docs/deck.md and their commands, and each command at the size of a test."""

import functools
import pathlib
import re
import shlex
from typing import NamedTuple

from dgm_jax.internal.files import import_file

ROOT = pathlib.Path(__file__).parents[2]
PAGE = ROOT / 'docs' / 'deck.md'
# Files that have no small experiment of their own: the programs are those of another.
STAND_INS = {
  'biggan_imagenet': 'biggan_cifar10', 'biggan_mnist': 'biggan_cifar10', 'stylegan_ffhq': 'stylegan_mnist',
  'tac_mnist': 'tac_cifar100',
}  # fmt: skip
# What their pictures and figures are of has factors.
FACTORS = {'disentangle': ('--config.data.name=sprites', '--config.data.size=16')}
SMALL = {
  'dgm_jax.evaluate': ('--samples=64',), 'dgm_jax.study': ('--steps=4', '--seeds=1', '--size=16'),
}  # fmt: skip
JUDGE = 'python train.py --config=configs/classifier_mnist.py --workdir=runs/classifier_mnist'


class Row(NamedTuple):
  """A row of the page: what it is about, and its commands."""

  slide: str
  symbols: str
  commands: tuple[str, ...]


def rows(text: str = '') -> list[Row]:
  """The rows of all tables of the page; the command is in the last cell."""
  cells = [line.strip().strip('|').split(' | ') for line in (text or PAGE.read_text()).splitlines() if line[:1] == '|']
  found = []
  for first, *others in ([cell.strip() for cell in line] for line in cells):
    if first not in ('slide', 'row') and not first.startswith('---'):
      spans = re.findall(r'`((?:python |make )[^`]+)`', others[-1])
      found.append(Row(first, ' '.join(others[:-1]), tuple(spans)))
  return found


def trained(command: str) -> str:
  """The folder that a command trains into; '' for a command that trains nothing."""
  if command == 'make train':
    return 'runs/vae_digits'
  found = re.search(r'--workdir=(\S+)', command)
  return found[1] if found and command.startswith('python train.py') else ''


def before(command: str) -> list[str]:
  """The commands that must have ended before a command: those that train what it reads and measure what it compares."""
  names = read_folders(command)
  measured = [f'python -m dgm_jax.evaluate --workdir={name} --only=mean.metrics' for name in names]
  return [trainer(name) for name in names] + measured * ('--compare' in command)


def read_folders(command: str) -> list[str]:
  """The folders of runs that a command reads."""
  return [name for name in re.findall(r'runs/\w+', command) if name != trained(command)]


@functools.cache
def tiny(source: str) -> str:
  """The small variant of an experiment 'configs/NAME.py:VARIANT': the one with the longest part of its name."""
  stem, _, variant = re.fullmatch(r'configs/(\w+)\.py(:(\w+))?', source).groups()
  stem = STAND_INS.get(stem, stem)
  names = [name for name in import_file(ROOT / 'configs' / f'{stem}.py').VARIANTS if name.startswith('tiny')]
  fitting = [name for name in names if name.removeprefix('tiny').strip('_') in (variant or '')]
  return f'configs/{stem}.py:{max(fitting or names, key=len)}'


def small(command: str, folder: pathlib.Path) -> list[str]:
  """The words of a command at the size of a test, its runs in another folder."""
  if command == 'make train':
    command = 'python train.py --config=configs/vae_digits.py --workdir=runs/vae_digits'
  command = re.sub(r'--config=(configs/\w+\.py(?::\w+)?)', lambda found: f'--config={tiny(found[1])}', command)
  command = re.sub(r'runs/(\w+)', lambda found: f'{folder}/{found[1]}', command)
  words = [word for word in shlex.split(command)[1:] if not word.startswith('--config.data.')]
  module = words[1] if words[0] == '-m' else ''
  words += [f'--out={folder}/page.html'] if module == 'dgm_jax.report' else []
  found = re.search(r'--config=configs/(\w+)', command)
  return [*words, *SMALL.get(module, ()), *FACTORS.get(found[1] if found else '', ())]


def trainer(name: str) -> str:
  """The command of the page that trains into a folder; a judge's own."""
  for row in rows():
    for command in row.commands:
      if trained(command) == name:
        return command
  return JUDGE if name == trained(JUDGE) else ''
