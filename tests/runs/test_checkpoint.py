"""Checkpoints: every bit comes back or its loss is noticed, whatever happened to the files."""

import errno
import functools
import gc
import os
import re
import shutil
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dgm_jax.core import State
from dgm_jax.errors import Halt, UserError
from dgm_jax.runs import checkpoint, digest, graft
from dgm_jax.runs.checkpoint import folder as folders
from dgm_jax.runs.checkpoint import reader, writer
from dgm_jax.runtime import parallel

# When one of Orbax's reads fails, the others find their event loop closed, and threads say so.
pytestmark = pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning')


def arrays(step=4, width=128):
  """A state of every kind of number that a state may hold, as NumPy; one leaf is large enough to be spread."""
  random = np.random.default_rng(step)
  real = lambda *shape: random.normal(size=shape).astype('f4')
  return State(
    np.int32(step),
    {'encoder': {'kernel': real(width, 128), 'bias': real(3)}, 'decoder': {'kernel': real(2, 2)}},
    {'model': (np.int32(step), real(2, 2), {'half': real(5).astype(jnp.bfloat16)})},
    {'flags': random.random(6) < 0.5, 'counts': random.integers(-9, 9, (2, 3), 'i4'), 'none': {}},
  )


@functools.cache
def shardings(devices, shard_params=False):
  return parallel.state_shardings(parallel.mesh(devices), arrays(), shard_params)


def placed(state, devices=1, shard_params=False):
  return jax.tree.map(parallel.put, jax.tree.map(np.asarray, state), shardings(devices, shard_params))


def like(devices=1, shard_params=False, width=128):
  def shape(leaf, sharding):
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

  return jax.tree.map(shape, arrays(width=width), shardings(devices, shard_params))


def same(a, b):
  for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
    x, y = np.asarray(x), np.asarray(y)
    assert x.dtype == y.dtype
    assert x.tobytes() == y.tobytes()


def write(folder, steps, keep=9, best='', values=None, **placing):
  with checkpoint.saving(folder, keep, best) as manager:
    for step in steps:
      metrics = {best: values[step]} if values and step in values else {}
      checkpoint.save(manager, placed(arrays(step), **placing), {'note': [1, 'two']}, metrics)


@pytest.fixture(autouse=True)
def soon(monkeypatch):
  """Proofs of damage without a pause."""
  monkeypatch.setattr(reader, 'PROOF_PAUSE', 0)


@pytest.fixture(autouse=True, scope='module')
def _little_rubbish():
  """A reading that failed looks for rubbish, and here not among all that earlier tests have made."""
  gc.freeze()
  yield
  gc.unfreeze()


@pytest.fixture(scope='module')
def original(tmp_path_factory):
  folder = tmp_path_factory.mktemp('original')
  write(folder, (2, 4))
  return folder


@pytest.fixture
def run(original, tmp_path):
  """A run with good checkpoints of steps 2 and 4, to be damaged."""
  shutil.copytree(original, tmp_path / 'run')
  return tmp_path / 'run'


SPREADS = [(1, False), (8, False), (8, True)]


@pytest.mark.parametrize('saved', SPREADS, ids=str)
def test_the_bits_come_back_on_any_number_of_devices(saved, tmp_path):
  write(tmp_path, (4,), devices=saved[0], shard_params=saved[1])
  for devices, shard_params in SPREADS:
    restored = checkpoint.restore(tmp_path, like(devices, shard_params))
    assert restored.step == 4
    assert restored.meta['note'] == [1, 'two']
    same(restored.state, arrays(4))
    jax.tree.map(lambda x, s: x.sharding == s or pytest.fail(), restored.state, shardings(devices, shard_params))
  kernel = restored.state.params['encoder']['kernel']
  assert kernel.addressable_shards[0].data.shape == (16, 128)  # the last one was spread indeed


