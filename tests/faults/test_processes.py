"""Two processes train one run: asked to end, killed, and taken up again by one."""

import shutil
import signal
import socket
import time

import pytest
import runs
import shims
from trials import record, trials

HEARTBEAT = 10


def pair(folder, *flags, second=(), first=None, **changes):
  """Two processes of one device each; the second has flags and surroundings of its own, too."""
  with socket.socket() as probe:
    probe.bind(('127.0.0.1', 0))
    address = f'127.0.0.1:{probe.getsockname()[1]}'
  flags = (*flags, f'--coordinator={address}', '--processes=2', f'--heartbeat={HEARTBEAT}')
  zero = runs.start(folder, *flags, '--process=0', **(first or {}))
  return [zero, runs.start(folder, *flags, *second, '--process=1', **changes)]


def wait_for_step(folder, step, processes):
  """Until a figure of the step is written."""
  path = folder / 'metrics.jsonl'
  while not (path.exists() and f'"step": {step},' in path.read_text()):
    assert all(process.poll() is None for process in processes), [runs.finish(p)[2][-800:] for p in processes]
    time.sleep(0.01)


@pytest.fixture(scope='module')
def undisturbed(tmp_path_factory):
  """A run of two processes that nothing disturbed."""
  folder = tmp_path_factory.mktemp('undisturbed') / 'run'
  for code, _, err in map(runs.finish, pair(folder)):
    assert code == 0, err
  return folder


def test_a_signal_to_one_of_two_makes_both_save_the_same_step(tmp_path, undisturbed):
  good, seconds = 0, []
  for number in range(trials(1, 6)):
    folder = tmp_path / str(number) / 'run'
    # All but the first go on for so long that none is over before the other process has heard.
    processes = pair(folder, *(['--config.steps=1000000'] if number else []))
    wait_for_step(folder, 8 + 20 * number, processes)
    sent = time.monotonic()
    processes[number % 2].send_signal(signal.SIGTERM)
    ended = [runs.finish(process, 60) for process in processes]
    seconds.append(time.monotonic() - sent)
    codes, step = [code for code, _, _ in ended], runs.newest(folder)
    assert codes == [143, 143], [err[-1500:] for _, _, err in ended]
    assert f'with step {step} of' in ended[0][1]
    if number == 0:  # taken up by one process of two devices
      runs.complete(folder, devices=2)
      assert runs.same(folder, undisturbed)
    good += 1
  record('two processes, signal to one', trials=good, both_saved_the_same_step=good, most_seconds=max(seconds))


def test_two_killed_processes_are_taken_up_by_one_with_the_same_end(tmp_path, undisturbed):
  folder = tmp_path / 'run'
  processes = pair(folder)
  wait_for_step(folder, 100, processes)
  for process in processes:
    process.send_signal(signal.SIGKILL)
  assert [runs.finish(process)[0] for process in processes] == [-9, -9]
  assert 40 <= runs.newest(folder) <= 240
  alone = tmp_path / 'alone' / 'run'
  shutil.copytree(folder, alone)
  runs.complete(alone, devices=2)
  same = runs.same(alone, undisturbed)
  record('two processes, killed, then one', identical_in_the_end=same)
  assert same


def test_the_other_of_two_ends_soon_after_one_was_killed(tmp_path):
  seconds, codes = [], []
  for number in range(trials(1, 4)):
    folder = tmp_path / str(number) / 'run'
    processes = pair(folder, '--config.steps=1000000')
    wait_for_step(folder, 44, processes)
    while not runs.newest(folder) and all(process.poll() is None for process in processes):
      time.sleep(0.01)
    killed, other = processes[number % 2], processes[1 - number % 2]
    killed.send_signal(signal.SIGKILL)
    sent = time.monotonic()
    code, _, err = runs.finish(other, HEARTBEAT + 5)
    seconds.append(time.monotonic() - sent)
    codes.append(code)
    runs.finish(killed)
    ours = f'error: process {1 - number % 2} cannot go on, most likely because another one has ended' in err
    assert (code == 5 and ours) or 'most likely indicates that another task died' in err, err[-1500:]
    assert runs.newest(folder) >= 40
  record('two processes, one killed', trials=len(codes), heartbeat=HEARTBEAT, most_seconds=max(seconds), codes=codes)
  assert max(seconds) < HEARTBEAT + 5


# What the second process has of its own, and what all of them say.
UNLIKE = {
  'a learning rate': (['--config.optimizer.model.learning_rate=0.5'], 'config.optimizer.model.learning_rate: '),
  'a seed': (['--config.seed=7'], 'config.seed: 0 -> 7'),
  'a length': (['--config.steps=300'], 'config.steps: 240 -> 300'),
  'a batch size': (['--config.batch_size=32'], 'config.batch_size: '),
  'a network': (['--config.model.latents=(3,)'], 'config.model.latents: '),
  'examples of validation': (['--config.data.valid_size=60'], 'config.data.examples: '),
  'an answer to NaN': (['--on_nan=rollback'], '--on_nan: 0 rollbacks -> 3 rollbacks'),
  'a mistake': (['--config.batch_size=0'], 'config.batch_size must be at least 1, got 0'),
  'a mistyped key': (['--config.stpes=3'], "no key 'stpes'; did you mean 'steps'"),
  'data that is not there': (['--config.data.name=folder:none'], 'none'),
}  # fmt: skip


