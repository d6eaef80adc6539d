"""Networks with weights that no random number has made, and their layers once more in plain NumPy, float64."""

import math
from collections import Counter

import jax
import numpy as np
from playing import doubles, filled

KEYS = {name: jax.random.key(3) for name in ('params', 'dropout', 'noise')}


def wave(*shape, start=0.3):
  """An array of sines, float32."""
  return jax.device_put(np.sin(start + 0.9 * np.arange(math.prod(shape))).reshape(shape).astype(np.float32))


def given(module, *args, change=lambda variables: variables, mutable=False, **options):
  """(variables in float64, output in float64) of a module whose weights are sines."""
  like = jax.eval_shape(lambda: module.init(KEYS, *args, **options))
  variables = change(filled(like))
  out = jax.jit(lambda variables: module.apply(variables, *args, mutable=mutable, **options))(variables)
  return doubles(variables), jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), out)


def assert_same(out, expected, rtol=1e-4):
  """Equal up to float32, in shape too."""
  assert np.shape(out) == np.shape(expected)
  np.testing.assert_allclose(out, expected, rtol=rtol, atol=rtol * max(1e-6, np.abs(expected).max()))


def relu(x):
  return np.maximum(x, 0)


def leaky(x, slope):
  return np.where(x > 0, x, slope * x)


def elu(x):
  return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))


def sigmoid(x):
  return 1 / (1 + np.exp(-x))


def shift(params, bias):
  """The bias of a layer that is to have one, and that no other has."""
  assert ('bias' in params) == bias
  return params.get('bias', 0)


def dense(params, x, bias=True):
  return x @ params['kernel'] + shift(params, bias)


def sides_of(params):
  """How many kernels of each height and width there are."""
  leaves = jax.tree_util.tree_leaves_with_path(params)
  return Counter(leaf.shape[:2] for path, leaf in leaves if path[-1].key == 'kernel' and leaf.ndim == 4)


def padded(x, low, high):
  return np.pad(x, [(0, 0), low, high, (0, 0)])


def sides(size, kernel, stride):
  """The zeros of 'SAME' before and after."""
  total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
  return total // 2, total - total // 2


def correlate(x, kernel, stride=1):
  """The products of a kernel [h, w, C, F] with all windows of x [B, H, W, C]."""
  height, width = ((n - k) // stride + 1 for n, k in zip(x.shape[1:3], kernel.shape[:2], strict=True))
  total = 0
  for i in range(kernel.shape[0]):
    for j in range(kernel.shape[1]):
      window = x[:, i : i + stride * (height - 1) + 1 : stride, j : j + stride * (width - 1) + 1 : stride]
      total = total + window @ kernel[i, j]
  return total


def conv(params, x, stride=1, bias=True):
  """'SAME'."""
  kernel = params['kernel']
  pads = [sides(n, k, stride) for n, k in zip(x.shape[1:3], kernel.shape[:2], strict=True)]
  return correlate(padded(x, *pads), kernel, stride) + shift(params, bias)


def transposed(params, x, bias=True):
  """Stride 2, 'SAME': zeros between the pixels, then a convolution."""
  kernel = params['kernel']
  batch, height, width, channels = x.shape
  spread = np.zeros((batch, 2 * height - 1, 2 * width - 1, channels))
  spread[:, ::2, ::2] = x
  size = kernel.shape[0]
  before = -(-size // 2) if size > 2 else size - 1
  return correlate(padded(spread, *[(before, size - before)] * 2), kernel) + shift(params, bias)


def batch_norm(params, x, epsilon=1e-5, scale=True):
  axes = tuple(range(x.ndim - 1))
  assert ('scale' in params) == scale
  return (x - x.mean(axes)) / np.sqrt(x.var(axes) + epsilon) * params.get('scale', 1) + params['bias']


def layer_norm(params, x, epsilon=1e-5):
  axes = tuple(range(1, x.ndim))
  centred = x - x.mean(axes, keepdims=True)
  return centred / np.sqrt(x.var(axes, keepdims=True) + epsilon) * params['scale'] + params['bias']


def windows(x, pads=(0, 0), stride=1, size=3, blank=-np.inf):
  """[size^2, B, H', W', C]: what a pooling of a square sees."""
  x = np.pad(x, [(0, 0), pads, pads, (0, 0)], constant_values=blank)
  height, width = ((n - size) // stride + 1 for n in x.shape[1:3])
  return np.stack([
    x[:, i : i + stride * (height - 1) + 1 : stride, j : j + stride * (width - 1) + 1 : stride]
    for i in range(size) for j in range(size)
  ])  # fmt: skip


def layer(params, i):
  """One of the layers that are stacked."""
  return jax.tree.map(lambda leaf: leaf[i], params)


def squeezed(x):
  """Space to depth."""
  batch, height, width, channels = x.shape
  x = x.reshape(batch, height // 2, 2, width // 2, 2, channels).transpose(0, 1, 3, 2, 4, 5)
  return x.reshape(batch, height // 2, width // 2, -1)
