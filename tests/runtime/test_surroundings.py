"""A machine that lacks something is answered by one line, and nothing is written."""

import os
import pathlib
import subprocess
import sys

import pytest

from dgm_jax.runtime import cli

ROOT = pathlib.Path(__file__).parents[2]
NOBODY = 'import pwd\ndef getpwuid(number): raise KeyError(number)\npwd.getpwuid = getpwuid\n'


def train(folder, **changes):
  """Exit code and stderr of a training; a change to None removes a variable."""
  env = {'JAX_PLATFORMS': 'cpu'} | {k: v for k, v in os.environ.items() if k != 'JAX_PLATFORMS'} | changes
  env = {key: value for key, value in env.items() if value is not None}
  words = [sys.executable, 'train.py', '--config=configs/vae_digits.py:tiny', f'--workdir={folder / "run"}']
  done = subprocess.run(words, cwd=ROOT, env=env, capture_output=True, text=True, timeout=120)
  assert not (folder / 'run').exists()
  return done.returncode, done.stderr.strip()


def test_devices_that_are_not_there(tmp_path):
  code, said = train(tmp_path, JAX_PLATFORMS='cuda')
  assert (code, said) == (2, 'error: JAX finds no device of JAX_PLATFORMS=cuda: leave it out, or give cpu')


def test_no_home(tmp_path):
  """Neither HOME nor an entry among the users, as in many containers."""
  (tmp_path / 'sitecustomize.py').write_text(NOBODY)
  code, said = train(tmp_path, HOME=None, DGM_JAX_CACHE=None, PYTHONPATH=str(tmp_path))
  assert code == 2 and said.startswith('error: there is no home folder') and '\n' not in said


@pytest.mark.parametrize(
  ('error', 'said'),
  [
    (PermissionError(13, 'Permission denied', '/r\x1b/run'), 'error: /r\\x1b/run: Permission denied; mend it'),
    (OSError(5, 'Input/output error'), 'error: OSError: Input/output error; mend it'),
    (MemoryError('Unable to allocate 3 TiB'), 'error: there is not enough memory (Unable to allocate 3 TiB): take'),
  ],
)
def test_what_the_machine_refuses_is_one_line(error, said, capsys, monkeypatch):
  def main(argv):
    raise error

  monkeypatch.delenv('DGM_JAX_TRACEBACK', raising=False)
  with pytest.raises(SystemExit) as end:
    cli.run(main, [])
  printed = capsys.readouterr().err
  assert end.value.code == 2 and printed.startswith(said) and printed.count('\n') == 1
  monkeypatch.setenv('DGM_JAX_TRACEBACK', '1')
  with pytest.raises(SystemExit):
    cli.run(main, [])
  assert 'Traceback' in capsys.readouterr().err
