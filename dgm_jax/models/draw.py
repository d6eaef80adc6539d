"""The cell of DRAW: two LSTMs, one that reads the image and one that writes on the canvas, with or without attention.

Axes: n images, Z latents, F units of an LSTM, H height, W width, C channels, D = H W C.

Reference: Gregor et al. 2015, arXiv:1502.04623.
"""

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from dgm_jax.models.painter import Step, choose_sample
from dgm_jax.nn import filterbank
from dgm_jax.nn.blocks import NormalHead, glorot
from dgm_jax.nn.recurrent import lstm

__all__ = ['DrawCell', 'Memory']


class Memory(NamedTuple):
  """What a step of DRAW takes over from the step before it."""

  canvas: jax.Array  # [n, H, W, C]
  encoder: tuple[jax.Array, jax.Array]  # output and cell [n, F]
  decoder: tuple[jax.Array, jax.Array]


class DrawCell(nn.Module):
  """A step of DRAW, as `dgm_jax.models.painter` needs it; the canvas and the LSTMs start from learned numbers.

  Reference: Gregor et al. 2015, arXiv:1502.04623, equations 3 to 8.
  """

  shape: tuple[int, int, int]
  hidden: int  # units of each LSTM
  size: int  # Z
  read: int  # rows and columns of the window that is read; 0: the whole image
  write: int  # likewise
  mean: Callable  # canvas -> the image that it shows
  dtype: jnp.dtype | str = 'float32'

  def setup(self):
    channels = self.shape[-1]
    self.canvas = self.param('canvas', nn.initializers.zeros, self.shape)
    self.at_first = self.param('start', nn.initializers.zeros, (4, self.hidden))
    self.encoder = nn.Dense(4 * self.hidden, kernel_init=glorot, dtype=self.dtype)
    self.decoder = nn.Dense(4 * self.hidden, kernel_init=glorot, dtype=self.dtype)
    self.posterior = NormalHead(self.size, self.dtype)
    self.read_window = nn.Dense(5, kernel_init=glorot, dtype=self.dtype) if self.read else None
    self.write_window = nn.Dense(5, kernel_init=glorot, dtype=self.dtype) if self.write else None
    numbers = (self.write**2 or self.shape[0] * self.shape[1]) * channels
    self.output = nn.Dense(numbers, kernel_init=glorot, dtype=self.dtype)

  def start(self, n: int) -> Memory:
    """Returns the memory before the first step."""
    canvas = jnp.broadcast_to(self.canvas[None], (n, *self.shape))
    outputs = jnp.broadcast_to(self.at_first[:, None], (4, n, self.hidden))
    return Memory(canvas, (outputs[0], outputs[1]), (outputs[2], outputs[3]))

  def infer(
    self, memory: Memory, x: Float[Array, 'n H W C'], noise: Float[Array, 'n Z'], kept: Bool[Array, '']
  ) -> tuple[Memory, Step]:
    """Makes a step with the latent of the posterior if `kept`, else of the prior."""
    (h, cell), above = memory.encoder, memory.decoder[0]
    inputs, box = self._read(x, memory.canvas, above)
    encoder = self._lstm(self.encoder, (inputs, above, h), cell)
    posterior, prior = self.posterior(encoder[0]), _standard(noise)
    memory, step = self._write(memory._replace(encoder=encoder), choose_sample(posterior, prior, noise, kept))
    return memory, step._replace(posterior=posterior, prior=prior, read=box)

  def generate(self, memory: Memory, noise: Float[Array, 'n Z']) -> tuple[Memory, Step]:
    """Makes a step with the latent of the prior N(0, I)."""
    return self._write(memory, noise)

  def _read(self, x: Array, canvas: Array, above: Array) -> tuple[Array, Array | None]:
    """Returns what is read of the image and of its difference from the canvas, [n, ...], and the window's box."""
    flat = lambda *parts: jnp.concatenate([part.reshape(part.shape[0], -1) for part in parts], -1)
    if not self.read_window:
      return flat(x, x - self.mean(canvas)), None

    def cut(x, canvas, numbers):
      window = filterbank.window(numbers, self.read, self.shape[:2])
      both = filterbank.read(jnp.concatenate([x, x - self.mean(canvas)], -1), window, self.read)
      return flat(both), filterbank.box(window, self.read)

    return _recomputed(cut)(x, canvas, self.read_window(above))

  def _write(self, memory: Memory, z: Array) -> tuple[Memory, Step]:
    """Adds to the canvas what the decoder makes of the latent."""
    h, cell = memory.decoder
    decoder = self._lstm(self.decoder, (z, h), cell)
    patch, box = self.output(decoder[0]).astype(jnp.float32), None

    def paste(patch, numbers):
      window = filterbank.window(numbers, self.write, self.shape[:2])
      patch = patch.reshape(-1, self.write, self.write, self.shape[-1])
      return filterbank.write(patch, window, self.shape[:2]), filterbank.box(window, self.write)

    if self.write_window:
      patch, box = _recomputed(paste)(patch, self.write_window(decoder[0]))
    canvas = memory.canvas + patch.reshape(memory.canvas.shape)
    step = Step(z, None, _standard(z), write=box)
    return memory._replace(canvas=canvas, decoder=decoder), step

  def _lstm(self, gates: Callable, parts: tuple[Array, ...], cell: Array) -> tuple[Array, Array]:
    """Returns output and cell; the cell is float32, whatever its network's type."""
    update = _recomputed(lambda gates, cell: lstm(gates, cell, (self.hidden,)))
    return update(gates(jnp.concatenate(parts, -1)).astype(jnp.float32), cell)


def _recomputed(function: Callable) -> Callable:
  """Returns the function, of which a gradient keeps the arguments and the products alone.

  All else that it computes on the way is cheap, and would be written and read once for each step.
  """
  return jax.checkpoint(function, prevent_cse=False, policy=jax.checkpoint_policies.dots_saveable)


def _standard(like: Array) -> tuple[Array, Array]:
  """Returns mean and log-variance of N(0, I)."""
  return jnp.zeros_like(like), jnp.zeros_like(like)
