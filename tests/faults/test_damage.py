"""Files of the newest checkpoint that are damaged in any way: noticed or harmless, and always recovered from."""

import gc
import random
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from trials import record, trials

from dgm_jax.core import State
from dgm_jax.runs import checkpoint, digest
from dgm_jax.runtime import parallel

# When one of Orbax's reads fails, the others are given up, and say so.
pytestmark = pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning')
KINDS = ('flip', 'truncate', 'delete', 'zero', 'empty')


@pytest.fixture(autouse=True)
def collected():
  """Has them say so within the test."""
  yield
  gc.collect()


def state(step):
  """Parameters, optimizer memory, averages and statistics; some are large enough for a file of their own."""
  chance = np.random.default_rng(step)
  real = lambda *shape: chance.normal(size=shape).astype('f4')
  networks = {'encoder': {'kernel': real(784, 200), 'bias': real(200)}, 'decoder': {'kernel': real(50, 784)}}
  average = jax.tree.map(lambda x: x / 2, networks['decoder'])
  return jax.tree.map(
    jnp.asarray,
    State(
      np.int32(step),
      networks,
      {'model': (np.int32(step), jax.tree.map(np.square, networks))},
      {'ema': {'decoder': average}, 'batch_stats': {'mean': real(64), 'seen': np.arange(3)}},
    ),
  )


@pytest.fixture(scope='module')
def good(tmp_path_factory):
  """A run with steps 20 and 40, and what its states are made of."""
  folder = tmp_path_factory.mktemp('good')
  mesh = parallel.mesh(1)
  put = lambda tree: jax.tree.map(lambda x: parallel.put(np.asarray(x), parallel.replicated(mesh)), tree)
  with checkpoint.saving(folder, 2, '') as manager:
    for step in (20, 40):
      checkpoint.save(manager, put(state(step)), {}, {})
  shape = lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=parallel.replicated(mesh))
  return folder, jax.tree.map(shape, state(0))


def files(folder):
  return sorted(path for path in (folder / 'checkpoints' / '40').rglob('*') if path.is_file())


def damage(path, kind, chance):
  """Does it, and returns whether there was anything to do."""
  content = bytearray(path.read_bytes())
  if kind == 'delete':
    path.unlink()
    return True
  if not content:
    return False
  if kind == 'flip':
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
  elif kind == 'truncate':
    content = content[: chance.randrange(len(content))]
  elif kind == 'zero':
    begin = chance.randrange(len(content))
    content[begin : begin + 4096] = bytes(len(content[begin : begin + 4096]))
  else:
    content = b''
  changed = content != path.read_bytes()
  path.write_bytes(content)
  return changed


def recovered(good, folder, like, path, kind, chance):
  """'detected' or 'harmless' when the state that came back is one that was saved, otherwise what went wrong."""
  shutil.rmtree(folder, ignore_errors=True)
  shutil.copytree(good, folder)
  if not damage(folder / path.relative_to(good), kind, chance):
    return 'nothing changed'
  restored = checkpoint.restore(folder, like, trains=True)
  whole = digest.digest(restored.state) == digest.digest(state(restored.step))
  aside = sorted(p.name for p in (folder / 'checkpoints').iterdir())
  if whole and restored.step == 40 and aside == ['20', '40']:
    return 'harmless'
  if whole and restored.step == 20 and aside == ['20', '40.corrupt']:
    return 'detected'
  return f'{path.name} {kind}: step {restored.step} {"whole" if whole else "wrong"}, {aside}'


