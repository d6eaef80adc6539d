"""Weights of the Inception network: blocks against NumPy in the names of the released files, and what is refused."""

import hashlib
import sys
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from dgm_jax.commands import prepare
from dgm_jax.errors import UserError
from dgm_jax.evals.judges import inception as system
from dgm_jax.models import inception, inception_weights

RANDOM = np.random.default_rng(9)


def conv(state, name, x, stride=1, pad=(0, 0)):
  """A convolution of [B, H, W, C] with PyTorch's weights [O, I, h, w], its normalisation and its rectifier."""
  kernel = state[f'{name}.conv.weight']
  x = np.pad(x, ((0, 0), (pad[0],) * 2, (pad[1],) * 2, (0, 0)))
  height, width = (x.shape[1] - kernel.shape[2]) // stride + 1, (x.shape[2] - kernel.shape[3]) // stride + 1
  y = 0.0
  for i in range(kernel.shape[2]):
    for j in range(kernel.shape[3]):
      y = y + x[:, i : i + stride * height : stride, j : j + stride * width : stride] @ kernel[:, :, i, j].T
  mean, variance = state[f'{name}.bn.running_mean'], state[f'{name}.bn.running_var']
  y = (y - mean) / np.sqrt(variance + 1e-3) * state[f'{name}.bn.weight'] + state[f'{name}.bn.bias']
  return np.maximum(y, 0)


def window(x, reduce, stride=1):
  """3 x 3 windows; with stride 1 those of the border have fewer pixels."""
  size = x.shape[1] if stride == 1 else (x.shape[1] - 3) // 2 + 1
  first = -1 if stride == 1 else 0
  out = np.zeros((len(x), size, size, x.shape[3]))
  for i in range(size):
    for j in range(size):
      rows, columns = stride * i + first, stride * j + first
      part = x[:, max(rows, 0) : rows + 3, max(columns, 0) : columns + 3]
      out[:, i, j] = reduce(part, (1, 2))
  return out


def line(state, x, *layers):
  for name, options in layers:
    x = conv(state, name, x, **options)
  return x


ROW, COLUMN = {'pad': (0, 3)}, {'pad': (3, 0)}


def block_a(s, x):
  five = line(s, x, ('branch5x5_1', {}), ('branch5x5_2', {'pad': (2, 2)}))
  three = line(s, x, *((f'branch3x3dbl_{i}', {'pad': (int(i > 1),) * 2}) for i in (1, 2, 3)))
  return conv(s, 'branch1x1', x), five, three, conv(s, 'branch_pool', window(x, np.mean))


def block_b(s, x):
  deep = line(s, x, ('branch3x3dbl_1', {}), ('branch3x3dbl_2', {'pad': (1, 1)}), ('branch3x3dbl_3', {'stride': 2}))
  return conv(s, 'branch3x3', x, 2), deep, window(x, np.max, 2)


def block_c(s, x):
  short = line(s, x, ('branch7x7_1', {}), ('branch7x7_2', ROW), ('branch7x7_3', COLUMN))
  steps = {1: {}, 2: COLUMN, 3: ROW, 4: COLUMN, 5: ROW}
  long = line(s, x, *((f'branch7x7dbl_{i}', options) for i, options in steps.items()))
  return conv(s, 'branch1x1', x), short, long, conv(s, 'branch_pool', window(x, np.mean))


def block_d(s, x):
  short = line(s, x, ('branch3x3_1', {}), ('branch3x3_2', {'stride': 2}))
  steps = {1: {}, 2: ROW, 3: COLUMN, 4: {'stride': 2}}
  long = line(s, x, *((f'branch7x7x3_{i}', options) for i, options in steps.items()))
  return short, long, window(x, np.max, 2)


def block_e(s, x, pool):
  middle, deep = conv(s, 'branch3x3_1', x), line(s, x, ('branch3x3dbl_1', {}), ('branch3x3dbl_2', {'pad': (1, 1)}))
  fork = lambda h, name: [conv(s, f'{name}a', h, pad=(0, 1)), conv(s, f'{name}b', h, pad=(1, 0))]
  forks = [*fork(middle, 'branch3x3_2'), *fork(deep, 'branch3x3dbl_3')]
  return conv(s, 'branch1x1', x), *forks, conv(s, 'branch_pool', window(x, pool))


BLOCKS = {
  'BlockA': (inception.BlockA(6), block_a),
  'BlockB': (inception.BlockB(), block_b),
  'BlockC': (inception.BlockC(6), block_c),
  'BlockD': (inception.BlockD(), block_d),
  'BlockE_0': (inception.BlockE(inception._mean), lambda s, x: block_e(s, x, np.mean)),
  'BlockE_1': (inception.BlockE(inception._max), lambda s, x: block_e(s, x, np.max)),
}


@pytest.mark.parametrize('name', BLOCKS)
def test_blocks_of_converted_weights_compute_what_the_released_network_does(name):
  block, expected = BLOCKS[name]
  x = RANDOM.normal(size=(1, 5, 5, 3))
  like = traverse_util.flatten_dict(jax.eval_shape(block.init, jax.random.key(0), jnp.asarray(x, jnp.float32)), sep='/')
  state, converted = {}, {}
  for i, (_, torch_name) in enumerate(inception_weights.BLOCKS[name.partition('_')[0]]):
    for (collection, leaf), (_, torch_leaf) in inception_weights.LEAVES.items():
      shape = like[f'{collection}/Conv_{i}/{leaf}'].shape
      array = RANDOM.uniform(0.5, 1.5, shape) if leaf in ('variance', 'scale') else RANDOM.normal(size=shape)
      array = array / np.sqrt(np.prod(shape[:-1])) if len(shape) == 4 else array
      converted[f'{collection}/Conv_{i}/{leaf}'] = jnp.asarray(array, jnp.float32)
      state[f'{torch_name}.{torch_leaf}'] = array.transpose(3, 2, 0, 1) if len(shape) == 4 else array
  found = block.apply(traverse_util.unflatten_dict(converted, sep='/'), jnp.asarray(x, jnp.float32))
  np.testing.assert_allclose(found, np.concatenate(expected(state, x), -1), rtol=2e-4, atol=2e-4)


