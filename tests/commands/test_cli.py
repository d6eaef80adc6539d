"""A user's mistake is one line on stderr that says what and where, exit code 2, and no harm."""

import os
import pathlib
import resource
import subprocess
import sys
import time

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parents[2]
TINY = '--config=configs/vae_digits.py:tiny'


def command(*words, **environment):
  """Runs `python WORDS` in the clone's root, on one CPU device."""
  env = os.environ | {'JAX_PLATFORMS': 'cpu', 'JAX_NUM_CPU_DEVICES': '1'} | environment
  return subprocess.run([sys.executable, *words], cwd=ROOT, env=env, capture_output=True, text=True, timeout=300)


def mistake(*words, **environment):
  """The one line that a command ends with; before it, it may only have said what it is doing."""
  done = command(*words, **environment)
  lines = done.stderr.strip().splitlines()
  assert done.returncode == 2, done.stderr
  assert lines[-1].startswith('error: ') and all('decoding' in line for line in lines[:-1]), done.stderr
  return lines[-1]


@pytest.mark.parametrize(
  ('flag', 'said'),
  [
    ('--config.stpes=3', "config has no key 'stpes'; did you mean 'steps'?"),
    ('--config.model.latent=3', "config.model has no key 'latent'; did you mean 'latents'?"),
    ('--config.data.nmae=mnist', "config.data has no key 'nmae'; did you mean 'name'?"),
    ('--confg=3', "Unknown command line flag 'confg'. Did you mean: config ?"),
    ('--config.steps=many', "--config.steps=many: invalid literal for int() with base 10: 'many'"),
    ('--config.steps=-5', 'config.steps must not be negative, got -5'),
    ('--config.batch_size=0', 'config.batch_size must be at least 1, got 0'),
    ('--config.log_every=3', 'config.log_every=3 must be a multiple of config.steps_per_call=2'),
    (
      '--config.optimizer.model.name=adma',
      "must be one of adam, adamax, adagrad, rmsprop, sgd, got 'adma'; did you mean",
    ),
    ('--config.dtype=float16', 'config.dtype must be one of float32, bfloat16'),
    ('--config.seed=-1', 'config.seed must be in [0, 2^32), got -1'),
    (f'--config.seed={2**70}', f'config.seed must be in [0, 2^32), got {2**70}'),
    ('--config.epochs=nan', 'config.epochs must be a finite number, got nan'),
    ('--config.optimizer.model.learning_rate=inf', 'learning_rate must be a finite number, got inf'),
    ('--config.optimizer.model.b1=1.5', 'config.optimizer.model.b1 must be in [0, 1), got 1.5'),
    ('--config.optimizer.model.eps=-1', 'config.optimizer.model.eps must not be negative, got -1.0'),
    ('--config.optimizer.model.momentum=1', 'config.optimizer.model.momentum must be in [0, 1), got 1.0'),
    ('--config.data.examples=7', 'config.data.examples is filled in by the program: leave it out'),
    ('--config.model.latents=(4', "config.model.latents must be a tuple like (4,), got ('(4',)"),
    ('--config.model.latents=3.5', 'config.model.latents must be a tuple like (4,), got (3.5,)'),
    ('--config.model.hidden=(3,)', 'config.model.hidden must be a tuple like ((16,),), got (3,)'),
    ('--config.stage_epochs=(1,None)', 'config.stage_epochs[1] must be a number, got None'),
    ('--config.model=3', '--config.model=3: '),
    ('--config.data={1: 2}', 'config.data must have words as keys, got 1: write {"key": value}'),
    (
      '--config.nll={"rows": 3}',
      'config.nll lacks examples, samples: give single keys, such as --config.nll.examples=VALUE',
    ),
    ('--config.source=x', 'config.source is filled in by the program: leave it out'),
    ('--processes=2', '--processes needs the address of process 0: add --coordinator=HOST:PORT'),
    ('--coordinator=nowhere', "--coordinator=nowhere must be HOST:PORT, or 'auto'"),
    ('--process=1', '--process=1 must be in [0, 1), the number of --processes'),
  ],
)
def test_a_wrong_flag_is_answered_without_jax(flag, said, tmp_path):
  # A module of that name that cannot be imported stands in front of JAX.
  (tmp_path / 'jax.py').write_text('raise SystemExit("jax was imported")')
  line = mistake('train.py', TINY, f'--workdir={tmp_path / "run"}', flag, PYTHONPATH=str(tmp_path))
  assert said in line
  assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize(
  ('words', 'said'),
  [
    ([TINY], 'no folder given for the run; add --workdir=DIR'),
    (['--workdir=w'], 'no experiment given; add --config=NAME, one of those that --list names'),
    (['--config=configs/vae_digits.py:tny', '--workdir=w'], "no variant 'tny'; did you mean 'tiny'?"),
    ([TINY, '--workdir=w', '--config.stpes=3', '--on_nan=x'], 'flag --on_nan=x: value should be one of'),
    (['--config=configs/nowhere.py', '--workdir=w'], 'configs/nowhere.py'),
  ],
)
def test_an_incomplete_command_says_what_is_missing(words, said):
  assert said in mistake('train.py', *words)
  assert not (ROOT / 'w').exists()


