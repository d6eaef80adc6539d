"""Convolutional blocks against those of Flax."""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dgm_jax.nn.blocks import TransposedConv


@pytest.mark.parametrize('size', range(1, 9))
def test_a_transposed_convolution_is_that_of_flax_and_so_are_its_gradients(size):
  x = jax.random.normal(jax.random.key(0), (2, 3, 4, 5))
  ours, theirs = TransposedConv(6, size), nn.ConvTranspose(6, (size, size), (2, 2))
  params = ours.init(jax.random.key(1), x)
  chex.assert_trees_all_equal(params, theirs.init(jax.random.key(1), x))
  params['params']['bias'] = jax.random.normal(jax.random.key(2), (6,))
  np.testing.assert_allclose(*jax.jit(lambda *args: (ours.apply(*args), theirs.apply(*args)))(params, x), atol=1e-5)
  slopes = lambda module: jax.grad(lambda params, x: jnp.sin(module.apply(params, x)).sum(), (0, 1))
  both = jax.jit(lambda *args: (slopes(ours)(*args), slopes(theirs)(*args)))(params, x)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), *both)


def test_where_vendors_skip_the_zeros_theirs_is_taken():
  layer, x = TransposedConv(6), jax.ShapeDtypeStruct((2, 3, 4, 5), 'float32')
  params = jax.eval_shape(layer.init, jax.random.key(0), x)
  lowered = lambda platform: jax.jit(layer.apply).trace(params, x).lower(lowering_platforms=(platform,)).as_text()
  assert 'lhs_dilate = [2, 2]' in lowered('cuda')
  assert 'lhs_dilate = [2, 2]' not in lowered('cpu')
