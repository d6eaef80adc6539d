"""A number that is no longer finite, wherever it appears: noticed within a log interval, and never saved."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from trials import record, trials

from configs import vae_digits
from dgm_jax import config as experiment
from dgm_jax import core, data, errors, optim, training
from dgm_jax.runs import checkpoint

LOG_EVERY = SAVE_EVERY = 8
STEPS = 40
PLACES = ('loss', 'gradient', 'parameter', 'batch statistics', 'average')


@jax.custom_vjp
def spoilt(w, nan):
  """w, whose gradient is spoilt while its value is not."""
  return w


spoilt.defvjp(lambda w, nan: (w, nan), lambda nan, slope: (slope + nan, jnp.zeros_like(nan)))


def builder(place, hit):
  """`config -> System`, a regression in which a NaN appears at `place` where `hit(state, batch)`."""

  def build(config):
    def loss(key, state, batch):
      del key
      nan = jnp.where(hit(state, batch), jnp.nan, 0.0)
      net = state.params['net'] | {'w': spoilt(state.params['net']['w'], nan * (place == 'gradient'))}
      error = batch['x'].reshape(batch['x'].shape[0], -1) @ net['w'] + net['b'] - batch['y']
      mean = 0.9 * state.extra['batch_stats']['mean'] + 0.1 * batch['x'].mean()
      extra = {'batch_stats': {'mean': mean + nan * (place == 'batch statistics')}}
      return (error**2).mean() + jax.lax.stop_gradient(nan) * (place == 'loss'), (extra, {})

    def poison(key, state, batch):
      del key
      nan = jnp.where(hit(state, batch), jnp.nan, 0.0)
      spoil = lambda tree, here: tree | {'w': tree['w'].at[3].add(nan * here)}
      params = {'net': spoil(state.params['net'], place == 'parameter')}
      ema = {'net': spoil(state.extra['ema']['net'], place == 'average')}
      return state.replace(params=params, extra=state.extra | {'ema': ema}), {}

    def networks(key, batch):
      params = {'net': {'w': jnp.zeros(batch['x'][0].size), 'b': jnp.zeros(())}}
      return params, {'ema': jax.tree.map(jnp.copy, params), 'batch_stats': {'mean': jnp.zeros(())}}

    move = core.chain(
      core.descend(model=core.Player(loss, optim.make(config, 'model'), ('net',))),
      core.average('net', 0.9),
      core.Move(lambda params: {}, poison),
    )
    evaluate = lambda key, state, batch: {'mse': jnp.zeros(batch['x'].shape[0])}
    return core.system(networks, move, evaluate, lambda key, state, n: jnp.zeros((n, 8, 8, 1)))

  return build


def train(monkeypatch, folder, place, hit, rollbacks=0, **changes):
  config = vae_digits.get_config('tiny')
  config.data.preprocess = 'scale'
  config.update({'steps': STEPS, 'log_every': LOG_EVERY, 'save_every': SAVE_EVERY, 'keep': 9, 'best': ''} | changes)
  config.update({'picture_every': 0, 'eval_every': 0})
  config.log.tensorboard = False
  config.optimizer.model.update({'schedule': 'constant'})
  experiment.check(config)
  monkeypatch.setattr(training.run.systems, 'build', builder(place, hit))
  return training.fit(config, folder, rollbacks=rollbacks)


def saved_states(monkeypatch, folder):
  """Every saved step and its state."""
  run = training.build_run(experiment.load(folder), folder)
  return {step: checkpoint.restore(folder, run.like, step) for step in checkpoint.steps(folder)}


def finite(restored):
  return all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(restored.state))


NAMES = {'parameter': 'params/net/w is not', 'batch statistics': 'extra/batch_stats/mean', 'average': 'extra/ema/net/w'}


@pytest.mark.parametrize('place', PLACES)
def test_the_run_ends_within_a_log_interval_and_saves_nothing_of_it(place, monkeypatch, tmp_path):
  late = []
  for at in (17, 22, 23)[: trials(1, 3)]:  # in the first, the third and the last call before step 24 is logged
    folder = tmp_path / str(at)
    with pytest.raises(errors.Halt, match='training went wrong by step') as raised:
      train(monkeypatch, folder, place, lambda state, batch, at=at: state.step == at)
    assert raised.value.code == errors.DIVERGED
    said = str(raised.value)
    assert NAMES.get(place, 'model/loss is nan') in said or 'params/net/' in said, said
    assert 'the last good checkpoint is of step 16' in said
    late.append(int(said.split('by step ')[1].split(':')[0]) - at)
    assert 0 < late[-1] <= LOG_EVERY
    states = saved_states(monkeypatch, folder)
    assert list(states) == [8, 16] and all(map(finite, states.values()))
  record(f'not finite: {place}', trials=len(late), stopped=len(late), steps_late=late, log_every=LOG_EVERY)


@pytest.mark.parametrize('place', [place for place in PLACES if place in ('gradient', 'average') or trials(0, 1)])
def test_a_rollback_leaves_out_the_batches_in_question_and_the_run_goes_on(place, monkeypatch, tmp_path, capsys):
  """The NaN comes with an example that is in the 20th batch and, within this run, in no other."""
  wrong = int(data.order(0, 20, 1, 16, 1297)[0, 5])
  hit = lambda state, batch: (batch['index'] == wrong).any()
  final = train(monkeypatch, tmp_path, place, hit, rollbacks=1)
  out = capsys.readouterr().out
  assert 'going back to the last checkpoint and past these batches' in out
  assert final.step == STEPS
  chex.assert_tree_all_finite(final)
  states = saved_states(monkeypatch, tmp_path)
  assert list(states) == [8, 16, 24, 32, 40] and all(map(finite, states.values()))
  skipped = states[40].meta['skipped']
  assert f'of the stream of batches, {skipped} are left out' in out
  assert states[16].meta['skipped'] == 0 and 5 <= skipped <= LOG_EVERY  # from the 16th to beyond the 20th
  # The same run, taken up and lengthened, still leaves them out.
  train(monkeypatch, tmp_path, place, hit, steps=48)
  assert saved_states(monkeypatch, tmp_path)[48].meta['skipped'] == skipped
  record(f'rollback: {place}', finished=True, batches_left_out=skipped)


def test_a_run_that_goes_wrong_again_and_again_is_given_up(monkeypatch, tmp_path, capsys):
  with pytest.raises(errors.Halt, match='the last good checkpoint is of step 16'):
    train(monkeypatch, tmp_path, 'parameter', lambda state, batch: state.step == 20, rollbacks=2)
  assert capsys.readouterr().out.count('going back') == 2


def test_a_checkpoint_of_what_is_not_finite_is_refused(tmp_path):
  for value, said in ((jnp.nan, 'params/net/w'), (-jnp.inf, 'params/net/w')):
    wrong = core.State(jnp.int32(3), {'net': {'b': jnp.zeros(2), 'w': jnp.array([0, value])}}, {}, {'n': jnp.int32(1)})
    with (
      checkpoint.saving(tmp_path, 1, '') as manager,
      pytest.raises(errors.Halt, match=f'{said} is not finite at step 3'),
    ):
      checkpoint.save(manager, wrong, {}, {})
  assert checkpoint.steps(tmp_path) == []
