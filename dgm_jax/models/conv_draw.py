"""The cell of Convolutional DRAW: two convolutional LSTMs at half the resolution of the image.

Axes: n images, H height, W width, C channels, h = H / 2, w = W / 2, z maps of latents, Z = h w z, F maps of an LSTM.

Reference: Gregor et al. 2016, arXiv:1604.08772.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from dgm_jax.models.painter import Step, choose_sample, sample_of_noise
from dgm_jax.nn.blocks import TransposedConv, glorot, side_by_side
from dgm_jax.nn.recurrent import ConvLSTM

__all__ = ['STRIDE', 'ConvDrawCell', 'Memory']

STRIDE = 2  # from the image to the LSTMs
SMALL = nn.initializers.variance_scaling(0.01, 'fan_in', 'truncated_normal')  # of heads: priors begin near posteriors


class Memory(NamedTuple):
  """What a step of Convolutional DRAW takes over from the step before it."""

  canvas: jax.Array  # [n, H, W, C]
  encoder: tuple[jax.Array, jax.Array]  # output and cell [n, h, w, F]
  decoder: tuple[jax.Array, jax.Array]


class ConvDrawCell(nn.Module):
  """A step of Convolutional DRAW, as `dgm_jax.models.painter` needs it.

  The prior of the latents is a normal that the decoder's LSTM of the step before computes. The canvas and the LSTMs
  start from learned numbers.

  Reference: Gregor et al. 2016, arXiv:1604.08772, section 2.
  """

  shape: tuple[int, int, int]
  features: int  # F
  kernel: int  # pixels a side, of all convolutions
  maps: int  # z
  mean: Callable  # canvas -> the image that it shows
  dtype: jnp.dtype | str = 'float32'

  @property
  def size(self) -> int:
    """The number of latents."""
    return self.shape[0] // STRIDE * (self.shape[1] // STRIDE) * self.maps

  def setup(self):
    side = (self.kernel, self.kernel)
    strided = {'strides': (STRIDE, STRIDE), 'use_bias': False, 'dtype': self.dtype}
    head = {'kernel_init': side_by_side(2, SMALL), 'dtype': self.dtype}
    self.canvas = self.param('canvas', nn.initializers.zeros, self.shape)
    self.at_first = self.param('start', nn.initializers.zeros, (4, self.features))
    self.from_image = nn.Conv(4 * self.features, side, **strided)
    self.from_canvas = nn.Conv(4 * self.features, side, **strided)
    self.encoder = ConvLSTM(self.features, self.kernel, self.dtype)
    self.decoder = ConvLSTM(self.features, self.kernel, self.dtype)
    self.posterior = nn.Conv(2 * self.maps, side, **head)
    self.prior = nn.Conv(2 * self.maps, side, **head)
    self.output = TransposedConv(self.shape[-1], self.kernel, kernel_init=glorot, dtype=self.dtype)

  def start(self, n: int) -> Memory:
    """Returns the memory before the first step."""
    height, width, _ = self.shape
    rows = (4, n, height // STRIDE, width // STRIDE, self.features)
    outputs = jnp.broadcast_to(self.at_first[:, None, None, None], rows)
    canvas = jnp.broadcast_to(self.canvas[None], (n, *self.shape))
    return Memory(canvas, (outputs[0], outputs[1]), (outputs[2], outputs[3]))

  def infer(
    self, memory: Memory, x: Float[Array, 'n H W C'], noise: Float[Array, 'n Z'], kept: Bool[Array, '']
  ) -> tuple[Memory, Step]:
    """Makes a step with the latent of the posterior if `kept`, else of the prior."""
    above = memory.decoder[0]
    pair = jnp.concatenate([x, x - self.mean(memory.canvas)], -1)
    encoder = self.encoder(above, memory.encoder, self.from_image(pair))
    posterior, prior = _normal(self.posterior(encoder[0])), _normal(self.prior(above))
    z = choose_sample(posterior, prior, noise, kept)
    return self._write(memory._replace(encoder=encoder), z), Step(z, posterior, prior)

  def generate(self, memory: Memory, noise: Float[Array, 'n Z']) -> tuple[Memory, Step]:
    """Makes a step with the latent of the prior."""
    prior = _normal(self.prior(memory.decoder[0]))
    z = sample_of_noise(prior, noise)
    return self._write(memory, z), Step(z, None, prior)

  def _write(self, memory: Memory, z: Array) -> Memory:
    """Adds to the canvas what the decoder makes of the latents [n, Z]."""
    latents = z.reshape(*memory.decoder[0].shape[:-1], self.maps)
    decoder = self.decoder(latents, memory.decoder, self.from_canvas(memory.canvas))
    canvas = memory.canvas + self.output(decoder[0]).astype(jnp.float32)
    return memory._replace(canvas=canvas, decoder=decoder)


def _normal(both: Any) -> tuple[Array, Array]:
  """Returns mean and log-variance, [n, Z] each, float32."""
  mean, log_std = (part.reshape(part.shape[0], -1) for part in jnp.split(both.astype(jnp.float32), 2, -1))
  return mean, 2 * log_std