def test_damage_to_any_file_is_noticed_or_harmless_and_the_newest_good_step_is_taken(good, tmp_path, capfd):
  folder, like = good
  chance = random.Random(0)
  each = [(path, kind) for path in files(folder) for kind in KINDS]
  assert len(each) >= 50
  sizes = [path.stat().st_size for path in files(folder)]
  big = chance.choices(files(folder), sizes, k=trials(2, 60))  # where the bytes are
  any_file = chance.choices(files(folder), k=trials(0, 60))
  chosen = [(path, chance.choice(KINDS)) for path in big + any_file] + each[:: trials(8, 1)]
  results = []
  for path, kind in chosen:
    results.append(recovered(folder, tmp_path / 'run', like, path, kind, chance))
    said = capfd.readouterr().err.splitlines()
    if results[-1] == 'detected':  # both steps, in one line
      assert len(said) == 1 and '40 is damaged and now 40.corrupt (' in said[0] and said[0].endswith('step 20 is taken')
  counts = {result: results.count(result) for result in ('detected', 'harmless', 'nothing changed')}
  made = len(results) - counts.pop('nothing changed')
  record('damage', trials=made, **counts, files=len(files(folder)), kinds=list(KINDS))
  assert counts['detected'] + counts['harmless'] == made, set(results)
  assert counts['detected'] > made / 3


def test_a_lost_folder_is_noticed(good, tmp_path, capfd):
  folder, like = good
  for name in ('state', 'meta'):
    run = tmp_path / name
    shutil.copytree(folder, run)
    shutil.rmtree(run / 'checkpoints' / '40' / name)
    assert checkpoint.restore(run, like, trains=True).step == 20
    with checkpoint.saving(run, 2, '') as manager:  # and does not count among the newest afterwards
      checkpoint.save(manager, state(60), {}, {})
    assert checkpoint.steps(run) == [20, 60]
    assert '40 is damaged and now 40.corrupt' in capfd.readouterr().err


def test_junk_among_the_checkpoints_is_named_and_does_not_cost_a_good_one(good, tmp_path, capfd):
  run = tmp_path / 'run'
  shutil.copytree(good[0], run)
  junk = run / 'checkpoints'
  (junk / '99').mkdir()
  (junk / '50').write_text('')
  (junk / 'notes').mkdir()
  (junk / 'readme.txt').write_text('mine')
  (junk / '60.orbax-checkpoint-tmp').mkdir()
  (junk / '60.orbax-checkpoint-tmp' / 'state').write_text('')
  with checkpoint.saving(run, 2, '') as manager:
    checkpoint.save(manager, state(60), {}, {})
  assert checkpoint.steps(run) == [40, 60]  # with `99` among the newest two, 40 would be gone
  names = {path.name for path in junk.iterdir()}
  assert names == {'40', '60', '99.corrupt', '50.corrupt', 'notes', 'readme.txt'}
  said = capfd.readouterr().err
  assert all(f'{junk / name} is no checkpoint and is ignored' in said for name in ('notes', 'readme.txt'))
  assert digest.digest(checkpoint.restore(run, good[1]).state) == digest.digest(state(60))


def test_a_folder_that_may_not_be_changed_is_read_all_the_same(good, tmp_path, monkeypatch, capfd):
  run = tmp_path / 'run'
  shutil.copytree(good[0], run)
  (run / 'checkpoints' / '40' / 'meta' / 'metadata').write_text('')

  def refuse(path, target):
    raise PermissionError(13, 'Permission denied')

  monkeypatch.setattr(type(run), 'rename', refuse)
  assert checkpoint.restore(run, good[1], trains=True).step == 20
  assert 'cannot be renamed (Permission denied); step 20 is taken' in capfd.readouterr().err


def test_a_restored_state_is_trained_on_in_the_buffers_it_came_in(good, tmp_path):
  """All of them are reused by a step that donates them, as those of a fresh state are."""
  restored = checkpoint.restore(good[0], good[1]).state
  step = jax.jit(lambda s: jax.tree.map(lambda x: x + x.dtype.type(1), s), donate_argnums=0)
  before = {leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(restored)}
  after = {leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(step(restored))}
  record('donation after restore', buffers=len(before), reused=len(before & after))
  assert before == after


def test_a_step_is_saved_once(good, tmp_path):
  run = tmp_path / 'run'
  with checkpoint.saving(run, 2, '') as manager:
    checkpoint.save(manager, state(4), {}, {})
    with pytest.raises(Exception, match='4'):
      checkpoint.save(manager, state(4), {}, {})
  assert checkpoint.steps(run) == [4]
