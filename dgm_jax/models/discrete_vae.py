"""Networks of the discrete variational autoencoder: groups of smoothed bits, continuous layers below, and pixels.

The log-odds of a group of bits are a function of the image and of the smoothed bits of the groups before. The
continuous layers are normals, each given the smoothed bits and all layers before, in the posterior the image, too.

Axes: B batch, M = B k rows, k samples of an example side by side, N bits, Z latents of a layer, D pixels.

Reference: Rolfe 2017, arXiv:1609.02200, sections 3 and 4.
"""

from collections.abc import Sequence
from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from dgm_jax.distributions import smoothing as smoothings
from dgm_jax.models.ladder import Normal, Rung, repeat, sample
from dgm_jax.nn.blocks import ACTIVATIONS, MLP, NormalHead, glorot, side_by_side
from dgm_jax.nn.norm import BatchNorm

__all__ = ['DiscreteVAE', 'Layers', 'Noise', 'Rows', 'group_sizes']


class Noise(NamedTuple):
  """What the rows are sampled with."""

  rho: Array  # [M, N] uniform, of the smoothed bits
  bits: Array  # [M, N] uniform, of the bits given the smoothed ones
  layers: Sequence[Array]  # [M, Z] of each continuous layer, standard normal


class Rows(NamedTuple):
  """Samples of the posterior: the bits with their log-odds, and the continuous layers from the bits down."""

  logits: Array  # [M, N]
  bits: smoothings.Sample  # [M, N]
  rungs: list[Rung]  # [M, Z]


