"""Networks that paint an image in steps, each of which adds to one canvas what a latent of its own says.

A painter repeats a cell, a linen module with the attribute `size` (Z) and these methods:

* `start(n)` returns the memory before the first step: a NamedTuple with a `canvas` [n, H, W, C], all float32.
* `infer(memory, x, noise, kept)` makes a step for images x [n, H, W, C] with the noise [n, Z] of its latent. It returns
  the memory and a `Step`. If `kept` [] is False, the latent is that of the prior, for the same noise.
* `generate(memory, noise)` makes a step with the latent of the prior. It returns the memory and a `Step`.

Axes: T steps, n images, Z latents of a step, H height, W width, C channels, D = H W C.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

__all__ = ['Painter', 'Step', 'choose_sample', 'sample_of_noise']


class Step(NamedTuple):
  """A step of a painter, or all of them with a leading axis T."""

  z: jax.Array  # [n, Z]
  posterior: Any  # mean and log-variance [n, Z], or None
  prior: tuple[jax.Array, jax.Array]  # mean and log-variance [n, Z]
  canvas: jax.Array | None = None  # [n, H, W, C], after the step
  read: jax.Array | None = None  # [n, 5], see `nn.filterbank.box`; None: the whole image is read
  write: jax.Array | None = None  # likewise


def sample_of_noise(params: tuple[Array, Array], noise: Array) -> Array:
  """Computes the sample of a normal with this mean and log-variance that has this noise, [..., Z] each."""
  mean, logvar = params
  return mean + jnp.exp(0.5 * logvar) * noise


def choose_sample(posterior: tuple[Array, Array], prior: tuple[Array, Array], noise: Array, kept: Array) -> Array:
  """Computes the sample of the posterior if `kept` [], else that of the prior, both with the same noise."""
  return jnp.where(kept, sample_of_noise(posterior, noise), sample_of_noise(prior, noise))


class Painter(nn.Module):
  """Steps of one cell on one canvas, from which the parameters of a likelihood of pixels are read.

  The first parameter of a pixel is the canvas; each further one is a number that is learned for each channel.
  """

  cell: Any  # a linen module with the methods above
  steps: int
  shape: tuple[int, int, int]
  num_parameters: int = 1  # of the likelihood of a pixel
  unroll: bool = False  # write the steps out, instead of a loop
  remat: bool = False  # keep the memory of each step alone for the gradient, and compute the rest again

  def setup(self):
    more = self.num_parameters - 1
    self.spread = self.param('spread', nn.initializers.zeros, (more, self.shape[-1])) if more else None

  def __call__(
    self, x: Float[Array, 'n H W C'], noise: Float[Array, 'T n Z'], kept: Bool[Array, 'T'], trace: bool = False
  ) -> tuple[Float[Array, 'n H W C'], Step]:
    """Paints images: returns the last canvas and all steps.

    Args:
      x: the images.
      noise: standard normal, of each step's latent.
      kept: of which steps the latent is the posterior's; of the others it is the prior's.
      trace: whether the steps have their canvas and windows.
    """

    def step(cell, memory, inputs):
      noise, kept = inputs
      return cell.infer(memory, x, noise, kept)

    return self._repeat(step, x.shape[0], (noise, kept), trace)

  def generate(self, noise: Float[Array, 'T n Z'], trace: bool = False) -> tuple[Float[Array, 'n H W C'], Step]:
    """Paints images of the prior's latents: returns the last canvas and all steps."""

    def step(cell, memory, noise):
      return cell.generate(memory, noise)

    return self._repeat(step, noise.shape[1], noise, trace)

  def pixels(self, canvas: Float[Array, 'n H W C']) -> tuple[Float[Array, 'n D'], ...]:
    """Returns the likelihood's parameters of every pixel, flattened, float32."""
    more = () if self.spread is None else (jnp.broadcast_to(own[None, None, None], canvas.shape) for own in self.spread)
    return tuple(part.reshape(part.shape[0], -1) for part in (canvas, *more))

  def _repeat(self, step: Callable, n: int, inputs: Any, trace: bool) -> tuple[Array, Step]:
    def once(cell, memory, inputs):
      memory, single = step(cell, memory, inputs)
      return memory, single._replace(canvas=memory.canvas) if trace else single._replace(read=None, write=None)

    # A loop keeps the compiler from merging both computations; with steps that are written out, a barrier must.
    body = nn.remat(once, prevent_cse=self.unroll) if self.remat else once
    unroll = self.steps if self.unroll else 1
    scan = nn.scan(body, variable_broadcast='params', split_rngs={'params': False}, length=self.steps, unroll=unroll)
    memory, steps = scan(self.cell, self.cell.start(n), inputs)
    return memory.canvas, steps
