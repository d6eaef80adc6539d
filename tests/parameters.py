"""Parameters of networks for tests, without the compilation that their own start takes."""

import math

import jax
import numpy as np

KERNELS = ('kernel', 'across')  # and with numbers: kernel_0


def at_random(shapes, seed: int = 0):
  """Arrays for a tree of shapes: gains about one, kernels that keep the scale of what they act on, small biases."""
  rng = np.random.default_rng(seed)

  def numbers(path, leaf):
    name = path[-1].key
    if name.startswith(KERNELS):
      return rng.normal(size=leaf.shape).astype('f4') / np.float32(math.sqrt(math.prod(leaf.shape[:-1])))
    return (float(name == 'scale') + 0.2 * rng.normal(size=leaf.shape)).astype('f4')

  return jax.tree_util.tree_map_with_path(numbers, shapes)
