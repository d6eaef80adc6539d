"""One trainer a folder, and what a killed one leaves is taken over."""

import json
import os
import signal
import subprocess
import sys

import pytest
import runs
from trials import record

from dgm_jax.errors import UserError
from dgm_jax.runs.checkpoint import folder
from dgm_jax.runtime import lock

HOLD = """
import sys, time
from dgm_jax.runtime import lock
with lock.locked(sys.argv[1]):
  print('held', flush=True)
  time.sleep(60)
"""


def hold(folder):
  """A process that holds a folder."""
  process = subprocess.Popen(
    [sys.executable, '-c', HOLD, str(folder)], cwd=runs.ROOT, stdout=subprocess.PIPE, text=True
  )
  assert process.stdout.readline() == 'held\n'
  return process


def test_a_folder_that_is_trained_in_is_refused_and_one_left_by_a_killed_process_taken_over(tmp_path, capfd):
  process = hold(tmp_path)
  page = json.loads((tmp_path / lock.NAME).read_text())
  assert page['pid'] == process.pid and page['host'] and page['started']
  said = rf'is being trained by process {process.pid} on .*, started 20'
  with pytest.raises(UserError, match=said), lock.locked(tmp_path):
    pass
  process.send_signal(signal.SIGKILL)
  process.communicate()
  with lock.locked(tmp_path):
    assert json.loads((tmp_path / lock.NAME).read_text())['pid'] == os.getpid()
  assert f'warning: taking over {tmp_path} from process {process.pid} on ' in capfd.readouterr().err
  assert (tmp_path / lock.NAME).read_text() == ''
  with lock.locked(tmp_path):  # and from one that ended well, without a word
    pass
  assert capfd.readouterr().err == ''
  record('lock', second_trainer_refused=True, killed_one_taken_over=True)


def test_without_locks_of_the_file_system_the_page_decides(tmp_path, monkeypatch, capfd):
  def unsupported(*_):
    raise OSError(95, 'Operation not supported')

  monkeypatch.setattr('filelock.FileLock._acquire', unsupported)
  gone = subprocess.Popen([sys.executable, '-c', ''])
  gone.wait()
  page = {'host': lock.socket.gethostname(), 'started': '2020-01-01'}
  for pid, host, taken in (
    (gone.pid, page['host'], True),
    (os.getpid(), page['host'], False),
    (gone.pid, 'far', False),
  ):
    (tmp_path / lock.NAME).write_text(json.dumps(page | {'pid': pid, 'host': host}))
    if taken:
      with lock.locked(tmp_path):
        pass
      assert 'taking over' in capfd.readouterr().err
    else:
      with pytest.raises(UserError, match='if it is gone, remove'), lock.locked(tmp_path):
        pass


def test_a_page_that_was_cut_short_is_no_obstacle(tmp_path):
  (tmp_path / lock.NAME).write_text('{"host": "a", "pi')
  with lock.locked(tmp_path):
    assert json.loads((tmp_path / lock.NAME).read_text())['pid'] == os.getpid()


def test_no_lock_is_needed_from_fcntl(tmp_path, monkeypatch):
  """Without it a reader holds nothing, and a step is removed all the same."""
  monkeypatch.setattr(folder, 'fcntl', None)
  (tmp_path / '1').mkdir()
  with folder.hold(tmp_path / '1'):
    folder.remove(tmp_path / '1')
  assert not (tmp_path / '1').exists()
