"""The loop as its users run it: killed and started again, on two processes, on their own data."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from dgm_jax import config as experiment
from dgm_jax import training
from dgm_jax.commands import evaluate
from dgm_jax.errors import UserError
from dgm_jax.pages import catalogue, records
from dgm_jax.runs import checkpoint, lines, workdir
from dgm_jax.training import log

ROOT = pathlib.Path(__file__).parents[2]
ENV = os.environ | {'JAX_PLATFORMS': 'cpu', 'JAX_NUM_CPU_DEVICES': '1'}
STEPS = 240


def train(folder, *flags):
  """Starts `train.py` on the tiny digits, with a checkpoint every 20 steps."""
  words = ['train.py', '--config=configs/vae_digits.py:tiny', f'--workdir={folder}', f'--config.steps={STEPS}']
  words += ['--config.log_every=4', '--config.eval_every=40', '--config.save_every=20', '--config.picture_every=0']
  pipe = subprocess.PIPE
  return subprocess.Popen([sys.executable, *words, *flags], cwd=ROOT, env=ENV, stdout=pipe, stderr=pipe, text=True)


def finish(process):
  out, err = process.communicate(timeout=300)
  assert process.returncode == 0, err
  return out


def final_state(folder):
  config = experiment.load(folder)
  state = workdir.open_subject(folder, '', config=config).state
  return jax.tree.map(np.asarray, state)


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
  """A run that nothing disturbed."""
  folder = tmp_path_factory.mktemp('whole')
  out = finish(train(folder))
  return folder, out


def test_a_run_ends_with_its_test_figure_and_leaves_what_it_promises(whole):
  folder, out = whole
  assert any('test' in line and 'neg_elbo_nats=' in line for line in out.splitlines()[-4:])
  for name in ('config.json', 'env.json', 'metrics.jsonl', 'timing.jsonl', 'report.html'):
    assert (folder / name).stat().st_size > 0, name
  assert checkpoint.steps(folder)[-1] == STEPS
  assert list((folder / 'tb').glob('events*'))


def test_a_record_has_the_fields_of_the_schema_and_says_who_trained_and_who_measured(whole, monkeypatch):
  subject = workdir.open_subject(whole[0], 'test')
  trained = workdir.commit()
  monkeypatch.setattr(workdir, 'commit', lambda: 'later')
  page = evaluate.record(whole[0], subject, 'test', {'neg_elbo_nats': 1.0}) | {'evaluation_seconds': 1.0}
  assert tuple(page) == records.FIELDS
  records.check('it', json.loads(json.dumps(page)), records.FIELDS)
  assert (page['trained_at'], page['measured_at']) == (trained, 'later')
  assert page['parameters']['total'] == sum(leaf.size for leaf in jax.tree.leaves(subject.state.params))
  assert page['settings']['model'] == catalogue.essence(subject.config)['model']


def test_a_killed_run_ends_with_the_bits_of_an_undisturbed_one(whole, tmp_path):
  """SIGKILL as soon as two checkpoints stand, hence somewhere between them and the end; then the same command.

  The examples, which lay on the device, are then read on the host.
  """
  process = train(tmp_path)
  while len(checkpoint.steps(tmp_path)) < 2 and process.poll() is None:
    time.sleep(0.001)
  process.send_signal(signal.SIGKILL)
  process.communicate()
  assert process.returncode == -signal.SIGKILL
  assert checkpoint.steps(tmp_path)[-1] < STEPS
  out = finish(train(tmp_path, '--config.data.where=host'))
  assert 'going on from the checkpoint of step' in out and 'on the host, read one call ahead' in out
  folder, _ = whole
  same = jax.tree.map(np.array_equal, final_state(tmp_path), final_state(folder))
  assert jax.tree.all(same)
  assert (tmp_path / 'metrics.jsonl').read_bytes() == (folder / 'metrics.jsonl').read_bytes()


def test_a_finished_run_is_not_run_again(whole):
  folder, _ = whole
  before = (folder / 'metrics.jsonl').read_bytes()
  assert 'the run is complete' in finish(train(folder))
  assert (folder / 'metrics.jsonl').read_bytes() == before


def test_two_processes_train_one_run_and_one_process_restores_it(whole, tmp_path):
  with socket.socket() as probe:
    probe.bind(('127.0.0.1', 0))
    address = f'127.0.0.1:{probe.getsockname()[1]}'
  shared = [f'--coordinator={address}', '--processes=2', '--config.data.where=host']  # each reads its own rows
  pair = [train(tmp_path, *shared, f'--process={i}') for i in range(2)]
  outs = [finish(process) for process in pair]
  assert '2 x cpu' in outs[0]
  assert all(line.startswith('[Gloo]') for line in outs[1].splitlines())  # one process speaks
  assert checkpoint.steps(tmp_path)[-1] == STEPS
  folder, _ = whole
  apart = jax.tree.map(lambda a, b: np.max(np.abs(a - b)), final_state(tmp_path).params, final_state(folder).params)
  assert max(jax.tree.leaves(apart)) < 1e-4
  read = [sys.executable, '-m', 'dgm_jax.evaluate', f'--workdir={tmp_path}', '--split=valid', '--only=mean.metrics']
  done = subprocess.run(read, cwd=ROOT, env=ENV, capture_output=True, text=True, timeout=300)
  assert done.returncode == 0, done.stderr
  page = json.loads((tmp_path / 'evaluation_valid.json').read_text())
  logged = [line for line in lines.read(tmp_path / 'metrics.jsonl') if line['split'] == 'valid'][-1]
  assert page['metrics']['neg_elbo_nats'] == pytest.approx(logged['neg_elbo_nats'], rel=1e-5)


def config_of(**changes):
  config = experiment.defaults()
  config.system = 'vae.vae'
  config.data.update({'name': 'digits', 'preprocess': 'dynamic_binarize', 'valid_size': 100})
  config.model = {
    'hidden': ((8,),), 'latents': (3,), 'channels': (), 'activation': 'tanh', 'likelihood': 'bernoulli', 'samples': 1,
  }  # fmt: skip
  # With a smaller eps Adam divides the rounding of gradients that nearly cancel by their own size.
  config.optimizer = {'model': experiment.optimizer(eps=1e-4 / 16)}
  experiment.shrink(config)
  config.log.tensorboard = False
  config.update({'batch_size': 16} | changes)
  experiment.check(config)
  return config


@pytest.mark.parametrize(
  ('key', 'value', 'said'),
  [
    ('data.preprocess', 'dynamic_binarise', "no preprocessing named 'dynamic_binarise' .* did you mean 'dynamic_bi"),
    ('system', 'vae.ConfigDict', "dgm_jax.systems.vae has no 'ConfigDict'"),
    ('system', 'gann.gan', "dgm_jax.systems has no 'gann.gan'"),
    ('conditional', True, r'can be conditioned on labels \(autoregressive.*not vae\.vae'),
    ('model.likelihood', 'bernouli', "did you mean 'bernoulli'"),
    ('model.activation', 'tan', "config.model.activation must be one of .*did you mean 'tanh'"),
    ('model.samples', 0, 'config.model.samples must be at least 1, got 0'),
    ('model.latents', (3, 2), r'config.model.hidden=\(\(8,\),\) must list the layers of as many networks'),
    ('data.name', 'digit:', 'give digits, sprites, a TFDS name'),
    ('batch_size', 12, 'config.batch_size=12 is not divisible by the 8 devices; try --config.batch_size=8'),
  ],
)
def test_a_mistake_that_only_the_loop_can_see_leaves_the_folder_alone(key, value, said, tmp_path):
  """Had it been claimed for the mistaken experiment, the mended one would be refused as another."""
  config = config_of()
  config.update_from_flattened_dict({key: value})
  with pytest.raises(UserError, match=said):
    training.prepare(config, tmp_path / 'run')
  assert not (tmp_path / 'run').exists()


def test_no_example_is_held_out_where_none_is_measured(tmp_path):
  """A density fitted to every training example, as published, has none to spare; pictures show the test's."""
  everything = config_of(eval_every=0)
  everything.data.valid_size = 0
  run = training.prepare(everything, tmp_path / 'all', devices=1)
  assert set(run.splits) == {'train', 'test'}
  assert run.splits['train'].size == 1397
  evaluators = training.loop.evaluators_of(run)
  assert evaluators.images.shape == (run.config.pictures, 8, 8, 1)
  with pytest.raises(UserError, match=r'digits has no validation examples: set --config.data.valid_size'):
    everything.eval_every = 4
    training.prepare(everything, tmp_path / 'measured', devices=1)