def test_help_and_a_mistyped_key_answer_at_once():
  """Within a second of processor time, which other programs on the machine do not lengthen."""
  for words in (['--help'], [TINY, '--config.stpes=3', '--workdir=w']):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command('train.py', *words)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime <= 1.0


def test_help_of_every_command_names_its_flags():
  for words, flag in (
    (['train.py'], '--workdir'), (['train.py'], '--config: '), (['train.py'], '--[no]list'),
    (['-m', 'dgm_jax.evaluate'], '--samples'), (['-m', 'dgm_jax.sample'], '--n:'),
  ):  # fmt: skip
    done = command(*words, '--help')
    assert done.returncode == 0 and flag in done.stdout, done.stderr


def test_list_prints_the_experiments_and_their_variants():
  done = command('train.py', '--list')
  lines = done.stdout.splitlines()
  assert done.returncode == 0 and not done.stderr
  assert any(line.startswith('vae_digits: A variational autoencoder') for line in lines)
  assert '  vae_digits:tiny' in lines
  assert 'there is no file configs/none/x.py' in mistake('train.py', '--list', '--config=configs/none/x.py')


def test_a_dataset_that_is_not_there_is_missed_at_once(tmp_path):
  started = time.perf_counter()
  line = mistake(
    'train.py', TINY, '--config.data.name=mnist', f'--workdir={tmp_path / "run"}', TFDS_DATA_DIR=str(tmp_path)
  )
  assert 'mnist' in line and str(tmp_path) in line and 'dgm_jax.prepare' in line
  assert time.perf_counter() - started < 30  # no wait for a network
  assert not (tmp_path / 'run').exists()


def test_data_that_cannot_be_used_is_named(tmp_path):
  (tmp_path / 'images').mkdir()
  (tmp_path / 'images' / 'broken.png').write_bytes(b'no image')
  np.save(tmp_path / 'flat.npy', np.zeros((20, 3), np.uint8))
  run = f'--workdir={tmp_path / "run"}'
  assert 'broken.png' in mistake('train.py', TINY, f'--config.data.name=folder:{tmp_path / "images"}', run)
  assert 'flat.npy' in mistake('train.py', TINY, f'--config.data.name=npy:{tmp_path / "flat.npy"}', run)
  (tmp_path / 'binarized_mnist_train.amat').write_text('0 1\n')
  for part in ('valid', 'test'):
    (tmp_path / f'binarized_mnist_{part}.amat').write_text('')
  assert 'has 2 numbers, where' in mistake('train.py', TINY, f'--config.data.name=amat:{tmp_path}', run)
  assert not (tmp_path / 'run').exists()


