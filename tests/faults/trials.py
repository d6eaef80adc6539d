"""How many trials are made, and where their figures go: `make faults` makes all of them and keeps the record."""

import json
import os
import pathlib

RECORD = os.environ.get('FAULTS_RECORD', '')  # a file; '' for the few trials of `make test`, which leave none


def trials(few: int, all_of_them: int) -> int:
  """The number of trials: a few in `make test`, all of them in `make faults`."""
  return all_of_them if RECORD else few


def record(name: str, **figures) -> None:
  """Keeps the figures of one promise."""
  if RECORD:
    path = pathlib.Path(RECORD)
    page = json.loads(path.read_text()) if path.exists() else {}
    page.setdefault('measured', {})[name] = figures
    path.write_text(json.dumps(page, indent=2) + '\n')
