"""Views of a hierarchy of latents: what changes if the noise of a single level is sampled anew.

Axes: L levels, n images, [...] the shape of an image.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from dgm_jax.core import Key, State
from dgm_jax.systems.parts.bounds import Decoder, Posterior

__all__ = ['decompression', 'variation']


def variation(levels: Sequence[Callable]) -> Callable:
  """Returns the view of samples whose noise differs in one level alone, (key, state, n) -> [L, n, ...].

  Args:
    levels: from the top, (key, state, sample of the level above) -> sample, with a batch axis of 1; the first ignores
      its third argument, the last draws the image.
  """

  def view(key: Key, state: State, n: int) -> jax.Array:
    for_common, for_single = jax.random.split(key)
    common, single = jax.random.split(for_common, len(levels)), jax.random.split(for_single, (len(levels), n))
    alone = jnp.eye(len(levels), dtype=bool)[:, None]
    keys = jnp.where(alone, single[:, :, None], common[None, None])

    def image(keys):
      x: Any = None
      for own, level in zip(keys, levels, strict=True):
        x = level(own, state, x)
      return x[0]

    return jax.vmap(jax.vmap(image))(keys)

  return view


def decompression(posterior: Posterior, decoder: Decoder) -> Callable:
  """Returns the view of images x' ~ p(x'|z) with z ~ q(z|x)."""

  def view(key: Key, state: State, x: jax.Array) -> jax.Array:
    for_z, for_x = jax.random.split(key)
    return decoder.sample(for_x, state, posterior.draw(for_z, state, x, None)[0].z)

  return view
