"""Other programs look at a run while it trains: none fails, and none ends the training."""

import signal
import time

import runs
from trials import record, trials

from dgm_jax.runs import checkpoint

FLAGS = (
  '--config.keep=1', '--config.best=', '--config.picture_every=0', '--config.steps=10000000', '--config.save_every=4',
  '--config.eval_every=0', '--config.optimizer.model.schedule=constant',
)  # fmt: skip


def test_a_run_that_keeps_one_step_is_read_while_it_trains(tmp_path):
  folder, read = tmp_path / 'run', set()
  process = runs.start(folder, *FLAGS)
  while not runs.newest(folder):
    assert process.poll() is None, runs.finish(process)
    time.sleep(0.05)
  for _ in range(trials(10, 200)):
    runs.final_state(folder)
    read.add(runs.newest(folder))
  assert process.poll() is None, runs.finish(process)
  process.send_signal(signal.SIGTERM)
  code, _, err = runs.finish(process)
  names = {path.name for path in (folder / 'checkpoints').iterdir()}
  record('readers beside a trainer', readings=trials(10, 200), failed=0, steps_seen=len(read), trainer_exit_code=code)
  assert code == 143, err
  assert names == {str(runs.newest(folder))}
  assert len(read) > 5 and checkpoint.steps(folder)
