"""One experiment on one, two, four and eight devices, by either driver: the same numbers, and one sum a step."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from trials import record

from configs import vae_digits
from dgm_jax import core, optim, training
from dgm_jax.costs import hlo
from dgm_jax.errors import UserError
from dgm_jax.runs import digest
from dgm_jax.runtime import parallel

STEPS = 20
HIDDEN = 32


def classifier(config):
  """Softmax regression with a hidden layer and a running mean of the pixels; nothing in it is random but its start."""

  def logits(params, x):
    hidden = jnp.tanh(x.reshape(x.shape[0], -1) @ params['first'])
    return hidden @ params['second']

  def loss(key, state, batch):
    del key
    losses = optax.softmax_cross_entropy_with_integer_labels(logits(state.params['net'], batch['x']), batch['y'])
    mean = 0.9 * state.extra['mean'] + 0.1 * batch['x'].mean(0)
    return losses.mean(), ({'mean': mean}, {})

  def networks(key, batch):
    one, two = jax.random.split(key)
    pixels = batch['x'][0].size
    first, second = jax.random.normal(one, (pixels, HIDDEN)) / 8, jax.random.normal(two, (HIDDEN, 10)) / 4
    return {'net': {'first': first, 'second': second}}, {'mean': jnp.zeros(batch['x'].shape[1:])}

  evaluate = lambda key, state, batch: {'loss': loss(key, state, batch)[0]}
  move = core.descend(model=core.Player(loss, optim.make(config, 'model'), ('net',)))
  return core.system(networks, move, evaluate, lambda key, state, n: jnp.zeros((n, 8, 8, 1)))


def tiny(**changes):
  config = vae_digits.get_config('tiny')
  config.data.preprocess = 'scale'
  config.update({'batch_size': 32, 'steps': STEPS, 'steps_per_call': 10, 'log_every': 0, 'eval_every': 0} | changes)
  config.update({'save_every': 0, 'picture_every': 0, 'best': ''})
  config.optimizer.model.update({'schedule': 'constant', 'eps': 1e-4, 'learning_rate': 1e-2})
  return config


def trained(monkeypatch, folder, devices, **changes):
  """The last state and metrics, as NumPy."""
  monkeypatch.setattr(training.run.systems, 'build', classifier)
  run = training.build_run(tiny(**changes), folder, devices)
  state, call = training.start(run)[0], training.compile_call(run)
  for step in range(0, STEPS, 10):
    state, metrics = call(state, np.uint32(0), run.arrays, training.indices(run, step, 10))
  return parallel.fetch(state), parallel.fetch(metrics)


def apart(a, b):
  """The largest difference between two trees, relative to numbers above one."""
  gap = lambda x, y: np.max(np.abs(np.float64(x) - y) / np.maximum(1, np.abs(x)))
  return max(jax.tree.leaves(jax.tree.map(gap, a, b)))


def test_one_two_four_and_eight_devices_agree_and_so_does_pmap(monkeypatch, tmp_path):
  jit = {n: trained(monkeypatch, tmp_path, n) for n in (1, 2, 4, 8)}
  gaps = {f'jit, 1 and {n} devices': apart(jit[1], jit[n]) for n in (2, 4, 8)}
  gaps['pmap and jit, 8 devices'] = apart(jit[8], trained(monkeypatch, tmp_path, 8, parallel='pmap'))
  gaps['4 slices and 1, 8 devices'] = apart(jit[8], trained(monkeypatch, tmp_path, 8, accumulate=4))
  record('devices', largest_difference=max(gaps.values()), differences=gaps, steps=STEPS, bound=1e-5)
  assert jit[8][0].step == STEPS
  assert apart(jit[8][0].params, training.start(training.build_run(tiny(), tmp_path))[0].params) > 0.05  # it did train
  assert max(gaps.values()) < 1e-5


def test_pmap_gives_each_device_noise_of_its_own_and_keeps_the_state_in_place(tmp_path):
  """Dynamic binarization of one image, eight times: eight devices with one key would draw the same pixels."""
  config = tiny(parallel='pmap', batch_size=8)
  config.data.preprocess = 'dynamic_binarize'
  run = training.build_run(config, tmp_path, 8)
  seen = lambda key, state, batch: (state.replace(step=state.step + 1), {'x': jax.lax.all_gather(batch['x'], 'data')})
  state = training.start(run)[0]
  call = training.compile_call(run._replace(system=run.system._replace(step=seen)))
  same = parallel.driver('pmap', run.mesh, run.like).deal(np.zeros((1, 8), np.int32))
  new, metrics = call(state, np.uint32(0), run.arrays, same)
  images = {image.tobytes() for image in np.asarray(metrics['x']).reshape(8, -1)}
  assert len(images) == 8
  assert state.params['encoder'] and jax.tree.leaves(state.params)[0].is_deleted()
  jax.tree.map(
    lambda leaf, like: leaf.sharding.is_equivalent_to(like.sharding, leaf.ndim) or pytest.fail(), new, run.like
  )


def test_pmap_refuses_what_it_cannot_average(monkeypatch, tmp_path):
  move = core.Move(lambda params: {}, lambda key, state, batch: (state, {}))
  networks = lambda key, batch: ({'net': jnp.zeros(2)}, {})
  monkeypatch.setattr(training.run.systems, 'build', lambda config: core.system(networks, move, len, len))
  with pytest.raises(UserError, match=r"config\.parallel='pmap' averages gradients, and this system has none"):
    training.compile_call(training.build_run(tiny(parallel='pmap'), tmp_path, 8))


METRICS = 4 * 4  # bytes: the loss and the three parts of the bound


def test_a_data_parallel_step_holds_one_sum_of_its_gradients_and_gathers_nothing(tmp_path):
  run = training.build_run(vae_digits.get_config('tiny'), tmp_path, 8)
  text = (
    training.compile_call(run)
    .lower(run.like, np.uint32(0), run.arrays, training.indices(run, 0, 1))
    .compile()
    .as_text()
  )
  found = hlo.collectives(text)
  gradients = digest.num_bytes(run.like.params)
  record('collectives', kinds=found, gradient_bytes=gradients, metric_bytes=METRICS)
  assert found == {'all-reduce': {'count': 1, 'bytes': gradients + METRICS}}
