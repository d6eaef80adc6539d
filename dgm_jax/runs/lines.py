"""The JSON lines of a run, metrics.jsonl and timing.jsonl, as they are read."""

import json
import os
from typing import Any

from dgm_jax.errors import UserError
from dgm_jax.internal.files import read_bytes

__all__ = ['parse', 'raw', 'read']


def read(path: str | os.PathLike) -> list[dict[str, Any]]:
  """Returns the records of a JSON lines file, without torn lines; [] for a missing file."""
  return [record for record in map(parse, raw(path)) if record is not None]


def raw(path: str | os.PathLike) -> list[bytes]:
  """Returns the lines of a file, [] if it is missing.

  Raises:
    UserError: it cannot be read.
  """
  try:
    return read_bytes(path).splitlines()
  except FileNotFoundError:
    return []
  except OSError as error:
    raise UserError(f'{path} cannot be read ({error.strerror}): move it away') from error


def parse(line: bytes) -> dict[str, Any] | None:
  """Parses a line into its record, with all values but the split as numbers. Returns None for a torn line."""
  try:
    record = json.loads(line)
    int(record['step'])
    return {name: value if name in ('step', 'split') else float(value) for name, value in record.items()}
  except (ValueError, TypeError, KeyError):
    return None