def test_a_batch_that_the_devices_do_not_divide_is_refused(tmp_path):
  flags = ['--config.batch_size=12', f'--workdir={tmp_path / "run"}']
  line = mistake('train.py', TINY, *flags, JAX_NUM_CPU_DEVICES='8')
  assert 'config.batch_size=12 is not divisible by the 8 devices; try --config.batch_size=8' in line


@pytest.mark.parametrize(
  ('flag', 'said'),
  [
    ('system=vae.iwea', "dgm_jax.systems.vae has no 'iwea'; did you mean 'iwae'?"),
    ('system=vae.networks', "dgm_jax.systems.vae has no 'networks'"),
    ('system=likelihoods.bernoulli', "dgm_jax.systems has no 'likelihoods.bernoulli'"),
    ('system=build.build', "dgm_jax.systems has no 'build.build'; its modules are"),
    ('data.name=points:25gaussians', 'vae.vae takes images; config.data has points of (2,)'),
  ],
)
def test_a_system_that_is_none_or_does_not_fit_the_data_is_named(flag, said, tmp_path):
  words = ['--config.data.preprocess=identity'] if flag.startswith('data') else []
  assert said in mistake('train.py', TINY, f'--config.{flag}', *words, f'--workdir={tmp_path / "run"}')


def test_a_workdir_that_cannot_be_written_is_refused(tmp_path):
  (tmp_path / 'file').write_text('')
  assert 'cannot be written' in mistake('train.py', TINY, f'--workdir={tmp_path / "file" / "run"}')


def test_a_workdir_of_another_experiment_is_left_alone(tmp_path):
  workdir = f'--workdir={tmp_path}'
  done = command('train.py', TINY, '--config.steps=4', workdir)
  assert done.returncode == 0, done.stderr
  before = {path: path.read_bytes() for path in tmp_path.rglob('*') if path.is_file()}
  line = mistake('train.py', TINY, '--config.steps=4', '--config.batch_size=32', workdir)
  assert 'holds a run of another config (batch_size: 16 -> 32)' in line
  assert {path: path.read_bytes() for path in tmp_path.rglob('*') if path.is_file()} == before


def test_a_folder_that_is_no_workdir_is_refused(tmp_path):
  for tool in ('evaluate', 'sample'):
    assert 'is not a workdir' in mistake('-m', f'dgm_jax.{tool}', f'--workdir={tmp_path}')
  assert str(tmp_path) in mistake('-m', 'dgm_jax.report', f'--workdir={tmp_path}')


NOISY = """
import logging, threading, time
from dgm_jax import errors
from dgm_jax.runtime import cli

def complain():
  while True:
    logging.getLogger('saving').error('the loop is closed\\nin a callback')
    threading.Thread(target=int, args=('x',)).start()

def main(argv):
  for _ in range(3):
    threading.Thread(target=complain, daemon=True).start()
  time.sleep(0.2)
  raise errors.Halt('the disk is full', errors.UNSAVED)

cli.run(main, [])
"""


def test_threads_that_a_failed_save_leaves_behind_do_not_have_the_last_word():
  for _ in range(3):
    done = command('-c', NOISY)
    assert done.returncode == 4
    assert done.stderr.splitlines()[-1] == 'error: the disk is full'
  assert 'in a callback' in done.stderr and 'ValueError' in done.stderr  # they did have others


def test_a_reader_that_goes_away_ends_nothing(tmp_path):
  """`train | head -1`: the run goes on to its end, and so does the exit code."""
  command = [sys.executable, 'train.py', '--config=configs/vae_digits.py:tiny', f'--workdir={tmp_path}/run']
  with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
    process.stdout.readline()
    process.stdout.close()
    errors = process.stderr.read().decode()
  assert process.returncode == 0, errors
  assert 'Traceback' not in errors and 'Broken' not in errors
  assert (tmp_path / 'run' / 'checkpoints' / '12').is_dir()


def test_a_full_output_ends_nothing():
  """/dev/full refuses every byte."""
  with open('/dev/full', 'w') as full:
    done = subprocess.run(
      [sys.executable, '-m', 'dgm_jax.sample', '--help'], cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True
    )
  assert (done.returncode, done.stderr) == (0, '')