def test_all_that_is_said_of_a_step_is_said_before_it_is_saved(tmp_path):
  """A kill right after a save then loses nothing: the resumed run writes only what comes later."""
  config = config_of(steps=12, save_every=4, eval_every=4, log_every=4, picture_every=0)
  run = training.prepare(config, tmp_path, devices=1)
  events = []
  writer = log.silent()._replace(metrics=lambda step, split, _: events.append((split, step)))
  evaluators = training.Evaluators(lambda seed, state: {}, lambda seed, state: {}, np.zeros((0, 8, 8, 1)))
  state, first = training.start(run)
  training.train(
    run,
    training.compile_call(run),
    state,
    first,
    writer,
    lambda state, *_: events.append(('save', int(state.step))),
    evaluators,
  )
  order = [('train', 4), ('valid', 4), ('save', 4), ('train', 8), ('valid', 8), ('save', 8)]
  assert events == [*order, ('train', 12), ('valid', 12), ('test', 12), ('save', 12)]


def test_a_run_that_measures_and_saves_nothing_on_the_way_still_says_how_it_ended(tmp_path):
  config = config_of(steps=4, log_every=4, save_every=0, eval_every=0, picture_every=0)
  run = training.prepare(config, tmp_path, devices=1)
  said = []
  writer = log.silent()._replace(metrics=lambda step, split, _: said.append((split, step)))
  evaluators = training.Evaluators(lambda seed, state: {}, lambda seed, state: {}, np.zeros((0, 8, 8, 1)))
  state, first = training.start(run)
  training.train(
    run, training.compile_call(run), state, first, writer, lambda state, *_: said.append('saved'), evaluators
  )
  assert said == [('train', 4), ('test', 4)]