def test_a_restored_state_can_be_donated(run):
  state = checkpoint.restore(run, like()).state
  jax.jit(lambda s: jax.tree.map(lambda x: x, s), donate_argnums=0)(state)
  assert state.params['encoder']['kernel'].is_deleted()


def test_a_given_step_is_restored(run):
  restored = checkpoint.restore(run, like(), 2)
  same(restored.state, arrays(2))
  with pytest.raises(UserError, match=r'no checkpoint of step 3; it has \[2, 4\]'):
    checkpoint.restore(run, like(), 3)


def test_the_digest_is_one_on_any_devices():
  one = digest.digest(placed(arrays()))
  assert set(one) == {
    'step',
    'params/encoder',
    'params/decoder',
    'opt/model',
    'extra/flags',
    'extra/counts',
    'extra/none',
  }
  assert one == digest.digest(placed(arrays(), 8)) == digest.digest(placed(arrays(), 8, True))
  other = digest.digest(placed(arrays(5)))
  assert [name for name in one if one[name] == other[name]] == ['extra/none']


def flip(array, bit):
  """The array with one bit flipped; a truth value is one bit."""
  if array.dtype == bool:
    words = array.reshape(-1).copy()
    words[bit % words.size] ^= True
  else:
    words = array.reshape(-1).view(np.uint8).copy()
    words[bit // 8 % words.size] ^= np.uint8(1 << bit % 8)
  return words.view(array.dtype).reshape(array.shape)


def test_the_digest_is_that_of_older_checkpoints():
  tree = [np.arange(6, dtype='f4').reshape(2, 3), np.array([True, False]), np.int32(7)]
  assert digest.of(tree) == 'c7a004dc-818013f1'  # by its formula in whole numbers


def test_devices_and_the_host_agree_on_digests_and_on_what_is_finite():
  leaves = [*jax.tree.leaves(arrays()), np.float32([1, np.inf]), jnp.bfloat16([np.nan]), np.float32(2), np.int8([3])]
  for function in (digest._sum, digest._finite):
    there = jax.device_get(digest._on_devices(function, leaves))
    jax.tree.map(np.testing.assert_array_equal, there, digest._each(function, [np.asarray(leaf) for leaf in leaves]))


def test_any_flipped_bit_changes_the_digest_of_its_part_and_of_no_other():
  state, random = arrays(), np.random.default_rng(0)
  paths, structure = jax.tree_util.tree_flatten_with_path(state)
  leaves, before = [leaf for _, leaf in paths], digest.digest(placed(state))
  for number, leaf in enumerate(leaves):
    for bit in random.integers(0, 8 * leaf.nbytes, 8):
      flipped = [*leaves[:number], flip(np.asarray(leaf), int(bit)), *leaves[number + 1 :]]
      after = digest.digest(placed(jax.tree.unflatten(structure, flipped)))
      assert sum(before[name] != after[name] for name in before) == 1, (paths[number][0], bit)


def test_exchanged_numbers_change_the_digest():
  # A plain sum would not see it; 0.0 and -0.0 differ, too.
  state = arrays()
  kernel = state.params['decoder']['kernel']
  for changed in (kernel[::-1], kernel.T):
    new = state.replace(params=state.params | {'decoder': {'kernel': changed.copy()}})
    assert digest.digest(placed(new)) != digest.digest(placed(state))


def damage(path, how):
  content = bytearray(path.read_bytes())
  if how == 'flip':
    content[len(content) // 2] ^= 4
  elif how == 'cut':
    content = content[: len(content) // 2]
  path.write_bytes(content)


def state_files(step):
  """The files that hold a step's numbers."""
  files = [path for path in (step / 'state').rglob('*') if path.is_file() and path.parent.name == 'd']
  return [path for path in files if path.parent.parent == step / 'state']


@pytest.mark.parametrize('how', ['flip', 'cut', 'empty page'])
def test_a_damaged_step_is_set_aside_with_one_line_and_the_one_before_it_taken(run, how, capfd):
  step = run / 'checkpoints' / '4'
  if how == 'empty page':
    (step / 'meta' / 'metadata').write_text('{}')
  else:
    files = state_files(step)
    assert files
    for path in files:
      damage(path, how)
  restored = checkpoint.restore(run, like(), trains=True)
  same(restored.state, arrays(2))
  assert sorted(path.name for path in (run / 'checkpoints').iterdir()) == ['2', '4.corrupt']
  lines = capfd.readouterr().err.splitlines()
  assert len(lines) == 1
  assert lines[0].startswith(f'warning: the checkpoint {step} is damaged and now 4.corrupt (')


def test_a_bit_of_the_page_is_noticed_wherever_it_is(run):
  # Shapes, digests and the metric on the page are trusted: they have a seal of their own.
  page = run / 'checkpoints' / '4' / 'meta' / 'metadata'
  good = page.read_bytes()
  for place in np.random.default_rng(0).integers(0, len(good), 25):
    page.write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
    assert checkpoint.restore(run, like()).step == 2, (place, good)


def test_another_step_s_damage_does_no_harm(run):
  for path in (run / 'checkpoints' / '2').rglob('*'):
    if path.is_file():
      damage(path, 'flip')
  same(checkpoint.restore(run, like()).state, arrays(4))
  assert checkpoint.steps(run) == [2, 4]


def test_a_step_that_is_damaged_twice_keeps_both_remains(run):
  for _ in range(2):
    (run / 'checkpoints' / '4' / 'meta' / 'metadata').write_text('{}')
    assert checkpoint.restore(run, like(), trains=True).step == 2
    write(run, (4,))
  assert sorted(path.name for path in (run / 'checkpoints').iterdir()) == ['2', '4', '4.corrupt', '4.corrupt2']
  assert checkpoint.restore(run, like()).step == 4


def test_a_step_that_is_removed_meanwhile_is_passed_over_in_silence(run, monkeypatch, capfd):
  """As when a run that is still training drops an old checkpoint while another program looks for the newest."""
  page = reader._page

  def remove_first(path):
    if path.name == '4':
      shutil.rmtree(path)
    return page(path)

  monkeypatch.setattr(reader, '_page', remove_first)
  assert checkpoint.restore(run, like()).step == 2
  assert capfd.readouterr().err == ''
  assert [path.name for path in (run / 'checkpoints').iterdir()] == ['2']


def test_who_only_reads_renames_nothing(run, capfd):
  damage(run / 'checkpoints' / '4' / 'meta' / 'metadata', 'cut')
  before = sorted(run.rglob('*'))
  assert checkpoint.restore(run, like()).step == 2
  assert sorted(run.rglob('*')) == before
  assert re.fullmatch(r'warning: the checkpoint .*/4 is damaged \(.*\); step 2 is taken\n', capfd.readouterr().err)


@pytest.mark.parametrize('number', ['EIO', 'ESTALE', 'EMFILE', 'ETIMEDOUT', 'EACCES'])
@pytest.mark.parametrize('times', [1, 2, 9])
def test_what_may_pass_is_tried_again_and_is_no_damage(run, monkeypatch, number, times):
  """Whatever opens a file of the newest step fails so many times."""
  monkeypatch.setattr(reader, 'PAUSES', (0, 0, 0))
  left, page, code = [times], reader._page, getattr(errno, number)

  def fail(path):
    left[0] -= 1
    if left[0] >= 0:
      raise OSError(code, os.strerror(code))
    return page(path)

  monkeypatch.setattr(reader, '_page', fail)
  before = sorted(run.rglob('*'))
  if times <= 3:
    assert checkpoint.restore(run, like(), trains=True).step == 4
  else:
    with pytest.raises(UserError, match=r'/4 cannot be read \(.*\); nothing was changed: try again'):
      checkpoint.restore(run, like(), trains=True)
  assert sorted(run.rglob('*')) == before


def test_damage_that_is_seen_once_is_no_proof(run, monkeypatch):
  page, left = reader._page, [1]

  def once(path):
    left[0] -= 1
    if left[0] == 0:
      raise ValueError('a wrong byte on the way')
    return page(path)

  monkeypatch.setattr(reader, '_page', once)
  assert checkpoint.restore(run, like(), trains=True).step == 4
  assert checkpoint.steps(run) == [2, 4]


def test_a_step_that_is_read_is_not_removed(tmp_path):
  write(tmp_path, (1,), keep=1)
  with folders.hold(tmp_path / 'checkpoints' / '1'):
    write(tmp_path, (2,), keep=1)
    assert checkpoint.steps(tmp_path) == [1, 2]
  write(tmp_path, (3,), keep=1)
  assert checkpoint.steps(tmp_path) == [3]
  assert [path.name for path in (tmp_path / 'checkpoints').iterdir()] == ['3']


def test_a_step_that_somebody_else_removed_is_removed(tmp_path):
  with checkpoint.saving(tmp_path, 1, '') as saver:
    for step in (1, 2, 3):
      checkpoint.save(saver, placed(arrays(step)), {}, {}, wait=True)
      if step < 3:
        shutil.rmtree(tmp_path / 'checkpoints' / str(step))
  assert checkpoint.steps(tmp_path) == [3]


def test_a_save_that_fails_by_what_passes_is_made_again(tmp_path, monkeypatch, capfd):
  monkeypatch.setattr(writer, 'PAUSES', (0, 0, 0))
  left, finish = [2], writer.ocp.CheckpointManager.wait_until_finished

  def fail(manager):
    left[0] -= 1
    if left[0] >= 0:
      raise OSError(errno.EIO, 'Input/output error')
    finish(manager)

  with checkpoint.saving(tmp_path, 1, '') as saver:
    monkeypatch.setattr(writer.ocp.CheckpointManager, 'wait_until_finished', fail)
    checkpoint.save(saver, placed(arrays(4)), {}, {}, wait=True)
  same(checkpoint.restore(tmp_path, like()).state, arrays(4))
  assert capfd.readouterr().err.count('Input/output error') >= 1
  assert left[0] < 0


def test_a_folder_that_may_not_be_listed_is_no_damage(run, monkeypatch):
  """os.walk passes over such a folder in silence, unless it is told not to."""
  for path in (run / 'checkpoints' / '4' / 'state').rglob('manifest.ocdbt'):
    path.unlink()
  scandir = os.scandir

  def deny(path):
    if str(path).endswith('4/state'):
      raise PermissionError(errno.EACCES, 'Permission denied', str(path))
    return scandir(path)

  monkeypatch.setattr(reader, 'PAUSES', (0, 0, 0))
  monkeypatch.setattr(os, 'scandir', deny)
  with pytest.raises(UserError, match='nothing was changed'):
    checkpoint.restore(run, like(), trains=True)
  assert checkpoint.steps(run) == [2, 4]


def test_a_refused_start_renames_nothing_and_tells_of_the_damage(run, capfd):
  damage(run / 'checkpoints' / '4' / 'meta' / 'metadata', 'cut')
  with pytest.raises(UserError, match='was saved by another config'):
    checkpoint.restore(run, like(width=64), trains=True)
  assert checkpoint.steps(run) == [2, 4]
  assert '4 is damaged (' in capfd.readouterr().err


def test_the_best_step_is_looked_for_anew_where_it_was_removed(run, monkeypatch):
  """As beside a run that trains and has found a better one."""
  told = iter([4, 2])

  def best():
    step = next(told)
    if step == 2:
      shutil.rmtree(run / 'checkpoints' / '4', ignore_errors=True)
    return step

  page = reader._page
  monkeypatch.setattr(reader, '_page', lambda path: shutil.rmtree(path) if path.name == '4' else page(path))
  assert checkpoint.restore(run, like(), best).step == 2


def test_a_save_counts_once_everything_of_it_is_on_the_disk(tmp_path, monkeypatch):
  """All files and folders of a step are synced before the one before it goes."""
  told = []
  sync, remove = folders.sync, folders.remove
  monkeypatch.setattr(folders, 'sync', lambda path: (told.append(path), sync(path)))
  monkeypatch.setattr(folders, 'remove', lambda step: (told.append(f'remove {step.name}'), remove(step)))
  write(tmp_path, (1,), keep=1)
  folder = tmp_path / 'checkpoints'
  told.clear()
  write(tmp_path, (2,), keep=1)
  assert told[-1] == 'remove 1'
  assert {*(folder / '2').rglob('*'), folder / '2', folder} <= set(told[:-1])


def test_where_all_is_damaged_nothing_starts_afresh(run):
  for step in ('2', '4'):
    damage(run / 'checkpoints' / step / 'meta' / 'metadata', 'cut')
  with pytest.raises(UserError, match=r'no checkpoint in .*checkpoints is readable; move the folder away'):
    checkpoint.restore(run, like())


def test_a_damaged_step_that_was_asked_for_is_not_replaced_by_another(run):
  damage(run / 'checkpoints' / '2' / 'meta' / 'metadata', 'cut')
  with pytest.raises(UserError, match=r'the checkpoint of step 2 in .* is damaged; it has \[2, 4\]'):
    checkpoint.restore(run, like(), 2)


def test_another_config_s_shapes_are_told_by_path_and_nothing_is_set_aside(run):
  expected = (
    r'4 was saved by another config: params/encoder/kernel is float32\[128,128\] there and float32\[64,128\] here'
  )
  with pytest.raises(UserError, match=expected):
    checkpoint.restore(run, like(width=64))
  half = like()
  half.opt['model'][2]['half'] = jax.ShapeDtypeStruct((5,), 'float32', sharding=shardings(1).step)
  with pytest.raises(UserError, match=r'opt/model/2/half is bfloat16\[5\] there and float32\[5\] here'):
    checkpoint.restore(run, half)
  assert checkpoint.steps(run) == [2, 4]


def test_no_checkpoint_is_an_error_and_not_a_fresh_start(tmp_path):
  for call in (lambda: checkpoint.restore(tmp_path, like()), lambda: checkpoint.restore(tmp_path / 'none', like())):
    with pytest.raises(UserError, match='has no checkpoint'):
      call()
  assert checkpoint.steps(tmp_path / 'none') == []
  with pytest.raises(UserError, match=r"no checkpoint in .* was saved with the metric 'nll'"):
    checkpoint.best_step(tmp_path, 'nll')


def test_what_is_no_step_is_passed_over(run):
  folder = run / 'checkpoints'
  (folder / '9').mkdir()
  (folder / 'notes').mkdir()
  (folder / '7.orbax-checkpoint-tmp').mkdir()
  (folder / '8').write_text('')
  (folder / 'readme.txt').write_text('')
  assert checkpoint.steps(run) == [2, 4]
  same(checkpoint.restore(run, like()).state, arrays(4))


def test_the_newest_are_kept(tmp_path):
  write(tmp_path, (1, 2, 3, 4, 5), keep=2)
  assert checkpoint.steps(tmp_path) == [4, 5]


def test_the_best_is_kept_beside_the_newest_also_over_an_interruption(tmp_path):
  values = {1: 5.0, 2: 3.0, 4: 3.5, 5: float('nan'), 6: 9.0}
  write(tmp_path, (1, 2, 3, 4), keep=1, best='nll', values=values)  # step 3 was not measured
  assert checkpoint.steps(tmp_path) == [2, 4]
  write(tmp_path, (5, 6), keep=1, best='nll', values=values)
  assert checkpoint.steps(tmp_path) == [2, 6]
  assert checkpoint.best_step(tmp_path, 'nll') == 2
  with pytest.raises(UserError, match="was saved with the metric 'mse'"):
    checkpoint.best_step(tmp_path, 'mse')
  write(tmp_path, (7,), keep=1, best='nll', values={7: 2.0})
  assert checkpoint.steps(tmp_path) == [7]


def test_an_exception_still_commits_the_save_in_flight(tmp_path):
  with pytest.raises(RuntimeError, match='lightning'), checkpoint.saving(tmp_path, 2, '') as manager:
    checkpoint.save(manager, placed(arrays(3)), {}, {})
    raise RuntimeError('lightning')
  same(checkpoint.restore(tmp_path, like()).state, arrays(3))
  assert not list((tmp_path / 'checkpoints').glob('*tmp*'))


def test_a_failed_save_leaves_no_draft_though_other_writes_of_it_go_on(tmp_path):
  draft, failed, manager = tmp_path / '4.orbax-checkpoint-tmp', threading.Event(), type('', (), {})()

  def straggle():  # another array's write, that makes its folder anew three times
    failed.wait()
    for number in range(3):
      time.sleep(0.1)
      draft.mkdir(exist_ok=True)
      (draft / str(number)).write_bytes(b'x')

  def fail():
    draft.mkdir()
    failed.set()
    raise OSError('No space left on device')

  manager.wait_until_finished = fail
  straggler = threading.Thread(target=straggle)
  straggler.start()
  with pytest.raises(Halt, match='the disk is full'):
    checkpoint.commit(checkpoint.Saver(tmp_path, 1, '', {}, manager, under_way=4))
  straggler.join()
  assert not list(tmp_path.iterdir())


def test_what_is_trained_on_does_not_reach_into_a_save_in_flight(tmp_path):
  state, steps = placed(arrays(0)), (1, 2, 3)
  change = jax.jit(lambda s: jax.tree.map(lambda x: x + x.dtype.type(1), s), donate_argnums=0)
  expected = {}
  with checkpoint.saving(tmp_path, 9, '') as manager:
    for step in steps:
      state = change(state.replace(extra={}))
      expected[step] = jax.tree.map(np.array, state)
      checkpoint.save(manager, state, {}, {})
  wanted = like().replace(extra={})
  for step in steps:
    same(checkpoint.restore(tmp_path, wanted, step).state, expected[step])


@pytest.mark.parametrize('devices', [1, 8])
def test_graft_takes_a_network_and_leaves_the_rest(run, devices):
  fresh = placed(arrays(0), devices, shard_params=devices > 1)
  new = graft.graft(fresh, {'encoder': str(run)})
  same(new.params['encoder'], arrays(4).params['encoder'])
  same(new.replace(params=new.params | {'encoder': fresh.params['encoder']}), fresh)
  jax.tree.map(lambda a, b: a.sharding == b.sharding or pytest.fail(), new, fresh)


def game(seed, average=True):
  """A state of two networks with all that can be kept for one."""
  random = np.random.default_rng(seed)
  real = lambda *shape: random.normal(size=shape).astype('f4')
  networks = lambda: {'critic': {'kernel': real(3, 2)}, 'generator': {'kernel': real(2, 2)}}
  extra = {
    'critic_statistics': {kind: {'mean': real(2)} for kind in ('real', 'generated')},
    'generator_statistics': {'mean': real(2)}, 'reference': real(3),
  }  # fmt: skip
  kept = {'ema': networks(), 'ema_statistics': {'generator_statistics': {'mean': real(2)}}, 'history': networks()}
  return State(np.int32(seed), networks(), {}, extra | (kept if average else {}))


def trained(folder, state):
  with checkpoint.saving(folder, 1, '') as manager:
    checkpoint.save(manager, jax.tree.map(jnp.asarray, state), {}, {})
  return str(folder)


def test_graft_takes_all_that_is_kept_for_a_network(tmp_path):
  there, here = game(1), game(0)
  new = graft.graft(jax.tree.map(jnp.asarray, here), {'generator': trained(tmp_path, there)})
  entry, at = 'generator_statistics', 'generator'
  extra = here.extra | {
    entry: there.extra[entry], 'reference': there.extra['reference'],
    'ema_statistics': there.extra['ema_statistics'],
    'ema': here.extra['ema'] | {at: there.extra['ema'][at]},
    'history': here.extra['history'] | {at: there.extra['history'][at]},
  }  # fmt: skip
  same(new, here.replace(params=here.params | {at: there.params[at]}, extra=extra))


def test_graft_without_an_average_begins_one_at_what_it_takes(tmp_path):
  there, here = game(1, average=False), game(0)
  new = graft.graft(jax.tree.map(jnp.asarray, here), {'generator': trained(tmp_path, there)})
  for entry in ('ema', 'history'):
    same(new.extra[entry], here.extra[entry] | {'generator': there.params['generator']})
  same(new.extra['ema_statistics'], {'generator_statistics': there.extra['generator_statistics']})
  leaves = [leaf for leaf in jax.tree.leaves((new.params, new.extra)) if leaf.size > 1]
  assert len({leaf.unsafe_buffer_pointer() for leaf in leaves}) == len(leaves)  # a step may give each away


@pytest.mark.parametrize(
  ('entry', 'networks', 'owner'),
  [
    ('critic_statistics', ('critic', 'generator'), 'critic'),
    ('critic_2_statistics', ('critic', 'critic_2'), 'critic_2'),
    ('criticism', ('critic', 'generator'), ''), ('stats', ('flow', 'dequantizer'), 'flow'),
    ('stats', ('classifier',), 'classifier'), ('reference', ('critic', 'generator'), 'generator'),
  ],
)  # fmt: skip
def test_every_entry_has_one_owner(entry, networks, owner):
  assert graft.owner(entry, networks) == owner


def test_graft_of_a_smaller_network_begins_the_rest_afresh_if_it_is_allowed(tmp_path, capsys):
  """A network that grew takes what is there, its averages too; what is too much there is refused."""
  there, here = game(1), game(0)
  layer = {'layers_8': {'conv': {'kernel': np.full((2, 2), 7.0, 'f4')}}}
  larger = lambda extra: extra | {'ema': extra['ema'] | {'generator': extra['ema']['generator'] | layer}}
  grown = here.replace(params=here.params | {'generator': here.params['generator'] | layer}, extra=larger(here.extra))
  grown = grown.replace(extra={entry: part for entry, part in grown.extra.items() if entry != 'history'})
  folder = trained(tmp_path / 'small', there)
  state = jax.tree.map(jnp.asarray, grown)
  message = r'but \S+layers_8/conv/kernel is absent there and float32\[2,2\] here: set config.graft_fresh=True'
  with pytest.raises(UserError, match=message):
    graft.graft(state, {'generator': folder})
  new = graft.graft(state, {'generator': folder}, fresh=True)
  assert capsys.readouterr().out == "'generator' begins afresh in layers_8\n"
  same(new.params['generator'], there.params['generator'] | layer)
  same(new.extra['ema']['generator'], there.extra['ema']['generator'] | layer)
  same(new.extra['generator_statistics'], there.extra['generator_statistics'])
  same(new.params['critic'], here.params['critic'])
  leaves = [leaf for leaf in jax.tree.leaves((new.params, new.extra)) if leaf.size > 1]
  assert len({leaf.unsafe_buffer_pointer() for leaf in leaves}) == len(leaves)
  with pytest.raises(UserError, match=r'but \S+layers_8/conv/kernel is float32\[2,2\] there and absent here$'):
    graft.graft(jax.tree.map(jnp.asarray, here), {'generator': trained(tmp_path / 'large', grown)}, fresh=True)
  wide = grown.replace(params=grown.params | {'generator': {'kernel': np.zeros((2, 3), 'f4')} | layer})
  with pytest.raises(UserError, match=r'but params/generator/kernel is float32\[2,2\] there and float32\[2,3\] here$'):
    graft.graft(jax.tree.map(jnp.asarray, wide), {'generator': folder}, fresh=True)


def test_graft_refuses_what_does_not_have_its_digest(tmp_path, monkeypatch):
  with monkeypatch.context() as patched:
    patched.setattr(writer, 'digest', lambda state: digest.digest(state) | {'extra/generator_statistics': '0-0'})
    folder = trained(tmp_path, game(1))
  with pytest.raises(UserError, match=r'which is damaged .the digest does not fit'):
    graft.graft(jax.tree.map(jnp.asarray, game(0)), {'generator': folder})


def test_graft_of_a_network_that_is_alone_takes_everything(tmp_path):
  alone = lambda state: state.replace(
    params={'critic': state.params['critic']}, extra={'stats': state.extra['reference']}
  )
  there, here = alone(game(1)), alone(game(0))
  new = graft.graft(jax.tree.map(jnp.asarray, here), {'critic': trained(tmp_path, there)})
  same(new, there.replace(step=here.step))


def test_graft_refuses_statistics_that_are_absent_or_damaged(tmp_path):
  there, here = game(1), jax.tree.map(jnp.asarray, game(0))
  less = there.replace(extra={entry: part for entry, part in there.extra.items() if entry != 'critic_statistics'})
  message = r'but extra/critic_statistics/generated/mean is absent there and float32\[2\] here'
  with pytest.raises(UserError, match=message):
    graft.graft(here, {'critic': trained(tmp_path / 'less', less)})
  folder = trained(tmp_path / 'more', there)
  for path in state_files(tmp_path / 'more' / 'checkpoints' / '1'):
    damage(path, 'flip')
  with pytest.raises(UserError, match='which is damaged'):
    graft.graft(here, {'generator': folder})


def test_graft_takes_networks_of_several_runs(run, tmp_path):
  write(tmp_path / 'other', (9,))
  new = graft.graft(placed(arrays(0)), {'encoder': str(run), 'decoder': str(tmp_path / 'other')})
  same(new.params, {'encoder': arrays(4).params['encoder'], 'decoder': arrays(9).params['decoder']})


def test_graft_refuses_in_one_line_what_does_not_fit(run, tmp_path):
  fresh = placed(arrays(0))
  small = fresh.replace(params=fresh.params | {'encoder': {'kernel': jnp.zeros((64, 128))}})
  bare = fresh.replace(params={})
  more = fresh.replace(params=fresh.params | {'critic': {'kernel': jnp.zeros(3)}})
  for state, sources, message in (
    (small, {'encoder': str(run)}, r'but params/encoder/bias is float32\[3\] there and absent here'),
    (more, {'critic': str(run)}, r'which has no such network; it has decoder, encoder'),
    (fresh, {'encoder': str(tmp_path / 'none')}, r'which has no checkpoint'),
    (bare, {'decoder': str(run)}, r'but params/decoder/kernel is float32\[2,2\] there and absent here'),
  ):
    with pytest.raises(UserError, match=f"^config.graft takes '{next(iter(sources))}' from .*{message}$"):
      graft.graft(state, sources)
  for path in state_files(run / 'checkpoints' / '4'):
    damage(path, 'flip')
  with pytest.raises(UserError, match=r'which is damaged'):
    graft.graft(fresh, {'encoder': str(run)})
  (run / 'checkpoints' / '4' / 'meta' / 'metadata').write_text('{}')
  with pytest.raises(UserError, match=r'which is damaged'):
    graft.graft(fresh, {'encoder': str(run)})
  assert checkpoint.steps(run) == [2, 4]  # the other run is not ours to tidy up
