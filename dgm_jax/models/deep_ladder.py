"""The very deep ladder of VDVAE: residual maps at falling resolutions, and levels that add to one map on the way back.

Axes: B batch, N = B k rows, k samples of an example side by side, H height, W width, C channels, F features, D pixels;
level 0 is next to the data.

Reference: Child 2021, arXiv:2011.10650, section 3 and figure 3, and its program.
"""

import math
import re
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dgm_jax.models.conv_ladder import descend, normal, pixel_params, uniform
from dgm_jax.models.ladder import Normal, Rung, repeat, sample

__all__ = ['DeepBlock', 'DeepDecoder', 'DeepEncoder', 'parse_down', 'parse_up']


def parse_down(text: str) -> list[tuple[int, int]]:
  """Reads the blocks of a `DeepEncoder`: '32x11,32d2,16x6' are 11 blocks of side 32, one that halves, and 6 of side 16.

  Returns:
    side, and divisor after the block, of each block.

  Raises:
    ValueError: a part is none of these, or its side is not what the parts before it leave.
  """
  blocks, side = [], 0
  for part in text.split(','):
    match = re.fullmatch(r'([1-9]\d*)([xd])([1-9]\d*)', part)
    if not match:
      raise ValueError(f"got {part!r} in '{text}'; write 32x11 for blocks, 32d2 for one that halves")
    own, number = int(match[1]), int(match[3])
    if side not in (0, own):
      raise ValueError(f"{part} in '{text}' follows maps of side {side}: halve with {side}d2 before it")
    side = own
    if match[2] == 'x':
      blocks += [(own, 1)] * number
    elif own % number:
      raise ValueError(f"{part} in '{text}' divides a side of {own} by {number}")
    else:
      blocks.append((own, number))
      side = own // number
  return blocks


def parse_up(text: str) -> list[tuple[int, int]]:
  """Reads the levels of a `DeepDecoder`: '1x1,4m1,4x2' are one of side 1, one of side 4 that mixes in side 1, and two.

  Returns:
    side, and the side that is mixed in or 0, of each level, from the top down.

  Raises:
    ValueError: a part is none of these, or its side is not what the parts before it leave.
  """
  levels, side = [], 0
  for part in text.split(','):
    match = re.fullmatch(r'([1-9]\d*)([xm])([1-9]\d*)', part)
    if not match:
      raise ValueError(f"got {part!r} in '{text}'; write 4x2 for levels, 4m1 for one that mixes in side 1")
    own, number = int(match[1]), int(match[3])
    if match[2] == 'x':
      if side not in (0, own):
        raise ValueError(f"{part} in '{text}' follows levels of side {side}: mix them in with {own}m{side}")
      levels += [(own, 0)] * number
    elif side != number or own % number:
      raise ValueError(f"{part} in '{text}' mixes in side {number}, but the levels above it have side {side or 'none'}")
    else:
      levels.append((own, number))
    side = own
  return levels


class DeepBlock(nn.Module):
  """Four convolutions, each after a GELU: 1x1, 3x3, 3x3, 1x1, all 1x1 on sides up to 2."""

  features: int
  middle: int
  residual: bool = False
  scale: float = 1.0  # of the last layer's initial weights
  dtype: jnp.dtype | str = 'float32'

  @nn.compact
  def __call__(self, x: Float[Array, 'N H W C']) -> Float[Array, 'N H W F']:
    side, h = 3 if x.shape[1] > 2 else 1, x
    for i, size in enumerate((1, side, side, 1)):
      last = i == 3
      init = _scaled(self.scale) if last else uniform
      layer = nn.Conv(self.features if last else self.middle, (size, size), kernel_init=init, dtype=self.dtype)
      h = layer(jax.nn.gelu(h, approximate=False))
    return x + h if self.residual else h


def _scaled(factor: float) -> Callable:
  """Returns the initializer `uniform` times a factor."""
  return lambda key, shape, dtype=jnp.float32: factor * uniform(key, shape, dtype)


