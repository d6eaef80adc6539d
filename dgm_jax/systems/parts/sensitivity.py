"""Measures which inputs the outputs of an autoregressive network depend on, by gradients.

The network may be trained or not. A variable is what is sampled at once: a pixel, or a channel if channels are ordered.
Variables are counted in raster order.

Axes: B batch, H height, W width, C channels.
"""

from typing import Any

import jax
import jax.numpy as jnp

from dgm_jax.systems.parts.pixels import Pixel

__all__ = ['gradients']


def gradients(
  key: jax.Array, network: Any, params: Any, pixel: Pixel, x: jax.Array, first: jax.Array, condition: Any = None
) -> dict:
  """Computes how strongly the outputs for variables 0 to `first` depend on later and on earlier inputs.

  The outputs are combined with random normal weights from `key`, so that gradients do not cancel. A dependence is the
  largest absolute gradient.

  Args:
    key: random key of the weights.
    network: called as (inputs, condition).
    params: of the network.
    pixel: the distribution that the outputs parametrise.
    x: [B, H, W, C] in data space.
    first: [B] int32, a variable of each image, modulo the number of variables.
    condition: [B, D], [B, H, W, D] or None.

  Returns:
    'later' [B], over the inputs from `first` on, exactly zero for a causal network; 'earlier' [B].
  """
  outputs, back = jax.vjp(lambda inputs: network.apply({'params': params}, inputs, condition), pixel.inputs(x))
  order = jnp.arange(x.shape[1] * x.shape[2] * pixel.groups).reshape(1, *x.shape[1:3], pixel.groups)
  first = (first % order.size)[:, None, None, None]
  weights = jax.random.normal(key, (*x.shape[:3], pixel.groups, outputs.shape[-1] // pixel.groups))
  weights = jnp.where((order <= first)[..., None], weights, 0).reshape(outputs.shape)
  size = jnp.abs(back(weights)[0]).reshape(*x.shape[:3], pixel.groups, -1).max(-1)
  late = order >= first
  return {'later': jnp.where(late, size, 0).max((1, 2, 3)), 'earlier': jnp.where(late, 0, size).max((1, 2, 3))}
