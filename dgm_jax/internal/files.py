"""Whole files that a reader never sees half written."""

import os
import pathlib

__all__ = ['write_atomic']


def write_atomic(path: str | os.PathLike, data: bytes) -> None:
  """Replaces `path` by `data`: after a crash it holds the old bytes or the new ones, nothing between."""
  path = pathlib.Path(path)
  draft = path.with_name(f'.{path.name}.{os.getpid()}.tmp')  # same folder: a rename across file systems is not atomic
  try:
    with draft.open('wb') as file:
      file.write(data)
      file.flush()
      os.fsync(file.fileno())
    draft.replace(path)
  finally:
    draft.unlink(missing_ok=True)