class Machine:
  """A host whose work takes no time, beside a device that needs a second for a step, and a hundred to measure."""

  now = busy_until = 0.0

  def clock(self):
    return self.now

  def call(self, state, seed, arrays, index):
    self.busy_until = max(self.now, self.busy_until) + len(index)
    return state, {'loss': self.busy_until}

  def wait(self, metrics):
    self.now = max(self.now, metrics['loss'])
    return metrics

  def measure(self, seed, state):
    self.now = self.busy_until = max(self.now, self.busy_until) + 100
    return {}


def train_on_a_machine(folder, monkeypatch, first=0, **changes):
  """Runs the loop; returns its timing lines, the sizes of its calls, and how many steps were saved."""
  run, machine = training.prepare(config_of(picture_every=0, **changes), folder, devices=1), Machine()
  lines, calls, saved = [], [], []
  monkeypatch.setattr(training.loop.time, 'perf_counter', machine.clock)
  monkeypatch.setattr(training.loop.parallel, 'fetch', machine.wait)
  monkeypatch.setattr(jax, 'block_until_ready', machine.wait)

  def call(state, seed, arrays, index):
    calls.append(len(index))
    return machine.call(state, seed, arrays, index)

  writer = log.silent()._replace(timing=lambda step, numbers: lines.append((step, numbers)))
  evaluators = training.Evaluators(machine.measure, machine.measure, np.zeros((0, 8, 8, 1)))
  training.train(run, call, None, first, writer, lambda state, *_: saved.append(machine.now), evaluators)
  return lines, calls, len(saved)


