"""Encoders and decoders of variational autoencoders with one or more stochastic layers.

Axes: B batch, k samples, D pixels (H W C), Z_l latents of layer l; layer 0 is next to the data.

Sizes are those of Burda et al. 2016, appendix C, if `hidden=((200, 200),), latents=(50,)` or `hidden=((200, 200), (100,
100)), latents=(100, 50)`.
"""

from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from dgm_jax.nn.blocks import MLP, Downsample, NormalHead, Upsample, glorot, side_by_side

__all__ = ['ContextEncoder', 'Decoder', 'Encoder']


class Encoder(nn.Module):
  """The posteriors q(z_0|x), q(z_1|z_0), ...: diagonal normals whose parameters a network computes."""

  hidden: Sequence[Sequence[int]]
  latents: Sequence[int]
  channels: Sequence[int] = ()  # of strided convolutions before the first layer; (): the pixels are flattened
  activation: str = 'tanh'
  dtype: jnp.dtype | str = 'float32'
  norm: bool = False  # whether hidden layers normalise the batch
  variance: str = 'exp'  # of a `NormalHead`

  def setup(self):
    self.images = Downsample(self.channels, dtype=self.dtype) if self.channels else None
    self.bodies = [MLP(sizes, self.activation, self.dtype, self.norm) for sizes in self.hidden]
    self.heads = [NormalHead(size, self.dtype, self.variance) for size in self.latents]

  def __call__(self, x: Float[Array, 'B H W C']) -> list[tuple[Array, Array]]:
    """Computes mean and log-variance of every layer from the means of the layer below; for initialisation."""
    layers = [self.first(x)]
    for level in range(1, len(self.latents)):
      layers.append(self.above(layers[-1][0], level))
    return layers

  def first(self, x: Float[Array, 'B H W C']) -> tuple[Float[Array, 'B Z'], Float[Array, 'B Z']]:
    """Computes mean and log-variance of q(z_0|x)."""
    return self.heads[0](self.bodies[0](self._flat(x)))

  def whole(self, x: Float[Array, 'B H W C']) -> list[tuple[Float[Array, 'B Z'], Float[Array, 'B Z']]]:
    """Computes mean and log-variance of each level from the hidden layers of the level below, not from its latents."""
    h, levels = self._flat(x), []
    for body, head in zip(self.bodies, self.heads, strict=True):
      h = body(h)
      levels.append(head(h))
    return levels

  def _flat(self, x):
    h = self.images(x) if self.images else x
    return h.reshape(h.shape[0], -1)

  def above(self, z: Float[Array, '*B Y'], level: int) -> tuple[Float[Array, '*B Z'], Float[Array, '*B Z']]:
    """Computes mean and log-variance of q(z_level|z_(level-1)), level >= 1."""
    return self.heads[level](self.bodies[level](z))


class ContextEncoder(nn.Module):
  """A diagonal normal q(z_0|x), and a context for the maps that move its samples, a linear function of the features."""

  hidden: Sequence[int]
  latents: int
  context: int
  channels: Sequence[int] = ()
  activation: str = 'tanh'
  dtype: jnp.dtype | str = 'float32'

  @nn.compact
  def __call__(
    self, x: Float[Array, 'B H W C']
  ) -> tuple[Float[Array, 'B Z'], Float[Array, 'B Z'], Float[Array, 'B F']]:
    h = Downsample(self.channels, dtype=self.dtype)(x) if self.channels else x
    h = MLP(self.hidden, self.activation, self.dtype)(h.reshape(h.shape[0], -1))
    context = nn.Dense(self.context, kernel_init=glorot, dtype=self.dtype, name='context')(h)
    return *NormalHead(self.latents, self.dtype)(h), context.astype(jnp.float32)


class Decoder(nn.Module):
  """The likelihood p(x|z_0) and the priors p(z_0|z_1), ...; that of the top layer is standard normal."""

  hidden: Sequence[Sequence[int]]
  latents: Sequence[int]
  shape: tuple[int, int, int]
  num_parameters: int  # of the likelihood of a pixel
  channels: Sequence[int] = ()
  activation: str = 'tanh'
  dtype: jnp.dtype | str = 'float32'
  norm: bool = False
  variance: str = 'exp'

  def setup(self):
    height, width, depth = self.shape
    self.bodies = [MLP(sizes, self.activation, self.dtype, self.norm) for sizes in self.hidden]
    self.heads = [NormalHead(size, self.dtype, self.variance) for size in self.latents[:-1]]
    if self.channels:
      self.output = Upsample(self.channels, depth * self.num_parameters, (height, width), dtype=self.dtype)
    else:
      init = side_by_side(self.num_parameters)
      self.output = nn.Dense(height * width * depth * self.num_parameters, kernel_init=init, dtype=self.dtype)

  def __call__(self, z: Float[Array, '*B Z']) -> tuple[Float[Array, '*B D'], ...]:
    """Computes the pixels from the top latents, by the means of the layers below; for initialisation and pictures."""
    for level in range(len(self.latents) - 1, 0, -1):
      z = self.below(z, level)[0]
    return self.pixels(z)

  def below(self, z: Float[Array, '*B Z'], level: int) -> tuple[Float[Array, '*B Y'], Float[Array, '*B Y']]:
    """Computes mean and log-variance of p(z_(level-1)|z_level), level >= 1."""
    return self.heads[level - 1](self.bodies[level](z))

  def pixels(self, z: Float[Array, '*B Z']) -> tuple[Float[Array, '*B D'], ...]:
    """Computes the likelihood's parameters for every pixel, flattened, float32."""
    # Two axes only: the gradient of a product over [B, k, Z] needs a transposed copy.
    out = self.output(self.bodies[0](z.reshape(-1, z.shape[-1]))).astype(jnp.float32)
    parts = jnp.split(out, self.num_parameters, -1)
    return tuple(part.reshape(*z.shape[:-1], -1) for part in parts)