class DeepEncoder(nn.Module):
  """The features of each level: the last map of the level's side."""

  down: str
  up: str
  features: int = 384
  middle: int = 96
  dtype: jnp.dtype | str = 'float32'

  @nn.compact
  def __call__(self, x: Float[Array, 'B H W C']) -> list[Float[Array, 'B _ _ F']]:
    blocks, sides = parse_down(self.down), [side for side, _ in reversed(parse_up(self.up))]
    h = nn.Conv(self.features, (3, 3), kernel_init=uniform, dtype=self.dtype, name='input')(x)
    maps: dict[int, Array] = {h.shape[1]: h}
    for _, divisor in blocks:
      h = DeepBlock(self.features, self.middle, True, math.sqrt(1 / len(blocks)), self.dtype)(h)
      h = nn.avg_pool(h, (divisor, divisor), (divisor, divisor)) if divisor > 1 else h
      maps[h.shape[1]] = h
    return [maps[side] for side in sides]


class DeepRung(nn.Module):
  """One level; the first of each side adds the maps of the side above to a map that is a parameter."""

  side: int
  first: bool
  latents: int
  features: int
  middle: int
  count: int  # levels
  dtype: jnp.dtype | str = 'float32'

  @nn.compact
  def __call__(self, h, features, noise, z):
    rows, scale = noise.shape[0], math.sqrt(1 / self.count)
    block = lambda width, name, **more: DeepBlock(width, self.middle, dtype=self.dtype, name=name, **more)
    if self.first:
      start = self.param('start', nn.initializers.zeros, (1, self.side, self.side, self.features))
      start = jnp.broadcast_to(start, (rows, *start.shape[1:])).astype(self.dtype)
      h = (
        start
        if h is None
        else start + jnp.repeat(jnp.repeat(h, self.side // h.shape[1], 1), self.side // h.shape[2], 2)
      )
    said = block(2 * self.latents + self.features, 'prior', scale=0.0)(h)
    p, more = _deviations(said[..., : 2 * self.latents]), said[..., 2 * self.latents :]
    q = None
    if features is not None:
      q = _deviations(block(2 * self.latents, 'posterior')(jnp.concatenate([h, repeat(features, rows)], -1)))
    z = sample(q or p, noise) if z is None else z
    project = nn.Conv(self.features, (1, 1), kernel_init=_scaled(scale), dtype=self.dtype, name='latents')
    h = block(self.features, 'block', residual=True, scale=scale)(h + more + project(z.astype(self.dtype)))
    return h, Rung(z, q or p, p)


def _deviations(params: Array) -> Normal:
  """Splits features into mean and log-variance, of which they have half: the logarithm of the deviation."""
  mean, log_std = normal(params)
  return mean, 2 * log_std


class DeepDecoder(nn.Module):
  """The levels from the top down, and the likelihood's parameters."""

  up: str
  outputs: int
  parts: int
  latents: int = 16
  features: int = 384
  middle: int = 96
  dtype: jnp.dtype | str = 'float32'

  def setup(self):
    levels, widths = parse_up(self.up), (self.latents, self.features, self.middle)
    self.rungs = [
      DeepRung(side, i == 0 or bool(mixed), *widths, len(levels), self.dtype) for i, (side, mixed) in enumerate(levels)
    ]
    self.gain = self.param('gain', nn.initializers.ones, (self.features,))
    self.shift = self.param('shift', nn.initializers.zeros, (self.features,))
    self.output = nn.Conv(self.outputs, (1, 1), kernel_init=uniform, dtype=self.dtype)

  def __call__(self, features, noise, top=()):
    """Infers the levels by the features of the encoder or, without features, samples them; see `Tower`."""
    h, levels = descend(self.rungs, None, features, noise, top)
    wide = lambda values: values.reshape(1, 1, 1, -1).astype(h.dtype)
    return levels, pixel_params(self.output(h * wide(self.gain) + wide(self.shift)), self.parts)

  def top_prior(self) -> Normal:
    """Returns mean and log-variance of the top level's prior, [1, H, W, C] each."""
    side, _ = parse_up(self.up)[0]
    _, top = self.rungs[0](None, None, jnp.zeros((1, side, side, self.latents)), None)
    return top.p