@pytest.mark.parametrize(
  'cadence',
  [{'log_every': 2}, {'log_every': 4}, {'log_every': 0}, {'log_every': 6, 'eval_every': 4, 'save_every': 2}],
)
def test_no_second_of_training_is_lost_or_counted_twice(tmp_path, monkeypatch, cadence):
  lines, _, _ = train_on_a_machine(tmp_path, monkeypatch, **{'steps': 12, 'eval_every': 6, 'save_every': 4} | cadence)
  measured = 300 if cadence.get('eval_every', 6) == 6 else 400  # the test split once, the other two or three times
  assert sum(numbers['seconds'] for _, numbers in lines) == 12 + measured
  rates = [numbers['steps_per_second'] for _, numbers in lines if 'steps_per_second' in numbers]
  assert rates and set(rates) == {1.0}


def test_a_run_that_is_taken_up_between_two_calls_keeps_its_cadence(tmp_path, monkeypatch):
  """A run of 5 steps is lengthened to 12: calls of two steps must end at even steps again, or nothing is ever due."""
  _, calls, saved = train_on_a_machine(tmp_path, monkeypatch, first=5, steps=12, save_every=4, eval_every=0)
  assert calls == [1, 2, 2, 2]
  assert saved == 2  # after 8 and 12


def test_sixty_steps_are_the_same_on_one_device_on_eight_and_with_spread_parameters(tmp_path):
  """Latents wide enough for an array to be worth spreading."""
  finals = []
  for name, devices, shard in (('one', 1, False), ('eight', 8, False), ('spread', 8, True)):
    config = config_of(
      steps=60, steps_per_call=20, log_every=0, eval_every=0, save_every=0, picture_every=0, shard_params=shard
    )
    config.model.hidden = ((512,),)
    run = training.prepare(config, tmp_path / name, devices=devices)
    spread = [not leaf.sharding.is_fully_replicated for leaf in jax.tree.leaves(run.like.params)]
    assert any(spread) == shard
    state, _ = training.start(run)
    call = training.compile_call(run)
    for step in range(0, 60, 20):
      state, _ = call(state, np.uint32(0), run.arrays, training.indices(run, step, 20))
    finals.append(jax.tree.map(np.asarray, state.params))
  for other in finals[1:]:
    apart = jax.tree.map(lambda a, b: np.max(np.abs(a - b)), finals[0], other)
    assert max(jax.tree.leaves(apart)) < 1e-5


def test_own_data_trains_the_same_experiment(tmp_path):
  images = np.random.default_rng(0).integers(0, 256, (60, 6, 5), np.uint8)
  np.savez(tmp_path / 'mine.npz', x=images)
  config = config_of(steps=4, picture_every=0)
  config.data.name = f'npz:{tmp_path / "mine.npz"}'
  run = training.prepare(config, tmp_path / 'run', devices=1)
  state, _ = training.start(run)
  _, metrics = training.compile_call(run)(state, np.uint32(0), run.arrays, training.indices(run, 0, 2))
  assert run.config.data.shape == (6, 5, 1) and np.isfinite(metrics['model/loss'])


def test_a_picture_that_fails_costs_a_line(monkeypatch):
  said, drawn = [], []

  def broken(*_):
    raise ValueError('no\nway')

  monkeypatch.setattr(
    training.loop.gallery, 'available', lambda system: {'broken': broken, 'whole': lambda *_: 'image'}
  )
  monkeypatch.setattr(training.loop.positions, 'available', lambda system, config: {})
  monkeypatch.setattr(training.loop.painting, 'available', lambda system: {})
  monkeypatch.setattr(training.loop.chains, 'available', lambda system, names: {})
  writer = SimpleNamespace(say=said.append, picture=lambda *args: drawn.append(args))
  training.loop._draw(SimpleNamespace(config=config_of(), system=None), None, 7, writer, None)
  assert said == ['step 7: no picture broken, ValueError: no way']
  assert drawn == [(7, 'whole', 'image')]
