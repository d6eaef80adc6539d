"""A grid of any experiment: its trainings, in one program or one after another, taken up where they were stopped."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from configs import disentangle, vae_digits
from dgm_jax.commands import study
from dgm_jax.errors import DIVERGED, UNSAVED, Halt, UserError
from dgm_jax.runtime import signals
from dgm_jax.training import grid as trainings

TINY = disentangle.get_config('tiny_capacity')
WEIGHTS = {'model.gamma': [2.0, 35.0]}


@pytest.mark.parametrize(
  ('text', 'values'),
  [
    ('model.gamma=2,35,2', {'model.gamma': [2.0, 35.0]}),
    ('config.optimizer.model.learning_rate=1e-3', {'optimizer.model.learning_rate': [1e-3]}),
    ('steps=4,8', {'steps': [4, 8]}),
    ('norms=true,False', {'norms': [True, False]}),
    ('model.network=a', 'has no'),
    ('model.gama=2', "config has no 'model.gama'; did you mean 'model.gamma'?"),
    ('model.gamma', 'must be KEY=VALUE'),
    ('seed=1,2', 'that is not the seed'),
    ('steps=4.5', "'4.5' must be of type int"),
    ('norms=maybe', "'maybe' must be of type bool"),
    ('steps=4 steps=8', 'steps is there twice: give all its values in one --grid'),
    ('model.encoder.hidden=4', 'not of a tuple'),
  ],
)
def test_values_of_a_grid_have_the_type_of_their_key(text, values):
  if isinstance(values, dict):
    assert study.grid_of(TINY, text.split()) == values
  else:
    with pytest.raises(UserError) as error:
      study.grid_of(TINY, text.split())
    assert values in str(error.value)


def test_members_are_every_combination_with_every_seed_and_are_checked():
  members = trainings.members_of(TINY, WEIGHTS | {'batch_size': [8, 16]}, 2)
  assert len(members) == 8 and members[1].name == 'model.gamma=2.0,batch_size=8,seed=1'
  names = [trainings.Member((('data.name', f'npz:../{x}.npz'),), 0).name for x in ('a', 'a' * 200, 'a' * 201)]
  assert names[0] == 'data.name=npz:..%2Fa.npz,seed=0' and len(set(names)) == 3 and max(map(len, names)) < 200
  assert trainings.config_of(TINY, members[-1]).model.gamma == 35 and TINY.model.gamma != 35
  with pytest.raises(UserError, match=r'config\.batch_size must be at least 1, got 0'):
    trainings.members_of(TINY, {'batch_size': [0]}, 1)


def test_a_weight_alone_is_trained_in_one_program():
  members = trainings.members_of(TINY, WEIGHTS, 2)
  assert trainings.traced_weight(TINY, WEIGHTS, members) == 'gamma'
  assert trainings.traced_weight(TINY, WEIGHTS, members[:2]) == 'gamma'
  assert trainings.traced_weight(TINY, WEIGHTS, members[:3]) == ''  # no product of values and seeds
  assert trainings.traced_weight(TINY, WEIGHTS | {'batch_size': [8]}, members) == ''
  elsewhere = TINY.copy_and_resolve_references()
  elsewhere.data.where = 'host'
  assert trainings.traced_weight(elsewhere, WEIGHTS, members) == ''
  assert trainings.traced_weight(vae_digits.get_config('tiny'), {'batch_size': [8]}, members) == ''


def test_an_ensemble_that_is_stopped_goes_on_with_the_same_numbers(tmp_path, monkeypatch):
  members, file, poll, polls = trainings.members_of(TINY, WEIGHTS, 1), tmp_path / 'states.npz', signals.poll, []

  def stop():
    polls.append(1)
    if len(polls) == 3:
      raise signals.Stopped(15)
    poll()

  whole = trainings.train_together(TINY, 'gamma', members, tmp_path / 'whole.npz')
  with monkeypatch.context() as patch:
    patch.setattr(trainings.signals, 'poll', stop)
    with pytest.raises(signals.Stopped):
      trainings.train_together(TINY, 'gamma', members, file)
  with np.load(file) as page:
    assert page['completed'] == 4
  steps = []
  monkeypatch.setattr(trainings.signals, 'poll', lambda: steps.append(1))
  again = trainings.train_together(TINY, 'gamma', members, file)
  assert again == whole and len(steps) >= 4
  assert whole[0].figures != whole[1].figures and whole[0].steps == 12
  file.write_bytes(file.read_bytes()[:100])
  fresh = object()
  assert trainings._restored(file, 'another', fresh) == (fresh, 0)


def test_a_value_that_the_system_refuses_is_not_trained(tmp_path):
  members = trainings.members_of(TINY, {'model.gamma': [2.0, -1.0]}, 1)
  with pytest.raises(UserError, match='gamma must not be negative'):
    trainings.train_together(TINY, 'gamma', members, tmp_path / 'states.npz')
  assert not any(tmp_path.iterdir())


@pytest.fixture
def command(monkeypatch):
  """The command, with trainings that give figures at once, whose names it returns."""
  made, faults = [], []

  def train(config, member, folder):
    made.append(member.name)
    if faults:
      raise faults.pop()
    value = member.settings['batch_size'] + 0.5 * member.seed
    return trainings.Trained({'neg_elbo_nats': value, 'kl_nats': 1.0}, 12)

  monkeypatch.setattr(trainings, 'train_alone', train)
  monkeypatch.setattr('dgm_jax.runtime.cluster.start', lambda **_: None)

  def call(out, grid, seeds, **changes):
    config = vae_digits.get_config('tiny')
    config.source = 'configs/vae_digits.py:tiny'
    config.update(changes)
    study._study_grid(config, SimpleNamespace(grid=[grid], seeds=seeds, out=str(out)))
    return made

  call.faults = faults
  return call


def test_the_command_trains_what_is_missing_and_writes_its_page(tmp_path, command, capsys):
  assert len(command(tmp_path, 'batch_size=8,16', 2)) == 4
  said = capsys.readouterr().out
  assert '8.25 +- 0.35' in said and '16.25 +- 0.35' in said
  page = (tmp_path / 'study.html').read_text()
  assert '<title>vae_digits.py:tiny: batch_size</title>' in page and 'neg_elbo_nats by batch_size' in page
  assert '4 trainings of 12 steps' in page and 'means over 2 seeds' in page
  record = json.loads((tmp_path / 'trainings' / 'batch_size=16,seed=1.json').read_text())
  assert (record['settings'], record['figures']['neg_elbo_nats']) == ({'batch_size': 16}, 16.5)
  (tmp_path / 'trainings' / 'batch_size=8,seed=0.json').unlink()
  made = command(tmp_path, 'batch_size=8,16,32', 1)
  assert made[4:] == ['batch_size=8,seed=0', 'batch_size=32,seed=0']
  assert '+-' not in capsys.readouterr().out and 'There is one seed' in (tmp_path / 'study.html').read_text()
  with pytest.raises(UserError, match=r'holds a study of another experiment \(config\.steps\): take another --out'):
    command(tmp_path, 'batch_size=8', 1, steps=14, overrides=('steps=14',))


def test_a_training_that_diverges_is_left_out_and_a_first_mistake_binds_nobody(tmp_path, command, capsys):
  command.faults.append(UserError('no such data'))
  with pytest.raises(UserError, match='no such data'):
    command(tmp_path / 'out', 'batch_size=8', 1)
  assert not (tmp_path / 'out').exists()
  command.faults.append(Halt('training went wrong by step 3', DIVERGED))
  with pytest.raises(Halt, match='1 of 2 trainings went wrong and are not in the table') as halt:
    command(tmp_path, 'batch_size=8,16', 1, steps=14)
  assert halt.value.code == DIVERGED and 'warning: batch_size=8,seed=0: training went' in capsys.readouterr().err
  assert '1 trainings of 12 steps' in (tmp_path / 'study.html').read_text()
  command.faults.append(Halt('no checkpoint can be written', UNSAVED))
  with pytest.raises(Halt, match='no checkpoint'):
    command(tmp_path, 'batch_size=8,16', 1, steps=14)


def test_flags_of_a_named_study_are_refused_beside_a_config(monkeypatch):
  args = SimpleNamespace(**dict.fromkeys((*study.NAMED, 'grid', 'config', 'name')) | {'grid': ['a=1'], 'steps': 5})
  monkeypatch.setattr(study.experiment, 'parse', lambda *_: None)
  monkeypatch.setattr(study.flags, 'FLAGS', args)
  with pytest.raises(UserError, match='--steps goes with --name: with --config set a key'):
    study.main([])
