"""What an autoregressive network's numbers depend on, by gradients of the network as it is, trained or not.

A variable is what is drawn at once: a pixel, or a channel where channels are ordered; variables are counted in raster
order.

Axes: B batch, H height, W width, C channels.
"""

import jax
import jax.numpy as jnp

from dgm_jax.systems.parts.pixels import Pixel

__all__ = ['gradients']


def gradients(key, network, params, pixel: Pixel, x: jax.Array, first: jax.Array, condition=None) -> dict:
  """The largest gradients, of any weighting of the numbers of the variables 0 to `first`, by later and earlier inputs.

  Args:
    key: of the weighting, normal, in which nothing cancels but by chance.
    network: called as (image, condition).
    params: of the network.
    pixel: what the numbers mean.
    x: [B, H, W, C] in data space.
    first: [B] int32, of each image; past the last variable, the count begins again.
    condition: [B, D], [B, H, W, D] or None.

  Returns: 'later' [B], over the inputs from `first` on: exactly zero where the network is causal; 'earlier' [B].
  """
  numbers, back = jax.vjp(lambda read: network.apply({'params': params}, read, condition), pixel.inputs(x))
  order = jnp.arange(x.shape[1] * x.shape[2] * pixel.groups).reshape(1, *x.shape[1:3], pixel.groups)
  first = (first % order.size)[:, None, None, None]
  weights = jax.random.normal(key, (*x.shape[:3], pixel.groups, numbers.shape[-1] // pixel.groups))
  weights = jnp.where((order <= first)[..., None], weights, 0).reshape(numbers.shape)
  size = jnp.abs(back(weights)[0]).reshape(*x.shape[:3], pixel.groups, -1).max(-1)
  late = order >= first
  return {'later': jnp.where(late, size, 0).max((1, 2, 3)), 'earlier': jnp.where(late, 0, size).max((1, 2, 3))}
