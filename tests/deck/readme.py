"""Runs every command of README.md, in order, at the size of a test, and fails on the first that does not end well.

Usage: python tests/deck/readme.py [NUMBER OF THE FIRST] [NUMBER AFTER THE LAST]
"""

import pathlib
import re
import shlex
import subprocess
import sys
import tempfile
import time

import numpy as np
import page
import run
from PIL import Image

README = page.ROOT / 'README.md'
ELSEWHERE = ('make test', '--config=... ')  # the suite itself, and what needs several machines
SECONDS = 600  # that a command may take


def commands(text=''):
  """The commands of the indented blocks of the page, without comments."""
  lines = [
    line.strip().partition('  #')[0].strip() for line in (text or README.read_text()).splitlines() if line[:4] == '    '
  ]
  found = [line for line in lines if re.match(r'(make|dgm|python) ', line)]
  return [line for line in found if not any(part in f'{line} ' for part in ELSEWHERE)]


def small(command, folder):
  """The words of a command after `python`, at the size of a test, with its runs and its data in another folder."""
  command = re.sub(r'^dgm (\w+)', r'python -m dgm_jax.\1', command)
  command = re.sub(r'--config=(\w+)(:\w+)?(?= |$)', r'--config=configs/\1.py\2', command)
  data = [word for word in shlex.split(command) if word.startswith('--config.data.')]
  words = page.small(command, folder)
  words += ['--config.picture_every=2'] if '--config=configs/vae_digits.py:tiny' in words and 'train' in command else []
  words += ['--seconds=0.2'] if 'dgm_jax.benchmark' in words else []
  return words + [word.replace('PATH', str(folder / 'data')).replace('FILE', str(folder / 'data')) for word in data]


def needs(command, before):
  """The commands of `before` that train into the folders that a command reads."""
  folders = [name for name in re.findall(r'runs/\w+', command) if page.trained(as_python(command)) != name]
  return [first for first in before if page.trained(as_python(first)) in folders]


def as_python(command):
  """The command with `python train.py` for `dgm train`."""
  return command.replace('dgm train ', 'python train.py ')


def write_data(folder):
  """Writes images, as a folder and as arrays, for the commands that read a user's own."""
  images = np.random.default_rng(0).integers(0, 256, (40, 8, 8), dtype=np.uint8)
  (folder / 'data').mkdir()
  for number, image in enumerate(images):
    Image.fromarray(image).save(folder / 'data' / f'{number}.png')
  np.savez(folder / 'data.npz', x=images)


def call(command, folder):
  """Runs a command. Returns what went wrong, '' if nothing did."""
  words, started = small(command, folder), time.perf_counter()
  options = {'cwd': page.ROOT, 'env': run.environment(folder), 'capture_output': True, 'text': True}
  try:
    ended = subprocess.run([sys.executable, *words], timeout=SECONDS, **options)
  except subprocess.TimeoutExpired:
    return f'{command}: it takes more than {SECONDS} s'
  print(f'  {time.perf_counter() - started:5.1f} s  {command}', flush=True)
  return f'{command}\n{" ".join(words)}: exit {ended.returncode}\n{ended.stderr[-2000:]}' if ended.returncode else ''


def main():
  part = slice(*(*map(int, sys.argv[1:]), None, None)[:2])
  with tempfile.TemporaryDirectory() as name:
    write_data(pathlib.Path(name))
    for command in commands()[part]:
      if wrong := call(command, pathlib.Path(name)):
        sys.exit(f'error: {wrong}')


if __name__ == '__main__':
  main()
