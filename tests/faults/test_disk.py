"""A disk that fills up: no drafts are left, the last good step stands, and a line says where and how full."""

import re
import subprocess
import sys

import pytest
import runs
from trials import record, trials

from dgm_jax.runs import checkpoint

SHELL = 'mount -t tmpfs -o size={size}m tmpfs {disk} && {command}; code=$?; cp -r {disk}/. {kept}; exit $code'
POSSIBLE = subprocess.run(['unshare', '-rm', 'true'], capture_output=True).returncode == 0
# A million parameters, and two moments of each: a checkpoint of 12 MB.
FLAGS = (
  '--config.model.hidden=((2048,),)', '--config.model.latents=(128,)', '--config.picture_every=0',
  '--config.eval_every=0', '--config.best=', '--config.save_every=40',
)  # fmt: skip


def on_a_small_disk(folder, size, *flags):
  """Runs `train.py` in a mount of its own; returns the exit code, the last line, and a copy of what is left."""
  disk, kept = folder / 'disk', folder / 'kept'
  disk.mkdir(parents=True)
  words = [sys.executable, 'train.py', *runs.FLAGS, *FLAGS, *flags, f'--workdir={disk / "run"}']
  command = ' '.join(f"'{word}'" for word in words)
  shell = SHELL.format(size=size, disk=disk, command=command, kept=kept)
  kept.mkdir()
  done = subprocess.run(
    ['unshare', '-rm', 'sh', '-c', shell], cwd=runs.ROOT, env=runs.environment(), capture_output=True, text=True,
    timeout=300,
  )  # fmt: skip
  return done.returncode, (done.stderr.strip().splitlines() or [''])[-1], kept / 'run', done


@pytest.mark.skipif(not POSSIBLE, reason='no mounts of its own for a user here')
def test_a_full_disk_ends_the_run_with_one_line_and_leaves_no_drafts(tmp_path):
  orphans, restorable, sizes = 0, 0, [27, 33, 45][: trials(1, 3)]
  for number, size in enumerate(sizes):
    code, line, kept, done = on_a_small_disk(tmp_path / str(number), size, '--config.keep=8')
    assert code == 4, done.stderr[-2000:]
    assert re.match(r'error: no checkpoint can be written to .*/run/checkpoints: the disk is full '
                    r'\([\d,]+ bytes free\); the last good one is of step \d+', line), line  # fmt: skip
    names = {path.name for path in (kept / 'checkpoints').iterdir()}
    orphans += len([name for name in names if not name.isdigit()])
    last = checkpoint.steps(kept)[-1]
    assert f'step {last}' in line
    runs.final_state(kept)
    restorable += runs.newest(kept) == last
    runs.complete(kept, *FLAGS)  # with room again
  record('full disk', trials=len(sizes), drafts_left=orphans, last_step_restorable=restorable)
  assert orphans == 0 and restorable == len(sizes)


@pytest.mark.skipif(not POSSIBLE, reason='no mounts of its own for a user here')
def test_a_disk_without_room_for_checkpoints_is_refused_before_the_first_step(tmp_path):
  code, line, kept, done = on_a_small_disk(tmp_path, 4)
  assert code == 2, done.stderr[-2000:]
  assert re.match(r'error: .*/run has [\d,]+ bytes free, and checkpoints need [\d,]+: free some space first', line), (
    line
  )
  assert not checkpoint.steps(kept) and 'first call' not in done.stdout