@pytest.fixture(scope='module')
def files():
  """The network's arrays in the names and shapes of both files, each filled with a number of its own."""
  like = jax.eval_shape(inception.Inception().init, jax.random.key(0), jnp.zeros((1, 299, 299, 3)))
  shapes = {name: leaf.shape for name, leaf in traverse_util.flatten_dict(like, sep='/').items()}
  graph, state, numbers = {}, {}, {}
  for path, names in inception_weights.convolutions():
    for (collection, leaf), leaves in inception_weights.LEAVES.items():
      name = f'{collection}/{path}/{leaf}'
      numbers[name] = float(len(numbers))
      graph[f'{names[0]}/{leaves[0]}'] = np.broadcast_to(np.float32(numbers[name]), shapes[name])
      turned = tuple(shapes[name][i] for i in (3, 2, 0, 1)) if len(shapes[name]) == 4 else shapes[name]
      state[f'{names[1]}.{leaves[1]}'] = np.broadcast_to(np.float32(numbers[name]), turned)
  graph |= {'softmax/weights': np.zeros((2048, 1008), 'f4'), 'softmax/biases': np.zeros(1008, 'f4')}
  state |= {'fc.weight': np.zeros((1008, 2048), 'f4'), 'fc.bias': np.zeros(1008, 'f4')}
  state['Conv2d_1a_3x3.bn.num_batches_tracked'] = np.zeros((), 'i8')
  return graph, state, numbers


def test_both_files_give_the_whole_network(files):
  graph, state, numbers = files
  for arrays in (inception_weights.from_graph(graph), inception_weights.from_state(state)):
    assert {name: float(array.ravel()[0]) for name, array in arrays.items() if name in numbers} == numbers
    system.check(arrays, 'here')


def test_a_file_is_converted_and_named_by_its_digest(files, tmp_path, monkeypatch, capsys):
  _, state, _ = files
  content = b'what PyTorch reads'
  source = tmp_path / f'weights-inception-2015-12-05-{hashlib.sha256(content).hexdigest()[:8]}.pth'
  source.write_bytes(content)
  monkeypatch.setattr(prepare, '_torch_arrays', lambda path: state)
  monkeypatch.setattr(inception_weights, 'from_state', lambda arrays: {'params/x': np.zeros(3)})
  monkeypatch.setattr(system, 'check', lambda arrays, path: None)
  prepare.main(['prepare', 'inception', str(source), str(tmp_path / 'made.npz')])
  digest = hashlib.sha256((tmp_path / 'made.npz').read_bytes()).hexdigest()
  assert capsys.readouterr().out.rstrip().endswith(f'--judge=inception:{tmp_path / "made.npz"}#{digest}')


@pytest.mark.parametrize(
  ('name', 'message'),
  [
    ('weights-inception-2015-12-05-6726825d.pth', r'has the SHA-256 [0-9a-f]{64}, not 6726825d\.\.\.: bring'),
    ('weights.pth', r'does not bear the digits of its SHA-256'),
    ('missing.pth', r'is not a file'),
  ],
)
def test_another_file_is_refused(name, message, tmp_path):
  if name != 'missing.pth':
    (tmp_path / name).write_bytes(b'other')
  with pytest.raises(UserError, match=message):
    prepare.inception(tmp_path / name, tmp_path / 'out.npz')
  assert not (tmp_path / 'out.npz').exists()


def test_another_network_is_refused(files, tmp_path, monkeypatch):
  graph, _, _ = files
  source = tmp_path / 'classify_image_graph_def.pb'
  source.write_bytes(b'graph')
  monkeypatch.setattr(
    prepare, '_graph_arrays', lambda path: {name: a for name, a in graph.items() if 'tower_2' not in name}
  )
  with pytest.raises(UserError, match=r"has no 'mixed/tower_2/conv/conv2d_params'"):
    prepare.inception(source, tmp_path / 'out.npz')
  narrow = graph | {'softmax/weights': np.zeros((2048, 1000), 'f4')}
  monkeypatch.setattr(prepare, '_graph_arrays', lambda path: narrow)
  with pytest.raises(UserError, match=r'params/kernel has the shape \(2048, 1000\), expected \(2048, 1008\)'):
    prepare.inception(source, tmp_path / 'out.npz')


def test_without_the_package_that_reads_a_file_it_is_named(tmp_path, monkeypatch):
  monkeypatch.setattr(prepare.importlib.util, 'find_spec', lambda name: None)
  source = tmp_path / 'inception-2015-12-05.tgz'
  source.write_bytes(b'')
  with pytest.raises(UserError, match=r"needs TensorFlow, once: pip install 'dgm_jax\[prepare\]'"):
    prepare.inception(source, tmp_path / 'out.npz')
  with pytest.raises(UserError, match=r'needs PyTorch, once: pip install torch'):
    prepare._torch_arrays(source)


def test_a_damaged_file_is_one_line(tmp_path, monkeypatch):
  def load(path, **options):
    raise ValueError('cut short\nin its middle')

  monkeypatch.setattr(prepare.importlib.util, 'find_spec', lambda name: name)
  monkeypatch.setitem(sys.modules, 'torch', SimpleNamespace(load=load))
  with pytest.raises(UserError, match=r'cannot be read by PyTorch: cut short$'):
    prepare._torch_arrays(tmp_path / 'a.pth')
