import signal

import pytest
import runs

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as in a shell's background jobs, whose children inherit it
  signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope='session')
def whole(tmp_path_factory):
  """A run that nothing disturbed."""
  folder = tmp_path_factory.mktemp('whole') / 'run'
  runs.complete(folder)
  return folder
