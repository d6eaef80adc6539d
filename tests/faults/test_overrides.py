"""Random settings on the command line: a run, or one line; never a traceback, a hang, or a folder that is touched."""

import collections
import concurrent.futures
import json

import forks
import overrides
import runs
from trials import RECORD, record, trials

CODES = (0, 2, 3)  # of docs/reliability.md: complete, a mistake, no longer finite
SEED = 20_000
TRAINED = 5  # of so many commands one goes on to train; the others end when all is checked


def faults(answer: dict, folder) -> list[str]:
  """What a command did that it may not."""
  lines = answer['err'].strip().splitlines()
  wrong = [f'code {answer["code"]}'] * (answer['code'] not in CODES)
  wrong += ['traceback'] * ('Traceback' in answer['err'] + answer['out'])
  if answer['code'] == 2:
    wrong += ['folder'] * folder.exists()
    errors = [line for line in lines if 'decoding' not in line and not line.startswith('warning: ')]
    wrong += ['lines'] * (len(errors) != 1 or not errors[-1].startswith('error: '))
  return wrong


def attempts(tmp_path, seeds, names: list[str]) -> list[tuple[list[str], dict, list[str]]]:
  """(words, answer, faults) of the commands of these seeds, one after another."""
  done = []
  environment = {'JAX_PLATFORMS': 'cpu', 'JAX_NUM_CPU_DEVICES': '1'}
  with forks.Server(runs.ROOT, **environment) as server:
    for seed in seeds:
      folder, words = tmp_path / str(seed), overrides.command(seed, names)
      only_checks = not RECORD or seed % TRAINED > 0
      answer = server.run('train', f'--workdir={folder}', *words, only_checks=only_checks)
      done.append((words, answer, faults(answer, folder)))
  return done


def test_random_overrides_are_trained_or_refused_in_one_line(tmp_path):
  count, names = trials(60, 1000), overrides.experiments()
  seeds = range(SEED, SEED + count)
  with concurrent.futures.ThreadPoolExecutor(2) as pool:
    parts = list(pool.map(lambda first: attempts(tmp_path, seeds[first::2], names), (0, 1)))
  done = [attempt for part in parts for attempt in part]
  codes = collections.Counter(str(answer['code']) for _, answer, _ in done)
  wrong = [(words, answer['code'], found, answer['err'][-800:]) for words, answer, found in done if found]
  record(
    'random overrides', overrides=len(done), refused=codes['2'], accepted=codes['0'] + codes['3'], faults=len(wrong)
  )
  assert not wrong, json.dumps(wrong[:5], indent=1)
