"""Runs the command of every row of docs/deck.md at the size of a test, and fails on the first that does not end well.

Usage: python tests/deck/run.py [PART OF A SLIDE'S NAME]
"""

import os
import pathlib
import subprocess
import sys
import tempfile
import time

import page

SECONDS = 600  # that a command may take


def environment(folder):
  """One CPU device, programs that are quick to compile, and a cache of them."""
  ours = {'JAX_PLATFORMS': 'cpu', 'JAX_NUM_CPU_DEVICES': '1', 'JAX_DISABLE_MOST_OPTIMIZATIONS': '1'}
  cache = pathlib.Path(os.environ.get('DGM_JAX_CACHE', '~/.cache/dgm_jax')).expanduser() / 'tests'
  return os.environ | ours | {'JAX_COMPILATION_CACHE_DIR': str(cache), 'PYTHONPATH': str(page.ROOT)}


def run(command, folder, done):
  """Runs a command, after those that train what it reads. Returns what went wrong, '' if nothing did."""
  if command in done:
    return ''
  for first in page.before(command):
    if wrong := run(first, folder, done):
      return wrong
  words, started = page.small(command, folder), time.perf_counter()
  env = environment(folder)
  program = [sys.executable, *words]
  try:
    ended = subprocess.run(program, cwd=page.ROOT, env=env, capture_output=True, text=True, timeout=SECONDS)
  except subprocess.TimeoutExpired:
    return f'{command}\n{" ".join(words)}: it takes more than {SECONDS} s'
  done.add(command)
  print(f'  {time.perf_counter() - started:5.1f} s  {" ".join(words)}', flush=True)
  return (
    '' if ended.returncode == 0 else f'{command}\n{" ".join(words)}: exit {ended.returncode}\n{ended.stderr[-2000:]}'
  )


def main():
  part, done, started = ' '.join(sys.argv[1:]), set(), time.perf_counter()
  with tempfile.TemporaryDirectory() as name:
    for row in page.rows():
      if part.lower() in row.slide.lower():
        print(row.slide, flush=True)
        for command in row.commands:
          if wrong := run(command, pathlib.Path(name), done):
            sys.exit(f'error: {wrong}')
  print(f'{len(done)} commands in {(time.perf_counter() - started) / 60:.0f} minutes')


if __name__ == '__main__':
  main()
