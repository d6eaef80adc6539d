"""Weights of the Inception network by the names in published files.

The network of published distances is available as a graph of TensorFlow, classify_image_graph_def.pb of 2015-12-05. Two
states of PyTorch are converted from it: weights-inception-2015-12-05-6726825d.pth of torch-fidelity, and
pt_inception-2015-12-05-6726825d.pth of pytorch-fid. The weights in all of them are equal.
"""

from collections.abc import Callable, Iterator, Mapping

import numpy as np

__all__ = ['convolutions', 'from_graph', 'from_state']

# Block -> its convolutions, in the order of their creation in `models.inception`: (TensorFlow, PyTorch).
BLOCKS = {
  'BlockA': (
    ('conv', 'branch1x1'), ('tower/conv_1', 'branch5x5_2'), ('tower/conv', 'branch5x5_1'),
    ('tower_1/conv_2', 'branch3x3dbl_3'), ('tower_1/conv_1', 'branch3x3dbl_2'), ('tower_1/conv', 'branch3x3dbl_1'),
    ('tower_2/conv', 'branch_pool'),
  ),
  'BlockB': (
    ('tower/conv_2', 'branch3x3dbl_3'), ('tower/conv_1', 'branch3x3dbl_2'), ('tower/conv', 'branch3x3dbl_1'),
    ('conv', 'branch3x3'),
  ),
  'BlockC': (
    ('tower/conv_2', 'branch7x7_3'), ('tower/conv_1', 'branch7x7_2'), ('tower/conv', 'branch7x7_1'),
    ('tower_1/conv_1', 'branch7x7dbl_2'), ('tower_1/conv', 'branch7x7dbl_1'), ('tower_1/conv_4', 'branch7x7dbl_5'),
    ('tower_1/conv_3', 'branch7x7dbl_4'), ('tower_1/conv_2', 'branch7x7dbl_3'), ('conv', 'branch1x1'),
    ('tower_2/conv', 'branch_pool'),
  ),
  'BlockD': (
    ('tower/conv_1', 'branch3x3_2'), ('tower/conv', 'branch3x3_1'), ('tower_1/conv_2', 'branch7x7x3_3'),
    ('tower_1/conv_1', 'branch7x7x3_2'), ('tower_1/conv', 'branch7x7x3_1'), ('tower_1/conv_3', 'branch7x7x3_4'),
  ),
  'BlockE': (
    ('tower/conv', 'branch3x3_1'), ('tower_1/conv_1', 'branch3x3dbl_2'), ('tower_1/conv', 'branch3x3dbl_1'),
    ('tower/mixed/conv', 'branch3x3_2a'), ('tower/mixed/conv_1', 'branch3x3_2b'),
    ('tower_1/mixed/conv', 'branch3x3dbl_3a'), ('tower_1/mixed/conv_1', 'branch3x3dbl_3b'), ('conv', 'branch1x1'),
    ('tower_2/conv', 'branch_pool'),
  ),
}  # fmt: skip
STEM = (
  ('conv', 'Conv2d_1a_3x3'), ('conv_1', 'Conv2d_2a_3x3'), ('conv_2', 'Conv2d_2b_3x3'), ('conv_4', 'Conv2d_4a_3x3'),
  ('conv_3', 'Conv2d_3b_1x1'),
)  # fmt: skip
PLACES = (
  ('BlockA_0', 'Mixed_5b'), ('BlockA_1', 'Mixed_5c'), ('BlockA_2', 'Mixed_5d'), ('BlockB_0', 'Mixed_6a'),
  ('BlockC_0', 'Mixed_6b'), ('BlockC_1', 'Mixed_6c'), ('BlockC_2', 'Mixed_6d'), ('BlockC_3', 'Mixed_6e'),
  ('BlockD_0', 'Mixed_7a'), ('BlockE_0', 'Mixed_7b'), ('BlockE_1', 'Mixed_7c'),
)  # fmt: skip
LEAVES = {  # arrays of a convolution: (TensorFlow, PyTorch)
  ('params', 'conv/kernel'): ('conv2d_params', 'conv.weight'),
  ('params', 'scale'): ('batchnorm/gamma', 'bn.weight'),
  ('params', 'bias'): ('batchnorm/beta', 'bn.bias'),
  ('batch_stats', 'mean'): ('batchnorm/moving_mean', 'bn.running_mean'),
  ('batch_stats', 'variance'): ('batchnorm/moving_variance', 'bn.running_var'),
}
GRAPH, STATE = 0, 1  # the columns of the tables above


def from_graph(constants: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  """Returns the arrays of TensorFlow's graph, by their paths in `models.inception.Inception`.

  Raises:
    KeyError: an array is missing.
  """
  return _convert(constants, GRAPH, lambda array: array)


def from_state(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  """Returns the arrays of PyTorch's state, by their paths in `models.inception.Inception`.

  Output channels are the first axis in the state, and the last in the result.

  Raises:
    KeyError: an array is missing.
  """
  return _convert(state, STATE, lambda array: array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T)


def _convert(arrays: Mapping[str, np.ndarray], column: int, transpose: Callable) -> dict[str, np.ndarray]:
  """Renames all arrays; `transpose` moves a kernel's output channels to the last axis, its input channels before."""
  weights = {}
  for path, names in convolutions():
    for (collection, leaf), leaves in LEAVES.items():
      name = names[column] + ('/', '.')[column] + leaves[column]
      weights[f'{collection}/{path}/{leaf}'] = np.asarray(transpose(arrays[name]), np.float32)
  weight, bias = (('softmax/weights', 'softmax/biases'), ('fc.weight', 'fc.bias'))[column]
  ends = {'params/kernel': transpose(arrays[weight]), 'params/bias': arrays[bias]}
  return weights | {path: np.asarray(array, np.float32) for path, array in ends.items()}


def convolutions() -> Iterator[tuple[str, tuple[str, str]]]:
  """Yields each convolution's path in the network and its names in the two files."""
  for i, names in enumerate(STEM):
    yield f'Conv_{i}', names
  for number, (block, place) in enumerate(PLACES):
    mixed = f'mixed_{number}' if number else 'mixed'
    for i, (graph, state) in enumerate(BLOCKS[block.partition('_')[0]]):
      yield f'{block}/Conv_{i}', (f'{mixed}/{graph}', f'{place}.{state}')