def group_sizes(bits: int, groups: int) -> list[int]:
  """Returns the numbers of bits of each group; the first ones have one more if the groups cannot be equal."""
  return [bits // groups + (group < bits % groups) for group in range(groups)]


class Layers(nn.Module):
  """Networks of several layers of normal latents, one each, or one whose kernels and head all layers share.

  Each layer normalises the batch by itself, shared or not: their inputs have other statistics.
  """

  count: int
  latents: int
  hidden: Sequence[int]
  shared: bool = True
  activation: str = 'relu'
  norm: bool = True
  dtype: jnp.dtype | str = 'float32'

  def setup(self):
    own = 1 if self.shared else self.count
    dense = lambda size: nn.Dense(size, use_bias=not self.norm, kernel_init=glorot, dtype=self.dtype)
    self.dense = [[dense(size) for size in self.hidden] for _ in range(own)]
    self.heads = [NormalHead(self.latents, self.dtype, 'softplus') for _ in range(own)]
    self.norms = [[BatchNorm(dtype=self.dtype) for _ in self.hidden] for _ in range(self.count * self.norm)]

  def __call__(self, h: Float[Array, 'M F'], layer: int) -> Normal:
    """Computes mean and log-variance [M, Z] of a layer."""
    own = 0 if self.shared else layer
    for i, dense in enumerate(self.dense[own]):
      h = dense(h)
      h = ACTIVATIONS[self.activation](self.norms[layer][i](h) if self.norm else h)
    return self.heads[own](h)


class Encoder(nn.Module):
  """The posterior's networks."""

  sizes: Sequence[int]  # bits of each group
  hidden: Sequence[int]  # of each network
  layers: int
  latents: int
  settings: dict  # of all networks

  def setup(self):
    own = {name: self.settings[name] for name in ('activation', 'norm', 'dtype')}
    self.bodies = [MLP(self.hidden, **own) for _ in self.sizes]
    self.heads = [nn.Dense(size, kernel_init=glorot, dtype=own['dtype']) for size in self.sizes]
    self.continuous = Layers(self.layers, self.latents, self.hidden, **self.settings) if self.layers else None

  def group(self, inputs: Float[Array, 'M F'], group: int) -> Array:
    """Computes the log-odds of a group's bits, float32."""
    return self.heads[group](self.bodies[group](inputs)).astype(jnp.float32)

  def layer(self, inputs: Float[Array, 'M F'], layer: int) -> Normal:
    """Computes mean and log-variance of a continuous layer."""
    assert self.continuous is not None
    return self.continuous(inputs, layer)


class Decoder(nn.Module):
  """The networks of the continuous layers' priors and of the pixels."""

  shape: tuple[int, int, int]
  num_parameters: int  # of the likelihood of a pixel
  hidden: Sequence[int]  # of the pixels
  prior_hidden: Sequence[int]  # of a continuous layer
  layers: int
  latents: int
  settings: dict

  def setup(self):
    own = {name: self.settings[name] for name in ('activation', 'norm', 'dtype')}
    height, width, channels = self.shape
    self.body = MLP(self.hidden, **own)
    init, outputs = side_by_side(self.num_parameters), height * width * channels * self.num_parameters
    self.output = nn.Dense(outputs, kernel_init=init, dtype=own['dtype'])
    self.continuous = Layers(self.layers, self.latents, self.prior_hidden, **self.settings) if self.layers else None

  def layer(self, inputs: Float[Array, 'M F'], layer: int) -> Normal:
    """Computes mean and log-variance of a continuous layer."""
    assert self.continuous is not None
    return self.continuous(inputs, layer)

  def pixels(self, inputs: Float[Array, 'M F']) -> tuple[Float[Array, 'M D'], ...]:
    """Computes the likelihood's parameters, float32."""
    out = self.output(self.body(inputs)).astype(jnp.float32)
    return tuple(jnp.split(out, self.num_parameters, -1))


class DiscreteVAE(nn.Module):
  """The networks 'encoder' and 'decoder' of the discrete variational autoencoder."""

  shape: tuple[int, int, int]
  num_parameters: int  # of the likelihood of a pixel
  bits: int
  groups: int
  smoothing: smoothings.Smoothing
  hidden: Sequence[int]  # of the posterior's networks
  pixel_hidden: Sequence[int] = ()
  prior_hidden: Sequence[int] = ()
  layers: int = 0  # continuous ones
  latents: int = 1  # of a layer
  shared: bool = True  # whether continuous layers share their kernels
  activation: str = 'relu'
  norm: bool = True
  dtype: jnp.dtype | str = 'float32'

  def setup(self):
    settings = {'shared': self.shared, 'activation': self.activation, 'norm': self.norm, 'dtype': self.dtype}
    sizes = group_sizes(self.bits, self.groups)
    self.encoder = Encoder(sizes, self.hidden, self.layers, self.latents, settings)
    self.decoder = Decoder(
      self.shape, self.num_parameters, self.pixel_hidden, self.prior_hidden, self.layers, self.latents, settings
    )

  def __call__(
    self, x: Float[Array, 'B H W C'], noise: Noise, means: bool = False
  ) -> tuple[Rows, tuple[Float[Array, 'M D'], ...]]:
    """Samples the posterior.

    Args:
      x: images.
      noise: of the samples.
      means: whether the smoothed bits are their means in place of samples.

    Returns:
      the samples, and the likelihood's parameters.
    """
    rows, h, logits, samples = noise.rho.shape[0], x.reshape(x.shape[0], -1), [], []
    wide, at = repeat(h, rows), 0
    for group, size in enumerate(group_sizes(self.bits, self.groups)):
      # The first group is the same for all samples of an image.
      inputs = jnp.concatenate([wide, *(own.zeta for own in samples)], -1) if group else h
      logits.append(repeat(self.encoder.group(inputs, group), rows))
      samples.append(self._sample(logits[-1], noise, at, size, means))
      at += size
    bits = smoothings.Sample(*(jnp.concatenate(parts, -1) for parts in zip(*samples, strict=True)))
    rungs, below = [], []
    for layer in range(self.layers):
      inputs = self._inputs(bits.zeta, below)
      q = self.encoder.layer(jnp.concatenate([wide, inputs], -1), layer)
      rungs.append(Rung(sample(q, noise.layers[layer]), q, self.decoder.layer(inputs, layer)))
      below.append(rungs[-1].z)
    return Rows(jnp.concatenate(logits, -1), bits, rungs), self.decoder.pixels(self._inputs(bits.zeta, below))

  def generate(
    self, zeta: Float[Array, 'M N'], noise: Sequence[Float[Array, 'M Z']]
  ) -> tuple[Float[Array, 'M D'], ...]:
    """Computes the likelihood's parameters for smoothed bits, and the priors of the continuous layers.

    Args:
      zeta: smoothed bits.
      noise: of each continuous layer; zeros are for the prior's means.
    """
    below = []
    for layer in range(self.layers):
      below.append(sample(self.decoder.layer(self._inputs(zeta, below), layer), noise[layer]))
    return self.decoder.pixels(self._inputs(zeta, below))

  def _sample(self, logits: Array, noise: Noise, at: int, size: int, means: bool) -> smoothings.Sample:
    """Samples the bits of a group, whose noise begins at a column."""
    if means:
      q = nn.sigmoid(logits)
      return smoothings.Sample(self.smoothing.mean(q), q, q)
    rho, other = (part[:, at : at + size] for part in (noise.rho, noise.bits))
    return smoothings.draw(self.smoothing, rho, other, logits)

  def _inputs(self, zeta: Array, below: Sequence[Array]) -> Array:
    """Concatenates the smoothed bits and all continuous layers, zeros in place of those to come."""
    missing = [jnp.zeros((zeta.shape[0], self.latents))] * (self.layers - len(below))
    return jnp.concatenate([zeta, *below, *missing], -1)
