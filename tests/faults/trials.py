"""How many trials are made, and where their figures go: `make faults` makes all of them and keeps the record."""

import json
import os
import pathlib

RECORD = os.environ.get('FAULTS_RECORD', '')  # a file; '' for the few trials of `make test`, which leave none


SHARE = float(os.environ.get('FAULTS_SHARE', '1'))  # of all trials, for a slow machine; the record holds their number


def trials(few: int, all_of_them: int) -> int:
  """The number of trials: a few in `make test`, all of them in `make faults`."""
  return max(1, round(SHARE * all_of_them)) if RECORD else few


def record(name: str, **figures) -> None:
  """Keeps the figures of one promise."""
  if RECORD:
    from dgm_jax.internal.locks import file_lock
    from dgm_jax.runs import workdir

    path = pathlib.Path(RECORD)
    there = workdir.environment()
    page = {name: there[name] for name in ('device', 'versions', 'python', 'commit')}
    with file_lock(path.with_suffix('.lock')):  # two processes of tests write it
      measured = json.loads(path.read_text())['measured'] if path.exists() else {}
      workdir.write_json(path, page | {'measured': measured | {name: figures}})
