import pytest
import runs


@pytest.fixture(scope='session')
def whole(tmp_path_factory):
  """A run that nothing disturbed."""
  folder = tmp_path_factory.mktemp('whole') / 'run'
  runs.complete(folder)
  return folder
