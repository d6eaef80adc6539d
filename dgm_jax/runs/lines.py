"""The JSON lines of a run, metrics.jsonl and timing.jsonl, as they are read."""

import json
import os
import pathlib
from typing import Any

__all__ = ['parse', 'read']


def read(path: str | os.PathLike) -> list[dict[str, Any]]:
  """The lines of a JSON lines file, without those that are torn; [] for a missing file."""
  path = pathlib.Path(path)
  lines = path.read_bytes().splitlines() if path.exists() else []
  return [record for record in map(parse, lines) if record is not None]


def parse(line: bytes) -> dict[str, Any] | None:
  """The record of a line, all its values but the split as numbers; None for a line that was cut short."""
  try:
    record = json.loads(line)
    int(record['step'])
    return {name: value if name in ('step', 'split') else float(value) for name, value in record.items()}
  except (ValueError, TypeError, KeyError):
    return None
