"""Silence for what Orbax and its threads print about a failure, which is reported once."""

import contextlib
import functools
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ['quiet']

FOLLOWING = ('Event loop is closed', 'Encountered error while reading array index')
HOOKS = ((sys, 'excepthook'), (sys, 'unraisablehook'), (threading, 'excepthook'))


@contextlib.contextmanager
def quiet() -> Iterator[None]:
  """Silences what Orbax and its threads print about a failure, which is reported once.

  If the block fails, what only follows from a failure stays silent: reads that were given up may end at any time.
  """
  loggers = [logging.getLogger(name) for name in ('absl', 'asyncio')]
  hooks = {(module, name): getattr(module, name) for module, name in HOOKS}
  levels = [logger.level for logger in loggers]
  for logger in loggers:
    logger.setLevel(logging.CRITICAL)
  for (module, name), hook in hooks.items():
    if getattr(hook, 'func', None) is not _report:
      setattr(module, name, functools.partial(_report, hook))
  try:
    yield
    for (module, name), hook in hooks.items():
      setattr(module, name, hook)
  finally:
    for logger, level in zip(loggers, levels, strict=True):
      logger.setLevel(level)


def _report(hook: Callable, /, *error: Any) -> None:
  """Calls a hook for an uncaught exception, unless it is one of those that follow from a failure.

  When one of several reads or writes fails, the others find their event loop closed, or fail, too.
  """
  value = error[1] if len(error) == 3 else getattr(error[0], 'exc_value', '')
  if not any(said in str(value) for said in FOLLOWING):
    hook(*error)