def refused(processes):
  """What both processes said, which must be one line each, and the same."""
  ended = [runs.finish(process, 120) for process in processes]
  assert [code for code, _, _ in ended] == [2, 2], ended
  lines = [err.strip().replace('error: process 1: ', 'error: ') for _, _, err in ended]  # the one does not name itself
  assert lines[0] == lines[1] and '\n' not in lines[0] and lines[0].startswith('error: '), lines
  return lines[0]


def test_processes_that_are_unlike_in_anything_that_matters_are_refused(tmp_path):
  names = [*UNLIKE][:: trials(5, 1)]
  for name in names:
    flags, said = UNLIKE[name]
    assert said in refused(pair(tmp_path / 'run', second=flags)), name
    assert not (tmp_path / 'run').exists(), name
  record('processes that are unlike', kinds=len(names), refused_by_one_line_on_both=len(names))


def test_processes_of_different_code_are_refused(tmp_path):
  other = tmp_path / 'other'
  shutil.copytree(runs.ROOT / 'dgm_jax', other / 'dgm_jax')
  with (other / 'dgm_jax' / 'losses' / 'variational.py').open('a') as file:
    file.write('# changed\n')
  said = refused(pair(tmp_path / 'run', PYTHONPATH=str(other), PYTHONSAFEPATH='1'))
  assert 'source.losses/variational.py: ' in said


def test_what_the_main_process_refuses_ends_both(tmp_path):
  runs.complete(tmp_path / 'run', '--config.steps=4')
  before = {path: path.read_bytes() for path in (tmp_path / 'run').rglob('*') if path.is_file()}
  assert 'add --allow_config_change' in refused(pair(tmp_path / 'run', '--config.steps=4', '--config.seed=1'))
  assert before == {path: path.read_bytes() for path in (tmp_path / 'run').rglob('*') if path.is_file()}


# A fault of one process: which, the shim's settings, the codes of both, and what one of them says.
FAULTS = {
  'a save that cannot be renamed': (
    0, '/run/checkpoints/16', 'rename', 'EIO', 1, {4, 5}, 'no checkpoint can be written'),
  'a disk that is full': (0, '/run/checkpoints', 'write', 'ENOSPC', 10**6, {4, 5}, 'the disk is full'),
  'a save that is not on the disk': (
    0, '/run/checkpoints/16/', 'fsync', 'EIO', 10**6, {4, 5}, 'no checkpoint can be written'),
  'a checkpoint that one reads at the second attempt': (1, '/run/checkpoints/40/state', 'read', 'EIO', 1, {0}, ''),
  'checkpoints that one cannot list': (1, '/run/checkpoints', 'list', 'EIO', 10**6, {2}, 'process 1: '),
  'figures that one cannot cut': (0, '/run/metrics.jsonl', 'open', 'EACCES', 10**6, {2}, 'metrics.jsonl'),
  'a lock that cannot be written': (0, '/run/lock.json', 'write', 'EACCES', 10**6, {2}, 'cannot be written'),
}  # fmt: skip


@shims.needed
def test_a_fault_of_one_process_ends_or_spares_both(tmp_path):
  """None waits for another that has ended for longer than the heartbeat and a little."""
  library, names = shims.build(tmp_path), [*FAULTS][:: trials(4, 1)]
  runs.complete(tmp_path / 'made' / 'run', '--config.steps=40', devices=2)
  for number, name in enumerate(names):
    process, place, call, error, times, codes, said = FAULTS[name]
    folder = tmp_path / str(number) / 'run'
    if '40' in place or call in ('list', 'open'):
      shutil.copytree(tmp_path / 'made' / 'run', folder)
    changes = shims.faults(library, place, call, error, times)
    flags = ('--config.steps=60', '--config.save_every=8', '--config.eval_every=0', '--config.picture_every=0')
    both = pair(folder, *flags, first=changes if process == 0 else {}, **(changes if process else {}))
    ended = [runs.finish(one, 60 + HEARTBEAT) for one in both]
    # JAX's own end of a process whose coordinator is gone is an abort.
    assert {code for code, _, _ in ended} <= codes | ({-6} if 4 in codes else set()), (name, ended)
    assert any(said in err for _, _, err in ended), (name, ended)
    assert not list(folder.glob('checkpoints/*corrupt*'))
  record('a fault of one of two processes', kinds=len(names), ended_or_spared_both=len(names))
